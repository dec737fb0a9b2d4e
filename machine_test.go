package mcpool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/internal/pooltest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// public has package pooltest drive a Pool, to a server without sockets, by the
// operations that the engine's own proofs use.
type public struct {
	*mcpool.Pool
	*pooltest.Servers
	links  pooltest.Links
	server mcpool.Server
	config mcpool.Config

	mu     sync.Mutex                // guards all below
	conns  map[string]*pooltest.Link // by Conn.ID
	labels map[int]string            // of groups
}

// publicPools makes one or two pools as the bytes of a setup say.
func publicPools(s pooltest.Setup) []pooltest.Pool {
	at := func(i, div int, of ...int) int { return of[int(s[i])/div%len(of)] }
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	limits := &mcpool.Limits{MaxConnections: at(7, 1, 0, 3, 5), MaxWaiting: at(7, 3, 0, 12)}
	var pools []pooltest.Pool
	for range at(0, 4, 1, 2) {
		p := &public{Servers: pooltest.NewServers(), conns: map[string]*pooltest.Link{}, labels: map[int]string{}}
		p.config = mcpool.DefaultConfig()
		p.config.ConnectionTimeout = 20 * time.Minute
		p.config.MinConnections = at(1, 1, 0, 1)
		p.config.MaxConnections = at(1, 2, 1, 2, 3)
		p.config.MaxConnectionsTotal = p.config.MaxConnections + at(1, 6, 0, 1, 4)
		p.config.MaxConnectionsPerPrincipal = at(5, 1, 0, 2)
		p.config.MaxWaiting, p.config.MaxWaitingPerPrincipal = at(2, 4, 0, 8, 30), at(5, 2, 0, 6)
		p.config.CallsPerConnection = at(2, 1, 1, 2, 3, 4)
		p.config.IdleTimeout, p.config.MaxConnectionAge = seconds(at(3, 1, 0, 5, 60)), seconds(at(3, 3, 0, 20, 120))
		p.config.HealthCheckInterval, p.config.MaxConnectionCalls = seconds(at(4, 1, 0, 3)), at(4, 2, 0, 7)
		p.config.LeakAfter = 0
		p.config.Sharing = []mcpool.Sharing{mcpool.ShareAll, mcpool.SharePrincipal, mcpool.ShareSession}[int(s[6])%3]
		p.config.Weight = func(principal string) int { return int(principal[1]-'0')%pooltest.Principals + 1 }
		p.config.Limits = limits
		p.config.Hooks = mcpool.Hooks{OpenStart: p.openStart, OpenEnd: p.openEnd, CloseStart: p.closeStart, CloseEnd: p.closeEnd}
		network := &mcptest.Network{Handler: &mcptest.Server{Fault: p.fault}}
		p.server = mcpool.Server{Name: "test", URL: "http://server.test/mcp", RoundTripper: network}
		var err error
		if p.Pool, err = mcpool.New(p.server, &p.config); err != nil {
			panic(err)
		}
		pools = append(pools, p)
	}
	return pools
}

// What the hooks of a beginning leave for those of an end.
type openKey struct{}
type closeKey struct{}

func (p *public) openStart(ctx context.Context, _ mcpool.OpenStart) context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	return context.WithValue(ctx, openKey{}, p.links.Begin())
}

func (p *public) openEnd(ctx context.Context, e mcpool.OpenEnd) {
	if e.Err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[e.Conn] = p.links.Opened(-1, ctx.Value(openKey{}).(int), p.config.CallsPerConnection)
}

func (p *public) closeStart(ctx context.Context, e mcpool.CloseStart) context.Context {
	return context.WithValue(ctx, closeKey{}, e)
}

func (p *public) closeEnd(ctx context.Context, _ mcpool.CloseEnd) {
	e := ctx.Value(closeKey{}).(mcpool.CloseStart)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links.Closed(p.conns[e.Conn], ctx.Err() != nil, e.Reason == mcpool.ClosedLost)
}

// fault has the server be what a schedule wants of it.
func (p *public) fault(r *http.Request, method string, w http.ResponseWriter) bool {
	switch method {
	case "initialize":
		if how, err := p.Servers.Open(r.Context()); err != nil || how != pooltest.Well {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return true
		}
	case "ping":
		if p.Servers.Checked() != pooltest.Well {
			http.Error(w, "no such session", http.StatusNotFound)
			return true
		}
	case "tools/call":
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Contains(body, []byte("lost")) {
			http.Error(w, "no such session", http.StatusNotFound)
			return true
		}
	}
	return false
}

type publicLease struct {
	mcpool.Lease
	pool *public
	link *pooltest.Link
}

func (l publicLease) Link() *pooltest.Link { return l.link }

func (l publicLease) Release() bool {
	before := l.pool.Stats().Released
	l.Lease.Release()
	return l.pool.Stats().Released > before
}

// Lost makes a call that finds the session gone.
func (l publicLease) Lost() {
	l.Do(context.Background(), mcptest.CallTool("write", map[string]any{"id": "lost"})) //nolint:errcheck // it is to fail
}

