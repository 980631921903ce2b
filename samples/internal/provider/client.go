package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// Client calls a provider.
type Client struct {
	URL string // such as http://127.0.0.1:8080
}

// StatusError is an answer other than 200: the provider has done nothing.
type StatusError struct {
	Code    int
	Message string
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("payment provider: %s (status %d)", e.Message, e.Code)
}

// Charge charges the order's card. Like many a payment API's client, it does not
// give up when its caller does: ctx carries values only.
func (c Client) Charge(ctx context.Context, order string, cents int64) (charge Charge, err error) {
	err = c.post(context.WithoutCancel(ctx), "/charge", Charge{Order: order, Cents: cents, Caller: os.Getpid()}, &charge)
	return charge, err
}

// Refund pays back every charge of the order that is not paid back yet. It may
// be repeated.
func (c Client) Refund(ctx context.Context, order string) (refunds []Charge, err error) {
	err = c.post(ctx, "/refund", Charge{Order: order, Caller: os.Getpid()}, &refunds)
	return refunds, err
}

// Charges returns what the ledger says about an order, refunds included; about
// all of them if order is empty.
func (c Client) Charges(ctx context.Context, order string) (charges []Charge, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+"/charges?order="+url.QueryEscape(order), nil)
	if err != nil {
		return nil, err
	}
	return charges, do(req, &charges)
}

// Arm spoils the next answers for f.Order.
func (c Client) Arm(ctx context.Context, f Fault) error {
	return c.post(ctx, "/fault", f, &f)
}

// LetGo ends what Hold holds for an order.
func (c Client) LetGo(ctx context.Context, order string) error {
	f := Fault{Order: order}
	return c.post(ctx, "/let-go", f, &f)
}

func (c Client) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	return do(req, out)
}

func do(req *http.Request, out any) error {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		message, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
		if err != nil {
			return err
		}
		return &StatusError{resp.StatusCode, strings.TrimSpace(string(message))}
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
