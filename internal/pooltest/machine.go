package pooltest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Principals is how many of them schedules know.
const Principals = 3

// Tally is how often a schedule came to something, so that a test can say that
// it was not about nothing.
type Tally struct {
	Steps, Served, Waited, Cancelled, TimedOut, Refused, Lost, Resets, Paused, Wholes, Twice int
	Pools                                                                                    []Counts // at the end
}

// Add adds what other schedules came to.
func (t *Tally) Add(other Tally) {
	t.Steps += other.Steps
	t.Served += other.Served
	t.Waited += other.Waited
	t.Cancelled += other.Cancelled
	t.TimedOut += other.TimedOut
	t.Refused += other.Refused
	t.Lost += other.Lost
	t.Resets += other.Resets
	t.Paused += other.Paused
	t.Wholes += other.Wholes
	t.Twice += other.Twice
	t.Pools = append(t.Pools, other.Pools...)
}

// Run makes pools and does a schedule to them, in a bubble of virtual time. It
// returns the first thing that does not hold.
//
// It does so in a goroutine of its own: bubbles leave something on the stack
// that the race detector keeps of the goroutine they are made from, and after
// some hundreds of them the process ends by a segmentation violation in the
// detector's own code (Go 1.26).
func Run(t *testing.T, build func(Setup) []Pool, s Schedule) (tally Tally, err error) {
	var alone sync.WaitGroup
	alone.Go(func() { tally, err = run(t, build, s) })
	alone.Wait()
	return tally, err
}

func run(t *testing.T, build func(Setup) []Pool, s Schedule) (tally Tally, err error) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{pools: build(s.Setup)}
		for range m.pools {
			m.models = append(m.models, newModel())
			m.before = append(m.before, Counts{})
		}
		for i, step := range s.Steps {
			m.do(step)
			m.tally.Steps++
			if err = m.check(); err != nil {
				err = fmt.Errorf("step %d, %v: %w", i, step, err)
				break
			}
		}
		if err == nil {
			err = m.finish(s.Setup[0] % 4)
		}
		m.abort()
		tally = m.tally
	})
	return tally, err
}

// machine does steps to pools and keeps their models.
type machine struct {
	pools  []Pool
	models []*model
	before []Counts // of each pool, at the last check
	// trouble says that servers have failed, so that callers may be told early;
	// closing, that pools are on their way out.
	trouble, closing bool
	healing          bool // steps and time go on between two checks
	n                int  // callers so far
	waits            []*wait
	work             sync.WaitGroup
	tally            Tally
	wrong            error // seen while something was done

	mu    sync.Mutex
	ended []*caller // since the last check
}

// wait is a Pause or a Drain under way.
type wait struct {
	pool   int
	old    []*Link // that Drain waits for
	cancel func()

	mu   sync.Mutex
	done bool
	err  error
}

func (w *wait) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

// timeouts are those of callers.
var timeouts = []time.Duration{0, time.Millisecond, 100 * time.Millisecond, time.Second, 3 * time.Second, 20 * time.Second, 5 * time.Minute, 5 * time.Minute}

// naps are how long Sleep sleeps.
var naps = []time.Duration{time.Millisecond, 40 * time.Millisecond, 250 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 11 * time.Second, 31 * time.Second}

