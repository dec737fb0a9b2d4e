package mcpool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// TestCallersReturnFromABlackHole has a server take everything in and answer
// nothing, not even with a reset: callers are told at ConnectionTimeout, or
// when their ctx ends, and the server's return is found.
func TestCallersReturnFromABlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		faults := &mcptest.Faults{Server: &s.Server, Plan: []byte{byte(mcptest.Swallow)}}
		p := s.poolOver(t, faults, nil)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				began := time.Now()
				_, err := call(t.Context(), p, nobody, "write", "1")
				if took := time.Since(began); took != 35*time.Second || !errors.Is(err, mcpool.ErrAcquireTimeout) || !mcpool.SafeToRetry(err) {
					t.Errorf("I-DEADLINE: without a ctx that ends, after %v: %v", took, err)
				}
			})
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				began := time.Now()
				_, err := call(ctx, p, nobody, "write", "2")
				if took := time.Since(began); took != 3*time.Second || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("I-DEADLINE: with a ctx of 3s, after %v: %v", took, err)
				}
			})
		}
		all.Wait()
		faults.Heal()
		began := time.Now()
		if _, err := call(t.Context(), p, nobody, "write", "3"); err != nil || time.Since(began) > 35*time.Second {
			t.Errorf("after its return, after %v: %v", time.Since(began), err)
		}
		closePool(t, p)
		if ran := s.Executions(); len(ran) != 1 || ran["3"] != 1 {
			t.Errorf("I-RETRYSAFE: ran %v, want the last call alone", ran)
		}
	})
}

// TestLeapOfHours suspends a laptop with calls in flight, whose answers will
// never come, and with sessions that the server has forgotten when it wakes up
// hours later. What is idle is found out by its check, or replaced at its age,
// or closed as idle; what was busy all the time by its next call, which
// succeeds all the same.
func TestLeapOfHours(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*mcpool.Config)
		closed mcpool.CloseReason // of three, by the time of the next call's answer
	}{
		"checks": {func(c *mcpool.Config) { c.IdleTimeout, c.MaxConnectionAge = 0, 0 },
			mcpool.ClosedUnhealthy},
		"age": {func(c *mcpool.Config) { c.IdleTimeout, c.HealthCheckInterval = 0, 0 },
			mcpool.ClosedAge},
		"idle": {func(c *mcpool.Config) { c.MaxConnectionAge, c.HealthCheckInterval = 0, 0 },
			mcpool.ClosedIdle},
		"none": {func(c *mcpool.Config) { c.IdleTimeout, c.MaxConnectionAge, c.HealthCheckInterval = 0, 0, 0 },
			mcpool.ClosedLost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{}
				p := s.pool(t, func(c *mcpool.Config) { test.change(c); c.CallsPerConnection = 1 })
				storm(t, p, 6)
				ctx, giveUp := context.WithCancel(t.Context())
				defer giveUp()
				var all sync.WaitGroup
				for range 3 {
					all.Go(func() {
						_, err := call(ctx, p, nobody, "sleep", "in flight", "ms", 24*time.Hour/time.Millisecond)
						if !errors.Is(err, context.Canceled) || mcpool.SafeToRetry(err) {
							t.Errorf("in flight: %v", err)
						}
					})
				}
				synctest.Wait()
				s.Expire()
				time.Sleep(7 * time.Hour)
				began := time.Now()
				if _, err := call(t.Context(), p, nobody, "write", "after"); err != nil || time.Since(began) > time.Second {
					t.Errorf("after the leap, after %v: %v", time.Since(began), err)
				}
				synctest.Wait()
				if closed := p.Stats().Closed; closed[test.closed] < 3 {
					t.Errorf("closed: %v, want 3 by %s", closed, test.closed)
				}
				giveUp()
				all.Wait()
				closePool(t, p)
				if ran := s.Executions(); ran["after"] != 1 || ran["in flight"] != 3 {
					t.Errorf("I-RETRYSAFE: ran %v, want each once", ran)
				}
			})
		})
	}
}

// TestHealthChecksAskTheServer has a modern server say that its introduction
// holds for a minute, which is kept: checks ask all the same.
func TestHealthChecksAskTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.Modern = true
		p := s.pool(t, func(c *mcpool.Config) { c.HealthCheckInterval = time.Second })
		defer closePool(t, p)
		if _, err := call(t.Context(), p, nobody, "echo", "1"); err != nil {
			t.Fatal(err)
		}
		before := s.Requests("server/discover")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if n := s.Requests("server/discover") - before; n < 10 {
			t.Errorf("%d requests in 20 s of checks each second", n)
		}
	})
}

