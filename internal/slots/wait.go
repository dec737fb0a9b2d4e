package slots

import (
	"container/heap"
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
func (p *Pool[K, C]) Acquire(ctx context.Context, key *Key[K], ask Ask) (Lease[K, C], error) {
	if ctx.Err() != nil {
		return Lease[K, C]{}, context.Cause(ctx)
	}
	if g := p.recent.Load(); g != nil && g.id == key.ID && !ask.Whole && g.gate.Load() == 0 {
		if l, ok := g.take(); ok {
			if g.gate.Load() < gatePaused {
				l.since = p.clock.now()
				return l, nil
			}
			l.Release() // a Pause came in between, and may not have seen it
		}
	}
	w, l, err := p.join(ctx, key, ask)
	if w == nil {
		return l, err
	}
	select {
	case <-w.ready:
		l, err = w.lease, w.err
	case <-ctx.Done():
		l, err = p.giveUp(ctx, w)
	}
	p.recycle(w)
	return l, err
}

// recycle keeps a waiter, which nobody knows any more, for another wait.
func (p *Pool[K, C]) recycle(w *waiter[K, C]) {
	*w = waiter[K, C]{ready: w.ready}
	p.waiters.Put(w)
}

// join takes a slot if there is one now, and otherwise puts the caller into
// the queue of its group.
func (p *Pool[K, C]) join(ctx context.Context, key *Key[K], ask Ask) (w *waiter[K, C], l Lease[K, C], err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.stats.Failed[Ending]++
		return nil, l, ErrClosed
	}
	now := p.now()
	g := p.groupLocked(key)
	if g.lost != 0 {
		p.dropLocked(g)
		p.stats.Failed[StateLost]++
		return nil, l, ErrLost
	}
	p.recent.Store(g)
	g.used.Store(int64(now))
	if g.key != *key && key.Edition >= g.key.Edition {
		p.rekeyLocked(g, *key)
	}
	if g.gate.Load() == 0 {
		if l, ok := g.serve(ask.Whole); ok {
			l.since = p.clock.now()
			return nil, l, nil
		}
	}
	until := now + ask.Timeout
	if at, ok := ctx.Deadline(); ok {
		until = min(until, now+time.Until(at))
	}
	probe, err := p.downLocked(g, until, now)
	if err == nil && !p.placeLocked(g, ask.Who) {
		err = p.waitErrorLocked(g, ErrQueueFull, now)
	}
	if err != nil {
		p.stats.Failed[failureOf(err)]++
		p.pumpLocked(g, now) // one before it may have made way for it
		p.forgetLocked(g)
		return nil, l, err
	}
	w, _ = p.waiters.Get().(*waiter[K, C])
	if w == nil {
		w = &waiter[K, C]{ready: make(chan struct{}, 1)}
	}
	w.group, w.who, w.whole, w.weight, w.probe = g, ask.Who, ask.Whole, ask.Weight, probe
	w.since, w.until, w.deadline = now, until, now+ask.Timeout
	p.enqueueLocked(g, w)
	p.pumpLocked(g, now) // a slot may have come free before the gate was up
	p.planLocked(g, now)
	return w, l, nil
}

// serve lends what is asked for if it is there.
func (g *group[K, C]) serve(whole bool) (Lease[K, C], bool) {
	if whole {
		return g.takeWhole()
	}
	return g.take()
}

// giveUp ends a wait that took too long for ctx.
func (p *Pool[K, C]) giveUp(ctx context.Context, w *waiter[K, C]) (Lease[K, C], error) {
	p.mu.Lock()
	err := context.Cause(ctx)
	select {
	case <-w.ready: // served in the same moment
		p.mu.Unlock()
		if w.err == nil {
			w.lease.Release()
			return Lease[K, C]{}, err
		}
		return w.lease, w.err
	default:
	}
	defer p.mu.Unlock()
	p.leaveLocked(w, err)
	<-w.ready
	return Lease[K, C]{}, w.err
}

// leaveLocked ends a wait that took too long: for err, with how its group
// stands.
func (p *Pool[K, C]) leaveLocked(w *waiter[K, C], err error) {
	g, now := w.group, p.now()
	head := g.queue.head() == w
	p.dequeueLocked(g, w, false)
	failed := p.waitErrorLocked(g, err, now)
	failed.Cause = g.failing.err
	p.endLocked(w, failed, now)
	if head { // those behind may want less than it did
		p.pumpLocked(g, now)
	}
	p.forgetLocked(g)
}

// expireLocked ends the waits whose time is up.
func (p *Pool[K, C]) expireLocked(now moment) {
	for len(p.deadlines) > 0 && p.deadlines[0].deadline <= now {
		p.leaveLocked(p.deadlines[0], ErrTimeout)
	}
	p.expiry = 0
	if len(p.deadlines) > 0 {
		p.expiry = p.deadlines[0].deadline
	}
}

