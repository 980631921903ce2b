package redisstore

import "slices"

// NeededCommands and UsefulCommands are the lists of the Redis store.
func NeededCommands() []string { return slices.Clone(needed) }
func UsefulCommands() []string { return slices.Clone(useful) }
