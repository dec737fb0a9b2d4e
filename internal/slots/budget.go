package slots

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Budget is how many connections, or waiters, several pools may have
// together. A nil Budget is no bound.
//
// Its lock is taken under those of pools, and never the other way round.
type Budget struct {
	most  int
	wants atomic.Int32 // how many pools are hungry, for Release

	relief sync.Mutex // held while room is made: one pool at a time asks the others

	mu          sync.Mutex // guards all below
	used        int
	leaving     int      // of used, on their way out to make room: idle ones
	leavingBusy int      // and others
	pools       []member // that take part
	hungry      []member // that found no room, the longest waiting first
}

// NewBudget returns a budget of at most most; at least 1.
func NewBudget(most int) *Budget { return &Budget{most: most} }

// member is a [Pool] of any kind.
type member interface {
	// victim says which connection the pool has to give up for another pool,
	// where callers wait who have none if barren; ok is false if there is none.
	// later is when there may be one if not, 0 for who knows.
	victim(barren bool) (r rank, ok bool, later time.Duration)
	// sacrifice retires that connection, to make room in b.
	sacrifice(b *Budget, barren bool) bool
	// stir has the pool look for room again.
	stir()
}

// rank says which connection goes first to make room: an idle one before one
// in use, and of those the least recently used; one in use of the group that
// has the most.
type rank struct {
	busy  bool
	since int64 // nanoseconds since 1970 that it is idle
	peers int   // in its group
}

func (r rank) before(other rank) bool {
	switch {
	case r.busy != other.busy:
		return other.busy
	case r.busy:
		return r.peers > other.peers
	}
	return r.since < other.since
}

func (b *Budget) join(m member) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pools = append(b.pools, m)
}

func (b *Budget) quit(m member) {
	if b == nil {
		return
	}
	b.calm(m)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pools = without(b.pools, m)
}

func without(list []member, m member) []member {
	return slices.DeleteFunc(list, func(other member) bool { return other == m })
}

// take takes one, if there is one that no other pool has waited for longer. If
// not, and it is wanted badly, m is told when there may be.
func (b *Budget) take(m member, badly bool) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ahead := slices.Index(b.hungry, m)
	queued := ahead >= 0
	if !queued {
		ahead = len(b.hungry)
	}
	if b.used+ahead >= b.most {
		if badly && !queued {
			b.hungryLocked(append(b.hungry, m))
		}
		return false
	}
	b.used++
	b.hungryLocked(without(b.hungry, m))
	return true
}

// give gives one back. evicted tells that it was retired to make room here, and
// busy that it was in use then.
func (b *Budget) give(evicted, busy bool) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used--
	switch {
	case !evicted:
	case busy:
		b.leavingBusy--
	default:
		b.leaving--
	}
	b.stirLocked()
}

// calm says that m no longer waits for room.
func (b *Budget) calm(m member) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.hungry); n > 0 {
		if b.hungryLocked(without(b.hungry, m)); len(b.hungry) < n {
			b.stirLocked()
		}
	}
}

func (b *Budget) hungryLocked(list []member) {
	b.hungry = list
	b.wants.Store(int32(len(list)))
}

// offer says that a connection of a pool may be spared now.
func (b *Budget) offer() {
	if b == nil || b.wants.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stirLocked()
}

func (b *Budget) stirLocked() {
	for _, m := range b.hungry {
		m.stir()
	}
}

// relieve has a connection of one of the pools make room, unless as many are
// on their way out as pools wait; one in use may stay for long, so it does not
// keep an idle one from going. Where there is none to be spared it returns when
// there may be one, 0 for who knows. It must not be called under a pool's lock.
func (b *Budget) relieve(barren bool) (later time.Duration) {
	if b == nil {
		return 0
	}
	b.relief.Lock()
	defer b.relief.Unlock()
	b.mu.Lock()
	needed := b.used >= b.most && b.leaving < len(b.hungry)
	barren = barren && b.leaving+b.leavingBusy < len(b.hungry)
	pools := slices.Clone(b.pools)
	b.mu.Unlock()
	if !needed {
		return 0
	}
	var worst member
	var first rank
	for _, m := range pools {
		r, ok, in := m.victim(barren)
		if in > 0 && (later == 0 || in < later) {
			later = in
		}
		if ok && (worst == nil || r.before(first)) {
			worst, first = m, r
		}
	}
	if worst != nil && worst.sacrifice(b, barren) {
		return 0
	}
	return later
}

// leave counts a connection that is on its way out to make room.
func (b *Budget) leave(busy bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if busy {
		b.leavingBusy++
	} else {
		b.leaving++
	}
}
