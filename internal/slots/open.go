package slots

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// Back-off between openings that fail, drawn from zero up to a bound that
// doubles from backoffFirst ("full jitter", M. Brooker, "Exponential Backoff
// And Jitter", AWS 2015). While callers wait, a server that comes back is
// found within backoffWaited; otherwise nobody is in a hurry.
const (
	backoffFirst  = 50 * time.Millisecond
	backoffWaited = 500 * time.Millisecond
	backoffIdle   = 30 * time.Second
)

// Cause says why a connection was opened.
type Cause string

const (
	ForWaiters Cause = "waiters" // callers wait
	ForMin     Cause = "min"     // to have Min ready
	ForAge     Cause = "age"     // to replace one
)

// planLocked opens what the group needs: room for those who wait and those to
// come, and Min connections while it is in use.
func (p *Pool[K, C]) planLocked(g *group[K, C], now moment) {
	for !p.closed && !p.paused && g.count() < g.max() {
		cause := ForWaiters
		switch {
		case g.queue.n > 0 && (p.wanted(g, now) > len(g.opening) || p.overdueLocked(g, now)):
		case p.belowMin(g, now):
			cause = ForMin
		default:
			p.starvedLocked(g, false)
			return
		}
		if cause == ForWaiters && p.inheritLocked(g, now) {
			continue
		}
		if retry := p.retryLocked(g, now); now < retry {
			p.wakeLocked(retry)
			return
		}
		if p.holdLocked(g, now) {
			return
		}
		if !p.takeRoomLocked(g, cause == ForWaiters, now) {
			return
		}
		p.openLocked(g, cause)
	}
	if g.count() >= g.max() { // it waits for slots, not for room
		p.starvedLocked(g, false)
	}
}

// holdLocked reports whether the group may open nothing before another opening
// ends. While the server fails, one try at a time is enough to see it return;
// and when it does, not all of them at once (see openedLocked).
func (p *Pool[K, C]) holdLocked(g *group[K, C], now moment) bool {
	hold := g.failing.times > 0 && len(g.opening) > 0 || g.account.refused.times > 0 && g.account.opening > 0 ||
		p.opening >= p.openMost || p.brokenLocked(now) && p.opening > 0
	p.held = p.held || hold
	return hold
}

// retryLocked returns when the group may try to open a connection after the
// last failure.
func (p *Pool[K, C]) retryLocked(g *group[K, C], now moment) moment {
	if g.queue.n > 0 && g.failing.retry-now > backoffWaited {
		g.failing.retry = now + rand.N(backoffWaited)
	}
	retry := g.retry()
	if p.brokenLocked(now) {
		retry = max(retry, p.failing.retry)
	}
	return retry
}

// retry is when the group, or another of its account, has let enough time pass
// since the last failure.
func (g *group[K, C]) retry() moment { return max(g.failing.retry, g.later, g.account.refused.retry) }

// overdueLocked reports whether somebody has waited as long as an opening
// takes, although no opening seemed to be worth it: the calls in flight take
// longer than calls used to. From here on waiting and opening cost the same,
// so one is opened, and the wait is at most twice what it need have been.
func (p *Pool[K, C]) overdueLocked(g *group[K, C], now moment) bool {
	oldest, any := g.queue.oldest()
	if !any || len(g.opening) > 0 {
		return false
	}
	due := oldest + p.demand.opening()
	if now < due {
		p.wakeLocked(due)
	}
	return now >= due
}

// belowMin reports whether the group is to have another connection ready. One
// that its heirs have counts as one of a spare group's.
func (p *Pool[K, C]) belowMin(g *group[K, C], now moment) bool {
	return g.warm && p.groups[g.id] == g && !g.key.Owned && !p.unused(g, now) &&
		len(g.conns())+len(g.opening)+g.heirs < min(p.o.Min, g.max())
}

// unused reports whether nobody has used the group for IdleTimeout.
func (p *Pool[K, C]) unused(g *group[K, C], now moment) bool {
	return p.o.IdleTimeout > 0 && now-g.lastUse(now) >= p.o.IdleTimeout && !g.busy() && g.heirs == 0
}

