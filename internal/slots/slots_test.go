package slots

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mcptest.Settled(m)) }

// link is a fake connection.
type link struct {
	id     int
	key    string
	done   chan struct{}
	closed atomic.Int32
}

// server is what the fake connections lead to.
type server struct {
	t     testing.TB
	pool  *Pool[string, *link]
	delay time.Duration
	slots int
	sole  bool

	mu     sync.Mutex
	fail   error // of openings and checks, while set
	opens  int   // openings begun
	open   int   // connections open now
	most   int   // most of them at once
	closed []string
	checks int
}

var errDown = errors.New("server is down")
var errForever = fmt.Errorf("no such server: %w", ErrPermanent)

func start(t testing.TB, s *server, o Options[string, *link]) *Pool[string, *link] {
	s.t = t
	o.Open, o.Close, o.Check = s.Open, s.Close, s.Check
	if o.Total == 0 {
		o.Total = 1000
	}
	if o.MaxOpening == 0 {
		o.MaxOpening = 1000
	}
	o.OpenTimeout = 35 * time.Second
	o.CheckTimeout = time.Second
	s.pool = New(o)
	return s.pool
}

func (s *server) Open(ctx context.Context, key string) (Opened[*link], error) {
	s.mu.Lock()
	s.opens++
	l := &link{id: s.opens, key: key, done: make(chan struct{})}
	delay := s.delay
	s.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return Opened[*link]{}, context.Cause(ctx)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return Opened[*link]{}, s.fail
	}
	s.open++
	s.most = max(s.most, s.open)
	return Opened[*link]{Conn: l, Slots: s.slots, Sole: s.sole, Done: l.done}, nil
}

func (s *server) Close(_ context.Context, l *link, why Reason) {
	if l.closed.Add(1) != 1 {
		s.t.Errorf("connection %d closed twice", l.id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	s.closed = append(s.closed, fmt.Sprintf("%d %s", l.id, why))
}

func (s *server) Check(context.Context, *link) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks++
	return s.fail
}

func (s *server) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// seen returns how many openings and checks there were, and the most
// connections at once.
func (s *server) seen() (opens, checks, most int) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opens, s.checks, s.most
}

func (s *server) wantClosed(want ...string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	closed := slices.Sorted(slices.Values(s.closed)) // those of one moment close in any order
	if !slices.Equal(closed, slices.Sorted(slices.Values(want))) {
		s.t.Errorf("closed %q, want %q", closed, want)
	}
}

func (s *server) wantOpens(n int) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opens != n {
		s.t.Errorf("%d openings, want %d", s.opens, n)
	}
}

func (s *server) get(key *Key[string]) Lease[string, *link] {
	s.t.Helper()
	l, err := s.pool.Acquire(s.t.Context(), key, Ask{Timeout: time.Minute})
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

func (s *server) end() {
	s.t.Helper()
	if err := s.pool.Close(context.Background()); err != nil {
		s.t.Error(err)
	}
	if s.open != 0 {
		s.t.Errorf("%d connections still open after Close", s.open)
	}
}

func a(max, slots int) *Key[string] { return &Key[string]{ID: "a", Max: max, Slots: slots} }

func TestStormOpensNoMoreConnectionsThanItsCallsNeed(t *testing.T) {
	for _, test := range []struct{ callers, slots, max, want int }{
		{1, 8, 10, 1}, {8, 8, 10, 1}, {50, 8, 10, 5}, {500, 8, 100, 39}, {50, 64, 10, 1}, {64, 1, 6, 6},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{slots: test.slots, delay: 2 * time.Second}
			start(t, s, Options[string, *link]{})
			var all sync.WaitGroup
			for range test.callers {
				all.Go(func() {
					l := s.get(a(test.max, test.slots))
					time.Sleep(300 * time.Millisecond)
					l.Release()
				})
			}
			all.Wait()
			s.wantOpens(test.want)
			s.end()
		})
	}
}

func TestNothingOpensBeforeTheFirstCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 8}
		start(t, s, Options[string, *link]{Min: 3, IdleTimeout: time.Minute})
		time.Sleep(time.Hour)
		s.wantOpens(0)
		s.get(a(6, 8)).Release()
		s.wantOpens(3) // Min applies from the first use on
		s.end()
	})
}

