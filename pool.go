package mcpool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/internal/repeats"
	"github.com/mcpool-dev/mcpool/internal/slots"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// checkTimeout bounds one health check. A server that is silent this long
// would keep a caller waiting, too.
const checkTimeout = 10 * time.Second

// breakAfter is how long opening connections may fail in a row before callers
// are told at once instead of waiting for the server to come back.
const breakAfter = 10 * time.Second

// Pool keeps connections to one server open and lends them to callers. It is
// safe for concurrent use. Make one with [New] and end it with [Pool.Close].
//
// A Pool is an [rpc.Handler].
type Pool struct {
	name   string
	log    *slog.Logger
	terms  atomic.Pointer[terms] // replaced by Reload
	slots  *slots.Pool[group, *link]
	budget *budget // of calls that may run twice
	ids    atomic.Uint64

	reload sync.Mutex // held by Reload
	mu     sync.Mutex // guards closed, and keeps Add before Wait on those below
	closed bool
	life   context.Context // ends with closed
	end    context.CancelFunc
	work   sync.WaitGroup // cancelled calls whose slots are not free yet

	leaving sync.WaitGroup // old endpoints that something still uses

	watches watches
	past    past    // connections that are closed
	trouble trouble // the last

	unopened repeats.Failure // to open a connection

	leaks     leaks
	unsettled unsettled    // leases with cancelled calls that the server may not have heard of
	settling  atomic.Int64 // cancelled calls whose slots are not free yet

	calls, carried, errors, leaked, cacheHits atomic.Uint64
	retries                                   retries
	pinnedLease, pinnedCall                   atomic.Uint64
	open, wait, call, lease                   latency
}

// New makes a pool of connections to server. It does no I/O; without
// LazyInitialization it starts opening connections in the background. A nil
// config means [DefaultConfig]; it is copied. The error says what makes no
// sense in server or config.
func New(server Server, config *Config) (*Pool, error) {
	t, err := newTerms(server, config, nil)
	if err != nil {
		return nil, err
	}
	p := &Pool{
		name:   server.Name,
		log:    t.config.Logger.With("server", server.Name),
		budget: newBudget(t.config.MaxConnections * t.callsPerConnection()),
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.terms.Store(t)
	options := slots.Options[group, *link]{
		Open:         p.openLink,
		Close:        p.closeLink,
		Check:        p.checkLink,
		CheckTimeout: checkTimeout,
		BreakAfter:   breakAfter,
	}
	t.limit(&options)
	options.Connections, options.Waiters = t.config.Limits.budgets(&t.server)
	p.slots = slots.New(options)
	if !t.config.LazyInitialization && t.config.MinConnections > 0 {
		p.slots.Warm(&t.anyonesKey().Key)
	}
	return p, nil
}

// Name returns the name of the server.
func (p *Pool) Name() string { return p.name }

// Close ends the pool: no call is taken any more, those that wait fail with
// [ErrPoolClosed], those in flight finish. When ctx ends first they are cut
// off, and the error says how many. When Close returns, every connection and
// child process is closed and no goroutine of the pool runs, but one for each
// token source that is still being asked when ctx ends: nothing can end it,
// and the error says that, too. Close may be called again.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.end()
	p.mu.Unlock()
	p.leaks.close()
	p.work.Wait() // it ends at once: cancelled calls are not waited for any more
	err := p.slots.Close(ctx)
	p.leaving.Wait()
	t := p.terms.Load()
	t.leave()
	err = errors.Join(err, t.asks.close(ctx))
	if err != nil {
		return fmt.Errorf("closing pool %s: %w", p.name, err)
	}
	return nil
}

// enter reports whether work of the pool may begin, which Close waits for;
// work.Done must follow if it may.
func (p *Pool) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.work.Add(1)
	}
	return !p.closed
}

