package slots

import (
	"sync/atomic"
	"time"
)

// Taking a free slot and giving it back touch four words and no lock.
//
// A connection's state counts its calls in flight and says whether it may have
// more. A caller first reserves room by a compare-and-swap on state, and only
// then looks for the slot, which there must be: a slot is freed before the
// room is. A retired connection can no longer be reserved, because that is a
// bit of the same word.
//
// Nobody is left waiting (Dekker's order): a waiter shows itself in the gate
// and then looks for room; who gives a slot back makes room and then looks at
// the gate. One of the two sees the other.

// conn is a connection in the pool.
type conn[K comparable, C any] struct {
	group *group[K, C]
	value C

	state atomic.Uint64   // calls in flight, and the bits below
	slots []atomic.Uint64 // turns: odd while lent; see Lease
	used  atomic.Int64    // moment a slot was last given back

	opened  moment
	expires moment // age; 0 for never

	// Guarded by the pool's lock.
	reason   Reason        // why it left ready; "" while it is there
	closing  chan struct{} // closed when the connection is being closed
	closed   bool          // closing is closed
	checked  moment        // last sign of life that was asked for
	checking bool
	strikes  int // checks in a row that failed
}

const (
	retiredBit = 1 << 63 // nothing is lent on it any more
	wholeBit   = 1 << 62 // lent as a whole
	countMask  = wholeBit - 1
)

func (c *conn[K, C]) inFlight() int { return int(c.state.Load() & countMask) }

// half is how many calls are packed onto a connection before others are used.
func (c *conn[K, C]) half() int { return (len(c.slots) + 1) / 2 }

// lastUse is now for a connection with a call in flight, and otherwise when
// the last one ended.
func (c *conn[K, C]) lastUse() moment {
	if c.inFlight() > 0 {
		return c.group.pool.now()
	}
	return moment(c.used.Load())
}

// calls is how many leases of the connection were given, and of them given
// back.
func (c *conn[K, C]) calls() (lent, back uint64) {
	for i := range c.slots {
		turn := c.slots[i].Load()
		lent += (turn + 1) / 2
		back += turn / 2
	}
	return lent, back
}

// reserve makes room for one call if less than limit are in flight.
func (c *conn[K, C]) reserve(limit int) bool {
	for {
		s := c.state.Load()
		if s >= uint64(limit) { // the bits are above any limit
			return false
		}
		if c.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// lend takes one of the slots that reserve made sure of.
func (c *conn[K, C]) lend() Lease[K, C] {
	for {
		for i := range c.slots {
			s := &c.slots[i]
			if turn := s.Load(); turn&1 == 0 && s.CompareAndSwap(turn, turn+1) {
				return Lease[K, C]{conn: c, slot: int32(i), turn: turn + 1}
			}
		}
	}
}

// take lends a slot if there is one: on the connection used last up to half
// its slots, so that connections which are not needed fall idle; then on the
// fullest below half, for the same reason; then on the one with most room.
func (g *group[K, C]) take() (Lease[K, C], bool) {
	if c := g.hot.Load(); c != nil && c.reserve(c.half()) {
		return c.lend(), true
	}
	for {
		best := g.pick()
		if best == nil {
			return Lease[K, C]{}, false
		}
		if best.reserve(len(best.slots)) {
			g.hot.Store(best)
			return best.lend(), true
		}
	}
}

func (g *group[K, C]) pick() *conn[K, C] {
	var packed, roomy *conn[K, C]
	var packedN, roomyN, packedUsed = -1, 0, int64(0)
	for _, c := range g.conns() {
		s := c.state.Load()
		if s >= uint64(len(c.slots)) {
			continue
		}
		n := int(s)
		if n < c.half() {
			if used := c.used.Load(); n > packedN || n == packedN && used > packedUsed {
				packed, packedN, packedUsed = c, n, used
			}
		} else if free := len(c.slots) - n; free > roomyN {
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
		if c.state.CompareAndSwap(0, wholeBit|1) {
			l := c.lend()
			l.whole = true
			return l, true
		}
	}
	return Lease[K, C]{}, false
}

// A Lease is the right to make one call on a connection, or to have it whole.
// It is a value; copies are the same lease, which the turn of its slot tells
// from those before and after it.
type Lease[K comparable, C any] struct {
	conn   *conn[K, C]
	slot   int32
	turn   uint64
	whole  bool
	waited time.Duration
	since  moment // when it was lent, if it was waited for
}

// Conn returns the connection.
func (l Lease[K, C]) Conn() C { return l.conn.value }

// Waited returns how long the lease was waited for.
func (l Lease[K, C]) Waited() time.Duration { return l.waited }

// Held reports whether the lease was not given back yet.
func (l Lease[K, C]) Held() bool { return l.conn.slots[l.slot].Load() == l.turn }

// Release gives the lease back. Only the first call of all on its copies has
// an effect; it reports whether it was that one.
func (l Lease[K, C]) Release() bool {
	c := l.conn
	if !c.slots[l.slot].CompareAndSwap(l.turn, l.turn+1) {
		return false
	}
	g := c.group
	p := g.pool
	now := p.now()
	c.used.Store(int64(now))
	less := uint64(1)
	if l.whole {
		less |= wholeBit
	}
	s := c.state.Add(-less)
	if s == retiredBit || g.gate.Load() != 0 || s == 0 && p.starved.Load() > 0 || p.o.MaxCalls > 0 {
		p.released(l, now)
	}
	return true
}
