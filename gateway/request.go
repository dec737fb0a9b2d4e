package gateway

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// An era is one of the two ways in which clients speak MCP.
type era int8

const (
	legacy era = iota // up to 2025-11-25: initialize and sessions
	modern            // 2026-07-28: stateless
)

// Methods that are answered.
const (
	methodInitialize = "initialize"      // legacy
	methodPing       = "ping"            // legacy
	methodDiscover   = "server/discover" // modern
	methodListTools  = "tools/list"
	methodCallTool   = "tools/call"
)

// Notifications that mean something here.
const (
	notifyCancelled = "notifications/cancelled" // from clients
	notifyProgress  = "notifications/progress"  // to clients
	notifyMessage   = "notifications/message"   // to clients
)

// A request is one request of a client, over HTTP or stdio.
type request struct {
	endpoint *endpoint
	era      era
	session  string // Caller.Session; "" for none
	id       json.RawMessage
	method   string
	params   json.RawMessage // without what only its era needs

	// emit sends a frame to the client ahead of the answer, without blocking;
	// nil where the client takes nothing but the answer.
	emit     func(frame []byte)
	progress bool // the client asked for progress
	logLevel int  // the least severe log message that the client asked for

	// cancel ends the request, and with it the call of the one server that it is
	// for; nil where each call is to have an end of its own.
	cancel context.CancelCauseFunc

	lent rpc.Answer // what the result is in, to be freed when it is sent
}

// A message is a frame of a client, and what it says of itself.
type message struct {
	jsonrpc.Message
	meta json.RawMessage // params._meta; nil for none
}

// parse reads one frame. The message is there with an error as well, with the
// id if one was found; the errors are those of [jsonrpc.Parse].
func parse(frame []byte) (*message, error) {
	m, err := jsonrpc.Parse(frame)
	msg := &message{Message: m}
	if err == nil {
		msg.meta, _ = jsonrpc.Get(m.Params, "_meta")
	}
	return msg, err
}

// newRequest makes the request of a message whose era has been found and, for
// the modern one, checked.
func newRequest(e *endpoint, era era, session string, msg *message) *request {
	q := &request{
		endpoint: e, era: era, session: session,
		id: msg.ID, method: msg.Method, params: msg.Params,
		logLevel: noLog,
	}
	token, _ := jsonrpc.Get(msg.meta, "progressToken")
	q.progress = jsonrpc.IsID(token)
	if era == modern {
		q.logLevel = logLevel(jsonrpc.GetString(msg.meta, metaLogLevel))
		q.params = withoutEra(msg)
	} else if q.progress {
		// Legacy clients set a level once per session, with a method that is
		// not here; whoever follows a call gets its messages as well.
		q.logLevel = 0
	}
	return q
}

// answer answers a request, which counts as a call in flight meanwhile. It
// returns what [Gateway.run] does, or why the request was turned away.
func (g *Gateway) answer(ctx context.Context, q *request) (json.RawMessage, error) {
	ctx, this, err := g.calls.begin(ctx, keyOf(q.session, q.id))
	if err != nil {
		return nil, err
	}
	defer g.calls.end(this)
	q.cancel = this.cancel
	return g.run(ctx, q)
}

// run answers a request that has been counted in: with a result that is ready
// to be sent, or with an error for [wireError].
func (g *Gateway) run(ctx context.Context, q *request) (json.RawMessage, error) {
	answer, err := g.dispatch(ctx, q)
	if err != nil {
		cause := context.Cause(ctx)
		if !isAnswer(err) && (cause == errCancelled || cause == errAborted) {
			err = cause // rather than what the handler made of it
		}
		return nil, err
	}
	if q.era == modern {
		return g.modernResult(q.method, answer)
	}
	return legacyResult(answer)
}

func (g *Gateway) dispatch(ctx context.Context, q *request) (rpc.Answer, error) {
	switch {
	case q.method == methodListTools:
		return g.listTools(ctx, q)
	case q.method == methodCallTool:
		return q.callTool(ctx)
	case q.method == methodInitialize && q.era == legacy:
		result, err := g.initialize(q.params)
		return rpc.LegacyResult(result), err
	case q.method == methodPing && q.era == legacy:
		return rpc.LegacyResult(json.RawMessage("{}")), nil
	case q.method == methodDiscover && q.era == modern:
		return rpc.Result(discoverResult), nil
	}
	return rpc.Answer{}, rpc.Errorf(rpc.CodeMethodNotFound, "method %q is not supported", q.method)
}

// isAnswer reports whether err is an error that the server answered with.
func isAnswer(err error) bool {
	var e *rpc.Error
	return errors.As(err, &e)
}
