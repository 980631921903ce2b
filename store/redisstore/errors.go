package redisstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

// failure gives an error the store's sentinel, and says where the record is that it
// is about. It never shows a key in plain text.
func failure(doing, name string, err error) error {
	switch {
	case redis.HasErrorPrefix(err, "VERSION"):
		return fmt.Errorf("store: redis: %s %s: %w", doing, name, store.ErrVersion)
	case redis.HasErrorPrefix(err, "CORRUPT"), redis.HasErrorPrefix(err, "WRONGTYPE"):
		return fmt.Errorf("store: redis: %s %s: %w: %w", doing, name, store.ErrCorrupt, err)
	case errors.Is(err, store.ErrCorrupt):
		return fmt.Errorf("store: redis: %s %s: %w", doing, name, err)
	case forbidden(err) && !errors.Is(err, store.ErrDenied):
		return fmt.Errorf("store: redis: %s: %w: %w", doing, store.ErrDenied, err)
	case redis.HasErrorPrefix(err, "OOM"):
		return fmt.Errorf("store: redis: %s: %w: %w", doing, store.ErrFull, err)
	case redis.HasErrorPrefix(err, "WRONGPASS"), redis.HasErrorPrefix(err, "NOAUTH"),
		redis.HasErrorPrefix(err, "Protocol error: unauthenticated"): // to a call of many arguments
		return fmt.Errorf("store: redis: %s: set Username and Password in the client's options: %w", doing, err)
	}
	return fmt.Errorf("store: redis: %s: %w", doing, err)
}

// refused reports whether the server answered that the command is not for this
// user, or not there at all.
func refused(err error) bool {
	return forbidden(err) || redis.HasErrorPrefix(err, "unknown command")
}

// forbidden reports whether the server answered that this user may not run a
// command, or not on that key.
func forbidden(err error) bool {
	return redis.HasErrorPrefix(err, "NOPERM") || answered(err, "The user executing the script can't")
}

// unable reports whether the server answered that it does not know a command, or
// the language of the scripts.
func unable(err error) bool {
	return answered(err, "unknown command", "unknown subcommand", "Unknown Redis command", "compiling script", "unsupported command")
}

// answered reports whether a server's error contains one of these words.
func answered(err error, words ...string) bool {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return false
	}
	text := strings.ToLower(answer.Error())
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, strings.ToLower(w)) })
}
