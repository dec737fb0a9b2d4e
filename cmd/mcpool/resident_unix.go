//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mcpool-dev/mcpool/internal/systemd"
)

const (
	// inheritVariable in the environment says that this process was started by
	// another to take its place: it has the socket and the pipe.
	inheritVariable = "MCPOOL_INHERIT"
	// pausedVariable then names the servers that are paused, divided by commas.
	pausedVariable = "MCPOOL_PAUSED"
	inheritSocket  = 3
	inheritPipe    = 4 // takes a byte when this process serves
	// restartTime is how long the other process may take to serve.
	restartTime = 60 * time.Second
)

// signals are those that steer a resident. Of several of a kind that come at once
// one is heeded, after the last.
type signals struct{ reload, restart chan os.Signal }

func listenForSignals() signals {
	s := signals{make(chan os.Signal, 1), make(chan os.Signal, 1)}
	signal.Notify(s.reload, syscall.SIGHUP)
	signal.Notify(s.restart, syscall.SIGUSR2)
	return s
}

func (s signals) stop() {
	signal.Stop(s.reload)
	signal.Stop(s.restart)
}

// heed does what signals say until ctx ends, or another process has taken the
// place of this one, and then calls stop.
func (r *resident) heed(ctx context.Context, s signals, stop func()) {
	for {
		select {
		case <-s.reload:
			_ = r.opened.reload(ctx) // it is logged
		case <-s.restart:
			pid, err := r.restart(ctx)
			if err != nil {
				r.log.Error("not restarted: this process goes on", "error", err)
				continue
			}
			r.log.Info("another process has taken the place of this one", "pid", pid)
			r.left.Store(true)
			stop()
			return
		case <-ctx.Done():
			return
		}
	}
}

// restart starts this program again, with the socket, and returns when it serves.
// Both accept from then on, of one queue: so nothing that waits in it is lost,
// as it would be with two sockets at one address (SO_REUSEPORT), each of which has
// a queue that is thrown away when it is closed.
func (r *resident) restart(ctx context.Context) (pid int, err error) {
	if os.Getpid() == 1 {
		return 0, errors.New("this is the first process of a container, which ends with it: start another container")
	}
	path, err := os.Executable()
	if err != nil {
		return 0, err
	}
	has, ok := r.listener.(interface{ File() (*os.File, error) })
	if !ok {
		return 0, fmt.Errorf("a listener of %s cannot be handed on", r.listener.Addr().Network())
	}
	socket, err := has.File()
	if err != nil {
		return 0, err
	}
	defer socket.Close()
	served, serves, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer served.Close()
	cmd := exec.Command(path, os.Args[1:]...) // #nosec G204,G702 -- this program, as it was started
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inheritVariable+"=1", pausedVariable+"="+strings.Join(r.opened.paused(), ","))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{socket, serves}
	err = cmd.Start()
	_ = serves.Close()
	if err != nil {
		return 0, err
	}
	_ = served.SetReadDeadline(time.Now().Add(restartTime))
	defer context.AfterFunc(ctx, func() { _ = served.SetReadDeadline(time.Now()) })()
	if _, err := served.Read(make([]byte, 1)); err != nil {
		_ = cmd.Process.Kill() // or it has ended
		_ = cmd.Wait()
		return 0, fmt.Errorf("the new process did not serve (%w): %v", err, cmd.ProcessState)
	}
	pid = cmd.Process.Pid
	// From here on it is told from and listened to in place of this one.
	tellSystemd(r.log.Logger, "READY=1", fmt.Sprintf("MAINPID=%d", pid))
	return pid, cmd.Process.Release()
}

// inherit returns what this process was started with: by the one whose place it
// takes, or by systemd.
func inherit() (inherited, error) {
	if os.Getenv(inheritVariable) == "" {
		l, err := systemd.Listener()
		return inherited{listener: l, ready: func() {}}, err
	}
	paused := strings.Split(os.Getenv(pausedVariable), ",")
	os.Unsetenv(inheritVariable)
	os.Unsetenv(pausedVariable)
	syscall.CloseOnExec(inheritPipe)
	pipe := os.NewFile(inheritPipe, "pipe")
	l, err := systemd.ListenerOf(inheritSocket)
	if err != nil {
		return inherited{}, err
	}
	return inherited{l, paused, func() {
		_, _ = pipe.Write([]byte{1}) // who started this has ended, if it fails
		_ = pipe.Close()
	}}, nil
}

// keepWatchdog tells systemd that this process lives, for as long as it answers
// itself.
func (r *resident) keepWatchdog(ctx context.Context) {
	if period := systemd.WatchdogPeriod(); period > 0 {
		systemd.Watch(ctx, period, func(ctx context.Context) error { return answers(ctx, r.listen.scheme(), r.listener.Addr()) }, systemd.Notify)
	}
}

func notify(lines ...string) error { return systemd.Notify(lines...) }
func reloading() []string          { return systemd.Reloading() }
