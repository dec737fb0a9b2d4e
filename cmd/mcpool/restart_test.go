//go:build unix

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// restarted has the process with a pid restarted, and returns the pid of the
// new one, which is ended with the test.
func (p *program) restarted(t testing.TB, pid, round int) int {
	t.Helper()
	p.steer(t, pid, syscall.SIGUSR2)
	p.times(t, `taken the place of this one" pid=\d+\n`, round)
	said := strings.Split(p.err.String(), `taken the place of this one" pid=`)
	number, _, _ := strings.Cut(said[len(said)-1], "\n")
	next, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	p.stop = func() { _ = syscall.Kill(next, syscall.SIGTERM) }
	return next
}

// restartUnderLoad restarts a program twice while clients call, and then ends it:
// no call may fail, and each process and child has to end.
func (p *program) restartUnderLoad(t testing.TB, l *load, w *witness) {
	t.Helper()
	pid := p.process.Pid
	for round := range 2 {
		l.goOn()
		pid = p.restarted(t, pid, round+1)
		l.goOn()
		p.times(t, "msg=stopped", round+1) // though it has clients that would go on with it
	}
	l.goOn()
	l.end()
	t.Logf("%d calls in 2 restarts", l.calls.Load())
	p.stop()
	p.end(t)
	w.awaitEnds(t, w.started())
	if n := strings.Count(p.err.String(), "msg=stopped"); n != 3 {
		t.Errorf("%d of 3 processes have stopped; they say\n%s", n, &p.err)
	}
}

// ranOnce checks that each call of the tool write ran once.
func ranOnce(t testing.TB, servers ...*mcptest.Server) {
	t.Helper()
	for _, server := range servers {
		for id, times := range server.Executions() {
			if strings.HasPrefix(id, "write") && times != 1 {
				t.Errorf("%s ran %d times", id, times)
			}
		}
	}
}

// slowed is a server whose calls are in flight for a while.
func slowed(modern bool) *mcptest.Server {
	return &mcptest.Server{CallDelay: 2 * time.Millisecond, Modern: modern}
}

// sharedEntry is an entry of mcpServers with sharing: shared.
func sharedEntry(entry string) string {
	return strings.Replace(entry, "{", `{"pool": {"sharing": "shared"}, `, 1)
}

func TestRestartUnderLoadFailsNoCall(t *testing.T) {
	w, legacy, modern := newWitness(t), slowed(false), slowed(true)
	p := serveChild(t, "--config", configure(t, "mcp.json", "%s", calm(upstream(t, legacy), upstream(t, modern), sharedEntry(w.child(mcptest.Normal)))))
	p.restartUnderLoad(t, beginLoad(t, p.url, "shared", "principal", "stdio"), w)
	ranOnce(t, legacy, modern)
}

// TestRestartUnderTLSFailsNoCall has clients that keep their connections, over
// HTTP/1.1 and HTTP/2.
func TestRestartUnderTLSFailsNoCall(t *testing.T) {
	w, legacy, modern := newWitness(t), slowed(false), slowed(true)
	ca, dir := mcptest.NewAuthority(t), t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	mcptest.WritePair(t, ca.Issue(t, "gateway", nil), cert, key)
	p := startChild(t, "serve", "--listen", somewhere, "--tls-cert-file", cert, "--tls-key-file", key,
		"--config", configure(t, "mcp.json", "%s", calm(upstream(t, legacy), upstream(t, modern), sharedEntry(w.child(mcptest.Normal)))))
	p.url = p.await(t, &p.out, `(?s)MCP +(https://\S+)/mcp\n.*  try .*\n`)
	var callers []caller
	for i := range steered {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool}, ForceAttemptHTTP2: i%2 == 0}
		t.Cleanup(transport.CloseIdleConnections)
		h := &http.Client{Transport: transport, Timeout: patience}
		if i%2 == 1 {
			// Over HTTP/2 a client is told which of its requests was not taken, and
			// makes that again (RFC 9113 section 6.8).
			h.Transport = onceSent{transport}
		}
		server := []string{"shared", "principal", "stdio"}[i/2%3]
		callers = append(callers, callerOf(t, h, p.url+"/mcp/"+server, i/6%2 == 1))
	}
	p.restartUnderLoad(t, newLoad(t, callers), w)
	ranOnce(t, legacy, modern)
}

