package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// visitorParam names the visitor that a message is of.
	visitorParam = "sessionId"
	// maxVisitors bounds the clients over HTTP+SSE.
	maxVisitors = 1 << 14
	// maxUnread bounds the bytes that wait for one of them to read them; beyond
	// it no more of its messages are taken.
	maxUnread = 4 << 20
)

// A visitor is a client over HTTP+SSE, the transport of MCP 2024-11-05.
type visitor struct {
	*talk
	stream *stream
	ctx    context.Context // ends with its stream
	turn   sync.Mutex      // held while a message is taken: one after the other
	left   bool            // no more messages are taken; of whose turn it is
}

// visitors are those there are, by what they are told to name in their messages.
// It says which gateway has their stream.
type visitors struct {
	mu sync.Mutex // guards by
	by map[string]*visitor
}

// openSSE serves a client: the answers to what it posts come on the stream that
// this opens.
func (g *Gateway) openSSE(v *visit) {
	if g.leaving.Err() != nil {
		startEvents(v.w) // and no more: the client has come back on the connection that it had
		return
	}
	held, release := g.admitted.hold(v.r.Context(), v)
	defer release()
	ctx, cancel := context.WithCancelCause(held)
	id := g.name + "." + rand.Text()
	out := newStream("")
	client := &visitor{talk: g.newTalk(v.endpoint, v.principal, "sse", out), stream: out, ctx: ctx}
	if !g.visitors.enter(id, client) {
		cancel(nil)
		g.talks.leave(client.talk)
		v.w.Header().Set("Retry-After", retryAfter)
		refuse(v.w, http.StatusServiceUnavailable, rpc.Errorf(rpc.CodeInternal, "there are %d clients over HTTP+SSE already", maxVisitors))
		return
	}
	defer client.end()
	defer close(client.hungUp)
	defer client.pass()
	defer cancel(errors.New("the client is gone"))
	defer g.visitors.leave(id)
	drained := make(chan struct{})
	stop := context.AfterFunc(g.leaving, func() {
		defer close(drained)
		client.turn.Lock()
		client.left = true
		client.turn.Unlock()
		client.calls.Wait() // no more begin
		out.end()
	})
	defer func() {
		if !stop() {
			cancel(errClosed)
			<-drained
		}
	}()
	startEvents(v.w)
	where := v.r.URL.Path + "?" + url.Values{visitorParam: {id}}.Encode()
	if _, err := io.WriteString(v.w, "event: endpoint\ndata: "+where+"\n\n"); err != nil {
		return
	}
	_ = out.serve(ctx, v.w, 0) // it is over in any case
}

// postSSE takes a message of a client over HTTP+SSE.
func (g *Gateway) postSSE(v *visit, id string) {
	client := g.visitors.find(id)
	if client == nil || client.endpoint.name != v.endpoint.name || client.principal != v.principal {
		refuse(v.w, http.StatusNotFound, sessionGone())
		return
	}
	body, ok := g.body(v)
	if !ok {
		return
	}
	msg, err := jsonrpc.Parse(body)
	if err != nil {
		refuse(v.w, http.StatusBadRequest, frameError(err))
		return
	}
	if client.stream.waiting() > maxUnread {
		v.w.Header().Set("Retry-After", retryAfter)
		refuse(v.w, http.StatusTooManyRequests, rpc.Errorf(rpc.CodeInternal, "%d bytes of answers are not read yet", maxUnread))
		return
	}
	client.turn.Lock()
	defer client.turn.Unlock()
	// Once the gateway closes, the stream says so itself.
	if client.ctx.Err() != nil || client.left && msg.IsRequest() && g.draining.Err() == nil {
		refuse(v.w, http.StatusNotFound, sessionGone())
		return
	}
	client.receive(client.ctx, body)
	v.w.WriteHeader(http.StatusAccepted)
}

// pass waits until the message is taken that may be on its way: what comes after
// finds that the client is gone, or that no more calls are taken.
func (v *visitor) pass() {
	v.turn.Lock()
	defer v.turn.Unlock()
}

func (vs *visitors) enter(id string, v *visitor) bool {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if len(vs.by) >= maxVisitors {
		return false
	}
	vs.by[id] = v
	return true
}

func (vs *visitors) leave(id string) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	delete(vs.by, id)
}

func (vs *visitors) find(id string) *visitor {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	return vs.by[id]
}
