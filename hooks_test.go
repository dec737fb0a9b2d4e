package mcpool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// diary is what hooks were told, in order. Each end says which start its ctx
// comes from.
type diary struct {
	mu    sync.Mutex
	lines []string
	n     int
}

type begun struct{}

func (d *diary) start(ctx context.Context, format string, args ...any) context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	what := fmt.Sprintf(format, args...)
	d.lines = append(d.lines, what)
	return context.WithValue(ctx, begun{}, strings.Fields(what)[0])
}

func (d *diary) end(ctx context.Context, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf("%v ends: ", ctx.Value(begun{}))+fmt.Sprintf(format, args...))
}

func (d *diary) hooks() mcpool.Hooks {
	return mcpool.Hooks{
		AcquireStart: func(ctx context.Context, e mcpool.AcquireStart) context.Context {
			return d.start(ctx, "acquire %s for %s, whole %v", e.Server, e.Principal, e.Whole)
		},
		AcquireEnd: func(ctx context.Context, e mcpool.AcquireEnd) {
			d.end(ctx, "%s after %v, %v", e.Conn, e.Waited, e.Err != nil)
		},
		OpenStart: func(ctx context.Context, e mcpool.OpenStart) context.Context {
			return d.start(ctx, "open %s", e.Server)
		},
		OpenEnd: func(ctx context.Context, e mcpool.OpenEnd) {
			d.end(ctx, "%s after %v, %v", e.Conn, e.Took, e.Err != nil)
		},
		CallStart: func(ctx context.Context, e mcpool.CallStart) context.Context {
			return d.start(ctx, "call %s on %s", e.Method, e.Conn)
		},
		CallEnd: func(ctx context.Context, e mcpool.CallEnd) {
			d.end(ctx, "after %v, %v", e.Took, e.Err != nil)
		},
		CloseStart: func(ctx context.Context, e mcpool.CloseStart) context.Context {
			return d.start(ctx, "close %s, %s", e.Conn, e.Reason)
		},
		CloseEnd: func(ctx context.Context, e mcpool.CloseEnd) { d.end(ctx, "after %v", e.Took) },
	}
}

func TestHooksAreToldOfEveryStartAndItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: 2 * time.Second, CallDelay: time.Second}}
		var d diary
		p := s.pool(t, func(c *mcpool.Config) { c.Hooks = d.hooks(); c.ConnectionTimeout = 5 * time.Second })
		ann := rpc.Caller{Principal: "ann"}
		if _, err := call(t.Context(), p, ann, "write", "1"); err != nil {
			t.Fatal(err)
		}
		s.Expire() // the next call is turned away, and made again
		if _, err := call(t.Context(), p, ann, "write", "2"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.network.SetDown(true)
		lease, err := p.Acquire(t.Context(), ann, mcpool.Whole)
		if err != nil {
			t.Fatal(err)
		}
		lease.Release()
		if _, err := p.Acquire(t.Context(), rpc.Caller{Principal: "bob"}, mcpool.Slot); !errors.Is(err, mcpool.ErrAcquireTimeout) {
			t.Errorf("got %v", err)
		}
		closePool(t, p)
		want := []string{
			"acquire test for ann, whole false",
			"open test",
			"open ends: test-1 after 2s, false",
			"acquire ends: test-1 after 2s, false",
			"call tools/call on test-1",
			"call ends: after 1s, false",
			"acquire test for ann, whole false",
			"acquire ends: test-1 after 0s, false",
			"call tools/call on test-1",
			"call ends: after 0s, true",
		}
		if len(d.lines) < len(want) || !slices.Equal(d.lines[:len(want)], want) {
			t.Errorf("told\n%s\nwant first\n%s", strings.Join(d.lines, "\n"), strings.Join(want, "\n"))
		}
		for _, line := range []string{
			"close test-1, lost", "acquire test for ann, whole true", "acquire ends: test-2 after 0s, false",
			"acquire test for bob, whole false", "open ends:  after 0s, true", "close test-2, shutdown",
		} {
			if !slices.Contains(d.lines, line) {
				t.Errorf("not told %q in\n%s", line, strings.Join(d.lines, "\n"))
			}
		}
		if len(d.lines) != 2*d.n {
			t.Errorf("%d starts, %d ends", d.n, len(d.lines)-d.n)
		}
	})
}

