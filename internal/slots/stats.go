package slots

import (
	"maps"
	"time"
)

// Stats is what a pool has done and how it stands.
type Stats struct {
	Groups, Ready, InUse, Idle, Opening, Retired int // connections, by state
	Slots, InFlight, Waiting                     int
	OldestWait                                   time.Duration

	Opened, OpenFailures         uint64
	Closed                       map[Reason]uint64
	Acquired, Released, Waited   uint64
	WaitTime                     time.Duration
	AcquireFailures              uint64
	HealthChecks, HealthFailures uint64
}

// Stats returns the pool's state at this moment.
func (p *Pool[K, C]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Closed = maps.Clone(s.Closed)
	for _, g := range p.groups {
		if g.lost.IsZero() {
			s.Groups++
		}
		s.Opening += len(g.opening)
		s.Waiting += g.waiters.Len()
		if oldest := g.waiters.Front(); oldest != nil {
			s.OldestWait = max(s.OldestWait, time.Since(oldest.Value.(*waiter[K, C]).since))
		}
	}
	for c := range p.conns {
		switch {
		case c.retired != "":
			s.Retired++
		case c.inFlight > 0:
			s.InUse++
		default:
			s.Idle++
		}
		if c.retired == "" {
			s.Ready++
			s.Slots += len(c.slots)
		}
		s.InFlight += c.inFlight
	}
	return s
}

// A View is one connection as it stands.
type View[C any] struct {
	Conn    C
	Slots   int
	Used    time.Time // last time a slot was lent or given back
	Retired bool      // it has left the pool and waits for its last call
}

func (c *conn[K, C]) viewLocked() View[C] {
	return View[C]{c.value, len(c.slots), c.used, c.retired != ""}
}

// Conns returns the connections that are not closed yet, in no order.
func (p *Pool[K, C]) Conns() []View[C] {
	p.mu.Lock()
	defer p.mu.Unlock()
	views := make([]View[C], 0, len(p.conns))
	for c := range p.conns {
		views = append(views, c.viewLocked())
	}
	return views
}

// View returns the leased connection as it stands.
func (l Lease[K, C]) View() View[C] {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	return l.conn.viewLocked()
}
