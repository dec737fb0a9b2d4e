package dbserver

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// takes is a database whose statements each take a second, or until ctx ends.
func takes(done func(sql string)) func(context.Context, engine.Statement, *result.Writer) error {
	return func(ctx context.Context, q engine.Statement, out *result.Writer) error {
		select {
		case <-time.After(time.Second):
			numbers(out, 1)
			done(q.SQL)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func TestPrincipalsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		s := serveFake(t, Options{MaxCallsPerPrincipal: 2}, Database{MaxConnections: 3, AcquireTimeout: time.Minute}, takes(func(sql string) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, sql)
		}))
		var wg sync.WaitGroup
		ask := func(principal string, i int) {
			wg.Go(func() {
				a, err := tryAs(t.Context(), s, principal, "read_data", object{"query": fmt.Sprint(principal, i)})
				if err != nil || a.IsError {
					t.Errorf("%s %d: %v, %v", principal, i, a, err)
				}
			})
			synctest.Wait()
		}
		for i := range 6 {
			ask("a", i) // two run, though there are three connections
		}
		for i := range 3 {
			ask("b", i) // one runs at once
		}
		for i := range 2 {
			ask("c", i)
		}
		start := time.Now()
		wg.Wait()
		// In each second three run. Of those who waited a was first, then b, then c.
		var seconds []string
		for i := 0; i < len(order); i += 3 {
			second := order[i:min(i+3, len(order))]
			slices.Sort(second) // they end in the same moment
			seconds = append(seconds, strings.Join(second, " "))
		}
		if got, want := strings.Join(seconds, ", "), "a0 a1 b0, a2 b1 c0, a3 b2 c1, a4 a5"; got != want {
			t.Errorf("order is %s, want %s", got, want)
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestWaitingInVainIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveFake(t, Options{MaxCallsPerPrincipal: 2}, Database{MaxConnections: 3}, func(ctx context.Context, _ engine.Statement, _ *result.Writer) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for _, principal := range []string{"a", "a", "b"} {
			wg.Go(func() { _, _ = tryAs(ctx, s, principal, "read_data", object{"query": "q"}) })
		}
		synctest.Wait()
		for _, c := range []struct{ principal, code, says string }{
			{"a", engine.ClientLimit, "2 calls of this caller are running, which is the limit, and 1 wait"},
			{"b", engine.PoolExhausted, "all 3 connections are in use, and 1 calls wait"},
			{"c", engine.PoolExhausted, "all 3 connections are in use, and 1 calls wait"},
		} {
			start := time.Now()
			a, err := tryAs(t.Context(), s, c.principal, "read_data", object{"query": "q"})
			if err != nil {
				t.Fatal(err)
			}
			wantCode(t, a, c.code)
			if e := a.StructuredContent.Error; !strings.Contains(e.Message, c.says) || !e.Retryable || time.Since(start) != DefaultAcquireTimeout {
				t.Errorf("%s after %v: %+v", c.principal, time.Since(start), e)
			}
		}
		// Who stops waiting leaves nothing behind, and takes nothing.
		cause := errors.New("gone")
		impatient, stop := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer stop()
		if _, err := tryAs(impatient, s, "d", "read_data", object{"query": "q"}); !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
		cancel()
		wg.Wait()
		q := s.databases[0].engine.(inTurns).turns
		if q.running != 0 || q.waiting != 0 || len(q.lines) != 0 || len(q.next) != 0 {
			t.Errorf("left over: %+v", q)
		}
	})
}

func TestOneConnectionIsLeftForOthers(t *testing.T) {
	for _, c := range []struct{ most, each, want int }{{8, 4, 4}, {4, 4, 3}, {2, 4, 1}, {1, 4, 1}, {8, 100, 7}} {
		if got := newTurns(c.most, c.each, time.Second).each; got != c.want {
			t.Errorf("%d of %d connections: got %d, want %d", c.each, c.most, got, c.want)
		}
	}
}

func TestManyCallersShareFewConnections(t *testing.T) {
	var running, most atomic.Int64
	s := serveFake(t, Options{}, Database{MaxConnections: 8, AcquireTimeout: time.Minute}, func(_ context.Context, q engine.Statement, out *result.Writer) error {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		numbers(out, 5)
		return nil
	})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			principal := fmt.Sprint("p", i%7)
			for n := range 20 {
				ctx, cancel := context.WithCancel(t.Context())
				if (i+n)%5 == 0 {
					go cancel()
				}
				a, err := tryAs(ctx, s, principal, "read_data", object{"query": "q", "limit": 3})
				if err == nil && (a.IsError || firstColumn(a) != "1 2 3") || err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, %v", a, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	q := s.databases[0].engine.(inTurns).turns
	q.mu.Lock()
	defer q.mu.Unlock()
	if most.Load() > 8 || q.waiting != 0 || len(q.next) != 0 {
		t.Errorf("%d ran at a time; left over: %+v", most.Load(), q)
	}
}

func TestATurnIsNotOneThatMayNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTurns(3, 2, time.Hour)
		enter := func(who string) (leave func()) {
			leave, err := q.enter(t.Context(), who)
			if err != nil {
				t.Error(err)
			}
			return leave
		}
		firstOfA, secondOfA, b := enter("a"), enter("a"), enter("b")
		var order []string
		var wg sync.WaitGroup
		for _, who := range []string{"a", "c"} {
			wg.Go(func() {
				leave := enter(who)
				order = append(order, who)
				leave()
			})
			synctest.Wait()
		}
		b() // a, whose turn it is, runs two
		synctest.Wait()
		if got := strings.Join(order, " "); got != "c" {
			t.Errorf("%s came in", got)
		}
		firstOfA()
		wg.Wait()
		secondOfA()
	})
}

func TestATurnThatComesAsItsCallerGoesIsPassedOn(t *testing.T) {
	q := newTurns(1, 1, time.Hour)
	for range 200 {
		leave, err := q.enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if leave, err := q.enter(ctx, "b"); err == nil {
				leave()
			}
		})
		for waits := 0; waits == 0; runtime.Gosched() {
			q.mu.Lock()
			waits = q.waiting
			q.mu.Unlock()
		}
		cancel()
		leave()
		wg.Wait()
		if q.running != 0 || len(q.lines) != 0 {
			t.Fatalf("left over: %+v", q)
		}
	}
}
