package mcpool_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
)

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func forgets(t *testing.T, p *mcpool.Pool) mcpool.Lease {
	lease, err := p.Acquire(t.Context(), nobody, mcpool.Slot)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func TestLeakReportNamesWhereALeaseWasTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log buffer
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		lease := forgets(t, p)
		for range 1000 { // not held for long, and too many to look at each
			l := forgets(t, p)
			time.Sleep(time.Second / 2)
			l.Release()
		}
		if n := p.Stats().Leaked; n != 0 || strings.Contains(log.String(), "lease held") {
			t.Errorf("after 500 s %d leaks were found:\n%s", n, log.String())
		}
		time.Sleep(time.Hour)
		report := ""
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "lease held") {
				report += line
			}
		}
		if n := p.Stats().Leaked; n != 1 || strings.Count(report, "\n") != 1 ||
			!strings.Contains(report, "mcpool_test.forgets") || !strings.Contains(report, "leaks_test.go:") ||
			!strings.Contains(report, "conn=test-1") || strings.Contains(report, "mcpool.(*Pool)") {
			t.Errorf("%d leaks were found:\n%s", n, report)
		}
		lease.Release()
		closePool(t, p)
	})
}

func TestNoLeakIsLookedForWithoutLeakAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { c.LeakAfter = 0 })
		lease := forgets(t, p)
		time.Sleep(24 * time.Hour)
		if n := p.Stats().Leaked; n != 0 {
			t.Errorf("%d leaks", n)
		}
		lease.Release()
		closePool(t, p)
	})
}

// TestManyHeldLeasesAreBounded: what is remembered is, too.
func TestManyHeldLeasesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections, c.CallsPerConnection = 6, 60_000 })
		var held []mcpool.Lease
		for range 300_000 {
			held = append(held, forgets(t, p))
		}
		time.Sleep(time.Hour)
		if n := p.Stats().Leaked; n != 1024 {
			t.Errorf("%d leaks were found, want as many as are remembered", n)
		}
		for _, l := range held {
			l.Release()
		}
		closePool(t, p)
	})
}

// TestCancelledCallOfALeaseKeepsItsSlot: as for calls without a lease, nobody
// else is sent to a server that has not heard that a call is over.
func TestCancelledCallOfALeaseKeepsItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slowToHear(3 * time.Second)
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections, c.CallsPerConnection = 1, 1 })
		lease := forgets(t, p)
		began := time.Now()
		for i := range 2 {
			if err := cancelAfter(t, lease, time.Second, fmt.Sprint(i)); err == nil {
				t.Error("a cancelled call succeeded")
			}
		}
		lease.Release()
		lease.Release()
		if n := p.Stats().Settling; n != 1 {
			t.Errorf("%d leases settle, want 1", n)
		}
		if _, err := call(t.Context(), lease, nobody, "write", "late"); err == nil {
			t.Error("a released lease made a call")
		}
		next := forgets(t, p)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the slot was free after %v, want when the server had heard of both calls, after 5 s", took)
		}
		lease.Release() // of no effect on the next one
		if stats := p.Stats(); stats.CallsInFlight != 1 {
			t.Errorf("%d calls in flight", stats.CallsInFlight)
		}
		next.Release()
		closePool(t, p)
	})
}

// TestLeaseReleasedUnderItsCallsIsForgotten: what cancelled calls leave behind
// on a lease that was released before they ended.
func TestLeaseReleasedUnderItsCallsIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slowToHear(time.Second)
		p := s.pool(t, nil)
		for i := range 10 {
			lease, err := p.Acquire(t.Context(), nobody, mcpool.Whole)
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			all.Go(func() { _ = cancelAfter(t, lease, time.Second, fmt.Sprint(i)) })
			synctest.Wait()
			lease.Release()
			all.Wait()
		}
		time.Sleep(time.Minute)
		if n := mcpool.Unsettled(p); n != 0 {
			t.Errorf("%d leases are remembered for ever", n)
		}
		closePool(t, p)
	})
}

func TestZeroLeaseCanBeReleased(t *testing.T) {
	var lease mcpool.Lease
	lease.Release()
}
