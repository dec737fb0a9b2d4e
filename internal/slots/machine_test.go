package slots

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mcpool-dev/mcpool/internal/pooltest"
)

// groups is how many there are besides the one of spares.
const groups = 5

// engine has package pooltest drive a Pool: two groups of one account, one of
// another, and two sessions of that, which take over spares.
type engine struct {
	*Pool[string, *pooltest.Link]
	*pooltest.Servers
	links pooltest.Links
	min   int
	peers []*engine // with the same budgets, this one, too

	mu      sync.Mutex // guards what schedules change
	slots   int
	most    [groups + 1]int
	counted [groups + 1]int
}

var groupIDs = [groups + 1]string{"a", "b", "c", "s", "t", "spare"}

func groupOf(id string) int {
	for i, other := range groupIDs {
		if id == other {
			return i
		}
	}
	panic("no group " + id)
}

// engines makes one or two pools as the bytes of a setup say.
func engines(s pooltest.Setup) []pooltest.Pool {
	at := func(i, div int, of ...int) int { return of[int(s[i])/div%len(of)] }
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	o := Options[string, *pooltest.Link]{
		Min: at(1, 1, 0, 0, 1, 2), Total: at(1, 4, 2, 3, 5, 9),
		MaxWaiting: at(2, 4, 0, 8, 30), WaitingEach: at(5, 3, 0, 6),
		IdleTimeout: seconds(at(3, 1, 0, 5, 60)), MaxAge: seconds(at(3, 3, 0, 20, 120)),
		CheckInterval: seconds(at(4, 1, 0, 3)), CheckTimeout: time.Second, MaxCalls: at(4, 2, 0, 7),
		BreakAfter: seconds(at(4, 4, 0, 10)), AccountTotal: at(5, 1, 0, 2, 4),
		MaxOpening: at(6, 1, 1, 2, 4), OpenTimeout: 35 * time.Second,
	}
	if most := at(7, 1, 0, 3, 5); most > 0 {
		o.Connections = []*Budget{NewBudget(most)}
	}
	if most := at(7, 3, 0, 12); most > 0 {
		o.Waiters = NewBudget(most)
	}
	var pools []pooltest.Pool
	var all []*engine
	for range at(0, 4, 1, 2) {
		e := &engine{slots: at(2, 1, 1, 2, 3, 4), min: o.Min, most: [...]int{3, 1, 2, 1, 1, max(1, o.Min)}, Servers: pooltest.NewServers()}
		o.Open, o.Close, o.Check = e.open, e.close, e.check
		e.Pool = New(o)
		all, pools = append(all, e), append(pools, e)
	}
	for _, e := range all {
		e.peers = all
	}
	return pools
}

func (e *engine) key(group int) Key[string] {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := Key[string]{ID: groupIDs[group], Max: e.most[group], Slots: e.slots, Account: []string{"x", "x", "y", "y", "y", "y"}[group]}
	if k.Owned = group == 3 || group == 4; k.Owned && e.min > 0 {
		k.Spare = "spare"
	}
	return k
}

