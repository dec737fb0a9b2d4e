package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// standingLife is how long what a legacy session subscribed to is kept up
	// while its client has no stream open on which it could be told.
	standingLife = 10 * time.Minute
	// maxStandings bounds the sessions that have a stream open or subscribe to
	// something.
	maxStandings = 1 << 16
	// maxUpdates bounds the resources that the sessions of one principal subscribe
	// to, all together: each is heard of by a goroutine.
	maxUpdates = 10000
)

// A standing is what legacy sessions have outside of calls: a stream on which
// their client is told of changes, and the resources that it subscribed to.
// Sessions that have neither have no standing.
type standing struct {
	all      *standings
	endpoint *endpoint
	session  *session
	caller   rpc.Caller
	out      outlet
	stream   *stream // out over HTTP; nil otherwise
	work     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	ended   bool
	readers int         // that the client has open
	idle    *time.Timer // ends it while there is none
	lists   context.CancelFunc
	updates map[string]context.CancelFunc // by the client's URI
}

// standings are those there are.
type standings struct {
	gateway *Gateway
	work    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	of     map[string]*standing // by session

	updates tally // by principal
}

// Why a session has no standing, or has it no more.
var (
	errEnded    = errors.New("the session has ended")
	errStanding = fmt.Errorf("%d sessions are told of changes already, and no more are; end some", maxStandings)
	errIdle     = errors.New("the client has not listened for too long")
)

// get returns the standing of a session, and makes it if there is none. Over
// HTTP out is nil: frames wait until the client opens a stream. It fails with
// errClosed, errEnded or errStanding.
func (ss *standings) get(e *endpoint, principal string, s *session, out outlet) (*standing, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if st := ss.of[s.name]; st != nil && !st.over() {
		return st, nil
	}
	switch {
	case ss.closed:
		return nil, errClosed
	case ss.gateway.sessions.over(s.name): // its id was read before that
		return nil, errEnded
	case len(ss.of) >= maxStandings:
		return nil, errStanding
	}
	st := &standing{
		all: ss, endpoint: e, session: s, out: out, updates: make(map[string]context.CancelFunc),
		caller: rpc.Caller{Principal: principal, Session: s.name, Capabilities: s.caps},
	}
	if out == nil {
		st.stream = newStream(ss.gateway.name + "." + rand.Text())
		st.out = st.stream
		st.idle = time.AfterFunc(standingLife, st.endIdle)
	}
	ss.of[s.name] = st
	return st, nil
}

// end ends the standing of a session that is over, if it has one, and waits for
// that.
func (ss *standings) end(session string) {
	ss.mu.Lock()
	st := ss.of[session]
	ss.mu.Unlock()
	if st != nil {
		st.end()
		st.work.Wait()
	}
}

// close ends them all, and lets no more begin. Their listening is over when work
// is.
func (ss *standings) close() {
	ss.mu.Lock()
	ss.closed = true
	ss.mu.Unlock()
	ss.endThose(func(*standing) bool { return true })
}

// leave ends those of clients that open their stream elsewhere.
func (ss *standings) leave() {
	ss.endThose(func(st *standing) bool { return st.stream != nil })
}

func (ss *standings) endThose(which func(*standing) bool) {
	ss.mu.Lock()
	all := slices.Collect(maps.Values(ss.of))
	ss.mu.Unlock()
	for _, st := range all {
		if which(st) {
			st.end()
		}
	}
}

func (st *standing) over() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.ended
}

// end ends a standing. It is ended before it is forgotten: what close does not
// find has begun nothing that it would have to wait for.
func (st *standing) end() {
	st.stop(false)
	st.forget()
}

// endIdle ends one whose client has not opened a stream for standingLife.
func (st *standing) endIdle() {
	if st.stop(true) {
		st.forget()
	}
}

func (st *standing) forget() {
	st.all.mu.Lock()
	defer st.all.mu.Unlock()
	if st.all.of[st.session.name] == st {
		delete(st.all.of, st.session.name)
	}
}

func (st *standing) stop(ifIdle bool) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if ifIdle && st.readers > 0 {
		return false
	}
	st.ended = true
	if st.idle != nil {
		st.idle.Stop()
	}
	if st.lists != nil {
		st.lists()
	}
	for _, cancel := range st.updates {
		cancel()
	}
	if st.stream != nil {
		st.stream.end()
	}
	return true
}

// goes runs what listens for the standing, until it ends.
func (st *standing) goes(listen func()) {
	st.work.Add(1)
	st.all.work.Go(func() {
		defer st.work.Done()
		listen()
	})
}