func TestFreedSlotGoesToOldestWaiterAtThatMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, delay: 2 * time.Second}
		start(t, s, Options[string, *link]{})
		held := s.get(a(6, 1))
		began := time.Now()
		var served [3]time.Duration
		var all sync.WaitGroup
		for i := range served {
			all.Go(func() {
				l := s.get(a(6, 1))
				served[i] = time.Since(began)
				time.Sleep(10 * time.Second)
				l.Release()
			})
			synctest.Wait()
		}
		time.Sleep(100 * time.Millisecond)
		held.Release()
		all.Wait()
		// Nobody knew that calls take this long: one connection is opened when a
		// waiter has waited as long as that takes, and then another.
		want := [3]time.Duration{100 * time.Millisecond, 4 * time.Second, 6 * time.Second}
		if served != want {
			t.Errorf("served after %v, want %v", served, want)
		}
		s.end()
	})
}

func TestWaitersAreServedInOrderAndNobodyBarges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{})
		held := s.get(a(1, 1))
		var order []int
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				l := s.get(a(1, 1))
				order = append(order, i)
				// Asking again right after giving back must queue behind the others.
				l.Release()
				l = s.get(a(1, 1))
				order = append(order, i+10)
				l.Release()
			})
			synctest.Wait()
		}
		held.Release()
		all.Wait()
		// In which order they asked again is theirs to decide.
		if len(order) != 20 || !slices.IsSorted(order[:10]) || slices.Min(order[10:]) < 10 {
			t.Errorf("served in order %v", order)
		}
		s.end()
	})
}

func TestCancelledCallerDoesNotEndTheOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, delay: 2 * time.Second}
		start(t, s, Options[string, *link]{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.pool.Acquire(ctx, a(1, 1), Ask{Timeout: time.Minute}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		time.Sleep(time.Second)
		began := time.Now()
		s.get(a(1, 1)).Release()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %v for a connection that was opened meanwhile", waited)
		}
		s.wantOpens(1)
		s.end()
	})
}

func TestCallsPackOntoTheMostRecentConnectionUpToHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 4}
		start(t, s, Options[string, *link]{})
		var held []Lease[string, *link]
		for range 5 {
			held = append(held, s.get(a(2, 4)))
		}
		s.wantOpens(2)
		for _, l := range held {
			l.Release()
		}
		recent := s.get(a(2, 4))
		second := s.get(a(2, 4))
		if recent.Conn() != second.Conn() {
			t.Error("the second call went to another connection although the first has half its room")
		}
		third := s.get(a(2, 4))
		if third.Conn() == recent.Conn() {
			t.Error("the third call went past half the slots while another connection was idle")
		}
		for _, l := range []Lease[string, *link]{recent, second, third} {
			l.Release()
		}
		s.end()
	})
}

func TestIdleConnectionsCloseLeastRecentlyUsedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{Min: 1, IdleTimeout: 600 * time.Second})
		one, two, three := s.get(a(6, 1)), s.get(a(6, 1)), s.get(a(6, 1))
		two.Release()
		time.Sleep(time.Second)
		three.Release()
		time.Sleep(time.Second)
		one.Release()
		time.Sleep(598*time.Second - 1)
		s.wantClosed()
		time.Sleep(time.Nanosecond)
		s.wantClosed("2 idle")
		time.Sleep(time.Second)
		s.wantClosed("2 idle", "3 idle")
		time.Sleep(time.Second) // now nobody has used the group that long
		s.wantClosed("2 idle", "3 idle", "1 idle")
		s.wantOpens(3)
		s.end()
	})
}

func TestGroupInUseKeepsMin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{Min: 2, IdleTimeout: 600 * time.Second})
		one, two, three := s.get(a(6, 1)), s.get(a(6, 1)), s.get(a(6, 1))
		for _, l := range []Lease[string, *link]{one, two, three} {
			l.Release()
		}
		for range 20 {
			time.Sleep(100 * time.Second)
			s.get(a(6, 1)).Release() // the most recently used, each time
		}
		s.wantClosed("1 idle")
		time.Sleep(600 * time.Second)
		s.wantClosed("1 idle", "2 idle", "3 idle")
		s.end()
	})
}

func TestConnectionIsReplacedAtItsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 8, delay: 2 * time.Second}
		start(t, s, Options[string, *link]{Min: 1, MaxAge: time.Hour})
		held := s.get(a(1, 8))
		opened := time.Now()
		time.Sleep(54*time.Minute - 1) // a twentieth for the draw, a twentieth to spare
		s.wantOpens(1)
		time.Sleep(6*time.Minute + 1)
		s.wantOpens(2)
		time.Sleep(2 * time.Second)
		began := time.Now()
		next := s.get(a(1, 8))
		if next.Conn() == held.Conn() || time.Since(began) != 0 {
			t.Errorf("%v after its opening the old connection is still lent", time.Since(opened))
		}
		s.wantClosed() // its call is still in flight
		held.Release()
		s.wantClosed("1 age")
		next.Release()
		if _, _, most := s.seen(); most != 2 {
			t.Errorf("%d connections at once, want the old and the new", most)
		}
		s.end()
	})
}

