package slots

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mcpool-dev/mcpool/internal/pooltest"
)

// Each invariant of the pool has a test of its name. Most of them are
// schedules of those operations that could break it: package pooltest looks at
// all invariants after each step, its own and those of engine.Check.

// want fails unless something came up at least once.
func want(t *testing.T, what string, n int) {
	t.Helper()
	if n == 0 {
		t.Errorf("no %s came up", what)
	}
}

// TestInvariantLimit: I-LIMIT. On each connection there are no more calls than
// slots, and after those became fewer none are lent until enough are back.
func TestInvariantLimit(t *testing.T) {
	tally := prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Release, pooltest.Change, pooltest.Lose)
	want(t, "wait", tally.Waited)
}

// TestInvariantCap: I-CAP. Connections that are ready, being opened and on
// their way out keep to the caps of the pool, of a group (and the one that
// replaces another), of an account, and of pools together; openings to theirs.
func TestInvariantCap(t *testing.T) {
	tally := prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Release, pooltest.Change,
		pooltest.Sleep, pooltest.Sleep, pooltest.Openings, pooltest.Reset, pooltest.Warm)
	closed := 0
	for _, pool := range tally.Pools {
		closed += int(pool.Closed)
	}
	want(t, "closed connection", closed)
}

// TestInvariantConserve: I-CONSERVE. Each slot that is lent is given back
// once: what is in flight is what is held.
func TestInvariantConserve(t *testing.T) {
	tally := prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Release, pooltest.ReleaseTwice, pooltest.ReleaseTwice,
		pooltest.Lose, pooltest.Die, pooltest.Cancel, pooltest.Change, pooltest.Reset)
	want(t, "second release", tally.Twice)
}

// TestInvariantNoStrand: I-NOSTRAND. Nobody whose turn it is waits beside what
// it wants, and once all is well whoever has the patience is served.
func TestInvariantNoStrand(t *testing.T) {
	tally := prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Release, pooltest.Cancel, pooltest.Die,
		pooltest.Openings, pooltest.Sleep, pooltest.Reset, pooltest.Change, pooltest.Pause, pooltest.Resume, pooltest.End)
	want(t, "wait", tally.Waited)
}

// TestInvariantLateBind: I-LATEBIND. A slot that comes free is lent in the same
// moment to whose turn it is, although a connection is being opened for it.
func TestInvariantLateBind(t *testing.T) {
	tally := prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Release, pooltest.Release,
		pooltest.Openings, pooltest.Sleep)
	late := 0
	for _, pool := range tally.Pools {
		late += int(pool.LateBinds)
	}
	want(t, "late binding", late)
}

// TestInvariantFIFO: I-FIFO. Waiters of one principal are served in the order in
// which they came, principals in turns of as many slots as they weigh; of too
// many, the last of the principal with most is sent away.
func TestInvariantFIFO(t *testing.T) {
	tally := prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Release, pooltest.Release,
		pooltest.Cancel, pooltest.Sleep)
	want(t, "wait", tally.Waited)
	want(t, "refusal", tally.Refused)
}

// TestInvariantGeneration: I-GEN. No connection whose opening began before a
// reset is lent after it.
func TestInvariantGeneration(t *testing.T) {
	tally := prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Release, pooltest.Openings,
		pooltest.Sleep, pooltest.Reset, pooltest.Drain, pooltest.Warm)
	want(t, "reset", tally.Resets)
	want(t, "wait", tally.Waited)
}

// TestInvariantCloseOnce: I-CLOSEONCE. Each connection is closed once, not
// under a call unless by force, and none is left after Close.
func TestInvariantCloseOnce(t *testing.T) {
	tally := prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Release, pooltest.Lose, pooltest.Die, pooltest.Checks,
		pooltest.Sleep, pooltest.Reset, pooltest.Drain, pooltest.End, pooltest.Openings)
	want(t, "lost connection", tally.Lost)
}

