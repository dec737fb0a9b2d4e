package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A column is what is proven of each server that has it.
type column struct {
	name string
	has  func(*server) bool
	test func(*testing.T, *site)
}

func all(*server) bool { return true }

var columns = []column{
	{"list", all, testList},
	{"call", all, testCall},
	{"concurrent", all, testConcurrent},
	{"restart", all, testRestart},
	{"expiry", func(s *server) bool { return s.sessions }, testExpiry},
	{"watch", func(s *server) bool { return s.watch.news != "" }, testWatch},
	{"close", all, testClose},
}

const (
	// patience bounds what takes seconds on an idle machine: a server in Python
	// is slow to start.
	patience = 3 * time.Minute
	// closing bounds the end of a pool: a child has 300 ms to see that its
	// input is closed and 300 ms to obey SIGTERM, a DELETE has a second: 1.6 s
	// where nothing else runs.
	closing = 30 * time.Second
)

// open makes a pool of at most two connections, which everybody shares, and
// closes it after the test.
func (at *site) open(t *testing.T, server mcpool.Server) *mcpool.Pool {
	t.Helper()
	config := mcpool.DefaultConfig()
	config.MaxConnections = 2
	config.Sharing = mcpool.ShareAll
	config.ConnectionTimeout = patience
	pool, err := mcpool.New(server, &config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close(context.Background()) })
	return pool
}

// do makes a call and checks its answer.
func do(ctx context.Context, pool *mcpool.Pool, c call) error {
	result, err := pool.CallTool(ctx, c.tool, c.arguments)
	switch {
	case err != nil:
		return err
	case result.IsError || !strings.Contains(result.Text(), c.answer):
		return fmt.Errorf("%s answered %s, want %q in it", c.tool, result.Raw, c.answer)
	}
	return nil
}

func testList(t *testing.T, at *site) {
	tools, err := at.pool.ListTools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hints := map[string]bool{}
	for _, tool := range tools {
		hints[tool.Name] = bytes.Contains(tool.Annotations, []byte(`"readOnlyHint":true`))
	}
	for _, c := range []call{at.ask(at.dir, 0), at.slow} {
		if c.tool != "" && !hints[c.tool] {
			t.Errorf("tool %s is not listed as one that may be called twice: %v", c.tool, hints)
		}
	}
	if c := at.pool.Conns()[0]; c.ProtocolVersion() != at.protocol || c.ServerName() == "" {
		t.Errorf("speaks %s with %q, want %s", c.ProtocolVersion(), c.ServerName(), at.protocol)
	}
}

func testCall(t *testing.T, at *site) {
	for i := range 3 {
		if err := do(t.Context(), at.pool, at.ask(at.dir, i)); err != nil {
			t.Error(err)
		}
	}
	var answered *rpc.Error
	result, err := at.pool.CallTool(t.Context(), "no_such_tool", nil)
	if err == nil && !result.IsError || err != nil && !errors.As(err, &answered) {
		t.Errorf("a tool that is not there: %v", err)
	}
	if s := at.pool.Stats(); s.Opened != 1 {
		t.Errorf("calls one after the other opened %d connections", s.Opened)
	}
}

