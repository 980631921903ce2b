package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// span is what the viewer knows of one.
type span struct {
	TraceID string
	SpanID  string
	Name    string
	Links   []struct{ TraceID, SpanID string }
}

// spans returns those of a trace.
func (s *stack) spans(ctx context.Context, traceID string) (found []span, err error) {
	var trace struct {
		Spans []struct{ SpanData span }
	}
	err = s.ask(ctx, "searchSpans", &trace, traceID)
	for _, data := range trace.Spans {
		found = append(found, data.SpanData)
	}
	return found, err
}

// linked is a duplicate in one trace, and the execution in another one that it
// links to.
type linked struct{ duplicate, original span }

// linkedTrace looks for one of which the viewer has both sides.
func (s *stack) linkedTrace(ctx context.Context) (found linked, ok bool, err error) {
	var traces []struct{ TraceID string }
	const always = "9000000000000000000" // in nanoseconds
	if err := s.ask(ctx, "searchTraces", &traces, "0", always); err != nil {
		return linked{}, false, err
	}
	for _, trace := range traces {
		spans, err := s.spans(ctx, trace.TraceID)
		if err != nil {
			continue // the viewer has dropped it meanwhile
		}
		for _, duplicate := range spans {
			if !strings.HasPrefix(duplicate.Name, "atmostonce.duplicate") || len(duplicate.Links) == 0 || duplicate.Links[0].TraceID == trace.TraceID {
				continue
			}
			others, err := s.spans(ctx, duplicate.Links[0].TraceID)
			if err != nil {
				continue // its worker was killed before it could send it
			}
			for _, original := range others {
				if original.SpanID == duplicate.Links[0].SpanID {
					return linked{duplicate, original}, true, nil
				}
			}
		}
	}
	return linked{}, false, nil
}

func (s *stack) spanURL(x span) string {
	return s.ViewerURL + "/traces/" + x.TraceID + "?span=" + x.SpanID
}

// ask calls a method of the viewer.
func (s *stack) ask(ctx context.Context, method string, result any, params ...any) error {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.ViewerURL+"/rpc", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("the trace viewer, %s: %s: %w", method, response.Status, err)
	}
	if len(answer.Error) > 0 && string(answer.Error) != "null" {
		return fmt.Errorf("the trace viewer, %s: %s", method, answer.Error)
	}
	return json.Unmarshal(answer.Result, result)
}
