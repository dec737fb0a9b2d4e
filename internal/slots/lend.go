package slots

import (
	"slices"
	"sync/atomic"
	"time"
)

// Taking a free slot and giving it back is a compare-and-swap or two, and no
// lock.
//
// A connection's state is one word: how many calls are in flight, whether it
// may have more, and the first of its free slots, each of which names the next.
// So one swap finds that there is room, takes it, and says which slot it is.
// Every swap changes the word's tag, so that none succeeds that was prepared
// before another one (the ABA problem of such lists: R. K. Treiber, "Systems
// Programming: Coping with Parallelism", 1986). A retired connection lends
// nothing, because that is a bit of the same word.
//
// Nobody is left waiting (Dekker's order): a waiter shows itself in the gate
// and then looks for room; who gives a slot back makes room and then looks at
// the gate. One of the two sees the other.

// conn is a connection in the pool.
type conn[K comparable, C any] struct {
	value C
	// words are the state, see above and the constants below, and after it
	// those of the slots. They begin a cache line, and the slots that are used
	// most come first: so a lease moves one line between processors, and
	// nothing else that is written often is on it.
	words []atomic.Uint64
	more  atomic.Pointer[[][]atomic.Uint64] // of slots that came later
	limit atomic.Uint64                     // calls in flight at once
	used  atomic.Int64                      // moment a slot was last given back
	had   atomic.Uint64                     // how often that was, counted under Options.MaxCalls

	opened moment
	done   <-chan struct{} // see Opened.Done
	group  *group[K, C]    // changes once at most, before the first call: a spare is taken over

	// Guarded by the pool's lock.
	slots       int           // that there are
	expires     moment        // age; 0 for never
	reason      Reason        // why it left ready; "" while it is there
	left        moment        // when that was
	closing     chan struct{} // closed when the connection is being closed
	closed      bool          // closing is closed
	evictedBusy bool          // it was in use when it was retired to make room
	sacrificed  *Budget       // for another pool, where that is
	checked     moment        // last time it was looked at whether to check it
	checking    bool
	strikes     int    // checks in a row that failed
	silent      bool   // at that time it was busy
	back        uint64 // and so many leases had been given back
	lent, backs uint64 // the most leases that were counted
}

// A slot is room for one call, and has a number from 1. The upper bits of its
// word are its turn, which is how often it was given back; the lower ones the
// number of the free slot after it, while it is free itself.
const (
	// maxSlots is how many slots a connection can have: their numbers have to
	// fit.
	maxSlots = 1<<16 - 1
	turnOne  = maxSlots + 1
)

// The parts of a connection's state, from above.
const (
	retiredBit = 1 << 63 // nothing is lent on it any more
	wholeBit   = 1 << 62 // lent as a whole
	countOne   = 1 << 46 // calls in flight
	countMask  = 1<<62 - countOne
	firstOne   = 1 << 30 // the first free slot, 0 for none
	firstMask  = countOne - firstOne
	tagMask    = firstOne - 1
)

// cacheLine is how many words move between processors together, where that is
// known; elsewhere it costs a little memory.
const cacheLine = 8

func count(state uint64) uint64 { return state & countMask / countOne }
func first(state uint64) uint64 { return state & firstMask / firstOne }

// advance is state with another count and another first free slot.
func advance(state, count, first uint64) uint64 {
	return state&^(countMask|firstMask|tagMask) | count*countOne | first*firstOne | (state+1)&tagMask
}

func newConn[K comparable, C any](g *group[K, C], opened Opened[C], now moment) *conn[K, C] {
	c := &conn[K, C]{
		group: g, value: opened.Conn, done: opened.Done,
		closing: make(chan struct{}), opened: now, checked: now,
	}
	lines := (min(max(1, opened.Slots), maxSlots) + cacheLine) / cacheLine // one word more for the state
	c.words = make([]atomic.Uint64, lines*cacheLine)
	c.used.Store(int64(now))
	c.setLimitLocked(opened.Slots)
	return c
}

