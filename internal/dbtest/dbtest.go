//go:build unix

// Package dbtest starts private database servers for tests: on loopback, in a
// directory of their own, and never as root. Tests alone may import it.
//
// A test is skipped, and says what is missing, where a server's programs are
// not on the machine. A package whose tests share a server ends it in its
// TestMain:
//
//	goleak.VerifyTestMain(mcptest.Settled(dbtest.Servers(m)))
package dbtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Servers returns m so that the servers shared by its tests end behind them.
func Servers(m *testing.M) interface{ Run() int } { return servers{m} }

type servers struct{ *testing.M }

func (s servers) Run() int {
	status := s.M.Run()
	shared.Lock()
	defer shared.Unlock()
	for _, end := range shared.ends {
		end()
	}
	shared.ends = nil
	return status
}

// shared are the servers that all tests of a process use.
var shared struct {
	sync.Mutex
	ends []func() // each ends one
}

// starting is how long a server may take to be ready, or to end.
const starting = time.Minute

// program returns the path of a server's program, from PATH or the directories
// that the patterns fit. Without it the test is skipped.
func program(t testing.TB, name string, directories ...string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return path
		}
	}
	for _, d := range directories {
		found, _ := filepath.Glob(filepath.Join(d, name))
		if len(found) > 0 {
			return found[len(found)-1]
		}
	}
	t.Skipf("skipped: no program %s in PATH or %s", name, strings.Join(directories, ", "))
	return ""
}

// A home is where a server lives: the user that it runs as and a directory that
// is only for it.
type home struct {
	dir        string
	credential *syscall.Credential // nil for that of the test
}

// newHome makes a directory. Where the test runs as root it is for the first of
// the users that there is, or for nobody.
func newHome(t testing.TB, users ...string) *home {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mcpool-dbtest-") // short, as the paths of sockets have to be
	if err != nil {
		t.Fatal(err)
	}
	h := &home{dir: dir}
	if os.Getuid() != 0 {
		return h
	}
	for _, name := range append(users, "nobody") {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		h.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return h
	}
	os.RemoveAll(dir)
	t.Skipf("skipped: servers do not run as root, and there is no user %s", strings.Join(users, ", "))
	return nil
}

// remove deletes the directory.
func (h *home) remove() { os.RemoveAll(h.dir) }

// write makes a file that the server alone can read.
func (h *home) write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	h.own(t, path)
	return path
}

// own gives a file to the user that the server runs as.
func (h *home) own(t testing.TB, path string) {
	t.Helper()
	if c := h.credential; c != nil {
		if err := os.Chown(path, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// command is a program that runs in the directory as its user.
func (h *home) command(path string, args ...string) *exec.Cmd {
	c := exec.Command(path, args...)
	c.Dir = h.dir
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir, "LC_ALL=C.UTF-8", "TZ=UTC"}
	c.SysProcAttr = attributes(h.credential)
	return c
}

// run runs a program to its end.
func (h *home) run(t testing.TB, path string, args ...string) string {
	t.Helper()
	out, err := h.command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(path), err, out)
	}
	return string(out)
}

// A process is a server that runs.
type process struct {
	cmd    *exec.Cmd
	signal os.Signal // that ends it at once
	ended  chan struct{}
	log    *tail
}

// start starts a server and returns when it has written a line with ready to
// its standard error. It dies with the test's process.
func (h *home) start(signal os.Signal, ready string, path string, args ...string) (*process, error) {
	p := &process{cmd: h.command(path, args...), signal: signal, ended: make(chan struct{}), log: &tail{}}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	isReady := make(chan struct{})
	go func() {
		defer close(p.ended)
		// The kernel ends the server when the thread ends that started it
		// (prctl(2), PR_SET_PDEATHSIG), so the thread is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.follow(stderr, ready, isReady)
		_ = p.cmd.Wait() // that it was ended is no news
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	select {
	case <-isReady:
		return p, nil
	case <-p.ended:
		err = errors.New("it ended")
	case <-time.After(starting):
		err = fmt.Errorf("it was not ready in %v", starting)
	}
	p.stop()
	return nil, fmt.Errorf("%s: %w\n%s", filepath.Base(path), err, p.log)
}

// follow reads what the server says until it says no more.
func (p *process) follow(stderr io.Reader, ready string, isReady chan struct{}) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.log.add(lines.Text())
		if isReady != nil && strings.Contains(lines.Text(), ready) {
			close(isReady)
			isReady = nil
		}
	}
	_, _ = io.Copy(io.Discard, stderr) // behind a line that was too long
}

// stop ends the server, and returns when it is gone.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(p.signal)
	select {
	case <-p.ended:
	case <-time.After(starting):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// A tail is the last lines of a log.
type tail struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (l *tail) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines = append(l.lines, line); len(l.lines) > 40 {
		l.lines = l.lines[1:]
	}
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
