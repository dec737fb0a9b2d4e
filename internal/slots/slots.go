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
	"container/list"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Options is how a pool behaves; every func is required unless it says
// otherwise, every time may be 0 for never unless it says otherwise.
type Options[K comparable, C any] struct {
	// Open opens a connection for the group of that id. ctx ends after
	// OpenTimeout, when the connection is no longer wanted, and when the pool
	// closes by force.
	Open func(ctx context.Context, id K) (Opened[C], error)
	// Close closes a connection, once. ctx has ended if the pool closes by
	// force: then calls in flight on it must be ended.
	Close func(ctx context.Context, conn C, reason Reason)
	// Check says whether an idle connection is well; ctx ends after
	// CheckTimeout. An error that is [ErrGone] is certain, of any other there
	// have to be two in a row.
	Check func(ctx context.Context, conn C) error
	// Done returns a channel that is closed when the connection has ended by
	// itself, or nil where that cannot be seen.
	Done func(conn C) <-chan struct{}
	// Permanent says of an error of Open that trying again does not help
	// soon: those who wait get it at once, and so do those who come before
	// the next try.
	Permanent func(error) bool

	Min           int           // connections kept ready in a group in use
	Total         int           // most connections in all groups together; at least 1
	MaxWaiting    int           // most callers waiting in all groups together; 0 for no bound
	MaxCalls      uint64        // a connection is replaced after so many calls; 0 for never
	OpenTimeout   time.Duration // longest opening; required
	IdleTimeout   time.Duration
	MaxAge        time.Duration
	CheckInterval time.Duration
	CheckTimeout  time.Duration // required with CheckInterval
	BreakAfter    time.Duration // failures to open for this long in a row open the breaker
}

// Opened is a new connection and its room.
type Opened[C any] struct {
	Conn  C
	Slots int // calls at once; at least 1
	// Sole says that the group needs no second connection: this one has all
	// the room there is.
	Sole bool
}

// A Key names a group and says what it may become. Where keys with the same ID
// differ otherwise, the one that came last counts.
type Key[K comparable] struct {
	ID    K
	Max   int // most connections; at least 1
	Slots int // slots to expect on a connection that is not open yet; at least 1
	// Owned says that a connection holds its owner's state: it is not
	// replaced at its age, and once it is lost the group is, too.
	Owned bool
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
	Shutdown  Reason = "shutdown"
)

var (
	// ErrClosed: the pool is closed.
	ErrClosed = errors.New("pool is closed")
	// ErrLost: the group's connection is gone and its owner's state with it.
	// It is returned once per loss.
	ErrLost = errors.New("the connection that held the state is gone")
	// ErrGone: a check found that the connection certainly has ended.
	ErrGone = errors.New("the connection has ended")
	// ErrQueueFull: MaxWaiting callers wait already.
	ErrQueueFull = errors.New("too many callers are waiting")
)

// errUnwanted is why the opening of a connection is broken off when another
// has all the room.
var errUnwanted = errors.New("connection no longer wanted")

// Pool lends slots on connections. It must be made by New and ended by Close.
type Pool[K comparable, C any] struct {
	o    Options[K, C]
	base time.Time               // moments count from here
	stop context.CancelCauseFunc // ends ctx: openings and closings by force
	ctx  context.Context
	work sync.WaitGroup // every goroutine of the pool
	wake chan struct{}  // the next deadline of the keeper came nearer

	// recent is the group of the last lease: most pools have one group, and
	// looking it up would cost as much as the lease.
	recent atomic.Pointer[group[K, C]]
	// starved is how many groups could open nothing because of Total.
	starved atomic.Int32

	mu         sync.Mutex // guards all below; no I/O and no callback under it
	groups     map[K]*group[K, C]
	hungry     list.List                // of *group[K, C] with waiters, the longest waiting first
	waiting    int                      // callers in all queues
	conns      map[*conn[K, C]]struct{} // every connection until it is closed
	total      int                      // connections that count: ready, opening, retired but for lost ones
	evicted    int                      // of those, on their way out to make room
	generation int                      // of openings: one begun before a Reset is not lent
	paused     bool
	failing    failing // openings, in all groups
	demand     demand  // how long openings and calls take
	next       moment  // when the keeper wakes; 0 for not at all
	closed     bool
	watchers   map[*watcher]struct{}
	stats      Stats
}

// moment is a time, counted from the making of the pool.
type moment = time.Duration

func (p *Pool[K, C]) now() moment { return time.Since(p.base) }

// New makes a pool; nothing is opened.
func New[K comparable, C any](o Options[K, C]) *Pool[K, C] {
	p := &Pool[K, C]{
		o:        o,
		base:     time.Now().Add(-1), // so that no moment is 0
		wake:     make(chan struct{}, 1),
		groups:   map[K]*group[K, C]{},
		conns:    map[*conn[K, C]]struct{}{},
		demand:   demand{openPrior, servePrior},
		watchers: map[*watcher]struct{}{},
		stats:    Stats{Closed: map[Reason]uint64{}, Opens: map[Cause]uint64{}},
	}
	p.ctx, p.stop = context.WithCancelCause(context.Background())
	p.work.Go(p.keep)
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
	queue   queue[K, C]
	hungry  *list.Element
	starved bool
	retired int // connections that left ready and still count
	opening map[*opening]struct{}
	sole    bool // a connection has all the room
	warm    bool // a connection was open once: Min applies
	failing failing
	pace    pace   // how fast callers come
	lost    moment // when an owned group lost its state: its next caller is told; 0 if it has not
}

const gatePaused = 1 << 32

// opening is a connection being opened, whoever it will serve.
type opening struct {
	cancel     context.CancelCauseFunc
	generation int
	replaces   bool // it is to replace a connection at its age
	unwanted   bool
}

// failing is a run of failures to open a connection.
type failing struct {
	times int
	since moment // the first of them; 0 if the last opening did not fail
	retry moment // no opening before this
	err   error  // of the last
	// permanent: waiting does not cure it, so nobody is kept waiting before
	// the next try.
	permanent bool
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
func (g *group[K, C]) lastUse() moment {
	used := moment(g.used.Load())
	for _, c := range g.conns() {
		used = max(used, c.lastUse())
	}
	return used
}

// groupLocked returns the group of a key, making it if need be.
func (p *Pool[K, C]) groupLocked(key Key[K]) *group[K, C] {
	g := p.groups[key.ID]
	if g == nil {
		g = &group[K, C]{pool: p, id: key.ID, key: key, opening: map[*opening]struct{}{}}
		if p.paused {
			g.gate.Store(gatePaused)
		}
		p.groups[key.ID] = g
	}
	return g
}
