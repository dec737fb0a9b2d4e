package pooltest

import (
	"fmt"
	"slices"
	"time"
)

// model is what a pool has to do, as plainly as it can be said: no more than
// lists, and no question of how long an opening takes.
type model struct {
	queues     map[int][]*line // of each group, whose turn is next first
	held       []*caller
	paused     bool
	generation int
	told       map[int]int   // how often a group was told that its state is gone
	before     map[int]int   // the same, before the moment that is looked at
	last       map[int]*Link // that an owned group was lent last
	lastTold   map[int]int   // how often it had been told then
	lastUse    map[int]time.Time
	served     uint64
	failures   uint64
}

// line is one principal's waiters in a group.
type line struct {
	who     int
	waiters []*caller
	served  int // of this turn
}

// caller is one Acquire.
type caller struct {
	pool      int
	ask       Ask
	came      time.Time
	deadline  time.Time // the latest that it may be told
	cancelled time.Time
	cancel    func()

	ended bool
	at    time.Time
	lease Lease
	link  *Link
	err   error
}

func newModel() *model {
	return &model{queues: map[int][]*line{}, told: map[int]int{}, last: map[int]*Link{}, lastTold: map[int]int{}, lastUse: map[int]time.Time{}}
}

// push has a caller wait: behind those of its principal, or, if that has none,
// behind all principals.
func (m *model) push(c *caller) {
	q := m.queues[c.ask.Group]
	for _, l := range q {
		if l.who == c.ask.Who {
			l.waiters = append(l.waiters, c)
			return
		}
	}
	m.queues[c.ask.Group] = append(q, &line{who: c.ask.Who, waiters: []*caller{c}})
}

// head is who has to be served next.
func (m *model) head(group int) *caller {
	if q := m.queues[group]; len(q) > 0 {
		return q[0].waiters[0]
	}
	return nil
}

// remove takes a caller out. A principal that was served as often as it weighs
// goes behind the others.
func (m *model) remove(c *caller, served bool) {
	q := m.queues[c.ask.Group]
	at := slices.IndexFunc(q, func(l *line) bool { return l.who == c.ask.Who })
	if at < 0 {
		return
	}
	l := q[at]
	l.waiters = slices.DeleteFunc(l.waiters, func(w *caller) bool { return w == c })
	if served {
		l.served++
	}
	switch {
	case len(l.waiters) == 0:
		q = slices.Delete(q, at, at+1)
	case served && l.served >= c.ask.Weight:
		l.served = 0
		q = append(slices.Delete(q, at, at+1), l)
	}
	m.queues[c.ask.Group] = q
}

// waiters are all who wait, and how many for each principal.
func (m *model) waiters() (all []*caller, each map[int]int) {
	each = map[int]int{}
	for _, q := range m.queues {
		for _, l := range q {
			all = append(all, l.waiters...)
			each[l.who] += len(l.waiters)
		}
	}
	return all, each
}

// fail takes in that a caller was told why it gets nothing.
func (m *model) fail(c *caller, why Why, trouble bool) error {
	all, each := m.waiters()
	m.remove(c, false)
	m.failures++
	switch why {
	case Cancelled:
		if !c.cancelled.Equal(c.at) && !c.at.Equal(c.deadline) {
			return fmt.Errorf("I-NOLEAKONCANCEL: a caller that was not cancelled then was told so: %w", c.err)
		}
	case TimedOut:
		if c.at.Before(c.deadline) && !trouble {
			return fmt.Errorf("I-DEADLINE: told %v too soon: %w", c.deadline.Sub(c.at), c.err)
		}
	case Down:
		if !trouble {
			return fmt.Errorf("I-BREAKER: told that nothing can be opened while all goes well: %w", c.err)
		}
	case StateLost:
		m.told[c.ask.Group]++
	case Full:
		if c.came.Equal(c.at) {
			break // it was the last to come, or of the same moment
		}
		for _, w := range all {
			if w.ask.Who == c.ask.Who && w.came.After(c.came) {
				return fmt.Errorf("I-FIFO: of too many who waited one was sent away who had not come last")
			}
		}
		for who, n := range each {
			if n > each[c.ask.Who] {
				return fmt.Errorf("I-FIFO: one of %d waiters of principal %d was sent away, while %d wait for %d", each[c.ask.Who], c.ask.Who, n, who)
			}
		}
	}
	if c.at.After(c.deadline) {
		return fmt.Errorf("I-DEADLINE: told %v after its time: %w", c.at.Sub(c.deadline), c.err)
	}
	return nil
}