// TestCallsRunUnderTheContextOfTheirHook: what a hook puts into the ctx, such
// as the span of a trace, is there where the call is made.
func TestCallsRunUnderTheContextOfTheirHook(t *testing.T) {
	var d diary
	config := mcpool.DefaultConfig()
	config.Hooks = d.hooks()
	var under any
	p, err := mcpool.New(mcpool.Server{Name: "inside", Handler: handlerFunc(func(ctx context.Context, _ rpc.Call) (rpc.Answer, error) {
		under = ctx.Value(begun{})
		return rpc.Result([]byte(`{}`)), nil
	})}, &config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Do(t.Context(), rpc.Call{Method: "tools/list"}); err != nil || under != "call" {
		t.Errorf("the call ran under %v, %v", under, err)
	}
	closePool(t, p)
}

func TestEveryWaitErrorSaysHowThePoolStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{CallDelay: time.Minute}}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections, c.CallsPerConnection, c.MaxWaiting = 1, 2, 1 })
		var all sync.WaitGroup
		for i := range 2 {
			all.Go(func() { _, _ = call(t.Context(), p, nobody, "write", fmt.Sprint(i)) })
			synctest.Wait() // only one may wait for the connection
		}
		want := func(err, is error, state string) {
			t.Helper()
			if !errors.Is(err, is) || !mcpool.SafeToRetry(err) || !strings.Contains(err.Error(), state) {
				t.Errorf("got  %v\nwant %v with %q", err, is, state)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		refusals := make(chan error, 1)
		time.AfterFunc(time.Second, func() {
			_, err := p.Acquire(t.Context(), nobody, mcpool.Slot)
			refusals <- err
		})
		_, err := p.Acquire(ctx, nobody, mcpool.Slot)
		want(err, context.DeadlineExceeded, "after 3s (connections 1 ready, 0 retired, 0 opening of 1; calls in flight 2 of 2; waiting 0, oldest 0s; breaker closed)")
		want(<-refusals, mcpool.ErrQueueFull, "(connections 1 ready, 0 retired, 0 opening of 1; calls in flight 2 of 2; waiting 1, oldest 1s; breaker closed)")
		_, err = p.Acquire(t.Context(), nobody, mcpool.Slot)
		want(err, mcpool.ErrAcquireTimeout, "after 35s (connections 1 ready")
		all.Wait()
		closePool(t, p)
	})
}

// TestPartOfAnAnswerIsNotFollowedByAnother: once the caller has seen progress,
// the call is not sent again, though the tool says that this does no harm.
func TestPartOfAnAnswerIsNotFollowedByAnother(t *testing.T) {
	for _, listens := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{}
			p := s.pool(t, nil)
			if _, err := p.ListTools(t.Context()); err != nil {
				t.Fatal(err)
			}
			runs := 0
			s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
				if method != "tools/call" {
					return false
				}
				runs++
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprint(w, `data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"half"}}`+"\n\n")
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			c := mcptest.CallTool("echo", map[string]any{"id": "1"})
			heard := 0
			if listens {
				c.Events = mcptest.Events{OnNotify: func(string, json.RawMessage) { heard++ }}
			}
			_, err := p.Do(t.Context(), c)
			want := map[bool]int{true: 1, false: 2}[listens]
			if !errors.Is(err, mcpool.ErrConnectionLost) || runs != want || listens && heard != 1 {
				t.Errorf("listening %v: ran %d times, want %d; heard %d; %v", listens, runs, want, heard, err)
			}
			closePool(t, p)
		})
	}
}
