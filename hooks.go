package mcpool

import (
	"context"
	"encoding/json"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// Hooks are told of what a pool does while it does it, for traces and logs of
// one's own; [Pool.Stats] has the counts. A nil func is not called. They run on
// the way of a call and outside of all locks, from many goroutines at once: one
// that takes long holds up its caller and nobody else.
//
// What begins also ends: each Start is followed by its End, with the ctx that
// Start returned, which is also that of what is done in between. It must be the
// ctx that Start was given or a child of it.
type Hooks struct {
	// Acquiring a slot, or a whole connection, for a call or a lease.
	AcquireStart func(ctx context.Context, e AcquireStart) context.Context
	AcquireEnd   func(ctx context.Context, e AcquireEnd)
	// Sending a call and having its answer, each time that it is sent.
	CallStart func(ctx context.Context, e CallStart) context.Context
	CallEnd   func(ctx context.Context, e CallEnd)
	// Opening a connection, which is on nobody's account.
	OpenStart func(ctx context.Context, e OpenStart) context.Context
	OpenEnd   func(ctx context.Context, e OpenEnd)
	// Closing a connection.
	CloseStart func(ctx context.Context, e CloseStart) context.Context
	CloseEnd   func(ctx context.Context, e CloseEnd)
}

// AcquireStart: a caller asks for a slot.
type AcquireStart struct {
	Server    string
	Principal string
	Whole     bool // for a whole connection
}

// AcquireEnd: a caller has a slot, or will not get one.
type AcquireEnd struct {
	Conn   string        // ID of the connection; "" with an Err
	Waited time.Duration // 0 where a slot was free
	Err    error
}

// CallStart: a call is sent.
type CallStart struct {
	Server    string
	Conn      string // ID of the connection
	Principal string
	Method    string
	Protocol  string // the MCP version spoken; "" in process
	// Call is what is about to be sent. The hook may set its Trace, which the
	// server is told, and nothing else.
	Call *rpc.Call
}

// CallEnd: a call has its answer, or will not get one.
type CallEnd struct {
	Took time.Duration
	// Result is the answer, not to be modified or kept; nil with an Err.
	Result json.RawMessage
	Err    error // an [*rpc.Error] is an answer
}

// OpenStart: a connection is being opened.
type OpenStart struct {
	Server string
	Group  string // see [Conn.Group]
}

// OpenEnd: a connection is open, or could not be opened.
type OpenEnd struct {
	Conn     string // ID of the connection; "" with an Err
	Protocol string // the MCP version spoken; "" in process, and with an Err
	Took     time.Duration
	Err      error
}

// CloseStart: a connection is being closed.
type CloseStart struct {
	Server string
	Conn   string // ID of the connection
	Reason CloseReason
}

// CloseEnd: a connection is closed.
type CloseEnd struct {
	Took time.Duration
}

// start calls the hook of a beginning, if there is one.
func start[E any](hook func(context.Context, E) context.Context, ctx context.Context, e E) context.Context {
	if hook == nil {
		return ctx
	}
	return hook(ctx, e)
}

// end calls the hook of an end, if there is one.
func end[E any](hook func(context.Context, E), ctx context.Context, e E) {
	if hook != nil {
		hook(ctx, e)
	}
}
