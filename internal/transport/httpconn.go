package transport

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mirror"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Headers, as net/http writes them.
const (
	headerAuthorization = "Authorization"

	headerSession = "Mcp-Session-Id"
	headerVersion = "Mcp-Protocol-Version"
	headerMethod  = "Mcp-Method"
	headerName    = "Mcp-Name"

	headerLastEvent = "Last-Event-Id"
)

const (
	// closeTime bounds Close over HTTP, where the ctx does not: a server that
	// does not answer the DELETE must not hold up whoever closes.
	closeTime = time.Second
	// withdrawTime bounds how long we try to tell a server that a call is over.
	withdrawTime = 5 * time.Second
	// replyTime bounds how long we try to send a response. A server may accept
	// it as late as it likes to go on.
	replyTime = 30 * time.Second
	// maxReplying bounds how many responses of ours are on their way to a server
	// at once. Beyond it they are dropped: one that asks without end does not
	// get an answer each time.
	maxReplying = 256
	// drainTime bounds how long the end of a stream, or of a request that is
	// still on its way, is awaited after the answer.
	drainTime = 250 * time.Millisecond
	// maxDrain bounds, in bytes, what is read so that a TCP connection can be
	// used again.
	maxDrain = 64 << 10
)

// An httpConn is a connection over HTTP: a session of a legacy server, or the
// agreement that a server is modern.
type httpConn struct {
	*life
	server  *httpEndpoint
	peer    Peer
	session string      // empty if modern, or if the server keeps none
	header  http.Header // of every request; nothing of a caller's
	ids     atomic.Int64
	lost    atomic.Bool // the server has said that the session is gone

	standing  *standing // nil unless callers can be asked something
	replying  atomic.Int32
	authorize Authorize // of requests that are made for no call
}

func newHTTPConn(e *httpEndpoint, authorize Authorize) *httpConn {
	return &httpConn{life: newLife(e.changed), server: e, authorize: authorize}
}

// settle sets what the requests from now on are: those of an era, a version
// and a session. Only an opening may call it.
func (c *httpConn) settle(peer Peer, session string) {
	c.peer, c.session, c.header = peer, session, c.server.header.Clone()
	if peer.Protocol != "" {
		c.header.Set(headerVersion, peer.Protocol)
	}
	if session != "" {
		c.header.Set(headerSession, session)
	}
}

func (c *httpConn) Peer() Peer            { return c.peer }
func (c *httpConn) Done() <-chan struct{} { return nil }

func (c *httpConn) Call(ctx context.Context, call rpc.Call, authorize Authorize) (rpc.Answer, error) {
	if c.peer.Era == Legacy { // which asks while the call runs
		got, err := c.exchange(ctx, call, authorize)
		if err != nil {
			return rpc.Answer{}, settled(err)
		}
		return lend(rpc.LegacyResult(got.result), call, got.memory), nil
	}
	var got answer
	result, err := withInput(ctx, call, func(call rpc.Call) (_ json.RawMessage, err error) {
		got, err = c.exchange(ctx, call, authorize)
		return got.result, err
	})
	if err != nil {
		return rpc.Answer{}, err
	}
	return lend(rpc.ModernResult(result), call, got.memory), nil
}

func (c *httpConn) Check(ctx context.Context) error {
	_, err := c.exchange(ctx, checkCall(c.peer.Era), c.authorize)
	return checked(err)
}

func (c *httpConn) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	c.close(ctx, func() {
		if c.session != "" && !c.lost.Load() && ctx.Err() == nil {
			c.spawn(c.deleteSession)
		}
	})
}

// deleteSession tells the server that the session is over (MCP 2025-11-25,
// transports, "Session Management" 5). Servers that do not allow it answer
// 405; there is nothing to be done about any answer.
func (c *httpConn) deleteSession() {
	response, failure := c.server.do(c.last, http.MethodDelete, c.header, nil, c.authorize)
	if failure != nil {
		c.server.log.Debug("the session was not deleted", "error", failure.Err)
		return
	}
	release(response)
}

