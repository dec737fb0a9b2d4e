// Package slots decides who may call on which connection, who waits, and when
// a connection is opened or closed. It knows neither MCP nor a network: a
// connection is a value that somebody else opens, checks and closes.
//
// Capacity has two dimensions, connections and the slots on each. A caller
// waits for a slot, never for a connection that is being opened on its
// account: the oldest waiter of the principal whose turn it is takes the first
// slot that comes free, be it on an old connection or a new one (late
// binding), and no newcomer overtakes it.
//
// A free slot is taken and given back without a lock: see lend.go. Everything
// else is guarded by one mutex per pool. Opening, checking and closing happen
// outside it, in goroutines that Close waits for.
package slots

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Options is how a pool behaves; every func is required, every number and time
// may be 0 for no bound or for never unless it says otherwise.
type Options[K comparable, C any] struct {
	// Open opens a connection for the group of that id. ctx ends after
	// OpenTimeout, when the connection is no longer wanted, and when the pool
	// closes by force. An error that is [ErrPermanent] says that trying again
	// does not help soon: those who wait get it at once, and so do those of
	// the same account who come before the next try. A [*LaterError] says when
	// that may be.
	Open func(ctx context.Context, id K) (Opened[C], error)
	// Close closes a connection, once. ctx has ended if the pool closes by
	// force: then calls in flight on it must be ended.
	Close func(ctx context.Context, conn C, reason Reason)
	// Check says whether a connection that is idle, or silent with calls in
	// flight, is well; ctx ends after CheckTimeout. An error that is [ErrGone]
	// is certain, of any other there have to be two in a row.
	Check func(ctx context.Context, conn C) error

	Min           int           // connections kept ready in a group in use
	Total         int           // most connections in all groups together; at least 1
	AccountTotal  int           // most connections of one account
	MaxOpening    int           // most connections being opened at once; at least 1
	MaxWaiting    int           // most callers waiting in all groups together
	WaitingEach   int           // most callers waiting for one principal
	MaxCalls      int           // a connection is replaced after so many calls
	OpenTimeout   time.Duration // longest opening; required
	IdleTimeout   time.Duration
	MaxAge        time.Duration
	CheckInterval time.Duration
	CheckTimeout  time.Duration // required with CheckInterval
	BreakAfter    time.Duration // failures to open for this long in a row open the breaker

	// Connections and Waiters bound those of several pools together. Each
	// connection takes one of each of Connections, each waiter one of Waiters.
	Connections []*Budget
	Waiters     *Budget
}

// Opened is a new connection and its room.
type Opened[C any] struct {
	Conn  C
	Slots int // calls at once; from 1 to 65,535, what is beyond is brought there
	// Sole says that the group needs no second connection: this one has all
	// the room there is.
	Sole bool
	// Done is closed when the connection has ended by itself; nil where that
	// cannot be seen.
	Done <-chan struct{}
}

// A Key names a group and says what it may become. Where keys with the same ID
// differ otherwise, the one that came last counts.
type Key[K comparable] struct {
	ID    K
	Max   int // most connections; at least 1
	Slots int // slots to expect on a connection that is not open yet; at least 1
	// Account is with whose credentials connections are opened: what one
	// account is refused says nothing about another, and caps hold for each.
	Account string
	// Owned says that a connection holds its owner's state: it is not
	// replaced at its age, and once it is lost the group is, too.
	Owned bool
	// Spare is the group whose connections an owned group may take over, as
	// nobody has used them; the zero K is none. As long as groups with that
	// Spare come and go, it keeps so many ready that there are Min with
	// theirs.
	Spare K
	// Edition is of the settings that the key comes from: one that is older
	// than the group's changes nothing.
	Edition int
}

// Reason says why a connection was closed.
type Reason string

const (
	Idle      Reason = "idle"
	Age       Reason = "age"
	Calls     Reason = "calls"
	Lost      Reason = "lost"
	Unhealthy Reason = "unhealthy"
	Evicted   Reason = "evicted"
	Surplus   Reason = "surplus"
	Reset     Reason = "reset"
	Ended     Reason = "session"
	Killed    Reason = "killed"
	Shutdown  Reason = "shutdown"
)

