package slots

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestStormOfOnePrincipalDoesNotStarveAnother: however many wait for one, the
// other is served after one more of them.
func TestStormOfOnePrincipalDoesNotStarveAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{})
		key := a(1, 1)
		first := s.get(key)
		served, before := 0, -1
		var all sync.WaitGroup
		wait := func(who string, count func()) {
			all.Go(func() {
				l, err := s.pool.Acquire(t.Context(), key, Ask{Who: who, Timeout: time.Hour})
				if err != nil {
					t.Error(err)
					return
				}
				count()
				time.Sleep(time.Second)
				l.Release()
			})
			synctest.Wait()
		}
		for range 1000 {
			wait("storm", func() { served++ })
		}
		wait("quiet", func() { before = served })
		first.Release()
		all.Wait()
		if before > 1 || served != 1000 {
			t.Errorf("%d of the storm were served before the other", before)
		}
		s.end()
	})
}

// TestTurnsAreAsLongAsWeights: while principals of weights 1, 2 and 3 wait, of
// six slots in a row each gets as many as it weighs.
func TestTurnsAreAsLongAsWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{})
		first := s.get(a(1, 1))
		var order strings.Builder
		var all sync.WaitGroup
		for range 6 {
			for weight, who := range []string{"a", "b", "c"} {
				all.Go(func() {
					l, err := s.pool.Acquire(t.Context(), a(1, 1), Ask{Who: who, Weight: weight + 1, Timeout: time.Hour})
					if err != nil {
						t.Error(err)
						return
					}
					order.WriteString(who)
					l.Release()
				})
				synctest.Wait()
			}
		}
		first.Release()
		all.Wait()
		if want := "abbcccabbcccabbaaa"; order.String() != want {
			t.Errorf("served in order %s, want %s", order.String(), want)
		}
		s.end()
	})
}

// TestBarrenGroupWaitsForTwoOpeningsAndACall: however many calls keep however
// many connections busy, a principal that has none waits for no more than the
// age that a connection must have, the calls on it, and its own opening, be it
// the whole pool, an account or several pools together that are full.
func TestBarrenGroupWaitsForTwoOpeningsAndACall(t *testing.T) {
	const opening, call = 2 * time.Second, time.Second
	for _, full := range []string{"total", "account", "budget"} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{slots: 2, delay: opening}
			o := Options[string, *link]{Total: 4, MaxOpening: 4}
			var other *server // the storm's pool, if not the same
			switch full {
			case "account":
				o.Total, o.AccountTotal = 100, 4
			case "budget":
				o.Total, o.Connections = 100, []*Budget{NewBudget(4)}
				other = &server{slots: 2, delay: opening}
				start(t, other, o)
			}
			start(t, s, o)
			storm := cmp.Or(other, s)
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			for i := range 40 {
				all.Go(func() {
					for ctx.Err() == nil {
						l, err := storm.pool.Acquire(ctx, &Key[string]{ID: "storm", Max: 4, Slots: 2, Account: "x"}, Ask{Who: "storm", Timeout: time.Minute})
						if err == nil {
							time.Sleep(call + time.Duration(i)*time.Millisecond) // never all idle at once
							l.Release()
						}
					}
				})
			}
			time.Sleep(time.Minute)
			for i := range 10 { // each finds the pool full, and has the least right to stay
				began := time.Now()
				l, err := s.pool.Acquire(ctx, &Key[string]{ID: fmt.Sprint("quiet", i), Max: 1, Slots: 2, Account: "x"}, Ask{Who: "quiet", Timeout: time.Minute})
				if took := time.Since(began); err != nil || took > 2*opening+call+100*time.Millisecond {
					t.Errorf("%s full: waited %v, want at most two openings and a call: %v", full, took, err)
				}
				if err == nil {
					l.Release()
				}
				time.Sleep(7 * time.Second)
			}
			stop()
			all.Wait()
			if storm.most > 4 || s.most > 4 {
				t.Errorf("%s full: %d and %d connections at once, want 4", full, storm.most, s.most)
			}
			s.end()
			if other != nil {
				other.end()
			}
		})
	}
}

// TestFullQueueSendsTheStormAway: where no more may wait, one of the principal
// with the most waiters goes, the last that came, and whoever asks for a
// principal with few is let in. A principal's own bound holds besides.
func TestFullQueueSendsTheStormAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{MaxWaiting: 8, WaitingEach: 7})
		held := s.get(a(1, 1))
		var all sync.WaitGroup
		outcomes := map[string]error{}
		var mu sync.Mutex
		wait := func(who, name string, whole bool) {
			all.Go(func() {
				l, err := s.pool.Acquire(t.Context(), a(1, 1), Ask{Who: who, Whole: whole, Timeout: time.Hour})
				mu.Lock()
				outcomes[name] = err
				mu.Unlock()
				if err == nil {
					l.Release()
				}
			})
			synctest.Wait()
		}
		refused := func() string {
			mu.Lock()
			defer mu.Unlock()
			var names []string
			for name, err := range outcomes {
				if errors.Is(err, ErrQueueFull) {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			return strings.Join(names, " ")
		}
		for i := range 8 {
			wait("storm", fmt.Sprint("s", i), false)
		}
		if got := refused(); got != "s7" { // its own bound
			t.Errorf("refused %s", got)
		}
		for i := range 3 {
			wait("quiet", fmt.Sprint("q", i), false)
		}
		if got := refused(); got != "s5 s6 s7" { // 5 and 3 wait now
			t.Errorf("refused %s", got)
		}
		wait("storm", "s8", false)
		if got := refused(); got != "s5 s6 s7 s8" {
			t.Errorf("refused %s", got)
		}
		held.Release()
		all.Wait()
		if got := refused(); got != "s5 s6 s7 s8" || len(outcomes) != 12 {
			t.Errorf("refused %s of %d", got, len(outcomes))
		}
		s.end()
	})
}

