package dbtest

import "syscall"

// attributes are those of a process that runs as another user and ends with
// the thread that started it.
func attributes(credential *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}
