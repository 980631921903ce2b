package cli

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/internal/ops"
	"github.com/atmostonce/atmostonce/store"
	"github.com/atmostonce/atmostonce/store/sqlstore"
)

// checkSetup looks at what a store's own check does not refuse.
func (d *doctor) checkSetup(ctx context.Context, s store.Store) {
	switch s.(type) {
	case *store.File:
		if dir, ok := d.directory(); ok {
			d.checkDirectory(dir)
		}
	case *sqlstore.Store:
		d.say(fine, "server", "settings that each connection chooses were checked for this tool's, not for the workers'")
	default:
		for _, c := range d.closers {
			if client, is := c.(redis.UniversalClient); is {
				d.checkServer(ctx, client)
			}
		}
	}
}

// checkDirectory looks at modes and owners.
func (d *doctor) checkDirectory(dir string) {
	open, files := 0, 0
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // it was removed meanwhile
		}
		files++
		if info.Mode().Perm()&0o077 != 0 {
			open++
		}
		return nil
	})
	switch {
	case err != nil:
		d.say(bad, "files", "%v", err)
	case open > 0:
		d.say(warning, "files", "%d of %d files and directories are open to other users: chmod -R go= %s", open, files, dir)
	default:
		d.say(fine, "files", "%d files and directories, closed to other users; this user is uid %d", files, os.Getuid())
	}
}

// checkServer looks at what keeps records over a restart or a fail-over.
func (d *doctor) checkServer(ctx context.Context, c redis.UniversalClient) {
	info, err := c.Info(ctx, "server", "persistence", "replication").Result()
	if err != nil {
		d.say(unknown, "server", "this user may not run INFO: version, persistence and replicas are not known")
		return
	}
	field := func(name string) string {
		_, rest, _ := strings.Cut(info, "\n"+name+":")
		value, _, _ := strings.Cut(rest, "\r\n")
		return value
	}
	d.say(fine, "server", "Redis %s, role %s", field("redis_version"), field("role"))
	switch {
	case field("aof_enabled") == "1" && field("aof_last_write_status") != "ok":
		d.say(bad, "server", "the append-only file could not be written")
	case field("aof_enabled") == "1":
		d.say(fine, "server", "the append-only file is on: with appendfsync always, a restart loses nothing")
	default:
		d.say(warning, "server", "the append-only file is off: a restart loses what is newer than the last snapshot, and effects may happen again")
	}
	if n, err := strconv.Atoi(field("connected_slaves")); err == nil && n == 0 {
		d.say(warning, "server", "no replica is connected")
	} else if err == nil {
		d.say(fine, "server", "%d replicas are connected", n)
	}
	before := time.Now()
	if at, err := c.Time(ctx).Result(); err == nil {
		off := at.Sub(before.Add(time.Since(before) / 2)).Abs()
		l := fine
		if off > time.Second {
			l = warning // nothing goes by it but what people read
		}
		d.say(l, "clock", "the server's differs from this host's by less than %s", ops.Age(off+time.Second))
	}
}
