package slots

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestOpeningsAtOnceFallWithFailuresAndRecover has forty groups want a
// connection of a server that is down, and then is not: after its return they
// come one, two, three at a time, and so on.
func TestOpeningsAtOnceFallWithFailuresAndRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, fail: errDown, delay: time.Second}
		start(t, s, Options[string, *link]{MaxOpening: 16})
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				key := &Key[string]{ID: fmt.Sprint(i), Max: 1, Slots: 1}
				if l, err := s.pool.Acquire(t.Context(), key, Ask{Timeout: time.Minute}); err != nil {
					t.Error(err)
				} else {
					l.Release()
				}
			})
		}
		synctest.Wait()
		if got := s.pool.Stats(); got.Opening != 16 || got.MaxOpening != 16 {
			t.Errorf("at first %d are being opened, and %d may be; want 16", got.Opening, got.MaxOpening)
		}
		time.Sleep(8 * time.Second)
		if got := s.pool.Stats(); got.MaxOpening != 1 || got.Opening > 1 {
			t.Errorf("after failures %d are being opened, and %d may be; want 1", got.Opening, got.MaxOpening)
		}
		s.setFail(nil)
		for s.pool.Stats().Waiting > 0 {
			got := s.pool.Stats()
			if got.Opening > got.MaxOpening || got.MaxOpening > 1+int(got.Opened) {
				t.Errorf("%d are being opened, %d may be after %d successes", got.Opening, got.MaxOpening, got.Opened)
			}
			time.Sleep(time.Second / 10)
		}
		all.Wait()
		if got := s.pool.Stats(); got.MaxOpening != 16 {
			t.Errorf("after recovery %d may be opened at once, want 16", got.MaxOpening)
		}
		s.end()
	})
}

// TestOpeningThatIsNotNeededAnyMoreIsNotBegun: between the decision and the
// dial the only caller who wanted it has gone.
func TestOpeningThatIsNotNeededAnyMoreIsNotBegun(t *testing.T) {
	s := &server{slots: 1}
	start(t, s, Options[string, *link]{})
	s.get(a(2, 1)).Release()
	g := s.pool.groups["a"]
	s.pool.mu.Lock()
	if !s.pool.takeRoomLocked(g, true, s.pool.now()) {
		t.Fatal("no room")
	}
	s.pool.openLocked(g, ForWaiters)
	s.pool.mu.Unlock()
	for s.pool.Stats().Elided == 0 {
	}
	if got := s.pool.Stats(); got.Opening != 0 || got.Opened != 1 || got.Opens[ForWaiters] != 1 {
		t.Errorf("got %+v", got)
	}
	s.end()
	if s.opens != 1 || s.pool.total != 0 {
		t.Errorf("%d openings, room for %d not given back", s.opens, s.pool.total)
	}
}

// TestDeadlineThatCannotBeMetIsToldAtOnce: who has less time than there is
// until the next try to connect need not wait for nothing.
func TestDeadlineThatCannotBeMetIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, fail: errDown}
		start(t, s, Options[string, *link]{})
		told := 0
		for range 100 {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, err := s.pool.Acquire(ctx, a(1, 1), Ask{Timeout: time.Minute})
			cancel()
			var failed *WaitError
			switch {
			case errors.Is(err, context.DeadlineExceeded):
			case !errors.As(err, &failed) || !errors.Is(err, ErrTimeout) || !errors.Is(err, errDown):
				t.Errorf("got %v", err)
			case time.Since(began)+failed.RetryIn < 50*time.Millisecond:
				t.Errorf("told after %v that the next try is in %v, which is in time", time.Since(began), failed.RetryIn)
			default:
				told++
			}
			time.Sleep(time.Millisecond)
		}
		if told < 50 {
			t.Errorf("%d of 100 callers were told before their time was up", told)
		}
		s.end()
	})
}

// TestSilentConnectionIsChecked: a connection with a call in flight, from which
// nothing comes back, is checked after two looks; a busy one is not.
func TestSilentConnectionIsChecked(t *testing.T) {
	for _, owned := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{slots: 2}
			start(t, s, Options[string, *link]{Min: 1, CheckInterval: 5 * time.Minute})
			key := &Key[string]{ID: "a", Max: 1, Slots: 2, Owned: owned}
			long := s.get(key)
			for range 600 { // traffic proves more than a check does
				s.get(key).Release()
				time.Sleep(time.Second)
			}
			if _, checks, _ := s.seen(); checks != 0 {
				t.Errorf("%d checks beside traffic", checks)
			}
			time.Sleep(2 * silence)
			if _, checks, _ := s.seen(); checks != 1 {
				t.Errorf("%d checks of a silent connection, want 1", checks)
			}
			s.wantClosed()
			s.setFail(errDown)
			time.Sleep(3 * silence)
			if owned { // one that is slow must not lose its state
				if s.pool.Stats().Ready != 1 || !long.Held() {
					t.Error("a session's connection was given up while its call ran")
				}
			} else if got := s.pool.Stats(); got.Retired != 1 || !long.Held() {
				t.Errorf("%d retired; want the call to go on and no other to come to it", got.Retired)
			}
			s.setFail(nil)
			long.Release()
			if !owned {
				s.wantClosed("1 unhealthy")
			}
			s.end()
		})
	}
}

// TestRefusedAccountIsTriedOnceAtATime: after credentials were refused, one
// opening finds out whether they are accepted again, however many groups want
// one: a server may lock an account out.
func TestRefusedAccountIsTriedOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, delay: time.Second, fail: errForever}
		start(t, s, Options[string, *link]{MaxOpening: 16})
		for round := range 4 {
			before, _, _ := s.seen()
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					key := &Key[string]{ID: fmt.Sprint(i % 10), Max: 6, Slots: 1, Account: "ann"}
					if _, err := s.pool.Acquire(t.Context(), key, Ask{Timeout: time.Minute}); !errors.Is(err, ErrDown) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if after, _, _ := s.seen(); round > 0 && after-before > 1 {
				t.Errorf("round %d: %d openings with refused credentials", round, after-before)
			}
			time.Sleep(time.Minute)
		}
		s.end()
	})
}

// TestGroupThatEndedOpensNothing: a connection that lands after its group has
// ended is not replaced, for Min or otherwise.
func TestGroupThatEndedOpensNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1, delay: time.Second}
		start(t, s, Options[string, *link]{Min: 1})
		go s.pool.Acquire(t.Context(), a(1, 1), Ask{Timeout: time.Minute}) //nolint:errcheck // it is to be told that the group has ended
		synctest.Wait()
		s.pool.End(only("a"))
		time.Sleep(time.Minute)
		s.wantOpens(1)
		s.end()
	})
}

// TestSpareIsOpenedAfterALoss: a session whose state is lost needs no
// connection, so the next one shall find one.
func TestSpareIsOpenedAfterALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{Min: 1, IdleTimeout: 10 * time.Minute})
		l := s.get(&Key[string]{ID: "s", Max: 1, Slots: 1, Owned: true, Spare: "spare"})
		l.Release()
		close(l.Conn().done)
		time.Sleep(time.Minute)
		if got := s.pool.Stats(); got.Ready != 1 {
			t.Errorf("%d ready, want a spare", got.Ready)
		}
		s.end()
	})
}

// TestWornConnectionSaysSo: it is closed for its calls, replaced or not.
func TestWornConnectionSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		start(t, s, Options[string, *link]{MaxCalls: 2})
		s.get(a(1, 1)).Release()
		s.get(a(1, 1)).Release()
		s.wantClosed("1 calls")
		s.end()
	})
}
