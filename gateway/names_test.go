package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A shop is a handler with lists, which says of each call that it was made.
type shop struct {
	name      string
	tools     []string
	resources []string
	templates []string
	modern    bool
	tasks     bool // of a legacy server, offered by who has a session for each client

	mu     sync.Mutex // guards what follows
	away   error      // nil if it answers; errHangs if it never does
	called []string   // method and params, but for lists
}

var errHangs = errors.New("hangs")

func (s *shop) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	s.mu.Lock()
	away := s.away
	if listKinds[call.Method] == nil && call.Method != "server/discover" {
		s.called = append(s.called, fmt.Sprintf("%s %s", call.Method, jsonrpc.Delete(call.Params, "_meta")))
	}
	s.mu.Unlock()
	if away == errHangs {
		<-ctx.Done()
		return rpc.Answer{}, ctx.Err()
	}
	if away != nil {
		return rpc.Answer{}, away
	}
	list := func(member, key string, names []string) (rpc.Answer, error) {
		all := make([]map[string]string, 0)
		for _, name := range names {
			all = append(all, map[string]string{key: name, "of": s.name})
		}
		result, err := json.Marshal(map[string]any{member: all})
		return rpc.Result(result), err
	}
	switch call.Method {
	case "server/discover":
		versions := `["2025-11-25"]`
		if s.modern {
			versions = `["2026-07-28"]`
		}
		capabilities := `{"tools":{}}`
		if s.tasks {
			capabilities = `{"tools":{},"tasks":{"list":{}}}`
		}
		return rpc.Result(json.RawMessage(`{"supportedVersions":` + versions + `,"capabilities":` + capabilities + `}`)), nil
	case "tools/list":
		return list("tools", "name", s.tools)
	case "resources/list":
		return list("resources", "uri", s.resources)
	case "resources/templates/list":
		return list("resourceTemplates", "uriTemplate", s.templates)
	case "prompts/list":
		return rpc.Answer{}, rpc.Errorf(rpc.CodeMethodNotFound, "no prompts")
	}
	return text(s.name), nil
}

func (s *shop) set(away error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// last is what the server was called with last, since it was asked before.
func (s *shop) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.called) == 0 {
		return ""
	}
	last := s.called[len(s.called)-1]
	s.called = nil
	return last
}

