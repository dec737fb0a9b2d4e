package mcpool_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// roundTrips counts the messages that open connections.
func roundTrips(s *mcptest.Server) [3]int {
	return [3]int{s.Requests("server/discover"), s.Requests("initialize"), s.Requests("notifications/initialized")}
}

func TestOpeningsTakeNoMoreRoundTripsThanTheyMust(t *testing.T) {
	for name, test := range map[string]struct {
		modern       bool
		protocol     string
		first, later [3]int // discover, initialize, initialized
	}{
		"legacy":         {false, "", [3]int{1, 1, 1}, [3]int{0, 1, 1}},
		"legacy, set so": {false, "2025-11-25", [3]int{0, 1, 1}, [3]int{0, 1, 1}},
		"modern":         {true, "", [3]int{1, 0, 0}, [3]int{0, 0, 0}},
		"modern, set so": {true, "2026-07-28", [3]int{1, 0, 0}, [3]int{0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{}
				s.Modern = test.modern
				s.network.Handler = &s.Server
				p, err := mcpool.New(mcpool.Server{
					Name: "test", URL: "http://server.test/mcp", Protocol: test.protocol, RoundTripper: &s.network,
				}, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer closePool(t, p)
				want := [3]int{}
				for i, who := range []string{"ann", "bob", "cem"} {
					if _, err := call(t.Context(), p, rpc.Caller{Principal: who}, "echo", who); err != nil {
						t.Fatal(err)
					}
					more := test.later
					if i == 0 {
						more = test.first
					}
					for k := range want {
						want[k] += more[k]
					}
					if got := roundTrips(&s.Server); got != want {
						t.Errorf("%d connections: %v of discover, initialize and initialized, want %v", i+1, got, want)
					}
				}
				if n := p.Stats().Opened; n != 3 {
					t.Errorf("%d connections, want 3", n)
				}
			})
		})
	}
}

// A server that is replaced by one of the other era is asked again, as soon as
// it says so, and no call fails.
func TestServerChangesItsEra(t *testing.T) {
	for name, modernFirst := range map[string]bool{"to legacy": true, "to modern": false} {
		t.Run(name, func(t *testing.T) {
			replace(t, &mcptest.Server{Modern: modernFirst}, &mcptest.Server{Modern: !modernFirst},
				map[bool]string{true: "modern", false: "legacy"}[!modernFirst])
		})
	}
}

// replace has one server stand in the place of another, with calls before and
// after. era is that of the second.
func replace(t *testing.T, first, second *mcptest.Server, era string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		var now atomic.Pointer[mcptest.Server]
		now.Store(first)
		p := s.poolOver(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { now.Load().ServeHTTP(w, r) }), nil)
		defer closePool(t, p)
		for _, id := range []string{"a", "b"} {
			for range 3 {
				if _, err := call(t.Context(), p, nobody, "write", id); err != nil {
					t.Fatalf("call %s: %v", id, err)
				}
			}
			now.Store(second)
			first.EndStreams(false)
		}
		if a, b := first.Executions()["a"], second.Executions()["b"]; a != 3 || b != 3 {
			t.Errorf("%d and %d calls ran, want 3 and 3", a, b)
		}
		synctest.Wait() // the connection to the first is closed
		if got := p.Conns()[0].Era(); got != era {
			t.Errorf("the connection is %s, want %s", got, era)
		}
	})
}

// Also where only an opening finds that out, since there was no call meanwhile.
func TestOpeningFindsAnotherEra(t *testing.T) {
	for name, modernFirst := range map[string]bool{"to legacy": true, "to modern": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{}
				s.Modern = modernFirst
				p := s.pool(t, func(c *mcpool.Config) { c.MinConnections = 0 })
				next := &mcptest.Server{Modern: !modernFirst}
				defer closePool(t, p)
				if _, err := call(t.Context(), p, nobody, "write", "1"); err != nil {
					t.Fatal(err)
				}
				p.Reset()
				synctest.Wait()
				s.network.Handler = next
				if _, err := call(t.Context(), p, nobody, "write", "2"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got, want := p.Conns()[0].Era(), map[bool]string{true: "legacy", false: "modern"}[modernFirst]; got != want {
					t.Errorf("the connection is %s, want %s", got, want)
				}
			})
		})
	}
}

// What is known of a modern server is no word about whether it is there: one
// that does not answer is waited for, and asked before it is called again.
func TestKnownServerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.Modern = true
		p := s.pool(t, nil)
		defer closePool(t, p)
		if _, err := call(t.Context(), p, nobody, "echo", "1"); err != nil {
			t.Fatal(err)
		}
		s.network.SetDown(true)
		answered := make(chan error)
		go func() {
			_, err := call(t.Context(), p, rpc.Caller{Principal: "ann"}, "write", "2")
			answered <- err
		}()
		time.Sleep(5 * time.Second)
		if now := p.Stats(); now.Opened != 2 || now.OpenFailuresTotal() < 5 {
			t.Errorf("%d connections and %d failures to open while the server is away, want the one it had, one more and some failures", now.Opened, now.OpenFailuresTotal())
		}
		s.network.SetDown(false)
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		if n := s.Requests("server/discover"); n != 2 || s.Executions()["2"] != 1 {
			t.Errorf("asked %d times, ran %d times, want 2 and 1", n, s.Executions()["2"])
		}
	})
}

// A server that left its checks unanswered is asked before it is called again,
// although nobody said that it is gone.
func TestSilentServerIsDoubted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.Modern = true
		var hung atomic.Bool
		s.Fault = func(r *http.Request, _ string, _ http.ResponseWriter) bool {
			if hung.Load() {
				<-r.Context().Done()
			}
			return hung.Load()
		}
		p := s.pool(t, nil)
		defer closePool(t, p)
		if _, err := call(t.Context(), p, nobody, "echo", "1"); err != nil {
			t.Fatal(err)
		}
		hung.Store(true)
		for p.Stats().Closed[mcpool.ClosedUnhealthy] == 0 {
			time.Sleep(time.Second)
		}
		before := s.Requests("server/discover")
		hung.Store(false)
		if _, err := call(t.Context(), p, ann, "echo", "2"); err != nil {
			t.Fatal(err)
		}
		if n := s.Requests("server/discover") - before; n < 1 {
			t.Error("the server was taken to be there")
		}
	})
}
