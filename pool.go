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

// Pool keeps connections to one server open and lends them to callers. It is
// safe for concurrent use. Make one with [New] and end it with [Pool.Close].
//
// A Pool is an [rpc.Handler].
type Pool struct {
	server   Server
	config   Config
	log      *slog.Logger
	endpoint *transport.Endpoint
	slots    *slots.Pool[group, *link]
	release  func() // the endpoint, once

	era   atomic.Int32 // the server's transport.Era, as its last opening found it
	hints hints        // which tools may safely run twice
	ids   atomic.Uint64

	calls, errors, retries atomic.Uint64
	open, wait, call       latency
}

// New makes a pool of connections to server. It does no I/O; without
// LazyInitialization it starts opening connections in the background. A nil
// config means [DefaultConfig]; it is copied. The error says what makes no
// sense in server or config.
func New(server Server, config *Config) (*Pool, error) {
	p := &Pool{server: server, config: DefaultConfig()}
	if config != nil {
		p.config = *config
	}
	if err := p.config.Validate(); err != nil {
		return nil, fmt.Errorf("server %s: %w", server.Name, err)
	}
	if p.config.Logger == nil {
		p.config.Logger = slog.New(slog.DiscardHandler)
	}
	endpoint, err := server.endpoint(&p.config)
	if err != nil {
		return nil, err
	}
	p.endpoint = endpoint
	p.release = sync.OnceFunc(endpoint.Close)
	p.log = p.config.Logger.With("server", server.Name)
	p.slots = slots.New(slots.Options[group, *link]{
		Open:          p.openLink,
		Close:         p.closeLink,
		Check:         p.checkLink,
		Done:          func(l *link) <-chan struct{} { return l.conn.Done() },
		Permanent:     permanent,
		Min:           p.config.MinConnections,
		Total:         p.config.total(),
		OpenTimeout:   p.config.ConnectionTimeout,
		IdleTimeout:   p.config.IdleTimeout,
		MaxAge:        p.config.MaxConnectionAge,
		CheckInterval: p.config.HealthCheckInterval,
		CheckTimeout:  checkTimeout,
	})
	if !p.config.LazyInitialization && p.config.MinConnections > 0 {
		key, _ := p.key(rpc.Caller{})
		p.slots.Warm(key)
	}
	return p, nil
}

// Name returns the name of the server.
func (p *Pool) Name() string { return p.server.Name }

// Close ends the pool: no call is taken any more, those that wait fail with
// [ErrPoolClosed], those in flight finish. When ctx ends first they are cut
// off, and the error says how many. When Close returns, every connection and
// child process is closed and no goroutine of the pool runs. Close may be
// called again.
func (p *Pool) Close(ctx context.Context) error {
	err := p.slots.Close(ctx)
	p.release()
	if err != nil {
		return fmt.Errorf("closing pool %s: %w", p.server.Name, err)
	}
	return nil
}

// EndSession says that the caller's session has ended: connections of its own,
// which it has under [ShareSession], are closed when their last call ends.
func (p *Pool) EndSession(who rpc.Caller) {
	if p.sharing() != ShareSession || who.Session == "" {
		return
	}
	id := p.group(who)
	for _, id.caps = range everyCapabilities() {
		p.slots.End(id)
	}
}

// group is who shares connections with whom. Equal groups share; there is no
// digest in between that could make two principals equal.
type group struct {
	principal string // "" under ShareAll
	session   string // only under ShareSession
	caps      rpc.Capabilities
}

func everyCapabilities() []rpc.Capabilities {
	var all []rpc.Capabilities
	for i := range 8 {
		all = append(all, rpc.Capabilities{Roots: i&1 != 0, Sampling: i&2 != 0, Elicitation: i&4 != 0})
	}
	return all
}

func (p *Pool) eraNow() transport.Era { return transport.Era(p.era.Load()) }

// sharing is Config.Sharing with its default, which depends on the server.
func (p *Pool) sharing() Sharing {
	switch {
	case p.server.Handler != nil:
		return ShareAll // no session, no credentials: nothing to keep apart
	case p.config.Sharing != "":
		return p.config.Sharing
	case p.server.Command != "" && p.eraNow() != transport.Modern:
		return ShareSession
	}
	return SharePrincipal
}

