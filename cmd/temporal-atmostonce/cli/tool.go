package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

// decideTime bounds a decision, which is tried again while the store cannot be reached.
const decideTime = 15 * time.Second

// leastDelay is the shortest SettleDelay that the shortest lease of a guard allows.
const leastDelay = 11 * time.Millisecond

// tool is one run of the command line.
type tool struct {
	surroundings
	options Options
	host    hostFlags
	own     own
	profile profile
	delay   time.Duration // the guards' SettleDelay
	begun   bool          // the command line is right

	store     store.Store // once it is open
	temporals *temporals  // once it was asked for
	closers   []io.Closer
}

// begin checks the flags that all commands have, and reads the configuration.
func (t *tool) begin(cmd *cobra.Command) error {
	if err := errors.Join(
		oneOf("output", t.host.output, "text", "json", "jsonl", "none"),
		oneOf("color", t.host.color, "auto", "always", "never"),
		oneOf("time-format", t.host.timeFormat, "relative", "iso", "raw"),
	); err != nil {
		return err
	}
	t.begun = true
	var err error
	if t.profile, err = loadProfile(t.host, t.env); err != nil {
		return err
	}
	delay := t.own.settleDelay
	if delay == "" {
		delay = t.profile.SettleDelay
	}
	if delay != "" {
		if t.delay, err = time.ParseDuration(delay); err != nil || t.delay < leastDelay {
			return usage(fmt.Errorf("the settle delay is %q: a duration such as 30s is meant, and at least %v", delay, leastDelay))
		}
	}
	if t.host.timeout > 0 {
		ctx, cancel := context.WithTimeout(cmd.Context(), t.host.timeout)
		t.closers = append(t.closers, closing(cancel))
		cmd.SetContext(ctx)
	}
	return nil
}

// closing is a function that ends something.
type closing func()

func (f closing) Close() error {
	f()
	return nil
}

func (t *tool) close() {
	for _, c := range t.closers {
		_ = c.Close()
	}
}

// open returns the store.
func (t *tool) open(ctx context.Context) (ops.Console, error) {
	if t.store == nil && t.options.Store != nil {
		t.store = t.options.Store
	}
	if t.store == nil {
		s, closer, err := openStore(ctx, t.own.store, t.profile)
		if err != nil {
			return ops.Console{}, err
		}
		t.store, t.closers = s, append(t.closers, closer)
	}
	return ops.Console{Store: t.store}, nil
}

// guard returns what decides.
func (t *tool) guard() (Guard, error) {
	switch {
	case t.options.Guard != nil && t.options.Store == nil:
		return nil, errors.New("cli.Options has a Guard, and not its Store")
	case t.options.Guard != nil:
		return t.options.Guard, nil
	}
	return plain{store: t.store, delay: t.delay, data: t.converter}, nil
}

// view returns r as it is shown.
func (t *tool) view(r store.Record) ops.View {
	return ops.NewView(r, t.delay, ops.PolicyOf(t.options.Guard, r))
}