// load has callers make calls at the same time, in real time, and wait for each
// as long as their patience goes, or hardly at all. before is called with the
// number of each call before it is made.
func load(t *testing.T, p *mcpool.Pool, callers, calls int, patience time.Duration, before func(n int)) (outcomes []outcome) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	var started atomic.Int64
	for n := range callers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 4))
			for i := range calls {
				before(int(started.Add(1)))
				limit := patience
				if random.IntN(4) == 0 {
					limit = time.Duration(random.IntN(20)) * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				o := outcome{id: fmt.Sprint(n, ".", i), tool: []string{"write", "echo", "put"}[random.IntN(3)]}
				_, o.err = call(ctx, p, nobody, o.tool, o.id, "ms", random.IntN(12))
				cancel()
				mu.Lock()
				outcomes = append(outcomes, o)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return outcomes
}

// untilSeen runs rounds of load until all that a test is about has been seen:
// how calls meet what befalls them is a matter of chance, and of the machine.
func untilSeen(t *testing.T, round func() tally, enough func(tally) bool) {
	t.Helper()
	var saw tally
	for range 20 {
		if saw.add(round()); t.Failed() || enough(saw) {
			return
		}
	}
	t.Errorf("too little has happened: %+v", saw)
}

// TestKilledProcesses kills servers that are child processes in the middle of
// calls. They keep a ledger in a file, which survives them.
func TestKilledProcesses(t *testing.T) {
	before := look(t)
	var lost uint64
	untilSeen(t, func() tally {
		saw, stats := killProcesses(t)
		lost += stats.Closed[mcpool.ClosedLost]
		return saw
	}, func(saw tally) bool {
		return saw.answered > 0 && saw.mayHaveRun > 0 && saw.twice > 0 && lost >= 5
	})
	leavesNothing(t, before)
}

func killProcesses(t *testing.T) (tally, mcpool.Stats) {
	t.Helper()
	ledger := filepath.Join(t.TempDir(), "ledger")
	path, args, env := mcptest.Child(mcptest.Normal)
	config := mcpool.DefaultConfig()
	config.Sharing, config.RetryAttempts = mcpool.ShareAll, 3
	config.MaxConnections, config.CallsPerConnection = 3, 4
	p, err := mcpool.New(mcpool.Server{Name: "child", Command: path, Args: args, Env: append(env, mcptest.KeepLedger(ledger))}, &config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ListTools(t.Context()); err != nil {
		t.Fatal(err)
	}
	outcomes := load(t, p, 12, 40, 5*time.Second, func(n int) {
		if n%25 == 0 {
			killOne(t)
		}
	})
	closePool(t, p)
	ran, err := mcptest.ReadLedger(ledger)
	if err != nil {
		t.Fatal(err)
	}
	return checkLedger(t, outcomes, ran, config.RetryAttempts), p.Stats()
}

// TestFaultsOverSockets is TestFaults in small over real TCP and net/http,
// which have retries and half-closed connections of their own.
func TestFaultsOverSockets(t *testing.T) {
	for name, start := range map[string]func(*httptest.Server) http.RoundTripper{
		"HTTP1": func(web *httptest.Server) http.RoundTripper { web.Start(); return nil },
		"HTTP2": func(web *httptest.Server) http.RoundTripper {
			web.EnableHTTP2 = true
			web.StartTLS()
			return web.Client().Transport
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := look(t)
			untilSeen(t, func() tally { return faultsOverSockets(t, start) }, func(saw tally) bool {
				return saw.answered > 0 && saw.safe > 0 && saw.mayHaveRun > 0 && saw.twice > 0
			})
			leavesNothing(t, before)
		})
	}
}

func faultsOverSockets(t *testing.T, start func(*httptest.Server) http.RoundTripper) tally {
	t.Helper()
	faults := &mcptest.Faults{Server: &mcptest.Server{}, Plan: randomBytes(2)}
	web := httptest.NewUnstartedServer(faults)
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	tripper := start(web)
	config := mcpool.DefaultConfig()
	config.ConnectionTimeout, config.RetryAttempts = 300*time.Millisecond, 3
	p, err := mcpool.New(mcpool.Server{Name: "web", URL: web.URL, RoundTripper: tripper}, &config)
	if err != nil {
		t.Fatal(err)
	}
	for { // until the hints are known
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := p.ListTools(ctx)
		cancel()
		if err == nil {
			break
		}
	}
	outcomes := load(t, p, 16, 20, 250*time.Millisecond, func(int) {})
	closePool(t, p)
	web.Close()
	saw := checkLedger(t, outcomes, faults.Server.Executions(), config.RetryAttempts)
	saw.met = faults.Met()
	return saw
}