func TestConnectionsOpenedTogetherAreNotReplacedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, delay: time.Second}
		start(t, s, Options[string, *link]{Min: 6, MaxAge: time.Hour})
		s.get(a(6, 1)).Release()
		s.wantOpens(6)
		time.Sleep(time.Hour + 10*time.Second)
		opens, _, most := s.seen()
		if most > 7 {
			t.Errorf("%d connections at once, want at most one beyond 6", most)
		}
		if opens < 12 {
			t.Errorf("%d openings, want all six replaced", opens)
		}
		s.end()
	})
}

func TestIdleConnectionIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{Min: 1, CheckInterval: 300 * time.Second})
		s.get(a(1, 1)).Release()
		time.Sleep(200 * time.Second)
		s.get(a(1, 1)).Release() // traffic is proof enough
		time.Sleep(300*time.Second - 1)
		if _, checks, _ := s.seen(); checks != 0 {
			t.Fatalf("%d checks before the interval was over", checks)
		}
		time.Sleep(time.Nanosecond)
		if _, checks, _ := s.seen(); checks != 1 {
			t.Fatalf("%d checks after the interval, want 1", checks)
		}
		s.setFail(errDown)
		time.Sleep(300 * time.Second)
		s.wantClosed() // once may be chance
		time.Sleep(recheck)
		s.wantClosed("1 unhealthy")
		s.setFail(nil)
		time.Sleep(backoffIdle)
		s.get(a(1, 1)).Release()
		if got := s.pool.Stats(); got.HealthChecks != 3 || got.HealthFailures != 2 {
			t.Errorf("%d checks and %d failures, want 3 and 2", got.HealthChecks, got.HealthFailures)
		}
		s.end()
	})
}

func TestWaitersOutlastAServersAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, fail: errDown}
		start(t, s, Options[string, *link]{})
		var all sync.WaitGroup
		began := time.Now()
		for range 12 {
			all.Go(func() { s.get(a(6, 1)).Release() })
		}
		time.Sleep(20 * time.Second)
		tries, _, _ := s.seen()
		if tries < 40 || tries > 300 {
			t.Errorf("%d tries in 20 s, want some each second and no storm", tries)
		}
		s.setFail(nil)
		all.Wait()
		if took := time.Since(began) - 20*time.Second; took > backoffWaited {
			t.Errorf("whole %v after the server's return, want at most %v", took, backoffWaited)
		}
		s.end()
	})
}

func TestWaitEndsAtItsTimeoutWithTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, fail: errDown}
		start(t, s, Options[string, *link]{})
		began := time.Now()
		_, err := s.pool.Acquire(t.Context(), a(6, 1), Ask{Timeout: 35 * time.Second})
		// When no try can be made in the time that is left, it is told so at once.
		took := time.Since(began)
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, errDown) || took > 35*time.Second || took < 35*time.Second-backoffWaited {
			t.Errorf("after %v: %v", took, err)
		}
		if s := s.pool.Stats(); s.Failed[TimedOut] != 1 || s.Waiting != 0 || s.Opening > 1 {
			t.Errorf("left behind: %+v", s)
		}
		s.end()
	})
}

func TestPermanentFailureIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, fail: errForever, delay: time.Second}
		start(t, s, Options[string, *link]{})
		began := time.Now()
		_, err := s.pool.Acquire(t.Context(), a(6, 1), Ask{Timeout: 35 * time.Second})
		if !errors.Is(err, ErrDown) || !errors.Is(err, errForever) || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		s.end()
	})
}

func TestLostConnectionIsReopenedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 8, delay: time.Second}
		start(t, s, Options[string, *link]{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				l := s.get(a(6, 8))
				time.Sleep(time.Second)
				l.Lost()
				l.Release()
				s.get(a(6, 8)).Release()
			})
		}
		all.Wait()
		s.wantOpens(2)
		s.wantClosed("1 lost")
		s.end()
	})
}

func TestConnectionThatEndsByItselfLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 8}
		start(t, s, Options[string, *link]{Min: 1, IdleTimeout: time.Hour})
		l := s.get(a(6, 8))
		l.Release()
		close(l.Conn().done)
		s.wantClosed("1 lost")
		s.wantOpens(2) // Min is restored without a caller
		s.end()
	})
}

