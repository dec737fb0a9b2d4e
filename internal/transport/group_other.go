//go:build !unix

package transport

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup does nothing: there are no process groups here.
func ownGroup(*exec.Cmd) {}

// signalGroup kills the child alone, and only when it is to be killed.
func signalGroup(process *os.Process, signal syscall.Signal) {
	if signal == syscall.SIGKILL {
		_ = process.Kill()
	}
}
