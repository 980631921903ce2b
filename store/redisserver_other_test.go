//go:build !linux

package store_test

import "syscall"

var childAttr *syscall.SysProcAttr
