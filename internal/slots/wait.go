package slots

import (
	"context"
	"fmt"
	"time"
)

// Ask is what a caller wants of a group.
type Ask struct {
	// Who is the principal whose turn it is among those who wait.
	Who string
	// Whole asks for a connection that has no other call in flight.
	Whole bool
	// Timeout is the longest wait.
	Timeout time.Duration
}

// Acquire lends a slot on a connection of the group, or a whole connection. It
// blocks until there is one, for at most the timeout, opening connections as
// the group may; ctx ends the wait, not the opening.
//
// The error is [ErrClosed], [ErrLost], [ErrQueueFull], a [*TimeoutError], a
// [*DownError], or the cause of ctx.
func (p *Pool[K, C]) Acquire(ctx context.Context, key Key[K], ask Ask) (Lease[K, C], error) {
	if ctx.Err() != nil {
		return Lease[K, C]{}, context.Cause(ctx)
	}
	if g := p.recent.Load(); g != nil && g.id == key.ID && !ask.Whole && g.gate.Load() == 0 {
		if l, ok := g.take(); ok {
			return l, nil
		}
	}
	w, g, l, err := p.join(ctx, key, ask)
	if w == nil {
		return l, err
	}
	timer := time.NewTimer(ask.Timeout)
	defer timer.Stop()
	select {
	case <-w.ready:
		return w.lease, w.err
	case <-ctx.Done():
	case <-timer.C:
	}
	return p.giveUp(ctx, g, w)
}

// join takes a slot if there is one now, and otherwise puts the caller into
// the queue of its group.
func (p *Pool[K, C]) join(ctx context.Context, key Key[K], ask Ask) (w *waiter[K, C], g *group[K, C], l Lease[K, C], err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, l, ErrClosed
	}
	now := p.now()
	g = p.groupLocked(key)
	if g.lost != 0 {
		delete(p.groups, key.ID)
		return nil, nil, l, ErrLost
	}
	p.recent.Store(g)
	g.used.Store(int64(now))
	if g.key != key {
		g.key = key
		p.shrinkLocked(g)
	}
	if g.gate.Load() == 0 {
		if l, ok := g.serve(ask.Whole); ok {
			return nil, nil, l, nil
		}
	}
	probe, down := p.downLocked(g, now)
	if down == nil && p.o.MaxWaiting > 0 && p.waiting >= p.o.MaxWaiting {
		down = ErrQueueFull
	}
	if down != nil {
		p.stats.Refused++
		p.forgetLocked(g)
		return nil, nil, l, down
	}
	w = &waiter[K, C]{who: ask.Who, whole: ask.Whole, since: now, probe: probe, ready: make(chan struct{})}
	p.enqueueLocked(g, w)
	p.pumpLocked(g, now) // a slot may have come free before the gate was up
	p.planLocked(g, now)
	return w, g, l, nil
}

// serve lends what is asked for if it is there.
func (g *group[K, C]) serve(whole bool) (Lease[K, C], bool) {
	if whole {
		return g.takeWhole()
	}
	return g.take()
}

// giveUp ends a wait that took too long for ctx or its timeout.
func (p *Pool[K, C]) giveUp(ctx context.Context, g *group[K, C], w *waiter[K, C]) (Lease[K, C], error) {
	p.mu.Lock()
	err := context.Cause(ctx)
	select {
	case <-w.ready: // served in the same moment
		p.mu.Unlock()
		if w.err == nil && err != nil {
			w.lease.Release()
			return Lease[K, C]{}, err
		}
		return w.lease, w.err
	default:
	}
	defer p.mu.Unlock()
	now := p.now()
	head := g.queue.head() == w
	p.dequeueLocked(g, w, false)
	p.endedLocked(w, now)
	if head { // those behind may want less than it did
		p.pumpLocked(g, now)
	}
	if err == nil {
		err = g.timeout(now - w.since)
	}
	p.forgetLocked(g)
	return Lease[K, C]{}, err
}

