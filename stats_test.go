package mcpool_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// TestAcquiresAreCountedByResult has callers ask for the one slot there is.
func TestAcquiresAreCountedByResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: time.Second}}
		p := s.pool(t, func(c *mcpool.Config) {
			c.MaxConnections, c.CallsPerConnection, c.MaxWaiting, c.ConnectionTimeout = 1, 1, 2, 10*time.Second
		})
		want := map[mcpool.AcquireResult]uint64{}
		for _, result := range mcpool.AcquireResults() {
			want[result] = 0
		}
		check := func(when string, results ...mcpool.AcquireResult) {
			t.Helper()
			synctest.Wait()
			for _, result := range results {
				want[result]++
			}
			if got := p.Stats().Acquires; !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		lease, err := p.Acquire(t.Context(), nobody, mcpool.Slot)
		if err != nil {
			t.Fatal(err)
		}
		check("with the slot lent", mcpool.AcquireOK)
		var waiting sync.WaitGroup
		ask := func(ctx context.Context) {
			waiting.Go(func() {
				if _, err := p.Acquire(ctx, nobody, mcpool.Slot); err == nil {
					t.Error("a slot that is lent was lent")
				}
			})
			synctest.Wait()
		}
		impatient, leave := context.WithCancel(t.Context())
		ask(impatient)
		ask(t.Context())
		ask(t.Context()) // one too many
		check("with two waiting", mcpool.AcquireQueueFull)
		leave()
		check("with one that has left", mcpool.AcquireCancelled)
		waiting.Wait()
		check("with one that has waited in vain", mcpool.AcquireTimeout)
		lease.Release()
		closePool(t, p)
		if _, err := p.Acquire(t.Context(), nobody, mcpool.Slot); err == nil {
			t.Error("a closed pool lends")
		}
		check("closed", mcpool.AcquireClosed)
	})
}

// TestAcquiresOfServersThatAreAway: a server that cannot be reached, and one that
// has lost a session.
func TestAcquiresOfServersThatAreAway(t *testing.T) {
	config := mcpool.DefaultConfig()
	p, err := mcpool.New(mcpool.Server{Name: "test", Command: "/nothing/here"}, &config)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is told at once
		if _, err := p.Acquire(t.Context(), nobody, mcpool.Slot); err == nil {
			t.Error("what does not exist was started")
		}
	}
	if got := p.Stats().Acquires; got[mcpool.AcquireUnavailable] != 2 || got[mcpool.AcquireOK] != 0 {
		t.Errorf("got %v", got)
	}
	closePool(t, p)

	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { c.Sharing = mcpool.ShareSession })
		who := rpc.Caller{Session: "a"}
		if _, err := call(t.Context(), p, who, "echo", "1"); err != nil {
			t.Fatal(err)
		}
		if _, found := p.Kill(p.Conns()[0].ID()); !found {
			t.Fatal("there is no connection")
		}
		if _, err := p.Acquire(t.Context(), who, mcpool.Slot); err == nil {
			t.Error("the session goes on")
		}
		if got := p.Stats().Acquires; got[mcpool.AcquireSessionLost] != 1 || got[mcpool.AcquireOK] != 1 {
			t.Errorf("got %v", got)
		}
		closePool(t, p)
	})
}

func TestPinsAreCountedByReason(t *testing.T) {
	for sharing, want := range map[mcpool.Sharing]string{
		mcpool.ShareSession: "map[call:1 lease:2 session:3]",
		mcpool.ShareAll:     "map[call:0 lease:2 session:0]",
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{}
			p := s.pool(t, func(c *mcpool.Config) { c.Sharing = sharing })
			a, b := rpc.Caller{Session: "a"}, rpc.Caller{Session: "b"}
			for i, who := range []rpc.Caller{a, b, a, nobody} {
				if _, err := call(t.Context(), p, who, "echo", fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			for _, who := range []rpc.Caller{nobody, a} {
				lease, err := p.Acquire(t.Context(), who, mcpool.Whole)
				if err != nil {
					t.Fatal(err)
				}
				lease.Release()
			}
			p.Reset()
			synctest.Wait()
			// The state of both is lost, and one of them begins anew.
			for i := range 2 {
				if _, err := call(t.Context(), p, a, "echo", fmt.Sprint("again", i)); err != nil && i > 0 {
					t.Fatal(err)
				}
			}
			if got := fmt.Sprint(p.Stats().Pins); got != want {
				t.Errorf("%s: %s, want %s", sharing, got, want)
			}
			closePool(t, p)
		})
	}
}

// TestLeasesAreTimed: calls, and leases of callers.
func TestLeasesAreTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tick = 10 * time.Millisecond
		s := &server{Server: mcptest.Server{CallDelay: 2 * time.Second}}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections, c.CallsPerConnection = 1, 1 })
		check := func(what string, count uint64, sum time.Duration) {
			t.Helper()
			synctest.Wait()
			stats := p.Stats()
			if got := stats.Lease; got.Count != count || got.Count != stats.Released || (got.Sum-sum).Abs() > time.Duration(count)*tick {
				t.Errorf("%s: %d leases of %v together, %d released; want %d of %v", what, got.Count, got.Sum, stats.Released, count, sum)
			}
		}
		if _, err := call(t.Context(), p, nobody, "echo", "1"); err != nil {
			t.Fatal(err)
		}
		check("a call", 1, 2*time.Second)
		lease, err := p.Acquire(t.Context(), nobody, mcpool.Slot)
		if err != nil {
			t.Fatal(err)
		}
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if _, err := call(t.Context(), p, nobody, "echo", "2"); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(20 * time.Second)
		lease.Release()
		lease.Release() // it is over already
		check("a lease", 2, 22*time.Second)
		waiting.Wait()
		check("a call that has waited", 3, 24*time.Second)
		lease, err = p.Acquire(t.Context(), nobody, mcpool.Whole)
		if err != nil {
			t.Fatal(err)
		}
		lease.Release()
		check("a lease that is given back at once", 4, 24*time.Second)
		closePool(t, p)
	})
}
