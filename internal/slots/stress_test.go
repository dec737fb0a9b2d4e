package slots

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// What is below has real goroutines and real time: what they find depends on
// how they meet, under the race detector above all.

// owners is a detector of slots that have two owners: each slot has a word, in
// which who gets the slot swaps its name in, and swaps it out before giving
// the slot back. (The idea is Vitess's, for the connections of its pools.)
type owners struct {
	t     *testing.T
	words sync.Map // of the words of slots to *atomic.Int64
	users sync.Map // of *link to *atomic.Int64: all its owners, a whole one as a million
}

func (o *owners) of(m *sync.Map, key any) *atomic.Int64 {
	word, ok := m.Load(key)
	if !ok {
		word, _ = m.LoadOrStore(key, new(atomic.Int64))
	}
	return word.(*atomic.Int64)
}

const wholeUse = 1_000_000

// isWhole reports whether a lease that is held is of the whole connection.
func isWhole(l Lease[string, *link]) bool { return l.conn.whole() }

func use(l Lease[string, *link]) int64 {
	if isWhole(l) {
		return wholeUse
	}
	return 1
}

func (o *owners) got(l Lease[string, *link], who int64) {
	if before := o.of(&o.words, l.conn.word(l.turn%turnOne)).Swap(who); before != 0 {
		o.t.Errorf("I-LIMIT: a slot of connection %d was lent to %d, and is %d's", l.Conn().id, who, before)
	}
	if n := o.of(&o.users, l.Conn()).Add(use(l)); n > wholeUse || n == wholeUse && !isWhole(l) {
		o.t.Errorf("I-ISOLATE: connection %d is not alone with who has it whole", l.Conn().id)
	}
	if l.Conn().closed.Load() != 0 {
		o.t.Errorf("I-CLOSEONCE: connection %d was lent closed", l.Conn().id)
	}
}

func (o *owners) release(l Lease[string, *link], who int64) {
	if l.Conn().closed.Load() != 0 {
		o.t.Errorf("I-CLOSEONCE: connection %d was closed under a call", l.Conn().id)
	}
	o.of(&o.users, l.Conn()).Add(-use(l))
	if before := o.of(&o.words, l.conn.word(l.turn%turnOne)).Swap(0); before != who {
		o.t.Errorf("I-LIMIT: a slot of connection %d was %d's and is %d's", l.Conn().id, who, before)
	}
	if !l.Release() {
		o.t.Errorf("I-CONSERVE: a lease of connection %d was given back by somebody else", l.Conn().id)
	}
}

