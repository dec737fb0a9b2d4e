package gateway

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/seal"
	"github.com/mcpool-dev/mcpool/rpc"
)

const legacyList = `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`

func TestInitializeNegotiatesTheVersion(t *testing.T) {
	t.Parallel()
	g := newGateway(t, &Options{Version: "1.2.3"}, one(handler(demo)))
	for _, test := range []struct{ asked, want string }{
		{"2024-11-05", "2024-11-05"}, {"2025-03-26", "2025-03-26"}, {"2025-06-18", "2025-06-18"}, {"2025-11-25", "2025-11-25"},
		{"2026-07-28", "2025-11-25"}, {"1999-01-01", "2025-11-25"},
	} {
		r := do(g, "POST", "/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":%q}}`, test.asked))
		want := fmt.Sprintf(`{"capabilities":{"tools":{}},"protocolVersion":%q,"serverInfo":{"name":"mcpool","version":"1.2.3"}}`, test.want)
		if got := string(r.result(t)); r.status != 200 || got != want {
			t.Errorf("%s: got %s, want %s", test.asked, got, want)
		}
		id := r.header.Get("Mcp-Session-Id")
		if id == "" || strings.ContainsFunc(id, func(c rune) bool { return c < 0x21 || c > 0x7e }) {
			t.Errorf("session id %q is not visible ASCII", id)
		}
	}
	for _, params := range []string{`{}`, `{"protocolVersion":1}`} {
		r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":`+params+`}`)
		if r.status != 200 || r.code(t) != -32602 || r.header.Get("Mcp-Session-Id") != "" {
			t.Errorf("%s: got %s", params, r)
		}
	}
}

