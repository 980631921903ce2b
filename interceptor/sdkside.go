package interceptor

import (
	"context"
	"errors"

	"go.temporal.io/sdk/converter"
	sdkinterceptor "go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"github.com/atmostonce/atmostonce/internal/sdkside"
)

func init() {
	sdkside.Header, sdkside.Failure = headerTexts, failureOf
}

// headerTexts implements sdkside.Header.
func headerTexts(ctx context.Context, field string) (texts map[string]string) {
	payload := sdkinterceptor.Header(ctx)[field]
	if payload == nil || converter.GetDefaultDataConverter().FromPayload(payload, &texts) != nil {
		return nil
	}
	return texts
}

// failureOf implements sdkside.Failure.
func failureOf(err error) (kind string, benign bool) {
	app := (*temporal.ApplicationError)(nil)
	if !errors.As(err, &app) {
		return "", false
	}
	return app.Type(), app.Category() == temporal.ApplicationErrorCategoryBenign
}
