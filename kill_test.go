package mcpool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// sleeper answers in process after three seconds, or when its call ends.
type sleeper struct{}

func (sleeper) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	select {
	case <-time.After(3 * time.Second):
		return rpc.Result(json.RawMessage(`{"content":[]}`)), nil
	case <-ctx.Done():
		return rpc.Answer{}, ctx.Err()
	}
}

// TestKillFailsTheCallsOfOneConnection has calls in flight on two connections.
// Those of the one that is killed fail, though their tool may be called twice.
func TestKillFailsTheCallsOfOneConnection(t *testing.T) {
	for name, modern := range map[string]bool{"legacy": false, "modern": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{Server: mcptest.Server{CallDelay: 3 * time.Second, Modern: modern}}
				p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections, c.CallsPerConnection = 2, 2 })
				call(t.Context(), p, nobody, "echo", "0") // which tells of its tools
				p.ListTools(t.Context())
				errs := make([]error, 4)
				var all sync.WaitGroup
				for i := range errs {
					who := rpc.Caller{Principal: fmt.Sprint(i % 2)}
					all.Go(func() { _, errs[i] = call(t.Context(), p, who, "echo", fmt.Sprint(i)) })
				}
				time.Sleep(time.Second)
				var victim *mcpool.Conn
				for _, c := range p.Conns() {
					if c.CallsInFlight() == 2 {
						victim = c
					}
				}
				if victim == nil {
					t.Fatalf("no connection has two calls in flight: %v", p.Stats())
				}
				lent, found := p.Kill(victim.ID())
				if !found || lent != 2 {
					t.Errorf("killed %d calls, %v; want 2", lent, found)
				}
				began := time.Now()
				all.Wait()
				failed := 0
				for i, err := range errs {
					if err == nil {
						continue
					}
					failed++
					if !errors.Is(err, mcpool.ErrKilled) || !errors.Is(err, mcpool.ErrConnectionLost) {
						t.Errorf("call %d: %v", i, err)
					}
				}
				if failed != 2 || time.Since(began) > 3*time.Second {
					t.Errorf("%d calls failed in %v, want the two of the connection", failed, time.Since(began))
				}
				if stats := p.Stats(); stats.Closed[mcpool.ClosedKilled] != 1 || stats.RetriesTotal() != 0 {
					t.Errorf("%d connections killed, %d calls sent again", stats.Closed[mcpool.ClosedKilled], stats.RetriesTotal())
				}
				if _, found := p.Kill(victim.ID()); found {
					t.Error("it was killed twice")
				}
				if _, err := call(t.Context(), p, rpc.Caller{Principal: "0"}, "echo", "after"); err != nil {
					t.Errorf("the next call: %v", err)
				}
				closePool(t, p)
			})
		})
	}
}

func TestKillInProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := mcpool.DefaultConfig()
		p, err := mcpool.New(mcpool.Server{Name: "test", Handler: sleeper{}}, &config)
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 1)
		go func() {
			_, err := p.Do(t.Context(), mcptest.CallTool("x", nil))
			failed <- err
		}()
		time.Sleep(time.Second)
		if lent, found := p.Kill("test-1"); !found || lent != 1 {
			t.Errorf("killed %d calls, %v", lent, found)
		}
		if err := <-failed; !errors.Is(err, mcpool.ErrKilled) {
			t.Errorf("the call: %v", err)
		}
		if _, err := p.Do(t.Context(), mcptest.CallTool("x", nil)); err != nil {
			t.Errorf("the next call: %v", err)
		}
		closePool(t, p)
	})
}

// TestKillTellsASessionOnce: the state of a session is gone with its
// connection. Whose call was in flight knows by that.
func TestKillTellsASessionOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{CallDelay: 3 * time.Second}}
		p := s.pool(t, func(c *mcpool.Config) { c.Sharing = mcpool.ShareSession })
		busy, idle := rpc.Caller{Session: "busy"}, rpc.Caller{Session: "idle"}
		failed := make(chan error, 1)
		call(t.Context(), p, idle, "echo", "1")
		go func() {
			_, err := call(t.Context(), p, busy, "echo", "2")
			failed <- err
		}()
		time.Sleep(time.Second)
		for _, c := range p.Conns() {
			p.Kill(c.ID())
		}
		if err := <-failed; !errors.Is(err, mcpool.ErrSessionLost) || !errors.Is(err, mcpool.ErrKilled) {
			t.Errorf("the call in flight: %v", err)
		}
		if _, err := call(t.Context(), p, busy, "echo", "3"); err != nil {
			t.Errorf("its session's next: %v", err)
		}
		if _, err := call(t.Context(), p, idle, "echo", "4"); !errors.Is(err, mcpool.ErrSessionLost) {
			t.Errorf("the other session's next: %v", err)
		}
		if _, err := call(t.Context(), p, idle, "echo", "5"); err != nil {
			t.Errorf("and the one after: %v", err)
		}
		closePool(t, p)
	})
}

func TestKillKnowsOnlyWhatIsOpen(t *testing.T) {
	p := (&server{}).pool(t, nil)
	for _, id := range []string{"", "test-1", "nobody-1"} {
		if _, found := p.Kill(id); found {
			t.Errorf("killed %q", id)
		}
	}
	closePool(t, p)
}

func TestWaitsAreByPrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{CallDelay: 10 * time.Second}}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections, c.CallsPerConnection, c.Sharing = 1, 1, mcpool.ShareAll })
		var all sync.WaitGroup
		start := func(principal string) {
			all.Go(func() { call(t.Context(), p, rpc.Caller{Principal: principal}, "echo", "x") })
			time.Sleep(time.Second)
		}
		if waits := p.Waits(); len(waits) != 0 {
			t.Errorf("at first: %v", waits)
		}
		for _, principal := range []string{"", "b", "a", "a", ""} {
			start(principal)
		}
		want := []mcpool.Wait{{"b", 1, 4 * time.Second}, {"a", 2, 3 * time.Second}, {"local", 1, time.Second}}
		if got := p.Waits(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		all.Wait()
		if waits := p.Waits(); len(waits) != 0 {
			t.Errorf("in the end: %v", waits)
		}
		closePool(t, p)
	})
}
