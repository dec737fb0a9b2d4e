package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestModernRequestsAreChecked(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(demo)))
	const (
		version = `"io.modelcontextprotocol/protocolVersion":"2026-07-28"`
		caps    = `"io.modelcontextprotocol/clientCapabilities":{}`
		call    = `"name":"echo",`
	)
	list, called := modernHeaders("tools/list", ""), modernHeaders("tools/call", "echo")
	with := func(headers []string, more ...string) []string { return append(slices.Clone(headers), more...) }
	for name, test := range map[string]struct {
		method, params string
		headers        []string
		status, code   int
	}{
		"a good list":                   {"tools/list", meta, list, 200, 0},
		"no client info":                {"tools/list", `"_meta":{` + version + `,` + caps + `}`, list, 200, 0},
		"a session that means nothing":  {"tools/list", meta, with(list, "Mcp-Session-Id", "x"), 200, 0},
		"no meta":                       {"tools/list", ``, list, 400, -32602},
		"no version in meta":            {"tools/list", `"_meta":{` + caps + `}`, list, 400, -32602},
		"a version that is no string":   {"tools/list", `"_meta":{"io.modelcontextprotocol/protocolVersion":1,` + caps + `}`, list, 400, -32602},
		"no capabilities":               {"tools/list", `"_meta":{` + version + `}`, list, 400, -32602},
		"capabilities in a list":        {"tools/list", `"_meta":{` + version + `,"io.modelcontextprotocol/clientCapabilities":[]}`, list, 400, -32602},
		"an unknown log level":          {"tools/list", `"_meta":{` + version + `,` + caps + `,"io.modelcontextprotocol/logLevel":"loud"}`, list, 400, -32602},
		"no version header":             {"tools/list", meta, with(list, "MCP-Protocol-Version", ""), 400, -32020},
		"another version header":        {"tools/list", meta, with(list, "MCP-Protocol-Version", "2025-11-25"), 400, -32020},
		"an unknown version header":     {"tools/list", meta, with(list, "MCP-Protocol-Version", "2027-01-01"), 400, -32020},
		"no method header":              {"tools/list", meta, with(list, "Mcp-Method", ""), 400, -32020},
		"another method header":         {"tools/list", meta, with(list, "Mcp-Method", "prompts/list"), 400, -32020},
		"a method header in capitals":   {"tools/list", meta, with(list, "Mcp-Method", "TOOLS/LIST"), 400, -32020},
		"an unknown method":             {"nothing/here", meta, modernHeaders("nothing/here", ""), 404, -32601},
		"initialize":                    {"initialize", meta, modernHeaders("initialize", ""), 404, -32601},
		"ping":                          {"ping", meta, modernHeaders("ping", ""), 404, -32601},
		"a number for a cursor":         {"tools/list", `"cursor":1,` + meta, list, 400, -32602},
		"a good call":                   {"tools/call", call + meta, called, 200, 0},
		"a call of nothing":             {"tools/call", meta, modernHeaders("tools/call", ""), 400, -32602},
		"a call of a number":            {"tools/call", `"name":1,` + meta, modernHeaders("tools/call", "1"), 400, -32602},
		"no name header":                {"tools/call", call + meta, modernHeaders("tools/call", ""), 400, -32020},
		"another name header":           {"tools/call", call + meta, modernHeaders("tools/call", "add"), 400, -32020},
		"an encoded name":               {"tools/call", `"name":"é",` + meta, modernHeaders("tools/call", "=?base64?w6k=?="), 200, 0},
		"a name that is not encoded":    {"tools/call", `"name":"é",` + meta, modernHeaders("tools/call", "é"), 400, -32020},
		"bad base64":                    {"tools/call", call + meta, modernHeaders("tools/call", "=?base64?ZWNo!?="), 400, -32020},
		"base64 without padding":        {"tools/call", `"name":"é",` + meta, modernHeaders("tools/call", "=?base64?w6k?="), 400, -32020},
		"half a sentinel is a name":     {"tools/call", `"name":"=?base64?x",` + meta, modernHeaders("tools/call", "=?base64?x"), 200, 0},
		"an ended sentinel is a name":   {"tools/call", `"name":"x?=",` + meta, modernHeaders("tools/call", "x?="), 200, 0},
		"a list does not need the name": {"tools/list", `"name":"x",` + meta, list, 200, 0},
	} {
		r := do(g, "POST", "/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":"q","method":%q,"params":{%s}}`, test.method, test.params), test.headers...)
		if r.status != test.status || r.code(t) != test.code || !strings.Contains(r.body, `"id":"q"`) {
			t.Errorf("%s: got %s, want status %d, code %d", name, r, test.status, test.code)
		}
	}
}

func TestUnsupportedVersionsAreToldWhichThereAre(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(demo)))
	var found struct{ SupportedVersions []string }
	discovered := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{`+meta+`}}`, modernHeaders("server/discover", "")...)
	if err := json.Unmarshal(discovered.result(t), &found); err != nil || !slices.Contains(found.SupportedVersions, "2026-07-28") {
		t.Fatalf("discovered %s, %v", discovered, err)
	}
	for _, version := range []string{"v999.0.0", "1900-01-01", "2025-11-25"} {
		r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{`+strings.Replace(meta, "2026-07-28", version, 1)+`}}`,
			"MCP-Protocol-Version", version)
		msg, err := jsonrpc.Parse([]byte(r.body))
		if err != nil || r.status != 400 || r.code(t) != -32022 {
			t.Errorf("%s: got %s", version, r)
			continue
		}
		var data struct {
			Supported []string
			Requested string
		}
		if err := json.Unmarshal(msg.Failure().Data, &data); err != nil || data.Requested != version || !slices.Equal(data.Supported, found.SupportedVersions) {
			t.Errorf("%s: got data %+v, %v", version, data, err)
		}
	}
}

func TestModernHeadersStandOnce(t *testing.T) {
	t.Parallel()
	for _, name := range []string{headerVersion, headerMethod, headerName} {
		msg, err := parse([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo",` + meta + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		header := make(map[string][]string)
		for _, h := range [][2]string{{"Mcp-Protocol-Version", "2026-07-28"}, {"Mcp-Method", "tools/call"}, {"Mcp-Name", "echo"}} {
			header[h[0]] = []string{h[1]}
			if strings.EqualFold(h[0], name) {
				header[h[0]] = []string{h[1], "other"}
			}
		}
		if err := msg.checkModern(header); err == nil || err.Code != rpc.CodeHeaderMismatch {
			t.Errorf("%s twice: got %v", name, err)
		}
	}
}

