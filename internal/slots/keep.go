package slots

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// An owned group that lost its state is remembered until its next caller was
// told, at most this long, and no more than so many of them.
const (
	lostFor  = time.Hour
	lostMost = 4096
)

// keep is the pool's one housekeeper: it sleeps until something is due.
func (p *Pool[K, C]) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return
		}
		p.tendLocked(time.Now())
		select {
		case <-p.wake: // said by tendLocked, heard already
		default:
		}
		if p.next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(p.next))
		}
		p.mu.Unlock()
		select {
		case <-timer.C:
		case <-p.wake:
		}
	}
}

// wakeLocked has the keeper look at t, if that is sooner than it would.
func (p *Pool[K, C]) wakeLocked(t time.Time) {
	if t.IsZero() || !p.next.IsZero() && !t.Before(p.next) {
		return
	}
	p.next = t
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// tendLocked does what is due in each group and sets the time of the next
// look. A use only ever puts things off, so looking at what was due before it
// finds nothing and looks again.
func (p *Pool[K, C]) tendLocked(now time.Time) {
	p.next = time.Time{}
	for _, g := range p.groups {
		switch {
		case !g.lost.IsZero():
			if now.Sub(g.lost) >= lostFor {
				delete(p.groups, g.key.ID)
			} else {
				p.wakeLocked(g.lost.Add(lostFor))
			}
			continue
		case p.unused(g, now):
			for _, c := range leastRecent(g.ready) {
				p.retireLocked(c, Idle)
			}
			g.warm = false
		default:
			p.trimLocked(g, now)
			p.renewLocked(g, now)
		}
		p.checkLocked(g, now)
		p.planLocked(g, now)
		p.scheduleLocked(g, now)
		p.forgetLocked(g)
	}
}

// scheduleLocked has the keeper look when something may next be due in g.
func (p *Pool[K, C]) scheduleLocked(g *group[K, C], now time.Time) {
	for _, c := range g.ready {
		p.wakeLocked(p.dueLocked(c, now))
	}
	if g.warm && p.o.IdleTimeout > 0 {
		used := g.used
		if g.busy() {
			used = now
		}
		p.wakeLocked(used.Add(p.o.IdleTimeout))
	}
}

// dueLocked returns when a connection may next want something; zero for never.
func (p *Pool[K, C]) dueLocked(c *conn[K, C], now time.Time) time.Time {
	var due time.Time
	sooner := func(t time.Time) {
		if due.IsZero() || t.Before(due) {
			due = t
		}
	}
	used := c.used
	if c.inFlight > 0 {
		used = now // it cannot have been idle for any time before that passes
	}
	if p.o.IdleTimeout > 0 && len(c.group.ready) > p.o.Min {
		sooner(used.Add(p.o.IdleTimeout))
	}
	if p.o.CheckInterval > 0 && !c.checking {
		sooner(latest(used, c.checked).Add(p.o.CheckInterval))
	}
	if !c.expires.IsZero() && !c.replacing() {
		sooner(latest(c.expires, c.group.retryAt))
	}
	return due
}

// replacing reports whether the connection's group is opening a replacement.
func (c *conn[K, C]) replacing() bool {
	for o := range c.group.opening {
		if o.replaces {
			return true
		}
	}
	return false
}

// trimLocked closes idle connections above Min, the least recently used first.
func (p *Pool[K, C]) trimLocked(g *group[K, C], now time.Time) {
	if p.o.IdleTimeout == 0 {
		return
	}
	for _, c := range leastRecent(g.ready) {
		if len(g.ready) <= p.o.Min {
			return
		}
		if c.inFlight == 0 && now.Sub(c.used) >= p.o.IdleTimeout {
			p.retireLocked(c, Idle)
		}
	}
}

// renewLocked replaces a connection that has reached its age, one at a time in
// a group: the new one is opened first, beyond Max if need be, and the old one
// goes when it is there.
func (p *Pool[K, C]) renewLocked(g *group[K, C], now time.Time) {
	for _, c := range slices.Clone(g.ready) {
		if c.expires.IsZero() || now.Before(c.expires) || now.Before(g.retryAt) || c.replacing() {
			continue
		}
		if p.total >= p.o.Total || c.inFlight == 0 && len(g.ready) > p.o.Min {
			p.retireLocked(c, Age) // no room for a second one, or no need
			continue
		}
		p.openLocked(g, true)
	}
}

// checkLocked starts the checks that are due. A check takes no slot, and only
// idle connections are checked: traffic proves more than a check does.
func (p *Pool[K, C]) checkLocked(g *group[K, C], now time.Time) {
	if p.o.CheckInterval == 0 {
		return
	}
	for _, c := range g.ready {
		if c.checking || c.inFlight > 0 || now.Sub(latest(c.used, c.checked)) < p.o.CheckInterval {
			continue
		}
		c.checking = true
		p.stats.HealthChecks++
		order := c.order
		p.work.Go(func() {
			ctx, cancel := context.WithTimeout(p.ctx, p.o.CheckTimeout)
			defer cancel()
			err := p.o.Check(ctx, c.value)
			p.mu.Lock()
			defer p.mu.Unlock()
			c.checking, c.checked = false, time.Now()
			if err != nil && c.retired == "" {
				p.stats.HealthFailures++
				if c.order == order { // no call has used it meanwhile
					p.retireLocked(c, Unhealthy)
				}
			}
			p.wakeLocked(p.dueLocked(c, c.checked))
		})
	}
}

// lostLocked marks an owned group whose state is gone.
func (p *Pool[K, C]) lostLocked(g *group[K, C], now time.Time) {
	g.lost = now
	p.failLocked(g, ErrLost)
	p.wakeLocked(now.Add(lostFor))
	var oldest *group[K, C]
	lost := 0
	for _, other := range p.groups {
		if !other.lost.IsZero() {
			if lost++; oldest == nil || other.lost.Before(oldest.lost) {
				oldest = other
			}
		}
	}
	if lost > lostMost {
		delete(p.groups, oldest.key.ID)
	}
}

// forgetLocked drops a group that holds nothing.
func (p *Pool[K, C]) forgetLocked(g *group[K, C]) {
	if g.count() > 0 || g.waiters.Len() > 0 || !g.lost.IsZero() || p.groups[g.key.ID] != g {
		return
	}
	if now := time.Now(); g.warm && p.o.Min > 0 && !g.key.Owned && !p.unused(g, now) && !p.closed {
		return // it is kept at Min
	}
	g.warm = false // a last call may still end on a lost connection of it
	delete(p.groups, g.key.ID)
}

// Warm opens Min connections of a group ahead of its first use.
func (p *Pool[K, C]) Warm(key Key[K]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	now := time.Now()
	g := p.groupLocked(key)
	g.warm, g.used = true, now
	p.planLocked(g, now)
	p.scheduleLocked(g, now)
}

// End closes a group: its connections are retired, its waiters get [ErrLost],
// and that it was ever there is forgotten.
func (p *Pool[K, C]) End(id K) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.groups[id]
	if g == nil {
		return
	}
	delete(p.groups, id)
	p.failLocked(g, ErrLost)
	p.dismissLocked(g, ErrLost)
	g.warm = false
	for _, c := range slices.Clone(g.ready) {
		p.retireLocked(c, Ended)
	}
}

