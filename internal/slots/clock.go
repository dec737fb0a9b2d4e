package slots

import (
	"sync/atomic"
	"time"
)

// moment is a time, counted from the making of the pool.
type moment = time.Duration

// tick is how coarse the clock is that each call looks at. Idle times are a
// thousand times as long.
const tick = 10 * time.Millisecond

// clock tells the time twice: exactly, and, for what happens with each call,
// as it was at the last tick. Reading the exact time would be the larger part
// of lending a slot. It ticks only while somebody looks.
type clock struct {
	base   time.Time
	coarse atomic.Int64 // moment of the last tick; 0 while it does not tick
	seen   atomic.Bool  // somebody has looked since
	wake   chan struct{}
}

func (c *clock) init() {
	c.base = time.Now().Add(-1) // so that no moment is 0
	c.wake = make(chan struct{}, 1)
}

func (c *clock) exact() moment { return time.Since(c.base) }

// now is at most a tick behind, or as much more as the machine is overloaded.
func (c *clock) now() moment {
	m := c.coarse.Load()
	if m == 0 {
		return c.start()
	}
	if !c.seen.Load() {
		c.seen.Store(true)
	}
	return moment(m)
}

func (c *clock) start() moment {
	c.seen.Store(true)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return c.exact()
}

// run ticks until stop is closed.
func (c *clock) run(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		select {
		case <-c.wake:
		case <-stop:
			return
		}
		for c.seen.Swap(false) {
			c.coarse.Store(int64(c.exact()))
			timer.Reset(tick)
			select {
			case <-timer.C:
			case <-stop:
				return
			}
		}
		c.coarse.Store(0)
	}
}
