package mcpool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestMain(m *testing.M) {
	mcptest.StdioMain()
	goleak.VerifyTestMain(mcptest.Settled(m))
}

// server is a legacy server on a network without sockets.
type server struct {
	mcptest.Server
	network mcptest.Network
}

// pool makes a pool to s with the defaults, changed by change.
func (s *server) pool(t testing.TB, change func(*mcpool.Config)) *mcpool.Pool {
	t.Helper()
	return s.poolOver(t, &s.Server, change)
}

// poolOver makes a pool to what stands before s.
func (s *server) poolOver(t testing.TB, handler http.Handler, change func(*mcpool.Config)) *mcpool.Pool {
	t.Helper()
	s.network.Handler = handler
	config := mcpool.DefaultConfig()
	if change != nil {
		change(&config)
	}
	p, err := mcpool.New(mcpool.Server{
		Name: "test", URL: "http://server.test/mcp", RoundTripper: &s.network,
	}, &config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func closePool(t testing.TB, p *mcpool.Pool) {
	t.Helper()
	if err := p.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if s := p.Stats(); s.Opened != s.ClosedTotal() || s.Connections != 0 {
		t.Errorf("after Close: %d opened, %d closed, %d connections", s.Opened, s.ClosedTotal(), s.Connections)
	}
}

// call calls a tool and returns the session that answered.
func call(ctx context.Context, h rpc.Handler, who rpc.Caller, tool, id string, more ...any) (string, error) {
	arguments := map[string]any{"id": id, "text": "for " + id}
	for i := 0; i+1 < len(more); i += 2 {
		arguments[more[i].(string)] = more[i+1]
	}
	c := mcptest.CallTool(tool, arguments)
	c.Caller = who
	answer, err := h.Do(ctx, c)
	if err != nil {
		return "", err
	}
	return readAnswer(answer, id)
}

// readAnswer returns the session that an answer comes from, if it is that of
// the call of this id.
func readAnswer(answer rpc.Answer, id string) (session string, err error) {
	var result struct {
		StructuredContent struct{ ID, Text, Session string }
	}
	if err := json.Unmarshal(answer.Bytes(), &result); err != nil {
		return "", err
	}
	if got := result.StructuredContent; got.ID != id || got.Text != "for "+id {
		return "", fmt.Errorf("asked as %s and got the answer of %s: %s", id, got.ID, got.Text)
	}
	return result.StructuredContent.Session, nil
}

var nobody rpc.Caller

// body returns the body of a request, which stays to be read.
func body(r *http.Request) []byte {
	all, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(all))
	return all
}

func TestLazyInitialization(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, nil)
		time.Sleep(time.Hour)
		if n := s.Requests("initialize"); n != 0 {
			t.Errorf("%d sessions before the first call", n)
		}
		closePool(t, p)

		s = &server{}
		p = s.pool(t, func(c *mcpool.Config) { c.LazyInitialization = false; c.MinConnections = 2 })
		synctest.Wait()
		if n := s.Sessions(); n != 2 {
			t.Errorf("%d sessions without lazy initialization, want 2 at once", n)
		}
		closePool(t, p)
	})
}

func TestFirstConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: 1800 * time.Millisecond, CallDelay: 300 * time.Millisecond}}
		p := s.pool(t, nil)
		began := time.Now()
		if _, err := call(t.Context(), p, nobody, "echo", "1"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 2100*time.Millisecond {
			t.Errorf("the first call took %v, want the opening and the call", took)
		}
		conn := p.Conns()[0]
		if conn.OpenTook() != 1800*time.Millisecond || conn.Calls() != 1 || conn.ServerName() != "mcptest" ||
			conn.ProtocolVersion() != "2025-11-25" || conn.Era() != "legacy" || conn.ID() != "test-1" {
			t.Errorf("the connection knows %v %d %s %s %s %s", conn.OpenTook(), conn.Calls(),
				conn.ServerName(), conn.ProtocolVersion(), conn.Era(), conn.ID())
		}
		closePool(t, p)
	})
}

func TestConnectionReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: 1800 * time.Millisecond, CallDelay: 300 * time.Millisecond}}
		p := s.pool(t, nil)
		for i := range 10 {
			began := time.Now()
			if _, err := call(t.Context(), p, nobody, "echo", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); i > 0 && took != 300*time.Millisecond {
				t.Errorf("call %d took %v on an open connection, want the call alone", i, took)
			}
		}
		if s.Sessions() != 1 || s.Requests("server/discover") != 1 || s.Gets() != 0 {
			t.Errorf("%d sessions, %d probes, %d GETs; want 1, 1 and 0", s.Sessions(), s.Requests("server/discover"), s.Gets())
		}
		if stats := p.Stats(); stats.ReuseRatio != 0.9 || stats.Opened != 1 || stats.Calls != 10 {
			t.Errorf("reuse %v, opened %d, calls %d", stats.ReuseRatio, stats.Opened, stats.Calls)
		}
		closePool(t, p)
		if s.Deletes() != 1 || s.Open() != 0 {
			t.Errorf("%d sessions deleted, %d left on the server", s.Deletes(), s.Open())
		}
	})
}

