package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestHTTPIsKeptClean(t *testing.T) {
	t.Parallel()
	g := newGateway(t, &Options{MaxBody: 200}, one(handler(demo)))
	session := initialize(t, g, "/mcp")
	const list = `{"jsonrpc":"2.0","id":7,"method":"tools/list"}`
	for name, test := range map[string]struct {
		method, body string
		headers      []string
		status, code int
		want         string // in the body
	}{
		"a good one":              {"POST", list, nil, 200, 0, `"id":7`},
		"a charset":               {"POST", list, []string{"Content-Type", "application/json; charset=utf-8"}, 200, 0, ""},
		"no content type":         {"POST", list, []string{"Content-Type", ""}, 415, -32600, "Content-Type"},
		"a form":                  {"POST", list, []string{"Content-Type", "text/plain"}, 415, -32600, "Content-Type"},
		"no accept":               {"POST", list, []string{"Accept", ""}, 200, 0, ""},
		"accept anything":         {"POST", list, []string{"Accept", "text/html, */*;q=0.1"}, 200, 0, ""},
		"accept a page":           {"POST", list, []string{"Accept", "text/html"}, 406, -32600, "Accept"},
		"accept nothing":          {"POST", list, []string{"Accept", "*/*;q=0.0"}, 406, -32600, "Accept"},
		"accept only events":      {"POST", list, []string{"Accept", "text/event-stream"}, 200, 0, "data: {"},
		"accept events first":     {"POST", list, []string{"Accept", "text/event-stream, application/json"}, 200, 0, "retry: 1000\nid: "},
		"accept JSON first":       {"POST", list, []string{"Accept", "application/json, text/event-stream"}, 200, 0, `{"jsonrpc"`},
		"too long":                {"POST", `{"jsonrpc":"2.0","id":7,"method":"` + strings.Repeat("x", 200) + `"}`, nil, 413, -32600, "200 bytes"},
		"nothing":                 {"POST", "", nil, 400, -32700, `"id":null`},
		"half a frame":            {"POST", list[:20], nil, 400, -32700, `"id":null`},
		"two frames":              {"POST", list + list, nil, 400, -32700, ""},
		"a batch":                 {"POST", "[" + list + "]", nil, 400, -32600, "batches"},
		"a string":                {"POST", `"tools/list"`, nil, 400, -32600, ""},
		"another version of RPC":  {"POST", `{"jsonrpc":"1.0","id":7,"method":"ping"}`, nil, 400, -32600, `"id":7`},
		"an id that is an object": {"POST", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, nil, 400, -32600, `"id":null`},
		"a response":              {"POST", `{"jsonrpc":"2.0","id":7,"result":{}}`, nil, 202, 0, ""},
		"a page":                  {"GET", "", []string{"Accept", "text/html"}, 405, -32600, "POST"},
		"a put":                   {"PUT", list, nil, 405, -32600, "POST"},
	} {
		r := do(g, test.method, "/mcp", test.body, append([]string{"Mcp-Session-Id", session}, test.headers...)...)
		if r.status != test.status || !strings.Contains(r.body, test.want) {
			t.Errorf("%s: got %s, want status %d with %q", name, r, test.status, test.want)
			continue
		}
		if r.header.Get("Content-Type") == "application/json" && r.code(t) != test.code {
			t.Errorf("%s: got %s, want code %d", name, r, test.code)
		}
		if test.status == 405 && r.header.Get("Allow") != "GET, POST, DELETE" {
			t.Errorf("%s: Allow is %q", name, r.header.Get("Allow"))
		}
	}
}