func (p *Pool[K, C]) enqueueLocked(g *group[K, C], w *waiter[K, C]) {
	g.queue.push(w)
	g.gate.Add(1)
	p.waiting++
	if g.hungry == nil {
		g.hungry = p.hungry.PushBack(g)
	}
}

func (p *Pool[K, C]) dequeueLocked(g *group[K, C], w *waiter[K, C], served bool) {
	g.queue.remove(w, served)
	g.gate.Add(-1)
	p.waiting--
	if g.queue.n == 0 {
		p.hungry.Remove(g.hungry)
		g.hungry = nil
		p.starvedLocked(g, false)
	}
}

// starvedLocked notes whether the group waits for room in the total.
func (p *Pool[K, C]) starvedLocked(g *group[K, C], starved bool) {
	if g.starved != starved {
		g.starved = starved
		if starved {
			p.starved.Add(1)
		} else {
			p.starved.Add(-1)
		}
	}
}

// endedLocked counts a wait that ended without a slot.
func (p *Pool[K, C]) endedLocked(w *waiter[K, C], now moment) {
	p.stats.AcquireFailures++
	p.stats.WaitTime += now - w.since
}

// pumpLocked serves the waiters of a group in their order, as far as there is
// room.
func (p *Pool[K, C]) pumpLocked(g *group[K, C], now moment) {
	for w := g.queue.head(); w != nil && !p.paused; w = g.queue.head() {
		l, ok := g.serve(w.whole)
		if !ok {
			return
		}
		l.waited, l.since = now-w.since, now
		w.lease = l
		p.stats.Waited++
		p.stats.WaitTime += l.waited
		if len(g.opening) > 0 && l.conn.opened != now {
			p.stats.LateBinds++
		}
		p.dequeueLocked(g, w, true)
		close(w.ready)
	}
}

// failLocked ends the waits of a group with err; with probes, of those alone
// that came while the breaker was open.
func (p *Pool[K, C]) failLocked(g *group[K, C], err error, probes bool) {
	now := p.now()
	for _, w := range g.queue.all() {
		if probes && !w.probe {
			continue
		}
		w.err = err
		p.endedLocked(w, now)
		p.dequeueLocked(g, w, false)
		close(w.ready)
	}
}

// released does what giving a lease back may ask for besides.
func (p *Pool[K, C]) released(l Lease[K, C], now moment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := l.conn
	p.noticeLocked()
	if l.since != 0 {
		p.demand.served.add(now - l.since)
	}
	if c.reason != "" {
		if c.inFlight() == 0 {
			p.closeLocked(c)
		}
		return
	}
	if p.wornLocked(c) && c.expires != now {
		c.expires = now
		p.renewLocked(c.group, now)
	}
	p.pumpLocked(c.group, now)
	if c.group.queue.n > 0 {
		p.planLocked(c.group, now)
	}
	if c.inFlight() == 0 && p.starved.Load() > 0 {
		p.feedLocked(now) // it may be evicted for another group
	}
}

// A TimeoutError is a wait that took its whole timeout. It says how the pool
// stood then.
type TimeoutError struct {
	After       time.Duration
	Connections int // open in the group
	Max         int
	Opening     int
	Slots       int
	InFlight    int
	Waiting     int   // besides this one
	Cause       error // the last failure to open a connection, if the last try failed
}

func (e *TimeoutError) Error() string {
	s := fmt.Sprintf("waited %v (connections %d of %d, opening %d, calls in flight %d of %d, waiting %d)",
		e.After, e.Connections, e.Max, e.Opening, e.InFlight, e.Slots, e.Waiting)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *TimeoutError) Unwrap() error { return e.Cause }

func (g *group[K, C]) timeout(after time.Duration) *TimeoutError {
	e := &TimeoutError{After: after, Connections: len(g.conns()), Max: g.max(),
		Opening: len(g.opening), Waiting: g.queue.n, Cause: g.failing.err}
	for _, c := range g.conns() {
		e.Slots += len(c.slots)
		e.InFlight += c.inFlight()
	}
	return e
}
