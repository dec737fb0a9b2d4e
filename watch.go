package mcpool

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	methodListen           = "subscriptions/listen"
	methodToolsChanged     = "notifications/tools/list_changed"
	methodPromptsChanged   = "notifications/prompts/list_changed"
	methodResourcesChanged = "notifications/resources/list_changed"
	methodUpdated          = "notifications/resources/updated"
	methodMessage          = "notifications/message"
)

const (
	// watchPause lies before listening again to a server that has stopped to
	// be listened to; it is doubled each time, up to watchPauseMost, until the
	// server heeds a filter for that long: each beginning has those who watch ask
	// for everything again.
	watchPause     = time.Second
	watchPauseMost = 30 * time.Second
	// watchUse is how often, within IdleTimeout, the connections of a group
	// that is listened to count as used.
	watchUse = 2
)

// A Filter says which changes of a server somebody wants to hear of.
type Filter struct {
	Tools, Prompts, Resources bool     // of the list of that name
	URIs                      []string // of these resources
}

// Watch hears what the server tells of its changes, until ctx ends, whose cause
// it returns, or the pool is closed ([ErrPoolClosed]). heard is told by that
// goroutine, in the notifications of MCP 2026-07-28 ("Subscriptions"), whatever
// the server speaks: first notifications/subscriptions/acknowledged, with as
// much of what was asked for as the server heeds (nothing, where it does not let
// itself be listened to), then the list_changed and
// updated that come. While it takes one in, others wait, and the same one only
// once.
//
// Nobody listens to a server before somebody watches, and then once for each
// group of callers that share connections, on one of their connections, for all
// that they want together. That takes no slot, and no call is harmed if it
// fails: then it is begun again, and heard is told of everything it asked for,
// since nobody knows what has changed meanwhile. Under [ShareSession] a session
// is watched while it has a connection; none is opened for it, and heard is told
// of log messages outside of calls, too (notifications/message): they are of
// that session and of nobody else's.
func (p *Pool) Watch(ctx context.Context, who rpc.Caller, what Filter, heard func(method string, params json.RawMessage)) error {
	what.URIs = slices.Clone(what.URIs)
	m := &watcher{who: who, what: what}
	if err := p.watches.join(p, m); err != nil {
		return err
	}
	defer p.watches.leave(m)
	for {
		select {
		case <-m.pending.Arrived():
			for _, c := range m.pending.Take() {
				heard(c.Method, c.Params)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.life.Done():
			return ErrPoolClosed
		}
	}
}

// listen is Watch as a call: its params say what is to be heard, and its Events
// hear it.
func (p *Pool) listen(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	var asked struct{ Notifications heeded }
	if json.Unmarshal(call.Params, &asked) != nil {
		return rpc.Answer{}, rpc.Errorf(rpc.CodeInvalidParams, "params: want the notifications of %s", methodListen)
	}
	heard := func(string, json.RawMessage) {}
	if call.Events != nil {
		heard = call.Events.Notify
	}
	err := p.Watch(ctx, call.Caller, Filter(asked.Notifications), heard)
	return rpc.Answer{}, &Error{Server: p.name, Err: err}
}

// A watcher is somebody who watches.
type watcher struct {
	who     rpc.Caller
	what    Filter
	pending transport.Pending
	in      *watch // guarded by the lock of the watches
	acked   bool   // it was told what the server heeds; guarded by that of the watch
	lost    bool   // it may have missed something since; guarded by the same
}

// watches are those of a pool.
type watches struct {
	mu sync.Mutex // guards of
	of map[group]*watch
}

// A watch listens for all watchers of a group.
type watch struct {
	pool    *Pool
	key     group
	who     rpc.Caller // one of them
	filters chan transport.Filter
	end     context.CancelFunc

	mu      sync.Mutex // guards what follows
	members map[*watcher]struct{}
	asked   Filter    // what heeded answers
	heeded  *Filter   // what the server heeds; nil before it says so
	since   time.Time // it has heeded anything
}

// join has a watcher told of changes.
func (ws *watches) join(p *Pool, m *watcher) error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.joinLocked(p, m)
}

func (ws *watches) joinLocked(p *Pool, m *watcher) error {
	key := p.terms.Load().group(&m.who)
	w := ws.of[key]
	if w == nil {
		if !p.enter() {
			return ErrPoolClosed
		}
		ctx, end := context.WithCancel(p.life)
		w = &watch{pool: p, key: key, who: m.who, filters: make(chan transport.Filter, 1), end: end, members: map[*watcher]struct{}{}}
		if ws.of == nil {
			ws.of = map[group]*watch{}
		}
		ws.of[key] = w
		go func() {
			defer p.work.Done()
			w.run(ctx)
		}()
	}
	m.in = w
	w.add(m)
	return nil
}

// leave has a watcher told no more.
func (ws *watches) leave(m *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := m.in
	if w.remove(m); len(w.members) == 0 {
		w.end()
		if ws.of[w.key] == w {
			delete(ws.of, w.key)
		}
	}
}