// An answer is what a request was answered with.
type answer struct {
	result   json.RawMessage
	response *http.Response // its body is read
	memory   []byte         // that the result is in
}

// exchange makes one request and takes in what comes for it until the answer.
func (c *httpConn) exchange(ctx context.Context, call rpc.Call, authorize Authorize) (answer, error) {
	if !c.enter() {
		return answer{}, &Failure{Fate: NotSent, Dead: true, Err: c.server.errorf("%w", errClosed)}
	}
	defer c.leave()
	x := newExchange(c.ids.Add(1), c.peer.Era, call, c, c.server.log)
	x.authorize = authorize
	frame, err := x.frame(call)
	if err != nil {
		return answer{}, err
	}
	header := c.header
	if c.peer.Era == Modern {
		header = c.server.modernHeader(header, call)
	}
	header = traceHeader(header, call.Trace)
	if x.leveled() {
		if err := c.raise(ctx, x, c.peer.Hello, func(ctx context.Context, call rpc.Call) error {
			_, err := c.exchange(ctx, call, c.authorize)
			return err
		}); err != nil {
			return answer{}, err
		}
	}

	s := c.begin(ctx)
	if ctx.Err() != nil {
		s.finish()
		return answer{}, &Failure{Fate: NotSent, Err: context.Cause(ctx)}
	}
	defer c.standing.enter(s, x)()
	response, failure := c.server.do(s, http.MethodPost, header, frame, authorize)
	if failure != nil {
		x.end()
		defer s.finish()
		return answer{}, c.cutShort(s, failure, x)
	}
	result, rest, err := c.read(s, response, x)
	x.end()
	if rest == nil {
		_ = response.Body.Close()
		s.finish()
		return answer{result, response, x.memory}, err
	}
	s.outlive() // what is left of the stream is read in the background
	c.spawn(func() {
		defer s.finish()
		drain(rest, s.cancel)
	})
	return answer{result, response, x.memory}, err
}

// A span is the context of an HTTP request that is made for a call. It ends
// with the connection, and with the call unless it outlives that.
type span struct {
	context.Context
	cancel   context.CancelCauseFunc
	stopCall func() bool

	life       *life
	next, prev *span // of those of the connection; guarded by life.mu
}

// begin begins a span, which has to be finished.
func (c *httpConn) begin(ctx context.Context) *span {
	s := &span{life: c.life}
	s.Context, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	s.stopCall = context.AfterFunc(ctx, func() { s.cancel(context.Cause(ctx)) })
	c.life.add(s)
	return s
}

func (s *span) outlive() { s.stopCall() }

func (s *span) finish() {
	s.stopCall()
	s.life.remove(s)
	s.cancel(nil)
}

// cutShort looks once more at a failure of the network: if the call was ended
// by its caller or by Close, that is the cause, and the server is told to stop.
// A modern server sees it by the end of the response stream (MCP 2026-07-28,
// streamable HTTP, "Cancellation"); to a legacy one a disconnect says nothing
// (MCP 2025-11-25, transports, "Sending Messages" 6).
func (c *httpConn) cutShort(ctx context.Context, f *Failure, x *exchange) *Failure {
	if ctx.Err() == nil {
		return f
	}
	cause := context.Cause(ctx)
	closing := errors.Is(cause, errClosed)
	told := closing && c.session != "" // by the DELETE
	if f.Fate == MayHaveRun && c.peer.Era == Legacy && x.method != methodInitialize && !told {
		heard := make(chan struct{})
		f.Settled = heard
		c.post(c.last, withdrawTime, cancelled(x.id, cause), x.authorize, func() { close(heard) })
	}
	return &Failure{Fate: f.Fate, Dead: closing, Err: cause, Settled: f.Settled}
}

