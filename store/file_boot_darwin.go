package store

import (
	"golang.org/x/sys/unix"
)

// bootID names the run of the host; empty if it is not known.
func bootID() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}