// read has the client told of changes of the lists, until done is called: it
// has a stream open.
func (st *standing) read() (done func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.readers++
	if st.idle != nil {
		st.idle.Stop()
	}
	if st.lists == nil && !st.ended {
		ctx, cancel := context.WithCancel(context.Background())
		st.lists = cancel
		st.goes(func() {
			st.all.gateway.follow(ctx, st.endpoint.name, st.caller.Principal, func(ctx context.Context, s *backend) {
				st.all.gateway.listenTo(ctx, s, st.caller, filter{Tools: true, Prompts: true, Resources: true}, func(method string, params json.RawMessage) {
					st.tell(s, method, params)
				})
			}, st.changed)
		})
	}
	return func() {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.readers--; st.readers == 0 && !st.ended && st.idle != nil {
			st.idle.Reset(standingLife)
		}
	}
}

// wants reports whether the client is to be told a log message outside of calls.
func (st *standing) wants(params json.RawMessage) bool {
	least, set := st.all.gateway.levels.get(st.session.name)
	if !set {
		least = logLevel(defaultLevel)
	}
	return logLevel(jsonrpc.GetString(params, "level")) >= least
}

// tell passes on what a server tells outside of calls. What is of the modern
// era alone, or is not severe enough, is not for the client.
func (st *standing) tell(s *backend, method string, params json.RawMessage) {
	if method == notifyAcknowledged || method == notifyMessage && !st.wants(params) {
		return
	}
	st.out.event(oneLine(jsonrpc.AppendRequest(nil, nil, method, st.endpoint.outwardChange(s, method, params))))
}

// subscribe has the client told of updates of a resource. It waits until the
// server has said that it will tell. It fails with errIdle where the standing is
// over.
func (st *standing) subscribe(ctx context.Context, s *backend, uri, inner string) error {
	st.mu.Lock()
	if st.ended {
		st.mu.Unlock()
		return errIdle
	}
	if _, already := st.updates[uri]; already {
		st.mu.Unlock()
		return nil
	}
	if len(st.updates) >= maxURIs {
		st.mu.Unlock()
		return rpc.Errorf(rpc.CodeInvalidParams, "this session subscribes to %d resources already: at most that many", maxURIs)
	}
	if !st.all.updates.add(st.caller.Principal, maxUpdates) {
		st.mu.Unlock()
		return rpc.Errorf(rpc.CodeInternal, "%d resources are subscribed to already: no more are", maxUpdates)
	}
	running, cancel := context.WithCancel(context.Background())
	st.updates[uri] = cancel
	heeded := make(chan bool, 1)
	st.goes(func() {
		defer st.all.updates.remove(st.caller.Principal)
		st.all.gateway.follow(running, s.Name, st.caller.Principal, func(ctx context.Context, s *backend) {
			st.all.gateway.listenTo(ctx, s, st.caller, filter{URIs: []string{inner}}, func(method string, params json.RawMessage) {
				switch method {
				case notifyMessage: // told once, with the changes of lists
					return
				case notifyAcknowledged:
				default:
					if jsonrpc.GetString(params, "uri") == inner {
						params, _ = setString(params, uri, "uri")
					} else {
						params = st.endpoint.outwardChange(s, method, params)
					}
					st.out.event(oneLine(jsonrpc.AppendRequest(nil, nil, method, params)))
					return
				}
				var said struct{ Notifications filter }
				_ = json.Unmarshal(params, &said) // what cannot be read is not heeded
				select {
				case heeded <- len(said.Notifications.URIs) > 0:
				default:
				}
			})
		}, func() {})
	})
	st.mu.Unlock()
	late := time.NewTimer(ackWait)
	defer late.Stop()
	select {
	case heeds := <-heeded:
		if heeds {
			return nil
		}
		st.unsubscribe(uri)
		return rpc.Errorf(rpc.CodeInvalidParams, "%s does not tell of updates of %q", s.Name, uri)
	case <-late.C:
		return nil // it may yet
	case <-ctx.Done():
		st.unsubscribe(uri)
		return context.Cause(ctx)
	}
}

func (st *standing) unsubscribe(uri string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if cancel := st.updates[uri]; cancel != nil {
		cancel()
		delete(st.updates, uri)
	}
}

// subscribe answers resources/subscribe and resources/unsubscribe of a legacy
// client (MCP 2025-11-25, server/resources "Subscriptions").
func (q *request) subscribe(ctx context.Context) (json.RawMessage, error) {
	uri := jsonrpc.GetString(q.params, "uri")
	s, inner, err := q.findURI(ctx, uri)
	if err != nil {
		return nil, err
	}
	for {
		st, err := q.gateway.standings.get(q.endpoint, q.caller.Principal, q.session, q.standingOut)
		if err != nil {
			return nil, err
		}
		if q.method == methodUnsubscribe {
			st.unsubscribe(uri)
		} else if err := st.subscribe(ctx, s, uri, inner); err == errIdle {
			continue // it has ended in this moment
		} else if err != nil {
			return nil, err
		}
		return json.RawMessage("{}"), nil
	}
}