func (p *public) caller(group, who int) rpc.Caller {
	c := rpc.Caller{Principal: fmt.Sprintf("p%d", p.Who(group, who))}
	if p.config.Sharing == mcpool.ShareSession {
		c.Session = fmt.Sprintf("s%d", group)
	}
	return c
}

func (p *public) Acquire(ctx context.Context, ask pooltest.Ask) (pooltest.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, ask.Timeout)
	defer cancel()
	what := mcpool.Slot
	if ask.Whole {
		what = mcpool.Whole
	}
	l, err := p.Pool.Acquire(ctx, p.caller(ask.Group, ask.Who), what)
	if err != nil {
		return nil, err
	}
	conn := l.Conn()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.labels[ask.Group] = conn.Group()
	return publicLease{l, p, p.conns[conn.ID()]}, nil
}

func (p *public) End(group int) { p.EndSession(p.caller(group, 0)) }
func (p *public) Warm(int)      {}

func (p *public) Change(a, b, c byte) {
	p.mu.Lock()
	config := p.config
	config.MaxConnections = 1 + int(b%3)
	config.MaxConnectionsTotal = config.MaxConnections + int(a%4)
	config.CallsPerConnection = 1 + int(c%4)
	config.MaxWaiting = []int{0, 8, 30}[c/4%3]
	p.config = config
	p.mu.Unlock()
	if err := p.Reload(p.server, &config); err != nil {
		panic(err)
	}
	p.links.Resized(config.CallsPerConnection)
}

func (p *public) Links() *pooltest.Links { return &p.links }
func (p *public) Check() error           { return nil }

func (p *public) Groups() int {
	if p.config.Sharing == mcpool.ShareAll {
		return 1
	}
	return 5
}

func (p *public) Who(group, who int) int {
	if p.config.Sharing == mcpool.ShareAll {
		return who
	}
	return group
}

func (p *public) Group(int) pooltest.Group {
	return pooltest.Group{Owned: p.config.Sharing == mcpool.ShareSession}
}

func (p *public) Counts() pooltest.Counts {
	s := p.Stats()
	n := pooltest.Counts{
		Waiting: s.Waiting, InFlight: s.CallsInFlight, Slots: s.Slots,
		Ready: s.Connections, InUse: s.InUse, Idle: s.Idle, Opening: s.Opening, Retired: s.Retired,
		Acquired: s.Acquires[mcpool.AcquireOK], Released: s.Released, Waited: s.Waited,
		Opened: s.Opened, OpenFailures: s.OpenFailuresTotal(), Elided: s.OpensElided, LateBinds: s.LateBinds, Closed: s.ClosedTotal(),
		Checks: s.HealthChecks, ChecksFailed: s.HealthFailures, WaitTime: s.WaitTime,
		Total: p.config.MaxConnectionsTotal, MaxWaiting: p.config.MaxWaiting,
	}
	for _, begun := range s.Opens {
		n.Begun += begun
	}
	for result, times := range s.Acquires {
		if result != mcpool.AcquireOK {
			n.Failures += times
		}
	}
	return n
}

func (p *public) Free(group int) (slot, whole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.Conns() {
		if c.State() == "ready" && c.Group() == p.labels[group] {
			s, w := p.links.Room(p.conns[c.ID()])
			slot, whole = slot || s, whole || w
		}
	}
	return slot, whole
}

func (p *public) Why(err error) pooltest.Why {
	for _, known := range []struct {
		is  error
		why pooltest.Why
	}{
		{mcpool.ErrPoolClosed, pooltest.Closed}, {mcpool.ErrSessionLost, pooltest.StateLost}, {mcpool.ErrQueueFull, pooltest.Full},
		{mcpool.ErrUnavailable, pooltest.Down}, {mcpool.ErrAcquireTimeout, pooltest.TimedOut},
		{context.Canceled, pooltest.Cancelled}, {context.DeadlineExceeded, pooltest.Cancelled},
	} {
		if errors.Is(err, known.is) {
			return known.why
		}
	}
	return pooltest.Why(err.Error())
}

// TestPoolMachine does schedules of operations to public pools, and compares
// them with the plain model after each.
func TestPoolMachine(t *testing.T) {
	var all pooltest.Tally
	rapid.Check(t, func(rt *rapid.T) {
		tally, err := pooltest.Run(t, publicPools, pooltest.Schedules(pooltest.Everything()...).Draw(rt, "schedule"))
		all.Add(tally)
		if err != nil {
			rt.Fatal(err)
		}
	})
	t.Logf("%d steps: %d served, %d of them after a wait; %d cancelled, %d timed out, %d refused; %d connections lost, %d resets",
		all.Steps, all.Served, all.Waited, all.Cancelled, all.TimedOut, all.Refused, all.Lost, all.Resets)
	if all.Waited == 0 || all.Lost == 0 || all.Wholes == 0 {
		t.Errorf("it came to little: %+v", all)
	}
}

func FuzzPool(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := pooltest.Run(t, publicPools, pooltest.Decode(data)); err != nil {
			t.Fatal(err)
		}
	})
}
