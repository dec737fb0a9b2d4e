package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mcptest.Settled(m)) }

// handler is an rpc.Handler made of a func.
type handler func(ctx context.Context, call rpc.Call) (rpc.Answer, error)

func (h handler) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) { return h(ctx, call) }

// answers is a handler with one answer to everything.
func answers(result string) handler {
	answer := rpc.Result(json.RawMessage(result))
	return func(context.Context, rpc.Call) (rpc.Answer, error) { return answer, nil }
}

// fails is a handler that fails.
func fails(err error) handler {
	return func(context.Context, rpc.Call) (rpc.Answer, error) { return rpc.Answer{}, err }
}

// demo lists the tools echo and add, and answers a call of either with what
// it was called with.
func demo(_ context.Context, call rpc.Call) (rpc.Answer, error) {
	switch call.Method {
	case "tools/list":
		return rpc.Result(json.RawMessage(`{"tools":[` +
			`{"name":"echo","inputSchema":{"type":"object"},"x-unknown":9007199254740993},` +
			`{"name":"add","inputSchema":{"type":"object"}}]}`)), nil
	case "tools/call":
		params := call.Params
		if params == nil {
			params = json.RawMessage("null")
		}
		return rpc.Result(json.RawMessage(fmt.Sprintf(
			`{"content":[{"type":"text","text":"ok"}],"structuredContent":{"params":%s,"session":%q},"x-unknown":1.10}`, params, call.Caller.Session))), nil
	}
	return rpc.Answer{}, rpc.Errorf(rpc.CodeMethodNotFound, "demo has no method %s", call.Method)
}

// polite has a handler say what it is without being asked: it has tools, and
// tells nothing of their changes.
func polite(h rpc.Handler) rpc.Handler {
	return handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		switch call.Method {
		case "server/discover":
			return rpc.Result(json.RawMessage(`{"capabilities":{"tools":{}}}`)), nil
		case "subscriptions/listen":
			call.Events.Notify("notifications/subscriptions/acknowledged", json.RawMessage(`{"notifications":{}}`))
			<-ctx.Done()
			return rpc.Answer{}, ctx.Err()
		}
		return h.Do(ctx, call)
	})
}

// newGateway makes a gateway of handlers by name, in the order given, which are
// not asked what they can do.
func newGateway(t testing.TB, options *Options, servers ...Server) *Gateway {
	t.Helper()
	for i, s := range servers {
		servers[i].Handler = polite(s.Handler)
	}
	g, err := New(servers, options)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func one(h rpc.Handler) Server { return Server{Name: "one", Handler: h} }

// A response is what came back, body and all.
type response struct {
	status int
	header http.Header
	body   string
}

// do sends a request to the handler in process. headers are pairs; an empty
// value takes a header away.
func do(h http.Handler, method, path, body string, headers ...string) response {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "localhost:7432"
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Del(headers[i])
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return response{w.Code, w.Header(), w.Body.String()}
}

func (r response) String() string { return fmt.Sprintf("%d %v %s", r.status, r.header, r.body) }

// code is the code of the JSON-RPC error in the body, 0 for none.
func (r response) code(t testing.TB) int {
	t.Helper()
	msg, err := jsonrpc.Parse([]byte(r.body))
	if err != nil {
		t.Fatalf("not a JSON-RPC answer: %v: %s", err, r)
	}
	if msg.Error == nil {
		return 0
	}
	return msg.Failure().Code
}

// result is the result in the body.
func (r response) result(t testing.TB) json.RawMessage {
	t.Helper()
	msg, err := jsonrpc.Parse([]byte(r.body))
	if err != nil || msg.Result == nil {
		t.Fatalf("want a result: %s", r)
	}
	return msg.Result
}

// meta is what a modern request carries, as a member of params.
const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
	`"io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`

// modernHeaders are the headers of a modern request; name is "" for none.
func modernHeaders(method, name string) []string {
	return []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", method, "Mcp-Name", name}
}

// callModern calls a tool as a modern client, with more members of params.
func callModern(h http.Handler, path, tool, more string) response {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q%s,%s}}`, tool, more, meta)
	return do(h, "POST", path, body, modernHeaders("tools/call", tool)...)
}

func listModern(h http.Handler, path string) response {
	return do(h, "POST", path, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+meta+`}}`, modernHeaders("tools/list", "")...)
}

// initialize begins a legacy session and returns its id.
func initialize(t testing.TB, h http.Handler, path string) string {
	t.Helper()
	r := do(h, "POST", path, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`)
	id := r.header.Get("Mcp-Session-Id")
	if r.status != 200 || id == "" {
		t.Fatalf("initialize: %s", r)
	}
	return id
}