// request makes a modern request; params are members.
func modernRequest(g *Gateway, path, method, name, params string) response {
	return do(g, "POST", path, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s%s}}`, method, params, meta), modernHeaders(method, name)...)
}

func TestTheLastListOfAServerThatIsAwayIsShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := &shop{name: "a", tools: []string{"x"}}, &shop{name: "b", tools: []string{"y"}}
		g := newPlain(t, &Options{Principal: byHeader}, Server{Name: "a", Handler: a}, Server{Name: "b", Handler: b})
		list := func(principal, want string, takes time.Duration) {
			t.Helper()
			began := time.Now()
			r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+meta+`}}`, append(modernHeaders("tools/list", ""), "X-Principal", principal)...)
			if got := toolNames(t, r.result(t)); got != want || time.Since(began) != takes {
				t.Errorf("for %q, after %v: got %s, want %s", principal, time.Since(began), got, want)
			}
		}
		list("p", "a__x b__y", 0)
		b.set(errHangs)
		list("p", "a__x b__y", listWait)
		b.set(errors.New("down"))
		list("p", "a__x b__y", 0)
		fault, there := g.lists.fault("b")
		if !there || time.Since(fault.Since) != 0 || !strings.Contains(fault.Err.Error(), "no list within") && !errors.Is(fault.Err, context.DeadlineExceeded) {
			t.Errorf("the fault is %+v", fault)
		}
		if _, there := g.lists.fault("a"); there {
			t.Error("the other is at fault")
		}
		// What one principal was shown, another is not.
		list("q", "a__x", 0)
		b.set(errHangs)
		list("r", "a__x", listWaitFirst)
		// Calls of the others are not held up.
		if r := callModern(g, "/mcp", "a__x", ""); r.said(t) != "a" {
			t.Errorf("got %s", r)
		}
		b.set(nil)
		list("q", "a__x b__y", 0)
		if _, there := g.lists.fault("b"); there {
			t.Error("it is still at fault")
		}
		closed(t, g)
	})
}

func TestKeptListsAreBounded(t *testing.T) {
	t.Parallel()
	l := newLists()
	key := func(i int) listKey { return listKey{principal: fmt.Sprint(i)} }
	big := []item{{raw: make([]byte, keptBytes/4)}}
	for i := range 6 {
		l.put(key(i), big)
		l.put(key(i), big) // counts once
	}
	if l.bytes != keptBytes || len(l.kept) != 4 {
		t.Errorf("%d lists with %d bytes", len(l.kept), l.bytes)
	}
	l.put(key(7), []item{{raw: make([]byte, keptBytes+1)}})
	if _, ok := l.get(key(7)); ok || l.bytes > keptBytes {
		t.Errorf("%d lists with %d bytes", len(l.kept), l.bytes)
	}
	for i := range keptLists + 10 {
		l.put(key(100+i), []item{{raw: []byte("1")}})
	}
	if len(l.kept) != keptLists {
		t.Errorf("%d lists", len(l.kept))
	}
	total := 0
	for _, items := range l.kept {
		total += sizeOf(items)
	}
	if total != l.bytes {
		t.Errorf("%d bytes, and counted %d", total, l.bytes)
	}
}

func TestNamesThatAreNotPrefixedAreOfTheFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &shop{name: "a", tools: []string{"both", "hidden", "mine"}}
		b := &shop{name: "b", tools: []string{"both", "hidden", "theirs"}}
		dead := &shop{name: "dead", away: errors.New("down")}
		g := newPlain(t, &Options{Prefix: PrefixNever}, Server{Name: "dead", Handler: dead},
			Server{Name: "a", Handler: a, Deny: []string{"hid*"}}, Server{Name: "b", Handler: b})
		// Before anybody has listed.
		for tool, want := range map[string]string{"both": "a", "hidden": "b", "theirs": "b", "mine": "a"} {
			if r := callModern(g, "/mcp", tool, ""); r.said(t) != want {
				t.Errorf("%s: got %s", tool, r)
			}
		}
		if got := toolNames(t, listModern(g, "/mcp").result(t)); got != "both mine hidden theirs" {
			t.Errorf("got %s", got)
		}
		if r := callModern(g, "/mcp", "none", ""); r.status != 400 || r.code(t) != -32602 || !strings.Contains(r.body, `unknown tool \"none\"`) {
			t.Errorf("got %s", r)
		}
		if r := callModern(g, "/mcp/a", "hidden", ""); r.code(t) != -32602 || a.last() == `tools/call {"name":"hidden"}` {
			t.Errorf("a tool that is denied: %s", r)
		}
		// The list of b alone is known: it is not asked for what a may have.
		g = newPlain(t, &Options{Prefix: PrefixNever}, Server{Name: "a", Handler: a}, Server{Name: "b", Handler: b})
		q := &request{endpoint: g.now().all}
		g.lists.put(q.listKey(g.now().all.servers[1], &tools), []item{{g.now().all.servers[1], "both", nil}})
		if r := callModern(g, "/mcp", "both", ""); r.said(t) != "a" {
			t.Errorf("got %s", r)
		}
		closed(t, g)
	})
}

func TestLongNamesAreCutAndFoundAgain(t *testing.T) {
	t.Parallel()
	stem := strings.Repeat("long_", 15)
	tools := []string{stem + "1", stem + "2", "short", strings.Repeat("é", 40), strings.Repeat("a", 46) + "_0123abcd", "x_0123abcd"}
	a := &shop{name: "a", tools: tools}
	servers := []Server{{Name: "server", Handler: a}, {Name: "other", Handler: &shop{name: "other"}}}
	names := strings.Fields(toolNames(t, listModern(newPlain(t, nil, servers...), "/mcp").result(t)))
	if len(names) != len(tools) {
		t.Fatalf("got %q", names)
	}
	for _, known := range []bool{false, true} {
		g := newPlain(t, nil, servers...)
		if known {
			listModern(g, "/mcp")
		}
		for i, name := range names {
			if len(name) > maxName || !strings.HasPrefix(name, "server__") {
				t.Errorf("%q is called %q", tools[i], name)
			}
			encoded := name
			if strings.Contains(name, "é") {
				continue // its header would be encoded, which is tested elsewhere
			}
			r := callModern(g, "/mcp", encoded, "")
			if got, want := a.last(), fmt.Sprintf(`tools/call {"name":%q}`, tools[i]); got != want {
				t.Errorf("%q: the server was called with %s, want %s: %s", name, got, want, r)
			}
		}
	}
}

