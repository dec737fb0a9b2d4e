package mcpool

import "sync/atomic"

// retryShare is the part of calls that may be sent again although they may
// have run: a fifth. A server in trouble would otherwise get its load doubled
// just then. (The share is that of gRPC's retry throttling and of Finagle's
// budgets.)
const retryShare = 5

// budget is how many such calls there may be: each call adds a fifth of one,
// up to as many as can be in flight at once, so that losing every connection
// at once is covered, and that is what there is at the start.
type budget struct {
	fifths         atomic.Int64
	most           int64
	spent, refused atomic.Uint64 // times that a call might be sent again, and might not
}

func newBudget(calls int) *budget {
	b := &budget{most: int64(max(3, calls)) * retryShare}
	b.fifths.Store(b.most)
	return b
}

// earn takes in a call.
func (b *budget) earn() {
	if b.fifths.Load() < b.most {
		b.fifths.Add(1)
	}
}

// spend reports whether a call may be sent again, and counts it.
func (b *budget) spend() bool {
	for {
		have := b.fifths.Load()
		if have < retryShare {
			b.refused.Add(1)
			return false
		}
		if b.fifths.CompareAndSwap(have, have-retryShare) {
			b.spent.Add(1)
			return true
		}
	}
}