// legacyPost sends a frame in a legacy session.
func legacyPost(h http.Handler, path, session, frame string) response {
	return do(h, "POST", path, frame, "Mcp-Session-Id", session, "MCP-Protocol-Version", "2025-11-25")
}

func TestNewRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	h := handler(demo)
	for name, test := range map[string]struct {
		servers []Server
		options Options
		want    string
	}{
		"no server":          {nil, Options{}, "no server"},
		"no name":            {[]Server{{Handler: h}}, Options{}, "1 to 64 letters"},
		"a name with dots":   {[]Server{{Name: "a.b", Handler: h}}, Options{}, "1 to 64 letters"},
		"a long name":        {[]Server{{Name: strings.Repeat("a", 65), Handler: h}}, Options{}, "1 to 64 letters"},
		"no handler":         {[]Server{{Name: "a"}}, Options{}, "no handler"},
		"a negative timeout": {[]Server{{Name: "a", Handler: h, CallTimeout: -1}}, Options{}, "CallTimeout"},
		"a name twice":       {[]Server{{Name: "a", Handler: h}, {Name: "a", Handler: h}}, Options{}, "taken"},
		"an ambiguous pair":  {[]Server{{Name: "a__b", Handler: h}, {Name: "a", Handler: h}}, Options{}, `"a"`},
		"a trailing line":    {[]Server{{Name: "a", Handler: h}, {Name: "a_", Handler: h}}, Options{}, `"a"`},
		"a negative body":    {[]Server{{Name: "a", Handler: h}}, Options{MaxBody: -1}, "MaxBody"},
		"a host with a path": {[]Server{{Name: "a", Handler: h}}, Options{AllowedHosts: []string{"a/b"}}, "allowed host"},
		"a bare origin":      {[]Server{{Name: "a", Handler: h}}, Options{AllowedOrigins: []string{"a.example"}}, "allowed origin"},
		"an origin's path":   {[]Server{{Name: "a", Handler: h}}, Options{AllowedOrigins: []string{"https://a.example/"}}, "allowed origin"},
	} {
		if _, err := New(test.servers, &test.options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want one with %q", name, err, test.want)
		}
	}
	if _, err := New([]Server{{Name: "a", Handler: h}, {Name: "ab", Handler: h}, {Name: "b__c", Handler: h}}, nil); err != nil {
		t.Errorf("names that are apart: %v", err)
	}
}

func TestAPlainPostGetsAnAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newGateway(t, nil, one(handler(demo))))
	defer server.Close()
	defer server.Client().CloseIdleConnections()
	// What curl -H sends, and nothing else.
	r, err := http.NewRequest("POST", server.URL+"/mcp", strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":1},`+meta+`}}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{
		"Accept": {"*/*"}, "Content-Type": {"application/json"},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"echo"},
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := response{resp.StatusCode, resp.Header, string(body)}
	if got.status != 200 || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s", got)
	}
	if params, _ := jsonrpc.Get(got.result(t), "structuredContent", "params"); string(params) != `{"name":"echo","arguments":{"a":1},`+meta+`}` {
		t.Errorf("the handler got params %s", params)
	}
}

func TestPathsChooseServers(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, Server{Name: "a", Handler: answers(`{"from":"a"}`)}, Server{Name: "b", Handler: answers(`{"from":"b"}`)})
	for _, test := range []struct{ path, tool, want string }{
		{"/mcp", "a__x", "a"},
		{"/mcp/", "b__x", "b"},
		{"/mcp/b", "x", "b"},
		{"/mcp/a", "b__x", "a"}, // there it is just a name
	} {
		if from := jsonrpc.GetString(callModern(g, test.path, test.tool, "").result(t), "from"); from != test.want {
			t.Errorf("%s at %s: answered by %q, want %q", test.tool, test.path, from, test.want)
		}
	}
	for _, path := range []string{"/", "/mcp/c", "/mcp/a/b", "/mcpa", "/other"} {
		r := callModern(g, path, "x", "")
		if r.status != 404 || !strings.Contains(r.body, "one of a, b") {
			t.Errorf("%s: got %s", path, r)
		}
	}
}
