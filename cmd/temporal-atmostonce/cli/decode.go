package cli

import (
	"encoding/json"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
)

// result is what was recorded of an effect, decoded.
type result struct {
	Text  string `json:"text,omitempty"` // the result as JSON, or the failure
	Error string `json:"error,omitempty"`
}

// decode decodes a record's outcome.
func (t *tool) decode(r store.Record) *result {
	text, err := t.decoded(r)
	if err != nil {
		return &result{Error: err.Error()}
	}
	return &result{Text: text}
}

func (t *tool) decoded(r store.Record) (string, error) {
	o := r.Outcome
	switch {
	case o.Missing != "":
		return "", fmt.Errorf("it was not kept: %s", o.Missing)
	case len(o.Data) == 0:
		return "none", nil
	case ops.IsFunction(r):
		if !json.Valid(o.Data) {
			return "", fmt.Errorf("it is %d bytes of the guard's own Codec", len(o.Data))
		}
		return string(o.Data), nil
	}
	var where struct{ Sealed bool }
	if o.Context != "" && json.Unmarshal([]byte(o.Context), &where) != nil || where.Sealed {
		return "", fmt.Errorf("it is %d bytes, sealed by the guard's Options.DataConverter: use a program of your own, with package cli", len(o.Data))
	}
	dc, err := t.converter()
	if err != nil {
		return "", err
	}
	if r.State != store.Succeeded {
		f := &failurepb.Failure{}
		if err := proto.Unmarshal(o.Data, f); err != nil {
			return "", fmt.Errorf("it is no failure: %w", err)
		}
		fc := temporal.NewDefaultFailureConverter(temporal.DefaultFailureConverterOptions{DataConverter: dc})
		return fc.FailureToError(f).Error(), nil
	}
	p := &commonpb.Payloads{}
	if err := proto.Unmarshal(o.Data, p); err != nil {
		return "", fmt.Errorf("it is no payload: %w", err)
	}
	if len(p.GetPayloads()) == 0 {
		return "none", nil
	}
	var raw json.RawMessage
	if err := dc.FromPayload(p.GetPayloads()[0], &raw); err == nil {
		return string(raw), nil
	}
	return dc.ToString(p.GetPayloads()[0]), nil
}
