//go:build !linux

package redisstore_test

import "syscall"

var childAttr *syscall.SysProcAttr