// inheritLocked has an owned group take over a connection that is ready for it,
// if there is one.
func (p *Pool[K, C]) inheritLocked(g *group[K, C], now moment) bool {
	if g.spares == nil || len(g.spares.conns()) == 0 {
		return false
	}
	c := g.spares.conns()[0]
	g.spares.removeLocked(c)
	c.group, c.expires = g, 0
	p.readyLocked(g, c)
	p.stats.Inherited++
	p.pumpLocked(g, now)
	return true
}

// readyLocked lets calls go to a connection.
func (p *Pool[K, C]) readyLocked(g *group[K, C], c *conn[K, C]) {
	list := append(slices.Clone(g.conns()), c)
	g.ready.Store(&list)
	g.warm, g.failing = true, failing{}
	if g.key.Owned {
		p.stats.Pinned++
	}
	if g.spares != nil {
		g.spares.warm = true
	}
}

// removeLocked lets no more calls go to a connection.
func (g *group[K, C]) removeLocked(c *conn[K, C]) {
	list := slices.DeleteFunc(slices.Clone(g.conns()), func(r *conn[K, C]) bool { return r == c })
	g.ready.Store(&list)
	g.hot.CompareAndSwap(c, nil)
}

// openLocked starts an opening, for which there is room. It belongs to the
// pool: no caller's cancellation ends it.
func (p *Pool[K, C]) openLocked(g *group[K, C], cause Cause) {
	o := &opening{cause: cause, generation: p.generation}
	var ctx context.Context
	ctx, o.cancel = context.WithCancelCause(p.ctx)
	g.opening[o] = struct{}{}
	p.opening++
	g.account.opening++
	open, timeout := p.o.Open, p.o.OpenTimeout
	p.work.Go(func() {
		defer o.cancel(nil)
		if !p.begin(g, o, cause) {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		began := p.now()
		opened, err := open(ctx, g.id)
		took := p.now() - began
		var later *LaterError
		_ = errors.As(err, &later)
		for permanent := errors.Is(err, ErrPermanent); ; {
			resize := p.resize.Load()
			if resize != nil && err == nil {
				if n := (*resize)(opened.Conn); n > 0 {
					opened.Slots = n
				}
			}
			if p.landed(g, o, opened, err, permanent, later, took, resize) {
				return
			}
		}
	})
}

// begin looks once more whether an opening is needed, for it will take long.
func (p *Pool[K, C]) begin(g *group[K, C], o *opening, cause Cause) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !o.unwanted && (cause != ForWaiters || g.queue.n > 0) {
		p.stats.Opens[cause]++
		return true
	}
	now := p.now()
	p.stats.Elided++
	delete(g.opening, o)
	p.opening--
	g.account.opening--
	p.giveRoomLocked(g, nil)
	p.afterOpeningLocked(g, now)
	return false
}

// landed takes in what came of an opening, unless connections have other sizes
// now than what resize said.
func (p *Pool[K, C]) landed(g *group[K, C], o *opening, opened Opened[C], err error, permanent bool, later *LaterError, took time.Duration, resize *func(C) int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resize.Load() != resize {
		return false
	}
	now := p.now()
	delete(g.opening, o)
	p.opening--
	g.account.opening--
	switch {
	case err == nil:
		p.demand.opened.add(took)
		p.admitLocked(g, o, opened, now)
	case o.unwanted: // no failure of the server's
		p.giveRoomLocked(g, nil)
	default:
		p.giveRoomLocked(g, nil)
		p.failedLocked(g, o, err, permanent, later, now)
	}
	p.afterOpeningLocked(g, now)
	return true
}

// afterOpeningLocked looks at what the end of an opening makes possible.
func (p *Pool[K, C]) afterOpeningLocked(g *group[K, C], now moment) {
	p.feedLocked(now) // before this group: who waits comes before Min
	p.planLocked(g, now)
	if p.held { // a group without waiters, too, may have been held back
		p.held = false
		p.wakeLocked(now)
	}
	p.scheduleLocked(g, now)
	p.forgetLocked(g)
	p.noticeLocked()
	p.offer()
}

// openedLocked keeps the number of openings at once to what the server bears:
// half after a failure, one more after a success (additive increase,
// multiplicative decrease).
func (p *Pool[K, C]) openedLocked(well bool) {
	if well {
		p.openMost = min(p.openMost+1, p.o.MaxOpening)
	} else {
		p.openMost = max(p.openMost/2, 1)
	}
}