// Pool lends slots on connections. It must be made by New and ended by Close.
type Pool[K comparable, C any] struct {
	o     Options[K, C]
	clock clock
	stop  context.CancelCauseFunc // ends ctx: openings and closings by force
	ctx   context.Context
	work  sync.WaitGroup // every goroutine of the pool
	wake  chan struct{}  // the keeper has something to do sooner than it thought

	// recent is the group of the last lease: most pools have one group, and
	// looking it up would cost as much as the lease.
	recent atomic.Pointer[group[K, C]]
	// starved is how many groups could open nothing for want of room; worn is
	// Options.MaxCalls. Release looks at them.
	starved atomic.Int32
	worn    atomic.Int64
	stirred atomic.Bool                 // another pool has given room back, or may spare some
	waiters sync.Pool                   // of *waiter, used before
	budgets []*Budget                   // Options.Connections
	resize  atomic.Pointer[func(C) int] // what the last Change said of slots

	mu          sync.Mutex // guards all below; no I/O and no callback under it
	groups      map[K]*group[K, C]
	accounts    map[string]*account
	hungry      chain[*group[K, C]]      // those with waiters, the longest waiting first
	waiting     int                      // callers in all queues
	deadlines   deadlines[K, C]          // of those in the queues
	expiry      moment                   // when to look at them; 0 for never
	conns       map[*conn[K, C]]struct{} // every connection until it is closed
	total       int                      // connections that count: ready, opening, retired but for lost ones
	opening     int                      // of those, being opened
	openMost    int                      // most of them now: see openedLocked
	evicted     int                      // of those, on their way out to make room: idle ones
	evictedBusy int                      // and others
	short       bool                     // a budget has no room: other pools are to make some
	barren      bool                     // for a group that has no connection
	held        bool                     // an opening was put off until another one ends
	spent       bool                     // a group found neither room nor anything to make some
	generation  int                      // of openings: one begun before a Reset is not lent
	paused      bool
	failing     failing // openings, in all groups
	demand      demand  // how long openings and calls take
	next        moment  // when the keeper wakes; 0 for not at all
	closed      bool
	watchers    map[*watcher]struct{}
	stats       Stats
}

func (p *Pool[K, C]) now() moment { return p.clock.exact() }

// New makes a pool; nothing is opened.
func New[K comparable, C any](o Options[K, C]) *Pool[K, C] {
	p := &Pool[K, C]{
		o:        o,
		wake:     make(chan struct{}, 1),
		groups:   map[K]*group[K, C]{},
		accounts: map[string]*account{},
		conns:    map[*conn[K, C]]struct{}{},
		openMost: o.MaxOpening,
		demand:   demand{openPrior, servePrior},
		watchers: map[*watcher]struct{}{},
		stats:    Stats{Closed: map[Reason]uint64{}, Opens: map[Cause]uint64{}, OpenFailures: map[Cause]uint64{}, Failed: map[Failure]uint64{}},
	}
	p.budgets = o.Connections
	p.worn.Store(int64(o.MaxCalls))
	p.clock.init()
	p.ctx, p.stop = context.WithCancelCause(context.Background())
	p.work.Go(p.keep)
	p.work.Go(func() { p.clock.run(p.ctx.Done()) })
	for _, b := range o.Connections {
		b.join(p)
	}
	return p
}