// TestInvariantNoLeakOnCancel: I-NOLEAKONCANCEL. A caller that gets an error
// leaves nothing behind: no slot, no place in a queue, no share of a budget.
func TestInvariantNoLeakOnCancel(t *testing.T) {
	tally := prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Cancel, pooltest.Cancel, pooltest.Release,
		pooltest.Sleep, pooltest.Openings)
	want(t, "cancelled wait", tally.Cancelled)
	want(t, "wait that took too long", tally.TimedOut)
}

// TestInvariantIsolate: I-ISOLATE, as far as the engine goes: a lease is on a
// connection that was opened for its group, or on a spare that nobody had; the
// connection of a session has no other owner for life and is not replaced
// unsaid; one lent whole has no other call.
func TestInvariantIsolate(t *testing.T) {
	tally := prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Release, pooltest.Lose,
		pooltest.Die, pooltest.Sleep, pooltest.End, pooltest.Reset, pooltest.Warm, pooltest.Change)
	want(t, "whole connection", tally.Wholes)
	want(t, "lost connection", tally.Lost)
}

// TestInvariantMono: I-MONO. Counters do not fall, what is kept up to date is
// what a count finds, and parts add up to the whole.
func TestInvariantMono(t *testing.T) { prove(t, pooltest.Everything()...) }

// TestInvariantPause: I-PAUSE. When Pause has returned no call is in flight,
// none begins before Resume, and no waiter is lost by it.
func TestInvariantPause(t *testing.T) {
	tally := prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Release, pooltest.Release, pooltest.Pause,
		pooltest.Resume, pooltest.Sleep, pooltest.Cancel, pooltest.Reset, pooltest.Warm)
	want(t, "pause", tally.Paused)
	want(t, "wait", tally.Waited)
}

// TestInvariantZombie: I-ZOMBIE, as far as the engine goes: the end of a
// caller's context gives nothing back that was lent; its release does.
func TestInvariantZombie(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots, callers := rapid.IntRange(1, 5).Draw(rt, "slots"), rapid.IntRange(1, 9).Draw(rt, "callers")
		synctest.Test(t, func(t *testing.T) {
			s := &server{slots: slots}
			start(t, s, Options[string, *link]{})
			var leases []Lease[string, *link]
			for range min(slots, callers) {
				ctx, cancel := context.WithCancel(t.Context())
				l, err := s.pool.Acquire(ctx, a(1, slots), Ask{Timeout: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				leases = append(leases, l)
				cancel()
			}
			time.Sleep(time.Hour)
			if n := s.pool.Stats().InFlight; n != len(leases) {
				t.Errorf("I-ZOMBIE: %d slots lent after %d callers were cancelled", n, len(leases))
			}
			if slots == len(leases) {
				if _, err := s.pool.Acquire(t.Context(), a(1, slots), Ask{Timeout: time.Second}); !errors.Is(err, ErrTimeout) {
					t.Errorf("I-ZOMBIE: the slot of a cancelled call was lent: %v", err)
				}
			}
			for _, l := range leases {
				l.Release()
			}
			s.end()
		})
	})
}

// TestInvariantDeadline: I-DEADLINE. With a server that never answers, each
// caller is told at the sooner of its timeout and its context's end, to the
// nanosecond.
func TestInvariantDeadline(t *testing.T) {
	prove(t, pooltest.Acquire, pooltest.Acquire, pooltest.Acquire, pooltest.Openings, pooltest.Sleep, pooltest.Release)
	rapid.Check(t, func(rt *rapid.T) {
		wait := rapid.Custom(func(t *rapid.T) [2]time.Duration {
			d := rapid.Int64Range(1, int64(time.Minute))
			return [2]time.Duration{time.Duration(d.Draw(t, "timeout")), time.Duration(d.Draw(t, "ctx"))}
		})
		waits := rapid.SliceOfN(wait, 1, 20).Draw(rt, "waits")
		synctest.Test(t, func(t *testing.T) {
			s := &server{slots: 1, delay: time.Hour} // Open is told to give up by its ctx alone
			start(t, s, Options[string, *link]{BreakAfter: time.Hour})
			var all sync.WaitGroup
			for _, w := range waits {
				all.Go(func() {
					began := time.Now()
					ctx, cancel := context.WithTimeout(t.Context(), w[1])
					defer cancel()
					_, err := s.pool.Acquire(ctx, a(3, 1), Ask{Timeout: w[0]})
					took, last := time.Since(began), min(w[0], w[1])
					// After an opening has taken its whole time, who cannot see the
					// next one through is told early.
					if err == nil || took > last || took < min(last, 35*time.Second) {
						t.Errorf("I-DEADLINE: told after %v, want %v: %v", took, last, err)
					}
				})
			}
			all.Wait()
			s.end()
		})
	})
}

