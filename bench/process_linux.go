package main

import "syscall"

// A process of its own group is spared a Ctrl-C, so that the harness ends it in order;
// the kernel ends it if the harness dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
