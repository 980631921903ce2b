package redisstore_test

import "syscall"

// childAttr ends servers with the test process, even if that is killed.
var childAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
