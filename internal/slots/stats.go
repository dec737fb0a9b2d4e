package slots

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Stats is what a pool has done and how it stands.
type Stats struct {
	Groups, Ready, InUse, Idle, Opening, Retired int // connections, by state
	Owned, Whole                                 int // connections that are one caller's: by their group, or lent so
	Slots, InFlight, Waiting                     int
	MaxOpening                                   int // connections that may be opened at once now
	OldestWait                                   time.Duration
	Breaker                                      Breaker
	Paused                                       bool

	Opened                       uint64
	Opens                        map[Cause]uint64 // openings begun
	OpenFailures                 map[Cause]uint64
	Elided                       uint64 // openings that were not needed any more when they were to begin
	Inherited                    uint64 // connections that were ready for the group that took them over
	Closed                       map[Reason]uint64
	Acquired, Released, Waited   uint64
	WaitTime                     time.Duration
	Failed                       map[Failure]uint64 // callers who got no slot
	Pinned                       uint64             // times that a connection came to be its group's owner's
	LateBinds                    uint64             // waiters served while a connection was being opened
	HealthChecks, HealthFailures uint64
}

// Stats returns the pool's state at this moment.
func (p *Pool[K, C]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	s := p.stats
	s.Closed, s.Failed = maps.Clone(s.Closed), maps.Clone(s.Failed)
	s.Opens, s.OpenFailures = maps.Clone(s.Opens), maps.Clone(s.OpenFailures)
	s.Waiting, s.Paused, s.Breaker = p.waiting, p.paused, p.breakerLocked(now)
	s.Opening, s.MaxOpening = p.opening, p.openMost
	for _, g := range p.groups {
		if g.lost == 0 {
			s.Groups++
		}
		if oldest, any := g.queue.oldest(); any {
			s.OldestWait = max(s.OldestWait, now-oldest)
		}
	}
	for c := range p.conns {
		n := c.inFlight()
		switch {
		case c.reason != "":
			s.Retired++
		case n > 0:
			s.InUse++
		default:
			s.Idle++
		}
		if c.reason == "" {
			s.Ready++
			s.Slots += c.room()
		}
		switch {
		case c.group.key.Owned:
			s.Owned++
		case c.whole():
			s.Whole++
		}
		s.InFlight += n
		lent, back := c.callsLocked()
		s.Acquired += lent
		s.Released += back
	}
	s.Acquired = max(s.Acquired, s.Waited)
	return s
}

// A View is one connection as it stands.
type View[K comparable, C any] struct {
	Conn    C
	Group   K
	Slots   int
	Used    time.Time // last time a slot was given back; now if one is lent
	Retired Reason    // why it has left the pool and waits for its last call; "" while it is in it
	Left    time.Time // when it left; zero while it is in the pool
}

func (c *conn[K, C]) viewLocked() View[K, C] {
	clock := &c.group.pool.clock
	v := View[K, C]{Conn: c.value, Group: c.group.id, Slots: c.room(), Used: clock.base.Add(c.lastUse(clock.exact())), Retired: c.reason}
	if c.reason != "" {
		v.Left = clock.base.Add(c.left)
	}
	return v
}

// Conns returns the connections that are not closed yet, in no order.
func (p *Pool[K, C]) Conns() []View[K, C] {
	p.mu.Lock()
	defer p.mu.Unlock()
	views := make([]View[K, C], 0, len(p.conns))
	for c := range p.conns {
		views = append(views, c.viewLocked())
	}
	return views
}

// Find returns the connection that is meant and not closed yet. meant must be
// quick, and call nothing of the pool.
func (p *Pool[K, C]) Find(meant func(conn C) bool) (View[K, C], bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if meant(c.value) {
			return c.viewLocked(), true
		}
	}
	return View[K, C]{}, false
}

// A Wait is the callers who wait for one principal.
type Wait struct {
	Who     string
	Waiting int
	Oldest  time.Duration // how long the first of them has waited
}

// Waits returns who waits, the longest waiting first.
func (p *Pool[K, C]) Waits() []Wait {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, by := p.now(), map[string]Wait{}
	for _, g := range p.groups {
		for l := g.queue.turns.first; l != nil; l = l.next {
			who := l.of.who
			w := by[who]
			w.Who = who
			w.Waiting += l.of.waiters.n
			w.Oldest = max(w.Oldest, now-l.of.waiters.first.of.since)
			by[who] = w
		}
	}
	return slices.SortedFunc(maps.Values(by), func(a, b Wait) int {
		return cmp.Or(cmp.Compare(b.Oldest, a.Oldest), cmp.Compare(a.Who, b.Who))
	})
}

// View returns the leased connection as it stands.
func (l Lease[K, C]) View() View[K, C] {
	l.conn.group.pool.mu.Lock()
	defer l.conn.group.pool.mu.Unlock()
	return l.conn.viewLocked()
}