// TestCallsWithoutAConnectionReuseNone: that a call was refused, waited in vain or
// was answered without the server is no work of a connection.
func TestCallsWithoutAConnectionReuseNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: time.Second, CallDelay: time.Minute}}
		p := s.pool(t, func(c *mcpool.Config) {
			c.MaxConnections, c.CallsPerConnection, c.MaxWaiting, c.ConnectionTimeout = 1, 1, 2, 10*time.Second
		})
		var calls sync.WaitGroup
		var full, late atomic.Int32
		for i := range 6 {
			calls.Go(func() {
				switch _, err := call(t.Context(), p, nobody, "echo", fmt.Sprint(i)); {
				case errors.Is(err, mcpool.ErrQueueFull):
					full.Add(1)
				case errors.Is(err, mcpool.ErrAcquireTimeout):
					late.Add(1)
				case err != nil:
					t.Error(err)
				}
			})
			synctest.Wait()
			if i == 0 {
				time.Sleep(2 * time.Second) // it has the connection
			}
		}
		calls.Wait()
		stats := p.Stats()
		if stats.Calls != 6 || stats.Carried != 1 || stats.ReuseRatio != 0 || full.Load() != 3 || late.Load() != 2 {
			t.Errorf("of %d calls %d were carried, %d refused and %d late: reuse is %v", stats.Calls, stats.Carried, full.Load(), late.Load(), stats.ReuseRatio)
		}
		lease, err := p.Acquire(t.Context(), nobody, mcpool.Slot)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lease.Do(t.Context(), mcptest.CallTool("echo", map[string]any{"id": "l"})); err != nil {
			t.Fatal(err)
		}
		lease.Release()
		if _, err := lease.Do(t.Context(), mcptest.CallTool("echo", map[string]any{"id": "l"})); !errors.Is(err, mcpool.ErrReleased) {
			t.Error(err)
		}
		if stats := p.Stats(); stats.Calls != 8 || stats.Carried != 2 || stats.ReuseRatio != 0.5 {
			t.Errorf("of %d calls %d were carried: reuse is %v", stats.Calls, stats.Carried, stats.ReuseRatio)
		}
		closePool(t, p)
	})
}

func TestConcurrentOperations(t *testing.T) {
	for _, test := range []struct {
		slots    int
		sessions int
		took     time.Duration
	}{
		{slots: 8, sessions: 5, took: 2400 * time.Millisecond}, // 40 at once, then 24: a sixth would help nobody
		{slots: 1, sessions: 6, took: 1800*time.Millisecond + 11*300*time.Millisecond},
		{slots: 64, sessions: 1, took: 2100 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{Server: mcptest.Server{OpenDelay: 1800 * time.Millisecond, CallDelay: 300 * time.Millisecond}}
			p := s.pool(t, func(c *mcpool.Config) { c.CallsPerConnection = test.slots })
			began := time.Now()
			var all sync.WaitGroup
			for i := range 64 {
				all.Go(func() {
					if _, err := call(t.Context(), p, nobody, "echo", fmt.Sprint(i)); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if took := time.Since(began); took != test.took || s.Sessions() != test.sessions || s.MaxConcurrent() > test.slots {
				t.Errorf("%d slots: took %v with %d sessions of up to %d calls; want %v, %d and %d", test.slots,
					took, s.Sessions(), s.MaxConcurrent(), test.took, test.sessions, test.slots)
			}
			closePool(t, p)
		})
	}
}

func TestPoolMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: 2 * time.Second, CallDelay: time.Second}}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections, c.CallsPerConnection = 1, 1 })
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() { call(t.Context(), p, nobody, "echo", fmt.Sprint(i)) })
		}
		time.Sleep(2500 * time.Millisecond)
		now := p.Stats()
		if now.Connections != 1 || now.InUse != 1 || now.Slots != 1 || now.CallsInFlight != 1 ||
			now.Waiting != 3 || now.OldestWait != 2500*time.Millisecond || now.Groups != 1 {
			t.Errorf("under load: %+v", now)
		}
		all.Wait()
		call(t.Context(), p, nobody, "no such tool", "5")
		end := p.Stats()
		if end.Calls != 5 || end.Errors != 1 || end.Acquires[mcpool.AcquireOK] != 5 || end.Released != 5 || end.Waited != 4 ||
			end.WaitTime != (2+3+4+5)*time.Second || end.Opened != 1 || end.Idle != 1 || end.InUse != 0 {
			t.Errorf("at rest: %+v", end)
		}
		for _, l := range []struct {
			name      string
			got       mcpool.Latency
			count     uint64
			p50, most time.Duration
		}{
			{"open", end.Open, 1, 2 * time.Second, 2 * time.Second},
			{"wait", end.Wait, 5, 3 * time.Second, 5 * time.Second},
			{"call", end.Call, 5, time.Second, time.Second},
		} {
			if l.got.Count != l.count || l.got.Max != l.most ||
				l.got.P50 < l.p50 || l.got.P50 > l.p50+l.p50/8 || l.got.P99 != l.most {
				t.Errorf("%s: %+v", l.name, l.got)
			}
		}
		closePool(t, p)
		if n := p.Stats().Closed[mcpool.ClosedShutdown]; n != 1 {
			t.Errorf("%d closed at shutdown, want 1", n)
		}
	})
}

func TestGracefulShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{CallDelay: 3 * time.Second}}
		p := s.pool(t, nil)
		var inFlight error
		var all sync.WaitGroup
		all.Go(func() { _, inFlight = call(t.Context(), p, nobody, "write", "1") })
		time.Sleep(time.Second)
		began := time.Now()
		closePool(t, p)
		if time.Since(began) != 2*time.Second {
			t.Errorf("closed after %v, want when the call had ended", time.Since(began))
		}
		all.Wait()
		if inFlight != nil {
			t.Errorf("the call in flight: %v", inFlight)
		}
		if _, err := call(t.Context(), p, nobody, "write", "2"); !errors.Is(err, mcpool.ErrPoolClosed) || !mcpool.SafeToRetry(err) {
			t.Errorf("a call after Close: %v", err)
		}
		if s.Open() != 0 {
			t.Errorf("%d sessions left on the server", s.Open())
		}
	})
}

func TestShutdownCutsOffWhatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{CallDelay: time.Hour}}
		p := s.pool(t, nil)
		failed := make(chan error)
		go func() {
			_, err := call(t.Context(), p, nobody, "write", "1")
			failed <- err
		}()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began := time.Now()
		go func() {
			if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Close: %v", err)
			}
		}()
		err := <-failed
		if !errors.Is(err, mcpool.ErrConnectionLost) || mcpool.SafeToRetry(err) || time.Since(began) != 30*time.Second {
			t.Errorf("after %v the call got %v", time.Since(began), err)
		}
	})
}

func TestLostSessionIsReopenedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: time.Second}}
		p := s.pool(t, nil)
		if _, err := call(t.Context(), p, nobody, "write", "first"); err != nil {
			t.Fatal(err)
		}
		s.Expire()
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if _, err := call(t.Context(), p, nobody, "write", fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for id, n := range s.Executions() {
			if n != 1 {
				t.Errorf("call %s ran %d times", id, n)
			}
		}
		if stats := p.Stats(); s.Sessions() != 2 || stats.RetriesTotal() == 0 || stats.Errors != 0 || stats.Closed[mcpool.ClosedLost] != 1 {
			t.Errorf("%d sessions, %+v", s.Sessions(), stats)
		}
		closePool(t, p)
	})
}

// TestRestartLosesAllSessions has a call meet the dead sessions of a restarted
// server one after the other: that is no attempt each.
func TestRestartLosesAllSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { c.CallsPerConnection = 1 })
		storm(t, p, 6)
		if s.Sessions() != 6 {
			t.Fatalf("%d sessions, want 6", s.Sessions())
		}
		s.Expire()
		time.Sleep(time.Second)
		if _, err := call(t.Context(), p, nobody, "write", "after the restart"); err != nil {
			t.Error(err)
		}
		if n := s.Executions()["after the restart"]; n != 1 {
			t.Errorf("it ran %d times", n)
		}
		synctest.Wait() // the last of them are being closed
		if stats := p.Stats(); stats.RetriesTotal() != 6 || stats.Closed[mcpool.ClosedLost] != 6 {
			t.Errorf("%d retries, %d lost; want each of the six dead sessions met once", stats.RetriesTotal(), stats.Closed[mcpool.ClosedLost])
		}
		closePool(t, p)
	})
}

func TestServersAbsenceIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, nil)
		if _, err := call(t.Context(), p, nobody, "write", "0"); err != nil {
			t.Fatal(err)
		}
		s.network.SetDown(true)
		s.Expire()
		time.AfterFunc(10*time.Second, func() { s.network.SetDown(false) })
		began := time.Now()
		if _, err := call(t.Context(), p, nobody, "write", "1"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 10500*time.Millisecond {
			t.Errorf("answered after %v, want within 500 ms of the server's return", took)
		}
		s.network.SetDown(true)
		s.Expire()
		began = time.Now()
		_, err := call(t.Context(), p, nobody, "write", "2")
		if took := time.Since(began); !errors.Is(err, mcpool.ErrAcquireTimeout) || !waitedOut(took, 35*time.Second) || !mcpool.SafeToRetry(err) {
			t.Errorf("after %v: %v", took, err)
		}
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("the error does not say why: %v", err)
		}
		closePool(t, p)
	})
}

