package children

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// soon bounds what takes a moment, on a machine that has much else to do. It is
// less than the time after which beStubborn ends by itself.
const soon = 30 * time.Second

// role in the environment makes the test binary something else than the tests.
const role = "CHILDREN_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "parent":
		beParent(start)
	case "supervised":
		Supervise()
		beParent(start)
	case "dies before it tells":
		Supervise()
		beParent(func(cmd *exec.Cmd, stdin *os.File) error {
			if _, err := expect(stdin); err != nil {
				return err
			}
			ownGroup(cmd)
			cmd.SysProcAttr.Pdeathsig = 0 // so that nothing else ends it
			return cmd.Start()
		})
	case "supervisor is killed":
		Supervise()
		beParent(func(cmd *exec.Cmd, stdin *os.File) error {
			if err := start(cmd, stdin); err != nil {
				return err
			}
			_ = supervisor.cmd.Process.Kill()
			_ = supervisor.cmd.Wait()
			another := exec.Command("cat")
			in, stdin, err := os.Pipe()
			if err != nil {
				return err
			}
			another.Stdin = in
			return start(another, stdin)
		})
	case "stubborn":
		beStubborn()
	}
	goleak.VerifyTestMain(mcptest.Settled(m))
}

func start(cmd *exec.Cmd, stdin *os.File) error {
	_, err := Start(cmd, stdin, slog.Default())
	return err
}

// beParent starts the command that the arguments are, and waits to be killed.
// What it has started, and nothing else, holds its stderr open then.
func beParent(start func(*exec.Cmd, *os.File) error) {
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	in, stdin, err := os.Pipe()
	if err == nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), role+"=stubborn")
		err = start(cmd, stdin)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	in.Close()
	for {
		time.Sleep(time.Hour)
		runtime.KeepAlive(stdin)
	}
}

// beStubborn ends by SIGKILL alone, and says when it has come so far.
func beStubborn() {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	fmt.Println("ready")
	time.Sleep(time.Minute) // not for ever, should the test fail
	os.Exit(0)
}

// A parent is a process that has started a child.
type parent struct {
	*exec.Cmd
	started []int         // all processes below it
	gone    chan struct{} // closed when all that hold its stderr are gone
}

// startParent starts a parent in a role, and waits until its child is ready.
func startParent(t *testing.T, as string, command ...string) *parent {
	t.Helper()
	p := &parent{Cmd: exec.Command(os.Args[0], command...), gone: make(chan struct{})}
	p.Env = append(os.Environ(), role+"="+as, "GORACE=atexit_sleep_ms=0")
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	hold, held, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stderr = held
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	held.Close()
	go func() {
		defer close(p.gone)
		_, _ = io.Copy(os.Stderr, hold)
	}()
	t.Cleanup(func() {
		for _, pid := range append(p.started, p.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = p.Wait()
		hold.Close()
		<-p.gone
	})
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	p.started = below(p.Process.Pid)
	if line != "ready\n" {
		t.Fatalf("the child says %q", line)
	}
	return p
}

// kill kills the parent, and checks that nothing it has started is left in time.
func (p *parent) kill(t *testing.T) {
	t.Helper()
	began := time.Now()
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.gone:
		t.Logf("gone after %v", time.Since(began))
	case <-time.After(soon):
		t.Fatalf("some are there after %v", soon)
	}
	// Those that do not hold its stderr, such as the supervisor.
	_ = p.Wait()
	for slices.ContainsFunc(p.started, func(pid int) bool { return stat(pid) != nil }) {
		if time.Since(began) > soon {
			t.Fatalf("some of %v are there", p.started)
		}
		time.Sleep(time.Millisecond)
	}
}

// below returns the processes that a process has started, and theirs.
func below(pid int) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		child, _ := strconv.Atoi(filepath.Base(dir))
		if s := stat(child); s != nil && s.parent == pid {
			pids = append(append(pids, child), below(child)...)
		}
	}
	return pids
}

func TestChildDiesWithAKilledParent(t *testing.T) {
	startParent(t, "parent", os.Args[0]).kill(t)
}

// What a server looks like under npx, uvx and shells. The server itself ignores
// the end of its input, and all signals that can be ignored.
func TestSupervisorEndsWhatIsLeft(t *testing.T) {
	self := os.Args[0]
	for name, command := range map[string][]string{
		"no wrapper":                {self},
		"a wrapper":                 {"sh", "-c", `"$0"; true`, self},
		"two wrappers":              {"sh", "-c", `sh -c '"$0"; true' "$0"; true`, self},
		"a stubborn wrapper":        {"sh", "-c", `trap "" TERM HUP; "$0"; true`, self},
		"another session":           {"sh", "-c", `setsid "$0"; true`, self},
		"another session, twice":    {"sh", "-c", `setsid sh -c 'setsid "$0"; true' "$0"; true`, self},
		"without the pipe":          {"sh", "-c", `"$0" </dev/null; true`, self},
		"a wrapper that is gone":    {"sh", "-c", `"$0" & exit`, self},
		"the wrapper of one, twice": {"sh", "-c", `"$0" & "$0"; true`, self},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			startParent(t, "supervised", command...).kill(t)
		})
	}
}

// It is killed after the child has started and before it has told the child's
// process group.
func TestSupervisorEndsChildWhoseGroupItWasNotTold(t *testing.T) {
	for name, command := range map[string][]string{
		"no wrapper": {os.Args[0]},
		"a wrapper":  {"sh", "-c", `"$0"; true`, os.Args[0]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			startParent(t, "dies before it tells", command...).kill(t)
		})
	}
}

