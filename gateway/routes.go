package gateway

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// Notifications of changes of lists (MCP 2025-11-25, server/tools "List Changed
// Notification", and likewise), which both eras have.
const (
	notifyToolsChanged     = "notifications/tools/list_changed"
	notifyPromptsChanged   = "notifications/prompts/list_changed"
	notifyResourcesChanged = "notifications/resources/list_changed"
)

// routes are what is served where. They are never changed, but replaced as a
// whole by Change.
type routes struct {
	all    *endpoint // what /mcp and stdio serve
	byName map[string]*endpoint

	rights func(principal string) Rights

	replaced chan struct{} // closed when others have taken their place
	idle     chan struct{} // closed when that is so, nobody uses them, nor those before

	gateway *Gateway // whose routing guards what follows
	before  *routes  // that are not idle yet; nil for none
	after   *routes
	users   int // requests that were begun with them, and what these left running
}

// at returns what is served under the name of an endpoint, "" for all servers.
// A server that is served no more has an endpoint without any.
func (r *routes) at(name string) *endpoint {
	if name == "" {
		return r.all
	}
	if e := r.byName[name]; e != nil {
		return e
	}
	return &endpoint{name: name}
}

// newRoutes checks servers and makes their routes. What is served as before
// keeps its backend.
func newRoutes(servers []Server, prefixed bool, old *routes) (*routes, error) {
	if len(servers) == 0 {
		return nil, errors.New("gateway: there is no server to serve")
	}
	r := &routes{
		all:      &endpoint{prefixed: prefixed},
		byName:   make(map[string]*endpoint, len(servers)),
		replaced: make(chan struct{}),
		idle:     make(chan struct{}),
	}
	for i := range servers {
		s := &servers[i]
		if err := s.check(r.all.servers); err != nil {
			return nil, fmt.Errorf("gateway: server %q: %w", s.Name, err)
		}
		b := newBackend(s)
		if old != nil {
			if known := old.all.named(s.Name); known != nil && known.Server.same(&b.Server) {
				b = known
			}
		}
		r.all.servers = append(r.all.servers, b)
		r.byName[s.Name] = &endpoint{name: s.Name, servers: []*backend{b}}
	}
	return r, nil
}

// same reports whether two servers are served alike. What is told of the end of
// sessions goes with the handler.
func (s *Server) same(other *Server) bool {
	if !reflect.ValueOf(s.Handler).Comparable() || s.Handler != other.Handler {
		return false
	}
	one, another := *s, *other
	one.Handler, another.Handler, one.EndSession, another.EndSession = nil, nil, nil, nil
	return reflect.DeepEqual(one, another)
}

// enter returns the routes of now for a request, which has to leave them.
func (g *Gateway) enter() *routes {
	g.routing.Lock()
	defer g.routing.Unlock()
	g.routes.users++
	return g.routes
}

// stay has them left once more than they were entered, by who has entered them
// and not left them yet.
func (r *routes) stay() {
	r.gateway.routing.Lock()
	defer r.gateway.routing.Unlock()
	r.users++
}

func (r *routes) leave() {
	r.gateway.routing.Lock()
	defer r.gateway.routing.Unlock()
	r.users--
	r.endLocked()
}

// endLocked notes that they are idle, and then those after them may be, too.
func (r *routes) endLocked() {
	for r != nil && r.users == 0 && r.before == nil && r.after != nil {
		close(r.idle)
		r.after.before = nil
		r = r.after
	}
}

// now returns the routes of now for a look.
func (g *Gateway) now() *routes {
	g.routing.Lock()
	defer g.routing.Unlock()
	return g.routes
}

// Change replaces the servers. Requests that have begun go on with those there
// were, and every other one finds the new ones; clients who listen are told that
// the lists have changed, and hear of changes of the new servers from then on.
// Tools keep the names that [PrefixAuto] has given them: whether they are
// prefixed is decided by New. The error says what makes no sense, and then
// nothing has changed.
//
// rights replaces Options.Rights, at the same time; nil keeps what there was.
//
// left is closed when no request uses what was replaced: then the handlers that
// are not among servers can be closed. A [mcpool.Pool] can be closed before: the
// calls that wait in it begin anew with the new servers, for none of them was made.
func (g *Gateway) Change(servers []Server, rights func(principal string) Rights) (left <-chan struct{}, err error) {
	g.changing.Lock()
	defer g.changing.Unlock()
	old := g.now()
	next, err := newRoutes(servers, old.all.prefixed, old)
	if err != nil {
		return nil, err
	}
	if next.gateway, next.rights = g, rights; rights == nil {
		next.rights = old.rights
	}
	g.routing.Lock()
	g.routes = next
	next.before, old.after = old, next
	old.endLocked()
	g.routing.Unlock()
	for _, s := range old.all.servers {
		if next.all.named(s.Name) != s {
			g.lists.forget(s.Name)
		}
	}
	close(old.replaced)
	return old.idle, nil
}

// follow has listen called for each server of an endpoint that is there for a
// principal, and for those that come to be. The ctx of listen ends with ctx, or
// when the server is served no more, or not to the principal. changed is called when the servers have been replaced. follow returns
// when ctx has ended and all that it called has returned.
func (g *Gateway) follow(ctx context.Context, endpoint, principal string, listen func(context.Context, *backend), changed func()) {
	var work sync.WaitGroup
	defer work.Wait()
	begun := make(map[*backend]context.CancelFunc)
	defer func() {
		for _, cancel := range begun {
			cancel()
		}
	}()
	for first := true; ; first = false {
		r := g.now()
		serves := make(map[*backend]bool)
		differs := false
		for _, s := range r.at(endpoint).visibleTo(r.rights(principal)).servers {
			serves[s] = true
			if begun[s] != nil {
				continue
			}
			differs = true
			listening, cancel := context.WithCancel(ctx)
			begun[s] = cancel
			work.Go(func() { listen(listening, s) })
		}
		for s, cancel := range begun {
			if !serves[s] {
				differs = true
				cancel()
				delete(begun, s)
			}
		}
		if differs && !first {
			changed()
		}
		select {
		case <-r.replaced:
		case <-ctx.Done():
			return
		}
	}
}

// changed tells a legacy client that the servers have been replaced.
func (st *standing) changed() {
	for _, method := range []string{notifyToolsChanged, notifyPromptsChanged, notifyResourcesChanged} {
		st.out.event(jsonrpc.AppendRequest(nil, nil, method, nil))
	}
}
