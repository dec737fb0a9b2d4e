package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// An Outcome is what became of a call, or of a request of a client.
type Outcome string

const (
	Answered    Outcome = "ok"          // with a result, be it a question
	ToolError   Outcome = "tool_error"  // with a result of fewer than 8 KiB that says isError
	Failed      Outcome = "error"       // with an error of the protocol
	Cancelled   Outcome = "cancelled"   // its client did not want it any more
	TimedOut    Outcome = "timeout"     // it took longer than CallTimeout
	Refused     Outcome = "refused"     // not made: too many calls are under way or wait, or the gateway closes
	Unavailable Outcome = "unavailable" // not made: there was no connection to the server
	Lost        Outcome = "lost"        // no answer came
)

var outcomes = [...]Outcome{Answered, ToolError, Failed, Cancelled, TimedOut, Refused, Unavailable, Lost}

// Outcomes are all outcomes there are.
func Outcomes() []Outcome { return slices.Clone(outcomes[:]) }

// outcome is that of what has ended with a result or an error, while it had ctx.
func outcome(ctx context.Context, result json.RawMessage, err error) Outcome {
	if err == nil {
		if saysIsError(result) {
			return ToolError
		}
		return Answered
	}
	timeout, cause := (*timeoutError)(nil), context.Cause(ctx)
	switch {
	case overloaded(err) != 0:
		return Refused
	case isAnswer(err):
		return Failed
	case errors.As(err, &timeout):
		return TimedOut
	case errors.Is(err, mcpool.ErrUnavailable), errors.Is(err, mcpool.ErrAcquireTimeout):
		return Unavailable
	case errors.Is(err, errCancelled), errors.Is(err, errAborted), errors.Is(cause, errCancelled), errors.Is(cause, errAborted),
		errors.Is(cause, context.Canceled):
		return Cancelled
	}
	return Lost
}

// saysIsError reports whether a result says that its tool failed. A large one is
// not looked through: those who fail have little to say.
func saysIsError(result json.RawMessage) bool {
	if len(result) >= jsonrpc.Large || !bytes.Contains(result, []byte(`"isError"`)) {
		return false
	}
	value, _ := jsonrpc.Get(result, "isError")
	return string(value) == "true"
}

// A CallCount is how many calls of clients of one era, to a server of one era,
// ended in one way.
type CallCount struct {
	ClientEra string // "legacy" or "modern"
	// ServerEra is "legacy", "modern", or "none" of a server in this process, and
	// of one that has answered nothing yet.
	ServerEra string
	Outcome   Outcome
	Count     uint64
}

var (
	clientEras = [...]string{legacy: "legacy", modern: "modern"}
	serverEras = [...]string{"none", "legacy", "modern"}
)

const (
	fromLegacy = iota + 1 // places in serverEras
	fromModern
)

// counts are the calls of one server that have ended.
type counts struct {
	era atomic.Int32 // of the server when it last answered
	of  [len(clientEras)][len(serverEras)][len(outcomes)]atomic.Uint64
}

// ended counts a call that was made.
func (b *backend) ended(ctx context.Context, client era, answer rpc.Answer, err error) {
	from := b.counts.era.Load()
	switch {
	case err != nil:
	case answer.Legacy():
		from = fromLegacy
	case answer.Modern():
		from = fromModern
	}
	if from != b.counts.era.Load() { // it hardly ever is, and many look at it
		b.counts.era.Store(from)
	}
	b.count(client, outcome(ctx, answer.Bytes(), err))
}

// count counts a call.
func (b *backend) count(client era, o Outcome) {
	b.counts.of[client][b.counts.era.Load()][slices.Index(outcomes[:], o)].Add(1)
}

// all are the counts that are not zero.
func (c *counts) all() []CallCount {
	var list []CallCount
	for client, name := range clientEras {
		for server, serverName := range serverEras {
			for i, o := range outcomes {
				if n := c.of[client][server][i].Load(); n > 0 {
					list = append(list, CallCount{name, serverName, o, n})
				}
			}
		}
	}
	return list
}
