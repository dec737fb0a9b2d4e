package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// toolNames returns the names in a list.
func toolNames(t testing.TB, result json.RawMessage) string {
	t.Helper()
	tools, _ := jsonrpc.Get(result, "tools")
	elements, err := jsonrpc.Elements(tools)
	if err != nil {
		t.Fatalf("%s: %v", result, err)
	}
	var names []string
	for _, e := range elements {
		names = append(names, jsonrpc.GetString(e, "name"))
	}
	return strings.Join(names, " ")
}

func TestToolNamesLeadToTheirServer(t *testing.T) {
	t.Parallel()
	e := &endpoint{prefixed: true, servers: []*backend{newBackend(&Server{Name: "a"}), newBackend(&Server{Name: "b__c"}), newBackend(&Server{Name: "d_"})}}
	for _, test := range []struct{ name, server, tool string }{
		{"a__x", "a", "x"}, {"a__x__y", "a", "x__y"}, {"a___x", "a", "_x"}, {"b__c__x", "b__c", "x"}, {"d___x", "d_", "x"},
		{"x", "", ""}, {"a_x", "", ""}, {"a__", "", ""}, {"b__x", "", ""}, {"__x", "", ""}, {"", "", ""}, {"d__x", "", ""},
	} {
		s, tool, cut, ok := e.inward(test.name)
		if !ok {
			s = &backend{}
		}
		if cut {
			t.Errorf("%q counts as cut", test.name)
		}
		if s.Name != test.server || tool != test.tool {
			t.Errorf("%q: got server %q, tool %q", test.name, s.Name, tool)
		}
	}
}

func TestNamesAreSplicedIntoTheBytes(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, Server{Name: "a", Handler: handler(demo)}, Server{Name: "b", Handler: handler(demo)})
	want := `{"tools":[{"name":"a__echo","inputSchema":{"type":"object"},"x-unknown":9007199254740993},{"name":"a__add","inputSchema":{"type":"object"}},` +
		`{"name":"b__echo","inputSchema":{"type":"object"},"x-unknown":9007199254740993},{"name":"b__add","inputSchema":{"type":"object"}}]`
	if got := string(listModern(g, "/mcp").result(t)); !strings.HasPrefix(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := toolNames(t, listModern(g, "/mcp/b").result(t)); got != "echo add" {
		t.Errorf("at /mcp/b: got %s", got)
	}
	params, _ := jsonrpc.Get(callModern(g, "/mcp", "b__echo", `,"arguments":{"name":"b__echo"}`).result(t), "structuredContent", "params")
	if want := `{"name":"echo","arguments":{"name":"b__echo"},` + meta + `}`; string(params) != want {
		t.Errorf("the server got %s, want %s", params, want)
	}
	if r := callModern(g, "/mcp", "echo", ""); r.status != 400 || r.code(t) != -32602 || !strings.Contains(r.body, "SERVER__TOOL") {
		t.Errorf("without a prefix: got %s", r)
	}
	alone := newGateway(t, nil, one(handler(demo)))
	if got := toolNames(t, listModern(alone, "/mcp").result(t)); got != "echo add" {
		t.Errorf("with one server: got %s", got)
	}
}

// pages is a handler with a list of so many pages of one tool each.
func pages(n int) handler {
	return func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
		page := 1
		if cursor := jsonrpc.GetString(call.Params, "cursor"); cursor != "" {
			if _, err := fmt.Sscanf(cursor, "page %d", &page); err != nil {
				return rpc.Answer{}, rpc.Errorf(-32602, "no such cursor")
			}
		}
		result := fmt.Sprintf(`{"tools":[{"name":"t%d"}]`, page)
		if page < n {
			result += fmt.Sprintf(`,"nextCursor":"page %d"`, page+1)
		}
		return rpc.Result(json.RawMessage(result + `}`)), nil
	}
}

func TestAListOfOneServerIsPassedOnPageByPage(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(pages(2)))
	session := initialize(t, g, "/mcp")
	r := legacyPost(g, "/mcp", session, legacyList)
	if got := string(r.result(t)); got != `{"tools":[{"name":"t1"}],"nextCursor":"page 2"}` {
		t.Errorf("first page: got %s", got)
	}
	r = legacyPost(g, "/mcp", session, `{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"cursor":"page 2"}}`)
	if got := string(r.result(t)); got != `{"tools":[{"name":"t2"}]}` {
		t.Errorf("second page: got %s", got)
	}
}

