//go:build unix

package transport

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup puts the child into a process group of its own, so that a signal
// reaches all of it, and an interrupt at the terminal does not.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// signalGroup sends a signal to the group of a child. The error does not
// matter: the group may be empty. Its number cannot be another's yet: process
// ids are given out in turn, and the child was reaped moments ago at most.
func signalGroup(process *os.Process, signal syscall.Signal) {
	_ = syscall.Kill(-process.Pid, signal)
}
