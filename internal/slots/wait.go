package slots

import (
	"context"
	"time"
)

// Ask is what a caller wants of a group.
type Ask struct {
	// Who is the principal whose turn it is among those who wait, and Weight
	// how many slots a turn of it is; less than 1 is 1.
	Who    string
	Weight int
	// Whole asks for a connection that has no other call in flight.
	Whole bool
	// Timeout is the longest wait.
	Timeout time.Duration
}

// Acquire lends a slot on a connection of the group, or a whole connection. It
// blocks until there is one, for at most the timeout, opening connections as
// the group may; ctx ends the wait, not the opening.
//
// The error is [ErrClosed], [ErrLost], the cause of a ctx that had ended
// before, or a [*WaitError].
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
		p.dropLocked(g)
		return nil, nil, l, ErrLost
	}
	p.recent.Store(g)
	g.used.Store(int64(now))
	if g.key != key {
		p.rekeyLocked(g, key)
	}
	if g.gate.Load() == 0 {
		if l, ok := g.serve(ask.Whole); ok {
			return nil, nil, l, nil
		}
	}
	w = &waiter[K, C]{who: ask.Who, whole: ask.Whole, weight: ask.Weight, since: now, deadline: now + ask.Timeout, ready: make(chan struct{})}
	if deadline, ok := ctx.Deadline(); ok {
		w.deadline = min(w.deadline, now+time.Until(deadline))
	}
	if w.probe, err = p.downLocked(g, w.deadline, now); err == nil && !p.placeLocked(w) {
		err = p.waitErrorLocked(g, ErrQueueFull, now)
	}
	if err != nil {
		p.stats.Refused++
		p.forgetLocked(g)
		return nil, nil, l, err
	}
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
		err = ErrTimeout
	}
	failed := p.waitErrorLocked(g, err, now)
	failed.After, failed.Cause = now-w.since, g.failing.err
	p.forgetLocked(g)
	return Lease[K, C]{}, failed
}

// placeLocked reports whether there is a place for a waiter. Where all are
// taken, one who waits for the principal with the most waiters, and came last,
// makes room for one of a principal with fewer: a storm is to drown itself.
// (It is what routers do with packets: B. Suter et al., "Design Considerations
// for Supporting TCP with Per-flow Queueing", INFOCOM 1998.)
func (p *Pool[K, C]) placeLocked(w *waiter[K, C]) bool {
	if p.o.WaitingEach > 0 && p.waiters[w.who] >= p.o.WaitingEach {
		return false
	}
	if p.o.MaxWaiting > 0 && p.waiting >= p.o.MaxWaiting && !p.shedLocked(w.who) {
		return false
	}
	return p.o.Waiters.take(p, false)
}

// shedLocked ends the wait of one of the principal with the most waiters,
// unless that would have no more than who then.
func (p *Pool[K, C]) shedLocked(who string) bool {
	most, storm := p.waiters[who]+1, ""
	for other, n := range p.waiters {
		if n > most {
			most, storm = n, other
		}
	}
	if most == p.waiters[who]+1 {
		return false
	}
	var last *waiter[K, C]
	var of *group[K, C]
	for e := p.hungry.Front(); e != nil; e = e.Next() {
		g := e.Value.(*group[K, C])
		if w := g.queue.newest(storm); w != nil && (last == nil || w.since >= last.since) {
			last, of = w, g
		}
	}
	now := p.now()
	p.refuseLocked(of, last, p.waitErrorLocked(of, ErrQueueFull, now))
	p.pumpLocked(of, now) // those behind may want less than it did
	return true
}

func (p *Pool[K, C]) enqueueLocked(g *group[K, C], w *waiter[K, C]) {
	g.queue.push(w)
	g.gate.Add(1)
	p.waiting++
	p.waiters[w.who]++
	if g.hungry == nil {
		g.hungry = p.hungry.PushBack(g)
	}
}

func (p *Pool[K, C]) dequeueLocked(g *group[K, C], w *waiter[K, C], served bool) {
	g.queue.remove(w, served)
	g.gate.Add(-1)
	p.waiting--
	if p.waiters[w.who]--; p.waiters[w.who] == 0 {
		delete(p.waiters, w.who)
	}
	p.o.Waiters.give(false)
	if g.queue.n == 0 {
		p.hungry.Remove(g.hungry)
		g.hungry = nil
		p.starvedLocked(g, false)
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

// failLocked ends the waits of a group with err: all of them, or those that
// are meant.
func (p *Pool[K, C]) failLocked(g *group[K, C], err error, meant func(*waiter[K, C]) bool) {
	for _, w := range g.queue.all() {
		if meant == nil || meant(w) {
			p.refuseLocked(g, w, err)
		}
	}
	p.pumpLocked(g, p.now()) // those behind may want less than it did
}

func (p *Pool[K, C]) refuseLocked(g *group[K, C], w *waiter[K, C], err error) {
	now := p.now()
	if failed, ok := err.(*WaitError); ok { //nolint:errorlint // made by us just now
		its := *failed
		its.After = now - w.since
		err = &its
	}
	w.err = err
	p.endedLocked(w, now)
	p.dequeueLocked(g, w, false)
	close(w.ready)
}

// released does what giving a lease back may ask for besides.
func (p *Pool[K, C]) released(l Lease[K, C]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, now := l.conn, p.now()
	g := c.group
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
		p.renewLocked(g, now)
	}
	p.pumpLocked(g, now)
	if g.queue.n > 0 {
		p.planLocked(g, now)
	}
	if c.inFlight() == 0 {
		if p.starved.Load() > 0 {
			p.feedLocked(now) // it may be evicted for another group
		}
		p.offer() // or for another pool
	}
}