func TestLegacyRequestsNameTheirSession(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, Server{Name: "a", Handler: handler(demo)}, Server{Name: "b", Handler: handler(demo)})
	other := newGateway(t, nil, one(handler(demo)))
	all, a := initialize(t, g, "/mcp"), initialize(t, g, "/mcp/a")
	if all == a {
		t.Fatal("two sessions have one id")
	}
	for name, test := range map[string]struct {
		path, session, frame string
		status, code         int
		want                 string
	}{
		"a list":                  {"/mcp", all, legacyList, 200, 0, `"id":2`},
		"a ping":                  {"/mcp", all, `{"jsonrpc":"2.0","id":2,"method":"ping"}`, 200, 0, `"result":{}`},
		"an unknown method":       {"/mcp", all, `{"jsonrpc":"2.0","id":2,"method":"resources/list"}`, 200, 0, `{"resources":[]}`},
		"another":                 {"/mcp", all, `{"jsonrpc":"2.0","id":2,"method":"x/y"}`, 200, -32601, "x/y"},
		"discover without meta":   {"/mcp", all, `{"jsonrpc":"2.0","id":2,"method":"server/discover"}`, 200, -32601, ""},
		"a call of nothing":       {"/mcp/a", a, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{}}`, 200, -32602, "params.name"},
		"a number for a cursor":   {"/mcp/a", a, `{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"cursor":1}}`, 200, -32602, "cursor"},
		"no session":              {"/mcp", "", legacyList, 400, -32600, "initialize"},
		"garbage":                 {"/mcp", "x!", legacyList, 404, -32001, "initialize again"},
		"a session cut short":     {"/mcp", all[:20], legacyList, 404, -32001, ""},
		"a session of a server":   {"/mcp", a, legacyList, 404, -32001, ""},
		"a session of all":        {"/mcp/a", all, legacyList, 404, -32001, ""},
		"a session of another":    {"/mcp", initialize(t, other, "/mcp"), legacyList, 404, -32001, `"id":null`},
		"a ping without":          {"/mcp", "", `{"jsonrpc":"2.0","id":2,"method":"ping"}`, 400, -32600, ""},
		"a notification without":  {"/mcp", "", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, 400, -32600, ""},
		"a notification, foreign": {"/mcp", a, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, 404, -32001, ""},
	} {
		if r := legacyPost(g, test.path, test.session, test.frame); r.status != test.status || r.code(t) != test.code || !strings.Contains(r.body, test.want) {
			t.Errorf("%s: got %s, want status %d, code %d, %q", name, r, test.status, test.code, test.want)
		}
	}
	if r := legacyPost(g, "/mcp", all, `{"jsonrpc":"2.0","method":"notifications/initialized"}`); r.status != 202 || r.body != "" {
		t.Errorf("initialized: got %s", r)
	}
	for version, status := range map[string]int{"": 200, "2024-11-05": 200, "2025-03-26": 200, "2025-06-18": 200, "2024-01-01": 400} {
		if r := do(g, "POST", "/mcp", legacyList, "Mcp-Session-Id", all, "MCP-Protocol-Version", version); r.status != status {
			t.Errorf("version header %q: got %s", version, r)
		}
	}
}

func TestLegacySessionsAreOneToTheServers(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(demo)))
	const frame = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo"}}`
	session := func(id string) string {
		return jsonrpc.GetString(legacyPost(g, "/mcp", id, frame).result(t), "structuredContent", "session")
	}
	first, second := initialize(t, g, "/mcp"), initialize(t, g, "/mcp")
	if s := session(first); s == "" || s != session(first) || s == session(second) {
		t.Errorf("sessions %q, %q, %q", s, session(first), session(second))
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ended := map[string][]string{}
	server := func(name string) Server {
		return Server{Name: name, Handler: handler(demo), EndSession: func(who rpc.Caller) {
			mu.Lock()
			defer mu.Unlock()
			ended[name] = append(ended[name], who.Session)
		}}
	}
	g := newGateway(t, nil, server("a"), Server{Name: "quiet", Handler: handler(demo)}, server("b"))
	all, b := initialize(t, g, "/mcp"), initialize(t, g, "/mcp/b")
	for _, test := range []struct {
		path, session string
		status        int
	}{
		{"/mcp", "", 400}, {"/mcp", "x", 404}, {"/mcp", b, 404},
		{"/mcp/b", b, 204}, {"/mcp/b", b, 404}, {"/mcp", all, 204}, {"/mcp", all, 404},
	} {
		if r := do(g, "DELETE", test.path, "", "Mcp-Session-Id", test.session); r.status != test.status {
			t.Errorf("DELETE %s: got %s, want status %d", test.path, r, test.status)
		}
	}
	if len(ended["a"]) != 1 || len(ended["b"]) != 2 || ended["b"][1] != ended["a"][0] || ended["b"][0] == ended["b"][1] {
		t.Errorf("ended %v", ended)
	}
	if r := legacyPost(g, "/mcp", all, legacyList); r.status != 404 || !strings.Contains(r.body, `"id":null`) {
		t.Errorf("after its end: got %s", r)
	}
}