func TestModernAnswersCarryWhatTheEraRequires(t *testing.T) {
	t.Parallel()
	const info = `"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"mcpool","version":"1.2.3"}}`
	for _, test := range []struct{ method, result, want string }{
		{"tools/call", `{}`, `{"resultType":"complete",` + info + `}`},
		{"tools/call", " { }\n", `{ "resultType":"complete",` + info + `}`},
		{"tools/call", `{"content":[]}`, `{"content":[],"resultType":"complete",` + info + `}`},
		{"tools/call", `{"resultType":"input_required","x":{"_meta":1}}`, `{"resultType":"input_required","x":{"_meta":1},` + info + `}`},
		{"tools/call", `{"x":{"resultType":1},"_meta":{"a":1}}`, `{"x":{"resultType":1},"_meta":{"a":1,` + info[9:] + `,"resultType":"complete"}`},
		{"tools/call", `{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"its"}}}`, `{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"its"}},"resultType":"complete"}`},
		{"tools/list", `{"tools":[]}`, `{"tools":[],"resultType":"complete","ttlMs":0,"cacheScope":"private",` + info + `}`},
		{"tools/list", `{"tools":[],"ttlMs":5,"cacheScope":"public"}`, `{"tools":[],"ttlMs":5,"cacheScope":"public","resultType":"complete",` + info + `}`},
		{"server/discover", ``, `{"capabilities":{"tools":{}},"supportedVersions":["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"],` +
			`"resultType":"complete","ttlMs":0,"cacheScope":"private",` + info + `}`},
	} {
		g := newGateway(t, &Options{Version: "1.2.3"}, one(answers(test.result)))
		r := do(g, "POST", "/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{"name":"x",%s}}`, test.method, meta), modernHeaders(test.method, "x")...)
		if got := string(r.result(t)); r.status != 200 || got != test.want {
			t.Errorf("%s answered %s:\ngot  %s\nwant %s", test.method, test.result, got, test.want)
		}
	}
}

func TestModernRequestsArePassedOn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ method, params string }{
		{"tools/list", meta},
		{"tools/list", `"cursor":"c",` + meta},
		{"tools/call", `"name":"x",` + meta[:len(meta)-1] + `,"progressToken":7,"com.example/a":{"b":1}}`},
		{"tools/call", meta[:len(meta)-1] + `,"io.modelcontextprotocol/logLevel":"info"},"name":"x","requestState":"s"`},
	} {
		var got rpc.Call
		g := newGateway(t, nil, one(handler(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
			got = call
			return rpc.Result(json.RawMessage(`{}`)), nil
		})))
		r := do(g, "POST", "/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s}}`, test.method, test.params), modernHeaders(test.method, "x")...)
		if r.status != 200 || string(got.Params) != "{"+test.params+"}" || got.Method != test.method || got.Caller != (rpc.Caller{}) || !got.MultiRound {
			t.Errorf("%s: got %s; the server saw %s %s of %+v", test.params, r, got.Method, got.Params, got.Caller)
		}
	}
}

func TestModernNotificationsAreAccepted(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(demo)))
	r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`, "MCP-Protocol-Version", "2026-07-28")
	if r.status != 202 || r.body != "" {
		t.Errorf("got %s", r)
	}
}
