// Package slots decides who may call on which connection, who waits, and when
// a connection is opened or closed. It knows neither MCP nor a network: a
// connection is a value that somebody else opens, checks and closes.
//
// Capacity has two dimensions, connections and the slots on each. A caller
// waits for a slot, never for a connection that is being opened on its
// account: the oldest waiter takes the first slot that comes free, be it on an
// old connection or a new one (late binding), and no newcomer overtakes it.
//
// All state is guarded by one mutex per pool. Opening, checking and closing
// happen outside it, in goroutines that Close waits for.
package slots

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
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
	// CheckTimeout.
	Check func(ctx context.Context, conn C) error
	// Done returns a channel that is closed when the connection has ended by
	// itself, or nil where that cannot be seen.
	Done func(conn C) <-chan struct{}
	// Permanent says of an error of Open that trying again does not help:
	// those who wait get it at once.
	Permanent func(error) bool

	Min           int           // connections kept ready in a group in use
	Total         int           // most connections in all groups together; at least 1
	OpenTimeout   time.Duration // longest opening; required
	IdleTimeout   time.Duration
	MaxAge        time.Duration
	CheckInterval time.Duration
	CheckTimeout  time.Duration // required with CheckInterval
}

// Opened is a new connection and its room.
type Opened[C any] struct {
	Conn  C
	Slots int // calls at once; at least 1
	// Sole says that the group needs no second connection: this one has all
	// the room there is.
	Sole bool
}

// A Key names a group and says what it may become. Keys with the same ID have
// the same other fields.
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
	Lost      Reason = "lost"
	Unhealthy Reason = "unhealthy"
	Evicted   Reason = "evicted"
	Surplus   Reason = "surplus"
	Ended     Reason = "session"
	Shutdown  Reason = "shutdown"
)

var (
	// ErrClosed: the pool is closed.
	ErrClosed = errors.New("pool is closed")
	// ErrLost: the group's connection is gone and its owner's state with it.
	// It is returned once per loss.
	ErrLost = errors.New("the connection that held the state is gone")
)

// errUnwanted is why the opening of a connection is broken off when another
// has all the room.
var errUnwanted = errors.New("connection no longer wanted")

// A TimeoutError is a wait that took its whole timeout. It says how the pool
// stood then.
type TimeoutError struct {
	After       time.Duration
	Connections int // open in the group
	Max         int
	Opening     int
	Slots       int
	InFlight    int
	Waiting     int   // besides this one
	Cause       error // the last failure to open a connection, if the last try failed
}

func (e *TimeoutError) Error() string {
	s := fmt.Sprintf("waited %v (connections %d of %d, opening %d, calls in flight %d of %d, waiting %d)",
		e.After, e.Connections, e.Max, e.Opening, e.InFlight, e.Slots, e.Waiting)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *TimeoutError) Unwrap() error { return e.Cause }

// An OpenError is a failure to open a connection that waiting does not cure.
type OpenError struct{ Err error }

func (e *OpenError) Error() string { return e.Err.Error() }
func (e *OpenError) Unwrap() error { return e.Err }

// Pool lends slots on connections. It must be made by New and ended by Close.
type Pool[K comparable, C any] struct {
	o    Options[K, C]
	stop context.CancelCauseFunc // ends ctx: openings and closings by force
	ctx  context.Context
	work sync.WaitGroup // every goroutine of the pool
	wake chan struct{}  // the next deadline of the keeper came nearer

	mu      sync.Mutex // guards all below; no I/O and no callback under it
	groups  map[K]*group[K, C]
	hungry  list.List                // of *group[K, C] with waiters, the longest waiting first
	conns   map[*conn[K, C]]struct{} // every connection until it is closed
	total   int                      // connections that count: ready, opening, retired but for lost ones
	evicted int                      // of those, on their way out to make room
	touches uint64                   // uses of connections so far
	next    time.Time                // when the keeper wakes; zero for not at all
	closed  bool
	drained chan struct{} // closed when closed and every connection is, too
	stats   Stats
}

// New makes a pool; nothing is opened.
func New[K comparable, C any](o Options[K, C]) *Pool[K, C] {
	p := &Pool[K, C]{
		o:       o,
		wake:    make(chan struct{}, 1),
		groups:  map[K]*group[K, C]{},
		conns:   map[*conn[K, C]]struct{}{},
		drained: make(chan struct{}),
		stats:   Stats{Closed: map[Reason]uint64{}},
	}
	p.ctx, p.stop = context.WithCancelCause(context.Background())
	p.work.Go(p.keep)
	return p
}

// group is the connections of one key and those who wait for them.
type group[K comparable, C any] struct {
	key     Key[K]
	ready   []*conn[K, C] // that calls may go to
	retired int           // left ready, still counted
	opening map[*opening]struct{}
	sole    bool      // a connection has all the room
	warm    bool      // a connection was open once: Min applies
	used    time.Time // last time a slot was lent or given back

	waiters list.List // of *waiter[K, C], oldest first
	wholes  int       // of them, those that want a whole connection
	hungry  *list.Element

	failures int       // openings that failed in a row
	retryAt  time.Time // no opening before this
	lastErr  error     // of the last opening, if it failed

	lost time.Time // when an owned group lost its state: its next caller is told
}

// opening is a connection being opened, whoever it will serve.
type opening struct {
	cancel   context.CancelCauseFunc
	replaces bool // it is to replace a connection at its age
	unwanted bool
}

// conn is a connection in the pool.
type conn[K comparable, C any] struct {
	group    *group[K, C]
	value    C
	slots    []slot
	inFlight int
	whole    bool          // lent as a whole
	retired  Reason        // why it left ready; "" while it is there
	closing  chan struct{} // closed when the connection is being closed
	closed   bool          // closing is closed
	opened   time.Time
	used     time.Time // last time a slot was lent or given back
	order    uint64    // of last use, since the clock may stand still
	expires  time.Time // age; zero for never
	checked  time.Time
	checking bool
}

// slot is room for one call. turn tells the leases of one slot apart, so that
// giving back twice is seen without keeping anything per lease.
type slot struct {
	turn uint32
	busy bool
}

// waiter is a caller that found no slot.
type waiter[K comparable, C any] struct {
	whole bool
	since time.Time
	ready chan struct{} // closed when lease or err is set
	lease Lease[K, C]
	err   error
}

func (g *group[K, C]) max() int {
	if g.sole {
		return 1
	}
	return g.key.Max
}

// count is the connections of the group that its server may see.
func (g *group[K, C]) count() int { return len(g.ready) + len(g.opening) + g.retired }

func (g *group[K, C]) busy() bool {
	for _, c := range g.ready {
		if c.inFlight > 0 {
			return true
		}
	}
	return g.waiters.Len() > 0
}

// groupLocked returns the group of a key, making it if need be.
func (p *Pool[K, C]) groupLocked(key Key[K]) *group[K, C] {
	g := p.groups[key.ID]
	if g == nil {
		g = &group[K, C]{key: key, opening: map[*opening]struct{}{}}
		p.groups[key.ID] = g
	}
	return g
}

// jitter shortens d by a random part of at most a tenth, so that what was
// made together does not end together and never outlives a server's own limit.
func jitter(d time.Duration) time.Duration {
	return d - rand.N(d/10+1)
}
