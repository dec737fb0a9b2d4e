package mcpool_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// The transport of MCP 2024-11-05, HTTP+SSE: all that a server says comes over
// one stream, and the session ends with it.

func TestServerOverSSE(t *testing.T) {
	for name, test := range map[string]struct {
		set          bool
		first, later [3]int // discover, initialize, GET
	}{
		"found out": {false, [3]int{1, 2, 1}, [3]int{0, 1, 1}},
		"set":       {true, [3]int{0, 1, 1}, [3]int{0, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{Server: mcptest.Server{OverSSE: true}}
				s.network.Handler = &s.Server
				p, err := mcpool.New(mcpool.Server{Name: "test", URL: "http://server.test/sse", SSE: test.set, RoundTripper: &s.network}, nil)
				if err != nil {
					t.Fatal(err)
				}
				var want [3]int
				for i, who := range []string{"ann", "bob", "cem"} {
					if _, err := call(t.Context(), p, rpc.Caller{Principal: who}, "write", who); err != nil {
						t.Fatal(err)
					}
					more := test.later
					if i == 0 {
						more = test.first
					}
					for k := range want {
						want[k] += more[k]
					}
					if got := [3]int{s.Requests("server/discover"), s.Requests("initialize"), s.Gets()}; got != want {
						t.Errorf("%d connections: %v of discover, initialize and GET, want %v", i+1, got, want)
					}
				}
				conns := p.Conns()
				if len(conns) != 3 || conns[0].Slots() != 8 || conns[0].Era() != "legacy" {
					t.Errorf("%d connections, the first %s with %d slots", len(conns), conns[0].Era(), conns[0].Slots())
				}
				closePool(t, p)
				synctest.Wait()
				if s.Open() != 0 {
					t.Errorf("%d streams are left", s.Open())
				}
			})
		})
	}
}

// Eight callers meet a stream that ends: it is opened anew once for all of
// them, and what the server may have begun is repeated only where that does no
// harm.
func TestLostStreamIsReopenedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OverSSE: true, OpenDelay: time.Second}}
		p := s.pool(t, nil)
		if _, err := call(t.Context(), p, nobody, "write", "first"); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				if _, err := call(t.Context(), p, nobody, "echo", fmt.Sprint("echo ", i), "ms", 2000); err != nil && !errors.Is(err, mcpool.ErrConnectionLost) {
					t.Error(err)
				}
			})
			all.Go(func() {
				_, err := call(t.Context(), p, nobody, "write", fmt.Sprint("write ", i), "ms", 2000)
				if !errors.Is(err, mcpool.ErrConnectionLost) || mcpool.SafeToRetry(err) {
					t.Errorf("a call that may have run: %v", err)
				}
			})
		}
		time.Sleep(time.Second)
		s.EndStreams(true)
		for i := range 4 {
			all.Go(func() {
				if _, err := call(t.Context(), p, nobody, "write", fmt.Sprint("after ", i)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for id, n := range s.Executions() {
			if n != 1 && id[:4] != "echo" {
				t.Errorf("call %s ran %d times", id, n)
			}
		}
		if stats := p.Stats(); s.Sessions() != 2 || stats.Closed[mcpool.ClosedLost] != 1 {
			t.Errorf("%d sessions, %+v", s.Sessions(), stats)
		}
		if s.Requests("server/discover") != 1 || s.Requests("initialize") != 3 {
			t.Errorf("%d discover and %d initialize; want that it is remembered what the server speaks",
				s.Requests("server/discover"), s.Requests("initialize"))
		}
		closePool(t, p)
	})
}

// A call whose message the server turns away, for it has forgotten the session
// though the stream goes on, is sent again on another.
func TestForgottenStreamIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OverSSE: true}}
		p := s.pool(t, nil)
		for _, id := range []string{"1", "2"} {
			if _, err := call(t.Context(), p, nobody, "write", id); err != nil || s.Executions()[id] != 1 {
				t.Errorf("call %s ran %d times: %v", id, s.Executions()[id], err)
			}
			s.Expire()
		}
		if s.Sessions() != 2 {
			t.Errorf("%d sessions, want 2", s.Sessions())
		}
		closePool(t, p)
	})
}

