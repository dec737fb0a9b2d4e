package slots

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Warm opens Min connections of a group ahead of its first use.
func (p *Pool[K, C]) Warm(key *Key[K]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	now := p.now()
	g := p.groupLocked(key)
	g.warm = true
	g.used.Store(int64(now))
	p.planLocked(g, now)
	p.scheduleLocked(g, now)
}

// End closes the groups that are meant: their connections are retired, their
// waiters get [ErrLost], and that they were ever there is forgotten. meant must
// be quick, and call nothing of the pool.
func (p *Pool[K, C]) End(meant func(id K) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, g := range p.groups {
		if !meant(id) {
			continue
		}
		p.dropLocked(g)
		p.failLocked(g, ErrLost, nil)
		p.dismissLocked(g, ErrLost)
		for _, c := range g.conns() {
			p.retireLocked(c, Ended)
		}
	}
}

// Kill closes the connection that is meant at once, under its calls, and
// returns how many slots of it were lent. It reports false where there is none,
// or it is being closed already. meant must be quick, and call nothing of the
// pool.
func (p *Pool[K, C]) Kill(meant func(conn C) bool) (lent int, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if c.closed || !meant(c.value) {
			continue
		}
		lent = c.inFlight()
		p.retireLocked(c, Killed)
		p.closeLocked(c)
		return lent, true
	}
	return 0, false
}

// dismissLocked breaks off the openings of a group.
func (p *Pool[K, C]) dismissLocked(g *group[K, C], why error) {
	for o := range g.opening {
		o.unwanted = true
		o.cancel(why)
	}
}

// Reset replaces all connections: none that is open now, or whose opening has
// begun, is lent again. Those in use are closed when their last call ends.
func (p *Pool[K, C]) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resetLocked()
}

func (p *Pool[K, C]) resetLocked() {
	p.generation++
	for _, g := range p.groups {
		for _, c := range g.conns() {
			p.retireLocked(c, Reset)
		}
		if g.later > 0 { // that was said by what is given up
			g.later = 0
			p.wakeLocked(p.now())
		}
	}
}

// Drain is Reset, and waits until every connection that was open is closed,
// or ctx ends.
func (p *Pool[K, C]) Drain(ctx context.Context) error {
	p.mu.Lock()
	p.resetLocked()
	var old []*conn[K, C]
	for c := range p.conns {
		if c.reason != "" {
			old = append(old, c)
		}
	}
	p.mu.Unlock()
	return p.await(ctx, func() bool {
		for _, c := range old {
			if _, open := p.conns[c]; open {
				return false
			}
		}
		return true
	})
}

// Pause lends nothing more and waits until no call is in flight, or ctx ends;
// it stays in force either way. Callers wait meanwhile, as long as they would
// for a slot. Where Resume comes first the error is [ErrResumed].
func (p *Pool[K, C]) Pause(ctx context.Context) error {
	p.mu.Lock()
	if !p.paused {
		p.paused = true
		for _, g := range p.groups {
			g.gate.Add(gatePaused)
			p.starvedLocked(g, false)
		}
	}
	p.mu.Unlock()
	resumed := false
	err := p.await(ctx, func() bool {
		idle := p.inFlightLocked() == 0
		resumed = !p.paused && !idle
		return idle || resumed
	})
	if err == nil && resumed {
		return ErrResumed
	}
	return err
}

// Resume ends a Pause. Those who wait are served in their order.
func (p *Pool[K, C]) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.paused {
		return
	}
	p.paused = false
	now := p.now()
	for _, g := range p.groups {
		g.gate.Add(-gatePaused)
		p.pumpLocked(g, now)
		p.planLocked(g, now)
	}
	p.noticeLocked() // without the gate nobody tells a Pause that calls are over
}

func (p *Pool[K, C]) inFlightLocked() int {
	n := 0
	for c := range p.conns {
		n += c.inFlight()
	}
	return n
}