func (m *machine) do(s Step) {
	i := int(s.Pool) % len(m.pools)
	p, model := m.pools[i], m.models[i]
	a := int(s.A)
	switch s.Op {
	case Acquire:
		m.acquire(i, s)
	case Cancel:
		if all, _ := model.waiters(); len(all) > 0 {
			c := all[a%len(all)]
			c.cancelled = time.Now()
			c.cancel()
		}
	case Release, ReleaseTwice, Lose:
		if len(model.held) > 0 {
			c := model.held[a%len(model.held)]
			if s.Op == Lose {
				m.lose(model, c)
			}
			m.release(i, c)
			if s.Op == ReleaseTwice {
				m.tally.Twice++
				if c.lease.Release() {
					m.wrong = errors.New("I-CONSERVE: a lease was given back twice")
				}
			}
		}
	case Die:
		if open := p.Links().open(); len(open) > 0 {
			m.die(p.Links(), open[a%len(open)])
		}
	case Openings:
		m.trouble = m.trouble || s.A%8 > 4
		p.Openings(s.A, s.B)
	case Checks:
		p.Checks(s.A)
	case Sleep:
		time.Sleep(naps[a%len(naps)])
	case Reset:
		m.reset(i)
		p.Reset()
	case Drain:
		m.reset(i)
		m.await(i, p.Links().open(), p.Drain)
	case Pause:
		model.paused = true
		m.tally.Paused++
		m.await(i, nil, p.Pause)
	case Resume:
		model.paused = false
		p.Resume()
	case End:
		group := a % p.Groups()
		model.told[group]++
		p.End(group)
	case Change:
		p.Change(s.A, s.B, s.C)
	case Warm:
		p.Warm(a % p.Groups())
	}
	synctest.Wait()
}