// A stream that ends while nobody calls is noticed at once, and not by the
// next caller.
func TestIdleStreamThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OverSSE: true}}
		p := s.pool(t, nil)
		if _, err := call(t.Context(), p, nobody, "write", "1"); err != nil {
			t.Fatal(err)
		}
		s.EndStreams(false)
		synctest.Wait()
		if stats := p.Stats(); stats.Closed[mcpool.ClosedLost] != 1 {
			t.Errorf("%+v", stats)
		}
		if _, err := call(t.Context(), p, nobody, "write", "2"); err != nil {
			t.Error(err)
		}
		if stats := p.Stats(); stats.RetriesTotal() != 0 {
			t.Errorf("%d retries", stats.RetriesTotal())
		}
		closePool(t, p)
	})
}

func TestSessionIsToldOfItsLostStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OverSSE: true}}
		p := s.pool(t, func(c *mcpool.Config) { c.Sharing = mcpool.ShareSession })
		who := rpc.Caller{Session: "chat"}
		for i, lose := range []func(){
			func() { s.EndStreams(false); synctest.Wait() }, // while it is idle
			s.Expire,
			func() { go func() { time.Sleep(time.Second); s.EndStreams(true) }() }, // in the call
		} {
			if _, err := call(t.Context(), p, who, "write", fmt.Sprint("before ", i)); err != nil {
				t.Fatal(err)
			}
			lose()
			if _, err := call(t.Context(), p, who, "echo", "lost", "ms", 2000); !errors.Is(err, mcpool.ErrSessionLost) {
				t.Errorf("loss %d: %v", i, err)
			}
			if _, err := call(t.Context(), p, who, "write", fmt.Sprint("after ", i)); err != nil {
				t.Errorf("after having been told: %v", err)
			}
		}
		if n := s.Executions()["lost"]; n != 1 { // the last, which had begun
			t.Errorf("%d calls ran whose state was gone, want one", n)
		}
		closePool(t, p)
	})
}

// A server that speaks HTTP+SSE and is replaced by one of streamable HTTP, or
// the other way round, is asked again as soon as it says so, and no call fails.
func TestServerChangesItsTransport(t *testing.T) {
	refusing := func(status int, text string) *mcptest.Server {
		return &mcptest.Server{OverSSE: true, Fault: func(r *http.Request, _ string, w http.ResponseWriter) bool {
			if r.Method != http.MethodPost || r.URL.Path != "/mcp" {
				return false
			}
			http.Error(w, text, status)
			return true
		}}
	}
	overSSE := func() *mcptest.Server { return refusing(http.StatusNotFound, "Cannot POST /mcp") }
	streamable, modern := &mcptest.Server{}, &mcptest.Server{Modern: true}
	t.Run("to streamable HTTP", func(t *testing.T) { replace(t, overSSE(), streamable, "legacy") })
	t.Run("to modern", func(t *testing.T) { replace(t, overSSE(), modern, "modern") })
	for status, text := range map[int]string{404: "Cannot POST /mcp", 405: "method not allowed", 400: "sessionid must be provided"} {
		for from, old := range map[string]*mcptest.Server{"legacy": {}, "modern": {Modern: true}} {
			t.Run(fmt.Sprint("to HTTP+SSE from ", from, ", ", status), func(t *testing.T) { replace(t, old, refusing(status, text), "legacy") })
		}
	}
}

// Over sockets, with streams that end all the time, each answer reaches its own
// caller and nothing that must not runs twice.
func TestNoCallIsLostOrCrossedOverSSE(t *testing.T) {
	s := &mcptest.Server{OverSSE: true}
	web := httptest.NewServer(s)
	defer web.Close()
	p, err := mcpool.New(mcpool.Server{Name: "test", URL: web.URL + "/sse"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	outcomes := load(t, p, 16, 40, 10*time.Second, func(n int) {
		if n%100 == 0 {
			s.EndStreams(n%200 == 0)
		}
	})
	closePool(t, p)
	saw := checkLedger(t, outcomes, s.Executions(), mcpool.DefaultConfig().RetryAttempts)
	if lost := p.Stats().Closed[mcpool.ClosedLost]; saw.answered < len(outcomes)/2 || lost == 0 {
		t.Errorf("%d of %d calls answered, %d connections lost", saw.answered, len(outcomes), lost)
	}
}