// TestCallThatMayHaveRun drops connections after the call has run: only tools
// that say they can run twice do.
func TestCallThatMayHaveRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		var drop atomic.Bool
		s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			if method == "tools/call" && drop.CompareAndSwap(true, false) {
				panic(http.ErrAbortHandler)
			}
			return false
		}
		p := s.pool(t, nil)
		drop.Store(true)
		_, err := call(t.Context(), p, nobody, "echo", "before the list")
		var failed *mcpool.Error
		if !errors.As(err, &failed) || !errors.Is(err, mcpool.ErrConnectionLost) || !failed.MayHaveRun || failed.Attempts != 1 || mcpool.SafeToRetry(err) {
			t.Errorf("a tool nobody has listed: %v", err)
		}
		tools, err := p.ListTools(t.Context())
		if err != nil || len(tools) == 0 {
			t.Fatalf("%d tools, %v", len(tools), err)
		}
		drop.Store(true)
		if _, err := call(t.Context(), p, nobody, "echo", "after the list"); err != nil {
			t.Errorf("a tool with readOnlyHint: %v", err)
		}
		drop.Store(true)
		if _, err := call(t.Context(), p, nobody, "write", "never twice"); mcpool.SafeToRetry(err) || err == nil {
			t.Errorf("a tool without hints: %v", err)
		}
		if n := p.Stats().Retries[mcpool.RetriedHarmless]; n != 1 {
			t.Errorf("%d retries, want 1", n)
		}
		closePool(t, p)
	})
}

// TestServerThatGoesDown takes requests for a second which it does not answer:
// that uses up no attempt, and the call is answered when it is back. One that is
// busy answers no check meanwhile; the call is sent all the same.
func TestServerThatGoesDown(t *testing.T) {
	down := func(r *http.Request, _ string) { panic(http.ErrAbortHandler) }
	busy := func(r *http.Request, method string) {
		if method == "tools/call" {
			panic(http.ErrAbortHandler)
		}
		<-r.Context().Done()
	}
	for name, test := range map[string]struct {
		modern bool
		during func(*http.Request, string)
		most   time.Duration
	}{
		"legacy":      {false, down, 1600 * time.Millisecond}, // the back-off of opening is 500 ms at most
		"modern":      {true, down, 1600 * time.Millisecond},
		"busy legacy": {false, busy, 1100 * time.Millisecond},
		"busy modern": {true, busy, 1100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{Server: mcptest.Server{Modern: test.modern}}
				p := s.pool(t, nil)
				if _, err := p.ListTools(t.Context()); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				s.Fault = func(r *http.Request, method string, _ http.ResponseWriter) bool {
					if time.Since(began) < time.Second {
						test.during(r, method)
					}
					return false
				}
				if _, err := call(t.Context(), p, nobody, "echo", "1"); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took < time.Second || took > test.most || s.Requests("tools/call") != 2 {
					t.Errorf("answered after %v, sent %d times", took, s.Requests("tools/call"))
				}
				if retries := p.Stats().Retries; retries[mcpool.RetriedHarmless] != 1 {
					t.Errorf("sent again %v", retries)
				}
				closePool(t, p)
			})
		})
	}
}

// TestRetriesHaveABudget has every call fail after it has run: no more than one
// for each slot, and then a fifth, are sent again.
func TestRetriesHaveABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, nil)
		if _, err := p.ListTools(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			if method == "tools/call" {
				panic(http.ErrAbortHandler)
			}
			return false
		}
		for i := range 1000 {
			if _, err := call(t.Context(), p, nobody, "echo", fmt.Sprint(i)); !errors.Is(err, mcpool.ErrConnectionLost) {
				t.Fatal(err)
			}
		}
		if stats := p.Stats(); stats.RetriesTotal() != 247 || stats.RetryBudgetExhausted != 753 {
			// 48 there are at the start, so the first call earns nothing.
			t.Errorf("%d retries, %d over budget; want 247 and 753", stats.RetriesTotal(), stats.RetryBudgetExhausted)
		}
		closePool(t, p)
	})
}

func TestCallerThatGoesAwayHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{CallDelay: 10 * time.Second}}
		p := s.pool(t, nil)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				ctx := t.Context()
				if i%2 == 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, time.Duration(i+1)*time.Second)
					defer cancel()
				}
				_, err := call(ctx, p, nobody, "write", fmt.Sprint(i))
				if i%2 == 0 && !errors.Is(err, context.DeadlineExceeded) || i%2 == 1 && err != nil {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		all.Wait()
		if stats := p.Stats(); stats.Opened != 1 || stats.ClosedTotal() != 0 {
			t.Errorf("a caller's timeout was taken for death: %+v", stats)
		}
		closePool(t, p)
	})
}