// TestInvariantNoDemandNoOpening: I-NODEMAND-NODIAL. N callers at once cost at
// most ceil(N / slots) connections, nothing is opened that nobody asks for, and
// what was asked for by callers that have left is not begun.
func TestInvariantNoDemandNoOpening(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		callers := rapid.IntRange(1, 120).Draw(rt, "callers")
		slots, most := rapid.IntRange(1, 16).Draw(rt, "slots"), rapid.IntRange(1, 20).Draw(rt, "max")
		opening := time.Duration(rapid.IntRange(0, 5000).Draw(rt, "opening")) * time.Millisecond
		call := time.Duration(rapid.IntRange(1, 500).Draw(rt, "call")) * time.Millisecond
		synctest.Test(t, func(t *testing.T) {
			s := &server{slots: slots, delay: opening}
			start(t, s, Options[string, *link]{CheckInterval: time.Minute})
			s.pool.Reset() // none of these is a demand
			s.pool.Resume()
			time.Sleep(time.Hour)
			s.wantOpens(0)
			burst := func() {
				var all sync.WaitGroup
				for range callers {
					all.Go(func() {
						l := s.get(a(most, slots))
						time.Sleep(call)
						l.Release()
					})
				}
				all.Wait()
			}
			burst()
			cold, _, _ := s.seen()
			if need := (callers + slots - 1) / slots; cold > min(need, most) {
				t.Errorf("I-NODEMAND-NODIAL: %d callers cost %d connections of %d slots, at most %d", callers, cold, slots, most)
			}
			time.Sleep(time.Hour)
			s.wantOpens(cold)
			for range 3 {
				s.get(a(most, slots)).Release() // there is room
			}
			s.wantOpens(cold)
			s.pool.Reset()
			time.Sleep(time.Hour)
			s.wantOpens(cold)
			s.end()
		})
	})
}

// TestElidedOpening: callers who leave before an opening has begun have none
// made, and what it had reserved is free.
func TestElidedOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		p := start(t, s, Options[string, *link]{Total: 1})
		p.mu.Lock()
		g := p.groupLocked(a(1, 1))
		if !p.takeRoomLocked(g, true, p.now()) {
			t.Error("no room")
		}
		p.openLocked(g, ForWaiters) // for somebody who has just left
		p.mu.Unlock()
		s.wantOpens(0)
		if got := p.Stats(); got.Elided != 1 || got.Opening != 0 || p.total != 0 {
			t.Errorf("I-NODEMAND-NODIAL: %d elided, %d being opened, %d count", got.Elided, got.Opening, p.total)
		}
		s.get(a(1, 1)).Release()
		s.end()
	})
}

