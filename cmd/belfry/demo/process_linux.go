package demo

import "syscall"

// endWithParent has the node killed when this process dies without saying so.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
