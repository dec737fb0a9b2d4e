//go:build unix

// Package systemd is what a service and systemd tell each other: which sockets
// it is started with, that it is ready, and that it is alive. Without systemd
// nothing is told, and nothing fails. There is none on Windows.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// firstFD is that of the first socket (sd_listen_fds(3), SD_LISTEN_FDS_START).
const firstFD = 3

// SocketName is what a socket may be called (FileDescriptorName=) to be told from
// others.
const SocketName = "mcpool"

// Listener returns the socket that systemd has started this process with
// (sd_listen_fds(3)), nil if it has not: the only one, or of several the one
// called [SocketName]. It is asked once: what it reads is taken out of the
// environment, so that child processes do not take it for theirs.
func Listener() (net.Listener, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // it is for another process, or there is none
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 {
		return nil, fmt.Errorf("LISTEN_FDS is %q: want the number of sockets", count)
	}
	which := 0
	if n > 1 {
		which = -1
		for i, name := range strings.Split(names, ":") {
			if name == SocketName && i < n {
				which = i
			}
		}
		if which < 0 {
			return nil, fmt.Errorf("there are %d sockets and none is called %s: say FileDescriptorName=%[2]s in the unit of the one to serve", n, SocketName)
		}
	}
	for fd := firstFD; fd < firstFD+n; fd++ {
		syscall.CloseOnExec(fd) // the others stay open for nobody
	}
	return ListenerOf(firstFD + which)
}

// ListenerOf returns a file descriptor that this process was started with as a
// listener, and closes it.
func ListenerOf(fd int) (net.Listener, error) {
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "socket")
	if file == nil {
		return nil, fmt.Errorf("file descriptor %d is none", fd)
	}
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("file descriptor %d is no listening socket: %w", fd, err)
	}
	return l, nil
}

// Notify tells systemd lines NAME=VALUE (sd_notify(3)). It does nothing where
// nobody is to be told.
func Notify(lines ...string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // '@' is that of an abstract one for both
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	_, err = conn.Write([]byte(strings.Join(lines, "\n")))
	return errors.Join(err, conn.Close())
}

// WatchdogPeriod returns how often systemd wants to hear that this process is
// alive (sd_watchdog_enabled(3)), half of what it waits; 0 for never. What it
// reads is taken out of the environment.
func WatchdogPeriod() time.Duration {
	pid, usec := os.Getenv("WATCHDOG_PID"), os.Getenv("WATCHDOG_USEC")
	os.Unsetenv("WATCHDOG_PID")
	if pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 {
		return 0
	}
	return time.Duration(n) * time.Microsecond / 2
}

// Watch calls alive each period until ctx ends, and then notify, with
// WATCHDOG=1, if it returned nil within the period. So systemd ends a process
// that hangs, though one of its goroutines does not.
func Watch(ctx context.Context, period time.Duration, alive func(context.Context) error, notify func(...string) error) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, period)
		err := alive(within)
		cancel()
		if err == nil {
			_ = notify("WATCHDOG=1") // if it cannot be told, systemd says so
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
