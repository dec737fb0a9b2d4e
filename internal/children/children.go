// Package children starts child processes that do not outlive this process,
// even when it is killed and can do nothing about it any more.
//
// Two things see to that, on Linux. Each child has a death signal: the kernel
// kills it when this process is gone (see thread). That reaches the child
// alone, and many a child is a wrapper (npx, uvx, sh) around the process that
// is meant. So a program may have a supervisor (see [Supervise]), which ends
// whatever its children have started, too.
//
// Elsewhere a child is started in a process group of its own where there is
// such a thing, and no more is done.
package children

import (
	"log/slog"
	"os"
	"os/exec"
)

// A Child is a process that Start has started, and the process group that it
// leads.
type Child struct {
	Process *os.Process
	thread  *thread
	watch   watch
}

// Start starts a command in a process group of its own: a signal reaches all
// of it, and an interrupt at the terminal does not. stdin is our end of the
// pipe that is its standard input. [Child.Release] must follow.
func Start(cmd *exec.Cmd, stdin *os.File, log *slog.Logger) (*Child, error) {
	c := &Child{}
	var err error
	if c.watch, err = expect(stdin); err != nil {
		log.Warn("there is no supervisor: what the child starts may outlive us if we are killed", "error", err)
	}
	ownGroup(cmd)
	c.thread = enterThread()
	c.thread.do(func() {
		if err = cmd.Start(); err == nil {
			c.watch.started(cmd.Process.Pid)
		}
	})
	if err != nil {
		c.Release()
		return nil, err
	}
	c.Process = cmd.Process
	return c, nil
}

// Release gives up a child that is reaped and whose process group has been
// ended.
func (c *Child) Release() {
	c.watch.over()
	c.thread.leave()
}