// callsPerConnection is Config.CallsPerConnection with its default.
func (p *Pool) callsPerConnection() int {
	switch {
	case p.config.CallsPerConnection > 0:
		return p.config.CallsPerConnection
	case p.sharing() == ShareSession:
		return 1
	case p.server.URL != "":
		return 8
	}
	return 16
}

func (p *Pool) group(who rpc.Caller) group {
	id := group{caps: who.Capabilities}
	if p.server.Handler != nil || p.eraNow() == transport.Modern {
		id.caps = rpc.Capabilities{} // declared per call there, or not at all
	}
	switch p.sharing() {
	case ShareSession:
		id.session = who.Session
		fallthrough
	case SharePrincipal:
		id.principal = cmp.Or(who.Principal, p.config.Principal)
	}
	return id
}

// key returns the group of a caller, and whether the caller has a connection
// to itself during each call.
func (p *Pool) key(who rpc.Caller) (key slots.Key[group], whole bool) {
	key = slots.Key[group]{ID: p.group(who), Max: p.config.MaxConnections, Slots: p.callsPerConnection()}
	switch {
	case p.server.Handler != nil:
		key.Max = 1
	case p.sharing() == ShareSession:
		key.Max = 1
		key.Owned = who.Session != ""
		whole = !key.Owned
	case p.server.URL != "" && p.eraNow() == transport.Modern:
		key.Slots *= key.Max
		key.Max = 1
	}
	return key, whole
}

// openLink opens a connection for a group, on nobody's behalf in particular.
func (p *Pool) openLink(ctx context.Context, id group) (slots.Opened[*link], error) {
	start := time.Now()
	era := p.eraNow()
	conn, err := p.endpoint.Open(ctx, era, id.caps)
	if err != nil {
		var failed *transport.OpenError
		if errors.As(err, &failed) && failed.WrongEra {
			p.era.CompareAndSwap(int32(era), int32(transport.Unknown))
		}
		if ctx.Err() == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			p.log.Warn("connection not opened", "error", err, "after", time.Since(start))
		}
		return slots.Opened[*link]{}, err
	}
	l := newLink(p.ids.Add(1), p.server.Name, id, conn, start)
	p.era.Store(int32(l.peer.Era))
	p.open.add(l.openTook)
	p.log.Info("connection opened", "conn", l.id, "peer", l.peer.Name,
		"protocol", l.peer.Protocol, "took", l.openTook)
	opened := slots.Opened[*link]{Conn: l, Slots: p.callsPerConnection()}
	switch {
	case l.peer.InProcess:
		opened.Sole = true
	case !l.peer.Stdio && l.peer.Era == transport.Modern:
		// There is no session to have several of: one endpoint has all the room.
		opened.Sole = true
		if p.sharing() != ShareSession {
			opened.Slots *= p.config.MaxConnections
		}
	}
	return opened, nil
}

func (p *Pool) closeLink(ctx context.Context, l *link, why slots.Reason) {
	start := time.Now()
	l.conn.Close(ctx)
	p.log.Info("connection closed", "conn", l.id, "reason", string(why),
		"age", start.Sub(l.opened), "calls", l.calls.Load(), "took", time.Since(start))
}

func (p *Pool) checkLink(ctx context.Context, l *link) error {
	err := l.conn.Check(ctx)
	if err != nil {
		p.log.Warn("health check failed", "conn", l.id, "error", err)
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
		Server:      p.server.Name,
		Connections: now.Ready, InUse: now.InUse, Idle: now.Idle, Opening: now.Opening,
		Retired: now.Retired, Groups: now.Groups,
		Slots: now.Slots, CallsInFlight: now.InFlight, Waiting: now.Waiting, OldestWait: now.OldestWait,
		Opened: now.Opened, OpenFailures: now.OpenFailures, Closed: map[CloseReason]uint64{},
		Acquired: now.Acquired, Released: now.Released, Waited: now.Waited, WaitTime: now.WaitTime,
		AcquireFailures: now.AcquireFailures,
		Calls:           p.calls.Load(), Errors: p.errors.Load(), Retries: p.retries.Load(),
		HealthChecks: now.HealthChecks, HealthFailures: now.HealthFailures,
		Open: p.open.snapshot(), Wait: p.wait.snapshot(), Call: p.call.snapshot(),
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