// watcher is somebody who waits for the pool to come to a state.
type watcher struct {
	reached func() bool // called with the lock held
	done    chan struct{}
}

// await waits until reached holds, or ctx ends.
func (p *Pool[K, C]) await(ctx context.Context, reached func() bool) error {
	w := &watcher{reached, make(chan struct{})}
	p.mu.Lock()
	p.watchers[w] = struct{}{}
	p.noticeLocked()
	p.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watchers, w)
		select {
		case <-w.done:
			return nil
		default:
			return context.Cause(ctx)
		}
	}
}

// noticeLocked tells those who wait for a state that it is reached.
func (p *Pool[K, C]) noticeLocked() {
	for w := range p.watchers {
		if w.reached() {
			delete(p.watchers, w)
			close(w.done)
		}
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
			p.failLocked(g, ErrClosed, nil)
			p.dismissLocked(g, ErrClosed)
		}
		for c := range p.conns {
			p.retireLocked(c, Shutdown)
		}
		p.rouse() // the keeper ends
	}
	p.mu.Unlock()

	ended := func() bool { return len(p.conns) == 0 && p.total == 0 }
	var err error
	if p.await(ctx, ended) != nil {
		err = p.force(ctx)
		_ = p.await(context.Background(), ended)
	}
	for _, b := range p.budgets {
		b.quit(p)
	}
	p.stop(ErrClosed) // the clock, and what still checks a connection that is closed by now
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
		cut += c.inFlight()
		p.closeLocked(c)
	}
	if cut == 0 {
		return nil
	}
	return fmt.Errorf("%d calls cut off: %w", cut, context.Cause(ctx))
}

// Change changes the options that are numbers and times while the pool runs,
// the key of each group to what rekey says, and the slots of each connection
// to what resize says, 0 for as they are. What is beyond a new limit goes,
// idle connections now and the others when their calls end. It must not be
// called from several goroutines at once.
func (p *Pool[K, C]) Change(set func(*Options[K, C]), rekey func(id K) Key[K], resize func(conn C) int) {
	p.mu.Lock()
	o := p.o
	ids := slices.Collect(maps.Keys(p.groups))
	slots := make(map[*conn[K, C]]int, len(p.conns))
	for c := range p.conns {
		slots[c] = 0
	}
	p.mu.Unlock()
	set(&o)
	keys := make([]Key[K], len(ids))
	for i, id := range ids {
		keys[i] = rekey(id)
	}
	for c := range slots {
		slots[c] = resize(c.value)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.resize.Store(&resize) // for those that are being opened
	for c, n := range slots {
		if n > 0 {
			c.setLimitLocked(n)
		}
	}
	for _, key := range keys {
		if g := p.groups[key.ID]; g != nil {
			p.rekeyLocked(g, key)
			p.pumpLocked(g, now)
		}
	}
	o.Open, o.Close, o.Check, o.Connections, o.Waiters = p.o.Open, p.o.Close, p.o.Check, p.o.Connections, p.o.Waiters
	p.o = o
	p.worn.Store(int64(o.MaxCalls))
	p.openMost = min(p.openMost, o.MaxOpening)
	var staying []*conn[K, C]
	for c := range p.conns {
		if c.reason == "" {
			staying = append(staying, c)
		}
	}
	for _, c := range leastRecent(staying, now)[:max(0, len(staying)-o.Total)] {
		p.retireLocked(c, Surplus)
	}
	p.feedLocked(now)
	p.next = 0 // the times may have changed: the keeper looks now
	p.wakeLocked(now)
}

// rekeyLocked changes what a group may become, and retires what it has beyond
// its maximum, the least recently used first.
func (p *Pool[K, C]) rekeyLocked(g *group[K, C], key Key[K]) {
	g.key = key
	for _, c := range leastRecent(g.conns(), p.now()) {
		if len(g.conns()) <= g.max() {
			return
		}
		p.retireLocked(c, Surplus)
	}
}
