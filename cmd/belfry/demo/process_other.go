//go:build !linux

package demo

import "syscall"

// endWithParent has no means outside Linux: a demo that is killed leaves its node behind.
func endWithParent() *syscall.SysProcAttr { return nil }
