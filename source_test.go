package mcpool_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// The tests named TestSource_ show the parts of the system that this project
// was built after, each as it lives here. Its six checks are in pool_test.go
// by their names, its eight settings in settings_test.go.

// TestSource_MCPConnectionPool shows least-recently-used management through
// the library: three connections for a storm, then one goes idle before the
// others and is the first to be closed.
func TestSource_MCPConnectionPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{}}
		p := s.pool(t, func(c *mcpool.Config) { c.CallsPerConnection = 1 })
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				if _, err := call(t.Context(), p, nobody, "sleep", fmt.Sprint(i), "ms", 1000*(i+1)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		var order []string
		for _, c := range p.Conns() {
			order = append(order, c.ID())
		}
		for _, wantLeft := range []int{2, 1} {
			oldest := time.Duration(0)
			for _, c := range p.Conns() {
				oldest = max(oldest, time.Since(c.LastUse()))
			}
			time.Sleep(600*time.Second - oldest)
			synctest.Wait()
			for _, c := range p.Conns() {
				if idle := time.Since(c.LastUse()); idle >= 600*time.Second {
					t.Errorf("%s was used %v ago and is open, while others were closed", c.ID(), idle)
				}
			}
			if n := len(p.Conns()); n != wantLeft {
				t.Errorf("%d of %v left, want %d", n, order, wantLeft)
			}
		}
		closePool(t, p)
	})
}

// TestSource_PooledConnection shows a connection with what is known of it.
func TestSource_PooledConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: 2 * time.Second, CallDelay: time.Second, Name: "warehouse"}}
		p := s.pool(t, nil)
		if _, err := call(t.Context(), p, nobody, "write", "1"); err != nil {
			t.Fatal(err)
		}
		call(t.Context(), p, nobody, "no such tool", "2")
		used := time.Now()
		time.Sleep(5 * time.Second)
		var third sync.WaitGroup
		third.Go(func() { call(t.Context(), p, nobody, "write", "3") })
		synctest.Wait()
		c := p.Conns()[0]
		if c.ID() != "test-1" || c.State() != "ready" || c.OpenTook() != 2*time.Second ||
			c.Age() != time.Since(used)+2*time.Second || !c.LastUse().Equal(time.Now()) ||
			c.Calls() != 3 || c.CallsInFlight() != 1 || c.Errors() != 1 || c.Slots() != 8 ||
			c.ServerName() != "warehouse" || c.ProtocolVersion() != "2025-11-25" || len(c.Group()) != 16 {
			t.Errorf("id %s, %s, opened in %v, age %v, last use %v, calls %d, in flight %d, errors %d, slots %d, server %s %s, group %s",
				c.ID(), c.State(), c.OpenTook(), c.Age(), c.LastUse(), c.Calls(), c.CallsInFlight(), c.Errors(), c.Slots(),
				c.ServerName(), c.ProtocolVersion(), c.Group())
		}
		third.Wait()
		closePool(t, p)
	})
}

// TestSource_ConnectionMetrics shows the counters after a day's work.
func TestSource_ConnectionMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: time.Second, CallDelay: time.Second}}
		p := s.pool(t, nil)
		for hour := range 24 {
			for i := range 10 {
				if _, err := call(t.Context(), p, nobody, "echo", fmt.Sprint(hour, "-", i)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Hour)
		}
		synctest.Wait()
		// Each hour's connection is checked once, at 300 s, and closes idle at 600 s.
		got := p.Stats()
		if got.Calls != 240 || got.Opened != 24 || got.Closed[mcpool.ClosedIdle] != 24 || got.HealthChecks != 24 ||
			got.ReuseRatio != 0.9 || got.Errors != 0 || got.Open.P50 != time.Second || got.Call.P99 != time.Second {
			t.Errorf("%+v", got)
		}
		closePool(t, p)
	})
}