func (e *engine) open(ctx context.Context, id string) (Opened[*pooltest.Link], error) {
	generation := e.links.Begin()
	how, err := e.Servers.Open(ctx)
	switch {
	case err != nil:
		return Opened[*pooltest.Link]{}, err
	case how == pooltest.Fails:
		return Opened[*pooltest.Link]{}, errDown
	case how == pooltest.FailsForGood:
		return Opened[*pooltest.Link]{}, errForever
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.links.Opened(groupOf(id), generation, e.slots)
	return Opened[*pooltest.Link]{Conn: l, Slots: e.slots, Done: l.Done}, nil
}

func (e *engine) close(ctx context.Context, l *pooltest.Link, why Reason) {
	e.links.Closed(l, ctx.Err() != nil, why == Lost)
}

func (e *engine) check(context.Context, *pooltest.Link) error {
	switch e.Servers.Checked() {
	case pooltest.Fails:
		return errDown
	case pooltest.FailsForGood:
		return fmt.Errorf("%w: %w", ErrGone, errDown)
	}
	return nil
}

type engineLease struct {
	Lease[string, *pooltest.Link]
}

func (l engineLease) Link() *pooltest.Link { return l.Conn() }

func (e *engine) Acquire(ctx context.Context, ask pooltest.Ask) (pooltest.Lease, error) {
	key := e.key(ask.Group)
	l, err := e.Pool.Acquire(ctx, &key, Ask{Who: strconv.Itoa(ask.Who), Weight: ask.Weight, Whole: ask.Whole, Timeout: ask.Timeout})
	return engineLease{l}, err
}

func (e *engine) End(group int) { e.Pool.End(only(groupIDs[group])) }

func only(id string) func(string) bool { return func(other string) bool { return other == id } }

func (e *engine) Warm(group int) {
	key := e.key(group)
	e.Pool.Warm(&key)
}

func (e *engine) Change(a, b, c byte) {
	group, slots := int(b)%groups, int(c%5)
	owned := e.key(group).Owned
	e.mu.Lock()
	if !owned {
		e.most[group] = 1 + int(b)/groups%3
	}
	if slots > 0 {
		e.slots = slots
	}
	e.mu.Unlock()
	e.Pool.Change(func(o *Options[string, *pooltest.Link]) {
		o.Total = 2 + int(a%8)
		o.MaxWaiting = []int{0, 8, 30}[c/5%3]
		o.AccountTotal = []int{0, 2, 4}[c/15%3]
	}, func(id string) Key[string] { return e.key(groupOf(id)) }, func(l *pooltest.Link) int {
		if slots > 0 {
			e.links.Resize(l, slots)
		}
		return slots
	})
}

func (e *engine) Groups() int            { return groups }
func (e *engine) Who(_, who int) int     { return who }
func (e *engine) Links() *pooltest.Links { return &e.links }

func (e *engine) Group(group int) pooltest.Group {
	k := e.key(group)
	g := pooltest.Group{Max: k.Max, Owned: k.Owned, Spare: group}
	if k.Spare != "" {
		g.Spare = groupOf(k.Spare)
	}
	return g
}

func (e *engine) Counts() pooltest.Counts {
	s := e.Stats()
	n := pooltest.Counts{
		Waiting: s.Waiting, InFlight: s.InFlight, Slots: s.Slots,
		Ready: s.Ready, InUse: s.InUse, Idle: s.Idle, Opening: s.Opening, Retired: s.Retired,
		Acquired: s.Acquired, Released: s.Released, Waited: s.Waited,
		Opened: s.Opened, Elided: s.Elided, LateBinds: s.LateBinds,
		Checks: s.HealthChecks, ChecksFailed: s.HealthFailures, WaitTime: s.WaitTime,
		Total: e.o.Total, MaxWaiting: e.o.MaxWaiting,
	}
	for _, closed := range s.Closed {
		n.Closed += closed
	}
	for _, begun := range s.Opens {
		n.Begun += begun
	}
	for _, failed := range s.OpenFailures {
		n.OpenFailures += failed
	}
	for _, failed := range s.Failed {
		n.Failures += failed
	}
	return n
}

func (e *engine) Free(group int) (slot, whole bool) {
	e.Pool.mu.Lock()
	defer e.Pool.mu.Unlock()
	if g := e.groups[groupIDs[group]]; g != nil {
		for _, c := range g.conns() {
			slot = slot || !c.whole() && c.inFlight() < c.room()
			whole = whole || c.inFlight() == 0
		}
	}
	return slot, whole
}

func (e *engine) Why(err error) pooltest.Why {
	for is, why := range map[error]pooltest.Why{
		context.Canceled: pooltest.Cancelled, context.DeadlineExceeded: pooltest.Cancelled, ErrTimeout: pooltest.TimedOut,
		ErrQueueFull: pooltest.Full, ErrDown: pooltest.Down, ErrLost: pooltest.StateLost, ErrClosed: pooltest.Closed,
	} {
		var wait *WaitError
		if errors.As(err, &wait) && errors.Is(wait.Err, is) || wait == nil && errors.Is(err, is) {
			return why
		}
	}
	return pooltest.Why(err.Error())
}

// Check looks inside, at rest.
func (e *engine) Check() error {
	e.Pool.mu.Lock()
	defer e.Pool.mu.Unlock()
	for _, check := range []func() error{e.limit, e.cap, e.closeOnce, e.noLeak, e.noStrand, e.mono, e.budgets} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// limit is I-LIMIT and I-CONSERVE: of the slots of a connection each is lent or
// free, and none twice.
func (e *engine) limit() error {
	for c := range e.conns {
		free := 0
		seen := map[uint64]bool{}
		for number := first(c.state().Load()); number != 0; number = c.word(number).Load() % turnOne {
			if seen[number] {
				return fmt.Errorf("I-LIMIT: slot %d is free twice", number)
			}
			seen[number] = true
			free++
		}
		if c.inFlight()+free != c.slots {
			return fmt.Errorf("I-CONSERVE: %d slots lent and %d free of %d", c.inFlight(), free, c.slots)
		}
		if c.whole() && c.inFlight() != 1 {
			return fmt.Errorf("I-ISOLATE: %d calls on a whole connection", c.inFlight())
		}
	}
	return nil
}

// cap is I-CAP inside: a group has one connection beyond its maximum at most,
// the one that replaces or is replaced, and no more of them than it had where
// the maximum has fallen.
func (e *engine) cap() error {
	accounts := map[*account]int{}
	total, opening := 0, 0
	for _, g := range e.groups {
		n := g.count()
		if i := groupOf(g.id); n > g.max()+1 && n > e.counted[i] {
			return fmt.Errorf("I-CAP: group %s has %d connections of %d", g.id, n, g.max())
		} else {
			e.counted[i] = n
		}
		opening += len(g.opening)
	}
	for c := range e.conns {
		if c.reason != Lost {
			total++
			accounts[c.group.account]++
		}
	}
	if opening > e.Pool.opening || e.Pool.opening > e.o.MaxOpening {
		return fmt.Errorf("I-CAP: %d connections being opened, %d in groups, want at most %d", e.Pool.opening, opening, e.o.MaxOpening)
	}
	if total+e.Pool.opening != e.total {
		return fmt.Errorf("I-CAP: %d connections count, there are %d and %d being opened", e.total, total, e.Pool.opening)
	}
	for _, a := range e.accounts {
		if a.conns < accounts[a] || a.conns > accounts[a]+e.Pool.opening {
			return fmt.Errorf("I-CAP: account %s counts %d connections and has %d", a.name, a.conns, accounts[a])
		}
	}
	return nil
}

// closeOnce is I-CLOSEONCE inside: what is lent is not on its way out, and what
// is on its way out waits for a call, or is being closed.
func (e *engine) closeOnce() error {
	for _, g := range e.groups {
		for _, c := range g.conns() {
			if c.reason != "" || c.closed || c.state().Load()&retiredBit != 0 {
				return fmt.Errorf("I-CLOSEONCE: a connection that is %s may be lent", c.reason)
			}
			if c.group != g {
				return fmt.Errorf("I-ISOLATE: group %s has a connection of group %s", g.id, c.group.id)
			}
		}
	}
	for c := range e.conns {
		if c.reason != "" && c.inFlight() == 0 && !c.closed {
			return fmt.Errorf("I-CLOSEONCE: a connection that is %s and has no call is not closed", c.reason)
		}
	}
	return nil
}

// noLeak is I-NOLEAKONCANCEL: a caller that left has left nothing behind.
func (e *engine) noLeak() error {
	waiting, hungry := 0, 0
	for _, g := range e.groups {
		n := 0
		for _, l := range g.queue.lines {
			n += l.waiters.n
		}
		waiting += n
		if g.hungry.in != nil {
			hungry++
		}
		gate := g.gate.Load()
		if e.paused {
			gate -= gatePaused
		}
		if gate != int64(n) || g.queue.n != n || (n > 0) != (g.hungry.in != nil) || len(g.queue.lines) > g.queue.turns.n+1 {
			return fmt.Errorf("I-NOLEAKONCANCEL: %d wait in group %s, the gate says %d, the queue %d", n, g.id, gate, g.queue.n)
		}
	}
	if waiting != e.waiting || len(e.deadlines) != waiting || hungry != e.hungry.n {
		return fmt.Errorf("I-NOLEAKONCANCEL: %d wait, the pool counts %d, and %d deadlines", waiting, e.waiting, len(e.deadlines))
	}
	return nil
}

// noStrand is the other half of I-NOSTRAND: who waits where there is no
// connection has something to wait for.
func (e *engine) noStrand() error {
	for _, g := range e.groups {
		if g.queue.n > 0 && g.count() == 0 && !e.paused && !g.starved && e.Pool.opening == 0 && e.next == 0 {
			return fmt.Errorf("I-NOSTRAND: %d of group %s wait for nothing", g.queue.n, g.id)
		}
	}
	return nil
}

// mono is I-MONO inside: what is kept up to date is what a count finds.
func (e *engine) mono() error {
	retired, heirs, starved := map[*group[string, *pooltest.Link]]int{}, map[*group[string, *pooltest.Link]]int{}, 0
	evicted, busy := 0, 0
	for c := range e.conns {
		if c.reason != "" && c.reason != Lost {
			retired[c.group]++
		}
		switch {
		case c.reason != Evicted || c.sacrificed != nil:
		case c.evictedBusy:
			busy++
		default:
			evicted++
		}
	}
	for _, g := range e.groups {
		heirs[g.spares]++
		if g.starved {
			starved++
		}
	}
	for _, g := range e.groups {
		if g.retired != retired[g] || g.heirs != heirs[g] {
			return fmt.Errorf("I-MONO: group %s counts %d retired and %d heirs, there are %d and %d", g.id, g.retired, g.heirs, retired[g], heirs[g])
		}
	}
	if evicted != e.evicted || busy != e.evictedBusy || starved != int(e.starved.Load()) {
		return fmt.Errorf("I-MONO: counts %d evicted, %d in use, %d starved; there are %d, %d and %d",
			e.evicted, e.evictedBusy, e.starved.Load(), evicted, busy, starved)
	}
	return nil
}

// budgets is I-CAP of pools together.
func (e *engine) budgets() error {
	if e != e.peers[0] {
		return nil
	}
	used, waiting, leaving := e.total, e.waiting, 0
	for _, peer := range e.peers {
		if peer != e {
			peer.Pool.mu.Lock()
			used += peer.total
			waiting += peer.waiting
		}
		for c := range peer.conns {
			if c.sacrificed != nil {
				leaving++
			}
		}
		if peer != e {
			peer.Pool.mu.Unlock()
		}
	}
	for _, b := range e.o.Connections {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.used != used || b.used > b.most || b.leaving+b.leavingBusy != leaving {
			return fmt.Errorf("I-CAP: a budget of %d counts %d and %d leaving, the pools have %d and %d", b.most, b.used, b.leaving+b.leavingBusy, used, leaving)
		}
	}
	if b := e.o.Waiters; b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.used != waiting || b.used > b.most {
			return fmt.Errorf("I-NOLEAKONCANCEL: a budget of %d counts %d waiters, the pools have %d", b.most, b.used, waiting)
		}
	}
	return nil
}

// prove does schedules from a menu to pools, with all invariants looked at
// after each step, and returns what they came to.
func prove(t *testing.T, menu ...pooltest.Op) pooltest.Tally {
	t.Helper()
	var all pooltest.Tally
	rapid.Check(t, func(rt *rapid.T) {
		tally, err := pooltest.Run(t, engines, pooltest.Schedules(menu...).Draw(rt, "schedule"))
		all.Add(tally)
		if err != nil {
			rt.Fatal(err)
		}
	})
	return all
}

// TestMachine does schedules of everything to pools. MCPOOL_STEPS has it do so
// many steps at least: CI has it do a million.
func TestMachine(t *testing.T) {
	steps, _ := strconv.Atoi(os.Getenv("MCPOOL_STEPS"))
	var all pooltest.Tally
	for all.Steps == 0 || all.Steps < steps {
		all.Add(prove(t, pooltest.Everything()...))
	}
	t.Logf("%d steps: %d served, %d of them after a wait; %d cancelled, %d timed out, %d refused; %d connections lost, %d resets",
		all.Steps, all.Served, all.Waited, all.Cancelled, all.TimedOut, all.Refused, all.Lost, all.Resets)
}

func FuzzMachine(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := pooltest.Run(t, engines, pooltest.Decode(data)); err != nil {
			t.Fatal(err)
		}
	})
}
