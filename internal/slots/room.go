package slots

import "time"

// Room is what caps leave: in all groups together (Options.Total), of an
// account, and of budgets shared with other pools. A group that finds none is
// starved, and a connection of another one makes room for it.

// takeRoomLocked takes room for one connection of a group. badly says that
// callers wait for it: where there is none, somebody is to make some.
func (p *Pool[K, C]) takeRoomLocked(g *group[K, C], badly bool, now moment) bool {
	a := g.account
	full := p.total >= p.o.Total
	own := p.o.AccountTotal > 0 && a.conns >= p.o.AccountTotal
	// What is not needed badly does not take what others wait for.
	if (badly || p.starved.Load() == 0) && !full && !own && p.takeBudgets(badly) {
		p.total++
		a.conns++
		p.starvedLocked(g, false)
		return true
	}
	switch {
	case !badly:
	case full || own:
		p.starvedLocked(g, true)
		p.evictLocked(g, own, now)
	default: // a connection of any pool may go
		p.starvedLocked(g, true)
		p.short, p.barren = true, p.barren || g.count() == 0
		p.spent = true
		p.rouse() // the keeper asks the pools
	}
	return false
}

func (p *Pool[K, C]) takeBudgets(badly bool) bool {
	for i, b := range p.budgets {
		if !b.take(p, badly) {
			for _, b := range p.budgets[:i] {
				b.give(false, false)
			}
			return false
		}
	}
	return true
}

// giveRoomLocked gives back the room of an opening that came to nothing, or of
// the connection c.
func (p *Pool[K, C]) giveRoomLocked(g *group[K, C], c *conn[K, C]) {
	p.total--
	g.account.conns--
	for _, b := range p.budgets {
		b.give(c != nil && c.sacrificed == b, c != nil && c.evictedBusy)
	}
	p.forgetAccountLocked(g.account, p.now())
}

// starvedLocked notes whether a group waits for room.
func (p *Pool[K, C]) starvedLocked(g *group[K, C], starved bool) {
	if g.starved == starved {
		return
	}
	g.starved = starved
	if starved {
		p.starved.Add(1)
	} else if p.starved.Add(-1) == 0 {
		for _, b := range p.budgets {
			b.calm(p)
		}
	}
}

// feedLocked lets groups with waiters plan again, because there may be room
// now: first those that have no connection, and of them the longest waiting.
func (p *Pool[K, C]) feedLocked(now moment) {
	p.spent = false
	for _, none := range []bool{true, false} {
		for at := p.hungry.first; at != nil; {
			if g := at.of; none == (g.count() == 0) {
				p.planLocked(g, now)
			}
			switch {
			case p.spent: // there is no room for those behind either
				return
			case at.in == nil: // it has left, and others may have
				at = p.hungry.first
			default:
				at = at.next
			}
		}
	}
}

// evictLocked makes room for a group by retiring a connection of another one,
// of the same account if that is what has no room, unless as many are on their
// way out as groups want some.
func (p *Pool[K, C]) evictLocked(hungry *group[K, C], sameAccount bool, now moment) {
	starved := int(p.starved.Load())
	if p.evicted >= starved {
		return
	}
	// One in use may stay for long, so it does not keep an idle one from going.
	busy := p.evicted+p.evictedBusy < starved
	c, r, later := p.victimLocked(hungry, hungry.count() == 0, busy, sameAccount, now)
	if c == nil && later > 0 {
		p.wakeLocked(now + later)
	}
	switch {
	case c == nil:
		p.spent = p.spent || !sameAccount
		return
	case r.busy:
		c.evictedBusy = true
		p.evictedBusy++
	default:
		p.evicted++
	}
	p.retireLocked(c, Evicted)
}