// part has those who watch share no more than the terms of the pool allow, now
// that they are others. What they missed meanwhile they are told.
func (ws *watches) part(p *Pool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	old := ws.of
	ws.of = nil
	for _, w := range old {
		w.end()
		for _, m := range w.dismiss() {
			_ = ws.joinLocked(p, m) // it fails where the pool is closed
		}
	}
}

func (w *watch) add(m *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.unionLocked()
	w.members[m] = struct{}{}
	if now := w.unionLocked(); len(w.members) == 1 || !now.equal(before) {
		w.askLocked(now)
	} else {
		w.informLocked(m)
	}
}

// dismiss has the watch tell nobody any more, and returns whom it told.
func (w *watch) dismiss() []*watcher {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lostLocked()
	all := slices.Collect(maps.Keys(w.members))
	clear(w.members)
	return all
}

// lostLocked notes that the members may miss something from now on.
func (w *watch) lostLocked() {
	for m := range w.members {
		m.lost = m.acked
	}
}

// remove takes a watcher out. The last one's filter stays: the watch ends.
func (w *watch) remove(m *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.unionLocked()
	delete(w.members, m)
	if now := w.unionLocked(); len(w.members) > 0 && !now.equal(before) {
		w.askLocked(now)
	}
}

// askLocked has the server asked for a filter, instead of one that it was not
// asked for yet.
func (w *watch) askLocked(f Filter) {
	select {
	case <-w.filters:
	default:
	}
	w.filters <- transport.Filter(f)
}

// unionLocked is what all watchers want together.
func (w *watch) unionLocked() Filter {
	var all Filter
	for m := range w.members {
		all.Tools = all.Tools || m.what.Tools
		all.Prompts = all.Prompts || m.what.Prompts
		all.Resources = all.Resources || m.what.Resources
		all.URIs = append(all.URIs, m.what.URIs...)
	}
	slices.Sort(all.URIs)
	all.URIs = slices.Compact(all.URIs)
	return all
}

func (f Filter) equal(g Filter) bool {
	return f.Tools == g.Tools && f.Prompts == g.Prompts && f.Resources == g.Resources && slices.Equal(f.URIs, g.URIs)
}

// run listens until ctx ends.
func (w *watch) run(ctx context.Context) {
	doubted := false
	for wait := watchPause; ; {
		err := w.listen(ctx, doubted)
		if ctx.Err() != nil {
			return
		}
		w.pool.log.Info("listening ended", "error", err)
		failure := (*transport.Failure)(nil)
		doubted = errors.As(err, &failure) && failure.Dead
		w.mu.Lock()
		if w.heeded != nil && time.Since(w.since) >= watchPauseMost {
			wait = watchPause
		}
		if refused := (*rpc.Error)(nil); errors.As(err, &refused) || failure != nil && failure.Fate == transport.Refused && !failure.Dead {
			w.acknowledgeNothingLocked()
		}
		w.heeded = nil
		w.lostLocked()
		w.askLocked(w.unionLocked())
		w.mu.Unlock()
		if !pause(ctx, max(wait, retryAfter(err))) {
			return
		}
		wait = min(2*wait, watchPauseMost)
	}
}

// acknowledgeNothingLocked tells those who wait for an acknowledgement that the
// server does not let itself be listened to, for now.
func (w *watch) acknowledgeNothingLocked() {
	for m := range w.members {
		if !m.acked {
			m.acknowledge(Filter{})
		}
	}
}

// listen listens on one connection, and tells the watchers. doubted says that
// the last one did not take it well.
func (w *watch) listen(ctx context.Context, doubted bool) error {
	l, err := w.link(ctx, doubted)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var listening sync.WaitGroup
	defer listening.Wait()
	defer cancel()
	var heard transport.Pending
	ended := make(chan error, 1)
	listening.Go(func() { ended <- l.conn.Listen(ctx, w.filters, l.account.authorize, &heard) })
	use, stop := w.use()
	defer stop()
	for {
		select {
		case <-heard.Arrived():
			w.tell(l.known, heard.Take())
		case <-use:
			w.touch(ctx)
		case err := <-ended:
			w.tell(l.known, heard.Take())
			return err
		}
	}
}

