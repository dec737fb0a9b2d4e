package gateway

import (
	"context"
	"crypto/rand"
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

// A visitor is a client over HTTP+SSE.
type visitor struct {
	*talk
	ctx     context.Context // ends with its stream
	receive sync.Mutex      // one message after the other
}

// talk serves a client over HTTP+SSE, the transport of MCP 2024-11-05: the
// answers to what it posts come on the stream that this opens.
func (g *Gateway) talk(v *visit) {
	ctx, cancel := g.untilDrain(v.r.Context())
	defer cancel()
	id := g.name + "." + rand.Text()
	out := newStream("")
	talk := &visitor{talk: g.newTalk(v.endpoint, v.principal, out), ctx: ctx}
	if !g.talks.enter(id, talk) {
		v.w.Header().Set("Retry-After", retryAfter)
		refuse(v.w, http.StatusServiceUnavailable, rpc.Errorf(rpc.CodeInternal, "there are %d clients over HTTP+SSE already", maxTalks))
		return
	}
	defer talk.end()
	defer close(talk.hungUp)
	defer g.talks.leave(id)
	defer cancel()
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
	talk.receive.Lock()
	defer talk.receive.Unlock()
	if talk.ctx.Err() != nil {
		refuse(v.w, http.StatusNotFound, sessionGone())
		return
	}
	talk.talk.receive(talk.ctx, body)
	v.w.WriteHeader(http.StatusAccepted)
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
