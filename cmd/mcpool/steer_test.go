//go:build unix

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// steered is how many clients call while a gateway is steered.
const steered = 64

// A modernClient is one of the modern era, as plain as client.
type modernClient struct {
	http *http.Client
	url  string
	ids  atomic.Int64
}

func (c *modernClient) call(ctx context.Context, tool, id string) (string, error) {
	n := c.ids.Add(1)
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": map[string]any{
		"name": tool, "arguments": map[string]any{"id": id, "text": id},
		"_meta": map[string]any{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": map[string]any{}},
	}})
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool} {
		r.Header.Set(name, value)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(text), strconv.Quote(id)) {
		return "", fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return "", nil
}

// onceSent has net/http not make a request again that it has sent: what fails is
// to be seen.
type onceSent struct{ http.RoundTripper }

func (o onceSent) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.GetBody = nil
	return o.RoundTripper.RoundTrip(r)
}

// A load is clients of both eras that call for as long as it lasts. None of
// their calls may fail.
type load struct {
	t      testing.TB
	counts *tally
	over   atomic.Bool
	all    sync.WaitGroup
	calls  atomic.Int64
}

// A caller calls a tool of mcptest on behalf of a client, for the call named id.
type caller func(ctx context.Context, tool, id string) (session string, err error)

// beginLoad has clients over HTTP, of both eras, call each server.
func beginLoad(t testing.TB, url string, servers ...string) *load {
	t.Helper()
	var callers []caller
	for i := range steered {
		h := web(t) // with connections of its own
		h.Transport = onceSent{h.Transport}
		callers = append(callers, callerOf(t, h, url+"/mcp/"+servers[i%len(servers)], i/len(servers)%2 == 1))
	}
	return newLoad(t, callers)
}

// callerOf makes a client of an endpoint, of one of the eras.
func callerOf(t testing.TB, h *http.Client, endpoint string, modern bool) caller {
	t.Helper()
	if modern {
		return (&modernClient{http: h, url: endpoint}).call
	}
	return connect(t, h, endpoint).call
}