// A joined is a client of mcpool serve --stdio, which runs in this process.
type joined struct {
	*program
	in   *io.PipeWriter
	out  *bufio.Reader
	next int
}

// join starts one, and has it agree on a version.
func join(t testing.TB, addr string, args ...string) *joined {
	t.Helper()
	in, toIt := io.Pipe()
	ofIt, out := io.Pipe()
	j := &joined{program: &program{ended: make(chan struct{})}, in: toIt, out: bufio.NewReader(ofIt)}
	j.stop = func() { toIt.Close() }
	go func() {
		defer close(j.ended)
		j.status = run(context.Background(), append([]string{"serve", "--stdio", "--listen", addr}, args...), stdio{in, out, &j.err})
	}()
	j.cleanup(t)
	context.AfterFunc(t.Context(), func() { ofIt.CloseWithError(errors.New("the test is over")) })
	if _, err := j.request(strings.Replace(initializeBody, `"id":1`, `"id":0`, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(j.in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	return j
}

// request sends a request, the id of which is that of the next answer.
func (j *joined) request(frame string) (*jsonrpc.Message, error) {
	id := strconv.Itoa(j.next)
	j.next++
	if _, err := io.WriteString(j.in, frame+"\n"); err != nil {
		return nil, err
	}
	for {
		line, err := j.out.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		msg, err := jsonrpc.Parse(line)
		if err != nil {
			return nil, err
		}
		switch {
		case !msg.IsResponse():
		case string(msg.ID) != id || msg.Error != nil:
			return nil, fmt.Errorf("request %s was answered with %s", id, line)
		default:
			return &msg, nil
		}
	}
}

// at calls tools of a server.
func (j *joined) at(server string) caller {
	return func(_ context.Context, tool, id string) (string, error) {
		msg, err := j.request(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":%s}`, j.next, callParams(server+"__"+tool, id)))
		if err == nil && jsonrpc.GetString(msg.Result, "structuredContent", "id") != id {
			err = fmt.Errorf("call %s was answered with %s", id, msg.Result)
		}
		return "", err
	}
}

// TestRestartUnderLoadOfJoinedClients has clients over stdio go to the next
// process, each of them in the midst of its calls.
func TestRestartUnderLoadOfJoinedClients(t *testing.T) {
	w, legacy, modern := newWitness(t), slowed(false), slowed(true)
	file := configure(t, "mcp.json", "%s", calm(upstream(t, legacy), upstream(t, modern), sharedEntry(w.child(mcptest.Normal))))
	addr := freeAddr(t)
	p := startChild(t, "serve", "--listen", addr, "--config", file).greeted(t)
	var callers []caller
	var all []*joined
	for i := range steered {
		j := join(t, addr, "--config", file)
		all = append(all, j)
		callers = append(callers, j.at([]string{"shared", "principal", "stdio"}[i%3]))
	}
	l := newLoad(t, callers)
	pid := p.process.Pid
	for round := range 2 {
		l.goOn()
		pid = p.restarted(t, pid, round+1)
		p.times(t, "msg=stopped", round+1)
		l.goOn()
	}
	l.end()
	t.Logf("%d calls in 2 restarts", l.calls.Load())
	for _, j := range all {
		j.stop()
		j.end(t)
		if said := j.err.String(); strings.Count(said, `msg="joined the gateway"`) != 3 || strings.Contains(said, "msg=serving") {
			t.Errorf("it says %s", said)
		}
	}
	p.stop()
	p.end(t)
	w.awaitEnds(t, w.started())
	ranOnce(t, legacy, modern)
}

// A reader is a client that listens for changes in a stream, and opens it again
// when it has ended.
type reader struct {
	http    *http.Client
	method  string
	url     string
	body    string
	headers []string

	over atomic.Bool
	ends int // of streams, before the last
}

// readerOf makes one of either era, at an endpoint.
func readerOf(t testing.TB, endpoint string, modern bool) *reader {
	t.Helper()
	h := web(t) // with connections of its own
	if modern {
		return &reader{http: h, method: http.MethodPost, url: endpoint, headers: []string{"Content-Type", "application/json", "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen"},
			body: `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},
				"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`}
	}
	return &reader{http: h, method: http.MethodGet, url: endpoint, headers: []string{"Mcp-Protocol-Version", "2025-11-25", "Mcp-Session-Id", connect(t, h, endpoint).session}}
}

// read reads one stream after the other until the reader is over, and calls told
// for each change. A stream that does not end as it should is an error, or one
// that is not opened.
func (r *reader) read(ctx context.Context, told func()) error {
	for last := ""; ; r.ends++ {
		request, err := http.NewRequestWithContext(ctx, r.method, r.url, strings.NewReader(r.body))
		if err != nil {
			return err
		}
		request.Header.Set("Accept", "application/json, text/event-stream")
		for i := 0; i < len(r.headers); i += 2 {
			request.Header.Set(r.headers[i], r.headers[i+1])
		}
		if last != "" {
			request.Header.Set("Last-Event-ID", last)
		}
		resp, err := onceSent{r.http.Transport}.RoundTrip(request)
		if err != nil {
			return err
		}
		for lines := bufio.NewScanner(resp.Body); ; {
			if !lines.Scan() {
				err = lines.Err() // nil at the end of the stream
				break
			}
			if id, found := strings.CutPrefix(lines.Text(), "id: "); found {
				last = id
			}
			if strings.Contains(lines.Text(), `"notifications/tools/list_changed"`) {
				told()
			}
		}
		resp.Body.Close()
		switch {
		case r.over.Load():
			return nil
		case err != nil:
			return err
		case resp.StatusCode != http.StatusOK:
			return fmt.Errorf("status %d", resp.StatusCode)
		}
	}
}

// TestARestartEndsStreamsAndFinishesCalls has clients of both eras listen, and as
// many wait for answers. Streams end as they should, so that their clients open
// them at the next process, with the id of the last event; answers come of the
// process that was called.
func TestARestartEndsStreamsAndFinishesCalls(t *testing.T) {
	gate := newGate(t)
	legacy, modern, slow := &mcptest.Server{Stateful: true}, &mcptest.Server{Modern: true, Stateful: true}, &mcptest.Server{}
	slow.Fault = gate.fault
	file := configure(t, "mcp.json", `{"mcpServers": {"legacy": {"url": %q}, "modern": {"url": %q}, "slow": {"url": %q, "pool": {"calls_per_connection": 64}}}}`,
		upstream(t, legacy), upstream(t, modern), upstream(t, slow))
	// A stream that stays where it is would be waited for, for half of the time.
	p := serveChild(t, "--drain-timeout", "600", "--config", file)

	told := newTally(steered)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var readers []*reader
	var all sync.WaitGroup
	for i := range steered {
		r := readerOf(t, p.url+"/mcp/"+[]string{"legacy", "modern"}[i/2%2], i%2 == 1)
		readers = append(readers, r)
		all.Go(func() {
			if err := r.read(ctx, func() { told.add(i) }); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		})
	}
	// All are told of a change that comes after this.
	tell := func() {
		t.Helper()
		before := told.all()
		for deadline := time.After(patience); ; {
			legacy.Change()
			modern.Change()
			least, more := told.least(before)
			if least > 0 {
				return
			}
			select {
			case <-more:
			case <-time.After(20 * time.Millisecond): // it was not listening yet
			case <-deadline:
				t.Fatal("a client is told nothing")
			}
		}
	}
	tell()
	for i := range steered {
		call := callerOf(t, web(t), p.url+"/mcp/slow", i%2 == 1)
		all.Go(func() {
			if _, err := call(t.Context(), "write", fmt.Sprint("write ", i)); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	for range steered {
		gate.await(t)
	}

	p.restarted(t, p.process.Pid, 1)
	tell()
	gate.open()
	p.times(t, "msg=stopped", 1)
	tell()
	for _, r := range readers {
		r.over.Store(true)
	}
	cancel()
	all.Wait()
	for i, r := range readers {
		if r.ends == 0 {
			t.Errorf("stream %d did not end", i)
		}
	}
	ranOnce(t, slow)
	if n := len(slow.Executions()); n != steered {
		t.Errorf("%d calls ran, want %d", n, steered)
	}
}

// TestARestartWhilePaused has the next process begin with the server paused. Who
// waits is told at once that nothing was done, or goes on there.
func TestARestartWhilePaused(t *testing.T) {
	server := &mcptest.Server{}
	file := configure(t, "mcp.json", `{"mcpServers": {"one": {"url": %q}, "two": {"url": %q}}}`, upstream(t, server), upstream(t, &mcptest.Server{}))
	addr := freeAddr(t)
	p := startChild(t, "serve", "--listen", addr, "--drain-timeout", "600", "--config", file).greeted(t)
	stays := join(t, addr, "--config", file)
	callers := []caller{callerOf(t, web(t), p.url+"/mcp/one", false), callerOf(t, web(t), p.url+"/mcp/one", true)}
	p.operate(t, "pause", "one")
	answers := make(chan error, len(callers))
	for i, call := range callers {
		go func() {
			_, err := call(t.Context(), "write", fmt.Sprint("over HTTP ", i))
			answers <- err
		}()
	}
	answered := make(chan error, 1)
	go func() {
		_, err := stays.at("one")(t.Context(), "write", "over stdio")
		answered <- err
	}()
	p.awaitWaiting(t, len(callers)+1, "one")

	p.restarted(t, p.process.Pid, 1)
	for range callers {
		if err := <-answers; err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "the call was not made") {
			t.Errorf("who waited is told: %v", err)
		}
	}
	p.times(t, "msg=stopped", 1)
	p.awaitWaiting(t, 1, "one")
	if p.pool(t, "two").Stats.Paused || !p.pool(t, "one").Stats.Paused {
		t.Error("the next process has not the same servers paused")
	}
	p.operate(t, "resume", "one")
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if ran := server.Executions(); len(ran) != 1 || ran["over stdio"] != 1 {
		t.Errorf("there ran %v", ran)
	}
	stays.stop()
	stays.end(t)
	p.stop()
	p.end(t)
}

// A program that cannot start leaves the one there is where it is.
func TestARestartThatFailsChangesNothing(t *testing.T) {
	server := &mcptest.Server{}
	file := configure(t, "mcp.json", `{"mcpServers": {"one": {"url": %q}}}`, upstream(t, server))
	p := serveChild(t, "--config", file)
	c := connect(t, web(t), p.url+"/mcp")
	replace(t, file, "{")
	p.await(t, &p.err, `msg="the configuration was not reloaded, and nothing has changed" error="`+file+`:1:`)
	p.steer(t, p.process.Pid, syscall.SIGUSR2)
	p.await(t, &p.err, `msg="not restarted: this process goes on" error="the new process did not serve \(EOF\): exit status 1"`)
	if _, err := c.call(t.Context(), "echo", "after"); err != nil {
		t.Error(err)
	}
	if n := server.Sessions(); n != 1 {
		t.Errorf("%d connections", n)
	}
}
