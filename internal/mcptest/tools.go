package mcptest

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Versions of MCP that the servers here speak.
const (
	ModernVersion = "2026-07-28"
	LegacyVersion = "2025-11-25"
)

// A caller is whoever has called a tool that is running.
type caller interface {
	notify(method string, params any)
	ask(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error)
}

// An engine is the part of a server that knows no transport: its tools, and
// the ledger of what has run.
type engine struct {
	modern bool
	name   string
	delay  time.Duration // before a tool runs
	book   io.Writer     // where the ledger is written as well, an id on a line; nil for nowhere

	mu     sync.Mutex // guards ledger
	ledger map[string]int
}

// tools are listed as they stand here.
var tools = marshal([]map[string]any{
	tool("echo", `{"readOnlyHint":true}`, "text"),
	tool("put", `{"idempotentHint":true}`, "text"),
	tool("write", "", "text"),
	tool("sleep", ""),
	tool("progress", `{"readOnlyHint":true}`, "steps"),
	tool("ask", "", "method", "params"),
})

func tool(name, annotations string, arguments ...string) map[string]any {
	properties := map[string]any{"id": map[string]any{}, "ms": map[string]any{}}
	for _, argument := range arguments {
		properties[argument] = map[string]any{}
	}
	t := map[string]any{
		"name":        name,
		"description": "a tool for tests",
		"inputSchema": map[string]any{"type": "object", "properties": properties},
	}
	if annotations != "" {
		t["annotations"] = json.RawMessage(annotations)
	}
	return t
}

