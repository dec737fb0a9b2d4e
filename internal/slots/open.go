package slots

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Back-off between openings that fail, drawn from zero up to a bound that
// doubles from backoffFirst ("full jitter"). While callers wait, a server that
// comes back is found within backoffWaited; otherwise nobody is in a hurry.
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
			return
		}
		if g.queue.n > 0 && g.failing.retry-now > backoffWaited {
			g.failing.retry = now + rand.N(backoffWaited)
		}
		if now < g.failing.retry {
			p.wakeLocked(g.failing.retry)
			return
		}
		// While the server fails, one try at a time is enough to see it return.
		if g.failing.times > 0 && len(g.opening) > 0 {
			return
		}
		if p.total >= p.o.Total {
			if cause == ForWaiters {
				p.starvedLocked(g, true)
				p.evictLocked(g)
			}
			return
		}
		p.starvedLocked(g, false)
		p.openLocked(g, cause)
	}
}

// overdueLocked reports whether somebody has waited as long as an opening
// takes, although no opening seemed to be worth it: the calls in flight take
// longer than calls used to. From here on waiting and opening cost the same,
// so one is opened, and the wait is at most twice what it need have been.
func (p *Pool[K, C]) overdueLocked(g *group[K, C], now moment) bool {
	oldest, any := g.queue.oldest()
	if !any || len(g.opening) > 0 {
		return false
	}
	due := oldest + time.Duration(p.demand.opened.value*float64(time.Second))
	if now < due {
		p.wakeLocked(due)
	}
	return now >= due
}

func (p *Pool[K, C]) belowMin(g *group[K, C], now moment) bool {
	return g.warm && !g.key.Owned && !p.unused(g, now) &&
		len(g.conns())+len(g.opening) < min(p.o.Min, g.max())
}

// unused reports whether nobody has used the group for IdleTimeout.
func (p *Pool[K, C]) unused(g *group[K, C], now moment) bool {
	return p.o.IdleTimeout > 0 && now-g.lastUse() >= p.o.IdleTimeout && !g.busy()
}

// feedLocked lets groups with waiters plan again, the longest waiting first:
// there may be room in the total now.
func (p *Pool[K, C]) feedLocked(now moment) {
	for e := p.hungry.Front(); e != nil; e = e.Next() {
		p.planLocked(e.Value.(*group[K, C]), now)
	}
}

// evictLocked makes room for a group by retiring the least recently used idle
// connection of another one; at most one at a time for each group that waits.
func (p *Pool[K, C]) evictLocked(hungry *group[K, C]) {
	if p.evicted >= p.hungry.Len() {
		return
	}
	var victim *conn[K, C]
	for c := range p.conns {
		if c.group != hungry && c.reason == "" && c.inFlight() == 0 && (victim == nil || c.used.Load() < victim.used.Load()) {
			victim = c
		}
	}
	if victim != nil {
		p.evicted++
		p.retireLocked(victim, Evicted)
	}
}

// openLocked starts an opening. It belongs to the pool: no caller's
// cancellation ends it.
func (p *Pool[K, C]) openLocked(g *group[K, C], cause Cause) {
	o := &opening{replaces: cause == ForAge, generation: p.generation}
	var ctx context.Context
	ctx, o.cancel = context.WithCancelCause(p.ctx)
	g.opening[o] = struct{}{}
	p.total++
	p.stats.Opens[cause]++
	timeout := p.o.OpenTimeout
	p.work.Go(func() {
		defer o.cancel(nil)
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		began := p.now()
		opened, err := p.o.Open(ctx, g.id)
		p.landed(g, o, opened, err, began)
	})
}

// landed takes in what came of an opening.
func (p *Pool[K, C]) landed(g *group[K, C], o *opening, opened Opened[C], err error, began moment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	delete(g.opening, o)
	p.total--
	switch {
	case err == nil:
		p.demand.opened.add(now - began)
		p.admitLocked(g, o, opened, now)
	case o.unwanted: // broken off by us: no failure of the server's
	default:
		p.failedLocked(g, err, now)
	}
	p.planLocked(g, now)
	p.feedLocked(now)
	p.scheduleLocked(g, now)
	p.forgetLocked(g)
	p.noticeLocked()
}

func (p *Pool[K, C]) failedLocked(g *group[K, C], err error, now moment) {
	p.stats.OpenFailures++
	permanent := p.o.Permanent(err)
	g.failing.add(err, permanent, now)
	p.failing.add(err, permanent, now)
	most := backoffIdle
	if g.queue.n > 0 && !permanent {
		most = backoffWaited
	}
	times := max(g.failing.times, p.failing.times) // the group may be new, and the failure old
	g.failing.retry = now + rand.N(min(backoffFirst<<min(times-1, 20), most))
	if permanent {
		p.failLocked(g, &DownError{Cause: err, RetryIn: g.failing.retry - now}, false)
	} else if p.brokenLocked(now) {
		p.failLocked(g, p.downError(g, now), true)
	}
}

