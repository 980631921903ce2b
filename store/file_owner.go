//go:build linux || darwin

package store

import (
	"io/fs"
	"syscall"
)

// Flags of open that wait for nobody: not for the other end of a pipe either.
const (
	openPlain = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	openDir   = syscall.O_DIRECTORY | syscall.O_NONBLOCK
)

func keeperOf(info fs.FileInfo) keeper {
	s := info.Sys().(*syscall.Stat_t)
	return keeper{uid: int(s.Uid), gid: int(s.Gid), mode: info.Mode().Perm()}
}
