package slots

import (
	"context"
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

// planLocked opens what the group needs: room for those who wait beyond what
// is being opened already, and Min connections while it is in use. A storm of
// N callers thus costs N divided by the slots of a connection, rounded up.
func (p *Pool[K, C]) planLocked(g *group[K, C], now time.Time) {
	for !p.closed && g.count() < g.max() {
		waited := g.waiters.Len()+g.wholes*(g.key.Slots-1) > len(g.opening)*g.key.Slots
		if !waited && !p.belowMin(g, now) {
			return
		}
		if waited && g.retryAt.Sub(now) > backoffWaited {
			g.retryAt = now.Add(rand.N(backoffWaited))
		}
		if now.Before(g.retryAt) {
			p.wakeLocked(g.retryAt)
			return
		}
		// While the server fails, one try at a time is enough to see it return.
		if g.failures > 0 && len(g.opening) > 0 {
			return
		}
		if p.total >= p.o.Total {
			if waited {
				p.evictLocked(g)
			}
			return
		}
		p.openLocked(g, false)
	}
}

func (p *Pool[K, C]) belowMin(g *group[K, C], now time.Time) bool {
	return g.warm && !g.key.Owned && !p.unused(g, now) &&
		len(g.ready)+len(g.opening) < min(p.o.Min, g.max())
}

// unused reports whether nobody has used the group for IdleTimeout.
func (p *Pool[K, C]) unused(g *group[K, C], now time.Time) bool {
	return p.o.IdleTimeout > 0 && now.Sub(g.used) >= p.o.IdleTimeout && !g.busy()
}

// feedLocked lets groups with waiters plan again, the longest waiting first:
// there may be room in the total now.
func (p *Pool[K, C]) feedLocked(now time.Time) {
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
		if c.group != hungry && c.retired == "" && c.inFlight == 0 && (victim == nil || c.order < victim.order) {
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
func (p *Pool[K, C]) openLocked(g *group[K, C], replaces bool) {
	o := &opening{replaces: replaces}
	var ctx context.Context
	ctx, o.cancel = context.WithCancelCause(p.ctx)
	g.opening[o] = struct{}{}
	p.total++
	p.work.Go(func() {
		defer o.cancel(nil)
		ctx, cancel := context.WithTimeout(ctx, p.o.OpenTimeout)
		defer cancel()
		opened, err := p.o.Open(ctx, g.key.ID)
		p.landed(g, o, opened, err)
	})
}

// landed takes in what came of an opening.
func (p *Pool[K, C]) landed(g *group[K, C], o *opening, opened Opened[C], err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	delete(g.opening, o)
	p.total--
	switch {
	case err == nil:
		p.admitLocked(g, o, opened, now)
	case o.unwanted: // broken off by us: no failure of the server's
	default:
		p.failedLocked(g, err, now)
	}
	p.planLocked(g, now)
	p.feedLocked(now)
	p.scheduleLocked(g, now)
	p.forgetLocked(g)
	p.drainedLocked()
}

func (p *Pool[K, C]) failedLocked(g *group[K, C], err error, now time.Time) {
	p.stats.OpenFailures++
	g.failures++
	g.lastErr = err
	if p.o.Permanent(err) {
		p.failLocked(g, &OpenError{err})
	}
	most := backoffIdle
	if g.waiters.Len() > 0 {
		most = backoffWaited
	}
	g.retryAt = now.Add(rand.N(min(backoffFirst<<min(g.failures-1, 20), most)))
}

// admitLocked makes a new connection ready and serves those who wait.
func (p *Pool[K, C]) admitLocked(g *group[K, C], o *opening, opened Opened[C], now time.Time) {
	c := &conn[K, C]{
		group: g, value: opened.Conn, slots: make([]slot, max(1, opened.Slots)),
		closing: make(chan struct{}), opened: now, used: now, checked: now,
	}
	if p.o.MaxAge > 0 && !g.key.Owned {
		c.expires = now.Add(jitter(p.o.MaxAge))
	}
	p.stats.Opened++
	p.conns[c] = struct{}{}
	p.total++
	g.ready = append(g.ready, c)
	g.warm, g.failures, g.lastErr, g.retryAt = true, 0, nil, time.Time{}
	switch {
	case p.closed:
		p.retireLocked(c, Shutdown)
		return
	case o.unwanted:
		p.retireLocked(c, Surplus)
		return
	case opened.Sole && !g.sole:
		g.sole = true
		for other := range g.opening {
			other.unwanted = true
			other.cancel(errUnwanted)
		}
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
	for _, c := range g.ready {
		if c != by && (oldest == nil || c.expires.Before(oldest.expires)) {
			oldest = c
		}
	}
	if oldest != nil {
		p.retireLocked(oldest, Age)
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
	p, g := l.pool, l.conn.group
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retireLocked(l.conn, Lost)
	if !g.lost.IsZero() && p.groups[g.key.ID] == g {
		delete(p.groups, g.key.ID)
	}
}

// retireLocked takes a connection out of the pool at once; it is closed when
// its last call ends. Doing it again has no effect.
func (p *Pool[K, C]) retireLocked(c *conn[K, C], why Reason) {
	if c.retired != "" {
		return
	}
	now := time.Now()
	g := c.group
	c.retired = why
	g.ready = slices.DeleteFunc(g.ready, func(r *conn[K, C]) bool { return r == c })
	if why == Lost {
		p.total-- // its server has let go of it already
	} else {
		g.retired++
	}
	if g.key.Owned && why != Ended && why != Shutdown && why != Surplus {
		p.lostLocked(g, now)
	}
	if c.inFlight == 0 {
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
		p.o.Close(p.ctx, c.value, c.retired)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
		p.stats.Closed[c.retired]++
		if c.retired != Lost {
			p.total--
			c.group.retired--
		}
		if c.retired == Evicted {
			p.evicted--
		}
		now := time.Now()
		p.planLocked(c.group, now)
		p.feedLocked(now)
		p.forgetLocked(c.group)
		p.drainedLocked()
	})
}