func TestResourcesAreNamedAfterTheirServer(t *testing.T) {
	t.Parallel()
	x := &shop{name: "x", resources: []string{"file:///x", "both://1"}, templates: []string{"tx://{id}", "{all}"}}
	y := &shop{name: "1", resources: []string{"file:///1", "both://1"}, templates: []string{"ty://1/{id}/end"}}
	z := &shop{name: "a_B-c", away: errors.New("down")}
	g := newPlain(t, nil, Server{Name: "x", Handler: x}, Server{Name: "1", Handler: y}, Server{Name: "a_B-c", Handler: z})
	uris := func(method, member, key string) (all []string) {
		list, _ := jsonrpc.Get(modernRequest(g, "/mcp", method, "", "").result(t), member)
		elements, err := jsonrpc.Elements(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range elements {
			all = append(all, jsonrpc.GetString(e, key))
		}
		return all
	}
	if got := fmt.Sprint(uris("resources/list", "resources", "uri")); got != "[x+file:///x x+both://1 x+1+file:///1 x+1+both://1]" {
		t.Errorf("got %s", got)
	}
	if got := fmt.Sprint(uris("resources/templates/list", "resourceTemplates", "uriTemplate")); got != "[x+tx://{id} x+{all} x+1+ty://1/{id}/end]" {
		t.Errorf("got %s", got)
	}
	for _, test := range []struct{ uri, server, inner string }{
		{"x+file:///x", "x", "file:///x"}, {"X+tx://7", "x", "tx://7"}, {"x+1+file:///1", "1", "file:///1"}, {"x+1+ty://1/2/end", "1", "ty://1/2/end"},
		// As they stand in results, which nobody reads: by list, and by template.
		{"file:///1", "1", "file:///1"}, {"both://1", "x", "both://1"}, {"tx://7", "x", "tx://7"}, {"ty://1/2/end", "1", "ty://1/2/end"},
		{"x+", "", ""}, {"nobody+file:///1", "", ""}, {"ty://2", "", ""}, {"", "", ""},
	} {
		for method, params := range map[string]string{
			"resources/read":      `"uri":%q,`,
			"completion/complete": `"ref":{"type":"ref/resource","uri":%q},"argument":{"name":"id","value":""},`,
		} {
			r := modernRequest(g, "/mcp", method, test.uri, fmt.Sprintf(params, test.uri))
			if test.server == "" {
				if r.status != 400 || r.code(t) != -32602 {
					t.Errorf("%s of %s: got %s", method, test.uri, r)
				}
				continue
			}
			want := method + " {" + strings.TrimSuffix(fmt.Sprintf(params, test.inner), ",") + "}"
			if got := map[string]*shop{"x": x, "1": y}[test.server].last(); got != want {
				t.Errorf("%s of %s: server %s was called with %s, want %s: %s", method, test.uri, test.server, got, want, r)
			}
		}
	}
	if r := modernRequest(g, "/mcp", "completion/complete", "", `"ref":{"type":"ref/prompt","name":"1__p"},`); r.said(t) != "1" || y.last() != `completion/complete {"ref":{"type":"ref/prompt","name":"p"}}` {
		t.Errorf("a prompt's: %s", r)
	}
	if r := modernRequest(g, "/mcp", "completion/complete", "", `"ref":{"type":"ref/odd"},`); r.code(t) != -32602 {
		t.Errorf("an odd one: %s", r)
	}
	// A legacy client's error for what is not there has another code.
	session := initializeWith(t, g, "/mcp", `{}`)
	if r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"none://"}}`, session...); r.code(t) != -32002 {
		t.Errorf("legacy: %s", r)
	}
	closed(t, g)
}

func TestToolsAreAllowedAndDenied(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		allow, deny []string
		want        string
	}{
		"all":             {nil, nil, "read_file read_dir write_file"},
		"allowed":         {[]string{"read_*"}, nil, "read_file read_dir"},
		"denied":          {nil, []string{"*_file"}, "read_dir"},
		"denied for good": {[]string{"read_*"}, []string{"read_dir"}, "read_file"},
		"none":            {[]string{"x"}, nil, ""},
		"one of a class":  {[]string{"[w]rite?file"}, nil, "write_file"},
	} {
		a := &shop{name: "a", tools: []string{"read_file", "read_dir", "write_file"}}
		server := Server{Name: "a", Handler: a, Allow: test.allow, Deny: test.deny}
		for _, prefix := range []Prefix{PrefixAuto, PrefixAlways} {
			g := newPlain(t, &Options{Prefix: prefix}, server)
			before := map[Prefix]string{PrefixAlways: "a__"}[prefix]
			got := toolNames(t, listModern(g, "/mcp").result(t))
			if strings.ReplaceAll(got, before, "") != test.want {
				t.Errorf("%s: got %s", name, got)
			}
			for _, tool := range a.tools {
				r := callModern(g, "/mcp", before+tool, "")
				if offered := strings.Contains(" "+test.want+" ", " "+tool+" "); offered != (r.status == 200) || offered != (a.last() != "") {
					t.Errorf("%s: %s: got %s", name, tool, r)
				}
			}
		}
	}
	for _, bad := range []string{"[", ""} {
		if _, err := New([]Server{{Name: "a", Handler: answers(`{}`), Deny: []string{bad}}}, nil); err == nil {
			t.Errorf("pattern %q is taken", bad)
		}
	}
}

// A legacy server's tasks are those of a session, so they are also not served
// where the pool says nothing of them: it has sessions for several clients.
func TestTasksAreServedWhereErasAgree(t *testing.T) {
	t.Parallel()
	old, young, shared := &shop{name: "old", tasks: true}, &shop{name: "young", modern: true}, &shop{name: "shared"}
	g := newPlain(t, nil, Server{Name: "old", Handler: old}, Server{Name: "young", Handler: young}, Server{Name: "shared", Handler: shared})
	for _, path := range []string{"/mcp/old", "/mcp/young", "/mcp/shared", "/mcp"} {
		session := initializeWith(t, g, path, `{}`)
		legacy := do(g, "POST", path, `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"t"}}`, session...)
		if (legacy.code(t) == 0) != (path == "/mcp/old") || legacy.code(t) != 0 && legacy.code(t) != -32601 {
			t.Errorf("legacy at %s: %s", path, legacy)
		}
		now := modernRequest(g, path, "tasks/get", "t", `"taskId":"t",`)
		if (now.code(t) == 0) != (path == "/mcp/young") || now.code(t) != 0 && (now.code(t) != -32601 || now.status != 404) {
			t.Errorf("modern at %s: %s", path, now)
		}
	}
	closed(t, g)
}

func TestNoTaskIsMadeThatItsClientCannotAskFor(t *testing.T) {
	t.Parallel()
	const declared = `{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}`
	var got string
	server := func(name string, s *shop) Server {
		return Server{Name: name, Handler: handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			if call.Method == "tools/call" {
				got = string(call.Params)
			}
			return s.Do(ctx, call)
		})}
	}
	g := newPlain(t, nil, server("old", &shop{tasks: true}), server("shared", &shop{}), server("young", &shop{modern: true}))
	for _, test := range []struct {
		path, tool   string
		legacyTask   bool // a call of a legacy client may become a task
		modernMember bool // what a modern client's params have besides is passed on
		extension    bool // the server is told that a modern client knows tasks
	}{
		{"/mcp/old", "t", true, false, true},
		{"/mcp/shared", "t", false, false, true},
		{"/mcp/young", "t", false, true, true},
		{"/mcp", "old__t", false, false, false},
		{"/mcp", "young__t", false, true, false},
	} {
		got = ""
		session := initializeWith(t, g, test.path, `{}`)
		do(g, "POST", test.path, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+test.tool+`","task":{"ttl":1}}}`, session...)
		if got == "" || strings.Contains(got, `"task"`) != test.legacyTask {
			t.Errorf("legacy at %s: %s", test.path, got)
		}
		got = ""
		do(g, "POST", test.path, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+test.tool+`","task":{"ttl":1},`+
			strings.Replace(meta, `"io.modelcontextprotocol/clientCapabilities":{}`, `"io.modelcontextprotocol/clientCapabilities":`+declared, 1)+`}}`,
			modernHeaders("tools/call", test.tool)...)
		if got == "" || strings.Contains(got, `"task"`) != test.modernMember || strings.Contains(got, tasksExtension) != test.extension ||
			!strings.Contains(got, `"elicitation":{}`) {
			t.Errorf("modern at %s: %s", test.path, got)
		}
	}
	closed(t, g)
}