// TestCancelledCallKeepsItsSlot has a server take three seconds to hear that a
// call is over: nobody else is sent to it before.
func TestCancelledCallKeepsItsSlot(t *testing.T) {
	for heard, want := range map[time.Duration]time.Duration{3 * time.Second: 4 * time.Second, time.Hour: 6 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := slowToHear(heard)
			p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections, c.CallsPerConnection = 1, 1 })
			began := time.Now()
			if err := cancelAfter(t, p, time.Second, "1"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("the caller was told %v after %v", err, time.Since(began))
			}
			synctest.Wait()
			if n := p.Stats().Settling; n != 1 {
				t.Errorf("%d calls settling, want 1", n)
			}
			lease, err := p.Acquire(t.Context(), nobody, mcpool.Slot)
			if err != nil || time.Since(began) != want {
				t.Errorf("the slot was free after %v, want %v (%v)", time.Since(began), want, err)
			}
			lease.Release()
			closePool(t, p)
		})
	}
}

// slowToHear is a server that takes so long to hear that a call is over.
func slowToHear(heard time.Duration) *server {
	s := &server{Server: mcptest.Server{CallDelay: time.Minute}}
	s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
		if method != "notifications/cancelled" {
			return false
		}
		select {
		case <-time.After(heard):
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusAccepted)
		return true
	}
	return s
}

func cancelAfter(t *testing.T, h rpc.Handler, d time.Duration, id string) error {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	_, err := call(ctx, h, nobody, "write", id)
	return err
}

// TestCloseCutsOffNoCancelledCall has Close come, in a hurry, while the server
// has not yet heard that a call is over: nobody waits for that call.
func TestCloseCutsOffNoCancelledCall(t *testing.T) {
	for range 20 { // what frees the slot and what closes connections may race
		synctest.Test(t, func(t *testing.T) {
			s := slowToHear(time.Hour)
			p := s.pool(t, nil)
			if err := cancelAfter(t, p, time.Second, "1"); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if err := p.Close(ended); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAnyByteIsProofOfLife: a call that takes long and reports progress has
// nobody ask whether the connection is well; one that is silent has.
func TestAnyByteIsProofOfLife(t *testing.T) {
	for progress, want := range map[bool]int{true: 0, false: 4} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{}
			s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
				if method != "tools/call" {
					return false
				}
				id := mcptest.ID(r)
				w.Header().Set("Content-Type", "text/event-stream")
				for range 290 {
					if progress {
						fmt.Fprint(w, ": still at it\n\n")
						w.(http.Flusher).Flush()
					}
					time.Sleep(time.Second)
				}
				fmt.Fprintf(w, `data: {"jsonrpc":"2.0","id":%s,"result":{}}`+"\n\n", id)
				return true
			}
			p := s.pool(t, nil)
			if _, err := p.Do(t.Context(), mcptest.CallTool("write", nil)); err != nil {
				t.Error(err)
			}
			if n := s.Requests("ping"); n != want {
				t.Errorf("progress %v: %d pings, want %d", progress, n, want)
			}
			closePool(t, p)
		})
	}
}

func TestToolError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, nil)
		_, err := p.CallTool(t.Context(), "no such tool", nil)
		var answer *rpc.Error
		if !errors.As(err, &answer) || mcpool.SafeToRetry(err) {
			t.Errorf("got %v, want the server's own error", err)
		}
		result, err := p.CallTool(t.Context(), "echo", map[string]any{"id": "1", "text": "hello"})
		if err != nil || result.IsError || result.Text() != "hello" || len(result.Raw) == 0 || len(result.StructuredContent) == 0 {
			t.Errorf("got %+v, %v", result, err)
		}
		if _, err := p.CallTool(t.Context(), "echo", func() {}); err == nil {
			t.Error("arguments that are no JSON were taken")
		}
		closePool(t, p)
	})
}

func TestSharing(t *testing.T) {
	ann, bob := rpc.Caller{Principal: "ann", Session: "1"}, rpc.Caller{Principal: "bob", Session: "1"}
	ann2 := rpc.Caller{Principal: "ann", Session: "2"}
	asking := rpc.Caller{Principal: "ann", Session: "1", Capabilities: rpc.Capabilities{Elicitation: true}}
	for _, test := range []struct {
		sharing mcpool.Sharing
		same    [][2]rpc.Caller
		apart   [][2]rpc.Caller
	}{
		{mcpool.ShareAll, [][2]rpc.Caller{{ann, bob}, {ann, ann2}}, [][2]rpc.Caller{{ann, asking}}},
		{mcpool.SharePrincipal, [][2]rpc.Caller{{ann, ann2}, {nobody, {Principal: "local"}}}, [][2]rpc.Caller{{ann, bob}, {ann, asking}}},
		{"", [][2]rpc.Caller{{ann, ann2}}, [][2]rpc.Caller{{ann, bob}, {ann, asking}}},
		{mcpool.ShareSession, [][2]rpc.Caller{{ann, ann}}, [][2]rpc.Caller{{ann, bob}, {ann, ann2}, {ann, asking}, {ann, {Principal: "ann"}}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{}
			p := s.pool(t, func(c *mcpool.Config) { c.Sharing = test.sharing })
			session := func(who rpc.Caller) string {
				id, err := call(t.Context(), p, who, "echo", "x")
				if err != nil {
					t.Fatal(err)
				}
				return id
			}
			for _, pair := range test.same {
				if session(pair[0]) != session(pair[1]) {
					t.Errorf("%q: %+v and %+v do not share", test.sharing, pair[0], pair[1])
				}
			}
			for _, pair := range test.apart {
				if session(pair[0]) == session(pair[1]) {
					t.Errorf("%q: %+v and %+v share", test.sharing, pair[0], pair[1])
				}
			}
			closePool(t, p)
		})
	}
}