func (c *conn[K, C]) state() *atomic.Uint64 { return &c.words[0] }

// setLimitLocked changes how many calls may be in flight. Those that are
// beyond it finish.
func (c *conn[K, C]) setLimitLocked(n int) {
	n = min(max(1, n), maxSlots)
	room := len(c.words) - 1
	var more [][]atomic.Uint64
	if old := c.more.Load(); old != nil {
		more = slices.Clone(*old)
	}
	for _, chunk := range more {
		room += len(chunk)
	}
	if n > room { // those that are lent stay where they are
		more = append(more, make([]atomic.Uint64, n-room))
		c.more.Store(&more)
	}
	for number := n; number > c.slots; number-- { // the lowest comes first
		c.free(uint64(number), 0, 0)
	}
	c.slots = max(c.slots, n)
	c.limit.Store(uint64(n))
}

// word returns the word of a slot.
func (c *conn[K, C]) word(number uint64) *atomic.Uint64 {
	if number < uint64(len(c.words)) {
		return &c.words[number]
	}
	number -= uint64(len(c.words))
	for _, chunk := range *c.more.Load() {
		if number < uint64(len(chunk)) {
			return &chunk[number]
		}
		number -= uint64(len(chunk))
	}
	panic("BUG: no such slot")
}

func (c *conn[K, C]) inFlight() int { return int(count(c.state().Load())) }
func (c *conn[K, C]) whole() bool   { return c.state().Load()&wholeBit != 0 }
func (c *conn[K, C]) room() int     { return int(c.limit.Load()) }

// lastUse is now for a connection with a call in flight, and otherwise when
// the last one ended.
func (c *conn[K, C]) lastUse(now moment) moment {
	if c.inFlight() > 0 {
		return now
	}
	return moment(c.used.Load())
}

// callsLocked is how many leases of the connection were given, and of them
// given back. One that is given back just now may be in neither, but what was
// counted before is.
func (c *conn[K, C]) callsLocked() (lent, back uint64) {
	for number := 1; number <= c.slots; number++ {
		back += c.word(uint64(number)).Load() / turnOne
	}
	c.lent, c.backs = max(c.lent, back+uint64(c.inFlight())), max(c.backs, back)
	return c.lent, c.backs
}

// lend takes a slot if fewer calls are in flight than there are slots, or than
// half of them.
func (c *conn[K, C]) lend(half bool) (Lease[K, C], bool) {
	for {
		s := c.state().Load()
		limit := c.limit.Load() // after the state, or a limit that has fallen would still be used
		if half {
			limit = (limit + 1) / 2
		}
		if s >= limit*countOne { // the bits are above any limit
			return Lease[K, C]{}, false
		}
		number := first(s)
		word := c.word(number).Load()
		if c.state().CompareAndSwap(s, advance(s, count(s)+1, word%turnOne)) {
			return Lease[K, C]{conn: c, turn: word&^maxSlots | number}, true
		}
	}
}

// lendWhole takes the connection if no call is in flight.
func (c *conn[K, C]) lendWhole() (Lease[K, C], bool) {
	for {
		s := c.state().Load()
		if s >= countOne {
			return Lease[K, C]{}, false
		}
		number := first(s)
		word := c.word(number).Load()
		if c.state().CompareAndSwap(s, advance(s, 1, word%turnOne)|wholeBit) {
			return Lease[K, C]{conn: c, turn: word&^maxSlots | number}, true
		}
	}
}

// free puts a slot, which is the caller's alone and has its next turn, in front
// of those that are free, ends ended calls, and returns the state after it. A connection that is
// lent whole has one call in flight: that of whoever ends it.
func (c *conn[K, C]) free(number, turn, ended uint64) uint64 {
	for {
		s := c.state().Load()
		c.word(number).Store(turn*turnOne | first(s))
		n := advance(s, count(s)-ended, number)
		if ended > 0 {
			n &^= wholeBit
		}
		if c.state().CompareAndSwap(s, n) {
			return n
		}
	}
}