// EndSession says that the caller's session has ended: connections of its own,
// which it has under [ShareSession], are closed when their last call ends.
func (p *Pool) EndSession(who rpc.Caller) {
	t := p.terms.Load()
	if t.sharing() != ShareSession || who.Session == "" {
		return
	}
	id := t.group(&who)
	// With whatever capabilities, and earlier revisions of its credentials.
	p.slots.End(func(g group) bool { return g.principal == id.principal && g.session == id.session })
}

// openLink opens a connection for a group, on nobody's behalf in particular.
func (p *Pool) openLink(ctx context.Context, id group) (slots.Opened[*link], error) {
	began := time.Now()
	t := p.use()
	hooks := &t.config.Hooks
	ctx = start(hooks.OpenStart, ctx, OpenStart{Server: p.name, Group: id.label()})
	l, err := p.openFor(ctx, t, id, began)
	took := time.Since(began)
	if err != nil {
		t.links.Done()
		if ctx.Err() == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			p.unopened.Happened(p.log, "connection not opened", "error", err, "after", took)
			p.trouble.note(err)
		}
		end(hooks.OpenEnd, ctx, OpenEnd{Took: took, Err: err})
		return slots.Opened[*link]{}, err
	}
	p.open.add(took)
	p.unopened.Over()
	p.log.Info("connection opened", "conn", l.name, "peer", l.peer.Name, "protocol", l.peer.Protocol, "took", took)
	end(hooks.OpenEnd, ctx, OpenEnd{Conn: l.name, Protocol: l.peer.Protocol, Took: took})
	// A modern server has no session to have several of: one endpoint has all
	// the room.
	sole := l.peer.InProcess || !l.peer.Stdio && l.peer.Era == transport.Modern
	return slots.Opened[*link]{Conn: l, Slots: t.slotsOf(l), Sole: sole, Done: l.conn.Done()}, nil
}

func (p *Pool) openFor(ctx context.Context, t *terms, id group, began time.Time) (*link, error) {
	known := t.known.now.Load()
	account := t.account(id)
	if _, err := account.keepQuiet(ctx, 0); err != nil { // others want the place to open theirs
		return nil, later(err)
	}
	conn, err := t.endpoint.Open(ctx, known.Known, id.caps, account.authorize)
	if err == nil {
		l := newLink(p.ids.Add(1), p.name, account, conn, began)
		l.ended, l.known = t.links.Done, t.known
		t.known.met(known, l.peer, t.owner(id))
		return l, nil
	}
	account.heed(err)
	var failed *transport.OpenError
	if errors.As(err, &failed) && failed.WrongEra {
		t.known.refuted(known)
	}
	if failed != nil && failed.Permanent {
		err = &permanentError{err}
	}
	return nil, later(err)
}

// permanentError is an opening that it is no use to try again soon.
type permanentError struct{ error }

func (e *permanentError) Unwrap() []error { return []error{e.error, slots.ErrPermanent} }

func (p *Pool) closeLink(ctx context.Context, l *link, why slots.Reason) {
	began := time.Now()
	hooks := &p.terms.Load().config.Hooks
	ctx = start(hooks.CloseStart, ctx, CloseStart{Server: p.name, Conn: l.name, Reason: CloseReason(why)})
	l.conn.Close(ctx)
	if v, open := p.slots.Find(func(other *link) bool { return other == l }); open && why != slots.Shutdown {
		p.past.add(v)
	}
	l.ended()
	took := time.Since(began)
	end(hooks.CloseEnd, ctx, CloseEnd{Took: took})
	p.log.Info("connection closed", "conn", l.name, "reason", string(why),
		"age", began.Sub(l.opened), "calls", l.calls.Load(), "took", took)
}

// lately is how long ago a byte from a server may have come to be proof of
// life.
const lately = 30 * time.Second

