package redisstore

import (
	_ "embed" // the scripts
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/atmostonce/atmostonce/store"
)

// verb is a script with the name that errors give it.
type verb struct {
	name    string
	script  *redis.Script
	claims  bool // grants the key
	decides bool // says what came of the act
}

// stands reports whether somebody acts on the answer because of what the call
// has written.
func (v verb) stands(r store.Record, b store.Bid, verdict error) bool {
	if v.claims {
		return r.Owned(b.Owner)
	}
	return v.decides && (verdict == nil || errors.Is(verdict, store.ErrConflict))
}

var (
	//go:embed lua/clock.lua
	clockLua string
	//go:embed lua/record.lua
	recordLua string
	//go:embed lua/turns.lua
	turnsLua string
	//go:embed lua/open.lua
	openLua string
	//go:embed lua/quick_acquire.lua
	quickAcquireLua string
	//go:embed lua/undisturbed.lua
	undisturbedLua string
	//go:embed lua/quick_renew.lua
	quickRenewLua string
	//go:embed lua/quick_settle.lua
	quickSettleLua string
	//go:embed lua/bid.lua
	bidLua string
	//go:embed lua/acquire.lua
	acquireLua string
	//go:embed lua/renew.lua
	renewLua string
	//go:embed lua/settle.lua
	settleLua string
	//go:embed lua/release.lua
	releaseLua string
	//go:embed lua/takeover.lua
	takeoverLua string
	//go:embed lua/resolve.lua
	resolveLua string
	//go:embed lua/load.lua
	loadLua string
)

// allowOOM lets a script write at the memory limit: what is underway must come
// to its end. Scripts without it are refused there at their first write.
const allowOOM = "#!lua flags=allow-oom\n"

var (
	turnLua    = recordLua + openLua + turnsLua
	bidTurnLua = turnLua + bidLua

	acquireVerb  = verb{name: "acquire", script: redis.NewScript(clockLua + quickAcquireLua + bidTurnLua + acquireLua), claims: true}
	renewVerb    = verb{name: "renew", script: redis.NewScript(allowOOM + clockLua + undisturbedLua + quickRenewLua + bidTurnLua + renewLua)}
	settleVerb   = verb{name: "settle", script: redis.NewScript(allowOOM + clockLua + undisturbedLua + quickSettleLua + bidTurnLua + settleLua), decides: true}
	releaseVerb  = verb{name: "release", script: redis.NewScript(allowOOM + clockLua + bidTurnLua + releaseLua)}
	takeoverVerb = verb{name: "takeover", script: redis.NewScript(clockLua + bidTurnLua + takeoverLua), claims: true}
	resolveVerb  = verb{name: "resolve", script: redis.NewScript(allowOOM + clockLua + turnLua + resolveLua), decides: true}
	loadVerb     = verb{name: "load", script: redis.NewScript("#!lua flags=no-writes\n" + clockLua + loadLua)}
)
