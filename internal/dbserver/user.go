package dbserver

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// servant is whom servers run as where this process is root, which they refuse.
const servant = "nobody"

// unprivileged returns the attributes of a process that ends with this one, as another
// user where this one is root.
func unprivileged() *syscall.SysProcAttr {
	attr := endsWithUs()
	attr.Setpgid = true // an interrupt is for us
	if uid, gid, ok := servantID(); ok {
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return attr
}

// giveAway makes the servers' user the owner of dir.
func giveAway(dir string) error {
	if uid, gid, ok := servantID(); ok {
		return os.Chown(dir, uid, gid)
	}
	return nil
}

func servantID() (uid, gid int, ok bool) {
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	u, err := user.Lookup(servant)
	if err != nil {
		return 0, 0, false
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return 0, 0, false
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err == nil
}
