package dbserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/rpc"
)

// readURI reads a resource, and checks it against the output schema of the tool
// that it is the answer of.
func readURI(t *testing.T, s *Server, principal, tool, uri string) (*answer, error) {
	t.Helper()
	got, err := s.Do(t.Context(), rpc.Call{Method: "resources/read", Params: mustMarshal(object{"uri": uri}), Caller: rpc.Caller{Principal: principal}})
	if err != nil {
		return nil, err
	}
	var read struct {
		Contents []struct{ URI, MimeType, Text string }
	}
	if err := json.Unmarshal(got.Bytes(), &read); err != nil || len(read.Contents) != 1 {
		t.Fatalf("got %s, %v", got.Bytes(), err)
	}
	content := read.Contents[0]
	if content.URI != uri || content.MimeType != "application/json" {
		t.Errorf("content is %+v", content)
	}
	a := &answer{structured: json.RawMessage(content.Text)}
	var value any
	if err := errors.Join(json.Unmarshal(a.structured, &a.StructuredContent), json.Unmarshal(a.structured, &value), outputs()[tool].Validate(value)); err != nil {
		t.Errorf("%s: %v", uri, err)
	}
	return a, nil
}

func TestResources(t *testing.T) {
	one := Database{Name: "shop", DSN: newDatabase(t, `CREATE TABLE "a/b %41" (x); CREATE TABLE t (y); INSERT INTO t VALUES (1), (2), (3)`), MaxRows: 1}
	var many strings.Builder
	for i := range DefaultLimit + 1 {
		fmt.Fprintf(&many, "CREATE TABLE u%03d (z);", i)
	}
	two := Database{Name: "other", DSN: newDatabase(t, many.String())}
	s, err := New(Options{Databases: []Database{one, two}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })

	// All tools but fetch_rows, whose handle says it, ask which database.
	if n := strings.Count(string(s.tools.list), `"x-mcp-header":"Database"`); n != len(s.tools.tools)-1 {
		t.Errorf("%d of %d tools ask which database", n, len(s.tools.tools))
	}
	var list struct {
		Resources         []resource
		ResourceTemplates []resource
	}
	for _, method := range []string{"resources/list", "resources/templates/list"} {
		got, err := s.Do(t.Context(), rpc.Call{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
	}
	var uris []string
	for _, r := range append(list.Resources, list.ResourceTemplates...) {
		uris = append(uris, r.URI+r.Template)
		if r.Name == "" || r.Description == "" || r.Type != "application/json" {
			t.Errorf("resource %+v is not described", r)
		}
	}
	if got := strings.Join(uris, " "); got != "db://shop/schema db://shop/status db://other/schema db://other/status db://{database}/table/{table} db://{database}/results/{handle}" {
		t.Errorf("resources are %s", got)
	}

	for uri, c := range map[string]struct{ tool, says string }{
		"db://shop/schema":                    {"list_tables", `"tables":[{"name":"a/b %41"`},
		"db://other/schema":                   {"list_tables", `"truncated":false`},
		"db://shop/status":                    {"database_info", `"database":"shop"`},
		"db://shop/table/t":                   {"describe_table", `"columns":[{"name":"y"`},
		"db://shop/table/main.t":              {"describe_table", `"columns":[{"name":"y"`},
		"db://shop/table/a%2Fb%20%2541":       {"describe_table", `"columns":[{"name":"x"`},
		"db://shop/table/%22a%2Fb%20%2541%22": {"describe_table", `"columns":[{"name":"x"`},
	} {
		a, err := readURI(t, s, "", c.tool, uri)
		if err != nil || !strings.Contains(string(a.structured), c.says) {
			t.Errorf("%s: got %v, %v, which does not say %s", uri, a, err, c.says)
		}
	}
	// Bounded as the tools are.
	if a, err := readURI(t, s, "", "list_tables", "db://shop/schema"); err != nil || !a.StructuredContent.Truncated {
		t.Errorf("got %s, %v", a.structured, err)
	}

	first, err := tryAs(t.Context(), s, "ada", "read_data", object{"database": "shop", "query": "SELECT y FROM t ORDER BY y"})
	if err != nil {
		t.Fatal(err)
	}
	uri := "db://shop/results/" + first.StructuredContent.Handle
	a, err := readURI(t, s, "ada", "fetch_rows", uri)
	if err != nil || firstColumn(a) != "2" || a.StructuredContent.Handle == "" {
		t.Errorf("got %v, %v", a, err)
	}

	for _, c := range []struct {
		uri  string
		code string // of the error in its data
	}{
		{uri, engine.HandleExpired}, // of another principal
		{"db://shop/results/x", engine.HandleExpired},
		{"db://shop/table/nothing", engine.UnknownObject},
		{"db://nowhere/schema", ""},
		{"db:///schema", ""},
		{"db://shop/", ""},
		{"db://shop/schema/t", ""},
		{"db://shop/table/", ""},
		{"db://shop/table/%", ""},
		{"db://shop/table", ""},
		{"file:///etc/passwd", ""},
		{"", ""},
	} {
		_, err := readURI(t, s, "", "", c.uri)
		var e *rpc.Error
		if !errors.As(err, &e) || e.Code != rpc.CodeInvalidParams || c.code != "" && !strings.Contains(string(e.Data), `"code":"`+c.code+`"`) || c.code == "" && e.Data != nil {
			t.Errorf("%s: got %v", c.uri, err)
		}
	}
	down, err := New(Options{Databases: []Database{{DSN: "/nowhere.db"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = down.Close() })
	var e *rpc.Error
	if _, err := readURI(t, down, "", "list_tables", "db://main/schema"); !errors.As(err, &e) || e.Code != rpc.CodeInternal {
		t.Errorf("a database that is down: %v", err)
	}
}
