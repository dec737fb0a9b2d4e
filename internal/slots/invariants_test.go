package slots

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// check looks inside a pool at rest and says which invariant does not hold.
func (s *server) check() {
	t, p := s.t, s.pool
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	total, waiting := 0, 0
	for id, g := range p.groups {
		replacing := 0
		if g.replacing() {
			replacing = 1
		}
		// I-CAP: those being replaced are one beyond the maximum.
		if n := g.count(); n > g.key.Max+1+replacing {
			t.Errorf("I-CAP: group %s has %d connections of %d", id, n, g.key.Max)
		}
		total += g.count()
		waiting += g.queue.n
		idle := false
		for _, c := range g.conns() {
			n, free := c.inFlight(), c.freeSlots()
			// I-LIMIT, I-CONSERVE: what is not lent is free.
			if n > c.allSlots() || n+free != c.allSlots() {
				t.Errorf("I-LIMIT: %d in flight, %d free of %d", n, free, c.room())
			}
			if c.reason != "" || c.closed {
				t.Errorf("I-CLOSEONCE: a connection that is %s is lent", c.reason)
			}
			idle = idle || n == 0
		}
		// I-NOSTRAND: nobody waits beside an idle connection; and whoever waits has
		// something to wait for.
		if g.queue.n > 0 && idle && !p.paused {
			t.Errorf("I-NOSTRAND: %d wait beside an idle connection", g.queue.n)
		}
		if g.queue.n > 0 && g.count() == 0 && !p.paused && p.total < p.o.Total && p.next == 0 && len(p.openings) == 0 {
			t.Errorf("I-NOSTRAND: %d wait for nothing", g.queue.n)
		}
		if gate := g.gate.Load() &^ gatePaused; gate != int64(g.queue.n) || (g.queue.n > 0) != (g.hungry.in != nil) {
			t.Errorf("I-NOLEAKONCANCEL: the gate says %d, the queue has %d", gate, g.queue.n)
		}
	}
	if total > p.total || waiting != p.waiting {
		t.Errorf("I-MONO: %d connections and %d waiters in groups, %d and %d in all", total, waiting, p.total, p.waiting)
	}
	if p.total > p.o.Total+1 { // one is being replaced
		t.Errorf("I-CAP: %d connections in all, want at most %d", p.total, p.o.Total)
	}
}

// freeSlots counts the slots in the list of the free ones.
func (c *conn[K, C]) freeSlots() int {
	n := 0
	for number := first(c.state().Load()); number != 0; number = c.word(number).Load() % turnOne {
		n++
	}
	return n
}

func (c *conn[K, C]) allSlots() int { return c.slots }