// placeLocked reports whether there is a place in g for a waiter of a principal.
// Where all are taken, one who waits for the principal with the most waiters,
// and came last, makes room for one of a principal with fewer: a storm is to
// drown itself. (It is what routers do with packets: B. Suter et al., "Design
// Considerations for Supporting TCP with Per-flow Queueing", INFOCOM 1998.)
func (p *Pool[K, C]) placeLocked(g *group[K, C], who string) bool {
	if p.o.WaitingEach > 0 && p.waitersLocked(who) >= p.o.WaitingEach {
		return false
	}
	if p.o.MaxWaiting > 0 && p.waiting >= p.o.MaxWaiting && !p.shedLocked(g, who) {
		return false
	}
	return p.o.Waiters.take(p, false)
}

// waitersLocked is how many callers wait for a principal, in all groups.
func (p *Pool[K, C]) waitersLocked(who string) (n int) {
	for at := p.hungry.first; at != nil; at = at.next {
		its, _ := at.of.queue.waiters(who)
		n += its
	}
	return n
}

// shedLocked ends the wait of one of the principal with the most waiters,
// unless that would have no more than who then.
func (p *Pool[K, C]) shedLocked(g *group[K, C], who string) bool {
	waiters := map[string]int{}
	for at := p.hungry.first; at != nil; at = at.next {
		for l := at.of.queue.turns.first; l != nil; l = l.next {
			waiters[l.of.who] += l.of.waiters.n
		}
	}
	most, storm := waiters[who]+1, ""
	for other, n := range waiters {
		if n > most {
			most, storm = n, other
		}
	}
	var last *waiter[K, C]
	for at := p.hungry.first; at != nil; at = at.next {
		if _, w := at.of.queue.waiters(storm); w != nil && (last == nil || w.since >= last.since) {
			last = w
		}
	}
	if most == waiters[who]+1 || last == nil {
		return false
	}
	now, of := p.now(), last.group
	p.refuseLocked(last, p.waitErrorLocked(of, ErrQueueFull, now))
	if of != g { // g is served once the newcomer has its place in it
		p.pumpLocked(of, now) // those behind may want less than it did
	}
	return true
}

func (p *Pool[K, C]) enqueueLocked(g *group[K, C], w *waiter[K, C]) {
	g.queue.push(w)
	g.gate.Add(1)
	p.waiting++
	if g.hungry.in == nil {
		p.hungry.push(&g.hungry, g)
	}
	heap.Push(&p.deadlines, w)
	if p.expiry == 0 || w.deadline < p.expiry {
		// It stays when the waiter goes, so that the keeper is not told of each.
		p.expiry = w.deadline
		p.wakeLocked(p.expiry)
	}
}

func (p *Pool[K, C]) dequeueLocked(g *group[K, C], w *waiter[K, C], served bool) {
	g.queue.remove(w, served)
	g.gate.Add(-1)
	p.waiting--
	heap.Remove(&p.deadlines, w.rank)
	p.o.Waiters.give(false, false)
	if g.queue.n == 0 {
		g.hungry.leave()
		p.starvedLocked(g, false)
	}
}

// pumpLocked serves the waiters of a group in their order, as far as there is
// room.
func (p *Pool[K, C]) pumpLocked(g *group[K, C], now moment) {
	for w := g.queue.head(); w != nil && !p.paused; w = g.queue.head() {
		l, ok := g.serve(w.whole)
		if !ok {
			return
		}
		l.waited, l.since = now-w.since, -now
		w.lease = l
		p.stats.Waited++
		p.stats.WaitTime += l.waited
		if len(g.opening) > 0 && l.conn.opened != now {
			p.stats.LateBinds++
		}
		p.dequeueLocked(g, w, true)
		w.ready <- struct{}{} // from here on it is the caller's
	}
}

// failLocked ends the waits of a group with err: all of them, or those that
// are meant.
func (p *Pool[K, C]) failLocked(g *group[K, C], err error, meant func(*waiter[K, C]) bool) {
	for _, w := range g.queue.all() {
		if meant == nil || meant(w) {
			p.refuseLocked(w, err)
		}
	}
	p.pumpLocked(g, p.now()) // those behind may want less than it did
}

func (p *Pool[K, C]) refuseLocked(w *waiter[K, C], err error) {
	p.dequeueLocked(w.group, w, false)
	p.endLocked(w, err, p.now())
}

// endLocked ends a wait, which has left its queue, without a slot.
func (p *Pool[K, C]) endLocked(w *waiter[K, C], err error, now moment) {
	waited := now - w.since
	if failed, ok := err.(*WaitError); ok { //nolint:errorlint // made by us just now
		its := *failed
		its.After = waited
		err = &its
	}
	p.stats.Failed[failureOf(err)]++
	p.stats.WaitTime += waited
	w.err = err
	w.ready <- struct{}{} // from here on it is the caller's
}

// released does what giving a lease back may ask for besides.
func (p *Pool[K, C]) released(c *conn[K, C], since moment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, now := c.group, p.now()
	p.noticeLocked()
	if since < 0 {
		p.demand.served.add(now + since)
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
