package dbplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mcpool-dev/mcpool/rpc"
)

func TestToolsAreListedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := load(t, "reference-sqlite")
		held := make(chan struct{})
		p, err := New(doFunc(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			if call.Method == "tools/list" {
				<-held
			}
			return server.Do(ctx, call)
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		if server.lists != 0 {
			t.Error("New listed the tools")
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := p.ListTables(t.Context(), nil); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		// A caller that waits for the list goes when its ctx ends.
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		wg.Go(func() {
			if _, err := p.ListTables(ctx, nil); !errors.Is(err, gone) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		cancel(gone)
		synctest.Wait()
		close(held)
		wg.Wait()
		if server.lists != 1 {
			t.Errorf("the tools were listed %d times", server.lists)
		}
	})
}

// doFunc is a handler that is a function.
type doFunc func(context.Context, rpc.Call) (rpc.Answer, error)

func (f doFunc) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) { return f(ctx, call) }

func TestListThatFailedIsAskedForAgain(t *testing.T) {
	server := load(t, "reference-sqlite")
	down := errors.New("down")
	isDown := true
	p, err := New(doFunc(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		if isDown {
			return rpc.Answer{}, down
		}
		return server.Do(ctx, call)
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ListTables(t.Context(), nil); !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
	isDown = false
	if _, err := p.ListTables(t.Context(), nil); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestToolsAreListedAgainWhenTheServerDoesNotKnowOne(t *testing.T) {
	for words, unknown := range map[string]func() (string, error){
		"of an error": func() (string, error) { return "", rpc.Errorf(rpc.CodeInvalidParams, `unknown tool "read_data"`) },
		"of a result": func() (string, error) {
			return `{"isError":true,"content":[{"type":"text","text":"Unknown tool: read_data"}]}`, nil
		},
		"of a code": func() (string, error) { return "", rpc.Errorf(rpc.CodeMethodNotFound, "no") },
		"of old tools": func() (string, error) {
			return `{"isError":true,"content":[{"type":"text","text":"MCP error -32602: Tool read_data not found"}]}`, nil
		},
	} {
		lists, calls := 0, []string{}
		p, err := New(doFunc(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
			if call.Method == "tools/list" {
				if lists++; lists > 1 {
					return rpc.Result(json.RawMessage(listOf(map[string][]string{"query": {"sql"}}))), nil
				}
				return rpc.Result(json.RawMessage(fourTools)), nil
			}
			calls = append(calls, string(call.Params))
			if strings.Contains(string(call.Params), "read_data") {
				result, err := unknown()
				return rpc.Result(json.RawMessage(result)), err
			}
			return rpc.Result(json.RawMessage(textOnly(`[{"a":1}]`))), nil
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r, err := p.ReadData(t.Context(), "SELECT 1", nil)
			if err != nil || fmt.Sprint(r.Rows) != "[[1]]" {
				t.Errorf("%s: got %v, %v", words, r.Rows, err)
			}
		}
		if lists != 2 || len(calls) != 3 {
			t.Errorf("%s: %d lists, calls %s", words, lists, calls)
		}
	}
}

func TestACallIsMadeAnewOnceAndOnlyIfItsToolIsUnknown(t *testing.T) {
	for text, want := range map[string]int{
		"Unknown tool: read_data":                  2,
		"function read_data() does not exist":      1,
		"relation unknown tool does not exist":     1,
		"the tool read_data found nothing":         1,
		"tool list_tables not found by read_data":  1,
		"read_data: row not found, use other tool": 1,
	} {
		calls := 0
		result, _ := json.Marshal(map[string]any{"isError": true, "content": []any{map[string]string{"type": "text", "text": text}}})
		p, err := New(handlerFunc(func(rpc.Call) (string, error) { calls++; return string(result), nil }), nil)
		if err != nil {
			t.Fatal(err)
		}
		var failed *ToolError
		if _, err := p.ReadData(t.Context(), "SELECT 1", nil); !errors.As(err, &failed) || calls != want {
			t.Errorf("%s: %d calls, %v", text, calls, err)
		}
	}
}

func TestPagesOfTheListAreFollowed(t *testing.T) {
	for endless, wantErr := range map[bool]bool{false: false, true: true} {
		var asked []string
		p, err := New(doFunc(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
			if call.Method != "tools/list" {
				return rpc.Result(json.RawMessage(textOnly("[]"))), nil
			}
			asked = append(asked, string(call.Params))
			if len(asked) == 2 && !endless {
				return rpc.Result(json.RawMessage(listOf(map[string][]string{"query": {"sql"}}))), nil
			}
			return rpc.Result(json.RawMessage(`{"tools":[{"name":"other","inputSchema":{}}],"nextCursor":"c1"}`)), nil
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.ReadData(t.Context(), "SELECT 1", nil)
		if (err != nil) != wantErr || asked[0] != "" || asked[1] != `{"cursor":"c1"}` || len(asked) > listPages {
			t.Errorf("endless %v: %d pages, %v", endless, len(asked), err)
		}
	}
}

// gateway is one that serves several servers.
func gateway(t *testing.T, servers map[string]string) rpc.Handler {
	tapes := map[string]*tape{}
	for prefix, name := range servers {
		tapes[prefix] = load(t, name)
		tapes[prefix].prefix = prefix + "__"
	}
	return doFunc(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		var all struct {
			Tools []json.RawMessage `json:"tools"`
		}
		for prefix, tape := range tapes {
			if call.Method != "tools/list" && strings.Contains(string(call.Params), `"name":"`+prefix+"__") {
				return tape.Do(ctx, call)
			}
			answer, err := tape.Do(ctx, rpc.Call{Method: "tools/list"})
			if err != nil {
				return answer, err
			}
			page := struct{ Tools []json.RawMessage }{}
			if err := json.Unmarshal(answer.Bytes(), &page); err != nil {
				return answer, err
			}
			all.Tools = append(all.Tools, page.Tools...)
		}
		all.Tools = append(all.Tools, json.RawMessage(`{"name":"files__read","inputSchema":{"properties":{"path":{}}}}`))
		encoded, err := json.Marshal(all)
		return rpc.Result(encoded), err
	})
}

func TestServersBehindAGateway(t *testing.T) {
	const query = "SELECT * FROM customers ORDER BY id"
	one, err := New(gateway(t, map[string]string{"sales": "toolbox-postgres"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := one.ReadData(t.Context(), query, nil); err != nil || r.RowCount != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
	two := gateway(t, map[string]string{"sales": "toolbox-postgres", "a__b": "dbhub-two-sources"})
	for server, database := range map[string]string{"sales": "", "a__b": "the-shop"} {
		p, err := New(two, &Options{Server: server, Database: database})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := p.ReadData(t.Context(), query, nil); err != nil || r.RowCount != 2 {
			t.Errorf("%s: got %+v, %v", server, r, err)
		}
	}
	for server, want := range map[string]string{"": "Options.Server has to say which", "files": `no database server "files"`} {
		p, err := New(two, &Options{Server: server})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.ReadData(t.Context(), query, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "sales") || !strings.Contains(err.Error(), "a__b") {
			t.Errorf("%q: got %v", server, err)
		}
	}
}

func TestSourcesOfDBHub(t *testing.T) {
	p, err := New(load(t, "dbhub-two-sources"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.ReadData(t.Context(), "SELECT 1", nil)
	if err == nil || !strings.Contains(err.Error(), "DBHub has the databases other, the_shop") {
		t.Errorf("got %v", err)
	}
	// The model chooses, where nobody has.
	f := functions(t, p)["execute_sql_query"]
	if !strings.Contains(string(f.Parameters), `"database":{"type":"string","enum":["other","the_shop"]}`) || !strings.Contains(string(f.Parameters), `"required":["database","query"]`) {
		t.Errorf("parameters are %s", f.Parameters)
	}
	text, err := f.Invoke(t.Context(), json.RawMessage(`{"database":"the_shop","query":"SELECT * FROM customers ORDER BY id"}`))
	if err != nil || !strings.Contains(text, "Zoë") {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestServersThatAreNotKnown(t *testing.T) {
	for name, tools := range map[string]string{
		"none":                  `{"tools":[]}`,
		"others":                listOf(map[string][]string{"run": {"sql"}}),
		"arguments that differ": listOf(map[string][]string{"list_tables": nil, "read_data": {"statement"}}),
		"one that must be said": `{"tools":[{"name":"query","inputSchema":{"properties":{"sql":{},"warehouse":{}},"required":["sql","warehouse"]}}]}`,
	} {
		p := script{t: t, tools: tools}.plugin(nil)
		_, err := p.ReadData(t.Context(), "SELECT 1", nil)
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "Options.Profile") {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := p.Functions(t.Context()); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestToolsWhoseSchemasSayNothing(t *testing.T) {
	p := script{t, `{"tools":[{"name":"list_tables"},{"name":"read_data","inputSchema":{"type":"object"}},{"name":"describe_table","inputSchema":{}}]}`, map[string]string{
		`read_data {"query":"SELECT 1"}`:    `{"rows":[{"a":1},{"a":2}]}`,
		`describe_table {"table_name":"t"}`: `{"name":"t","columns":[{"name":"a"}]}`,
	}}.plugin(nil)
	r, err := p.ReadData(t.Context(), "SELECT 1", &ReadOptions{Limit: 1})
	if err != nil || fmt.Sprint(r.Rows) != "[[1]]" || !r.Truncated {
		t.Errorf("got %+v, %v", r, err)
	}
	if d, err := p.DescribeTable(t.Context(), "t"); err != nil || len(d.Columns) != 1 {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestProfileOfOptions(t *testing.T) {
	p := script{t, "none", map[string]string{
		`run {"n":2,"statement":"SELECT 1","warehouse":"w"}`: "[{'a': 1}]",
	}}.plugin(&Options{Profile: &Profile{Name: "Ours", ReadData: Tool{Name: "run",
		Arguments: map[string]string{"query": "statement", "limit": "n"}, Fixed: map[string]any{"warehouse": "w"}}}})
	r, err := p.ReadData(t.Context(), "SELECT 1", &ReadOptions{Limit: 2})
	if err != nil || fmt.Sprint(r.Rows) != "[[1]]" {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := p.ListTables(t.Context(), nil); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "Ours has no tool to list tables, only run") {
		t.Errorf("got %v", err)
	}
	if all := functions(t, p); len(all) != 1 || all["execute_sql_query"].Name == "" {
		t.Errorf("got %v", all)
	}
	for want, o := range map[string]Options{
		"unknown argument":         {Profile: &Profile{ReadData: Tool{Name: "run", Arguments: map[string]string{"sql": "statement"}}}},
		"needs the argument query": {Profile: &Profile{ReadData: Tool{Name: "run"}}},
		"has no tool":              {Profile: &Profile{}},
		"as they are":              {Server: "x", Profile: &Profile{ReadData: Tool{Name: "run", Arguments: map[string]string{"query": "q"}}}},
	} {
		if _, err := New(script{}, &o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func TestTablesOfOneNameInTwoSchemas(t *testing.T) {
	all := descriptions([]any{
		object{{"schema_name", "a"}, {"object_name", "t"}, {"object_details", `{"columns":[]}`}},
		object{{"schema_name", "b"}, {"object_name", "t"}, {"object_details", object{{"comment", "b's"}}}},
	})
	if _, err := choose(all, "", "t"); err == nil || !strings.Contains(err.Error(), "a.t, b.t") {
		t.Errorf("got %v", err)
	}
	if o, err := choose(all, "b", "t"); err != nil || o.text("comment") != "b's" {
		t.Errorf("got %v, %v", o, err)
	}
	if o, err := choose(all, "c", "t"); err != nil || o != nil {
		t.Errorf("got %v, %v", o, err)
	}
	if o, err := choose(all, "", "T"); err != nil || o != nil {
		t.Errorf("got %v, %v", o, err)
	}
}

// manySchemas is a Postgres MCP Pro with more schemas than are listed, one
// table in each, which fails after some calls.
func manySchemas(t *testing.T, calls int) *Plugin {
	p, err := New(doFunc(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
		text := "[{'schema': 's', 'name': 't', 'type': 'BASE TABLE'}]"
		switch {
		case call.Method == "tools/list":
			return rpc.Result(json.RawMessage(listOf(map[string][]string{"list_schemas": nil, "list_objects": {"schema_name", "object_type"}, "execute_sql": {"sql"}}))), nil
		case strings.Contains(string(call.Params), "list_schemas"):
			text = "[{'schema_name': 'pg_catalog', 'schema_type': 'System Schema'}"
			for i := range maxSchemas + 1 {
				text += fmt.Sprintf(", {'schema_name': 's%d', 'schema_type': 'User Schema'}", i)
			}
			text += "]"
		case strings.Contains(string(call.Params), "pg_catalog"):
			t.Error("the engine's own schema was listed")
		}
		if calls--; calls < 0 {
			return rpc.Answer{}, errors.New("lost")
		}
		return rpc.Result(json.RawMessage(textOnly(text))), nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSchemasAreBounded(t *testing.T) {
	list, err := manySchemas(t, 1000).ListTables(t.Context(), nil)
	if err != nil || len(list.Tables) != 2*maxSchemas || !list.Truncated {
		t.Errorf("got %d tables, truncated %v, %v", len(list.Tables), list.Truncated, err)
	}
	if list, err = manySchemas(t, 1000).ListTables(t.Context(), &ListOptions{Schema: "s1"}); err != nil || len(list.Tables) != 2 {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestListThatBreaksOffIsNoList(t *testing.T) {
	text, err := functions(t, manySchemas(t, 5))["list_database_tables"].Invoke(t.Context(), nil)
	if err == nil || text != "" {
		t.Errorf("a model is told %q, %v", text, err)
	}
}

func TestBlockThatIsNullIsNoRow(t *testing.T) {
	p := script{t, listOf(map[string][]string{"execute_sql": {"sql"}, "list_tables": nil}), map[string]string{`execute_sql {"sql":"SELECT 1"}`: "null"}}.plugin(nil)
	if r, err := p.ReadData(t.Context(), "SELECT 1", nil); err != nil || len(r.Rows) != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestRowsThatWereLeftOutAreNotToldToAModel(t *testing.T) {
	p := script{t, `{"tools":[{"name":"list_tables"},{"name":"read_data","inputSchema":{"properties":{"query":{}}}}]}`, map[string]string{
		`read_data {"query":"SELECT 1"}`: `[{"a":"\\x\ty"},{"b":{"c":[true,null]}},{"a":3}]`,
	}}.plugin(nil)
	text, err := functions(t, p)["execute_sql_query"].Invoke(t.Context(), json.RawMessage(`{"query":"SELECT 1","limit":2}`))
	if want := untrusted + "a\tb\n\\\\x\\ty\t\\N\n\\N\t{\"c\":[true,null]}\nNotice: only the first 2 of 3 rows that the server sent are here: aggregate or filter in SQL\n"; err != nil || text != want {
		t.Errorf("got %q, %v, want %q", text, err, want)
	}
}
