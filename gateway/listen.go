package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Notifications of changes (MCP 2026-07-28, "Subscriptions"), which legacy
// clients know too, but for the first.
const (
	notifyAcknowledged = "notifications/subscriptions/acknowledged"
	notifyUpdated      = "notifications/resources/updated"
)

const metaSubscription = "io.modelcontextprotocol/subscriptionId"

const (
	// ackWait is how long a client waits until all servers have said what they
	// will tell of. What a later one tells is passed on all the same.
	ackWait = 5 * time.Second
	// maxURIs bounds the resources that one client subscribes to.
	maxURIs = 1000
	// maxListens bounds the subscriptions of modern clients of one principal: each
	// has a goroutine for each server.
	maxListens = 10000
	// maxUntold bounds the changes that come before a client is told what it
	// will be told of.
	maxUntold = 1000
)

// A filter says which changes somebody wants to hear of, in the names of
// whoever says it.
type filter struct {
	Tools     bool     `json:"toolsListChanged,omitempty"`
	Prompts   bool     `json:"promptsListChanged,omitempty"`
	Resources bool     `json:"resourcesListChanged,omitempty"`
	URIs      []string `json:"resourceSubscriptions,omitempty"`
}

func (f filter) isEmpty() bool {
	return !f.Tools && !f.Prompts && !f.Resources && len(f.URIs) == 0
}

// listenTo hears what a server tells of its changes, until ctx ends. heard is
// told, first of what the server heeds, in the server's names. A server that
// does not let itself be listened to heeds nothing, and is not listened to
// again.
func (g *Gateway) listenTo(ctx context.Context, s *backend, caller rpc.Caller, f filter, heard func(method string, params json.RawMessage)) {
	params, err := json.Marshal(map[string]filter{"notifications": f})
	if err != nil {
		panic(err) // impossible: strings always marshal
	}
	_, _ = s.do(ctx, func() *slog.Logger { return g.log }, rpc.Call{Method: methodListen, Params: params, Caller: caller, Events: listener(heard)})
	if ctx.Err() == nil { // it ends of itself
		heard(notifyAcknowledged, json.RawMessage(`{"notifications":{}}`))
	}
}

// A listener is an rpc.Events that hears of changes.
type listener func(method string, params json.RawMessage)

func (l listener) Notify(method string, params json.RawMessage) { l(method, params) }

func (l listener) Ask(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, error) {
	return nil, rpc.Errorf(rpc.CodeMethodNotFound, "nobody here answers %s", method)
}

// outwardChange puts a change into the names that clients of the endpoint know.
func (e *endpoint) outwardChange(s *backend, method string, params json.RawMessage) json.RawMessage {
	if method == notifyUpdated && e.prefixed {
		if set, err := setString(params, e.outwardURI(s, jsonrpc.GetString(params, "uri")), "uri"); err == nil {
			return set
		}
	}
	return params
}

// listen tells a modern client of the changes that it subscribes to, until it
// goes away, is not let in any more, or the gateway is closed.
func (q *request) listen(ctx context.Context) (json.RawMessage, error) {
	if q.out == nil {
		return nil, rpc.Errorf(rpc.CodeInvalidRequest, "%s is answered by a stream: Accept must allow text/event-stream", methodListen)
	}
	var asked struct{ Notifications filter }
	if err := json.Unmarshal(q.params, &asked); err != nil {
		return nil, rpc.Errorf(rpc.CodeInvalidParams, "params.notifications of %s: %v", methodListen, err)
	}
	all := asked.Notifications
	if len(all.URIs) > maxURIs {
		return nil, rpc.Errorf(rpc.CodeInvalidParams, "%s has %d resourceSubscriptions: at most %d", methodListen, len(all.URIs), maxURIs)
	}
	if !q.gateway.listens.add(q.caller.Principal, maxListens) {
		return nil, rpc.Errorf(rpc.CodeInternal, "%d subscriptions of yours are under way already: no more are taken", maxListens)
	}
	defer q.gateway.listens.remove(q.caller.Principal)
	l := &listening{request: q, heeded: make(map[*backend]filter), names: make(map[string]string)}
	uris := make(map[string][]string) // by the names of servers
	for _, uri := range all.URIs {
		s, inner, err := q.findURI(ctx, uri)
		if err != nil {
			continue // it is not acknowledged
		}
		uris[s.Name] = append(uris[s.Name], inner)
		l.names[s.Name+"\x00"+inner] = uri
	}
	end := q.gateway.leaving
	if q.leaves {
		end = q.gateway.draining // with all else of the client
	}
	ctx, cancel := until(ctx, end)
	defer cancel()
	var work sync.WaitGroup
	defer work.Wait()
	servers := len(q.endpoint.servers)
	acked := make(chan struct{}, servers)
	q.leave() // from here on it follows what is served
	work.Go(func() {
		q.gateway.follow(ctx, q.endpoint.name, q.caller.Principal, func(ctx context.Context, s *backend) {
			ack := sync.OnceFunc(func() {
				select {
				case acked <- struct{}{}:
				default: // of one that came later nobody waits
				}
			})
			f := filter{Tools: all.Tools, Prompts: all.Prompts, Resources: all.Resources, URIs: uris[s.Name]}
			if f.isEmpty() {
				ack()
				return
			}
			q.gateway.listenTo(ctx, s, q.caller, f, func(method string, params json.RawMessage) {
				if l.hear(s, method, params) {
					ack()
				}
			})
		}, l.changed)
	})
	late := time.NewTimer(ackWait)
	defer late.Stop()
waiting:
	for range servers {
		select {
		case <-acked:
		case <-late.C:
			break waiting
		case <-ctx.Done():
			break waiting
		}
	}
	l.acknowledge(all)
	select {
	case <-ctx.Done():
	case <-q.hungUp:
		cancel()
	}
	// Who is not let in any more is to come back, and be told so.
	if cause := context.Cause(ctx); cause == errNotAdmitted || errors.Is(cause, errClosed) && !q.leaves {
		result, err := jsonrpc.Set(nil, q.id, "_meta", metaSubscription)
		return result, err
	}
	return nil, context.Cause(ctx)
}

