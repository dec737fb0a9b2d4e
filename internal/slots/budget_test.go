package slots

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// rivals are pools with one budget.
func rivals(t *testing.T, b *Budget, servers ...*server) {
	for _, s := range servers {
		start(t, s, Options[string, *link]{Connections: []*Budget{b}})
	}
}

// storm keeps every slot of a group lent until ctx ends.
func (s *server) storm(ctx context.Context, all *sync.WaitGroup, key *Key[string], callers int) {
	for i := range callers {
		all.Go(func() {
			time.Sleep(time.Duration(i) * 100 * time.Millisecond) // so that no connection is ever idle
			for ctx.Err() == nil {
				if l, err := s.pool.Acquire(ctx, key, Ask{Timeout: time.Hour}); err == nil {
					time.Sleep(time.Second)
					l.Release()
				}
			}
		})
	}
}

// wantWithin takes and gives back a slot, for which it may wait that long.
func (s *server) wantWithin(most time.Duration, key *Key[string]) {
	s.t.Helper()
	began := time.Now()
	l, err := s.pool.Acquire(s.t.Context(), key, Ask{Timeout: 10 * time.Minute})
	if err != nil {
		s.t.Fatal(err)
	}
	l.Release()
	if waited := time.Since(began); waited > most {
		s.t.Errorf("waited %v, want at most %v", waited, most)
	}
}

// TestPoolThatWaitsIsToldOfWhatLands: a connection that is opened for a caller
// who has gone, or for many who keep it busy, makes room for another pool, which
// asked for it before it was there.
func TestPoolThatWaitsIsToldOfWhatLands(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x, y := &server{slots: 1, delay: 5 * time.Second}, &server{slots: 1, delay: time.Second}
			rivals(t, NewBudget(1), x, y)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			var all sync.WaitGroup
			all.Go(func() { _, _ = x.pool.Acquire(ctx, a(1, 1), Ask{Timeout: time.Minute}) })
			time.Sleep(time.Second)
			y.wantWithin(5*time.Second, a(1, 1)) // four until it is open, and one to open
			all.Wait()
			x.end()
			y.end()
		})
	})
	t.Run("busy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x, y := &server{slots: 2, delay: 5 * time.Second}, &server{slots: 1, delay: time.Second}
			rivals(t, NewBudget(1), x, y)
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			x.storm(ctx, &all, a(1, 2), 6)
			time.Sleep(time.Second)
			y.wantWithin(12*time.Second, a(1, 1)) // two openings, a call, and one to open
			cancel()
			all.Wait()
			x.end()
			y.end()
		})
	})
}

// TestPoolAtItsMaximumHoldsNoRoom: whose group has all the connections it may
// have waits for slots, not for room, and keeps none from others.
func TestPoolAtItsMaximumHoldsNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y, z := &server{slots: 1, delay: time.Second, sole: true}, &server{slots: 1}, &server{slots: 1}
		rivals(t, NewBudget(2), x, y, z)
		held := z.get(a(1, 1))
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		x.storm(ctx, &all, a(4, 1), 4) // more than its one connection bears
		time.Sleep(10 * time.Second)
		held.Lost()
		held.Release()
		y.wantWithin(0, a(1, 1))
		cancel()
		all.Wait()
		x.end()
		y.end()
		z.end()
	})
}

// TestIdleConnectionOfAnotherPoolGoesBeforeABusyOne of the own.
func TestIdleConnectionOfAnotherPoolGoesBeforeABusyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := &server{slots: 1}, &server{slots: 1}
		rivals(t, NewBudget(2), x, y)
		y.get(a(1, 1)).Release()
		busy := x.get(a(1, 1))
		time.Sleep(time.Minute)
		x.wantWithin(0, &Key[string]{ID: "another", Max: 1, Slots: 1})
		y.wantClosed("1 evicted")
		if x.pool.Stats().Retired != 0 {
			t.Error("the busy connection has to go")
		}
		busy.Release()
		x.end()
		y.end()
	})
}