// dismissLocked breaks off the openings of a group.
func (p *Pool[K, C]) dismissLocked(g *group[K, C], why error) {
	for o := range g.opening {
		o.unwanted = true
		o.cancel(why)
	}
}

// Close lends nothing more, ends all waits with [ErrClosed], and closes each
// connection when its last call has ended. When ctx ends first the rest is
// closed at once, under their calls, and the error says so. Either way no
// connection is open and no goroutine runs when it returns. Close may be
// called again, and from several goroutines.
func (p *Pool[K, C]) Close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		for _, g := range p.groups {
			p.failLocked(g, ErrClosed)
			p.dismissLocked(g, ErrClosed)
			for _, c := range slices.Clone(g.ready) {
				p.retireLocked(c, Shutdown)
			}
		}
		p.drainedLocked()
		select {
		case p.wake <- struct{}{}: // the keeper ends
		default:
		}
	}
	p.mu.Unlock()

	var err error
	select {
	case <-p.drained:
	case <-ctx.Done():
		err = p.force(ctx)
		<-p.drained
	}
	p.stop(ErrClosed) // what still checks a connection that is closed by now
	p.work.Wait()
	return err
}

// force closes the connections that still have calls.
func (p *Pool[K, C]) force(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop(ErrClosed)
	cut := 0
	for c := range p.conns {
		cut += c.inFlight
		p.closeLocked(c)
	}
	if cut == 0 {
		return nil
	}
	return fmt.Errorf("%d calls cut off: %w", cut, context.Cause(ctx))
}

func (p *Pool[K, C]) drainedLocked() {
	if !p.closed || len(p.conns) > 0 || p.total > 0 {
		return
	}
	select {
	case <-p.drained:
	default:
		close(p.drained)
	}
}

// leastRecent returns connections in the order of their last use.
func leastRecent[K comparable, C any](conns []*conn[K, C]) []*conn[K, C] {
	conns = slices.Clone(conns)
	slices.SortFunc(conns, func(a, b *conn[K, C]) int {
		if a.order < b.order {
			return -1
		}
		return 1
	})
	return conns
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
