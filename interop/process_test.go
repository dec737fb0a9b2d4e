package interop

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Every process that a test starts, or a pool, or a server of either,
// inherits a mark in its environment: runKey and what names this run, and for
// a child of a pool cellKey and the test. So whatever is left is found,
// whoever started it and whichever group it is in.
const (
	runKey  = "MCPOOL_INTEROP_RUN"
	cellKey = "MCPOOL_INTEROP_CELL"
	reapKey = "MCPOOL_INTEROP_REAP"
)

// marked returns the processes with a variable, NAME=value, in the environment
// that they were started with. It finds none where there is no /proc.
func marked(variable string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is sound
	for _, file := range files {
		environ, _ := os.ReadFile(file) // it may have ended meanwhile
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		if pid != os.Getpid() && slices.ContainsFunc(bytes.Split(environ, []byte{0}), func(v []byte) bool { return string(v) == variable }) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// leftOf returns the marked processes that do not end: one that was killed may
// be there for a moment.
func leftOf(variable string) (pids []int) {
	for deadline := time.Now().Add(closing); ; time.Sleep(5 * time.Millisecond) {
		if pids = marked(variable); len(pids) == 0 || time.Now().After(deadline) {
			return pids
		}
	}
}

// startReaper starts a process that outlives this one, however this one ends,
// and kills what is left of it: a test that panics cleans nothing up.
func startReaper(mark string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	end, ours, err := os.Pipe() // ours is closed when we are gone, and not before
	if err != nil {
		return err
	}
	defer end.Close()
	reaper := exec.Command(self)
	reaper.Env = []string{reapKey + "=" + mark}
	reaper.Stdin = end
	reaper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what interrupts us does not interrupt it
	if err := reaper.Start(); err != nil {
		return err
	}
	kept = ours
	return reaper.Process.Release()
}

// kept holds the reaper's pipe open.
var kept io.Closer

func reap(mark string) {
	_, _ = io.Copy(io.Discard, os.Stdin)
	for range 20 { // one that is killed may just have started another
		left := marked(mark)
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A process is a server over HTTP, in a process group of its own.
type process struct {
	cmd    *exec.Cmd
	port   string
	exited chan struct{}
	log    string // the file it writes to
}

// start starts the server and waits until it accepts connections on its port.
func (at *site) start(t *testing.T, port string) {
	t.Helper()
	cmd := exec.Command(at.argv[0], at.argv[1:]...)
	cmd.Env = append(os.Environ(), at.variables(port)...)
	cmd.Dir = at.dir
	at.process = launch(t, at.t, at.name, cmd, port)
}

// launch starts a program that lives as long as a test, and waits until it
// accepts connections on its port; t is who waits.
func launch(t, life *testing.T, name string, cmd *exec.Cmd, port string) *process {
	t.Helper()
	log, err := os.CreateTemp(life.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &process{cmd: cmd, port: port, exited: make(chan struct{}), log: log.Name()}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.exited)
	}()
	life.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		if life.Failed() {
			written, _ := os.ReadFile(p.log)
			life.Logf("%s wrote, at its end: %s", name, written[max(0, len(written)-2000):])
		}
	})
	// Somebody else's server tells us in no other way that it is ready.
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
			return p
		}
		select {
		case <-p.exited:
		default:
			if time.Now().Before(deadline) {
				continue
			}
		}
		written, _ := os.ReadFile(p.log)
		t.Fatalf("%s did not start: %v\n%s", name, err, written)
	}
}

// stopping is how long a server has to obey SIGTERM.
const stopping = 5 * time.Second

// stop sends a signal to the server and what it started, and waits until the
// server has ended; what does not obey is killed.
func (p *process) stop(signal syscall.Signal) {
	_ = syscall.Kill(-p.cmd.Process.Pid, signal)
	select {
	case <-p.exited:
	case <-time.After(stopping):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// freePort returns a port that nobody listens on. It is none of those that the
// system gives to outgoing connections (net.ipv4.ip_local_port_range), so that
// it is still free when a server is started on it again.
func freePort(t *testing.T) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for ports.next < 30000 {
		ports.next++
		listener, err := net.Listen("tcp", fmt.Sprint(":", ports.next))
		if err == nil {
			listener.Close()
			return strconv.Itoa(ports.next)
		}
	}
	t.Fatal("no free port")
	return ""
}

var ports = struct {
	sync.Mutex
	next int // begins where another run does not
}{next: 20000 + os.Getpid()%9000}