// serve takes in who of a group got a slot at one moment, in no order.
func (m *model) serve(p Pool, group int, got []*caller) error {
	want := make([]*caller, 0, len(got))
	for range got {
		c := m.head(group)
		want = append(want, c)
		m.remove(c, true)
	}
	for _, c := range got {
		if !slices.Contains(want, c) {
			return fmt.Errorf("I-FIFO: principal %d was served, who came at %v, while the turn was that of %d, who came at %v",
				c.ask.Who, c.came.Format(time.StampMicro), want[0].ask.Who, want[0].came.Format(time.StampMicro))
		}
		if m.paused {
			return fmt.Errorf("I-PAUSE: a slot was lent while the pool was paused")
		}
		if c.at.After(c.deadline) {
			return fmt.Errorf("I-DEADLINE: served %v after its time", c.at.Sub(c.deadline))
		}
		if err := m.lent(p, c); err != nil {
			return err
		}
		m.served++
		m.held = append(m.held, c)
	}
	return nil
}

// lent looks at what a caller was lent.
func (m *model) lent(p Pool, c *caller) error {
	g, l := p.Group(c.ask.Group), c.link
	links := p.Links()
	links.mu.Lock()
	defer links.mu.Unlock()
	switch {
	case l.closed > 0:
		return fmt.Errorf("I-CLOSEONCE: a connection was lent that is closed")
	case l.generation != m.generation:
		return fmt.Errorf("I-GEN: lent a connection whose opening began %d resets ago", m.generation-l.generation)
	case l.Group >= 0 && l.Group != c.ask.Group && l.Group != g.Spare:
		return fmt.Errorf("I-ISOLATE: group %d was lent a connection opened for %d", c.ask.Group, l.Group)
	case l.owner >= 0 && l.owner != c.ask.Group:
		return fmt.Errorf("I-ISOLATE: group %d was lent a connection that group %d had used", c.ask.Group, l.owner)
	case l.whole || c.ask.Whole && l.held > 0:
		return fmt.Errorf("I-ISOLATE: a connection that was lent whole is not alone")
	}
	if g.Owned {
		told := m.told[c.ask.Group]
		if l.owner >= 0 && l.told == m.before[c.ask.Group] {
			told = l.told // it was lent first, and then others were told
		}
		if l.owner >= 0 && l.told != told {
			return fmt.Errorf("I-ISOLATE: group %d was lent a connection that it had been told is gone", c.ask.Group)
		}
		last := m.last[c.ask.Group]
		if last != nil && last != l && m.lastTold[c.ask.Group] == told && c.at.Sub(m.lastUse[c.ask.Group]) < time.Hour {
			return fmt.Errorf("I-ISOLATE: group %d met another connection and was not told that its state is gone", c.ask.Group)
		}
		l.told = told
		m.last[c.ask.Group], m.lastTold[c.ask.Group], m.lastUse[c.ask.Group] = l, told, c.at
	}
	l.owner, l.whole = c.ask.Group, c.ask.Whole
	l.held++
	return nil
}

// release takes in that a lease is given back.
func (m *model) release(p Pool, c *caller) {
	m.held = slices.DeleteFunc(m.held, func(h *caller) bool { return h == c })
	links := p.Links()
	links.mu.Lock()
	defer links.mu.Unlock()
	c.link.held--
	c.link.whole = false
	m.lastUse[c.ask.Group] = time.Now()
}
