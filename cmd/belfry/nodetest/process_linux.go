package nodetest

import "syscall"

// dieWithParent ends the node when the test process ends, however that comes about.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
