package redisstore

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

// needed are the commands without which a guard cannot work; the package's
// documentation has them too.
var needed = []string{
	"eval", "evalsha", "hdel", "hget", "hgetall", "hmget", "hset", "persist", "pexpireat", "pexpiretime", "ping", "time",
	"zadd", "zrange", "zrem", "zscore",
}

// useful are commands that a user may lack: Check then answers ErrUnverified where
// it cannot see what INFO or CONFIG GET says, and List or Clear is refused.
var useful = []string{"config|get", "info", "scan", "unlink"}

//go:embed lua/rights.lua
var rightsLua string

var rights = redis.NewScript("#!lua flags=no-writes\n" + rightsLua)

// needs are the commands that s needs.
func (s *Store) needs() []string {
	if s.replicas > 0 {
		return append(slices.Clone(needed), "wait")
	}
	return needed
}

// checkRights refuses a user that may not run a command that the store needs,
// before one is found out in the middle of a call.
func (s *Store) checkRights(ctx context.Context, node redis.UniversalClient) error {
	missing, err := s.lacks(ctx, node)
	switch {
	case errors.Is(err, redis.Nil):
		return fmt.Errorf("%w: the server does not say what this user may: see that it may run %s", store.ErrUnverified, strings.Join(s.needs(), ", "))
	case forbidden(err):
		return s.denied(node, []string{"eval, evalsha or another command"}, err)
	case err != nil:
		return err
	case len(missing) > 0:
		return s.denied(node, missing, nil)
	}
	return nil
}

// lacks returns the commands that the user may not run; redis.Nil as an error says
// that the server has no answer.
func (s *Store) lacks(ctx context.Context, node redis.UniversalClient) ([]string, error) {
	// The prefix alone is what a pattern for only some of the store's keys leaves out.
	args := []any{2, s.name("check"), s.prefix}
	for _, command := range s.needs() {
		args = append(args, command)
	}
	return rights.Run(ctx, node, nil, args...).StringSlice()
}

// denied is the error for a user that lacks commands; err, if not nil, is the
// server's word.
func (s *Store) denied(node redis.UniversalClient, commands []string, err error) error {
	user, pattern := "default", "~"+glob(s.prefix)+"*"
	if c, ok := node.(*redis.Client); ok && c.Options().Username != "" {
		user = c.Options().Username
	}
	denied := fmt.Errorf("%w: user %s lacks %s, or the keys %s; an administrator grants it all by: ACL SETUSER %s %s +%s",
		store.ErrDenied, user, strings.Join(commands, ", "), pattern, user, pattern, strings.Join(s.needs(), " +"))
	if err != nil {
		return fmt.Errorf("%w: %w", denied, err)
	}
	return denied
}

// explain finds out what is behind an error that a server answered: what its user
// lacks, or which server it is that does not know a script's language.
func (s *Store) explain(ctx context.Context, name string, err error) error {
	if !forbidden(err) && !unable(err) {
		return err
	}
	node, failed := s.master(ctx, name)
	if failed != nil {
		return err
	}
	if unable(err) {
		who, _ := identify(ctx, node)
		return fmt.Errorf("%w: %w", who.tooOld(), err)
	}
	missing, failed := s.lacks(ctx, node)
	if failed != nil || len(missing) == 0 {
		missing = []string{"a command"}
	}
	return s.denied(node, missing, err)
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

// glob returns the pattern that matches text alone.
func glob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}
