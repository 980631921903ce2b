// Command nightly mails a report once for a date, however often it is started: by
// several timers, by an operator, and again after a crash. It needs no Temporal.
//
//	go run ./plain/nightly 2026-01-31
//	go run ./plain/nightly 2026-01-31
//
// If it crashed in the middle, it says so, with a key, and mails nothing. Then a person
// looks at the outbox, and says what is there:
//
//	go run ./plain/nightly -key 0123456789abcdef -found mail-1 2026-01-31  # it was mailed
//	go run ./plain/nightly -key 0123456789abcdef                           # it was not; the next run mails it
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/atmostonce/atmostonce"
	"github.com/atmostonce/atmostonce/once"
	"github.com/atmostonce/atmostonce/resolve"
	"github.com/atmostonce/atmostonce/store"
)

// Report is what was mailed.
type Report struct {
	Date, Mail string
}

func main() {
	key := flag.String("key", "", "the `key` in doubt, as the error shows it")
	found := flag.String("found", "", "the `mail` that was found for that key")
	flag.Parse()
	ctx, date := context.Background(), cmp.Or(flag.Arg(0), time.Now().Format(time.DateOnly))
	records, err := store.NewFile("nightly-data", store.FileOptions{})
	if err != nil {
		log.Fatalln("nightly:", err)
	}
	if *key != "" {
		err = decide(ctx, records, *key, Report{Date: date, Mail: *found})
	} else {
		err = run(ctx, records, date, mail)
	}
	_ = records.Close()
	if err != nil {
		log.Fatalln("nightly:", err)
	}
}

func newGuard(records store.Store) (*atmostonce.Guard, error) {
	return atmostonce.New(records, atmostonce.Options{Defaults: once.Policy{
		TTL:     400 * 24 * time.Hour,
		InDoubt: once.Fail, // it crashed in the middle: a person looks at the outbox
	}})
}

func run(ctx context.Context, records store.Store, date string, mail func(context.Context, string) (Report, error)) error {
	guard, err := newGuard(records)
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

// decide writes down what a person has found; without a mail, that there is none.
func decide(ctx context.Context, records store.Store, key string, found Report) error {
	guard, err := newGuard(records)
	if err != nil {
		return err
	}
	record, err := guard.Find(ctx, key)
	if err != nil {
		return err
	}
	finding := resolve.AsNotDone()
	if found.Mail != "" {
		finding = resolve.AsDone(found)
	}
	_, err = guard.Resolve(ctx, record, finding, resolve.Decision{By: "operator", Why: "looked at the outbox"})
	return err
}

// mail mails each time it runs.
func mail(_ context.Context, date string) (Report, error) {
	fmt.Println("mailing the report of", date)
	return Report{Date: date, Mail: fmt.Sprintf("mail-%d", time.Now().UnixNano())}, nil
}
