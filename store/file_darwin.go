package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// fileSystem returns the name of dir's file system, and whether its locks are
// seen by every process of the host and its fsync reaches the disk.
func fileSystem(dir string) (name string, safe bool, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", false, err
	}
	name = unix.ByteSliceToString(s.Fstypename[:])
	return name, name == "apfs" || name == "hfs", nil
}

// syncData makes what is in a file durable.
func syncData(file *os.File) error { return file.Sync() }