// rounds is n, and a tenth of it where it would take too long.
func rounds(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// TestChurn has real goroutines use two pools that share budgets, with groups,
// sessions and spares, under everything that can be done to a pool, and at
// last closes them under traffic.
func TestChurn(t *testing.T) {
	for range 3 {
		budget, waiters := NewBudget(7), NewBudget(20)
		who := &owners{t: t}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var pools []*server
		var lent atomic.Int64
		for range 2 {
			s := &server{slots: 3}
			start(t, s, Options[string, *link]{Min: 1, Total: 6, AccountTotal: 5, MaxOpening: 3, MaxWaiting: 15, MaxCalls: 200,
				IdleTimeout: time.Millisecond, MaxAge: 2 * time.Millisecond, CheckInterval: time.Millisecond,
				Connections: []*Budget{budget}, Waiters: waiters})
			pools = append(pools, s)
		}
		keys := []Key[string]{
			{ID: "a", Max: 3, Slots: 3, Account: "x"}, {ID: "b", Max: 2, Slots: 3, Account: "x"},
			{ID: "s", Max: 1, Slots: 3, Account: "y", Owned: true, Spare: "z"}, {ID: "t", Max: 1, Slots: 3, Account: "y", Owned: true, Spare: "z"},
		}
		keyOf := func(id string) Key[string] {
			for _, key := range keys {
				if key.ID == id {
					return key
				}
			}
			return Key[string]{ID: id, Max: 1, Slots: 3, Account: "y"}
		}
		for n := range 16 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(uint64(n), 9))
				for ctx.Err() == nil {
					p, key := pools[n%2].pool, keys[random.IntN(len(keys))]
					asks, cancel := context.WithTimeout(ctx, time.Duration(random.IntN(5000))*time.Microsecond)
					l, err := p.Acquire(asks, &key, Ask{Who: string(rune('a' + n%3)), Weight: n % 3, Whole: random.IntN(5) == 0, Timeout: time.Second})
					cancel()
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil {
						continue
					}
					if got := l.Conn().key; got != key.ID && got != key.Spare {
						t.Errorf("I-ISOLATE: %s was lent a connection of %s", key.ID, got)
					}
					lent.Add(1)
					who.got(l, int64(n+1))
					if random.IntN(20) == 0 {
						runtime.Gosched()
					}
					if random.IntN(50) == 0 {
						l.Lost()
					}
					who.release(l, int64(n+1))
					if l.Release() {
						t.Error("I-CONSERVE: a lease was given back twice")
					}
				}
			})
		}
		for i := range 20 {
			s := pools[i%2]
			for until := lent.Load() + 100; lent.Load() < until; {
				runtime.Gosched() // there is to be something to disturb
			}
			s.pool.Reset()
			if err := s.pool.Pause(ctx); err != nil {
				t.Error(err)
			}
			if n := s.pool.Stats().InFlight; n != 0 {
				t.Errorf("I-PAUSE: %d in flight while paused", n)
			}
			s.pool.Resume()
			s.pool.Change(func(o *Options[string, *link]) { o.Total = 2 + i%5 }, keyOf, func(*link) int { return 1 + i%4 })
			s.pool.Warm(&keys[i%2])
			s.pool.End(only(keys[2+i%2].ID))
			s.setFail([]error{nil, errDown}[i%10/9])
			if err := s.pool.Drain(ctx); err != nil {
				t.Error(err)
			}
		}
		for _, s := range pools {
			s.end() // under traffic
			if got := s.pool.Stats(); got.Acquired != got.Released {
				t.Errorf("I-CONSERVE: %d acquired and %d released", got.Acquired, got.Released)
			}
		}
		stop()
		all.Wait()
		if budget.used != 0 || budget.leaving+budget.leavingBusy != 0 || len(budget.hungry) != 0 || waiters.used != 0 {
			t.Errorf("I-CAP: a closed pool left %d of a budget, %d leaving, %d hungry, %d waiters", budget.used, budget.leaving, len(budget.hungry), waiters.used)
		}
	}
}

// TestNobodyWaitsBesideASlotThatCameFreeMeanwhile: a caller finds no slot, one
// is given back by somebody who sees nobody waiting, and then the caller waits.
// It has to look again, or it waits forever.
func TestNobodyWaitsBesideASlotThatCameFreeMeanwhile(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8)) // more than there are: threads stop anywhere
	s := &server{slots: 1}
	start(t, s, Options[string, *link]{})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for range rounds(1_000_000) {
				l, err := s.pool.Acquire(t.Context(), a(1, 1), Ask{Timeout: time.Minute}) // nobody waits long
				if err != nil {
					t.Errorf("I-NOSTRAND: %v", err)
					return
				}
				l.Release()
			}
		})
	}
	all.Wait()
	s.end()
}

// TestFreeListSurvivesABA: whoever was about to take a slot, and stopped while
// others took and gave back until the list began as before, must not succeed
// with what it had read: the slot after that may be lent.
func TestFreeListSurvivesABA(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16))
	s := &server{slots: 6}
	start(t, s, Options[string, *link]{})
	s.get(a(1, 6)).Release()
	who := &owners{t: t}
	var all sync.WaitGroup
	for n := range int64(3) { // two slots each: nobody ever waits
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 5))
			for range rounds(300_000) {
				first := s.get(a(1, 6))
				who.got(first, n+1)
				second := s.get(a(1, 6))
				who.got(second, n+1)
				if random.IntN(2) == 0 {
					first, second = second, first
				}
				who.release(first, n+1)
				who.release(second, n+1)
				if t.Failed() {
					return
				}
			}
		})
	}
	all.Wait()
	s.end()
}

// semaphore is what a connection is to those who call on it, for porcupine.
var semaphore = porcupine.Model{
	Init: func() any { return [2]int{0, startLimit} }, // calls in flight, limit
	Step: func(state, input, output any) (bool, any) {
		s := state.([2]int)
		switch in := input.(type) {
		case limitTo:
			return true, [2]int{s[0], int(in)}
		case give:
			return s[0] > 0, [2]int{s[0] - 1, s[1]}
		}
		if output.(bool) {
			return s[0] < s[1], [2]int{s[0] + 1, s[1]}
		}
		return s[0] >= s[1], state
	},
}

const startLimit = 3

type (
	try     struct{}
	give    struct{}
	limitTo int
)

