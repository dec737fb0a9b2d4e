package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// maxUnanswered bounds the requests of a client, all of which come one way,
// that are being answered.
const maxUnanswered = 4096

// A talk is one client whose messages all come one way and are answered
// another: over stdio, over HTTP+SSE, or in this process. Whatever its era, its
// calls have one session, which ends with it.
type talk struct {
	gateway    *Gateway
	endpoint   *endpoint
	principal  string
	transport  string // as ClientStatus has it
	began      time.Time
	out        outlet
	session    atomic.Pointer[session]
	calls      sync.WaitGroup  // requests that are being answered
	unanswered atomic.Int32    // how many those are
	hungUp     chan struct{}   // closed when nothing more comes of the client
	leave      <-chan struct{} // closed when the client is to go on elsewhere; nil: it cannot

	// Of the goroutine that receives alone:
	initialized bool // the client has sent initialize: it is legacy, or both
	listens     bool // it is told of changes, until the session ends
}

// newTalk begins a talk, which has to be ended.
func (g *Gateway) newTalk(e *endpoint, principal, transport string, out outlet) *talk {
	t := &talk{gateway: g, endpoint: e.visibleTo(g.now().rights(principal)), principal: principal, transport: transport, began: time.Now(), out: out, hungUp: make(chan struct{})}
	t.session.Store(&session{name: rand.Text(), gateway: g.name})
	g.talks.enter(t)
	return t
}

// end ends the session. Its calls have to be over, or about to be.
func (t *talk) end() {
	t.calls.Wait()
	t.gateway.talks.leave(t)
	s := t.session.Load()
	t.gateway.parked.end(s.name)
	t.gateway.endSession(t.gateway.now().at(t.endpoint.name), rpc.Caller{Principal: t.principal, Session: s.name, Capabilities: s.caps})
}

// receive takes one frame of the client.
func (t *talk) receive(ctx context.Context, frame []byte) {
	msg, err := parse(frame)
	switch {
	case err != nil:
		t.send(jsonrpc.AppendError(nil, msg.ID, frameError(err)))
	case msg.IsResponse():
		_ = t.gateway.questions.answered(t.session.Load().name, msg.Message) // there is no way to tell of it
	case msg.IsNotification():
		t.notified(msg)
	default:
		t.request(ctx, msg)
	}
}

func (t *talk) notified(msg *message) {
	s := t.session.Load()
	t.gateway.notified(s.name, msg)
	if msg.Method == notifyInitialized && t.initialized && !t.listens {
		if st, err := t.gateway.standings.get(t.endpoint, t.principal, s, t.out); err == nil {
			st.read()
			t.listens = true
		}
	}
}

// request starts to answer a request.
func (t *talk) request(ctx context.Context, msg *message) {
	era := legacy
	begins := msg.Method == methodInitialize || msg.Method == methodPing
	if msg.isModern("") || !t.initialized && !begins {
		// Who has not begun as legacy clients do is held to what modern ones say.
		era = modern
		if err := msg.checkModern(nil); err != nil {
			t.send(jsonrpc.AppendError(nil, msg.ID, err))
			return
		}
	}
	if era == legacy && msg.Method == methodInitialize {
		t.initialized = true
	}
	if int(t.unanswered.Load()) >= min(maxUnanswered, t.gateway.limits.each) {
		// Waits for the client to read, and so does what it sends.
		t.send(jsonrpc.AppendError(nil, msg.ID, tooManyUnanswered()))
		return
	}
	q := t.gateway.newRequest(t.endpoint, era, t.principal, t.session.Load(), msg, t.out)
	q.standingOut, q.hungUp, q.leaves = t.out, t.hungUp, t.leave != nil
	// Counted in before the next frame is read, which may cancel it.
	ctx, this, err := t.gateway.calls.begin(ctx, keyOf(q.caller.Session, q.id), q.author())
	if err != nil {
		q.leave()
		t.refuse(q, err)
		return
	}
	t.unanswered.Add(1)
	t.calls.Go(func() {
		defer q.leave()
		defer t.unanswered.Add(-1)
		result, err := q.run(ctx)
		if err == nil && q.method == methodInitialize {
			t.session.Store(q.session)
		}
		// Before the answer, with which the client may use the id again.
		t.gateway.calls.end(this)
		switch {
		case err == nil:
			t.send(jsonrpc.AppendResult(nil, q.id, result))
		case errors.Is(err, errCancelled):
			// Nothing is sent for it (MCP 2025-11-25, basic/utilities/cancellation;
			// 2026-07-28, basic/transports/stdio "Cancellation").
		default:
			t.refuse(q, err)
		}
	})
}

// refuse answers a request with an error. One that was not made because the
// gateway closes is made elsewhere, where the client can go on.
func (t *talk) refuse(q *request, err error) {
	if t.leave == nil || !errors.Is(err, errClosed) {
		t.send(jsonrpc.AppendError(nil, q.id, wireError(err, q.era)))
	}
}

func tooManyUnanswered() *rpc.Error {
	return rpc.Errorf(rpc.CodeInternal, "too many requests are not answered yet, and no more are taken (max_calls_per_principal, and never more than %d). It did not run.", maxUnanswered)
}

func (t *talk) send(frame []byte) { t.out.send(oneLine(frame)) }
