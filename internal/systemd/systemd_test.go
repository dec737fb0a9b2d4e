//go:build unix

package systemd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The watchdog hears of a process as long as it answers, and no longer.
func TestAProcessThatHangsIsNotSaidToLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var told []time.Duration
		done := make(chan struct{})
		var hangs atomic.Bool
		go func() {
			defer close(done)
			Watch(ctx, time.Second, func(ctx context.Context) error {
				if hangs.Load() {
					<-ctx.Done()
				}
				return ctx.Err()
			}, func(lines ...string) error {
				if !slices.Equal(lines, []string{"WATCHDOG=1"}) {
					t.Errorf("it is told %q", lines)
				}
				told = append(told, time.Since(began))
				return errors.New("nobody is there")
			})
		}()
		time.Sleep(2500 * time.Millisecond)
		hangs.Store(true)
		time.Sleep(time.Minute)
		hangs.Store(false)
		time.Sleep(2 * time.Second)
		cancel()
		<-done
		if len(told) < 4 || !slices.Equal(told[:3], []time.Duration{0, time.Second, 2 * time.Second}) || told[3] < time.Minute {
			t.Errorf("it is told at %v", told)
		}
	})
}

func TestWatchdogPeriod(t *testing.T) {
	me := strconv.Itoa(os.Getpid())
	for _, test := range []struct {
		pid, usec string
		want      time.Duration
	}{
		{"", "", 0}, {me, "30000000", 15 * time.Second}, {"", "2000000", time.Second},
		{"1", "30000000", 0}, {me, "soon", 0}, {me, "-1", 0},
	} {
		t.Setenv("WATCHDOG_PID", test.pid)
		t.Setenv("WATCHDOG_USEC", test.usec)
		if got := WatchdogPeriod(); got != test.want {
			t.Errorf("%+v: got %v", test, got)
		}
	}
}

func TestSocketsThatMakeNoSense(t *testing.T) {
	me := strconv.Itoa(os.Getpid())
	for name, test := range map[string]struct {
		pid, count, names string
		refused           bool
	}{
		"none":                     {"", "", "", false},
		"for another process":      {"1", "1", "", false},
		"not a number":             {me, "x", "", true},
		"none of the name":         {me, "2", "a:b", true},
		"a name beyond the number": {me, "2", "a:b:mcpool", true},
	} {
		t.Setenv("LISTEN_PID", test.pid)
		t.Setenv("LISTEN_FDS", test.count)
		t.Setenv("LISTEN_FDNAMES", test.names)
		if l, err := Listener(); l != nil || (err != nil) != test.refused {
			t.Errorf("%s: got %v, %v", name, l, err)
		}
		if os.Getenv("LISTEN_FDS") != "" {
			t.Errorf("%s: child processes take it for theirs", name)
		}
	}
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil {
		t.Error(err)
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "n"), "@mcpool-test-" + strconv.Itoa(os.Getpid())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			if path[0] == '@' {
				continue // Linux alone has abstract sockets
			}
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", path)
		if err := Notify("A=1", "B=2"); err != nil {
			t.Error(err)
		}
		text := make([]byte, 100)
		if n, err := conn.Read(text); err != nil || string(text[:n]) != "A=1\nB=2" {
			t.Errorf("%s: got %q, %v", path, text[:n], err)
		}
		conn.Close()
		if err := Notify("A=1"); err == nil {
			t.Errorf("%s: nobody is there, and it was told", path)
		}
	}
}
