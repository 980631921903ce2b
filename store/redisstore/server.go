package redisstore

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

// server is what a server says of itself.
type server struct {
	name, version string // of the program
	speaks        string // the version of Redis whose commands it has
	info          string // INFO, if the user may run it
}

// others are the fields of INFO that reveal other servers which call themselves
// Redis.
var others = map[string]string{
	"valkey_version": "Valkey", "redict_version": "Redict", "dragonfly_version": "Dragonfly", "keydb_version": "KeyDB",
	"kvrocks_version": "Kvrocks", "garnet_version": "Garnet",
}

// identify asks a server who it is, by INFO and by HELLO, which every user may run.
func identify(ctx context.Context, node redis.UniversalClient) (server, error) {
	var who server
	var err error
	who.info, err = node.Info(ctx).Result()
	if err != nil && !refused(err) {
		return server{}, err
	}
	protocol := 3
	if c, ok := node.(*redis.Client); ok && c.Options().Protocol == 2 {
		protocol = 2
	}
	hello, err := node.Do(ctx, "HELLO", protocol).Result()
	if err != nil && !refused(err) && !unable(err) {
		return server{}, err
	}
	who.name, who.version = helloField(hello, "server"), helloField(hello, "version")
	if who.speaks = infoField(who.info, "redis_version"); who.speaks == "" {
		who.speaks = who.version
	}
	if name := infoField(who.info, "server_name"); name != "" {
		who.name = name
	}
	if strings.Contains(path.Base(infoField(who.info, "executable")), "keydb") {
		who.name = "KeyDB"
	}
	if who.version == "" || who.name == "redis" {
		who.version = who.speaks
	}
	for field, name := range others {
		if version := infoField(who.info, field); version != "" {
			who.name, who.version = name, version
		}
	}
	if who.name == "" || who.name == "redis" {
		who.name = "Redis"
	}
	return who, nil
}

func (w server) String() string {
	switch {
	case w.version == "":
		return "this server"
	case w.speaks != w.version:
		return fmt.Sprintf("%s %s (as Redis %s)", w.name, w.version, w.speaks)
	}
	return w.name + " " + w.version
}

// check refuses a server that is known not to run the scripts.
func (w server) check() error {
	major, _, _ := strings.Cut(w.speaks, ".")
	if n, err := strconv.Atoi(major); err == nil && n < 7 {
		return w.tooOld()
	}
	return nil
}

func (w server) tooOld() error {
	return fmt.Errorf("%w: %s cannot run the store's scripts: use Redis 7.0 or newer", store.ErrUnsafe, w)
}

// isKnown reports whether the server has the code of Redis.
func (w server) isKnown() bool {
	switch strings.ToLower(w.name) {
	case "redis", "valkey", "redict":
		return true
	}
	return false
}

// infoField returns the value of one line of INFO.
func infoField(info, field string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// helloField returns one field of the answer to HELLO.
func helloField(hello any, field string) string {
	switch answer := hello.(type) {
	case map[any]any:
		value, _ := answer[field].(string)
		return value
	case []any:
		for i := 0; i+1 < len(answer); i += 2 {
			if answer[i] == field {
				value, _ := answer[i+1].(string)
				return value
			}
		}
	}
	return ""
}
