// Package mcptest is the other end for tests: MCP servers, and a network to
// them, that behave or misbehave as a test asks. It has nothing but what tests
// need and is imported by tests alone.
//
// A [Server] speaks HTTP and is reached without sockets by a [RoundTripper] or
// a [Network], inside a testing/synctest bubble too. [Faults] stands before it
// and lets requests meet what goes wrong on networks and in servers. A child
// process that speaks over stdio is the test binary run again, see [StdioMain].
package mcptest

import (
	"context"
	"encoding/json"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// Events is an [rpc.Events] made of functions. A nil OnNotify drops what
// comes, a nil OnAsk declines it.
type Events struct {
	OnNotify func(method string, params json.RawMessage)
	OnAsk    func(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error)
}

func (e Events) Notify(method string, params json.RawMessage) {
	if e.OnNotify != nil {
		e.OnNotify(method, params)
	}
}

func (e Events) Ask(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	if e.OnAsk == nil {
		return nil, rpc.Errorf(rpc.CodeMethodNotFound, "%s is not answered in this test", method)
	}
	return e.OnAsk(ctx, method, params)
}

// CallTool returns the call of a tool: arguments is marshalled to JSON.
func CallTool(name string, arguments any) rpc.Call {
	return rpc.Call{Method: "tools/call", Params: marshal(map[string]any{"name": name, "arguments": arguments})}
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func marshal(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic("mcptest: " + err.Error())
	}
	return data
}