func (p *Pool[K, C]) failedLocked(g *group[K, C], o *opening, err error, permanent bool, later *LaterError, now moment) {
	p.stats.OpenFailures[o.cause]++
	if permanent {
		p.refusedLocked(g, err, now)
		return
	}
	g.failing.add(err, now)
	if later != nil && o.generation == p.generation {
		g.later = now + later.After
	}
	if later == nil || !later.Alone {
		p.troubledLocked(g, err, now)
	}
	if len(g.conns()) == 0 && len(g.opening) == 0 {
		p.failLocked(g, p.laterError(g, now), func(w *waiter[K, C]) bool { return w.until <= max(g.failing.retry, g.later) })
	}
}

// troubledLocked takes in a failure to open that may be the server's.
func (p *Pool[K, C]) troubledLocked(g *group[K, C], err error, now moment) {
	p.openedLocked(false)
	p.failing.add(err, now)
	most := backoffIdle
	if g.queue.n > 0 {
		most = backoffWaited
	}
	times := max(g.failing.times, p.failing.times) // the group may be new, and the failure old
	g.failing.retry = now + backoff(times, most)
	p.failing.retry = g.failing.retry
	if p.brokenLocked(now) {
		p.failLocked(g, p.failedError(g, ErrDown, p.failing, now), func(w *waiter[K, C]) bool { return w.probe })
	}
}

// laterError is that the group's next try comes too late for who waits.
func (p *Pool[K, C]) laterError(g *group[K, C], now moment) error {
	f := g.failing
	f.retry = max(f.retry, g.later)
	return p.failedError(g, ErrTimeout, f, now)
}

// refusedLocked takes in an opening that it is no use to try again soon. It is
// told to all of the account, and says nothing about the server.
func (p *Pool[K, C]) refusedLocked(g *group[K, C], err error, now moment) {
	a := g.account
	a.refused.add(err, now)
	a.refused.retry = now + backoff(a.refused.times, backoffIdle)
	p.failAccountLocked(a, now)
}

func (p *Pool[K, C]) failAccountLocked(a *account, now moment) {
	for at := p.hungry.first; at != nil; {
		g := at.of
		at = at.next // only g itself can leave
		if g.account == a && len(g.conns()) == 0 {
			p.failLocked(g, p.failedError(g, ErrDown, a.refused, now), nil)
		}
	}
}

func backoff(times int, most time.Duration) time.Duration {
	return rand.N(min(backoffFirst<<min(times-1, 20), most))
}

func (f *failing) add(err error, now moment) {
	if f.times++; f.since == 0 {
		f.since = now
	}
	f.err = err
}

// brokenLocked reports whether the breaker is open: nothing could be opened
// for BreakAfter, in no group.
func (p *Pool[K, C]) brokenLocked(now moment) bool {
	return p.o.BreakAfter > 0 && p.failing.times > 0 && now-p.failing.since >= p.o.BreakAfter
}

// downLocked decides what becomes of a caller while openings fail. Until the
// breaker is open it waits, unless its time is over before the next try. Then
// it is told at once, unless a try is due: that is made for it (half-open),
// and its outcome is the caller's.
func (p *Pool[K, C]) downLocked(g *group[K, C], until, now moment) (probe bool, err error) {
	refused := g.account.refused
	switch {
	case len(g.conns()) > 0:
		return false, nil
	case now < refused.retry:
		return false, p.failedError(g, ErrDown, refused, now)
	case until <= g.later:
		return false, p.laterError(g, now)
	case p.failing.times == 0:
		return false, nil
	}
	switch broken := p.brokenLocked(now); {
	case broken && (now < p.retryLocked(g, now) || p.opening > 0):
		return false, p.failedError(g, ErrDown, p.failing, now)
	case broken:
		return true, nil
	case until <= min(g.failing.retry, now+backoffWaited) && len(g.opening) == 0:
		return false, p.failedError(g, ErrTimeout, g.failing, now)
	}
	return false, nil
}

// failedError is err because of a run of failures.
func (p *Pool[K, C]) failedError(g *group[K, C], err error, f failing, now moment) error {
	e := p.waitErrorLocked(g, err, now)
	e.Cause, e.RetryIn = f.err, max(0, f.retry-now)
	return e
}