// newLoad has clients call the tools write and echo.
func newLoad(t testing.TB, callers []caller) *load {
	l := &load{t: t, counts: newTally(len(callers))}
	for i, call := range callers {
		l.all.Go(func() {
			for j := 0; !l.over.Load(); j++ {
				tool := []string{"write", "echo"}[j%2]
				if _, err := call(t.Context(), tool, fmt.Sprintf("%s %d of %d", tool, j, i)); err != nil {
					t.Errorf("client %d, call %d: %v", i, j, err)
					l.over.Store(true)
				}
				l.calls.Add(1)
				l.counts.add(i)
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.over.Store(true)
	l.all.Wait()
}

// goOn waits until each client has made calls that have begun after this.
func (l *load) goOn() {
	l.t.Helper()
	l.counts.awaitTwoOfEach(l.t)
}

// replace writes a file as a whole, as editors do.
func replace(t testing.TB, file, text string) {
	t.Helper()
	next := filepath.Join(filepath.Dir(file), "next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
}

// steer sends a signal to a process.
func (p *program) steer(t testing.TB, pid int, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatal(err)
	}
}

// reconfigure has a program read a file again that has another text, and waits
// for that. The file may be read without a signal as well, before or after.
func (p *program) reconfigure(t testing.TB, file, text string) {
	t.Helper()
	const done = `msg="configuration reloaded"`
	replace(t, file, text)
	before := strings.Count(p.err.String(), done)
	p.steer(t, p.process.Pid, syscall.SIGHUP)
	p.times(t, done, before+1)
}

// times waits until something was logged so many times.
func (p *program) times(t testing.TB, what string, n int) {
	t.Helper()
	p.await(t, &p.err, fmt.Sprintf(`(?s)(%s.*){%d}`, what, n))
}

// awaitWaiting waits until so many callers wait in the pools of servers.
func (p *program) awaitWaiting(t testing.TB, n int, servers ...string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		waiting := 0
		for _, server := range servers {
			waiting += p.pool(t, server).Stats.Waiting
		}
		if waiting == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d callers wait, want %d", waiting, n)
		}
	}
}

// awaitEnds waits until so many children have ended.
func (w *witness) awaitEnds(t testing.TB, n int) {
	t.Helper()
	for range n {
		w.awaitEnd(t)
	}
}

// calm is a configuration of servers of each kind of sharing over HTTP, and one
// over stdio. At one of them calls wait all the time.
func calm(legacy, modern, child string) string {
	return fmt.Sprintf(`{"mcpServers": {
		"shared": {"url": %q, "pool": {"sharing": "shared", "calls_per_connection": 1, "max_connections": 4}},
		"principal": {"url": %q, "pool": {"sharing": "principal"}},
		"stdio": %s}}`, legacy, modern, child)
}

// TestReloadUnderLoadFailsNoCall has each kind of change made while clients call.
func TestReloadUnderLoadFailsNoCall(t *testing.T) {
	w := newWitness(t)
	legacy, modern := &mcptest.Server{CallDelay: 2 * time.Millisecond}, &mcptest.Server{CallDelay: 2 * time.Millisecond, Modern: true}
	moved := &mcptest.Server{CallDelay: 2 * time.Millisecond}
	at, there, elsewhere := upstream(t, legacy), upstream(t, modern), upstream(t, moved)
	child := sharedEntry(w.child(mcptest.Normal))
	file := configure(t, "mcp.json", "%s", calm(at, there, child))
	p := serveChild(t, "--config", file)
	l := beginLoad(t, p.url, "shared", "principal", "stdio")
	l.goOn()
	opened := p.pool(t, "principal").Stats.Opened
	for round, next := range []string{
		calm(elsewhere, there, child), // one is elsewhere
		strings.Replace(calm(elsewhere, there, child), `"sharing": "principal"`, `"sharing": "principal", "max_connections": 3`, 1), // other settings
		calm(elsewhere, there, strings.Replace(child, `"env": {`, `"env": {"ROUND": "2", `, 1)),                                     // other children
		strings.Replace(calm(at, there, child), `{"mcpServers": {`, `{"limits": {"max_connections": 500}, "mcpServers": {`, 1),      // others all
		strings.Replace(calm(at, there, child), `"mcpServers": {`, `"mcpServers": {"fresh": {"url": "`+elsewhere+`"}, `, 1),         // all again, and one more
	} {
		p.reconfigure(t, file, next)
		l.goOn()
		if round == 2 {
			if s := p.pool(t, "principal").Stats; s.Opened != opened {
				t.Errorf("a server that is reached as before was connected to again: %d, before %d", s.Opened, opened)
			}
		}
	}
	if moved.Sessions() == 0 {
		t.Error("no call was made where the server is now")
	}
	// All others while they are paused: who waits goes to those, and is served when
	// these are resumed.
	p.operate(t, "pause", "--all")
	p.awaitWaiting(t, steered, "shared", "principal", "stdio")
	p.reconfigure(t, file, calm(elsewhere, there, strings.Replace(child, `"env": {`, `"env": {"ROUND": "6", `, 1)))
	p.awaitWaiting(t, steered, "shared", "principal", "stdio")
	calls := l.calls.Load()
	p.operate(t, "resume", "--all")
	if now := l.calls.Load(); now > calls+steered {
		t.Errorf("%d calls ended while all was paused", now-calls)
	}
	l.goOn()
	l.end()
	t.Logf("%d calls in 6 reloads", l.calls.Load())
	p.stop()
	p.end(t)
	w.awaitEnds(t, w.started())
}

// TestReloadUnderLoadOfPrincipals has servers with sessions, each of which is of
// one principal, cycled while principals call. None meets the session of another,
// and none of those that were opened is left.
func TestReloadUnderLoadOfPrincipals(t *testing.T) {
	w, first, moved := newWitness(t), slowed(false), slowed(false)
	at, elsewhere := upstream(t, first), upstream(t, moved)
	child := strings.Replace(w.child(mcptest.Normal), "{", `{"pool": {"sharing": "principal"}, `, 1)
	keys, lines := make([]string, 4), make([]string, 4)
	for i := range keys {
		keys[i], lines[i] = issueKey(t, fmt.Sprint("principal", i))
	}
	keyFile := configure(t, "keys", "%s\n", strings.Join(lines, "\n"))
	config := func(url, pool, child string) string {
		return fmt.Sprintf(`{"mcpServers": {"web": {"url": %q, "pool": {"sharing": "principal"%s}}, "stdio": %s}, "auth": {"key_file": %q}}`, url, pool, child, keyFile)
	}
	file := configure(t, "mcp.json", "%s", config(at, "", child))
	p := serveChild(t, "--config", file)

	type meeting struct{ principal, session, call string }
	met := make([][]meeting, steered) // by client
	var callers []caller
	for i := range steered {
		h := web(t)
		h.Transport = bearing{onceSent{h.Transport}, keys[i%4]}
		call := callerOf(t, h, p.url+"/mcp/"+[]string{"web", "stdio"}[i/4%2], i/8%2 == 1)
		callers = append(callers, func(ctx context.Context, tool, id string) (string, error) {
			session, err := call(ctx, tool, id)
			if session != "" { // which a modern client is not told
				met[i] = append(met[i], meeting{fmt.Sprint("principal", i%4), session, id})
			}
			return session, err
		})
	}
	l := newLoad(t, callers)
	l.goOn()
	for round, next := range []string{
		config(at, `, "idle_timeout": 700`, child),                                             // other settings
		config(elsewhere, `, "idle_timeout": 700`, child),                                      // elsewhere
		config(elsewhere, "", strings.Replace(child, `"env": {`, `"env": {"ROUND": "2", `, 1)), // other children
		config(at, "", child), // all as at first
	} {
		p.reconfigure(t, file, next)
		l.goOn()
		if n := first.Deletes(); round == 0 && n != 0 {
			t.Errorf("other settings ended %d sessions", n)
		}
	}
	l.end()
	owners, ofMoved := make(map[string]string), moved.Executions()
	for _, m := range slices.Concat(met...) {
		if ofMoved[m.call] > 0 {
			m.session += " of the other server"
		}
		if owner := cmp.Or(owners[m.session], m.principal); owner != m.principal {
			t.Errorf("%s met %s of %s", m.principal, m.session, owner)
		}
		owners[m.session] = m.principal
	}
	t.Logf("%d calls in 4 reloads, in %d sessions", l.calls.Load(), len(owners))
	p.stop()
	p.end(t)
	w.awaitEnds(t, w.started())
	ranOnce(t, first, moved)
	for _, server := range []*mcptest.Server{first, moved} {
		if opened, ended := server.Sessions(), server.Deletes(); opened < 4 || opened != ended {
			t.Errorf("%d sessions were opened, and %d ended", opened, ended)
		}
	}
}

// A file is wrong in whatever way: all goes on as it was, and the log says why.
func TestABadFileChangesNothing(t *testing.T) {
	server := &mcptest.Server{}
	good := fmt.Sprintf(`{"mcpServers": {"one": {"url": %q}}}`, upstream(t, server))
	file := configure(t, "mcp.json", "%s", good)
	p := serveChild(t, "--config", file)
	c := connect(t, web(t), p.url+"/mcp")
	for i, test := range []struct{ text, says string }{
		{`{"mcpServers": {"one": {"uri": "http://a"}}}`, "unknown key"},
		{`{"mcpServers": {"a": {"url": "http://a"}, "a__b": {"url": "http://b"}}}`, "its tool names could be those of server"},
		{`{"databases": {"a": {"dsn": "oracle://a"}}}`, "is not supported"},
		{`{}`, "no server"},
	} {
		replace(t, file, test.text)
		p.steer(t, p.process.Pid, syscall.SIGHUP)
		p.times(t, `nothing has changed" error=[^\n]*`+test.says, 1)
		if _, err := c.call(t.Context(), "echo", strconv.Itoa(i)); err != nil {
			t.Error(err)
		}
	}
	replace(t, file, good)
	p.steer(t, p.process.Pid, syscall.SIGHUP)
	p.await(t, &p.err, `msg="configuration reloaded" added="" removed="" changed=""`)
	if n := server.Sessions(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A storm of signals is a few reloads, the last of them after the last signal.
func TestAStormOfSignals(t *testing.T) {
	server := &mcptest.Server{}
	entry := fmt.Sprintf(`{"url": %q}`, upstream(t, server))
	file := configure(t, "mcp.json", `{"mcpServers": {"one": %s}}`, entry)
	p := serveChild(t, "--config", file)
	c := connect(t, web(t), p.url+"/mcp/one")
	for range 500 {
		p.steer(t, p.process.Pid, syscall.SIGHUP)
	}
	replace(t, file, fmt.Sprintf(`{"mcpServers": {"one": %s, "last": %[1]s}}`, entry))
	p.steer(t, p.process.Pid, syscall.SIGHUP)
	p.await(t, &p.err, `msg="configuration reloaded" added=last`)
	if _, err := c.call(t.Context(), "echo", "after"); err != nil {
		t.Error(err)
	}
	if n := server.Sessions(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// The file is looked at without a signal, too.
func TestAFileThatChangesIsTaken(t *testing.T) {
	entry := fmt.Sprintf(`{"url": %q}`, upstream(t, &mcptest.Server{}))
	file := configure(t, "mcp.json", `{"mcpServers": {"one": %s}}`, entry)
	p := serve(t, "--config", file, "--log-level", "error")
	replace(t, file, fmt.Sprintf(`{"mcpServers": {"two": %s}, "log": {"access": "all"}}`, entry))
	deadline := time.After(patience)
	for { // by what it does: it was told to log nothing
		if status, _ := get(t, p.url+"/mcp/two"); status == http.StatusMethodNotAllowed {
			break
		}
		select {
		case <-deadline:
			t.Fatal("it is not taken")
		default:
		}
	}
	if status, _ := get(t, p.url+"/mcp/one"); status != http.StatusNotFound {
		t.Errorf("the server that is gone: status %d", status)
	}
}

// A notifySocket is where systemd is told things.
func notifySocket(t testing.TB) (path string, told func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "mcpool") // a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return path, func() string {
		t.Helper()
		text := make([]byte, 1000)
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		n, err := conn.Read(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(text[:n])
	}
}

// A program that systemd starts gets its socket from it, and tells it how it
// goes.
func TestSystemd(t *testing.T) {
	path, told := notifySocket(t)
	file := configure(t, "mcp.json", `{"mcpServers": {"one": {"url": %q}}}`, upstream(t, &mcptest.Server{}))
	listener, err := net.Listen("tcp", somewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	other, err := net.Listen("tcp", somewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	// LISTEN_PID is only known to the process itself: sh becomes the program.
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "200000")
	cmd := commandLine(t)
	cmd.Path = "/bin/sh"
	cmd.Args = []string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=other:mcpool exec "$@"`, "sh", testBinary(t), "serve", "--config", file}
	for _, l := range []net.Listener{other, listener} {
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	p := startCommand(t, cmd).greeted(t)
	if want := "http://" + listener.Addr().String(); p.url != want {
		t.Errorf("it listens at %s, want %s", p.url, want)
	}
	// skip takes what is told up to something.
	skip := func(what string) string {
		t.Helper()
		for range 1000 {
			if text := told(); strings.HasPrefix(text, what) {
				return text
			}
		}
		t.Fatalf("%s is not told", what)
		return ""
	}
	skip("READY=1")
	skip("WATCHDOG=1")
	skip("WATCHDOG=1")
	if _, err := connect(t, web(t), p.url+"/mcp").call(t.Context(), "echo", "x"); err != nil {
		t.Error(err)
	}
	p.steer(t, p.process.Pid, syscall.SIGHUP)
	if text := skip("RELOADING=1"); !strings.Contains(text, "\nMONOTONIC_USEC=") {
		t.Errorf("it tells %q", text)
	}
	skip("READY=1")
	next := p.restarted(t, p.process.Pid, 1)
	if text := skip("READY=1\nMAINPID"); text != fmt.Sprintf("READY=1\nMAINPID=%d", next) {
		t.Errorf("it tells %q", text)
	}
	p.times(t, "msg=stopped", 1)
	skip("WATCHDOG=1") // of the new one
	if _, err := connect(t, web(t), p.url+"/mcp").call(t.Context(), "echo", "x"); err != nil {
		t.Error(err)
	}
	p.stop()
	skip("STOPPING=1")
	p.end(t)
}

// A program that hangs does not say that it lives.
func TestAnswers(t *testing.T) {
	hang := make(chan struct{})
	listener, err := net.Listen("tcp", somewhere)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
			<-r.Context().Done()
		default:
		}
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	if err := answers(t.Context(), "http", listener.Addr()); err != nil {
		t.Error(err)
	}
	close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := answers(ctx, "http", listener.Addr()); err == nil {
		t.Error("a server that hangs answers")
	}
	server.Close()
	<-served
	if err := answers(t.Context(), "http", listener.Addr()); err == nil {
		t.Error("a server that is not there answers")
	}
}

// The socket that a program is started with may not be beyond loopback either.
func TestAnInheritedSocketBeyondLoopbackIsRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	f, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := startCommand(t, activated(t, f))
	p.want = 2
	p.end(t)
	if !strings.Contains(p.err.String(), "that this program was started with is beyond loopback") {
		t.Errorf("it says %s", &p.err)
	}
}

// The socket may be a Unix socket: who may connect is said by its modes.
func TestAnInheritedUnixSocketIsServed(t *testing.T) {
	dir, err := os.MkdirTemp("", "mcpool") // a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	f, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := startCommand(t, activated(t, f))
	url := p.await(t, &p.out, `(?s)MCP +(http\+unix://\S+)/mcp\n.*  try .* --url http\+unix:.*\n`)
	if strings.Contains(p.out.String(), "page ") {
		t.Errorf("it shows a page where no browser gets: %s", &p.out)
	}
	if err := answers(t.Context(), "http", listener.Addr()); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"health"}, 0, "ok\n"},
		{[]string{"tools"}, 0, "read_data "},
		{[]string{"call", "list_tables", "--server", "sales"}, 0, "sales"},
		{[]string{"show", "pools"}, 1, "this wants a token"},
	} {
		if status, out, stderr := finish(t, append(test.args, "--url", url)...); status != test.status || !strings.Contains(out+stderr, test.says) {
			t.Errorf("%q: status %d, %q, %q", test.args, status, out, stderr)
		}
	}
	p.stop()
	p.end(t)
}

// activated is the command serve, started with a socket as by systemd.
func activated(t testing.TB, socket *os.File) *exec.Cmd {
	t.Helper()
	cmd := commandLine(t)
	// LISTEN_PID is only known to the process itself: sh becomes the program.
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh", testBinary(t), "serve"}
	cmd.ExtraFiles = []*os.File{socket}
	return cmd
}
