package interceptor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/internal/engine"
)

const headerName = "atmostonce"

// callHeader names an activity call across resets of its workflow, for whoever
// knows the call's type and input. Everybody who reads the history can read it.
type callHeader struct {
	OriginalRunID string `json:"originalRunId"`
	FirstRunID    string `json:"firstRunId"`
	Occurrence    int32  `json:"occurrence"`       // of this input
	Input         int32  `json:"input"`            // which one of the activity type's inputs it is
	Digest        string `json:"digest,omitempty"` // of a local activity's input
	// Retry is what the workflow says about retries; nil if it leaves that to the
	// server. An eager activity comes without its policy.
	Retry *retryHeader `json:"retry,omitempty"`
}

// retryHeader is a retry policy, as far as it matters to the guard.
type retryHeader struct {
	MaximumAttempts        int32         `json:"maximumAttempts,omitempty"`
	MaximumInterval        time.Duration `json:"maximumInterval,omitempty"` // in ns
	NonRetryableErrorTypes []string      `json:"nonRetryableErrorTypes,omitempty"`
}

// maxListedTypes bounds what a header adds to each call in the history. A call
// with more of them is without until its second attempt, which has its policy.
const maxListedTypes = 10

func newRetryHeader(p *temporal.RetryPolicy) *retryHeader {
	if p == nil {
		return nil
	}
	h := &retryHeader{MaximumAttempts: p.MaximumAttempts, MaximumInterval: p.MaximumInterval}
	if h.MaximumInterval <= 0 { // the server's default
		h.MaximumInterval = 100 * cmp.Or(p.InitialInterval, time.Second)
	}
	if len(p.NonRetryableErrorTypes) <= maxListedTypes {
		h.NonRetryableErrorTypes = p.NonRetryableErrorTypes
	}
	return h
}

// retries returns the call's retry policy.
func (h callHeader) retries() *engine.Retries {
	if h.Retry == nil {
		return &engine.Retries{MaximumInterval: 100 * time.Second} // the server's default
	}
	return &engine.Retries{
		MaximumAttempts: h.Retry.MaximumAttempts, MaximumInterval: h.Retry.MaximumInterval,
		NonRetryable: h.Retry.NonRetryableErrorTypes,
	}
}

func (h callHeader) found() bool { return h.Occurrence > 0 }

// unseen is the header for a guard that sees the input only as the activity has
// decoded it. Inputs that differ in the workflow may look alike then, so the
// occurrence counts through them; it never equals a plain occurrence. A run has fewer
// calls than the limit: its history ends before.
func (h callHeader) unseen() callHeader {
	const limit = 1 << 15
	if !h.found() || h.Input >= limit || h.Occurrence >= limit {
		return callHeader{}
	}
	h.Occurrence |= h.Input << 15
	return h
}

// readHeader returns the header of the activity call that ctx belongs to; the
// zero value if it has none, and also with an error.
func readHeader(ctx context.Context) (h callHeader, err error) {
	payload, found := sdkinterceptor.Header(ctx)[headerName]
	if !found {
		return callHeader{}, nil
	}
	return decodeHeader(payload)
}

func decodeHeader(payload *commonpb.Payload) (h callHeader, err error) {
	if encoding := string(payload.GetMetadata()[converter.MetadataEncoding]); encoding != converter.MetadataEncodingJSON {
		return callHeader{}, fmt.Errorf("the header %q has encoding %q", headerName, encoding)
	}
	if err := json.Unmarshal(payload.GetData(), &h); err != nil {
		return callHeader{}, fmt.Errorf("the header %q: %w", headerName, err)
	}
	if h.OriginalRunID == "" || h.FirstRunID == "" || h.Occurrence <= 0 || h.Input <= 0 {
		return callHeader{}, errHeader
	}
	return h, nil
}

var errHeader = errors.New(`the header "` + headerName + `" does not name a call`)
