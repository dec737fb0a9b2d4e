package gateway

import (
	"context"
	"encoding/json"

	"github.com/mcpool-dev/mcpool/rpc"
)

// Hooks are told of the requests of clients, for traces and metrics of one's
// own; [Gateway.Status] has counts. They are either both set or both nil, and run
// on the way of a request: one that takes long holds up its client. Each
// RequestStart is followed by its RequestEnd with the ctx that it returned, which
// the calls of the request have, too; it must be the ctx that RequestStart was
// given or a child of it.
//
// A call that waits for its client to answer a question is a request that has
// ended, with that question, and goes on with the next one; what is done for the
// call meanwhile has the ctx of the first.
type Hooks struct {
	RequestStart func(ctx context.Context, e RequestStart) context.Context
	RequestEnd   func(ctx context.Context, e RequestEnd)
}

// RequestStart: a client asks for something.
type RequestStart struct {
	Method   string
	Params   json.RawMessage // not to be modified; nil for none
	ID       json.RawMessage // a number or a string, as the client wrote it
	Protocol string          // the MCP version that the client speaks; "" before it is agreed on
	// Session names the client's session behind the gateway; "" for none. It is
	// not the id by which the client is known.
	Session string
	// OverHTTP says that the request came in one of HTTP, and not over stdio,
	// HTTP+SSE or in this process.
	OverHTTP bool
	// Trace is that of the request's _meta, or else of its headers; nil for none.
	Trace *rpc.Trace
}

// RequestEnd: a client has its answer, or will not get one.
type RequestEnd struct {
	// Server is that which the request was for; "" for none, or several.
	Server  string
	Outcome Outcome
	Err     *rpc.Error // that the client is told, unless it has cancelled; nil for none
}

func (q *request) start() RequestStart {
	e := RequestStart{Method: q.method, Params: q.params, ID: q.id, Session: q.caller.Session, OverHTTP: q.overHTTP, Trace: q.trace}
	switch {
	case q.era == modern:
		e.Protocol = versionModern
	case q.session != nil:
		e.Protocol = q.session.protocol
	}
	return e
}

func (q *request) end(ctx context.Context, result json.RawMessage, err error) RequestEnd {
	e := RequestEnd{Outcome: outcome(ctx, result, err)}
	if err != nil {
		e.Err = wireError(err, q.era)
	}
	if q.asked != nil {
		e.Server = q.asked.Name
	}
	return e
}