// TestInvariantJitter: I-JITTER. How long a connection may live is drawn once,
// in the last fifth of MaxAge, evenly and as finely as time is told.
func TestInvariantJitter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		age := time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(100*365*24*time.Hour)).Draw(rt, "age"))
		most := rapid.IntRange(1, 64).Draw(rt, "max")
		p := &Pool[string, *link]{o: Options[string, *link]{MaxAge: age}}
		g := &group[string, *link]{pool: p, key: *a(most, 1)}
		now := moment(rapid.Int64Range(1, int64(time.Hour)).Draw(rt, "now"))
		for range most { // a group that fills
			at := p.expires(g, now)
			if at < now+age-age/5 || at > now+age {
				rt.Fatalf("I-JITTER: of %v, a connection lives %v", age, at-now)
			}
			list := append(slices.Clone(g.conns()), &conn[string, *link]{expires: at})
			g.ready.Store(&list)
		}
		// An empty group again: nothing but chance decides. A tenth of the draws
		// falls into each tenth of the room for it, within six deviations.
		g.ready.Store(nil)
		gap := age / 20 / time.Duration(most)
		const draws, tenths = 4000, 10
		var in [tenths]int
		for range draws {
			in[int64(now+age-p.expires(g, now))*tenths/int64(gap+1)]++
		}
		for _, n := range in {
			if n < draws/tenths-6*19 || n > draws/tenths+6*19 {
				rt.Fatalf("I-JITTER: of %v, %d draws fall into tenths of %v as %v", age, draws, gap, in)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) { // once: use does not change it
		s := &server{slots: 1}
		p := start(t, s, Options[string, *link]{MaxAge: time.Hour})
		l := s.get(a(1, 1))
		at := l.conn.expires
		l.Release()
		for range 20 {
			time.Sleep(time.Minute)
			s.get(a(1, 1)).Release()
			p.Change(func(*Options[string, *link]) {}, func(string) Key[string] { return *a(1, 1) }, func(*link) int { return 1 })
			if l.conn.expires != at {
				t.Fatalf("I-JITTER: was to be replaced at %v, now at %v", at, l.conn.expires)
			}
		}
		s.end()
	})
}

// TestInvariantStagger: I-STAGGER. Connections of a group that were opened
// together are replaced one by one, at least the gap apart, and each new one is
// there before the old one goes.
func TestInvariantStagger(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(rt, "connections")
		age := time.Duration(rapid.Int64Range(int64(time.Second), int64(24*time.Hour)).Draw(rt, "age"))
		gap := age / 20 / time.Duration(n)
		opening := time.Duration(rapid.Int64Range(0, int64(min(gap/2, 30*time.Second))).Draw(rt, "opening"))
		held := rapid.IntRange(0, n).Draw(rt, "held")
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			open := 0
			var gone []time.Time
			s := &server{slots: 1}
			p := start(t, s, Options[string, *link]{Min: n, MaxAge: age})
			p.o.Open = func(ctx context.Context, key string) (Opened[*link], error) {
				time.Sleep(opening)
				mu.Lock()
				open++
				mu.Unlock()
				return s.Open(ctx, key)
			}
			p.o.Close = func(ctx context.Context, l *link, why Reason) {
				mu.Lock()
				if why == Age {
					gone = append(gone, time.Now())
					if open <= n {
						t.Errorf("I-STAGGER: one of %d connections goes before another has come", open)
					}
				}
				open--
				mu.Unlock()
				s.Close(ctx, l, why)
			}
			p.Warm(a(n, 1))
			time.Sleep(opening)
			synctest.Wait()
			for range held { // calls that end do not matter
				s.get(a(n, 1)).Release()
			}
			time.Sleep(3 * age)
			synctest.Wait()
			mu.Lock()
			if len(gone) < 2*n {
				t.Errorf("I-STAGGER: %d replaced in three times the age of %d", len(gone), n)
			}
			for i := 1; i < len(gone); i++ {
				if apart := gone[i].Sub(gone[i-1]); apart < gap {
					t.Errorf("I-STAGGER: replaced %v apart, want %v", apart, gap)
				}
			}
			mu.Unlock()
			s.end()
		})
	})
}