func TestTotalIsSharedByEvictingTheLeastRecentlyUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{Total: 3})
		key := func(id string) *Key[string] { return &Key[string]{ID: id, Max: 1, Slots: 1} }
		for _, id := range []string{"a", "b", "c"} {
			s.get(key(id)).Release()
			time.Sleep(time.Second)
		}
		s.get(key("a")).Release()
		s.get(key("d")).Release()
		s.wantClosed("2 evicted")
		busy := []Lease[string, *link]{s.get(key("a")), s.get(key("c")), s.get(key("d"))}
		began := time.Now()
		time.AfterFunc(time.Minute/2, func() { busy[1].Release() })
		s.get(key("e")).Release()
		if waited := time.Since(began); waited != time.Minute/2 {
			t.Errorf("waited %v for room, want until a connection fell idle", waited)
		}
		busy[0].Release()
		busy[2].Release()
		if _, _, most := s.seen(); most > 3 {
			t.Errorf("%d connections at once, want 3 in all", most)
		}
		s.end()
	})
}

func TestOwnedGroupIsLostWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{Min: 1, IdleTimeout: time.Minute, MaxAge: 30 * time.Second})
		key := &Key[string]{ID: "session", Max: 1, Slots: 1, Owned: true}
		s.get(key).Release()
		time.Sleep(59 * time.Second)
		s.wantClosed() // not replaced at its age
		time.Sleep(time.Second)
		s.wantClosed("1 idle")
		if _, err := s.pool.Acquire(t.Context(), key, Ask{Timeout: time.Minute}); !errors.Is(err, ErrLost) {
			t.Fatalf("got %v, want to be told that the state is gone", err)
		}
		l := s.get(key) // told once, then afresh
		l.Lost()
		l.Release()
		l = s.get(key) // the holder of the lease knew
		s.pool.End(only("session"))
		l.Release()
		s.wantClosed("1 idle", "2 lost", "3 session")
		s.wantOpens(3)
		s.end()
	})
}

func TestWholeConnectionIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 8}
		start(t, s, Options[string, *link]{})
		shared := s.get(a(1, 8))
		began := time.Now()
		var all sync.WaitGroup
		all.Go(func() {
			whole, err := s.pool.Acquire(t.Context(), a(1, 8), Ask{Whole: true, Timeout: time.Minute})
			if err != nil || time.Since(began) != time.Second {
				t.Errorf("whole connection after %v, %v", time.Since(began), err)
				return
			}
			time.Sleep(time.Second)
			whole.Release()
		})
		synctest.Wait()
		all.Go(func() { // behind it in the queue although there is a free slot
			l := s.get(a(1, 8))
			if time.Since(began) != 2*time.Second {
				t.Errorf("slot after %v, want it when the whole connection is back", time.Since(began))
			}
			l.Release()
		})
		synctest.Wait()
		time.Sleep(time.Second)
		shared.Release()
		all.Wait()
		s.end()
	})
}

func TestReleasingTwiceHasNoEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 2}
		start(t, s, Options[string, *link]{})
		first := s.get(a(1, 2))
		if !first.Release() || first.Release() {
			t.Error("want the first release to count and the second not to")
		}
		second := s.get(a(1, 2))
		if first.Release() || first.Held() || !second.Held() {
			t.Error("an old lease gave back the slot of a new one")
		}
		second.Release()
		s.end()
	})
}

func TestSoleConnectionMakesOthersUnwanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 48, sole: true, delay: time.Second}
		start(t, s, Options[string, *link]{Min: 2})
		var all sync.WaitGroup
		for range 40 {
			all.Go(func() { s.get(a(6, 8)).Release() })
		}
		all.Wait()
		synctest.Wait()
		if got := s.pool.Stats(); got.Ready != 1 || len(got.OpenFailures) != 0 {
			t.Errorf("%d ready, %v failures; want one connection and no failure", got.Ready, got.OpenFailures)
		}
		s.end()
	})
}

func TestCloseLetsCallsFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{})
		held := s.get(a(1, 1))
		waiting := make(chan error)
		go func() {
			_, err := s.pool.Acquire(t.Context(), a(1, 1), Ask{Timeout: time.Minute})
			waiting <- err
		}()
		synctest.Wait()
		time.AfterFunc(3*time.Second, func() { held.Release() })
		began := time.Now()
		go s.pool.Close(context.Background())
		if err := <-waiting; !errors.Is(err, ErrClosed) || time.Since(began) != 0 {
			t.Errorf("the waiter got %v after %v", err, time.Since(began))
		}
		if err := s.pool.Close(context.Background()); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("closed after %v: %v", time.Since(began), err)
		}
		if _, err := s.pool.Acquire(t.Context(), a(1, 1), Ask{Timeout: time.Minute}); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		s.wantClosed("1 shutdown")
	})
}

func TestCloseCutsCallsOffWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, delay: time.Second}
		start(t, s, Options[string, *link]{})
		held := s.get(a(2, 1))
		go s.pool.Acquire(t.Context(), a(2, 1), Ask{Timeout: time.Minute}) // an opening under way
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		err := s.pool.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("closed after %v: %v", time.Since(began), err)
		}
		s.wantClosed("1 shutdown")
		held.Release()
		s.wantClosed("1 shutdown")
	})
}

// TestSessionKeepsItsConnection: neither many calls nor other limits replace
// what a session has without its being told.
func TestSessionKeepsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 2}
		p := start(t, s, Options[string, *link]{MaxCalls: 3, MaxAge: time.Minute})
		key := &Key[string]{ID: "session", Max: 1, Slots: 2, Owned: true}
		for range 10 {
			s.get(key).Release()
			time.Sleep(time.Minute)
		}
		s.wantOpens(1)
		s.get(a(1, 1)).Release()
		p.Change(func(o *Options[string, *link]) { o.Total = 1 }, func(id string) Key[string] {
			if id == key.ID {
				return *key
			}
			return *a(1, 1)
		}, func(*link) int { return 0 })
		s.wantClosed("1 surplus") // the least recently used
		if _, err := p.Acquire(t.Context(), key, Ask{Timeout: time.Minute}); !errors.Is(err, ErrLost) {
			t.Errorf("got %v, want to be told that the state is gone", err)
		}
		s.end()
	})
}

// TestResumeEndsPause: a Pause that waits for calls does not go on waiting once
// they may begin again.
func TestResumeEndsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 2}
		start(t, s, Options[string, *link]{})
		held := s.get(a(1, 2))
		paused := make(chan error)
		go func() { paused <- s.pool.Pause(t.Context()) }()
		synctest.Wait()
		s.pool.Resume()
		if err := <-paused; !errors.Is(err, ErrResumed) {
			t.Errorf("got %v", err)
		}
		held.Release()
		s.end()
	})
}

// TestReplacementsKeepToCaps: connections whose age has come are replaced no
// faster than connections may be opened, and while one that was replaced has
// calls left, there is none beyond the one.
func TestReplacementsKeepToCaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, delay: 10 * time.Second}
		p := start(t, s, Options[string, *link]{Min: 3, MaxAge: time.Minute, MaxOpening: 1})
		var held []Lease[string, *link]
		for _, id := range []string{"a", "b"} {
			for range 3 {
				held = append(held, s.get(&Key[string]{ID: id, Max: 3, Slots: 1}))
			}
		}
		for range 600 {
			time.Sleep(time.Second)
			if n := p.Stats().Opening; n > 1 {
				t.Fatalf("%d openings at once, want 1", n)
			}
			if _, _, most := s.seen(); most > 8 {
				t.Fatalf("%d connections at once, want three and one in each group", most)
			}
		}
		for _, l := range held {
			l.Release()
		}
		time.Sleep(2 * time.Minute)
		if n := s.pool.Stats().Closed[Age]; n < 6 {
			t.Errorf("%d replaced, want all that were held", n)
		}
		s.end()
	})
}

// TestRefusedReplacementIsTriedLessAndLessOften has a connection come to its
// age when the server refuses to open another.
func TestRefusedReplacementIsTriedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{Min: 1, MaxAge: time.Minute})
		s.get(a(1, 1)).Release()
		s.setFail(errForever)
		time.Sleep(3 * time.Minute)
		opens, _, _ := s.seen()
		if opens < 3 || opens > 40 {
			t.Errorf("%d tries in two minutes", opens-1)
		}
		if got := s.pool.Stats().OpenFailures; got[ForAge] != uint64(opens-1) || len(got) != 1 {
			t.Errorf("failures to open %v, want all %d for age", got, opens-1)
		}
		s.get(a(1, 1)).Release() // the old one still serves
		s.wantClosed()
		s.setFail(nil)
		time.Sleep(45 * time.Second) // the next try is in 30 s at most
		s.wantClosed("1 age")
		s.end()
	})
}

// TestTheWornConnectionIsReplaced, and not one beside it that never expires.
func TestTheWornConnectionIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{Min: 2, MaxCalls: 3})
		busy, idle := s.get(a(2, 1)), s.get(a(2, 1))
		busy.Release()
		for range 2 { // the second connection has its calls
			busy = s.get(a(2, 1))
			busy.Release()
		}
		worn := busy.Conn().id
		idle.Release()
		synctest.Wait()
		s.wantClosed(fmt.Sprint(worn, " calls"))
		s.wantOpens(3)
		s.end()
	})
}
