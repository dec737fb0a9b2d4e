package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

const (
	// asCommand in the environment makes the test binary the command itself.
	asCommand = "MCPOOL_TEST_AS_COMMAND"
	// witnessed in the environment is an address that the process stays
	// connected to for as long as it lives.
	witnessed = "MCPOOL_TEST_WITNESS"
)

// patience is how long a test waits for what has to come. No test passes
// because of it.
const patience = 30 * time.Second

// withServers ends the database servers of the tests behind them, where there
// can be some.
var withServers = func(m *testing.M) goleak.TestingM { return m }

func TestMain(m *testing.M) {
	if addr := os.Getenv(witnessed); addr != "" {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			panic(err)
		}
		defer conn.Close() // the process exits before that
	}
	mcptest.StdioMain()
	if os.Getenv(asCommand) != "" {
		main()
	}
	if os.Getenv(witnessed) != "" {
		panic("this process was started to be something, and not the tests again")
	}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, mcpool.EnvPrefix) {
			os.Unsetenv(name)
		}
	}
	state, err := os.MkdirTemp("", "mcpool-state")
	if err != nil {
		panic(err)
	}
	os.Unsetenv("STATE_DIRECTORY")
	os.Setenv("XDG_STATE_HOME", state)
	// Under the race detector it takes longer than a call of a test may.
	if _, err := dbserver.Sample(context.Background(), cacheFolder()); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(mcptest.Settled(withServers(m)), goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(state) // of a temporary folder nobody needs to know
		os.Exit(code)
	}))
}

// An output is what a program has written, and tells when there is more.
type output struct {
	mu   sync.Mutex // guards what follows
	text bytes.Buffer
	more chan struct{} // closed by the next Write; nil if nobody waits
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more != nil {
		close(o.more)
		o.more = nil
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}

// read returns what there is, and a channel that is closed when there is more.
func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more == nil {
		o.more = make(chan struct{})
	}
	return o.text.String(), o.more
}

// A program is the command, running.
type program struct {
	url      string // http://HOST:PORT, if it listens
	out, err output
	stop     func()        // tells it to end, as a signal does
	want     int           // the status that it has to end with
	ended    chan struct{} // closed when it has ended
	status   int           // that it has ended with

	// Of a process of its own.
	process *os.Process
	in      io.WriteCloser
}

// start runs the command in this process until the test ends.
func start(t testing.TB, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{stop: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.status = run(ctx, args, stdio{strings.NewReader(""), &p.out, &p.err})
	}()
	p.cleanup(t)
	return p
}

// startChild runs the command in a process of its own until the test ends.
func startChild(t testing.TB, args ...string) *program {
	t.Helper()
	return startCommand(t, commandLine(t, args...))
}

// startCommand runs a command until the test ends.
func startCommand(t testing.TB, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{ended: make(chan struct{})}
	p.stop = func() { _ = cmd.Process.Signal(syscall.SIGTERM) } // fails if it has ended
	cmd.Stdout, cmd.Stderr = &p.out, &p.err
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.process = cmd.Process
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // the status says it all
		p.status = cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	p.cleanup(t)
	return p
}

// commandLine makes the command of a child process: the test binary.
func commandLine(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("processes cannot be sent signals on Windows")
	}
	cmd := exec.Command(testBinary(t), args...)
	// Under the race detector a process takes a second to exit, of its own.
	cmd.Env = append(os.Environ(), asCommand+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// testBinary is the path of this program.
func testBinary(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (p *program) cleanup(t testing.TB) {
	t.Cleanup(func() {
		p.stop()
		p.end(t)
	})
}

// end waits for the end of the program and checks its status.
func (p *program) end(t testing.TB) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("it does not end; it has written\n%s%s", &p.out, &p.err)
	}
	if p.status != p.want {
		t.Errorf("it ended with status %d, want %d; it has written\n%s%s", p.status, p.want, &p.out, &p.err)
	}
}

// await waits until the program has written something that matches, and
// returns what the pattern's group matched.
func (p *program) await(t testing.TB, o *output, pattern string) string {
	t.Helper()
	exp := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for last := false; ; {
		text, more := o.read()
		if match := exp.FindStringSubmatch(text); match != nil {
			return match[len(match)-1]
		}
		if last {
			t.Fatalf("it ended with status %d and did not write %q, but\n%s%s", p.status, pattern, &p.out, &p.err)
		}
		select {
		case <-more:
		case <-p.ended:
			last = true // what it wrote at its end is still to be read
		case <-deadline:
			t.Fatalf("it did not write %q, but\n%s%s", pattern, &p.out, &p.err)
		}
	}
}