// link returns a connection of the group to listen on, and opens one if there
// is none, but for a session: what its connection held would be lost unsaid.
func (w *watch) link(ctx context.Context, doubted bool) (*link, error) {
	p, t, who := w.pool, w.pool.terms.Load(), w.who
	if _, err := t.keepQuiet(ctx, &who, math.MaxInt64); err != nil {
		return nil, err
	}
	// Whether there are sessions may show only when the first connection is
	// opened.
	for key := t.key(&who); key.Owned; key = t.key(&who) {
		for _, v := range p.slots.Conns() {
			if v.Group == key.ID && v.Retired == "" {
				return v.Conn, nil
			}
		}
		if !pause(ctx, watchPause) {
			return nil, context.Cause(ctx)
		}
	}
	if _, err := p.prepare(ctx, t, &who); err != nil {
		return nil, err
	}
	lease, err := p.acquire(ctx, t, &who, Slot, t.config.ConnectionTimeout)
	if err != nil {
		return nil, err
	}
	defer p.release(lease)
	l := lease.Conn()
	// Servers have many ways to say that they cannot be listened to, and one of
	// them looks like a lost session. A ping tells which it is.
	if failure := (*transport.Failure)(nil); doubted && errors.As(l.conn.Check(ctx), &failure) && failure.Dead {
		lease.Lost()
		p.release(lease)
		return w.link(ctx, false)
	}
	return l, nil
}

// use says when the connections are to count as used. It is never where they
// are not closed for want of use, or hold a session that ends with it.
func (w *watch) use() (<-chan time.Time, func()) {
	t := w.pool.terms.Load()
	if t.config.IdleTimeout == 0 || t.key(&w.who).Owned {
		return nil, func() {}
	}
	ticker := time.NewTicker(max(t.config.IdleTimeout/watchUse, 1))
	return ticker.C, ticker.Stop
}

// touch uses a connection of the group. Where that takes long there is no need.
func (w *watch) touch(ctx context.Context) {
	t, who := w.pool.terms.Load(), w.who
	if lease, err := w.pool.acquire(ctx, t, &who, Slot, watchPause); err == nil {
		w.pool.release(lease)
	}
}

// tell tells the watchers what was heard of a server.
func (w *watch) tell(known *known, heard []transport.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range heard {
		if c.Method == transport.MethodAcknowledged {
			w.acknowledgedLocked(known, c)
			continue
		}
		ours := c.Method == methodMessage && w.key.session != ""
		for m := range w.members {
			if ours || m.wants(c) {
				m.pending.Put(c)
			}
		}
	}
}

// acknowledgedLocked takes in how much the server heeds.
func (w *watch) acknowledgedLocked(known *known, c transport.Change) {
	var said struct{ Notifications heeded }
	_ = json.Unmarshal(c.Params, &said) // what cannot be read is not heeded
	all := Filter(said.Notifications)
	if w.heeded == nil {
		w.since = time.Now()
	}
	w.asked, w.heeded = Filter(c.Asked), &all
	lost := false
	for m := range w.members {
		lost = lost || m.lost
	}
	if lost { // first, since whoever is told asks again
		for _, c := range transport.Filter(all).Changes() {
			known.cache.changed(c)
		}
	}
	for m := range w.members {
		w.informLocked(m)
	}
}

// informLocked tells a watcher how much of what it wants the server heeds, once.
// What the server did not tell while it was not listened to may have been a
// change of all of that.
func (w *watch) informLocked(m *watcher) {
	if w.heeded == nil || !w.asked.and(m.what).equal(m.what) {
		return // the server has still to be asked, or to answer
	}
	if !m.acked {
		m.acknowledge(*w.heeded)
	} else if m.lost {
		for _, c := range transport.Filter(w.heeded.and(m.what)).Changes() {
			m.pending.Put(c)
		}
	}
	m.lost = false
}

// heeded is a Filter as it is asked for, and as a server acknowledges it.
type heeded struct {
	Tools     bool     `json:"toolsListChanged,omitempty"`
	Prompts   bool     `json:"promptsListChanged,omitempty"`
	Resources bool     `json:"resourcesListChanged,omitempty"`
	URIs      []string `json:"resourceSubscriptions,omitempty"`
}

// acknowledge tells a watcher how much of what it wants the server heeds.
func (m *watcher) acknowledge(all Filter) {
	m.acked = true
	params, err := json.Marshal(map[string]heeded{"notifications": heeded(all.and(m.what))})
	if err != nil {
		return // cannot be: strings always marshal
	}
	m.pending.Put(transport.Change{Method: transport.MethodAcknowledged, Params: params})
}

// and is what is in both.
func (f Filter) and(g Filter) Filter {
	both := Filter{Tools: f.Tools && g.Tools, Prompts: f.Prompts && g.Prompts, Resources: f.Resources && g.Resources}
	for _, uri := range g.URIs {
		if slices.Contains(f.URIs, uri) {
			both.URIs = append(both.URIs, uri)
		}
	}
	return both
}

// wants reports whether a watcher is to be told of a change.
func (m *watcher) wants(c transport.Change) bool {
	switch c.Method {
	case methodToolsChanged:
		return m.what.Tools
	case methodPromptsChanged:
		return m.what.Prompts
	case methodResourcesChanged:
		return m.what.Resources
	case methodUpdated:
		uri := jsonrpc.GetString(c.Params, "uri")
		return slices.ContainsFunc(m.what.URIs, func(asked string) bool {
			return within(uri, asked)
		})
	}
	return false
}