// TestInvariants does random things to a pool, in virtual time, and checks
// what must always hold after each of them.
func TestInvariants(t *testing.T) {
	steps := 3000
	if testing.Short() {
		steps = 300
	}
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			s := &server{slots: 1 + random.IntN(4)}
			start(t, s, Options[string, *link]{
				Min: random.IntN(2), Total: 4 + random.IntN(8), MaxWaiting: 30,
				IdleTimeout: 5 * time.Second, MaxAge: 20 * time.Second, CheckInterval: 3 * time.Second,
				BreakAfter: 10 * time.Second, MaxCalls: random.IntN(2) * 50,
			})
			keyOf := func(id string) Key[string] {
				return Key[string]{ID: id, Max: map[string]int{"a": 3, "bb": 1, "c": 2, "o": 1}[id], Slots: s.slots, Owned: id == "o"}
			}
			ids := []string{"a", "bb", "c", "o"}
			var mu sync.Mutex
			var held []Lease[string, *link]
			var callers sync.WaitGroup
			for range steps {
				switch random.IntN(24) {
				case 0, 1, 2, 3, 4, 5, 6, 7:
					key := keyOf(ids[random.IntN(len(ids))])
					ask := Ask{
						Who: ids[random.IntN(2)], Whole: random.IntN(6) == 0,
						Timeout: time.Duration(random.IntN(4000)) * time.Millisecond,
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(4000))*time.Millisecond)
					callers.Go(func() {
						defer cancel()
						l, err := s.pool.Acquire(ctx, &key, ask)
						if err != nil {
							return
						}
						mu.Lock()
						defer mu.Unlock()
						if l.Conn().key != key.ID || l.Conn().closed.Load() != 0 {
							t.Errorf("I-ISOLATE: lent a connection of %s for %s, closed %d times", l.Conn().key, key.ID, l.Conn().closed.Load())
						}
						held = append(held, l)
					})
				case 8, 9, 10, 11, 12, 13:
					mu.Lock()
					if len(held) > 0 {
						i := random.IntN(len(held))
						l := held[i]
						held = append(held[:i], held[i+1:]...)
						if random.IntN(5) == 0 {
							l.Lost()
						}
						if !l.Release() || l.Release() {
							t.Error("I-CONSERVE: a lease is given back once")
						}
					}
					mu.Unlock()
				case 14, 15:
					s.setFail([]error{nil, nil, errDown, errForever}[random.IntN(4)])
				case 16:
					s.setDelay(time.Duration(random.IntN(3)) * time.Second)
				case 17:
					if random.IntN(4) == 0 {
						s.pool.Reset()
					}
				case 18:
					ctx, cancel := context.WithCancel(t.Context())
					cancel()
					_ = s.pool.Pause(ctx)
				case 19:
					s.pool.Resume()
				case 20:
					s.pool.End(ids[random.IntN(len(ids))])
				case 21:
					total := 4 + random.IntN(8)
					s.pool.Change(func(o *Options[string, *link]) { o.Total = max(o.Total, total) }, keyOf, func(*link) int { return random.IntN(5) })
				default:
					time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
				}
				synctest.Wait()
				s.check()
			}
			s.pool.Resume()
			s.setFail(nil)
			callers.Wait()
			for _, l := range held {
				l.Release()
			}
			s.end()
			got := s.pool.Stats()
			var closed uint64
			for _, n := range got.Closed {
				closed += n
			}
			if got.Opened != closed || got.Acquired != got.Released || got.Acquired == 0 {
				t.Errorf("%d opened, %d closed; %d acquired, %d released", got.Opened, closed, got.Acquired, got.Released)
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestChurn has real goroutines use a pool that is reset, paused, changed and
// at last closed under them.
func TestChurn(t *testing.T) {
	for range 30 {
		s := &server{slots: 3}
		start(t, s, Options[string, *link]{Min: 1, Total: 6, IdleTimeout: time.Millisecond, MaxAge: 2 * time.Millisecond})
		key := &Key[string]{ID: "a", Max: 3, Slots: 3}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for n := range 12 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(uint64(n), 9))
				for ctx.Err() == nil {
					whole := random.IntN(5) == 0
					l, err := s.pool.Acquire(ctx, key, Ask{Who: string(rune('a' + n%3)), Whole: whole, Timeout: time.Second})
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil {
						continue
					}
					if users := l.Conn().users.Add(1); users > 3 || whole && users != 1 || l.Conn().closed.Load() != 0 {
						t.Errorf("%d users (whole: %v) of a connection closed %d times", users, whole, l.Conn().closed.Load())
					}
					l.Conn().users.Add(-1)
					l.Release()
				}
			})
		}
		for range 20 {
			s.pool.Reset()
			if err := s.pool.Pause(ctx); err != nil {
				t.Error(err)
			}
			if n := s.pool.Stats().InFlight; n != 0 {
				t.Errorf("I-PAUSE: %d in flight while paused", n)
			}
			s.pool.Resume()
			if err := s.pool.WaitClosed(ctx, s.pool.Reset()); err != nil {
				t.Error(err)
			}
		}
		s.end() // under traffic
		stop()
		all.Wait()
	}
}

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

// TestManyWaitersLeaveAtOnce: leaving the queue costs the same however long
// it is.
func TestManyWaitersLeaveAtOnce(t *testing.T) {
	s := &server{slots: 1, delay: time.Hour}
	start(t, s, Options[string, *link]{})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 10_000 {
		all.Go(func() {
			if _, err := s.pool.Acquire(ctx, a(6, 1), Ask{Timeout: time.Minute}); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	for s.pool.Stats().Waiting < 10_000 {
	}
	cancel()
	all.Wait()
	if got := s.pool.Stats(); got.Waiting != 0 || got.AcquireFailures != 10_000 {
		t.Errorf("%d still wait, %d have given up", got.Waiting, got.AcquireFailures)
	}
	s.end()
}