func (f *failing) add(err error, permanent bool, now moment) {
	if f.times++; f.since == 0 {
		f.since = now
	}
	f.err, f.permanent = err, permanent
}

// A DownError is a server that cannot be connected to, told at once instead of
// after a wait.
type DownError struct {
	Cause   error         // of the last try
	RetryIn time.Duration // when the next try may be made
}

func (e *DownError) Error() string {
	return fmt.Sprintf("%v; next try in %v", e.Cause, e.RetryIn.Round(time.Millisecond))
}

func (e *DownError) Unwrap() error { return e.Cause }

// brokenLocked reports whether the breaker is open: nothing could be opened
// for BreakAfter, in no group.
func (p *Pool[K, C]) brokenLocked(now moment) bool {
	return p.o.BreakAfter > 0 && p.failing.times > 0 && now-p.failing.since >= p.o.BreakAfter
}

// downLocked decides what becomes of a caller while openings fail. Until the
// breaker is open it waits. Then it is told at once, unless a try is due: that
// is made for it (half-open), and its outcome is the caller's.
func (p *Pool[K, C]) downLocked(g *group[K, C], now moment) (probe bool, err error) {
	switch {
	case g.failing.times == 0 && p.failing.times == 0 || len(g.conns()) > 0:
		return false, nil
	case g.failing.permanent && now < g.failing.retry:
		return false, &DownError{Cause: g.failing.err, RetryIn: g.failing.retry - now}
	case !p.brokenLocked(now):
		return false, nil
	case now < g.failing.retry || len(g.opening) > 0:
		return false, p.downError(g, now)
	}
	return true, nil
}

func (p *Pool[K, C]) downError(g *group[K, C], now moment) error {
	return &DownError{Cause: p.failing.err, RetryIn: max(0, g.failing.retry-now)}
}

// admitLocked makes a new connection ready and serves those who wait.
func (p *Pool[K, C]) admitLocked(g *group[K, C], o *opening, opened Opened[C], now moment) {
	c := &conn[K, C]{
		group: g, value: opened.Conn, slots: newSlots(opened.Slots),
		closing: make(chan struct{}), opened: now, checked: now,
	}
	c.used.Store(int64(now))
	if p.o.MaxAge > 0 && !g.key.Owned {
		c.expires = p.expiry(g, now)
	}
	p.stats.Opened++
	p.conns[c] = struct{}{}
	p.total++
	list := append(slices.Clone(g.conns()), c)
	g.ready.Store(&list)
	g.warm, g.failing, p.failing = true, failing{}, failing{}
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
	if done := p.o.Done(c.value); done != nil {
		p.work.Go(func() { p.watch(c, done) })
	}
	p.pumpLocked(g, now)
	if o.replaces {
		p.replacedLocked(g, c)
	}
}

// replacedLocked retires the oldest connection, now that a new one took its
// place.
func (p *Pool[K, C]) replacedLocked(g *group[K, C], by *conn[K, C]) {
	var oldest *conn[K, C]
	for _, c := range g.conns() {
		if c != by && (oldest == nil || c.expires < oldest.expires) {
			oldest = c
		}
	}
	if oldest != nil {
		why := Age
		if p.wornLocked(oldest) {
			why = Calls
		}
		p.retireLocked(oldest, why)
	}
}

// watch retires a connection that ends by itself.
func (p *Pool[K, C]) watch(c *conn[K, C], done <-chan struct{}) {
	select {
	case <-done:
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
	if g.lost != 0 && p.groups[g.id] == g {
		delete(p.groups, g.id)
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
	c.reason = why
	list := slices.DeleteFunc(slices.Clone(g.conns()), func(r *conn[K, C]) bool { return r == c })
	g.ready.Store(&list)
	g.hot.CompareAndSwap(c, nil)
	idle := c.state.Or(retiredBit)&countMask == 0
	if why == Lost {
		p.total-- // its server has let go of it already
	} else {
		g.retired++
	}
	if g.key.Owned && why != Ended && why != Shutdown && why != Surplus {
		p.lostLocked(g, now)
	}
	if idle {
		p.closeLocked(c)
	}
	p.planLocked(g, now)
	p.feedLocked(now)
}

// closeLocked closes a connection that has left the pool.
func (p *Pool[K, C]) closeLocked(c *conn[K, C]) {
	if c.closed {
		return
	}
	c.closed = true
	close(c.closing)
	p.work.Go(func() {
		p.o.Close(p.ctx, c.value, c.reason)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
		lent, _ := c.calls()
		p.stats.Acquired += lent
		p.stats.Released += lent // what is left was cut off
		p.stats.Closed[c.reason]++
		if c.reason != Lost {
			p.total--
			c.group.retired--
		}
		if c.reason == Evicted {
			p.evicted--
		}
		now := p.now()
		p.planLocked(c.group, now)
		p.feedLocked(now)
		p.forgetLocked(c.group)
		p.noticeLocked()
	})
}