// admitLocked makes a new connection ready and serves those who wait. It has
// the room that was taken for its opening.
func (p *Pool[K, C]) admitLocked(g *group[K, C], o *opening, opened Opened[C], now moment) {
	c := newConn(g, opened, now)
	if p.o.MaxAge > 0 && !g.key.Owned {
		c.expires = p.expires(g, now)
	}
	p.stats.Opened++
	p.conns[c] = struct{}{}
	p.readyLocked(g, c)
	p.openedLocked(true)
	p.failing, g.account.refused = failing{}, failing{}
	switch {
	case p.closed:
		p.retireLocked(c, Shutdown)
		return
	case o.unwanted || p.groups[g.id] != g:
		p.retireLocked(c, Surplus)
		return
	case o.generation != p.generation:
		p.retireLocked(c, Reset)
		return
	case opened.Sole && !g.sole:
		g.sole = true
		p.dismissLocked(g, errUnwanted)
	}
	if c.done != nil {
		p.work.Go(func() { p.watch(c) })
	}
	p.pumpLocked(g, now)
	if o.cause == ForAge {
		p.replacedLocked(g, c)
	}
}

// replacedLocked retires the connection that expires first, now that a new one
// took its place.
func (p *Pool[K, C]) replacedLocked(g *group[K, C], by *conn[K, C]) {
	var oldest *conn[K, C]
	for _, c := range g.conns() {
		if c != by && c.expires != 0 && (oldest == nil || c.expires < oldest.expires) {
			oldest = c
		}
	}
	if oldest != nil {
		p.retireLocked(oldest, p.whyLocked(oldest))
	}
}

// whyLocked is why a connection is replaced.
func (p *Pool[K, C]) whyLocked(c *conn[K, C]) Reason {
	if p.wornLocked(c) {
		return Calls
	}
	return Age
}

// watch retires a connection that ends by itself.
func (p *Pool[K, C]) watch(c *conn[K, C]) {
	select {
	case <-c.done:
		p.mu.Lock()
		p.retireLocked(c, Lost)
		p.mu.Unlock()
	case <-c.closing:
	}
}

// Lost says that the connection of this lease has failed: it is retired, and
// closed when its last lease is given back. It does not release the lease.
// Where the connection held its owner's state, the holder of this lease knows
// now that it is gone, and the next caller is not told again.
func (l Lease[K, C]) Lost() {
	g := l.conn.group
	p := g.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retireLocked(l.conn, Lost)
	if g.lost != 0 {
		p.dropLocked(g)
	}
}

// retireLocked takes a connection out of the pool at once; it is closed when
// its last call ends. Doing it again has no effect.
func (p *Pool[K, C]) retireLocked(c *conn[K, C], why Reason) {
	if c.reason != "" {
		return
	}
	now := p.now()
	g := c.group
	c.reason, c.left = why, now
	g.removeLocked(c)
	idle := count(c.state().Or(retiredBit)) == 0
	if why == Lost {
		p.giveRoomLocked(g, nil) // its server has let go of it already
	} else {
		g.retired++
	}
	if why == Evicted && len(g.conns()) == 0 {
		g.warm = false // or it would be opened again for Min
	}
	if lent, _ := c.callsLocked(); g.key.Owned && lent > 0 && why != Ended && why != Shutdown {
		p.lostLocked(g, now)
	}
	if idle {
		p.closeLocked(c)
	}
	p.feedLocked(now)
	p.planLocked(g, now)
	p.scheduleLocked(g, now) // another one may be replaced now
}

// closeLocked closes a connection that has left the pool.
func (p *Pool[K, C]) closeLocked(c *conn[K, C]) {
	if c.closed {
		return
	}
	c.closed = true
	close(c.closing)
	end := p.o.Close
	p.work.Go(func() {
		end(p.ctx, c.value, c.reason)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.closedLocked(c)
	})
}

func (p *Pool[K, C]) closedLocked(c *conn[K, C]) {
	g, now := c.group, p.now()
	delete(p.conns, c)
	lent, _ := c.callsLocked()
	p.stats.Acquired += lent
	p.stats.Released += lent // what is left was cut off
	p.stats.Closed[c.reason]++
	if c.reason != Lost {
		g.retired--
		p.giveRoomLocked(g, c)
	}
	switch {
	case c.reason != Evicted || c.sacrificed != nil:
	case c.evictedBusy:
		p.evictedBusy--
	default:
		p.evicted--
	}
	p.feedLocked(now)
	p.planLocked(g, now)
	p.scheduleLocked(g, now)
	p.forgetLocked(g)
	p.noticeLocked()
}