func TestSessionSharing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { c.Sharing = mcpool.ShareSession; c.MaxConnectionsTotal = 6 })
		who := rpc.Caller{Session: "chat"}
		if _, err := call(t.Context(), p, who, "write", "1"); err != nil {
			t.Fatal(err)
		}
		s.Expire()
		if _, err := call(t.Context(), p, who, "write", "2"); !errors.Is(err, mcpool.ErrSessionLost) {
			t.Errorf("a lost session: %v", err)
		}
		if _, err := call(t.Context(), p, who, "write", "3"); err != nil {
			t.Errorf("after having been told: %v", err)
		}
		asking := who
		asking.Capabilities = rpc.Capabilities{Elicitation: true, ElicitationURL: true}
		if _, err := call(t.Context(), p, asking, "write", "4"); err != nil {
			t.Fatal(err)
		}
		p.EndSession(who)
		synctest.Wait()
		if s.Deletes() != 2 {
			t.Errorf("the session ended and %d of its 2 connections did", s.Deletes())
		}
		for i := range 7 { // one more than the total
			if _, err := call(t.Context(), p, rpc.Caller{Session: fmt.Sprint(i)}, "write", fmt.Sprint("s", i)); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
		if _, err := call(t.Context(), p, rpc.Caller{Session: "0"}, "write", "again"); !errors.Is(err, mcpool.ErrSessionLost) {
			t.Errorf("the least recently used session was not ended: %v", err)
		}
		if n := s.Executions()["2"] + s.Executions()["again"]; n != 0 {
			t.Errorf("%d calls ran although their state was gone", n)
		}
		closePool(t, p)
	})
}

// TestSpareIsReadyForTheNextSession: MinConnections holds for sessions
// together, so that after one has ended the next finds a connection, which
// nobody has used.
func TestSpareIsReadyForTheNextSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: 2 * time.Second}}
		p := s.pool(t, func(c *mcpool.Config) { c.Sharing = mcpool.ShareSession })
		first := rpc.Caller{Session: "first"}
		met, err := call(t.Context(), p, first, "write", "1")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if s.Sessions() != 1 {
			t.Errorf("%d connections for one session and a minimum of one", s.Sessions())
		}
		p.EndSession(first)
		time.Sleep(time.Minute)
		began := time.Now()
		second, err := call(t.Context(), p, rpc.Caller{Session: "second"}, "write", "2")
		if err != nil || time.Since(began) != 0 || second == met {
			t.Errorf("the second session waited %v, %v; on the first one's connection: %v", time.Since(began), err, second == met)
		}
		began = time.Now()
		if _, err := call(t.Context(), p, rpc.Caller{Principal: "another", Session: "second"}, "write", "3"); err != nil || time.Since(began) == 0 {
			t.Errorf("another principal's session waited %v, %v", time.Since(began), err)
		}
		if stats := p.Stats(); stats.SparesUsed != 1 || stats.Pinned != 2 {
			t.Errorf("%d spares used, %d pinned", stats.SparesUsed, stats.Pinned)
		}
		time.Sleep(time.Hour) // longer than IdleTimeout
		if s.Open() != 0 {
			t.Errorf("%d connections are still open", s.Open())
		}
		closePool(t, p)
	})
}

// waitedOut reports whether a wait for a server that was away took all of its
// time, but for what was left when the next try could only come too late.
func waitedOut(took, all time.Duration) bool {
	return took <= all && took >= all-500*time.Millisecond
}