// TestCallsAreLinearizable: what callers see of a connection, whose limit
// changes under them, is what they would see of a counting semaphore, each
// operation done at one moment between its begin and its end (M. Herlihy and J.
// Wing, "Linearizability", 1990).
func TestCallsAreLinearizable(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	failed := 0
	for history := range rounds(600) {
		s := &server{slots: startLimit}
		start(t, s, Options[string, *link]{})
		key := a(1, startLimit)
		s.get(key).Release()
		began := time.Now()
		var mu sync.Mutex
		var ops []porcupine.Operation
		do := func(client int, input any, op func() any) {
			call := time.Since(began)
			output := op()
			back := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			ops = append(ops, porcupine.Operation{ClientId: client, Input: input, Call: int64(call), Output: output, Return: int64(back)})
		}
		var all sync.WaitGroup
		for n := range 5 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(uint64(history), uint64(n)))
				var held []Lease[string, *link]
				for range 12 {
					if len(held) > 0 && random.IntN(2) == 0 {
						l := held[0]
						held = held[1:]
						do(n, give{}, func() any { return l.Release() })
						continue
					}
					do(n, try{}, func() any {
						l, err := s.pool.Acquire(t.Context(), key, Ask{Timeout: time.Duration(random.IntN(2)) * 20 * time.Microsecond})
						if err == nil {
							held = append(held, l)
						}
						return err == nil
					})
				}
				for _, l := range held {
					do(n, give{}, func() any { return l.Release() })
				}
			})
		}
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(history), 99))
			for range 6 {
				n := 1 + random.IntN(4)
				do(5, limitTo(n), func() any {
					s.pool.Change(func(*Options[string, *link]) {}, func(string) Key[string] { return *key }, func(*link) int { return n })
					return nil
				})
			}
		})
		all.Wait()
		s.end()
		for _, op := range ops {
			if op.Output == false {
				failed++
			}
		}
		if got := porcupine.CheckOperationsTimeout(semaphore, ops, 10*time.Second); got == porcupine.Illegal {
			t.Fatalf("history %d is not that of a semaphore: %+v", history, ops)
		} else if got == porcupine.Unknown {
			t.Logf("history %d: not decided", history)
		}
	}
	if failed == 0 {
		t.Error("no call found the connection full")
	}
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
			if _, err := s.pool.Acquire(ctx, a(6, 1), Ask{Timeout: time.Hour}); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	for s.pool.Stats().Waiting < 10_000 {
		runtime.Gosched()
	}
	cancel()
	all.Wait()
	if got := s.pool.Stats(); got.Waiting != 0 || got.Failed[Cancelled] != 10_000 {
		t.Errorf("%d still wait, %d have given up", got.Waiting, got.Failed[Cancelled])
	}
	s.end()
}

// TestNoCallBeginsAfterPause has callers take free slots, without a lock, in the
// moment in which a pool is paused. It takes many tries to see one through.
func TestNoCallBeginsAfterPause(t *testing.T) {
	s := &server{slots: 64}
	start(t, s, Options[string, *link]{})
	ctx, stop := context.WithCancel(t.Context())
	var paused atomic.Bool
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				if l, err := s.pool.Acquire(ctx, a(1, 64), Ask{Timeout: time.Minute}); err == nil {
					if paused.Load() {
						t.Error("I-PAUSE: lent while paused")
					}
					l.Release()
				}
			}
		})
	}
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		if err := s.pool.Pause(ctx); err != nil {
			t.Fatal(err)
		}
		paused.Store(true)
		runtime.Gosched()
		paused.Store(false)
		s.pool.Resume()
	}
	stop()
	all.Wait()
	s.end()
}

// TestCountersDoNotFall reads counters while slots are lent and given back.
func TestCountersDoNotFall(t *testing.T) {
	s := &server{slots: 64}
	start(t, s, Options[string, *link]{})
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				if l, err := s.pool.Acquire(ctx, a(1, 64), Ask{Timeout: time.Minute}); err == nil {
					l.Release()
				}
			}
		})
	}
	var before Stats
	for range rounds(100_000) {
		now := s.pool.Stats()
		if now.Acquired < before.Acquired || now.Released < before.Released || now.Acquired < now.Waited {
			t.Fatalf("I-MONO: %d acquired, %d released, %d waited after %d, %d, %d",
				now.Acquired, now.Released, now.Waited, before.Acquired, before.Released, before.Waited)
		}
		before = now
	}
	stop()
	all.Wait()
	s.end()
}
