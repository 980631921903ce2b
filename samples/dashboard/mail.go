package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Receipt is a workflow that sends one e-mail.
func Receipt(ctx workflow.Context, order string) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 3 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 1},
	})
	return workflow.ExecuteActivity(ctx, "SendReceipt", order).Get(ctx, nil)
}

// Mail sends e-mails.
type Mail struct{ URL string }

type message struct {
	Order  string
	Caller int // process ID
}

// SendReceipt sends one, each time it runs.
func (m *Mail) SendReceipt(ctx context.Context, order string) error {
	text, err := json.Marshal(message{order, os.Getpid()})
	if err != nil {
		return err
	}
	// As many a mail client, it does not give up when its caller does.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, m.URL, bytes.NewReader(text))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("mail: %s", answer.Status)
	}
	return nil
}

// outbox is the mail server. It sends what it is asked to, each time, and reports
// that to the sample before it answers.
type outbox struct {
	told func(message)

	mu   sync.Mutex
	sent map[string]int // by order
}

// ServeHTTP implements http.Handler.
func (o *outbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m message
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	o.sent[m.Order]++
	o.mu.Unlock()
	o.told(m)
}

func (o *outbox) count(order string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent[order]
}
