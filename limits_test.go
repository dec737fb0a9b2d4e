package mcpool_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestLimitsHoldForSeveralPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := &mcpool.Limits{MaxConnections: 3, MaxWaiting: 2}
		var servers [2]server
		var pools [2]*mcpool.Pool
		for i := range pools {
			servers[i].OpenDelay = time.Second
			pools[i] = servers[i].pool(t, func(c *mcpool.Config) { c.Limits = limits })
		}
		open := func() int { return servers[0].Open() + servers[1].Open() }
		for n := range 3 {
			if _, err := call(t.Context(), pools[0], rpc.Caller{Principal: fmt.Sprint(n)}, "write", fmt.Sprint(n)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if _, err := call(t.Context(), pools[1], nobody, "write", "other"); err != nil {
			t.Fatal(err)
		}
		if n := pools[0].Stats().Closed[mcpool.ClosedEvicted]; n != 1 || open() != 3 || servers[1].Open() != 1 {
			t.Errorf("%d connections made room, %d are open", n, open())
		}
		if _, err := call(t.Context(), pools[0], rpc.Caller{Principal: "0"}, "write", "again"); err != nil {
			t.Error(err)
		}
		if n := servers[0].Sessions(); n != 4 || open() != 3 {
			t.Errorf("%d connections were opened and %d are open; want the least recently used to have made room", n, open())
		}

		// All are lent whole: two callers wait, whichever pool they ask.
		var held []mcpool.Lease
		for i, p := range []*mcpool.Pool{pools[0], pools[0], pools[1]} {
			who := rpc.Caller{Principal: []string{"0", "2", ""}[i]}
			lease, err := p.Acquire(t.Context(), who, mcpool.Whole)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, lease)
		}
		var all sync.WaitGroup
		for i := range pools {
			all.Go(func() {
				if _, err := call(t.Context(), pools[i], rpc.Caller{Principal: "new"}, "write", "new"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if _, err := pools[0].Acquire(t.Context(), rpc.Caller{Principal: "third"}, mcpool.Slot); !errors.Is(err, mcpool.ErrQueueFull) {
			t.Errorf("the third to wait: %v", err)
		}
		for _, l := range held {
			l.Release()
		}
		all.Wait()
		if open() > 3 {
			t.Errorf("%d connections are open", open())
		}
		if err := pools[0].Reload(mcpool.Server{Name: "test", URL: "http://server.test/mcp", RoundTripper: &servers[0].network}, nil); err == nil {
			t.Error("limits were changed")
		}
		for _, p := range pools {
			closePool(t, p)
		}
	})
}

func TestLimitsCountProcesses(t *testing.T) {
	limits := &mcpool.Limits{MaxProcesses: 1}
	var pools [2]*mcpool.Pool
	for i := range pools {
		config := mcpool.DefaultConfig()
		config.Limits, config.Sharing = limits, mcpool.SharePrincipal
		path, args, env := mcptest.Child(mcptest.Normal)
		p, err := mcpool.New(mcpool.Server{Name: fmt.Sprint("child", i), Command: path, Args: args, Env: env}, &config)
		if err != nil {
			t.Fatal(err)
		}
		pools[i] = p
	}
	for n := range 4 {
		p := pools[n%2]
		if _, err := call(t.Context(), p, nobody, "echo", fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
		if a, b := pools[0].Stats(), pools[1].Stats(); a.Connections+b.Connections != 1 {
			t.Errorf("%d and %d children", a.Connections, b.Connections)
		}
	}
	for _, p := range pools {
		closePool(t, p)
	}
}

func TestCapPerPrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnectionsPerPrincipal = 2; c.MaxWaitingPerPrincipal = 1 })
		ann := func(i int) rpc.Caller {
			return rpc.Caller{Principal: "ann", Capabilities: rpc.Capabilities{Roots: i&1 != 0, Sampling: i&2 != 0, Elicitation: i&4 != 0}}
		}
		met := map[string]bool{}
		for _, who := range []rpc.Caller{{Principal: "bob"}, ann(0), ann(1), ann(2), ann(3)} {
			session, err := call(t.Context(), p, who, "write", "x")
			if err != nil {
				t.Fatal(err)
			}
			met[session] = true
			synctest.Wait()
			time.Sleep(time.Second)
		}
		if s.Open() != 3 || len(met) != 5 {
			t.Errorf("%d connections are open, want two of ann's and bob's; %d were", s.Open(), len(met))
		}
		again, err := call(t.Context(), p, rpc.Caller{Principal: "bob"}, "write", "x")
		if err != nil || !met[again] {
			t.Errorf("bob's connection made room for ann's: %v", err)
		}

		var held []mcpool.Lease
		for _, i := range []int{2, 3} {
			lease, err := p.Acquire(t.Context(), ann(i), mcpool.Whole)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, lease)
		}
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := call(t.Context(), p, ann(0), "write", "waits"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if _, err := p.Acquire(t.Context(), ann(0), mcpool.Slot); !errors.Is(err, mcpool.ErrQueueFull) {
			t.Errorf("a second caller of ann's waits: %v", err)
		}
		for _, l := range held {
			l.Release()
		}
		all.Wait()
		closePool(t, p)
	})
}

func TestConnectionIsReplacedAfterItsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnectionCalls = 10 })
		met := map[string]int{}
		for range 35 {
			session, err := call(t.Context(), p, nobody, "write", "x")
			if err != nil {
				t.Fatal(err)
			}
			met[session]++
			synctest.Wait()
		}
		for session, calls := range met {
			if calls > 10 {
				t.Errorf("%d calls on %s", calls, session)
			}
		}
		if n := p.Stats().Closed[mcpool.ClosedCalls]; n != 3 || s.Sessions() != 4 {
			t.Errorf("%d replaced, %d opened; want 3 and 4", n, s.Sessions())
		}
		closePool(t, p)
	})
}

// TestReloadResizesConnections: the slots of connections that are open follow
// the setting, up at once and down as calls end.
func TestReloadResizesConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{CallDelay: time.Second}}
		slots := func(n int) func(*mcpool.Config) {
			return func(c *mcpool.Config) { c.MaxConnections, c.CallsPerConnection = 1, n }
		}
		p := s.pool(t, slots(2))
		began := time.Now()
		var all sync.WaitGroup
		for i := range 9 {
			all.Go(func() {
				if _, err := call(t.Context(), p, nobody, "write", fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
		}
		resize := func(at time.Duration, n int) {
			time.Sleep(at - time.Since(began))
			config := mcpool.DefaultConfig()
			slots(n)(&config)
			if err := p.Reload(mcpool.Server{Name: "test", URL: "http://server.test/mcp", RoundTripper: &s.network}, &config); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		resize(500*time.Millisecond, 5) // 2 began at 0, 3 more do now
		if n := p.Stats().CallsInFlight; n != 5 {
			t.Errorf("%d calls in flight after there is room for 5", n)
		}
		resize(700*time.Millisecond, 1)
		if stats := p.Stats(); stats.CallsInFlight != 5 || stats.Slots != 1 {
			t.Errorf("%d calls in flight, %d slots", stats.CallsInFlight, stats.Slots)
		}
		all.Wait()
		// At 1 s there are 3 left in flight, at 1.5 s none: then one by one.
		if took := time.Since(began); took != 5500*time.Millisecond || s.Sessions() != 1 {
			t.Errorf("took %v on %d connections", took, s.Sessions())
		}
		closePool(t, p)
	})
}

// TestRefusedCredentialsAreTheirPrincipalsAffair: who is refused is told at
// once and asked for again less and less often; nobody else notices.
func TestRefusedCredentialsAreTheirPrincipalsAffair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		refuse := true
		tries := 0
		s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			if (method == "initialize" || method == "server/discover") && refuse {
				tries++
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			return false
		}
		p := s.pool(t, nil)
		for range 600 {
			_, err := call(t.Context(), p, rpc.Caller{Principal: "ann"}, "write", "1")
			if !errors.Is(err, mcpool.ErrUnavailable) || !mcpool.SafeToRetry(err) {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if tries > 40 {
			t.Errorf("%d tries in a minute", tries)
		}
		if b := p.Stats().Breaker; b != mcpool.BreakerClosed {
			t.Errorf("the server's breaker is %s", b)
		}
		refuse = false
		began := time.Now()
		if _, err := call(t.Context(), p, rpc.Caller{Principal: "bob"}, "write", "2"); err != nil || time.Since(began) != 0 {
			t.Errorf("another principal after %v: %v", time.Since(began), err)
		}
		time.Sleep(30 * time.Second)
		if _, err := call(t.Context(), p, rpc.Caller{Principal: "ann"}, "write", "3"); err != nil {
			t.Error(err)
		}
		closePool(t, p)
	})
}

// TestReloadReachesWhatIsBeingOpened, and a call that waits since before it
// does not bring the old settings back.
func TestReloadReachesWhatIsBeingOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: mcptest.Server{OpenDelay: 2 * time.Second, CallDelay: time.Second}}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnections, c.CallsPerConnection = 6, 8 })
		var all sync.WaitGroup
		ask := func(i int) {
			all.Go(func() {
				if _, err := call(t.Context(), p, nobody, "write", fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
		}
		ask(0)
		time.Sleep(time.Second)
		config := mcpool.DefaultConfig()
		config.MaxConnections, config.CallsPerConnection = 1, 1
		if err := p.Reload(mcpool.Server{Name: "test", URL: "http://server.test/mcp", RoundTripper: &s.network}, &config); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			ask(i + 1)
		}
		all.Wait()
		if n := p.Conns()[0].Slots(); n != 1 || s.Sessions() != 1 {
			t.Errorf("%d slots on one of %d connections, want 1 and 1", n, s.Sessions())
		}
		closePool(t, p)
	})
}

func TestReloadUnderLimitsKeepsTheKindOfServer(t *testing.T) {
	config := mcpool.DefaultConfig()
	config.Limits = &mcpool.Limits{MaxProcesses: 1}
	p, err := mcpool.New(mcpool.Server{Name: "x", URL: "http://a.invalid/"}, &config)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Reload(mcpool.Server{Name: "x", Command: "true"}, &config); err == nil {
		t.Error("a server that no limit counts as a process became one")
	}
	closePool(t, p)
}