// checkLink says whether a connection is well. One with calls in flight, of
// which none has come back for long, may have been heard from all the same, by
// progress or a comment in a stream.
func (p *Pool) checkLink(ctx context.Context, l *link) error {
	if interval := p.terms.Load().config.HealthCheckInterval; time.Since(l.conn.Heard()) < min(lately, interval) {
		return nil
	}
	if l.account != nil && l.account.quiet.left() > 0 {
		return nil
	}
	if _, err := l.account.authorize(ctx, nil); err != nil { // that is no word about the connection
		p.log.Warn("health check not made", "conn", l.name, "error", err)
		return nil
	}
	err := l.conn.Check(ctx)
	if err != nil {
		p.log.Warn("health check failed", "conn", l.name, "error", err)
		p.trouble.note(err)
	}
	if failed := (*transport.Failure)(nil); errors.As(err, &failed) {
		l.known.failed(l.peer.Era, failed)
		l.known.doubt(l.known.now.Load())
		if failed.Dead {
			return fmt.Errorf("%w: %w", slots.ErrGone, err)
		}
	}
	return err
}

// Stats returns what the pool has done and how it stands now.
func (p *Pool) Stats() Stats {
	now := p.slots.Stats()
	s := Stats{
		Server:      p.name,
		Connections: now.Ready, InUse: now.InUse, Idle: now.Idle, Opening: now.Opening,
		Retired: now.Retired, Groups: now.Groups,
		Pinned: now.Owned + now.Whole, MaxOpening: now.MaxOpening,
		Slots: now.Slots, CallsInFlight: now.InFlight, Settling: int(p.settling.Load()), Waiting: now.Waiting, OldestWait: now.OldestWait,
		Paused: now.Paused, Breaker: Breaker(now.Breaker),
		Opened: now.Opened, OpensElided: now.Elided, SparesUsed: now.Inherited,
		Opens: map[OpenReason]uint64{}, OpenFailures: map[OpenReason]uint64{}, Closed: map[CloseReason]uint64{}, Retries: p.retries.counts(),
		Acquires: map[AcquireResult]uint64{}, Released: now.Released, Waited: now.Waited, WaitTime: now.WaitTime,
		LateBinds: now.LateBinds,
		Pins:      map[PinReason]uint64{PinnedSession: now.Pinned, PinnedLease: p.pinnedLease.Load(), PinnedCall: p.pinnedCall.Load()},
		Calls:     p.calls.Load(), Carried: p.carried.Load(), CacheHits: p.cacheHits.Load(), Errors: p.errors.Load(),
		RetryBudgetSpent: p.budget.spent.Load(), RetryBudgetExhausted: p.budget.refused.Load(), Leaked: p.leaked.Load(),
		HealthChecks: now.HealthChecks, HealthFailures: now.HealthFailures,
		Open: p.open.snapshot(0), Wait: p.wait.snapshot(now.Acquired - now.Waited), Call: p.call.snapshot(0),
		Lease: p.lease.snapshot(0),
	}
	for _, result := range AcquireResults() {
		s.Acquires[result] = now.Failed[slots.Failure(result)]
	}
	s.Acquires[AcquireOK] = now.Acquired
	for _, why := range OpenReasons() {
		s.Opens[why] = now.Opens[slots.Cause(why)]
		s.OpenFailures[why] = now.OpenFailures[slots.Cause(why)]
	}
	for _, why := range CloseReasons() {
		s.Closed[why] = now.Closed[slots.Reason(why)]
	}
	if s.Carried > s.Opened {
		s.ReuseRatio = 1 - float64(s.Opened)/float64(s.Carried)
	}
	return s
}

// Conns returns the connections that are open, oldest first: those in the
// pool, and those that have left it and wait for their last call.
func (p *Pool) Conns() []*Conn {
	views := p.slots.Conns()
	conns := make([]*Conn, 0, len(views))
	for _, v := range views {
		conns = append(conns, newConn(v))
	}
	slices.SortFunc(conns, func(a, b *Conn) int { return cmp.Compare(a.id, b.id) })
	return conns
}