// listening is a client that hears of changes.
type listening struct {
	request *request
	names   map[string]string // what the client calls a resource, by server and URI there

	mu     sync.Mutex // guards what follows
	heeded map[*backend]filter
	acked  bool
	told   filter            // what was acknowledged
	untold []jsonrpc.Message // what came before that
}

// hear takes in what a server tells. It reports true if that is the first of
// the server, what it heeds.
func (l *listening) hear(s *backend, method string, params json.RawMessage) (first bool) {
	if method == notifyMessage {
		return false // the era has none outside of calls
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if method == notifyAcknowledged {
		var said struct{ Notifications filter }
		_ = json.Unmarshal(params, &said) // what cannot be read is not heeded
		_, again := l.heeded[s]
		l.heeded[s] = said.Notifications
		return !again
	}
	if method == notifyUpdated {
		uri := jsonrpc.GetString(params, "uri")
		name, asked := l.names[s.Name+"\x00"+uri]
		if !asked {
			name = l.request.endpoint.outwardURI(s, uri) // a part of what was asked for
		}
		var err error
		if params, err = setString(params, name, "uri"); err != nil {
			return false
		}
	}
	switch {
	case l.acked:
		l.tellLocked(method, params)
	case len(l.untold) < maxUntold:
		l.untold = append(l.untold, jsonrpc.Message{Method: method, Params: params})
	}
	return false
}

// changed tells the client that the servers have been replaced, as far as it was
// acknowledged that it is told of changes.
func (l *listening) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.acked {
		return // it has not looked yet
	}
	for _, told := range []struct {
		is     bool
		method string
	}{
		{l.told.Tools, notifyToolsChanged}, {l.told.Prompts, notifyPromptsChanged}, {l.told.Resources, notifyResourcesChanged},
	} {
		if told.is {
			l.tellLocked(told.method, nil)
		}
	}
}

// acknowledge tells the client what it will be told of, in its own words, and
// what came meanwhile.
func (l *listening) acknowledge(asked filter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all filter
	told := make(map[string]bool)
	for s, f := range l.heeded {
		all.Tools = all.Tools || f.Tools
		all.Prompts = all.Prompts || f.Prompts
		all.Resources = all.Resources || f.Resources
		for _, uri := range f.URIs {
			told[l.names[s.Name+"\x00"+uri]] = true
		}
	}
	for _, uri := range asked.URIs {
		if told[uri] {
			all.URIs = append(all.URIs, uri)
		}
	}
	params, err := json.Marshal(map[string]filter{"notifications": all})
	if err != nil {
		panic(err) // impossible: strings always marshal
	}
	l.tellLocked(notifyAcknowledged, params)
	l.acked, l.told = true, all
	for _, m := range l.untold {
		l.tellLocked(m.Method, m.Params)
	}
	l.untold = nil
}

func (l *listening) tellLocked(method string, params json.RawMessage) {
	params, err := jsonrpc.Set(params, l.request.id, "_meta", metaSubscription)
	if err != nil {
		return
	}
	l.request.out.event(oneLine(jsonrpc.AppendRequest(nil, nil, method, params)))
}
