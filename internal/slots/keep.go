package slots

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// refusedFor is how long it is remembered that an account was refused, after
// the next try might have been made: longer than callers stay away.
const refusedFor = 5 * time.Minute

// An owned group that lost its state is remembered until its next caller was
// told, at most this long, and no more than so many of them.
const (
	lostFor  = time.Hour
	lostMost = 4096
)

// A connection whose check failed is checked again this soon; twice in a row
// is enough.
const (
	recheck = time.Second
	strikes = 2
)

// keep is the pool's one housekeeper: it sleeps until something is due.
func (p *Pool[K, C]) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		p.stirred.Store(false)
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return
		}
		now := p.now()
		p.tendLocked(now)
		select {
		case <-p.wake: // said by tendLocked, heard already
		default:
		}
		due := p.next
		short, barren := p.short, p.barren
		p.short, p.barren = false, false
		p.mu.Unlock()
		if short {
			if later := p.relieve(barren); later > 0 && (due == 0 || now+later < due) {
				due = now + later
			}
		}
		if due == 0 {
			timer.Stop()
		} else {
			timer.Reset(due - now)
		}
		if p.stirred.Load() { // by another pool, meanwhile
			continue
		}
		select {
		case <-timer.C:
		case <-p.wake:
		}
	}
}

// wakeLocked has the keeper look at t, if that is sooner than it would.
func (p *Pool[K, C]) wakeLocked(t moment) {
	if t == 0 || p.next != 0 && t >= p.next {
		return
	}
	p.next = t
	p.rouse()
}

