//go:build linux || darwin

package store

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// lockFile opens the file at path and takes the kernel's lock on it. If somebody
// else has the lock it waits, or else returns nil. The lock ends with unlockFile,
// or with the process.
func lockFile(path string, flag int, wait bool) (*os.File, error) {
	file, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(file.Fd()), how)
	}
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if !wait && errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
}

// unlockFile ends the lock at once, also if a process that is just being forked
// has a copy of the descriptor. Where the kernel refuses, closing must do.
func unlockFile(l *os.File) {
	_ = syscall.Flock(int(l.Fd()), syscall.LOCK_UN)
	_ = l.Close()
}