// arguments are those of all the tools.
type arguments struct {
	ID     string          `json:"id"`
	Text   string          `json:"text"`
	MS     int             `json:"ms"`
	Steps  int             `json:"steps"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// traceOf is what the _meta of params says of the trace that they are part of.
func traceOf(params json.RawMessage) map[string]string {
	trace := make(map[string]string)
	for _, key := range []string{rpc.TraceParentKey, rpc.TraceStateKey, rpc.TraceBaggageKey} {
		if value := jsonrpc.GetString(params, "_meta", key); value != "" {
			trace[key] = value
		}
	}
	return trace
}

// answer answers a request of either era, except for what opens a connection.
func (e *engine) answer(ctx context.Context, m *jsonrpc.Message, session string, from caller) (json.RawMessage, *rpc.Error) {
	switch {
	case m.Method == "ping" && !e.modern:
		return json.RawMessage(`{}`), nil
	case m.Method == "logging/setLevel" && !e.modern:
		return json.RawMessage(`{}`), nil
	case m.Method == "server/discover" && e.modern:
		return e.result(map[string]any{
			"supportedVersions": []string{ModernVersion},
			"capabilities":      map[string]any{"tools": map[string]any{}},
			"ttlMs":             60000, "cacheScope": "public",
			"_meta": map[string]any{"io.modelcontextprotocol/serverInfo": e.info()},
		}), nil
	case m.Method == "tools/list":
		list := map[string]any{"tools": tools}
		if e.modern {
			list["ttlMs"], list["cacheScope"] = 60000, "public"
		}
		return e.result(list), nil
	case m.Method == "tools/call":
		return e.call(ctx, m, session, from)
	}
	return nil, rpc.Errorf(rpc.CodeMethodNotFound, "Method not found: %s", m.Method)
}

func (e *engine) call(ctx context.Context, m *jsonrpc.Message, session string, from caller) (json.RawMessage, *rpc.Error) {
	var args arguments
	if raw, ok := jsonrpc.Get(m.Params, "arguments"); ok {
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, rpc.Errorf(rpc.CodeInvalidParams, "arguments: %v", err)
		}
	}
	e.ran(args.ID)
	if wait(ctx, e.delay+time.Duration(args.MS)*time.Millisecond) != nil {
		return nil, rpc.Errorf(rpc.CodeInternal, "cancelled")
	}
	structured := map[string]any{"id": args.ID, "text": args.Text, "session": session}
	if trace := traceOf(m.Params); len(trace) > 0 {
		structured["trace"] = trace
	}
	switch name := jsonrpc.GetString(m.Params, "name"); name {
	case "echo", "put", "write", "sleep":
	case "verbatim":
		if args.Text != "" {
			return nil, &rpc.Error{Code: rpc.CodeInternal, Message: args.Text, Data: args.Params}
		}
		return args.Params, nil
	case "progress":
		token, _ := jsonrpc.Get(m.Params, "_meta", "progressToken")
		for step := range args.Steps {
			if token != nil {
				params := map[string]any{"progressToken": token, "progress": step + 1, "total": args.Steps}
				if args.Text != "" {
					params["message"] = args.Text
				}
				from.notify("notifications/progress", params)
			}
		}
		from.notify("notifications/message", map[string]any{"level": "info", "data": args.ID})
	case "ask":
		if e.modern {
			answer, given := jsonrpc.Get(m.Params, "inputResponses", "it")
			if !given {
				return e.inputRequired(m, args.Method, args.Params)
			}
			structured["reply"], structured["state"] = answer, jsonrpc.GetString(m.Params, "requestState")
			break
		}
		reply, err := from.ask(ctx, args.Method, args.Params)
		if err != nil {
			return nil, rpc.Errorf(rpc.CodeInternal, "asking: %v", err)
		}
		structured["reply"] = reply
	default:
		return nil, rpc.Errorf(rpc.CodeInvalidParams, "Unknown tool: %s", name)
	}
	return e.result(map[string]any{
		"content":           []map[string]any{{"type": "text", "text": args.Text}},
		"structuredContent": structured,
	}), nil
}

// inputRequired is the result of a call that needs an answer of the client's
// (MCP 2026-07-28, "Multi Round-Trip Requests").
func (e *engine) inputRequired(m *jsonrpc.Message, method string, params json.RawMessage) (json.RawMessage, *rpc.Error) {
	capability, _, _ := strings.Cut(method, "/")
	if _, declared := jsonrpc.Get(m.Params, "_meta", "io.modelcontextprotocol/clientCapabilities", capability); !declared {
		return nil, rpc.Errorf(rpc.CodeMissingCapability, "needs %s", capability)
	}
	return marshal(map[string]any{
		"resultType":    "input_required",
		"inputRequests": map[string]any{"it": map[string]any{"method": method, "params": params}},
		"requestState":  "state of " + string(m.ID),
	}), nil
}

// initialize answers the request that opens a legacy connection.
func (e *engine) initialize() json.RawMessage {
	return marshal(map[string]any{
		"protocolVersion": LegacyVersion,
		"capabilities":    map[string]any{"tools": map[string]any{}, "logging": map[string]any{}},
		"serverInfo":      e.info(),
	})
}

func (e *engine) info() map[string]any {
	name := e.name
	if name == "" {
		name = "mcptest"
	}
	return map[string]any{"name": name, "version": "1.0"}
}

func (e *engine) result(members map[string]any) json.RawMessage {
	if e.modern {
		members["resultType"] = "complete"
	}
	return marshal(members)
}

func (e *engine) ran(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ledger == nil {
		e.ledger = make(map[string]int)
	}
	e.ledger[id]++
	if e.book != nil {
		_, _ = io.WriteString(e.book, id+"\n") // in one write, so that no line is mixed with another's
	}
}

// versionError is what a modern server says to a version that it does not
// speak.
func versionError(requested string) *rpc.Error {
	return &rpc.Error{Code: rpc.CodeUnsupportedVersion, Message: "Unsupported protocol version",
		Data: marshal(map[string]any{"supported": []string{ModernVersion}, "requested": requested})}
}

// requestedVersion is the version that a modern request declares.
func requestedVersion(m *jsonrpc.Message) string {
	return jsonrpc.GetString(m.Params, "_meta", "io.modelcontextprotocol/protocolVersion")
}