func TestAListOfSeveralServersHasAllPagesAndLeavesOutFailures(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	g := newGateway(t, &Options{Log: slog.New(slog.NewTextHandler(&log, nil))},
		Server{Name: "three", Handler: pages(3)},
		Server{Name: "endless", Handler: pages(1 << 30)},
		Server{Name: "down", Handler: fails(errors.New("nobody there"))},
		Server{Name: "nameless", Handler: answers(`{"tools":[{"title":"x"}]}`)},
		Server{Name: "listless", Handler: answers(`{}`)},
		Server{Name: "full", Handler: pages(maxPages)},
		Server{Name: "empty", Handler: answers(`{"tools":[ ],"nextCursor":null}`)},
	)
	result := listModern(g, "/mcp").result(t)
	names := toolNames(t, result)
	if !strings.HasPrefix(names, "three__t1 three__t2 three__t3 full__t1 ") || !strings.HasSuffix(names, " full__t100") {
		t.Errorf("got %s", names)
	}
	if _, ok := jsonrpc.Get(result, "nextCursor"); ok {
		t.Error("the list has a cursor")
	}
	for _, want := range []string{"server=endless method=tools/list error=\"its list has more than 100 pages", "server=down method=tools/list error=\"nobody there", "server=nameless", "server=listless"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is not in the log:\n%s", want, log.String())
		}
	}
	r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"page 2",`+meta+`}}`, modernHeaders("tools/list", "")...)
	if r.status != 400 || r.code(t) != -32602 {
		t.Errorf("a cursor: got %s", r)
	}
}

func TestAListThatNoServerAnswersIsAnError(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, Server{Name: "a", Handler: fails(errors.New("down"))}, Server{Name: "b", Handler: fails(rpc.Errorf(-32000, "no"))})
	if r := listModern(g, "/mcp"); r.status != 200 || r.code(t) != -32603 || !strings.Contains(r.body, "a: down; b: no (code -32000)") {
		t.Errorf("got %s", r)
	}
}

func TestTheLossOfOneServersStateHidesNoOther(t *testing.T) {
	t.Parallel()
	var lost atomic.Bool // to be told, once
	g := newGateway(t, nil, Server{Name: "a", Handler: handler(demo)}, Server{
		Name: "b",
		Handler: handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			if call.Caller.Session != "" && lost.Swap(false) {
				return rpc.Answer{}, &mcpool.Error{Server: "b", Err: mcpool.ErrSessionLost}
			}
			return demo(ctx, call)
		}),
		EndSession: func(who rpc.Caller) { t.Errorf("session %q was ended", who.Session) },
	})
	const call = `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"%s__echo"}}`
	session := initialize(t, g, "/mcp")
	told := func(when string) {
		t.Helper()
		r := legacyPost(g, "/mcp", session, fmt.Sprintf(call, "b"))
		if r.status != 200 || r.code(t) != -32603 || !strings.Contains(r.body, mcpool.ErrSessionLost.Error()) {
			t.Errorf("%s: got %s", when, r)
		}
		for _, server := range []string{"a", "b"} {
			if r := legacyPost(g, "/mcp", session, fmt.Sprintf(call, server)); r.status != 200 || r.code(t) != 0 {
				t.Errorf("%s, the next call of %s: got %s", when, server, r)
			}
		}
	}
	lost.Store(true)
	told("a call that meets the loss")
	lost.Store(true)
	r := legacyPost(g, "/mcp", session, legacyList)
	if got := toolNames(t, r.result(t)); got != "a__echo a__add b__echo b__add" {
		t.Errorf("the list is %q", got)
	}
	other := initialize(t, g, "/mcp")
	if r := legacyPost(g, "/mcp", other, fmt.Sprintf(call, "b")); r.code(t) != 0 {
		t.Errorf("another session was told: %s", r)
	}
	told("a call after a list")
}

func TestServersAreListedAtOnce(t *testing.T) {
	t.Parallel()
	// Each answers when the other has been asked as well.
	var asked atomic.Int32
	both := make(chan struct{})
	h := handler(func(ctx context.Context, _ rpc.Call) (rpc.Answer, error) {
		if asked.Add(1) == 2 {
			close(both)
		}
		select {
		case <-both:
			return rpc.Result(json.RawMessage(`{"tools":[]}`)), nil
		case <-ctx.Done():
			return rpc.Answer{}, ctx.Err()
		}
	})
	g := newGateway(t, nil, Server{Name: "a", Handler: h}, Server{Name: "b", Handler: h})
	if r := listModern(g, "/mcp"); r.status != 200 {
		t.Errorf("got %s", r)
	}
}

// What a server refuses to one principal moves no name of another to another
// server.
func TestAServerThatFailsAPrincipalIsNotAwayForAnother(t *testing.T) {
	t.Parallel()
	has := func(from string) handler {
		return func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
			switch {
			case call.Method == "tools/call":
				return rpc.Result(json.RawMessage(`{"content":[],"from":"` + from + `"}`)), nil
			case from == "a" && call.Caller.Principal == "refused":
				return rpc.Answer{}, errors.New("who is that")
			}
			return demo(t.Context(), call)
		}
	}
	g := newGateway(t, &Options{Principal: byHeader, Prefix: PrefixNever},
		Server{Name: "a", Handler: has("a")}, Server{Name: "b", Handler: has("b")})
	calls := func(principal string) string {
		r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo",`+meta+`}}`,
			append(modernHeaders("tools/call", "echo"), "X-Principal", principal)...)
		return jsonrpc.GetString(r.result(t), "from")
	}
	for _, test := range [][2]string{{"other", "a"}, {"refused", "b"}, {"other", "a"}, {"refused", "b"}} {
		for key := range g.lists.kept { // there was no room for it
			if key.server == "a" {
				g.lists.dropLocked(key)
			}
		}
		if from := calls(test[0]); from != test[1] {
			t.Errorf("%s was answered by %s, want %s", test[0], from, test[1])
		}
	}
}