func TestBytesSurvive(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(demo)))
	session := initialize(t, g, "/mcp")
	for _, id := range []string{`1`, `-7`, `0`, `9007199254740993`, `123456789012345678901234567890`, `1.50`, `1e3`, `"a"`, `""`, `"\u00e9\"\/"`} {
		const params = `{"name" : "echo", "arguments":{"n":9007199254740993,"f":1.10,"e":1E+2},"x-unknown":[ 1 ],"_meta":{"progressToken":9007199254740993}}`
		frame := `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":` + params + `}`
		want := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"ok"}],"structuredContent":{"params":%s,"session":`, id, params)
		if r := legacyPost(g, "/mcp", session, frame); !strings.HasPrefix(r.body, want) || !strings.HasSuffix(r.body, `},"x-unknown":1.10}}`) {
			t.Errorf("id %s: got %s", id, r)
		}
		frame = strings.Replace(frame, `"_meta":{`, meta[:len(meta)-1]+",", 1)
		r := do(g, "POST", "/mcp", frame, modernHeaders("tools/call", "echo")...)
		got, _ := jsonrpc.Get([]byte(r.body), "result", "structuredContent", "params")
		if sent, _ := jsonrpc.Get([]byte(frame), "params"); !strings.HasPrefix(r.body, `{"jsonrpc":"2.0","id":`+id+`,`) || string(got) != string(sent) {
			t.Errorf("id %s: got %s, params %s", id, r, got)
		}
	}
}

func TestFailuresBecomeErrorsOfTheEra(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err                        error
		legacyStatus, legacyCode   int
		modernStatus, modernCode   int
		legacyMessage, modernExtra string
	}{
		"the pool's":          {errors.New("one: no connection in time"), 200, -32603, 200, -32603, "one: no connection in time", ""},
		"the server's own":    {&rpc.Error{Code: 42, Message: "no", Data: []byte(`{"n":9007199254740993}`)}, 200, 42, 200, 42, "no", `{"n":9007199254740993}`},
		"wrapped":             {fmt.Errorf("one: %w", rpc.Errorf(-32602, "bad")), 200, -32602, 400, -32602, "bad", ""},
		"no such method":      {rpc.Errorf(-32601, "no"), 200, -32601, 404, -32601, "no", ""},
		"no such resource":    {rpc.Errorf(-32002, "no"), 200, -32002, 400, -32602, "no", ""},
		"URL elicitation":     {rpc.Errorf(-32042, "no"), 200, -32042, 200, -32603, "no", ""},
		"a capability":        {rpc.Errorf(-32021, "no"), 200, -32021, 400, -32021, "no", ""},
		"a version behind us": {rpc.Errorf(-32022, "no"), 200, -32022, 200, -32603, "no", ""},
		"a header behind us":  {rpc.Errorf(-32020, "no"), 200, -32020, 200, -32603, "no", ""},
		"a lost session":      {&mcpool.Error{Server: "one", Err: mcpool.ErrSessionLost}, 404, -32001, 200, -32603, "session lost", ""},
	} {
		g := newGateway(t, nil, one(fails(test.err)))
		r := legacyPost(g, "/mcp", initialize(t, g, "/mcp"), `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"x"}}`)
		if r.status != test.legacyStatus || r.code(t) != test.legacyCode || !strings.Contains(r.body, test.legacyMessage) {
			t.Errorf("%s, legacy: got %s", name, r)
		}
		r = callModern(g, "/mcp", "x", "")
		if r.status != test.modernStatus || r.code(t) != test.modernCode || !strings.Contains(r.body, test.modernExtra) {
			t.Errorf("%s, modern: got %s", name, r)
		}
	}
}

func TestResultsThatAreNoObjectsAreErrors(t *testing.T) {
	t.Parallel()
	for _, result := range []string{``, `null`, `[]`, `"x"`} {
		g := newGateway(t, nil, one(answers(result)))
		if r := callModern(g, "/mcp", "x", ""); r.code(t) != -32603 {
			t.Errorf("%q, modern: got %s", result, r)
		}
		if r := legacyPost(g, "/mcp", initialize(t, g, "/mcp"), `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"x"}}`); r.code(t) != -32603 {
			t.Errorf("%q, legacy: got %s", result, r)
		}
	}
}

func TestHostsAndOriginsAreChecked(t *testing.T) {
	t.Parallel()
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	hosts := []string{"Mcp.Example", "with-port.example:8443", "[2001:db8::1]", "10.0.0.5"}
	origins := []string{"https://App.example", "vscode-webview://abc"}
	const yes, no = http.StatusTeapot, http.StatusForbidden
	for _, test := range []struct {
		host, origin string
		want         int
	}{
		{"localhost", "", yes}, {"localhost:1", "", yes}, {"LOCALHOST:7432", "", yes},
		{"127.0.0.1", "", yes}, {"127.9.9.9:80", "", yes}, {"[::1]", "", yes}, {"[::1]:80", "", yes}, {"::1", "", yes},
		{"mcp.example", "", yes}, {"mcp.example:99", "", yes}, {"MCP.EXAMPLE", "", yes},
		{"with-port.example:8443", "", yes}, {"with-port.example", "", no}, {"with-port.example:1", "", no},
		{"[2001:db8::1]", "", yes}, {"[2001:db8::1]:80", "", yes}, {"10.0.0.5:80", "", yes},
		{"", "", no}, {"evil.example", "", no}, {"evil.example:7432", "", no}, {"localhost.evil.example", "", no},
		{"127.0.0.1.evil.example", "", no}, {"0.0.0.0", "", no}, {"[::]", "", no}, {"evil@localhost", "", no}, {"a:b:c", "", no},
		{"localhost", "http://localhost", yes}, {"localhost", "https://127.0.0.1:8080", yes}, {"localhost", "http://[::1]:3000", yes},
		{"localhost", "https://app.example", yes}, {"localhost", "vscode-webview://abc", yes},
		{"localhost", "null", no}, {"localhost", "https://app.example:444", no}, {"localhost", "http://app.example", no},
		{"localhost", "https://evil.example", no}, {"localhost", "http://localhost.evil.example", no},
		{"localhost", "http://localhost@evil.example", no}, {"localhost", "file://localhost", no}, {"localhost", "http://localhost/x", no},
		{"evil.example", "http://localhost", no},
	} {
		headers := []string{"Host", test.host}
		if test.origin != "" {
			headers = append(headers, "Origin", test.origin)
		}
		r := do(Guard(served, hosts, origins), "GET", "/", "", headers...)
		if r.status != test.want {
			t.Errorf("host %q, origin %q: got %s", test.host, test.origin, r)
		}
		if r.status == no && !strings.Contains(r.body, "--allowed-") {
			t.Errorf("host %q, origin %q: %q does not say what to do", test.host, test.origin, r.body)
		}
		if allow := r.header.Get("Access-Control-Allow-Origin"); (r.status == yes && allow != test.origin) || (r.status == no && allow != "") {
			t.Errorf("host %q, origin %q: Access-Control-Allow-Origin is %q", test.host, test.origin, allow)
		}
		if any := do(Guard(served, []string{"*"}, []string{"*"}), "GET", "/", "", headers...); any.status != yes {
			t.Errorf("host %q, origin %q, any allowed: got %s", test.host, test.origin, any)
		}
	}
}

func TestPreflightAllowsWhatClientsSend(t *testing.T) {
	t.Parallel()
	g := newGateway(t, &Options{AllowedOrigins: []string{"https://app.example"}}, one(handler(demo)))
	r := do(g, "OPTIONS", "/mcp", "", "Origin", "https://app.example", "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "content-type,mcp-param-region, Mcp-Param-X y, x-other, mcp-param-")
	allowed := strings.Split(r.header.Get("Access-Control-Allow-Headers"), ", ")
	want := "Content-Type, Authorization, Accept, Last-Event-ID, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name, mcp-param-region"
	if r.status != 204 || strings.Join(allowed, ", ") != want || !strings.Contains(r.header.Get("Access-Control-Allow-Methods"), "DELETE") {
		t.Errorf("got %s", r)
	}
	if r := do(g, "OPTIONS", "/mcp", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"); r.status != 403 {
		t.Errorf("foreign origin: got %s", r)
	}
	r = do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`, "Origin", "https://app.example")
	if r.header.Get("Access-Control-Allow-Origin") != "https://app.example" || r.header.Get("Access-Control-Expose-Headers") != "Mcp-Session-Id, WWW-Authenticate" || r.header.Get("Vary") != "Origin" {
		t.Errorf("got %s", r)
	}
}
