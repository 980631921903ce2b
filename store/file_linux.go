package store

import (
	"cmp"
	"errors"
	"fmt"
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
	switch kind := uint32(s.Type); kind {
	case unix.EXT4_SUPER_MAGIC: // and ext2, ext3
		return "ext4", true, nil
	case unix.XFS_SUPER_MAGIC:
		return "xfs", true, nil
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs", true, nil
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs", true, nil
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs", true, nil
	case 0x2fc12fc1:
		return "zfs", true, nil
	case 0xca451a4e:
		return "bcachefs", true, nil
	case unix.TMPFS_MAGIC:
		return "tmpfs", false, nil
	case unix.NFS_SUPER_MAGIC:
		return "nfs", false, nil
	case unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC:
		return "smb", false, nil
	case unix.FUSE_SUPER_MAGIC:
		return "fuse or virtiofs", false, nil
	case unix.V9FS_MAGIC:
		return "9p", false, nil
	default:
		return fmt.Sprintf("file system type %#x", kind), false, nil
	}
}

// syncData makes what is in a file durable.
func syncData(file *os.File) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	failed := conn.Control(func(fd uintptr) {
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			err = unix.Fdatasync(int(fd))
		}
	})
	return cmp.Or(failed, err)
}
