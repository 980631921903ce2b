// Command nightly mails a report once for a date, however often it is started: by
// several timers, by an operator, and again after a crash. It needs no Temporal.
//
//	go run ./plain/nightly 2026-01-31
//	go run ./plain/nightly 2026-01-31
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/store"
)

// Report is what was mailed.
type Report struct {
	Date, Mail string
}

func main() {
	date := time.Now().Format(time.DateOnly)
	if len(os.Args) > 1 {
		date = os.Args[1]
	}
	if err := run(context.Background(), "nightly-data", date, mail); err != nil {
		log.Fatalln("nightly:", err)
	}
}

func run(ctx context.Context, dir, date string, mail func(context.Context, string) (Report, error)) error {
	records, err := store.NewFile(dir, store.FileOptions{})
	if err != nil {
		return err
	}
	defer records.Close()
	guard, err := atmostonce.New(records, atmostonce.Options{Defaults: once.Policy{
		TTL:     400 * 24 * time.Hour,
		InDoubt: once.Fail, // it crashed in the middle: a person looks at the outbox
	}})
	if err != nil {
		return err
	}
	report, err := atmostonce.Do(ctx, guard, "nightly report", date, func(ctx context.Context) (Report, error) { return mail(ctx, date) })
	if err != nil {
		return err
	}
	fmt.Printf("the report of %s was mailed as %s\n", report.Date, report.Mail)
	return guard.Close(ctx)
}

// mail mails each time it runs.
func mail(_ context.Context, date string) (Report, error) {
	fmt.Println("mailing the report of", date)
	return Report{Date: date, Mail: fmt.Sprintf("mail-%d", time.Now().UnixNano())}, nil
}