// rouse has the keeper look at everything; it does so before it sleeps if it
// is looking just now.
func (p *Pool[K, C]) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// tendLocked does what is due in each group and sets the time of the next
// look. A use only ever puts things off, so looking at what was due before it
// finds nothing and looks again.
func (p *Pool[K, C]) tendLocked(now moment) {
	p.next = 0
	if p.expiry != 0 && now >= p.expiry {
		p.expireLocked(now)
	}
	p.wakeLocked(p.expiry)
	p.feedLocked(now)
	for _, g := range p.groups {
		switch {
		case g.lost != 0:
			if now-g.lost >= lostFor {
				p.dropLocked(g)
			} else {
				p.wakeLocked(g.lost + lostFor)
			}
			continue
		case p.unused(g, now):
			for _, c := range leastRecent(g.conns(), now) {
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
	for _, a := range p.accounts {
		p.forgetAccountLocked(a, now)
	}
}

// scheduleLocked has the keeper look when something may next be due in g.
func (p *Pool[K, C]) scheduleLocked(g *group[K, C], now moment) {
	for _, c := range g.conns() {
		p.wakeLocked(p.dueLocked(c, now))
	}
	if g.warm && p.o.IdleTimeout > 0 {
		used := g.lastUse(now)
		if g.busy() || g.heirs > 0 {
			used = now
		}
		p.wakeLocked(used + p.o.IdleTimeout)
	}
}

// dueLocked returns when a connection may next want something; 0 for never.
func (p *Pool[K, C]) dueLocked(c *conn[K, C], now moment) moment {
	var due moment
	sooner := func(t moment) {
		if due == 0 || t < due {
			due = t
		}
	}
	if p.o.IdleTimeout > 0 && len(c.group.conns()) > p.o.Min {
		// For a busy one from now: it cannot have been idle before.
		sooner(c.lastUse(now) + p.o.IdleTimeout)
	}
	if p.o.CheckInterval > 0 && !c.checking {
		sooner(p.checkAt(c))
	}
	switch {
	case c.expires == 0:
	case p.needless(c):
		sooner(c.expires)
	case !c.group.replacing():
		if at := max(c.expires, p.retryLocked(c.group, now)); now < at || !p.holdLocked(c.group, now) {
			sooner(at)
		}
	}
	return due
}

// replacing reports whether the group is opening a replacement, or still has
// what one has replaced.
func (g *group[K, C]) replacing() bool {
	for o := range g.opening {
		if o.cause == ForAge {
			return true
		}
	}
	return g.count() > g.max()
}

// trimLocked closes idle connections above Min, the least recently used first.
func (p *Pool[K, C]) trimLocked(g *group[K, C], now moment) {
	if p.o.IdleTimeout == 0 {
		return
	}
	for _, c := range leastRecent(g.conns(), now) {
		if len(g.conns()) <= p.o.Min {
			return
		}
		if now-c.lastUse(now) >= p.o.IdleTimeout {
			p.retireLocked(c, Idle)
		}
	}
}

// expires chooses when a new connection is to be replaced: at most MaxAge from
// now, at random, and at least a gap away from when others of its group are,
// so that those opened together do not go together. Each of them rules out at
// most two of the places looked at.
func (p *Pool[K, C]) expires(g *group[K, C], now moment) moment {
	gap := p.o.MaxAge / 20 / time.Duration(g.key.Max)
	for at := now + p.o.MaxAge - rand.N(gap+1); ; at -= gap {
		free := true
		for _, c := range g.conns() {
			free = free && (c.expires == 0 || (at-c.expires).Abs() >= gap)
		}
		if free || at <= now+p.o.MaxAge/2 {
			return at
		}
	}
}

// renewLocked replaces a connection that has reached its age, one at a time in
// a group: the new one is opened first, beyond Max if need be, and the old one
// goes when it is there.
func (p *Pool[K, C]) renewLocked(g *group[K, C], now moment) {
	for _, c := range g.conns() {
		switch {
		case c.expires == 0 || now < c.expires:
		case p.needless(c):
			p.retireLocked(c, p.whyLocked(c))
		case now < p.retryLocked(g, now) || g.replacing() || p.holdLocked(g, now):
		case p.takeRoomLocked(g, false, now):
			p.openLocked(g, ForAge)
		default:
			p.retireLocked(c, p.whyLocked(c)) // no room for a second one
		}
	}
}

// needless reports whether a connection may go without another in its place.
func (p *Pool[K, C]) needless(c *conn[K, C]) bool {
	return c.inFlight() == 0 && len(c.group.conns()) > p.o.Min
}

// silence is how long nothing may come back on a connection with calls in
// flight before it is checked, if the interval of checks is not shorter. It
// takes two looks that far apart to tell.
const silence = 30 * time.Second

// checkAt is when a connection is to be looked at: an idle one to be checked, a
// busy one to see whether it is silent.
func (p *Pool[K, C]) checkAt(c *conn[K, C]) moment {
	used := moment(c.used.Load())
	switch {
	case c.strikes > 0 && c.checked > used:
		return c.checked + recheck
	case c.inFlight() > 0:
		return c.checked + min(silence, p.o.CheckInterval)
	}
	return max(used, c.checked) + p.o.CheckInterval
}

// checkLocked starts the checks that are due. A check takes no slot. Only idle
// connections are checked, and those that are silent: traffic proves more
// than a check does.
func (p *Pool[K, C]) checkLocked(g *group[K, C], now moment) {
	if p.o.CheckInterval == 0 {
		return
	}
	for _, c := range g.conns() {
		if c.checking || now < p.checkAt(c) {
			continue
		}
		_, back := c.callsLocked()
		if c.inFlight() > 0 && (!c.silent || c.back != back) {
			c.silent, c.back, c.checked = true, back, now
			continue
		}
		c.silent, c.checking = false, true
		p.stats.HealthChecks++
		check, timeout := p.o.Check, p.o.CheckTimeout
		p.work.Go(func() {
			ctx, cancel := context.WithTimeout(p.ctx, timeout)
			defer cancel()
			err := check(ctx, c.value)
			gone := errors.Is(err, ErrGone)
			p.mu.Lock()
			defer p.mu.Unlock()
			_, now := c.callsLocked()
			p.checkedLocked(c, err == nil || now != back, gone)
		})
	}
}

// checkedLocked takes in the outcome of a check. A call that came back
// meanwhile proves more. A connection with its owner's state and calls in
// flight is not given up for silence: a server that does one thing at a time
// answers no check meanwhile.
func (p *Pool[K, C]) checkedLocked(c *conn[K, C], well, gone bool) {
	c.checking, c.checked = false, p.now()
	switch {
	case c.reason != "":
		return
	case well:
		c.strikes = 0
	default:
		p.stats.HealthFailures++
		c.strikes++
		if gone || c.strikes >= strikes && !(c.group.key.Owned && c.inFlight() > 0) {
			p.retireLocked(c, Unhealthy)
			return
		}
	}
	p.wakeLocked(p.dueLocked(c, c.checked))
}

// lostLocked marks an owned group whose state is gone.
func (p *Pool[K, C]) lostLocked(g *group[K, C], now moment) {
	g.lost = now
	p.disinheritLocked(g, now)
	p.failLocked(g, ErrLost, nil)
	p.dismissLocked(g, ErrLost)
	for _, c := range g.conns() {
		p.retireLocked(c, Ended)
	}
	p.wakeLocked(now + lostFor)
	var oldest *group[K, C]
	lost := 0
	for _, other := range p.groups {
		if other.lost != 0 {
			if lost++; oldest == nil || other.lost < oldest.lost {
				oldest = other
			}
		}
	}
	if lost > lostMost {
		p.dropLocked(oldest)
	}
}

// forgetLocked drops a group that holds nothing.
func (p *Pool[K, C]) forgetLocked(g *group[K, C]) {
	now := p.now()
	switch {
	case g.count() > 0 || g.queue.n > 0 || g.lost != 0 || g.heirs > 0:
		return
	case g.warm && p.o.Min > 0 && !g.key.Owned && !p.unused(g, now) && !p.closed:
		return // it is kept at Min
	case g.failing.times > 0 && now < g.failing.retry && !p.closed:
		p.wakeLocked(g.failing.retry) // callers before then are told why
		return
	}
	p.dropLocked(g)
}

// forgetAccountLocked drops an account of which nothing is known any more.
// That it was refused is known for a while, so that the next tries to connect
// for it are not made one upon the other.
func (p *Pool[K, C]) forgetAccountLocked(a *account, now moment) {
	switch {
	case a.groups > 0 || a.conns > 0:
	case a.refused.times > 0 && now < a.refused.retry+refusedFor && !p.closed:
		p.wakeLocked(a.refused.retry + refusedFor)
	default:
		delete(p.accounts, a.name)
	}
}

// leastRecent returns connections in the order of their last use.
func leastRecent[K comparable, C any](conns []*conn[K, C], now moment) []*conn[K, C] {
	conns = slices.Clone(conns)
	slices.SortStableFunc(conns, func(a, b *conn[K, C]) int { return cmp.Compare(a.lastUse(now), b.lastUse(now)) })
	return conns
}
