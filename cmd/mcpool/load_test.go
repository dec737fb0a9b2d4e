package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestAThousandCallsOfFiftyClientsShareSixConnections(t *testing.T) {
	const clients, calls = 50, 20
	server := &mcptest.Server{CallDelay: time.Millisecond}
	p := serve(t, "--config", behind(t, upstream(t, server)))
	h := web(t)
	var all sync.WaitGroup
	for i := range clients {
		c := connect(t, h, p.url+"/mcp")
		all.Go(func() {
			for j := range calls {
				if _, err := c.call(t.Context(), "write", fmt.Sprintf("%d of %d", j, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	p.awaitOpenings(t, "one")
	ran := server.Executions()
	for id, times := range ran {
		if times != 1 {
			t.Errorf("call %s ran %d times", id, times)
		}
	}
	if len(ran) != clients*calls {
		t.Errorf("%d calls ran, want %d", len(ran), clients*calls)
	}
	if n := server.Sessions(); n < 1 || n > 6 {
		t.Errorf("%d connections, want at most 6", n)
	}
	if n := server.MaxConcurrent(); n > 8 {
		t.Errorf("%d calls at once on a connection, want at most 8", n)
	}
	if s := p.pool(t, "one").Stats; s.Calls != clients*calls || s.Errors != 0 || s.Opened != server.Sessions() {
		t.Errorf("status says %+v", s)
	}
}

// TestCallersBeyondTheConnectionsWaitTheirTurn has many callers at a server
// that takes one call at a time per connection, with each way to say how many
// connections there may be.
func TestCallersBeyondTheConnectionsWaitTheirTurn(t *testing.T) {
	const callers = 64
	for name, test := range map[string]struct {
		environment, pool string
		args              []string
		connections       int
	}{
		"default":                    {connections: 6},
		"the file":                   {pool: `"pool": {"max_connections": 2}`, connections: 2},
		"the environment beats it":   {pool: `"pool": {"max_connections": 2}`, environment: "3", connections: 3},
		"a flag beats both":          {pool: `"pool": {"max_connections": 2}`, environment: "3", args: []string{"--max-connections", "4"}, connections: 4},
		"the server's own beats all": {pool: `"servers": {"one": {"url": %q, "pool": {"max_connections": 5}}}`, environment: "3", args: []string{"--max-connections=4"}, connections: 5},
	} {
		t.Run(name, func(t *testing.T) {
			if test.environment != "" {
				t.Setenv("MCP_POOL_MAX_CONNECTIONS", test.environment)
			}
			gate, server := newGate(t), &mcptest.Server{CallDelay: time.Millisecond}
			server.Fault = gate.fault
			url := upstream(t, server)
			file := `{"servers": {"one": {"url": %q}}, ` + test.pool + `}`
			if strings.Contains(test.pool, "%q") {
				file = "{" + test.pool + "}"
			}
			p := serve(t, append(test.args, "--calls-per-connection", "1", "--config", configure(t, "mcp.json", file, url))...)
			h := web(t)
			var all sync.WaitGroup
			defer all.Wait()
			for i := range callers {
				c := connect(t, h, p.url+"/mcp")
				all.Go(func() {
					if _, err := c.call(t.Context(), "echo", fmt.Sprint(i)); err != nil {
						t.Error(err)
					}
				})
			}
			for range test.connections {
				gate.await(t) // none is answered before the last of them is there
			}
			if n := len(gate.arrived); n > 0 {
				t.Errorf("%d calls more than connections are at the server", n)
			}
			gate.open()
			all.Wait()
			if n := server.Sessions(); n != test.connections {
				t.Errorf("%d connections, want %d", n, test.connections)
			}
			if n := server.MaxConcurrent(); n != 1 {
				t.Errorf("%d calls at once on a connection, want 1", n)
			}
			if n := len(server.Executions()); n != callers {
				t.Errorf("%d calls ran, want %d", n, callers)
			}
		})
	}
}

// A restartable server comes back at the same address each time.
type restartable struct {
	mcptest.Server
	addr string
	down atomic.Bool
	http *http.Server
	done chan struct{} // closed when http has ended
}

func (r *restartable) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.down.Load() {
		panic(http.ErrAbortHandler)
	}
	r.Server.ServeHTTP(w, req)
}

func (r *restartable) start(t testing.TB) {
	t.Helper()
	listener := listenAt(t, r.addr)
	r.addr = listener.Addr().String()
	server, done := &http.Server{Handler: r}, make(chan struct{})
	r.down.Store(false)
	r.http, r.done = server, done
	go func() {
		defer close(done)
		_ = server.Serve(listener) // until stop
	}()
}

// listenAt listens at an address that was ours a moment ago, and that somebody
// else may have taken for a connection since.
func listenAt(t testing.TB, addr string) net.Listener {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		listener, err := net.Listen("tcp", addr)
		if err == nil {
			return listener
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

// stop ends the server as a crash does: calls in flight are cut off, and the
// sessions forgotten.
func (r *restartable) stop() {
	r.down.Store(true) // all at once, and not connection by connection
	_ = r.http.Close()
	<-r.done
	r.Expire()
}

// A tally counts the calls of each of some clients.
type tally struct {
	mu     sync.Mutex // guards what follows
	counts []int
	more   chan struct{} // closed by the next count
}

func newTally(clients int) *tally {
	return &tally{counts: make([]int, clients), more: make(chan struct{})}
}

func (l *tally) add(client int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[client]++
	close(l.more)
	l.more = make(chan struct{})
}

// all returns the counts of now.
func (l *tally) all() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.counts)
}

// least returns the fewest counts that a client has beyond those of before.
func (l *tally) least(before []int) (int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	least := l.counts[0] - before[0]
	for i := range before {
		least = min(least, l.counts[i]-before[i])
	}
	return least, l.more
}

// awaitTwoOfEach waits until each client has ended two more calls, so that one of
// them has begun after this.
func (l *tally) awaitTwoOfEach(t testing.TB) {
	t.Helper()
	before := l.all()
	deadline := time.After(patience)
	for {
		least, more := l.least(before)
		if least >= 2 {
			return
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatal("a client makes no progress")
		}
	}
}

func TestClientsDoNotNoticeThatTheServerIsRestarted(t *testing.T) {
	const clients, rounds = 32, 3
	server := &restartable{Server: mcptest.Server{CallDelay: time.Millisecond}, addr: somewhere}
	server.start(t)
	t.Cleanup(server.stop)
	p := serve(t, "--config", behind(t, "http://"+server.addr+"/mcp"))
	h := web(t)
	if _, err := connect(t, h, p.url+"/mcp").request(t.Context(), "tools/list", nil); err != nil {
		t.Fatal(err) // what only reads is known from here on
	}

	ctx, cancel := context.WithCancel(t.Context())
	counts := newTally(clients)
	var mu sync.Mutex
	answered := map[string]bool{}
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for i := range clients {
		c := connect(t, h, p.url+"/mcp")
		all.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				tool := []string{"echo", "write"}[j%2]
				id := fmt.Sprintf("%s %d of %d", tool, j, i)
				_, err := c.call(t.Context(), tool, id)
				switch {
				case err == nil:
					mu.Lock()
					answered[id] = true
					mu.Unlock()
				case tool == "echo":
					t.Errorf("%s, which only reads: %v", id, err)
				case !strings.Contains(err.Error(), "may have run"):
					t.Errorf("%s: %v", id, err)
				}
				counts.add(i)
			}
		})
	}
	const refused = "connection not opened"
	for range rounds {
		counts.awaitTwoOfEach(t)
		before := strings.Count(p.err.String(), refused)
		server.stop()
		p.await(t, &p.err, fmt.Sprintf(`(?s)(%s.*){%d}`, refused, before+1))
		server.start(t)
		counts.awaitTwoOfEach(t)
		server.Expire()
	}
	counts.awaitTwoOfEach(t)
	cancel()
	all.Wait()

	ran, lost := server.Executions(), 0
	for id, times := range ran {
		if strings.HasPrefix(id, "write") && times != 1 {
			t.Errorf("%s ran %d times", id, times)
		}
		if !answered[id] {
			lost++
		}
	}
	for id := range answered {
		if ran[id] == 0 {
			t.Errorf("%s was answered and did not run", id)
		}
	}
	t.Logf("%d calls were answered, %d cut off, on %d connections", len(answered), lost, server.Sessions())
}