func TestKilledSupervisorIsReplacedWithTheNextChild(t *testing.T) {
	p := startParent(t, "supervisor is killed", "sh", "-c", `"$0"; true`, os.Args[0])
	// The first supervisor is there until the next child is to be started.
	for began := time.Now(); len(named(p, "cat")) != 1 || len(named(p, title)) != 1; time.Sleep(time.Millisecond) {
		if p.started = below(p.Process.Pid); time.Since(began) > soon {
			t.Fatalf("there are the supervisors %v, and the next child is %v", named(p, title), named(p, "cat"))
		}
	}
	p.kill(t)
}

// The signals that end us, from the terminal or from an init system that sends
// them to all we have started, do not end the supervisor.
func TestSupervisorOutlivesSignals(t *testing.T) {
	p := startParent(t, "supervised", "sh", "-c", `"$0"; true`, os.Args[0])
	all := named(p, title)
	if len(all) != 1 {
		t.Fatalf("there are the supervisors %v", all)
	}
	pid := all[0]
	if s := stat(pid); s.session != pid || s.group != pid {
		t.Errorf("the supervisor is in %+v", *s)
	}
	signals := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT}
	for began := time.Now(); !ignores(t, pid, signals); time.Sleep(time.Millisecond) {
		if time.Since(began) > soon {
			t.Fatal("the supervisor ignores no signals")
		}
	}
	for _, signal := range signals {
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
	}
	p.kill(t)
}

// ignores reports whether a process ignores signals.
func ignores(t *testing.T, pid int, signals []syscall.Signal) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "SigIgn:")
	var mask uint64
	fmt.Sscanf(rest, "%x", &mask)
	return !slices.ContainsFunc(signals, func(s syscall.Signal) bool { return mask&(1<<(s-1)) == 0 })
}

// named are the processes whose command line starts so.
func named(p *parent, start string) (pids []int) {
	for _, pid := range p.started {
		if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(line), start) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A child that is gone is no business of the supervisor's: its number may be
// another's by now.
func TestSupervisorForgetsWhatIsOver(t *testing.T) {
	sleeper := func() (*exec.Cmd, func() string) {
		cmd := exec.Command("sleep", "60")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd, func() string { _ = cmd.Wait(); return cmd.ProcessState.String() }
	}
	known, end := sleeper()
	forgotten, _ := sleeper()
	reaped := make(chan string, 1)
	go func() { reaped <- end() }()
	// There is no pipe with such a number.
	watchOver(strings.NewReader(fmt.Sprintf("1 0\n1 %d\nno line of ours\n2 %d\n2 -1\n", known.Process.Pid, forgotten.Process.Pid)))
	if state := <-reaped; state != "signal: terminated" {
		t.Errorf("a child that is known ended with %s", state)
	}
	if stat(forgotten.Process.Pid) == nil {
		t.Error("a child that is over was ended")
	}
}

// A death signal comes with the end of a thread. Go ends the thread of a
// goroutine that was locked to it when the goroutine ends.
func TestChildOutlivesThreads(t *testing.T) {
	var child *Child
	var in, out *os.File
	var doom func(f func())
	doom = func(f func()) {
		var wg sync.WaitGroup
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocked
			if syscall.Gettid() == os.Getpid() {
				doom(f) // not here: the main thread does not end
				return
			}
			f()
		})
		wg.Wait()
	}
	doom(func() {
		cmd := exec.Command("cat")
		var err error
		var stdin, stdout *os.File
		if stdin, in, err = os.Pipe(); err != nil {
			t.Error(err)
			return
		}
		if out, stdout, err = os.Pipe(); err != nil {
			t.Error(err)
			return
		}
		cmd.Stdin, cmd.Stdout = stdin, stdout
		if child, err = Start(cmd, in, slog.Default()); err != nil {
			t.Error(err)
		}
		stdin.Close()
		stdout.Close()
	})
	if t.Failed() {
		t.FailNow()
	}
	lines := bufio.NewReader(out)
	for range 50 {
		doom(func() {})
		runtime.Gosched()
		if _, err := io.WriteString(in, "hello\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := lines.ReadString('\n'); line != "hello\n" || err != nil {
			t.Fatalf("the child says %q, %v", line, err)
		}
	}
	in.Close()
	state, err := child.Process.Wait()
	if err != nil || !state.Success() {
		t.Errorf("the child has ended with %v, %v", state, err)
	}
	child.Release()
	out.Close()
	if current != nil {
		t.Error("the thread is kept for nobody")
	}
}

// Children share a thread, and it lasts until the last of them is gone.
func TestThreadLastsUntilTheLastChildIsGone(t *testing.T) {
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 50 {
				a := enterThread()
				ran := false
				a.do(func() { ran = true })
				b := enterThread()
				if a != b || !ran {
					t.Errorf("threads %p and %p, ran %v", a, b, ran)
				}
				a.leave()
				b.do(func() {})
				b.leave()
			}
		})
	}
	all.Wait()
	if current != nil {
		t.Errorf("the thread is kept for %d", current.users)
	}
}

func TestStartFails(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	if c, err := Start(exec.Command("/no/such/program"), out, slog.Default()); err == nil || c != nil {
		t.Errorf("got %v, %v", c, err)
	}
	if current != nil {
		t.Error("the thread is kept for nobody")
	}
}
