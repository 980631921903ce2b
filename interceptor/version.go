package interceptor

import "github.com/atmostonce/atmostonce/observe"

// Version reports the version of this module to Temporal, whose worker heartbeats
// carry it.
func (g *Guard) Version() string { return observe.Version }