// TestWaitersBehindOneSentAwayAreServed: who goes because too many wait, or
// because no try is in sight, may have been first and wanted more than those
// behind.
func TestWaitersBehindOneSentAwayAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 2}
		start(t, s, Options[string, *link]{MaxWaiting: 3})
		first, second := a(1, 2), &Key[string]{ID: "b", Max: 1, Slots: 2}
		held, other := s.get(first), s.get(second)
		more := s.get(second)
		var all sync.WaitGroup
		var served time.Duration
		began := time.Now()
		wait := func(key *Key[string], who string, whole bool, then func(error)) {
			all.Go(func() {
				l, err := s.pool.Acquire(t.Context(), key, Ask{Who: who, Whole: whole, Timeout: time.Hour})
				then(err)
				if err == nil {
					l.Release()
				}
			})
			time.Sleep(time.Second)
			synctest.Wait()
		}
		wait(second, "storm", false, func(error) {})
		wait(first, "storm", true, func(err error) { // before the next, as it wants the whole
			if !errors.Is(err, ErrQueueFull) {
				t.Error(err)
			}
		})
		wait(first, "quiet", false, func(err error) { served = time.Since(began) })
		wait(second, "third", false, func(error) {})
		if served != 3*time.Second {
			t.Errorf("served after %v beside a free slot, want it when the one before was sent away", served)
		}
		held.Release()
		other.Release()
		more.Release()
		all.Wait()
		s.end()
	})
}

// TestGroupsDoNotThrash: groups that have connections do not take the last one
// of another that was used just now, however much they ask for.
func TestGroupsDoNotThrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, delay: time.Second}
		start(t, s, Options[string, *link]{Total: 2})
		var all sync.WaitGroup
		use := func(id string, pause time.Duration) {
			all.Go(func() {
				for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(pause) {
					l := s.get(&Key[string]{ID: id, Max: 2, Slots: 1})
					time.Sleep(100 * time.Millisecond)
					l.Release()
				}
			})
		}
		use("b", 300*time.Millisecond) // idle between its calls
		time.Sleep(2 * time.Second)
		for range 20 { // more than one connection bears
			use("a", 0)
		}
		time.Sleep(50 * time.Second)
		if opens, _, _ := s.seen(); opens != 2 {
			t.Errorf("%d openings, want one for each group: they take each other's connections", opens)
		}
		all.Wait()
		s.end()
	})
}

// TestMinGivesWayToWhoWaits: a group that is below Min does not take the room
// that a connection of it has just made for another group's caller. It did,
// without end.
func TestMinGivesWayToWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 4}
		start(t, s, Options[string, *link]{Min: 2, Total: 3})
		b, c := &Key[string]{ID: "b", Max: 1, Slots: 4}, &Key[string]{ID: "c", Max: 2, Slots: 4}
		held := []Lease[string, *link]{s.get(c)}
		synctest.Wait()
		held = append(held, s.get(b))
		synctest.Wait()
		began := time.Now()
		s.get(a(3, 4)).Release()
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %v beside an idle connection of another group", took)
		}
		if opens, _, _ := s.seen(); opens > 5 {
			t.Errorf("%d openings for three callers", opens)
		}
		for _, l := range held {
			l.Release()
		}
		s.end()
	})
}

// TestHungryPoolIsToldOfRoom: a pool that finds no room in a budget sleeps
// until there is some, and learns in the same moment that a connection of
// another pool has fallen idle.
func TestHungryPoolIsToldOfRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options[string, *link]{Connections: []*Budget{NewBudget(1)}}
		rich, poor := &server{slots: 1}, &server{slots: 1}
		start(t, rich, o)
		start(t, poor, o)
		held := rich.get(&Key[string]{ID: "s", Max: 1, Slots: 1, Owned: true}) // not taken while in use
		began := time.Now()
		time.AfterFunc(time.Minute/2, func() { held.Release() })
		poor.get(a(1, 1)).Release()
		if took := time.Since(began); took != time.Minute/2 {
			t.Errorf("waited %v, want until the connection was idle", took)
		}
		rich.wantClosed("1 evicted")
		rich.end()
		poor.end()
	})
}
