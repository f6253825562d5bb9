package peer

import "syscall"

// ownGroup keeps a terminal's Ctrl-C from a peer, which is ended by us, and ends it when we end.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
