package pooltest

import (
	"context"
	"sync"
	"time"
)

// A Pool is what is proven. Groups and principals are small numbers.
type Pool interface {
	Acquire(ctx context.Context, ask Ask) (Lease, error)
	Reset()
	Drain(ctx context.Context) error
	Pause(ctx context.Context) error
	Resume()
	End(group int)
	Warm(group int)
	Change(a, b, c byte)
	Close(ctx context.Context) error

	Openings(how, delay byte) // of the servers from now on
	Checks(how byte)
	Heal() // has the servers be well and quick

	Links() *Links
	// Groups is how many groups there are, Who the principal that a caller of
	// one counts as.
	Groups() int
	Who(group, who int) int
	Group(group int) Group
	Counts() Counts
	// Free says whether a connection of the group has a free slot, and whether
	// one has no call in flight, that may be lent.
	Free(group int) (slot, whole bool)
	// Why says what an error of Acquire means.
	Why(err error) Why
	// Check returns an invariant that does not hold at rest and that only the
	// pool's inside shows.
	Check() error
}

// Ask is what a caller wants.
type Ask struct {
	Group, Who, Weight int
	Whole              bool
	Timeout            time.Duration
}

// Lease is what a caller gets.
type Lease interface {
	Link() *Link
	Release() bool // reports whether it had an effect
	Lost()
}

// Group is what a group is to be like.
type Group struct {
	Max   int
	Owned bool // its connection holds state, and it is told when that is gone
	Spare int  // whose connections it may take over, or the group itself
}

// Counts is what both the engine and the public pool count.
type Counts struct {
	Waiting, InFlight, Slots               int
	Ready, InUse, Idle, Opening, Retired   int
	Acquired, Released, Waited             uint64
	Failures                               uint64
	Opened, OpenFailures, Elided, Closed   uint64
	Begun, LateBinds, Checks, ChecksFailed uint64
	WaitTime                               time.Duration
	Total, MaxWaiting                      int // limits in force
}

// Why is why a caller got no slot.
type Why string

const (
	Cancelled Why = "cancelled" // by its context
	TimedOut  Why = "timed out"
	Full      Why = "too many wait"
	Down      Why = "nothing can be opened"
	StateLost Why = "state lost"
	Closed    Why = "closed"
)

// Link is the server's end of a connection.
type Link struct {
	Group int           // it was opened for; -1 if its server cannot tell
	Done  chan struct{} // closed when it ends by itself

	// Guarded by its Links.
	generation int // when its opening began
	limit      int // calls at once
	lost       bool
	closed     int
	ended      bool // Done is closed

	// The machine's own.
	held, most int
	whole      bool
	owner      int // group that it was lent to, -1 before
	told       int // how often that had been told of a loss then
}

// Links are all connections of a pool, as its servers see them.
type Links struct {
	mu         sync.Mutex // guards all below
	all        []*Link
	generation int
	wrong      []string
	last       time.Time // an opening began
	storm      int       // openings since, in no time
}

// Begin takes in that an opening begins. It panics where they do so without
// end while time stands.
func (l *Links) Begin() (generation int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Equal(l.last) {
		l.storm++
	} else {
		l.last, l.storm = now, 0
	}
	if l.storm > 10_000 {
		panic("I-NODEMAND-NODIAL: 10,000 openings at one moment")
	}
	return l.generation
}

// Opened takes in what came of it.
func (l *Links) Opened(group, generation, limit int) *Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	link := &Link{Group: group, generation: generation, limit: limit, owner: -1, Done: make(chan struct{})}
	l.all = append(l.all, link)
	return link
}

// Closed takes in that the pool has closed a connection: by force, if calls
// may be in flight on it, and as lost, if its server had gone before.
func (l *Links) Closed(link *Link, force, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if link.closed++; link.closed > 1 {
		l.wrong = append(l.wrong, "I-CLOSEONCE: a connection was closed twice")
	}
	if link.held > 0 && !force {
		l.wrong = append(l.wrong, "I-CLOSEONCE: a connection was closed under a call")
	}
	link.lost = link.lost || lost
}

// Resize takes in that a connection has another number of slots.
func (l *Links) Resize(link *Link, limit int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	link.limit = limit
}

// Room says whether a connection has a free slot, and whether it has no call
// in flight.
func (l *Links) Room(link *Link) (slot, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return link.held < link.limit && !link.whole, link.held == 0
}

// Resized takes in that all connections have another number of slots.
func (l *Links) Resized(limit int) {
	for _, link := range l.open() {
		l.Resize(link, limit)
	}
}

// open are the connections that are not closed.
func (l *Links) open() []*Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	var open []*Link
	for _, link := range l.all {
		if link.closed == 0 {
			open = append(open, link)
		}
	}
	return open
}
