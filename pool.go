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
	hints  hints   // which tools may safely run twice
	ids    atomic.Uint64

	reload sync.Mutex // held by Reload
	mu     sync.Mutex // guards closed, and keeps Add before Wait on those below
	closed bool
	life   context.Context // ends with closed
	end    context.CancelFunc
	work   sync.WaitGroup // cancelled calls whose slots are not free yet

	leaving sync.WaitGroup // old endpoints that something still uses

	settling               atomic.Int64 // cancelled calls whose slots are not free yet
	calls, errors, retries atomic.Uint64
	overBudget             atomic.Uint64
	open, wait, call       latency
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
		Done:         func(l *link) <-chan struct{} { return l.conn.Done() },
		Permanent:    permanent,
		CheckTimeout: checkTimeout,
		BreakAfter:   breakAfter,
	}
	t.limit(&options)
	p.slots = slots.New(options)
	if !t.config.LazyInitialization && t.config.MinConnections > 0 {
		key, _ := t.key(rpc.Caller{})
		p.slots.Warm(key)
	}
	return p, nil
}

// Name returns the name of the server.
func (p *Pool) Name() string { return p.name }

// Close ends the pool: no call is taken any more, those that wait fail with
// [ErrPoolClosed], those in flight finish. When ctx ends first they are cut
// off, and the error says how many. When Close returns, every connection and
// child process is closed and no goroutine of the pool runs. Close may be
// called again.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.end()
	p.mu.Unlock()
	p.work.Wait() // it ends at once: cancelled calls are not waited for any more
	err := p.slots.Close(ctx)
	p.leaving.Wait()
	p.terms.Load().leave()
	if err != nil {
		return fmt.Errorf("closing pool %s: %w", p.name, err)
	}
	return nil
}

// EndSession says that the caller's session has ended: connections of its own,
// which it has under [ShareSession], are closed when their last call ends.
func (p *Pool) EndSession(who rpc.Caller) {
	t := p.terms.Load()
	if t.sharing() != ShareSession || who.Session == "" {
		return
	}
	id := t.group(who)
	for _, id.caps = range everyCapabilities() {
		p.slots.End(id)
	}
}

// openLink opens a connection for a group, on nobody's behalf in particular.
func (p *Pool) openLink(ctx context.Context, id group) (slots.Opened[*link], error) {
	start := time.Now()
	t := p.use()
	era := t.eraNow()
	conn, err := t.endpoint.Open(ctx, era, id.caps)
	if err != nil {
		t.links.Done()
		var failed *transport.OpenError
		if errors.As(err, &failed) && failed.WrongEra {
			t.era.CompareAndSwap(int32(era), int32(transport.Unknown))
		}
		if ctx.Err() == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			p.log.Warn("connection not opened", "error", err, "after", time.Since(start))
		}
		return slots.Opened[*link]{}, err
	}
	l := newLink(p.ids.Add(1), p.name, id, conn, start)
	l.ended = t.links.Done
	t.era.Store(int32(l.peer.Era))
	p.open.add(l.openTook)
	p.log.Info("connection opened", "conn", l.id, "peer", l.peer.Name,
		"protocol", l.peer.Protocol, "took", l.openTook)
	opened := slots.Opened[*link]{Conn: l, Slots: t.callsPerConnection()}
	switch {
	case l.peer.InProcess:
		opened.Sole = true
	case !l.peer.Stdio && l.peer.Era == transport.Modern:
		// There is no session to have several of: one endpoint has all the room.
		opened.Sole = true
		if t.sharing() != ShareSession {
			opened.Slots *= t.config.MaxConnections
		}
	}
	return opened, nil
}

func (p *Pool) closeLink(ctx context.Context, l *link, why slots.Reason) {
	start := time.Now()
	l.conn.Close(ctx)
	l.ended()
	p.log.Info("connection closed", "conn", l.id, "reason", string(why),
		"age", start.Sub(l.opened), "calls", l.calls.Load(), "took", time.Since(start))
}

func (p *Pool) checkLink(ctx context.Context, l *link) error {
	err := l.conn.Check(ctx)
	if err != nil {
		p.log.Warn("health check failed", "conn", l.id, "error", err)
	}
	if failed := (*transport.Failure)(nil); errors.As(err, &failed) && failed.Dead {
		return fmt.Errorf("%w: %w", slots.ErrGone, err)
	}
	return err
}

func permanent(err error) bool {
	var failed *transport.OpenError
	return errors.As(err, &failed) && failed.Permanent
}

// Stats returns what the pool has done and how it stands now.
func (p *Pool) Stats() Stats {
	now := p.slots.Stats()
	s := Stats{
		Server:      p.name,
		Connections: now.Ready, InUse: now.InUse, Idle: now.Idle, Opening: now.Opening,
		Retired: now.Retired, Groups: now.Groups,
		Slots: now.Slots, CallsInFlight: now.InFlight, Settling: int(p.settling.Load()), Waiting: now.Waiting, OldestWait: now.OldestWait,
		Paused: now.Paused, Broken: now.Broken,
		Opened: now.Opened, OpenFailures: now.OpenFailures,
		Opens: map[OpenReason]uint64{}, Closed: map[CloseReason]uint64{},
		Acquired: now.Acquired, Released: now.Released, Waited: now.Waited, WaitTime: now.WaitTime,
		AcquireFailures: now.AcquireFailures, Refused: now.Refused, LateBinds: now.LateBinds,
		Calls: p.calls.Load(), Errors: p.errors.Load(), Retries: p.retries.Load(), OverBudget: p.overBudget.Load(),
		HealthChecks: now.HealthChecks, HealthFailures: now.HealthFailures,
		Open: p.open.snapshot(), Wait: p.wait.snapshot(), Call: p.call.snapshot(),
	}
	for _, why := range OpenReasons() {
		s.Opens[why] = now.Opens[slots.Cause(why)]
	}
	for _, why := range CloseReasons() {
		s.Closed[why] = now.Closed[slots.Reason(why)]
	}
	if s.Calls > s.Opened {
		s.ReuseRatio = 1 - float64(s.Opened)/float64(s.Calls)
	}
	return s
}

// Conns returns the connections that are open, oldest first: those in the
// pool, and those that have left it and wait for their last call.
func (p *Pool) Conns() []*Conn {
	views := p.slots.Conns()
	conns := make([]*Conn, 0, len(views))
	for _, v := range views {
		conns = append(conns, &Conn{link: v.Conn, slots: v.Slots, used: v.Used, retired: v.Retired})
	}
	slices.SortFunc(conns, func(a, b *Conn) int { return cmp.Compare(a.id, b.id) })
	return conns
}
