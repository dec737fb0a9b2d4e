package mcpool_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestPauseWaitsForCallsAndLosesNoCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{CallDelay: 3 * time.Second}}
		p := s.pool(t, nil)
		var all sync.WaitGroup
		all.Go(func() { call(t.Context(), p, nobody, "write", "before") })
		time.Sleep(time.Second)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Pause(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a call in flight: %v", err)
		}
		began := time.Now()
		if err := p.Pause(t.Context()); err != nil || time.Since(began) != time.Second {
			t.Errorf("paused after %v, %v; want when the call had ended", time.Since(began), err)
		}
		for range 3 {
			all.Go(func() {
				if _, err := call(t.Context(), p, nobody, "write", "after"); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(20 * time.Second)
		if n := s.InFlight(); n != 0 || p.Stats().Waiting != 3 || !p.Stats().Paused {
			t.Errorf("paused: %d calls at the server, %+v", n, p.Stats())
		}
		p.Resume()
		all.Wait()
		if n := s.Executions()["after"]; n != 3 {
			t.Errorf("%d of 3 waiting calls ran", n)
		}
		p.Resume() // has no effect
		closePool(t, p)
	})
}

func TestResetReplacesConnectionsAsTheyComeFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{CallDelay: 3 * time.Second, OpenDelay: time.Second}}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections = 2; c.CallsPerConnection = 1 })
		first, _ := call(t.Context(), p, nobody, "write", "1")
		var all sync.WaitGroup
		all.Go(func() {
			if again, err := call(t.Context(), p, nobody, "write", "2"); err != nil || again != first {
				t.Errorf("the call in flight was disturbed: %v", err)
			}
		})
		time.Sleep(time.Second)
		p.Reset()
		if next, err := call(t.Context(), p, nobody, "write", "3"); err != nil || next == first {
			t.Errorf("after Reset the old connection was lent again: %v", err)
		}
		all.Wait()
		synctest.Wait()
		if n := p.Stats().Closed[mcpool.ClosedReset]; n != 1 || s.Open() != 1 {
			t.Errorf("%d closed for the reset, %d open on the server; want 1 and 1", n, s.Open())
		}
		closePool(t, p)
	})
}

func TestConnectionBeingOpenedIsNotLentAfterReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: 2 * time.Second}}
		p := s.pool(t, nil)
		began := time.Now()
		time.AfterFunc(time.Second, p.Reset)
		if _, err := call(t.Context(), p, nobody, "write", "1"); err != nil || time.Since(began) < 3*time.Second {
			t.Errorf("answered after %v, %v; want on a connection opened after the reset", time.Since(began), err)
		}
		closePool(t, p)
	})
}

func TestDrainWaitsUntilOldConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{CallDelay: 3 * time.Second}}
		p := s.pool(t, nil)
		var all sync.WaitGroup
		all.Go(func() { call(t.Context(), p, nobody, "write", "1") })
		time.Sleep(time.Second)
		began := time.Now()
		if err := p.Drain(t.Context()); err != nil || time.Since(began) != 2*time.Second || s.Deletes() != 1 {
			t.Errorf("drained after %v with %d deleted, %v", time.Since(began), s.Deletes(), err)
		}
		all.Wait()
		closePool(t, p)
	})
}

func TestTooManyWaitersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{CallDelay: time.Second, OpenDelay: time.Second}}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections, c.CallsPerConnection, c.MaxWaiting = 1, 1, 3 })
		var all sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		for range 10 {
			all.Go(func() {
				_, err := call(t.Context(), p, nobody, "write", "x")
				mu.Lock()
				defer mu.Unlock()
				if errors.Is(err, mcpool.ErrQueueFull) && mcpool.SafeToRetry(err) {
					refused++
				} else if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		// The connection is being opened, so none of the ten found a slot.
		if refused != 7 || s.Executions()["x"] != 3 {
			t.Errorf("%d refused, %d ran; want 7 and 3", refused, s.Executions()["x"])
		}
		closePool(t, p)
	})
}

func TestBreakerTellsCallersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, nil)
		s.network.SetDown(true)
		began := time.Now()
		if _, err := call(t.Context(), p, nobody, "write", "1"); !errors.Is(err, mcpool.ErrAcquireTimeout) || !waitedOut(time.Since(began), 35*time.Second) {
			t.Errorf("who came before the breaker opened waits: %v after %v", err, time.Since(began))
		}
		told := 0
		for range 1000 {
			began := time.Now()
			_, err := call(t.Context(), p, nobody, "write", "2")
			if !errors.Is(err, mcpool.ErrUnavailable) || !mcpool.SafeToRetry(err) {
				t.Fatalf("with the breaker open: %v", err)
			}
			if time.Since(began) == 0 {
				told++
			}
			time.Sleep(10 * time.Millisecond)
		}
		// Half-open: the try that is due is made for whoever comes, and it fails
		// at once here too.
		if told != 1000 {
			t.Errorf("%d of 1000 callers were told at once", told)
		}
		if stats := p.Stats(); stats.OpenFailuresTotal() > 250 {
			t.Errorf("%d tries to connect in 45 s", stats.OpenFailuresTotal())
		}
		s.network.SetDown(false)
		time.Sleep(30 * time.Second)
		if _, err := call(t.Context(), p, nobody, "write", "3"); err != nil {
			t.Errorf("after the server's return: %v", err)
		}
		closePool(t, p)
	})
}

func TestReloadCyclesOnlyWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, other := &mcptest.Server{CallDelay: 3 * time.Second}, &mcptest.Server{}
		web := func(h *mcptest.Server) mcpool.Server {
			return mcpool.Server{Name: "test", URL: "http://server.test/mcp", RoundTripper: mcptest.RoundTripper(h)}
		}
		config := mcpool.DefaultConfig()
		config.CallsPerConnection = 1
		p, err := mcpool.New(web(s), &config)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				if _, err := call(t.Context(), p, nobody, "write", "before"); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Second)

		bad := config
		bad.MaxConnections = 0
		if err := p.Reload(web(other), &bad); err == nil {
			t.Error("nonsense was taken")
		}
		if err := p.Reload(mcpool.Server{Name: "another", URL: "http://a"}, &config); err == nil {
			t.Error("another name was taken")
		}
		if err := p.Reload(web(other), &config); err != nil {
			t.Fatal(err)
		}
		if _, err := call(t.Context(), p, nobody, "write", "after"); err != nil {
			t.Error(err)
		}
		all.Wait()
		synctest.Wait()
		if s.Executions()["before"] != 6 || other.Executions()["after"] != 1 || s.Open() != 0 || other.Sessions() != 1 {
			t.Errorf("before: %v, after: %v; %d sessions left on the old server, %d on the new one",
				s.Executions(), other.Executions(), s.Open(), other.Sessions())
		}
		closePool(t, p)
	})
}

func TestReloadOfSettingsKeepsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.network.Handler = &s.Server
		server := mcpool.Server{Name: "test", URL: "http://server.test/mcp", RoundTripper: &s.network}
		config := mcpool.DefaultConfig()
		config.CallsPerConnection = 1
		p, err := mcpool.New(server, &config)
		if err != nil {
			t.Fatal(err)
		}
		storm(t, p, 6)
		config.MaxConnections = 2
		config.IdleTimeout = time.Minute
		if err := p.Reload(server, &config); err != nil {
			t.Fatal(err)
		}
		storm(t, p, 6)
		if stats := p.Stats(); stats.Connections != 2 || s.Sessions() != 6 {
			t.Errorf("%d connections, %d sessions in all; want 2 of the old 6", stats.Connections, s.Sessions())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := p.Stats().Connections; n != 0 {
			t.Errorf("%d connections after the new idle timeout", n)
		}
		closePool(t, p)
	})
}

// TestCloseWaitsForOpeningsFromBeforeReload has an opening begin before a
// Reload and fail after it, when it still has a session to delete.
func TestCloseWaitsForOpeningsFromBeforeReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		var deleting atomic.Int32
		s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			switch {
			case method == "notifications/initialized":
				time.Sleep(2 * time.Second)
				http.Error(w, "out of order", http.StatusInternalServerError)
				return true
			case r.Method == http.MethodDelete:
				deleting.Add(1)
				defer deleting.Add(-1)
				<-r.Context().Done()
				return true
			}
			return false
		}
		p := s.pool(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := call(ctx, p, nobody, "write", "1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		other := mcpool.Server{Name: "test", URL: "http://other.test/mcp", RoundTripper: &s.network}
		if err := p.Reload(other, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond)
		if deleting.Load() != 1 {
			t.Fatal("the opening has not failed half way")
		}
		closePool(t, p)
		synctest.Wait()
		if deleting.Load() != 0 {
			t.Error("a request is under way after Close")
		}
		if err := p.Reload(other, nil); !errors.Is(err, mcpool.ErrPoolClosed) {
			t.Errorf("Reload after Close: %v", err)
		}
	})
}
