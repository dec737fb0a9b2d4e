//go:build unix

package children

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps what the command has been told otherwise, such as whose
// process it will be.
func ownGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	dieWithUs(cmd.SysProcAttr)
}

// Signal sends a signal to the process group of the child. That there may be
// nobody left in it does not matter. Its number cannot be another's yet:
// process ids are given out in turn, and the child was reaped moments ago at
// most.
func (c *Child) Signal(signal syscall.Signal) {
	_ = syscall.Kill(-c.Process.Pid, signal)
}
