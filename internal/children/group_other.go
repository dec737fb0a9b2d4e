//go:build !unix

package children

import (
	"os/exec"
	"syscall"
)

// ownGroup does nothing: there are no process groups here.
func ownGroup(*exec.Cmd) {}

// Signal kills the child alone, and only when it is to be killed.
func (c *Child) Signal(signal syscall.Signal) {
	if signal == syscall.SIGKILL {
		_ = c.Process.Kill()
	}
}