func testConcurrent(t *testing.T, at *site) {
	var callers sync.WaitGroup
	for i := range concurrently {
		callers.Go(func() {
			c := at.ask(at.dir, i)
			if i%4 == 0 && at.slow.tool != "" { // so that answers come in another order than calls
				c = at.slow
			}
			if err := do(t.Context(), at.pool, c); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	callers.Wait()
	if s := at.pool.Stats(); s.Opened > 2 || s.RetriesTotal() != 0 {
		t.Errorf("%d connections were opened, %d calls sent again", s.Opened, s.RetriesTotal())
	}
}

// testRestart has the server killed, and then told to end, while four callers
// call it, and started again. All of their calls may be repeated, so all are
// answered.
func testRestart(t *testing.T, at *site) {
	if _, err := at.pool.ListTools(t.Context()); err != nil { // the pool learns what may be repeated
		t.Fatal(err)
	}
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		before := at.pool.Stats()
		load := at.load(t)
		load.await(40)
		at.restart(t, signal)
		load.await(40)
		load.end()
		s := at.pool.Stats()
		t.Logf("%v: %d calls, %d connections opened, sent again until now %v", signal, s.Calls-before.Calls, s.Opened-before.Opened, s.Retries)
		if (at.over == stdio || at.sessions) && s.Closed[mcpool.ClosedLost] == before.Closed[mcpool.ClosedLost] {
			t.Errorf("%v: no connection was found lost", signal)
		}
	}
}

// restart sends a signal to the server and starts it again, or to the children
// of the pool, and waits until they have ended.
func (at *site) restart(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if at.over != stdio {
		at.process.stop(signal)
		at.start(t, at.process.port)
		return
	}
	children := marked(cellKey + "=" + at.t.Name())
	if len(children) == 0 {
		t.Error("no process to end")
	}
	for _, pid := range children {
		_ = syscall.Kill(pid, signal)
	}
	for deadline := time.Now().Add(stopping); len(children) > 0; time.Sleep(5 * time.Millisecond) {
		now := marked(cellKey + "=" + at.t.Name())
		children = slices.DeleteFunc(children, func(pid int) bool { return !slices.Contains(now, pid) })
		if time.Now().After(deadline) {
			for _, pid := range children {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// A load is four callers that call until they are told to end.
type load struct {
	t       *testing.T
	callers sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
	over    atomic.Bool
	answers atomic.Int64
}

func (at *site) load(t *testing.T) *load {
	l := &load{t: t}
	l.ctx, l.cancel = context.WithTimeout(t.Context(), patience)
	for n := range 4 {
		l.callers.Go(func() {
			for i := n; !l.over.Load(); i += 4 {
				c := at.ask(at.dir, i)
				if n == 0 && at.slow.tool != "" { // one of these is always under way
					c = at.slow
				}
				err := do(l.ctx, at.pool, c)
				for errors.Is(err, mcpool.ErrUnavailable) && mcpool.SafeToRetry(err) && l.ctx.Err() == nil {
					// It takes more than 10 s to start, and callers are told so.
					time.Sleep(100 * time.Millisecond)
					err = do(l.ctx, at.pool, c)
				}
				if err != nil {
					t.Errorf("call %d: %v", i, err)
					return
				}
				l.answers.Add(1)
			}
		})
	}
	return l
}

// await waits until so many more calls are answered.
func (l *load) await(n int64) {
	for n += l.answers.Load(); l.answers.Load() < n && l.ctx.Err() == nil && !l.t.Failed(); {
		time.Sleep(5 * time.Millisecond)
	}
}

// end waits until all callers have their last answer.
func (l *load) end() {
	l.over.Store(true)
	l.callers.Wait()
	l.cancel()
}

// testExpiry ends the session at the server, as its idle timeout would, and
// has eight callers call.
func testExpiry(t *testing.T, at *site) {
	tap := newTap(t)
	server := at.reach(t.Name())
	server.RoundTripper = tap
	pool := at.open(t, server)
	if err := do(t.Context(), pool, at.ask(at.dir, 0)); err != nil {
		t.Fatal(err)
	}
	first := tap.session(t)
	if status := tap.by(t, at, http.MethodPost, first); status != http.StatusOK {
		t.Fatalf("the session is not known before it ends: HTTP %d", status)
	}
	if status := tap.by(t, at, http.MethodDelete, first); status/100 != 2 {
		t.Fatalf("the session was not deleted: HTTP %d", status)
	}
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			if err := do(t.Context(), pool, at.ask(at.dir, i)); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	callers.Wait()
	s := pool.Stats()
	if s.Opened != 2 || s.Closed[mcpool.ClosedLost] != 1 || s.Retries[mcpool.RetriedHarmless] != 0 {
		t.Errorf("opened %d, lost %d, sent again %v; want 2, 1, and none that may have run", s.Opened, s.Closed[mcpool.ClosedLost], s.Retries)
	}
	if tap.session(t) == first {
		t.Error("the calls were answered in the session that had ended")
	}
}

// testWatch watches the server while it changes, is killed and started again,
// and changes once more. What it has not told meanwhile may have been a change.
func testWatch(t *testing.T, at *site) {
	pool := at.open(t, at.reach(at.t.Name()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	heard := make(chan string, 100)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		err := pool.Watch(ctx, rpc.Caller{}, at.watch.filter, func(method string, params json.RawMessage) {
			heard <- method + " " + string(params)
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	defer watcher.Wait()
	defer cancel()
	hear := func(when, want string) {
		t.Helper()
		select {
		case got := <-heard:
			if !strings.HasPrefix(got, want) {
				t.Errorf("%s heard %s, want %s", when, got, want)
			}
		case <-ctx.Done():
			t.Fatalf("%s heard nothing, want %s", when, want)
		}
	}
	hear("at first", "notifications/subscriptions/acknowledged "+at.watch.heeded)
	change := func() {
		t.Helper()
		if err := do(ctx, pool, at.watch.change); err != nil {
			t.Error(err)
		}
	}
	change()
	hear("of the change", at.watch.news)
	at.restart(t, syscall.SIGKILL)
	hear("of the restart", at.watch.news)
	change()
	hear("of the second change", at.watch.news)
}

// testClose closes a pool that has made calls: soon, at the server too, and
// nothing is left.
func testClose(t *testing.T, at *site) {
	tap := newTap(t)
	server := at.reach(t.Name())
	if at.sessions {
		server.RoundTripper = tap
	}
	// What a pool starts inherits the label.
	labels := pprof.Labels("pool", t.Name())
	pprof.Do(t.Context(), labels, func(ctx context.Context) {
		pool := at.open(t, server)
		for i := range 3 {
			if err := do(ctx, pool, at.ask(at.dir, i)); err != nil {
				t.Fatal(err)
			}
		}
		mark := cellKey + "=" + t.Name()
		if at.over == stdio && len(marked(mark)) == 0 {
			t.Error("no process was started")
		}
		var session string
		if at.sessions {
			session = tap.session(t)
			if status := tap.by(t, at, http.MethodPost, session); status != http.StatusOK {
				t.Errorf("the session is not known before it ends: HTTP %d", status)
			}
		}
		began := time.Now()
		if err := pool.Close(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > closing {
			t.Errorf("closing took %v", took)
		} else {
			t.Logf("closing took %v", took)
		}
		if at.sessions {
			if status := tap.by(t, at, http.MethodPost, session); status/100 != 4 {
				t.Errorf("the session is still known: HTTP %d", status)
			}
		}
		if left := leftOf(mark); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
		}
	})
	tap.CloseIdleConnections()
	// A goroutine that has nothing left to do may still be ending.
	left := labelled(t.Name())
	for deadline := time.Now().Add(closing); left != "" && time.Now().Before(deadline); left = labelled(t.Name()) {
		time.Sleep(5 * time.Millisecond)
	}
	if left != "" {
		t.Errorf("goroutines are left:\n%s", left)
	}
}

// labelled returns the goroutines with a label.
func labelled(value string) string {
	var profile, found bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&profile, 1)
	for _, goroutine := range bytes.SplitAfter(profile.Bytes(), []byte("\n\n")) {
		if bytes.Contains(goroutine, []byte(`"`+value+`"`)) {
			found.Write(goroutine)
		}
	}
	return found.String()
}

// A tap is a RoundTripper that knows the session of the last answer.
type tap struct {
	*http.Transport
	last atomic.Value
}

func newTap(t *testing.T) *tap {
	tap := &tap{Transport: &http.Transport{}}
	t.Cleanup(tap.CloseIdleConnections)
	return tap
}

func (tap *tap) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := tap.Transport.RoundTrip(request)
	if err == nil && response.Header.Get(sessionHeader) != "" {
		tap.last.Store(response.Header.Get(sessionHeader))
	}
	return response, err
}

const sessionHeader = "Mcp-Session-Id"

func (tap *tap) session(t *testing.T) string {
	t.Helper()
	session, _ := tap.last.Load().(string)
	if session == "" {
		t.Fatal("the server names no session")
	}
	return session
}

// by makes a request in a session by hand, and returns the status of its
// answer.
func (tap *tap) by(t *testing.T, at *site, method, session string) int {
	t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(`{"jsonrpc":"2.0","id":"by hand","method":"tools/list"}`)
	}
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, at.endpoint(), body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	request.Header.Set("Mcp-Protocol-Version", at.protocol)
	request.Header.Set(sessionHeader, session)
	response, err := tap.Transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if response.StatusCode/100 != 2 {
		t.Logf("%s by hand: HTTP %d: %.300s", method, response.StatusCode, said)
	}
	return response.StatusCode
}
