package mcpool

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mirror"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// readOnly are the methods that only read, whatever their params.
var readOnly = []string{
	"tools/list", "prompts/list", "prompts/get", "completion/complete",
	"resources/list", "resources/templates/list", "resources/read",
	"tasks/list", "tasks/get", "tasks/result",
}

// hintsMost bounds how many tools are remembered.
const hintsMost = 10_000

// hints remembers of a server's tools what their calls depend on, from the
// tool lists that pass by. A tool never listed is taken to do harm.
type hints struct {
	mu    sync.RWMutex
	tools map[string]hint
}

// A hint is what is remembered of a tool.
type hint struct {
	// harmless says that it does no harm when it runs twice, by readOnlyHint or
	// idempotentHint (MCP 2025-03-26, ToolAnnotations).
	harmless bool
	headers  []mirror.Header // that its calls carry
}

// learn takes in the result of tools/list. It returns the tools whose marks
// for headers make no sense, by name, with what is wrong.
func (h *hints) learn(result json.RawMessage) map[string]error {
	list, _ := jsonrpc.Get(result, "tools")
	tools, err := jsonrpc.Elements(list)
	if err != nil {
		return nil
	}
	var bad map[string]error
	seen := make(map[string]hint, len(tools))
	for _, tool := range tools {
		name := jsonrpc.GetString(tool, "name")
		reads, _ := jsonrpc.Get(tool, "annotations", "readOnlyHint")
		repeats, _ := jsonrpc.Get(tool, "annotations", "idempotentHint")
		schema, _ := jsonrpc.Get(tool, "inputSchema")
		headers, err := mirror.Of(schema)
		if err != nil {
			if bad == nil {
				bad = map[string]error{}
			}
			bad[name] = err
		}
		seen[name] = hint{string(reads) == "true" || string(repeats) == "true", headers}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tools == nil {
		h.tools = map[string]hint{}
	}
	for name, hint := range seen {
		if _, known := h.tools[name]; known || len(h.tools) < hintsMost {
			h.tools[name] = hint
		}
	}
	return bad
}

func (h *hints) of(tool string) hint {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.tools[tool]
}

// harmless reports whether a call may run twice.
func (h *hints) harmless(call rpc.Call) bool {
	if call.Method != "tools/call" {
		return slices.Contains(readOnly, call.Method)
	}
	return h.of(jsonrpc.GetString(call.Params, "name")).harmless
}

// paramHeaders are what calls of the tool carry in headers.
func (h *hints) paramHeaders(tool string) []mirror.Header { return h.of(tool).headers }

// listed takes in a list of tools on its way to a caller, and returns it
// without those that a client over HTTP must not offer (MCP 2026-07-28,
// streamable HTTP, "Custom Headers from Tool Parameters").
func (p *Pool) listed(l *link, answer rpc.Answer) rpc.Answer {
	bad := l.known.hints.learn(answer.Bytes())
	if len(bad) == 0 || !l.mirrors() {
		return answer
	}
	list, _ := jsonrpc.Get(answer.Bytes(), "tools")
	tools, _ := jsonrpc.Elements(list)
	kept := make([]json.RawMessage, 0, len(tools))
	for _, tool := range tools {
		name := jsonrpc.GetString(tool, "name")
		if err := bad[name]; err != nil {
			p.log.Warn("tool left out of the list", "tool", name, "error", err)
			continue
		}
		kept = append(kept, tool)
	}
	list, err := json.Marshal(kept)
	if err != nil {
		return answer // cannot be: they were read just now
	}
	result, err := jsonrpc.Set(answer.Bytes(), list, "tools")
	if err != nil {
		return answer
	}
	return rpc.Result(result)
}

// mirrors reports whether calls on the link repeat arguments in headers.
func (l *link) mirrors() bool {
	return l.peer.Era == transport.Modern && !l.peer.Stdio && !l.peer.InProcess
}

// outdated reports whether a call was turned away, unread, for headers that do
// not say what its arguments say: what is known of its tool is out of date, or
// nothing is.
func (l *link) outdated(call rpc.Call, err error) bool {
	var refused *rpc.Error
	return l.mirrors() && call.Method == "tools/call" && errors.As(err, &refused) && refused.Code == rpc.CodeHeaderMismatch
}

// relist asks for the tools of the server again, until the one that is called.
func (l *link) relist(ctx context.Context, call rpc.Call, authorize transport.Authorize) bool {
	l.known.cache.changed(transport.Change{Method: methodToolsChanged}) // what is kept is out of date, too
	var params json.RawMessage
	for range listPages {
		answer, err := l.conn.Call(ctx, rpc.Call{Method: "tools/list", Params: params, Caller: call.Caller}, authorize)
		if err != nil {
			return false
		}
		l.known.hints.learn(answer.Bytes())
		list, _ := jsonrpc.Get(answer.Bytes(), "tools")
		tools, _ := jsonrpc.Elements(list)
		if name := jsonrpc.GetString(call.Params, "name"); slices.ContainsFunc(tools, func(tool json.RawMessage) bool {
			return jsonrpc.GetString(tool, "name") == name
		}) {
			return true
		}
		cursor, more := jsonrpc.Get(answer.Bytes(), "nextCursor")
		if !more || string(cursor) == "null" {
			return false
		}
		params, _ = jsonrpc.Set(nil, cursor, "cursor")
	}
	return false
}