// group is the connections of one key and those who wait for them.
type group[K comparable, C any] struct {
	pool *Pool[K, C]
	id   K

	// What taking a slot without the lock reads. gate counts the waiters, and
	// gatePaused while the pool is paused: a caller who finds it other than 0
	// takes nothing and queues.
	gate  atomic.Int64
	ready atomic.Pointer[[]*conn[K, C]] // that calls may go to; replaced, never changed
	hot   atomic.Pointer[conn[K, C]]    // of the last lease
	used  atomic.Int64                  // moment of the last sign of use that took the lock

	// Guarded by the pool's lock.
	key     Key[K]
	account *account
	spares  *group[K, C] // of Key.Spare; nil for none
	spare   bool         // it is that of others
	heirs   int          // of how many, now
	queue   queue[K, C]
	hungry  place[*group[K, C]]
	starved bool
	retired int // connections that left ready and still count
	opening map[*opening]struct{}
	sole    bool // a connection has all the room
	warm    bool // a connection was open once: Min applies
	failing failing
	later   moment // before which nothing may be opened: see LaterError
	pace    pace   // how fast callers come
	lost    moment // when an owned group lost its state: its next caller is told; 0 if it has not
}

const gatePaused = 1 << 32

// opening is a connection being opened, whoever it will serve.
type opening struct {
	cancel     context.CancelCauseFunc
	generation int
	cause      Cause
	unwanted   bool // broken off by us
}

// failing is a run of failures to open a connection.
type failing struct {
	times int
	since moment // the first of them; 0 if the last opening did not fail
	retry moment // no opening before this
	err   error  // of the last
}

// account is what groups with the same credentials have in common.
type account struct {
	name    string
	groups  int     // that there are of it
	conns   int     // that count
	opening int     // of them, being opened
	refused failing // openings that it is no use to try again soon
}

func (g *group[K, C]) conns() []*conn[K, C] {
	if list := g.ready.Load(); list != nil {
		return *list
	}
	return nil
}

func (g *group[K, C]) max() int {
	if g.sole {
		return 1
	}
	return g.key.Max
}

// count is the connections of the group that its server may see.
func (g *group[K, C]) count() int { return len(g.conns()) + len(g.opening) + g.retired }

// busy reports whether a call is in flight, or somebody waits to make one.
func (g *group[K, C]) busy() bool {
	for _, c := range g.conns() {
		if c.inFlight() > 0 {
			return true
		}
	}
	return g.queue.n > 0
}

// lastUse is when a slot was last lent or given back, or asked for.
func (g *group[K, C]) lastUse(now moment) moment {
	used := moment(g.used.Load())
	for _, c := range g.conns() {
		used = max(used, c.lastUse(now))
	}
	return used
}

// groupLocked returns the group of a key, making it if need be.
func (p *Pool[K, C]) groupLocked(key *Key[K]) *group[K, C] {
	g := p.recent.Load()
	if g != nil && g.id == key.ID {
		return g
	}
	if g = p.groups[key.ID]; g != nil {
		return g
	}
	g = &group[K, C]{pool: p, id: key.ID, key: *key, opening: map[*opening]struct{}{}}
	if p.paused {
		g.gate.Store(gatePaused)
	}
	if g.account = p.accounts[key.Account]; g.account == nil {
		g.account = &account{name: key.Account}
		p.accounts[key.Account] = g.account
	}
	g.account.groups++
	p.groups[key.ID] = g
	if none := *new(K); key.Spare != none {
		g.spares = p.groupLocked(&Key[K]{ID: key.Spare, Max: max(1, p.o.Min), Slots: key.Slots, Account: key.Account})
		g.spares.spare = true
		g.spares.heirs++
	}
	return g
}

// dropLocked takes a group out: nobody will find it any more.
func (p *Pool[K, C]) dropLocked(g *group[K, C]) {
	if p.groups[g.id] != g {
		return
	}
	delete(p.groups, g.id)
	p.recent.CompareAndSwap(g, nil)
	g.warm = false // a last call may still end on a lost connection of it
	p.disinheritLocked(g, p.now())
	g.account.groups--
	p.forgetAccountLocked(g.account, p.now())
}

// disinheritLocked says that a group needs its spares no more: the next shall
// find a connection ready.
func (p *Pool[K, C]) disinheritLocked(g *group[K, C], now moment) {
	if g.spares == nil {
		return
	}
	g.spares.heirs--
	g.spares.used.Store(int64(now))
	g.spares = nil
	p.wakeLocked(now)
}