// take lends a slot if there is one: on the connection used last up to half
// its slots, so that connections which are not needed fall idle; then on the
// fullest below half, for the same reason; then on the one with most room.
func (g *group[K, C]) take() (Lease[K, C], bool) {
	if c := g.hot.Load(); c != nil {
		if l, ok := c.lend(true); ok {
			return l, true
		}
	}
	for {
		best := g.pick()
		if best == nil {
			return Lease[K, C]{}, false
		}
		if l, ok := best.lend(false); ok {
			if g.hot.Load() != best {
				g.hot.Store(best)
			}
			return l, true
		}
	}
}

func (g *group[K, C]) pick() *conn[K, C] {
	var packed, roomy *conn[K, C]
	var packedN, roomyN, packedUsed = -1, 0, int64(0)
	for _, c := range g.conns() {
		s, limit := c.state().Load(), c.limit.Load()
		if s >= limit*countOne {
			continue
		}
		n := int(count(s))
		if n < int(limit+1)/2 {
			if used := c.used.Load(); n > packedN || n == packedN && used > packedUsed {
				packed, packedN, packedUsed = c, n, used
			}
		} else if free := int(limit) - n; free > roomyN {
			roomy, roomyN = c, free
		}
	}
	if packed != nil {
		return packed
	}
	return roomy
}

// takeWhole lends a connection that has no call in flight, if there is one.
func (g *group[K, C]) takeWhole() (Lease[K, C], bool) {
	for _, c := range g.conns() {
		if l, ok := c.lendWhole(); ok {
			return l, true
		}
	}
	return Lease[K, C]{}, false
}

// A Lease is the right to make one call on a connection, or to have it whole.
// It is a value; copies are the same lease, which the turn of its slot tells
// from those before and after it. Leases can be compared.
type Lease[K comparable, C any] struct { // no more than fits registers
	conn   *conn[K, C]
	turn   uint64 // of the slot, as in its word, and the slot's number
	waited time.Duration
	since  moment // when it was lent, by the clock that ticks; exactly, and negative, if it was waited for
}

// Conn returns the connection.
func (l Lease[K, C]) Conn() C { return l.conn.value }

// Waited returns how long the lease was waited for.
func (l Lease[K, C]) Waited() time.Duration { return l.waited }

// Lasted returns how long ago the lease was given: exactly if it was waited for,
// and else by the clock that ticks, which is 0 for most that are short, and right
// on the average.
func (l Lease[K, C]) Lasted() time.Duration {
	clock := &l.conn.group.pool.clock
	if l.since < 0 {
		return clock.exact() + l.since
	}
	return max(0, clock.now()-l.since)
}

// Turn is how often the slot had been given back before this lease.
func (l Lease[K, C]) Turn() uint64 { return l.turn / turnOne }

// Held reports whether the lease was not given back yet.
func (l Lease[K, C]) Held() bool { return l.conn.word(l.turn%turnOne).Load()/turnOne == l.Turn() }

// Release gives the lease back. Only the first call of all on its copies has
// an effect; it reports whether it was that one.
func (l Lease[K, C]) Release() bool {
	c, number, next := l.conn, l.turn%turnOne, l.Turn()+1
	slot := c.word(number)
	word := slot.Load()
	s := c.state().Load()
	if word/turnOne != l.Turn() || !slot.CompareAndSwap(word, next*turnOne|first(s)) {
		return false
	}
	g := c.group
	p := g.pool
	if now := int64(p.clock.now()); c.used.Load() != now {
		c.used.Store(now)
	}
	// The slot names the next free one already, if that is still the same.
	if n := advance(s&^wholeBit, count(s)-1, number); c.state().CompareAndSwap(s, n) {
		s = n
	} else {
		s = c.free(number, next, 1)
	}
	idle, worn := count(s) == 0, uint64(p.worn.Load())
	if g.gate.Load() != 0 || idle && (s >= retiredBit || p.famine()) || worn > 0 && c.had.Add(1)+count(s) >= worn {
		p.released(c, l.since)
	}
	return true
}