// TestLossIsToldThoughTheCallerHasGone has the server say that a session is gone
// in the very moment in which its caller cancels.
func TestLossIsToldThoughTheCallerHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		ctx, cancel := context.WithCancel(t.Context())
		config := mcpool.DefaultConfig()
		config.Sharing = mcpool.ShareSession
		s.network.Handler = &s.Server
		p, err := mcpool.New(mcpool.Server{Name: "test", URL: "http://server.test/mcp",
			RoundTripper: roundTripper(func(r *http.Request) (*http.Response, error) {
				response, err := s.network.RoundTrip(r)
				if err == nil && response.StatusCode == http.StatusNotFound {
					cancel()
				}
				return response, err
			})}, &config)
		if err != nil {
			t.Fatal(err)
		}
		who := rpc.Caller{Session: "chat"}
		if _, err := call(ctx, p, who, "write", "1"); err != nil {
			t.Fatal(err)
		}
		s.Expire()
		_, first := call(ctx, p, who, "write", "2")
		_, second := call(t.Context(), p, who, "write", "3")
		if !errors.Is(first, mcpool.ErrSessionLost) && !errors.Is(second, mcpool.ErrSessionLost) {
			t.Errorf("nobody was told: %v, then %v", first, second)
		}
		closePool(t, p)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections = 2 })
		whole, err := p.Acquire(t.Context(), nobody, mcpool.Whole)
		if err != nil {
			t.Fatal(err)
		}
		mine, _ := call(t.Context(), whole, nobody, "write", "1")
		other, _ := call(t.Context(), p, nobody, "write", "2")
		again, _ := call(t.Context(), whole, nobody, "write", "3")
		if mine == "" || mine != again || mine == other {
			t.Errorf("sessions %q, %q and %q; want the lease's own", mine, other, again)
		}
		if c := whole.Conn(); c.Calls() != 2 || c.ID() != "test-1" {
			t.Errorf("the lease's connection: %s with %d calls", c.ID(), c.Calls())
		}
		s.Expire()
		if _, err := call(t.Context(), whole, nobody, "write", "4"); !errors.Is(err, mcpool.ErrSessionLost) {
			t.Errorf("a lost lease: %v", err)
		}
		whole.Release()
		whole.Release()
		if _, err := call(t.Context(), whole, nobody, "write", "5"); !errors.Is(err, mcpool.ErrReleased) {
			t.Errorf("a released lease: %v", err)
		}
		closePool(t, p)
	})
}

func TestModernServerIsOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{Modern: true, CallDelay: time.Second}}
		p := s.pool(t, nil)
		var all sync.WaitGroup
		began := time.Now()
		for i := range 48 {
			all.Go(func() {
				if _, err := call(t.Context(), p, nobody, "write", fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if stats := p.Stats(); stats.Connections != 1 || stats.Slots != 48 || time.Since(began) != time.Second {
			t.Errorf("%d connections with %d slots, took %v; want 1, 48 and 1s", stats.Connections, stats.Slots, time.Since(began))
		}
		if conn := p.Conns()[0]; conn.ProtocolVersion() != "2026-07-28" || conn.Era() != "modern" {
			t.Errorf("speaks %s, %s", conn.ProtocolVersion(), conn.Era())
		}
		closePool(t, p)
	})
}

func TestInProcessHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := mcpool.New(mcpool.Server{Name: "here", Handler: handlerFunc(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			return rpc.Result(json.RawMessage(`{"content":[{"type":"text","text":"` + call.Method + `"}]}`)), nil
		})}, nil)
		if err != nil {
			t.Fatal(err)
		}
		result, err := p.CallTool(t.Context(), "any", nil)
		if err != nil || result.Text() != "tools/call" {
			t.Errorf("got %v, %v", result, err)
		}
		if c := p.Conns()[0]; c.Era() != "in process" || c.Slots() != 16 {
			t.Errorf("connection %s with %d slots", c.Era(), c.Slots())
		}
		closePool(t, p)
	})
}

type handlerFunc func(context.Context, rpc.Call) (rpc.Answer, error)

func (f handlerFunc) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) { return f(ctx, call) }

