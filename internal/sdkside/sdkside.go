// Package sdkside has what package telemetry asks about Temporal's side of a call. Package
// interceptor answers where it is linked. So a program without Temporal has spans, and
// links nothing of the SDK.
package sdkside

import "context"

// Header returns the texts in a field of the header that the activity in ctx came with;
// nil if there are none that can be read. Package interceptor sets it when it is
// initialised, as it does Failure.
var Header = func(_ context.Context, _ string) map[string]string { return nil }

// Failure returns of which type err is for Temporal, "" if it has none for it, and whether
// Temporal itself would not count err as a failure.
var Failure = func(error) (kind string, benign bool) { return "", false }