func TestALostSessionIsEnded(t *testing.T) {
	t.Parallel()
	var ended []string
	g := newGateway(t, nil, Server{
		Name:       "one",
		Handler:    fails(&mcpool.Error{Server: "one", Err: mcpool.ErrSessionLost}),
		EndSession: func(who rpc.Caller) { ended = append(ended, who.Session) },
	})
	session := initialize(t, g, "/mcp")
	for i := range 2 {
		r := legacyPost(g, "/mcp", session, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"x"}}`)
		// go-sdk keeps a session whose 404 has the id of a request.
		if r.status != 404 || !strings.Contains(r.body, `"id":null`) || !strings.Contains(r.body, "send initialize again") {
			t.Errorf("call %d: got %s", i, r)
		}
	}
	if len(ended) != 1 {
		t.Errorf("ended %q, want one", ended)
	}
}

func TestSessionsExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(handler(demo)))
		session := initialize(t, g, "/mcp")
		time.Sleep(sessionLife - 2*time.Second)
		if r := legacyPost(g, "/mcp", session, legacyList); r.status != 200 {
			t.Errorf("before: got %s", r)
		}
		time.Sleep(2 * time.Second)
		if r := legacyPost(g, "/mcp", session, legacyList); r.status != 404 {
			t.Errorf("after: got %s", r)
		}
	})
}

// An id that was read before is good for no more than it was.
func TestSessionIsReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSessions(seal.New(nil))
		ids := make(map[string]string)
		for _, name := range []string{"ends", "stays"} {
			ids[name] = s.begin("e", "p", &session{name: name, info: "{}", caps: rpc.Capabilities{Roots: true}})
		}
		opens := func(name, endpoint, principal string, want bool) {
			t.Helper()
			for range 2 {
				this, ok := s.open(ids[name], endpoint, principal)
				if ok != want || ok && (this.name != name || this.caps != rpc.Capabilities{Roots: true} || this.info != "{}") {
					t.Errorf("%s at %s for %s: got %+v, %v, want %v", name, endpoint, principal, this, ok, want)
				}
			}
		}
		for name := range ids {
			opens(name, "e", "p", true)
			opens(name, "e", "other", false)
			opens(name, "other", "p", false)
			opens(name, "e", "p", true)
		}
		s.end("ends")
		opens("ends", "e", "p", false)
		opens("stays", "e", "p", true)
		time.Sleep(sessionLife)
		opens("stays", "e", "p", false)
	})
}

func TestEndedSessionsAreForgottenOldestFirst(t *testing.T) {
	t.Parallel()
	s := newSessions(seal.New(nil))
	for i := range maxEnded + 3 {
		if !s.end(fmt.Sprint(i)) {
			t.Fatalf("session %d has ended before", i)
		}
	}
	if len(s.ended.of) != maxEnded || len(s.ended.oldest) != maxEnded {
		t.Errorf("%d and %d remembered, want %d", len(s.ended.of), len(s.ended.oldest), maxEnded)
	}
	for i, want := range map[int]bool{0: false, 2: false, 3: true, maxEnded + 2: true} {
		if _, there := s.ended.get(fmt.Sprint(i)); there != want {
			t.Errorf("session %d remembered: %v", i, !want)
		}
	}
}

func TestLegacyAnswersHaveNothingModern(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ result, want string }{
		{`{"content":[]}`, `{"content":[]}`},
		{`{"resultType":"complete","content":[{"resultType":1}],"ttlMs":5 , "cacheScope":"public"}`, `{"content":[{"resultType":1}]}`},
		{`{"x":{"ttlMs":1}}`, `{"x":{"ttlMs":1}}`},
	} {
		g := newGateway(t, nil, one(answers(test.result)))
		r := legacyPost(g, "/mcp", initialize(t, g, "/mcp"), legacyList)
		if got := string(r.result(t)); got != test.want {
			t.Errorf("%s: got %s, want %s", test.result, got, test.want)
		}
	}
	g := newGateway(t, nil, one(answers(`{"resultType":"input_required","inputRequests":{}}`)))
	if r := legacyPost(g, "/mcp", initialize(t, g, "/mcp"), legacyList); r.status != 200 || r.code(t) != -32603 {
		t.Errorf("input_required: got %s", r)
	}
}

func TestSessionIDsAreNotRemembered(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(demo)))
	for range 100 {
		initialize(t, g, "/mcp")
	}
	if n := len(g.sessions.ended.of) + len(g.standings.of) + len(g.levels.of.of) + len(g.calls.running) + len(g.calls.byID); n != 0 {
		t.Errorf("%d things are kept", n)
	}
	// A flipped bit anywhere breaks the seal.
	id := []byte(initialize(t, g, "/mcp"))
	for i := range id {
		bad := append([]byte(nil), id...)
		if bad[i]++; bad[i] == '[' || bad[i] == '{' || bad[i] == ':' || bad[i] == '`' || bad[i] == '.' {
			bad[i] = 'A'
		}
		if _, ok := g.sessions.open(string(bad), "", ""); ok {
			t.Errorf("id with byte %d changed opens", i)
		}
	}
}