// TestInvariantBreaker: I-BREAKER. While the breaker is open there is one try at
// a time to connect, in all groups of all accounts, none before it is due, and
// everybody but the one it is made for is told at once.
func TestInvariantBreaker(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		groups, seed := rapid.IntRange(1, 6).Draw(rt, "groups"), rapid.Uint64().Draw(rt, "seed")
		min, age := rapid.IntRange(0, 2).Draw(rt, "min"), rapid.SampledFrom([]time.Duration{0, 15 * time.Second}).Draw(rt, "age")
		opening := time.Duration(rapid.IntRange(0, 4000).Draw(rt, "opening")) * time.Millisecond
		synctest.Test(t, func(t *testing.T) {
			s := &server{slots: 2, delay: opening}
			p := start(t, s, Options[string, *link]{Min: min, MaxAge: age, BreakAfter: 10 * time.Second, CheckInterval: 3 * time.Second})
			key := func(i int) *Key[string] {
				return &Key[string]{ID: string(rune('a' + i)), Max: 3, Slots: 2, Account: string(rune('x' + i%2))}
			}
			var tries, told atomic.Int32
			open := p.o.Open
			p.o.Open = func(ctx context.Context, id string) (Opened[*link], error) {
				p.mu.Lock()
				if now := p.now(); p.brokenLocked(now) {
					tries.Add(1)
					if p.opening != 1 || now < p.failing.retry {
						t.Errorf("I-BREAKER: %d tries at once, %v before the next is due", p.opening, p.failing.retry-now)
					}
				}
				p.mu.Unlock()
				return open(ctx, id)
			}
			for i := range groups {
				if i%2 == 0 { // some have connections when it goes down, and all but the first keep them
					s.get(key(i)).Release()
				}
			}
			s.setFail(errDown)
			synctest.Wait()
			for _, c := range p.Conns() {
				if c.Group == key(0).ID {
					close(c.Conn.done)
				}
			}
			var all sync.WaitGroup
			random := rand.New(rand.NewPCG(seed, 3))
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond) {
				i, down := random.IntN(groups), p.Stats().Breaker
				all.Go(func() {
					began := time.Now()
					l, err := p.Acquire(t.Context(), key(i), Ask{Timeout: 5 * time.Second})
					if err == nil {
						l.Release()
					} else if down == BreakerHalfOpen && time.Since(began) > 0 {
						t.Errorf("I-BREAKER: told after %v while a try was under way: %v", time.Since(began), err)
					} else if errors.Is(err, ErrDown) {
						told.Add(1)
					}
				})
				synctest.Wait()
			}
			all.Wait()
			if p.Stats().Breaker == BreakerClosed || tries.Load() == 0 || told.Load() == 0 {
				t.Errorf("the breaker is %s after a minute: %d tries, %d told", p.Stats().Breaker, tries.Load(), told.Load())
			}
			s.setFail(nil)
			time.Sleep(2 * backoffIdle) // tries for Min are over, too
			s.get(key(0)).Release()
			s.end()
		})
	})
}

// TestBreakerHoldsBackMinToo: I-BREAKER without callers. Groups that all fell
// below Min at once try one after the other once the breaker is open.
func TestBreakerHoldsBackMinToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		p := start(t, s, Options[string, *link]{Min: 1, BreakAfter: time.Second}) // sooner than failures alone bring openings down to one
		for _, id := range []string{"a", "b", "c", "d"} {
			s.get(&Key[string]{ID: id, Max: 1, Slots: 1}).Release()
		}
		s.mu.Lock()
		s.fail, s.delay = errDown, 4*time.Second
		s.mu.Unlock()
		for _, c := range p.Conns() {
			close(c.Conn.done)
		}
		time.Sleep(9 * time.Second) // those that began before are over
		for range 3000 {
			time.Sleep(100 * time.Millisecond)
			if now := p.Stats(); now.Opening > 1 || now.Breaker == BreakerClosed {
				t.Fatalf("I-BREAKER: %d tries at once, the breaker is %s", now.Opening, now.Breaker)
			}
		}
		if opens, _, _ := s.seen(); opens < 15 {
			t.Errorf("%d openings in five minutes, want a try each half minute", opens)
		}
		s.end()
	})
}