func TestServerOverStdio(t *testing.T) {
	path, args, env := mcptest.Child("normal")
	config := mcpool.DefaultConfig()
	p, err := mcpool.New(mcpool.Server{Name: "child", Command: path, Args: args, Env: env}, &config)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		who := rpc.Caller{Session: fmt.Sprint(i % 2)}
		if _, err := call(t.Context(), p, who, "write", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	// A legacy server over stdio is shared by session unless told otherwise.
	if conns := p.Conns(); len(conns) != 2 || conns[0].Calls() != 2 || conns[0].Slots() != 1 {
		t.Errorf("%d processes, the first with %d calls; want one for each session", len(conns), conns[0].Calls())
	}
	closePool(t, p)
}

func TestCommandThatDoesNotExist(t *testing.T) {
	p, err := mcpool.New(mcpool.Server{Name: "typo", Command: "/no/such/command"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.CallTool(t.Context(), "any", nil)
	if !errors.Is(err, mcpool.ErrUnavailable) || !errors.Is(err, os.ErrNotExist) || !mcpool.SafeToRetry(err) {
		t.Errorf("got %v, want to be told at once", err)
	}
	closePool(t, p)
}

func TestNewRefusesBadServers(t *testing.T) {
	handler := handlerFunc(nil)
	for name, s := range map[string]mcpool.Server{
		"no way to reach it":  {Name: "x"},
		"two ways":            {Name: "x", URL: "http://a", Command: "b"},
		"close grace of URL":  {Name: "x", URL: "http://a", CloseGrace: 1},
		"negative grace":      {Name: "x", Command: "b", CloseGrace: -1},
		"no name":             {URL: "http://a"},
		"name with a slash":   {Name: "a/b", URL: "http://a"},
		"relative URL":        {Name: "x", URL: "/mcp"},
		"ftp":                 {Name: "x", URL: "ftp://a/mcp"},
		"args without cmd":    {Name: "x", URL: "http://a", Args: []string{"b"}},
		"header without URL":  {Name: "x", Handler: handler, Header: map[string][]string{}},
		"dialer beside other": {Name: "x", URL: "http://a", RoundTripper: &mcptest.Network{}, DialContext: dial},
		"CA without URL":      {Name: "x", Command: "b", CAFile: "ca.pem"},
		"CA that is missing":  {Name: "x", URL: "https://a", CAFile: "testdata/none.pem"},
		"bound on a handler":  {Name: "x", Handler: handler, MaxMessageBytes: 1},
		"negative bound":      {Name: "x", URL: "http://a", MaxMessageBytes: -1},
	} {
		if p, err := mcpool.New(s, nil); err == nil {
			p.Close(t.Context())
			t.Errorf("%s: taken", name)
		}
	}
}

// TestNoCallIsLostOrCrossed has many callers with random cancels over a
// server that loses its sessions and goes away: each answer reaches its own
// caller, nothing that must not runs twice, and no call fails that was not
// sent.
func TestNoCallIsLostOrCrossed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: 20 * time.Millisecond, CallDelay: 30 * time.Millisecond}}
		p := s.pool(t, func(c *mcpool.Config) {
			c.RetryAttempts = 10
			c.IdleTimeout, c.MaxConnectionAge, c.HealthCheckInterval = 2*time.Second, 3*time.Second, time.Second
		})
		stop := make(chan struct{})
		var chaos, callers sync.WaitGroup
		chaos.Go(func() {
			random := rand.New(rand.NewPCG(1, 2))
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(random.IntN(400)) * time.Millisecond):
				}
				s.Expire()
				if random.IntN(3) == 0 {
					s.network.SetDown(true)
					time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
					s.network.SetDown(false)
				}
			}
		})
		var mu sync.Mutex
		answered := map[string]bool{}
		cancelled := 0
		for n := range 50 {
			callers.Go(func() {
				random := rand.New(rand.NewPCG(uint64(n), 3))
				for i := range 100 {
					ctx, cancel := context.WithCancel(t.Context())
					if random.IntN(5) == 0 {
						time.AfterFunc(time.Duration(random.IntN(60))*time.Millisecond, cancel)
					}
					id := fmt.Sprintf("%d-%d", n, i)
					_, err := call(ctx, p, nobody, "write", id)
					gone := ctx.Err() != nil
					cancel()
					mu.Lock()
					switch {
					case err == nil:
						answered[id] = true
					case gone && errors.Is(err, context.Canceled):
						cancelled++
					default:
						t.Errorf("call %s: %v", id, err)
					}
					mu.Unlock()
				}
			})
		}
		callers.Wait()
		close(stop)
		chaos.Wait()
		ran := s.Executions()
		for id := range answered {
			if ran[id] != 1 {
				t.Errorf("call %s was answered and ran %d times", id, ran[id])
			}
		}
		for id, n := range ran {
			if n > 1 {
				t.Errorf("call %s ran %d times", id, n)
			}
		}
		time.Sleep(10 * time.Second) // so long may the slot of a call that was cancelled last not be free
		stats := p.Stats()
		if len(answered)+cancelled != 5000 || cancelled == 0 || stats.Closed[mcpool.ClosedLost] < 10 || stats.CallsInFlight != 0 {
			t.Errorf("%d answered, %d cancelled, %+v", len(answered), cancelled, stats)
		}
		closePool(t, p)
	})
}

func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// refuseSession answers each tool call as a server does that has just lost
// its sessions.
func refuseSession(_ *http.Request, method string, w http.ResponseWriter) bool {
	if method != "tools/call" {
		return false
	}
	http.Error(w, "session not found", http.StatusNotFound)
	return true
}

// TestAServerThatIsAwayIsLoggedOnceAMinute has callers wait for a server that is
// away for two minutes, twice.
func TestAServerThatIsAwayIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log buffer
		var away atomic.Bool
		s := &server{}
		p := s.poolOver(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if away.Load() {
				panic(http.ErrAbortHandler)
			}
			s.ServeHTTP(w, r)
		}), func(c *mcpool.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		defer closePool(t, p)
		for range 2 {
			away.Store(true)
			p.Reset()
			for began := time.Now(); time.Since(began) < 2*time.Minute; time.Sleep(100 * time.Millisecond) {
				if _, err := call(t.Context(), p, nobody, "echo", "x"); err == nil {
					t.Fatal("it is not away")
				}
			}
			away.Store(false)
			for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(time.Second) {
				_, _ = call(t.Context(), p, nobody, "echo", "x") // it is back by the end
			}
		}
		var tries uint64
		for _, failed := range p.Stats().OpenFailures {
			tries += failed
		}
		lines := strings.Count(log.String(), "level=WARN msg=\"connection not opened\"")
		if lines < 4 || lines > 6 || tries < 10*uint64(lines) || !strings.Contains(log.String(), " times=") {
			t.Errorf("%d lines for %d tries:\n%s", lines, tries, log.String())
		}
	})
}
