//go:build unix

package mysql

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestDatabaseThatIsDownIsTriedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		down := errors.New("down")
		tries := 0
		try := func(err error) error {
			return g.pass(t.Context(), func() error { tries++; return err })
		}
		for i, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			var paused *pausedError
			if err := try(down); !errors.Is(err, down) || !errors.As(err, &paused) || paused.after != pause*time.Second {
				t.Fatalf("try %d: got %v, %+v", i, err, paused)
			}
			time.Sleep(pause*time.Second - time.Millisecond)
			if err := try(nil); !errors.Is(err, down) || !errors.As(err, &paused) || paused.after != time.Millisecond {
				t.Errorf("before its time: got %v", err)
			}
			if tries != i+1 {
				t.Errorf("%d tries, want %d", tries, i+1)
			}
			time.Sleep(time.Millisecond)
		}
		if err := try(nil); err != nil {
			t.Error(err)
		}
		if err := try(down); !errors.Is(err, down) || time.Until(g.next) != time.Second {
			t.Errorf("after it was up: %v", err)
		}
	})
}

func TestOneCallerTriesForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		_ = g.pass(t.Context(), func() error { return errors.New("down") })
		time.Sleep(time.Second)
		tries, refused := 0, 0
		var mu sync.Mutex
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				err := g.pass(t.Context(), func() error {
					mu.Lock()
					tries++
					mu.Unlock()
					time.Sleep(time.Second)
					return nil
				})
				if err != nil {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			})
		}
		callers.Wait()
		if tries != 1 || refused != 9 {
			t.Errorf("%d tried and %d were told", tries, refused)
		}
		callers = sync.WaitGroup{}
		for range 10 { // when it is up, all at once
			callers.Go(func() { _ = g.pass(t.Context(), func() error { tries++; return nil }) })
			synctest.Wait()
		}
		callers.Wait()
		if tries != 11 {
			t.Errorf("%d tries", tries)
		}
	})
}

func TestCallerThatGoesAwaySaysNothingOfTheDatabase(t *testing.T) {
	var g gate
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.pass(ctx, func() error { return ctx.Err() }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := g.pass(t.Context(), func() error { return nil }); err != nil {
		t.Errorf("the next one: %v", err)
	}
}
