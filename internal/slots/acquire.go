package slots

import (
	"container/list"
	"context"
	"time"
)

// A Lease is the right to make one call on a connection, or to have it whole.
// It is a value; copies are the same lease.
type Lease[K comparable, C any] struct {
	pool   *Pool[K, C]
	conn   *conn[K, C]
	slot   int
	turn   uint32
	waited time.Duration
}

// Conn returns the connection.
func (l Lease[K, C]) Conn() C { return l.conn.value }

// Waited returns how long the lease was waited for.
func (l Lease[K, C]) Waited() time.Duration { return l.waited }

// Acquire lends a slot on a connection of the group, or with whole a
// connection that has no other call in flight. It blocks until there is one,
// for at most timeout, opening connections as the group may; ctx ends the
// wait, not the opening.
//
// The error is [ErrClosed], [ErrLost], a [*TimeoutError], an [*OpenError], or
// the cause of ctx.
func (p *Pool[K, C]) Acquire(ctx context.Context, key Key[K], whole bool, timeout time.Duration) (Lease[K, C], error) {
	if err := context.Cause(ctx); err != nil {
		return Lease[K, C]{}, err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return Lease[K, C]{}, ErrClosed
	}
	now := time.Now()
	g := p.groupLocked(key)
	if !g.lost.IsZero() {
		delete(p.groups, key.ID)
		p.mu.Unlock()
		return Lease[K, C]{}, ErrLost
	}
	g.used = now
	if g.waiters.Len() == 0 {
		if l, ok := p.lendLocked(g, whole, now); ok {
			p.mu.Unlock()
			return l, nil
		}
	}
	w := &waiter[K, C]{whole: whole, since: now, ready: make(chan struct{})}
	place := p.enqueueLocked(g, w)
	p.planLocked(g, now)
	p.mu.Unlock()

	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-w.ready:
		return w.lease, w.err
	case <-ctx.Done():
	case <-timer.C:
	}
	return p.giveUp(ctx, g, w, place)
}

// giveUp ends a wait that took too long for ctx or its timeout.
func (p *Pool[K, C]) giveUp(ctx context.Context, g *group[K, C], w *waiter[K, C], place *list.Element) (Lease[K, C], error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := context.Cause(ctx)
	select {
	case <-w.ready: // served in the same moment
		if w.err != nil || err == nil {
			return w.lease, w.err
		}
		p.releaseLocked(w.lease)
	default:
		head := g.waiters.Front() == place
		p.dequeueLocked(g, place)
		p.endedLocked(w)
		if head { // those behind may want less than it did
			p.pumpLocked(g, time.Now())
		}
	}
	if err == nil {
		err = g.timeout(time.Since(w.since))
	}
	p.forgetLocked(g)
	return Lease[K, C]{}, err
}

func (p *Pool[K, C]) enqueueLocked(g *group[K, C], w *waiter[K, C]) *list.Element {
	if w.whole {
		g.wholes++
	}
	if g.hungry == nil {
		g.hungry = p.hungry.PushBack(g)
	}
	return g.waiters.PushBack(w)
}

func (p *Pool[K, C]) dequeueLocked(g *group[K, C], place *list.Element) {
	if place.Value.(*waiter[K, C]).whole {
		g.wholes--
	}
	g.waiters.Remove(place)
	if g.waiters.Len() == 0 {
		p.hungry.Remove(g.hungry)
		g.hungry = nil
	}
}

// endedLocked counts a wait that ended without a slot.
func (p *Pool[K, C]) endedLocked(w *waiter[K, C]) {
	p.stats.AcquireFailures++
	p.stats.WaitTime += time.Since(w.since)
}

func (g *group[K, C]) timeout(after time.Duration) *TimeoutError {
	e := &TimeoutError{After: after, Connections: len(g.ready), Max: g.max(),
		Opening: len(g.opening), Waiting: g.waiters.Len(), Cause: g.lastErr}
	for _, c := range g.ready {
		e.Slots += len(c.slots)
		e.InFlight += c.inFlight
	}
	return e
}

// lendLocked lends a slot, or a whole connection, if there is one.
func (p *Pool[K, C]) lendLocked(g *group[K, C], whole bool, now time.Time) (Lease[K, C], bool) {
	c := g.pick(whole)
	if c == nil {
		return Lease[K, C]{}, false
	}
	i := 0
	for c.slots[i].busy {
		i++
	}
	c.slots[i].busy = true
	c.whole = whole
	c.inFlight++
	p.stats.Acquired++
	p.touchLocked(c, now)
	return Lease[K, C]{pool: p, conn: c, slot: i, turn: c.slots[i].turn}, true
}

// pick chooses the connection for the next call: the most recently used one up
// to half its slots, so that connections which are not needed fall idle; then
// the one with the most room.
func (g *group[K, C]) pick(whole bool) *conn[K, C] {
	var recent, roomy *conn[K, C]
	for _, c := range g.ready {
		switch {
		case c.whole || c.inFlight == len(c.slots) || whole && c.inFlight > 0:
			continue
		case c.inFlight < (len(c.slots)+1)/2 && (recent == nil || c.order > recent.order):
			recent = c
		case roomy == nil || len(c.slots)-c.inFlight > len(roomy.slots)-roomy.inFlight:
			roomy = c
		}
	}
	if recent != nil {
		return recent
	}
	return roomy
}

// touchLocked notes that a connection is in use.
func (p *Pool[K, C]) touchLocked(c *conn[K, C], now time.Time) {
	p.touches++
	c.used, c.order, c.group.used = now, p.touches, now
}

// Held reports whether the lease was not given back yet.
func (l Lease[K, C]) Held() bool {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	s := l.conn.slots[l.slot]
	return s.busy && s.turn == l.turn
}

// Release gives the lease back. Only the first call of all on its copies has
// an effect; it reports whether it was that one.
func (l Lease[K, C]) Release() bool {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	return l.pool.releaseLocked(l)
}

func (p *Pool[K, C]) releaseLocked(l Lease[K, C]) bool {
	c := l.conn
	s := &c.slots[l.slot]
	if !s.busy || s.turn != l.turn {
		return false
	}
	s.busy = false
	s.turn++
	c.inFlight--
	c.whole = false
	p.stats.Released++
	now := time.Now()
	p.touchLocked(c, now)
	if c.retired != "" {
		if c.inFlight == 0 {
			p.closeLocked(c)
		}
	} else {
		p.pumpLocked(c.group, now)
		if c.inFlight == 0 && p.total >= p.o.Total {
			p.feedLocked(now) // it may be evicted for another group
		}
	}
	return true
}

// pumpLocked serves the waiters of a group in their order, as far as there is
// room.
func (p *Pool[K, C]) pumpLocked(g *group[K, C], now time.Time) {
	for place := g.waiters.Front(); place != nil; place = g.waiters.Front() {
		w := place.Value.(*waiter[K, C])
		l, ok := p.lendLocked(g, w.whole, now)
		if !ok {
			return
		}
		l.waited = now.Sub(w.since)
		w.lease = l
		p.stats.Waited++
		p.stats.WaitTime += l.waited
		p.dequeueLocked(g, place)
		close(w.ready)
	}
}

// failLocked ends all waits of a group with err.
func (p *Pool[K, C]) failLocked(g *group[K, C], err error) {
	for place := g.waiters.Front(); place != nil; place = g.waiters.Front() {
		w := place.Value.(*waiter[K, C])
		w.err = err
		p.endedLocked(w)
		p.dequeueLocked(g, place)
		close(w.ready)
	}
}