const somewhere = "127.0.0.1:0"

// serve starts a gateway in this process and waits until it listens.
func serve(t testing.TB, args ...string) *program {
	t.Helper()
	return start(t, append([]string{"serve", "--listen", somewhere}, args...)...).greeted(t)
}

// serveChild starts a gateway in a process of its own.
func serveChild(t testing.TB, args ...string) *program {
	t.Helper()
	return startChild(t, append([]string{"serve", "--listen", somewhere}, args...)...).greeted(t)
}

func (p *program) greeted(t testing.TB) *program {
	t.Helper()
	p.url = p.await(t, &p.out, `(?s)MCP +(http://\S+)/mcp\n.*  try .*\n`)
	return p
}

// serveDB starts a database server over HTTP in this process.
func serveDB(t testing.TB, args ...string) *program {
	t.Helper()
	p := start(t, append([]string{"db", "--listen", somewhere}, args...)...)
	p.url = p.await(t, &p.err, `mcp=(http://\S+)/mcp`)
	return p
}

// finish runs a command to its end in this process.
func finish(t testing.TB, args ...string) (status int, out, err string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("it does not end"))
	defer cancel()
	var stdout, stderr output
	status = run(ctx, args, stdio{strings.NewReader(""), &stdout, &stderr})
	if ctx.Err() != nil {
		t.Errorf("%q: %v", args, context.Cause(ctx))
	}
	return status, stdout.String(), stderr.String()
}

// configure writes a configuration and returns the file's path.
func configure(t testing.TB, name, format string, args ...any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// behind writes the configuration of one server, named one.
func behind(t testing.TB, url string) string {
	t.Helper()
	return configure(t, "mcp.json", `{"mcpServers": {"one": {"url": %q}}}`, url)
}

// upstream serves a server over HTTP and returns its URL.
func upstream(t testing.TB, server http.Handler) string {
	t.Helper()
	s := httptest.NewServer(server)
	t.Cleanup(s.Close)
	return s.URL + "/mcp"
}

// A gate keeps calls of tools from being answered.
type gate struct {
	arrived chan struct{} // gets one for each call
	opened  chan struct{}
	once    sync.Once
}

func newGate(t testing.TB) *gate {
	g := &gate{arrived: make(chan struct{}, 1000), opened: make(chan struct{})}
	t.Cleanup(g.open)
	return g
}

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

// fault is the Fault of a server behind the gate.
func (g *gate) fault(r *http.Request, method string, _ http.ResponseWriter) bool {
	if method == "tools/call" {
		g.arrived <- struct{}{}
		select {
		case <-g.opened:
		case <-r.Context().Done():
		}
	}
	return false
}

// await waits for a call.
func (g *gate) await(t testing.TB) {
	t.Helper()
	await(t, g.arrived, "no call arrives")
}

// await waits for an event.
func await(t testing.TB, event <-chan struct{}, otherwise string) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		t.Fatal(otherwise)
	}
}

// web returns an HTTP client that leaves nothing behind.
func web(t testing.TB) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// once makes requests on connections that are not kept.
var once = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

// get reads a page.
func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	resp, err := once.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// poolStatus is what the page /status says of a pool.
type poolStatus struct {
	Server string
	Stats  struct {
		Opened, Opening, Connections int
		Calls, Errors, Waiting       int
		Paused                       bool
		ReuseRatio                   float64 `json:"reuse_ratio"`
	}
	Connections []struct {
		ID, State, Era  string
		ProtocolVersion string  `json:"protocol_version"`
		ServerName      string  `json:"server_name"`
		OpenTook        float64 `json:"open_took_seconds"`
		Calls           int
	}
}

// pool returns what the page /status says of a pool.
func (p *program) pool(t testing.TB, server string) poolStatus {
	t.Helper()
	_, body := get(t, p.url+"/status")
	var page struct{ Pools []poolStatus }
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		t.Fatal(err)
	}
	for _, pool := range page.Pools {
		if pool.Server == server {
			return pool
		}
	}
	t.Fatalf("no pool %s in %s", server, body)
	return poolStatus{}
}

// awaitOpenings waits until a pool opens nothing. What it has begun to open for
// callers is opened though they have been served meanwhile.
func (p *program) awaitOpenings(t testing.TB, server string) {
	t.Helper()
	for deadline := time.Now().Add(patience); p.pool(t, server).Stats.Opening > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("there is an opening without end")
		}
	}
}
