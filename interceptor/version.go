package interceptor

import (
	"runtime/debug"
	"sync"
)

var version = sync.OnceValue(func() string {
	const path = "github.com/atmostonce/atmostonce"
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return unknownVersion
	}
	for _, m := range append([]*debug.Module{&build.Main}, build.Deps...) {
		if m.Path == path && m.Version != "" {
			return m.Version
		}
	}
	return unknownVersion
})

// unknownVersion is what the go command calls a module that is built from its own
// checkout.
const unknownVersion = "(devel)"
