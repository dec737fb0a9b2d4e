package gateway

import (
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// FuzzHTTP posts anything, with any headers: the gateway never panics, and
// what it answers is JSON-RPC, or nothing with a status that says so.
func FuzzHTTP(f *testing.F) {
	one := newGateway(f, nil, Server{Name: "one", Handler: handler(demo)})
	two := newGateway(f, nil, Server{Name: "one", Handler: handler(demo)}, Server{Name: "two", Handler: notifies(1)})
	session := initialize(f, two, "/mcp")
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + meta + `}}`,
		`{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"one__echo","arguments":{"a":[1,2]},` + meta + `}}`,
		`{"jsonrpc":"2.0","id":1e5,"method":"tools/call","params":{"_meta":{"progressToken":1},"name":"two__\u0061"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{},"_meta":{ }}}`,
		`[{}]`, `{`, ``,
	} {
		for _, version := range []string{"", "2025-11-25", "2026-07-28", "v9"} {
			f.Add(body, "/mcp", version, "tools/call", "one__echo", session, "application/json, text/event-stream")
		}
		f.Add(body, "/mcp/two", "2026-07-28", "tools/list", "=?base64?eA==?=", "x", "text/event-stream")
	}
	f.Fuzz(func(t *testing.T, body, path, version, method, name, session, accept string) {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " ?#%\r\n") || strings.ContainsFunc(path, func(c rune) bool { return c <= ' ' || c > '~' }) {
			path = "/mcp"
		}
		for _, g := range []*Gateway{one, two} {
			r := do(g, "POST", path, body, "MCP-Protocol-Version", version, "Mcp-Method", method, "Mcp-Name", name, "Mcp-Session-Id", session, "Accept", accept)
			if r.status < 200 || r.status >= 300 && r.status < 400 || r.status >= 500 {
				t.Fatalf("got %s", r)
			}
			if r.body == "" {
				if r.status != 202 {
					t.Fatalf("got %s", r)
				}
				continue
			}
			answers := []string{r.body}
			if r.header.Get("Content-Type") == "text/event-stream" {
				answers = frames(t, r.body)
			}
			for i, answer := range answers {
				msg, err := jsonrpc.Parse([]byte(answer))
				if err != nil || msg.IsResponse() != (i == len(answers)-1) {
					t.Fatalf("frame %q: %v", answer, err)
				}
			}
		}
	})
}