// tell sends a notification or a response and waits until the server has
// accepted it.
func (c *httpConn) tell(ctx context.Context, header http.Header, frame []byte, authorize Authorize) error {
	response, failure := c.server.do(ctx, http.MethodPost, header, frame, authorize)
	if failure != nil {
		return failure
	}
	if response.StatusCode/100 == 2 {
		release(response)
		return nil
	}
	defer response.Body.Close()
	return c.refusal(response, nil)
}

// reply implements link.
func (c *httpConn) reply(frame []byte, authorize Authorize) {
	if c.replying.Add(1) > maxReplying {
		c.replying.Add(-1)
		c.server.log.Debug("a response was dropped: the server does not take in those before it")
		return
	}
	c.post(c.ctx, replyTime, frame, authorize, func() { c.replying.Add(-1) })
}

// post sends a notification or a response in the background. done is called
// when the server has accepted it, or will not.
func (c *httpConn) post(ctx context.Context, limit time.Duration, frame []byte, authorize Authorize, done func()) {
	header := c.header // an opening may still change it
	c.spawn(func() {
		defer done()
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if err := c.tell(ctx, header, frame, authorize); err != nil {
			c.server.log.Debug("a message was not accepted", "error", err)
		}
	})
}

// drain reads what a server still sends after the answer, which as a rule is
// nothing but the end of the stream. Without it every call that is answered by
// a stream would cost a TCP connection.
func drain(body io.ReadCloser, cancel context.CancelCauseFunc) {
	timer := time.AfterFunc(drainTime, func() { cancel(nil) })
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, body, maxDrain)
	_ = body.Close()
}

// release closes a response whose body nobody wants, and reads it first if it
// says that it is short. One that does not say may have no end.
func release(response *http.Response) {
	if n := response.ContentLength; 0 < n && n <= maxDrain {
		_, _ = io.CopyN(io.Discard, response.Body, n)
	}
	_ = response.Body.Close()
}

// quote returns the beginning of what the server said in a response, without
// the id of the session: whoever knows it can use it. Secrets go first, lest
// half of one be left at the cut.
func (c *httpConn) quote(response *http.Response, said []byte) string {
	text := c.server.blot(string(said[:min(len(said), 8*excerptLength)]), authorizationOf(response.Request))
	if len(c.session) >= secretLength {
		text = strings.ReplaceAll(text, c.session, "***")
	}
	return excerpt([]byte(text))
}

// modernHeader returns the header of a modern request, which repeats what
// intermediaries route by (MCP 2026-07-28, streamable HTTP, "Standard Request
// Headers").
func (e *httpEndpoint) modernHeader(common http.Header, call rpc.Call) http.Header {
	header := maps.Clone(common) // the values stay those of common
	header.Set(headerMethod, mirror.Encode(call.Method))
	switch call.Method {
	case "tools/call":
		name := jsonrpc.GetString(call.Params, "name")
		header.Set(headerName, mirror.Encode(name))
		if e.paramHeaders != nil {
			setParamHeaders(header, call.Params, e.paramHeaders(name))
		}
	case "prompts/get":
		header.Set(headerName, mirror.Encode(jsonrpc.GetString(call.Params, "name")))
	case "resources/read":
		header.Set(headerName, mirror.Encode(jsonrpc.GetString(call.Params, "uri")))
	case "tasks/get", "tasks/update", "tasks/cancel": // SEP-2663
		header.Set(headerName, mirror.Encode(jsonrpc.GetString(call.Params, "taskId")))
	}
	return header
}

// setParamHeaders sets the headers of a call with these params. What is not
// there, null, or not of its type is left out: the server knows what to say.
func setParamHeaders(header http.Header, params json.RawMessage, which []mirror.Header) {
	if len(which) == 0 {
		return
	}
	arguments, _ := jsonrpc.Get(params, "arguments")
	for _, h := range which {
		raw, _ := jsonrpc.Get(arguments, h.Path...)
		if value, ok := mirror.Value(raw); ok {
			header.Set(h.Name, mirror.Encode(value))
		}
	}
}