func (m *machine) acquire(i int, s Step) {
	group := int(s.A) % m.pools[i].Groups()
	who := m.pools[i].Who(group, int(s.B)%Principals)
	c := &caller{pool: i, came: time.Now(), ask: Ask{
		Group: group, Who: who, Weight: who + 1, Whole: s.B/Principals%4 == 0,
		Timeout: timeouts[int(s.C)%len(timeouts)],
	}}
	if m.n++; c.ask.Timeout > 0 {
		c.ask.Timeout += time.Duration(m.n) // no two things are to come at the same moment by chance
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.deadline = c.came.Add(c.ask.Timeout)
	if s.C/8%4 == 0 {
		limit := 700*time.Millisecond + time.Duration(m.n)
		ctx, cancel = context.WithTimeout(context.Background(), limit)
		if d := c.came.Add(limit); d.Before(c.deadline) {
			c.deadline = d
		}
	}
	c.cancel = cancel
	m.models[i].push(c)
	m.work.Go(func() {
		lease, err := m.pools[i].Acquire(ctx, c.ask)
		m.mu.Lock()
		defer m.mu.Unlock()
		c.lease, c.err, c.at, c.ended = lease, err, time.Now(), true
		if err == nil {
			c.link = lease.Link()
		}
		m.ended = append(m.ended, c)
	})
}

func (m *machine) release(i int, c *caller) {
	m.models[i].release(m.pools[i], c) // before, or its connection may be closed first
	if !c.lease.Release() && !m.closing {
		m.wrong = errors.New("I-CONSERVE: giving a lease back had no effect")
	}
}

// lose has the holder of a lease say that its connection has failed: so it
// knows that the state is gone.
func (m *machine) lose(model *model, c *caller) {
	m.tally.Lost++
	if group := c.ask.Group; model.last[group] == c.link && c.link.told == model.told[group] {
		model.told[group]++
	}
	links := m.pools[c.pool].Links()
	links.mu.Lock()
	c.link.lost = true
	links.mu.Unlock()
	c.lease.Lost()
}

func (m *machine) die(links *Links, l *Link) {
	links.mu.Lock()
	defer links.mu.Unlock()
	if !l.ended {
		m.tally.Lost++
		l.ended, l.lost = true, true
		close(l.Done)
	}
}

func (m *machine) reset(i int) {
	m.tally.Resets++
	m.models[i].generation++
	l := m.pools[i].Links()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation++
}

func (m *machine) await(i int, old []*Link, verb func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &wait{pool: i, old: old, cancel: cancel}
	m.waits = append(m.waits, w)
	m.work.Go(func() {
		err := verb(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.done, w.err = true, err
	})
}

// check compares the pools with their models, at rest.
func (m *machine) check() error {
	m.mu.Lock()
	ended := m.ended
	m.ended = nil
	m.mu.Unlock()
	slices.SortStableFunc(ended, func(a, b *caller) int { return a.at.Compare(b.at) })
	for len(ended) > 0 {
		n := 1
		for n < len(ended) && ended[n].at.Equal(ended[0].at) {
			n++
		}
		if err := m.moment(ended[:n]); err != nil {
			return err
		}
		ended = ended[n:]
	}
	for i, p := range m.pools {
		for _, check := range []func(int) error{m.conserve, m.limit, m.closeOnce, m.cap, m.mono, m.deadline} {
			if err := check(i); err != nil {
				return err
			}
		}
		if m.closing {
			continue
		}
		if err := m.noStrand(i); err != nil {
			return err
		}
		if err := p.Check(); err != nil {
			return err
		}
	}
	return m.verbs()
}

// moment takes in what came of the callers who were told at one moment. Those
// that got nothing left the queues before others were served.
func (m *machine) moment(ended []*caller) error {
	for _, model := range m.models {
		model.before = maps.Clone(model.told)
	}
	type place struct{ pool, group int }
	served := map[place][]*caller{}
	for _, c := range ended {
		c.cancel()
		model, p := m.models[c.pool], m.pools[c.pool]
		if c.err == nil {
			at := place{c.pool, c.ask.Group}
			served[at] = append(served[at], c)
			m.tally.Served++
			if c.at.After(c.came) {
				m.tally.Waited++
			}
			if c.ask.Whole {
				m.tally.Wholes++
			}
			continue
		}
		why := p.Why(c.err)
		switch why {
		case Cancelled:
			m.tally.Cancelled++
		case TimedOut:
			m.tally.TimedOut++
		case Closed:
			if !m.closing {
				return fmt.Errorf("told that the pool is closed: %w", c.err)
			}
		default:
			m.tally.Refused++
		}
		if err := model.fail(c, why, m.trouble); err != nil {
			return err
		}
	}
	for at, got := range served {
		if err := m.models[at.pool].serve(m.pools[at.pool], at.group, got); err != nil {
			return err
		}
	}
	return nil
}

// conserve is I-CONSERVE: what is lent is what callers hold.
func (m *machine) conserve(i int) error {
	model, now := m.models[i], m.pools[i].Counts()
	all, _ := model.waiters()
	switch {
	case m.wrong != nil:
		return m.wrong
	case now.InFlight != len(model.held) && !m.closing:
		return fmt.Errorf("I-CONSERVE: %d slots are lent and %d are held", now.InFlight, len(model.held))
	case now.Waiting != len(all):
		return fmt.Errorf("I-NOLEAKONCANCEL: the pool counts %d waiters, there are %d", now.Waiting, len(all))
	case !m.closing && now.Acquired-now.Released != uint64(now.InFlight), now.Acquired < model.served:
		return fmt.Errorf("I-CONSERVE: %d acquired and %d released, %d in flight, %d were served", now.Acquired, now.Released, now.InFlight, model.served)
	}
	return nil
}

// limit is I-LIMIT: no connection has more calls than slots, unless it had
// them when the slots became fewer.
func (m *machine) limit(i int) error {
	for _, l := range m.pools[i].Links().open() {
		if l.held > l.limit && l.held > l.most {
			return fmt.Errorf("I-LIMIT: %d calls on a connection of %d slots", l.held, l.limit)
		}
		l.most = l.held
	}
	return nil
}

// closeOnce is I-CLOSEONCE, as far as it was seen when connections were
// closed.
func (m *machine) closeOnce(i int) error {
	l := m.pools[i].Links()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) > 0 {
		return errors.New(l.wrong[0])
	}
	return nil
}

// cap is I-CAP: the servers see no more connections than there may be, but for
// those that they have let go of, and no more come where there are too many.
func (m *machine) cap(i int) error {
	now, before := m.pools[i].Counts(), &m.before[i]
	n := now.Opening
	for _, l := range m.pools[i].Links().open() {
		if !l.lost {
			n++
		}
	}
	if n > now.Total && n > before.Total {
		return fmt.Errorf("I-CAP: %d connections, want at most %d", n, now.Total)
	}
	before.Total = n
	if now.MaxWaiting > 0 && now.Waiting > now.MaxWaiting && now.Waiting > before.Waiting {
		return fmt.Errorf("I-CAP: %d wait, want at most %d", now.Waiting, now.MaxWaiting)
	}
	return nil
}

// mono is I-MONO: counters do not fall, and sums are right.
func (m *machine) mono(i int) error {
	now, before := m.pools[i].Counts(), m.before[i]
	for _, c := range []struct {
		name     string
		was, now uint64
	}{
		{"acquired", before.Acquired, now.Acquired}, {"released", before.Released, now.Released},
		{"waited", before.Waited, now.Waited}, {"failures", before.Failures, now.Failures},
		{"opened", before.Opened, now.Opened},
		{"opening failures", before.OpenFailures, now.OpenFailures}, {"elided", before.Elided, now.Elided},
		{"closed", before.Closed, now.Closed}, {"begun", before.Begun, now.Begun},
		{"late binds", before.LateBinds, now.LateBinds}, {"checks", before.Checks, now.Checks},
		{"failed checks", before.ChecksFailed, now.ChecksFailed}, {"wait time", uint64(before.WaitTime), uint64(now.WaitTime)},
	} {
		if c.now < c.was {
			return fmt.Errorf("I-MONO: %s fell from %d to %d", c.name, c.was, c.now)
		}
	}
	open := len(m.pools[i].Links().open())
	switch {
	case now.Ready != now.InUse+now.Idle:
		return fmt.Errorf("I-MONO: %d ready, %d in use, %d idle", now.Ready, now.InUse, now.Idle)
	case now.Ready+now.Retired != open || now.Opened-now.Closed != uint64(open):
		return fmt.Errorf("I-MONO: %d ready, %d retired, %d opened, %d closed; %d are open", now.Ready, now.Retired, now.Opened, now.Closed, open)
	case now.LateBinds > now.Waited || now.Waited > now.Acquired || now.ChecksFailed > now.Checks:
		return fmt.Errorf("I-MONO: a part is more than the whole: %+v", now)
	case now.Failures > m.models[i].failures:
		return fmt.Errorf("I-MONO: %d failures, callers were told of %d", now.Failures, m.models[i].failures)
	}
	now.Total = before.Total
	m.before[i] = now
	return nil
}

// deadline is I-DEADLINE: nobody waits beyond the time it gave.
func (m *machine) deadline(i int) error {
	all, _ := m.models[i].waiters()
	for _, c := range all {
		if time.Now().After(c.deadline) {
			return fmt.Errorf("I-DEADLINE: a caller still waits %v after its time", time.Since(c.deadline))
		}
		if !c.cancelled.IsZero() {
			return fmt.Errorf("I-NOLEAKONCANCEL: a caller still waits that was cancelled")
		}
	}
	return nil
}

// noStrand is I-NOSTRAND and I-LATEBIND: whose turn it is does not wait beside
// what it wants, not for a moment: time stands while this looks.
func (m *machine) noStrand(i int) error {
	model := m.models[i]
	if model.paused {
		return nil
	}
	for group := range m.pools[i].Groups() {
		c := model.head(group)
		if c == nil {
			continue
		}
		if slot, whole := m.pools[i].Free(group); whole || slot && !c.ask.Whole {
			return fmt.Errorf("I-NOSTRAND: principal %d waits for a slot of group %d beside a free one (whole: %v)", c.ask.Who, group, c.ask.Whole)
		}
	}
	return nil
}

// verbs looks at those who wait in Pause and Drain.
func (m *machine) verbs() error {
	var still []*wait
	for _, w := range m.waits {
		model := m.models[w.pool]
		due := len(model.held) == 0 || !model.paused
		if w.old != nil {
			due = true
			for _, l := range m.pools[w.pool].Links().open() {
				due = due && !slices.Contains(w.old, l)
			}
		}
		switch over := w.over(); {
		case over && w.old == nil && w.err == nil && len(model.held) > 0 && !m.closing && !m.healing:
			return fmt.Errorf("I-PAUSE: Pause returned with %d calls in flight", len(model.held))
		case over && w.err == nil && !due && !m.closing && !m.healing:
			return fmt.Errorf("I-PAUSE: a verb returned before calls were over (drain: %v)", w.old != nil)
		case !over && due && !m.closing:
			return fmt.Errorf("I-PAUSE: a verb does not return although calls are over (drain: %v)", w.old != nil)
		case over:
			w.cancel()
		default:
			still = append(still, w)
		}
	}
	m.waits = still
	return nil
}

// patience is how long callers may have to wait, once all is well: for the
// longest back-off, an opening that has begun, and some more.
const patience = 2 * time.Minute

// finish ends a schedule: well, by closing under calls, or by force.
func (m *machine) finish(how byte) error {
	if how < 2 {
		if err := m.heal(); err != nil {
			return err
		}
	}
	m.closing = true
	for _, w := range m.waits {
		w.cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	errs := make([]error, len(m.pools))
	for i, p := range m.pools {
		m.work.Go(func() { errs[i] = p.Close(ctx) })
	}
	synctest.Wait()
	if err := m.check(); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	for i, model := range m.models {
		if all, _ := model.waiters(); len(all) > 0 {
			return fmt.Errorf("I-CLOSEONCE: %d still wait after Close of pool %d", len(all), i)
		}
		for how == 2 && len(model.held) > 0 {
			m.release(i, model.held[0])
		}
	}
	m.work.Wait()
	synctest.Wait()
	for i, p := range m.pools {
		now, open := p.Counts(), p.Links().open()
		m.tally.Pools = append(m.tally.Pools, now)
		if (errs[i] != nil) != (len(m.models[i].held) > 0) {
			return fmt.Errorf("I-CLOSEONCE: Close with %d calls left: %w", len(m.models[i].held), errs[i])
		}
		if len(open) > 0 || now.Opened != now.Closed || now.Acquired != now.Released || now.Opening != 0 {
			return fmt.Errorf("I-CLOSEONCE: after Close %d are open: %+v", len(open), now)
		}
		if err := p.Check(); err != nil {
			return fmt.Errorf("after Close: %w", err)
		}
	}
	return m.check()
}

// heal has all be well and looks that whoever has the patience is served.
func (m *machine) heal() error {
	m.healing = true
	patient := map[*caller]bool{}
	for i, p := range m.pools {
		p.Heal()
		m.models[i].paused = false
		p.Resume()
		all, _ := m.models[i].waiters()
		for _, c := range all {
			if time.Until(c.deadline) > patience {
				patient[c] = true
			}
		}
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Second) {
		synctest.Wait()
		if err := m.check(); err != nil {
			return fmt.Errorf("all is well again: %w", err)
		}
		waiting := 0
		for i, model := range m.models {
			for len(model.held) > 0 {
				m.release(i, model.held[0])
			}
			all, _ := model.waiters()
			waiting += len(all)
		}
		if waiting == 0 {
			break
		}
	}
	synctest.Wait()
	if err := m.check(); err != nil {
		return fmt.Errorf("all is well again: %w", err)
	}
	for c := range patient {
		if !c.ended {
			return fmt.Errorf("I-NOSTRAND: all is well for %v and a caller of group %d still waits", patience, c.ask.Group)
		}
		if c.err != nil && m.pools[c.pool].Why(c.err) != StateLost {
			return fmt.Errorf("I-NOSTRAND: all is well and a caller of group %d that had time was told: %w", c.ask.Group, c.err)
		}
	}
	for i, model := range m.models {
		for len(model.held) > 0 {
			m.release(i, model.held[0])
		}
	}
	synctest.Wait()
	return m.check()
}

// abort ends what is left of a schedule.
func (m *machine) abort() {
	for _, model := range m.models {
		all, _ := model.waiters()
		for _, c := range append(all, model.held...) {
			c.cancel()
		}
	}
	for _, w := range m.waits {
		w.cancel()
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, p := range m.pools {
		p.Close(ended) //nolint:errcheck // it was closed before, or has failed already
	}
	m.work.Wait()
}
