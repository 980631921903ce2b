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
	"eval", "evalsha", "get", "getrange", "hmget", "hset", "persist", "pexpireat", "pexpiretime", "ping", "pttl", "set",
	"setrange", "time", "zadd", "zrange", "zrem", "zscore",
}

// noticing are commands without which a guard polls.
var noticing = []string{"spublish", "ssubscribe", "sunsubscribe"}

// useful are commands that a user may lack: Check then answers ErrUnverified where
// it cannot see what INFO or CONFIG GET says, and List or Clear is refused.
var useful = []string{"config|get", "info", "scan", "unlink"}

//go:embed lua/rights.lua
var rightsLua string

var rightsScript = redis.NewScript("#!lua flags=no-writes\n" + rightsLua)

// rights are what the server lets the client's user do.
type rights struct {
	keys  keyspace
	waits bool // for replicas
}

// needs are the commands that the store needs.
func (r rights) needs() []string {
	if r.waits {
		return append(slices.Clone(needed), "wait")
	}
	return needed
}

// check refuses a user that lacks a command that the store needs, before a call
// finds out halfway.
func (r rights) check(ctx context.Context, node redis.UniversalClient) error {
	missing, err := r.lacks(ctx, node)
	switch {
	case errors.Is(err, redis.Nil):
		return fmt.Errorf("%w: the server does not say what this user may: see that it may run %s", store.ErrUnverified, strings.Join(r.needs(), ", "))
	case forbidden(err):
		return r.denied(node, []string{"eval, evalsha or another command"}, err)
	case err != nil:
		return err
	case len(missing) > 0:
		return r.denied(node, missing, nil)
	}
	missing, err = r.refused(ctx, node, noticing)
	if err == nil && len(missing) > 0 {
		pattern := glob(r.keys.prefix) + "*"
		err = fmt.Errorf("%w: a call that waits for another looks at intervals: user %s lacks %s, or the channels &%s; an administrator grants it by: ACL SETUSER %s &%s +%s",
			store.ErrUnverified, userOf(node), strings.Join(missing, ", "), pattern, userOf(node), pattern, strings.Join(noticing, " +"))
	}
	return err
}

// lacks returns the commands that the user may not run; redis.Nil as an error says
// that the server has no answer.
func (r rights) lacks(ctx context.Context, node redis.UniversalClient) ([]string, error) {
	return r.refused(ctx, node, r.needs())
}

// refused returns those of the commands that the user may not run.
func (r rights) refused(ctx context.Context, node redis.UniversalClient, commands []string) ([]string, error) {
	// A pattern for only some of the store's keys leaves out the prefix alone.
	args := []any{2, r.keys.name("check"), r.keys.prefix}
	for _, command := range commands {
		args = append(args, command)
	}
	return rightsScript.Run(ctx, node, nil, args...).StringSlice()
}

// denied is the error for a user that lacks commands; err, if not nil, is the
// server's word.
func (r rights) denied(node redis.UniversalClient, commands []string, err error) error {
	user, pattern := userOf(node), "~"+glob(r.keys.prefix)+"*"
	denied := fmt.Errorf("%w: user %s lacks %s, or the keys %s; an administrator grants it all by: ACL SETUSER %s %s +%s",
		store.ErrDenied, user, strings.Join(commands, ", "), pattern, user, pattern, strings.Join(r.needs(), " +"))
	if err != nil {
		return fmt.Errorf("%w: %w", denied, err)
	}
	return denied
}

// userOf returns the name of a client's user.
func userOf(node redis.UniversalClient) string {
	if c, ok := node.(*redis.Client); ok && c.Options().Username != "" {
		return c.Options().Username
	}
	return "default"
}

// explain finds out what is behind an error that a server answered: what its user
// lacks, or which server does not know a script's language.
func (r rights) explain(ctx context.Context, name string, err error) error {
	if !forbidden(err) && !unable(err) {
		return err
	}
	node, failed := r.keys.master(ctx, name)
	if failed != nil {
		return err
	}
	if unable(err) {
		who, _ := identify(ctx, node)
		return fmt.Errorf("%w: %w", who.tooOld(), err)
	}
	missing, failed := r.lacks(ctx, node)
	if failed != nil || len(missing) == 0 {
		missing = []string{"a command"}
	}
	return r.denied(node, missing, err)
}
