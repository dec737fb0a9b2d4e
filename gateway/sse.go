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

// talkParam names the talk that a message over HTTP+SSE is of.
const talkParam = "sessionId"

// maxTalks bounds the clients over HTTP+SSE.
const maxTalks = 1 << 14

// talks are the clients over HTTP+SSE, by what they are told to name in their
// messages. It says which gateway has their stream.
type talks struct {
	mu sync.Mutex // guards by
	by map[string]*visitor
}

// maxUnread bounds the bytes that wait for such a client to read them; beyond it
// no more of its messages are taken.
const maxUnread = 4 << 20

// A visitor is a client over HTTP+SSE.
type visitor struct {
	*talk
	stream  *stream
	ctx     context.Context // ends with its stream
	receive sync.Mutex      // one message after the other
}

// talk serves a client over HTTP+SSE, the transport of MCP 2024-11-05: the
// answers to what it posts come on the stream that this opens.
func (g *Gateway) talk(v *visit) {
	ctx, cancel := context.WithCancelCause(v.r.Context())
	id := g.name + "." + rand.Text()
	out := newStream("")
	talk := &visitor{talk: g.newTalk(v.endpoint, v.principal, out), stream: out, ctx: ctx}
	if !g.talks.enter(id, talk) {
		cancel(nil)
		v.w.Header().Set("Retry-After", retryAfter)
		refuse(v.w, http.StatusServiceUnavailable, rpc.Errorf(rpc.CodeInternal, "there are %d clients over HTTP+SSE already", maxTalks))
		return
	}
	defer talk.end()
	defer close(talk.hungUp)
	defer talk.pass()
	defer cancel(errors.New("the client is gone"))
	defer g.talks.leave(id)
	drained := make(chan struct{})
	stop := context.AfterFunc(g.draining, func() {
		defer close(drained)
		talk.pass()
		talk.calls.Wait() // no more begin
		out.end()
	})
	defer func() {
		if !stop() {
			cancel(errClosed)
			<-drained
		}
	}()
	startEvents(v.w)
	where := v.r.URL.Path + "?" + url.Values{talkParam: {id}}.Encode()
	if _, err := io.WriteString(v.w, "event: endpoint\ndata: "+where+"\n\n"); err != nil {
		return
	}
	_ = out.serve(ctx, v.w, 0) // it is over in any case
}

// postTalk takes a message of a client over HTTP+SSE.
func (g *Gateway) postTalk(v *visit, id string) {
	talk := g.talks.find(id)
	if talk == nil || talk.endpoint != v.endpoint || talk.principal != v.principal {
		refuse(v.w, http.StatusNotFound, sessionGone())
		return
	}
	body, ok := g.body(v)
	if !ok {
		return
	}
	if _, err := jsonrpc.Parse(body); err != nil {
		refuse(v.w, http.StatusBadRequest, frameError(err))
		return
	}
	if talk.stream.waiting() > maxUnread {
		v.w.Header().Set("Retry-After", retryAfter)
		refuse(v.w, http.StatusTooManyRequests, rpc.Errorf(rpc.CodeInternal, "%d bytes of answers are not read yet", maxUnread))
		return
	}
	talk.receive.Lock()
	defer talk.receive.Unlock()
	if talk.ctx.Err() != nil {
		refuse(v.w, http.StatusNotFound, sessionGone())
		return
	}
	talk.talk.receive(talk.ctx, body)
	v.w.WriteHeader(http.StatusAccepted)
}

// pass waits until the message is taken that may be on its way: what comes after
// finds that the talk is over, or that no more calls are taken.
func (v *visitor) pass() {
	v.receive.Lock()
	defer v.receive.Unlock()
}

func (t *talks) enter(id string, v *visitor) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.by) >= maxTalks {
		return false
	}
	t.by[id] = v
	return true
}

func (t *talks) leave(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.by, id)
}

func (t *talks) find(id string) *visitor {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.by[id]
}