// victimLocked chooses a connection to make room for a group, or, if that is
// nil, for another pool; nil if there is none to be spared, or only one in use
// where that is not meant; later is when there may be one then, 0 for who
// knows. Spares go first, then the least recently used idle connection. A
// group that is not barren, as it has connections, takes another's only after
// it was idle as long as it takes to open it again, or two groups would go on
// taking each other's last.
//
// Where no connection is idle, as when the calls of one principal keep all of
// them busy, a barren group gets the room of one in use: of the group that has
// the most, and not before it was open for as long as openings take. Its calls
// finish. So a principal waits for two openings and a call of another at most,
// however much is asked on behalf of others.
func (p *Pool[K, C]) victimLocked(hungry *group[K, C], barren, inUse, sameAccount bool, now moment) (victim *conn[K, C], r rank, later time.Duration) {
	opening := p.demand.opening()
	spared := func(due moment) bool {
		if in := due - now; in > 0 && (later == 0 || in < later) {
			later = in
		}
		return now >= due
	}
	var busy *conn[K, C]
	for c := range p.conns {
		g := c.group
		if g == hungry || c.reason != "" || sameAccount && g.account != hungry.account {
			continue
		}
		switch {
		case c.inFlight() > 0:
			if !barren || !inUse || g.key.Owned || c.whole() {
				continue
			}
			if spared(c.opened+opening) && (busy == nil || lesser(c, busy)) {
				busy = c
			}
		case !barren && !g.spare && !spared(moment(c.used.Load())+opening):
		case victim == nil || g.spare && !victim.group.spare ||
			g.spare == victim.group.spare && c.used.Load() < victim.used.Load():
			victim = c
		}
	}
	if victim != nil {
		return victim, rank{since: p.clock.base.Add(moment(victim.used.Load())).UnixNano()}, 0
	}
	if busy == nil {
		return nil, rank{}, later
	}
	return busy, rank{busy: true, peers: len(busy.group.conns())}, 0
}

// lesser reports whether of two connections in use c is the one to go.
func lesser[K comparable, C any](c, other *conn[K, C]) bool {
	mine, others := len(c.group.conns()), len(other.group.conns())
	switch {
	case mine != others:
		return mine > others
	case c.group == other.group:
		return c.inFlight() < other.inFlight()
	}
	return c.opened < other.opened
}

// victim implements member.
func (p *Pool[K, C]) victim(barren bool) (rank, bool, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, r, later := p.victimLocked(nil, barren, true, false, p.now())
	return r, c != nil, later
}

// sacrifice implements member.
func (p *Pool[K, C]) sacrifice(b *Budget, barren bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, r, _ := p.victimLocked(nil, barren, true, false, p.now())
	if c == nil {
		return false
	}
	c.sacrificed, c.evictedBusy = b, r.busy
	b.leave(r.busy)
	p.retireLocked(c, Evicted)
	return true
}

// stir implements member: the keeper looks at everything again.
func (p *Pool[K, C]) stir() {
	p.stirred.Store(true)
	p.rouse()
}

// relieve asks other pools for the room that budgets lack. It returns when to
// ask again; 0 for when told.
func (p *Pool[K, C]) relieve(barren bool) (later time.Duration) {
	for _, b := range p.budgets {
		if in := b.relieve(barren); in > 0 && (later == 0 || in < later) {
			later = in
		}
	}
	return later
}

// famine reports whether somebody waits for room that an idle connection of
// this pool would make.
func (p *Pool[K, C]) famine() bool {
	for _, b := range p.budgets {
		if b != nil && b.wants.Load() > 0 {
			return true
		}
	}
	return p.starved.Load() > 0
}

// offer says to other pools that there may be a connection to spare.
func (p *Pool[K, C]) offer() {
	for _, b := range p.budgets {
		b.offer()
	}
}

// wornLocked reports whether a connection has had its calls. One that holds its
// owner's state is not replaced for that.
func (p *Pool[K, C]) wornLocked(c *conn[K, C]) bool {
	if p.o.MaxCalls == 0 || c.group.key.Owned {
		return false
	}
	lent, _ := c.callsLocked()
	return lent >= uint64(p.o.MaxCalls)
}
