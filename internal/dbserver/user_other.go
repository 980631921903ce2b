//go:build !linux

package dbserver

import "syscall"

func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
