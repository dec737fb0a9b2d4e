package dbplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// fullServer is a database server of ours with all that it can have, as far as
// a plugin sees it.
func fullServer(t *testing.T, texts map[string]string) script {
	tool := func(name, required string, arguments ...string) string {
		properties := []string{`"database":{"type":"string","enum":["main","sales"]}`}
		if name == "fetch_rows" {
			properties = nil
		}
		for _, a := range arguments {
			properties = append(properties, `"`+a+`":{}`)
		}
		return fmt.Sprintf(`{"name":%q,"inputSchema":{"type":"object","properties":{%s},"required":[%s]},"annotations":{"readOnlyHint":%v}}`,
			name, strings.Join(properties, ","), required, name != "write_data")
	}
	return script{t, `{"tools":[` + strings.Join([]string{
		tool("list_tables", "", "pattern", "schema", "kinds", "detail", "limit", "cursor"),
		tool("describe_table", "", "table_name", "table_names", "sample_rows"),
		tool("read_data", `"query"`, "query", "params", "limit", "timeout_ms", "shape"),
		tool("fetch_rows", `"handle"`, "handle", "limit", "shape"),
		tool("explain_query", `"query"`, "query", "params"),
		tool("database_info", ""),
		tool("write_data", `"query"`, "query", "params", "token"),
	}, ",") + `]}`, texts}
}

func TestParams(t *testing.T) {
	p := fullServer(t, map[string]string{
		`read_data {"limit":100,"params":[9007199254740993,"x",null],"query":"SELECT ?"}`: `{"columns":[],"rows":[]}`,
		`read_data {"limit":100,"params":{"id":1},"query":"SELECT :id"}`:                  `{"columns":[],"rows":[]}`,
		`read_data {"limit":100,"query":"SELECT 1"}`:                                      `{"columns":[],"rows":[]}`,
		`explain_query {"params":[1],"query":"SELECT ?"}`:                                 `{"format":"json","plan":{"rows":9007199254740993},"warnings":["a scan"]}`,
	}).plugin(nil)
	for query, params := range map[string]any{"SELECT ?": []any{int64(9007199254740993), "x", nil}, "SELECT :id": map[string]int{"id": 1}, "SELECT 1": []any(nil)} {
		if _, err := p.ReadData(t.Context(), query, &ReadOptions{Params: params}); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
	if _, err := p.ReadData(t.Context(), "SELECT 1", &ReadOptions{Params: func() {}}); err == nil {
		t.Error("a function was bound")
	}
	plan, err := p.Explain(t.Context(), "SELECT ?", []int{1})
	if err != nil || fmt.Sprint(plan.Plan) != "map[rows:9007199254740993]" || fmt.Sprint(plan.Warnings) != "[a scan]" {
		t.Errorf("got %+v, %v", plan, err)
	}
}

func TestPages(t *testing.T) {
	texts := map[string]string{
		`read_data {"limit":2,"query":"q"}`:        `{"columns":[{"name":"n","type":"INTEGER"}],"rows":[[1],[2]],"row_count":2,"truncated":true,"truncated_by":"rows","handle":"h1"}`,
		`fetch_rows {"handle":"h1","limit":2}`:     `{"columns":[{"name":"n","type":"INTEGER"}],"rows":[[3],[4]],"row_count":2,"truncated":true,"truncated_by":"rows","handle":"h2"}`,
		`fetch_rows {"handle":"h2","limit":2}`:     `{"columns":[{"name":"n","type":"INTEGER"}],"rows":[[5]],"row_count":1,"truncated":false,"truncated_by":"none"}`,
		`read_data {"limit":2,"query":"no spool"}`: `{"columns":["n"],"rows":[[1]],"truncated":true,"truncated_by":"bytes"}`,
		`read_data {"limit":2,"query":"cell"}`:     `{"columns":["n"],"rows":[["x…"]],"truncated":true,"truncated_by":"cell"}`,
		`read_data {"limit":2,"query":"stuck"}`:    `{"columns":["n"],"rows":[],"truncated":true,"truncated_by":"rows","handle":"h"}`,
		`read_data {"limit":2,"query":"expired"}`:  `{"columns":["n"],"rows":[[1]],"truncated":true,"truncated_by":"rows","handle":"gone"}`,
		`fetch_rows {"handle":"gone","limit":2}`:   `{"success":false,"code":"HANDLE_EXPIRED","error":"gone"}`,
	}
	p := fullServer(t, texts).plugin(nil)
	for query, want := range map[string]string{
		"q": "[[1] [2]] [[3] [4]] [[5]]", "no spool": "[[1]] unsupported", "cell": "[[x…]]", "stuck": "[] error", "expired": "[[1]] HANDLE_EXPIRED",
	} {
		var got []string
		for r, err := range p.Pages(t.Context(), query, &ReadOptions{Limit: 2}) {
			var failed *ToolError
			switch {
			case errors.Is(err, ErrUnsupported):
				got = append(got, "unsupported")
			case errors.As(err, &failed):
				got = append(got, failed.Code)
			case err != nil:
				got = append(got, "error")
			default:
				got = append(got, fmt.Sprint(r.Rows))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q", query, got)
		}
	}
	delete(texts, `fetch_rows {"handle":"h1","limit":2}`) // a call that is not in the script fails the test
	for range p.Pages(t.Context(), "q", &ReadOptions{Limit: 2}) {
		break
	}
}

func TestWrite(t *testing.T) {
	p := fullServer(t, map[string]string{
		`write_data {"params":[1],"query":"DELETE FROM t WHERE id = ?"}`:             `{"affected":3,"token":"k"}`,
		`write_data {"params":[1],"query":"DELETE FROM t WHERE id = ?","token":"k"}`: `{"affected":3}`,
		`write_data {"database":"main","query":"x","token":"k"}`:                     "written",
		`write_data {"query":"no token"}`:                                            `{"affected":3}`,
		`write_data {"query":"no count"}`:                                            `{"token":"k"}`,
	}).plugin(&Options{Write: true})
	w, err := p.PreviewWrite(t.Context(), "DELETE FROM t WHERE id = ?", []any{1})
	if err != nil || w.Affected != 3 || w.Token != "k" {
		t.Fatalf("got %+v, %v", w, err)
	}
	done, err := w.Commit(t.Context())
	if err != nil || done.Affected != 3 {
		t.Errorf("got %+v, %v", done, err)
	}
	for _, query := range []string{"no token", "no count"} {
		if w, err := p.PreviewWrite(t.Context(), query, nil); err == nil || w.Text == "" {
			t.Errorf("%s: got %+v, %v", query, w, err)
		}
	}
	if _, ok := functions(t, fullServer(t, nil).plugin(nil))["execute_sql_write"]; ok {
		t.Error("a function that writes is there without being asked for")
	}
	text, err := functions(t, p)["execute_sql_write"].Invoke(t.Context(), json.RawMessage(`{"database":"main","query":"x","token":"k"}`))
	if err != nil || text != "written" {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestListOptions(t *testing.T) {
	p := fullServer(t, map[string]string{
		`list_tables {"cursor":"c","detail":"full","limit":2,"pattern":"o*","schema":"s"}`: `{"tables":[{"schema":"s","name":"orders","type":"table","columns":2,"column_list":["id int","x int"],"rows_estimate":7}],"next_cursor":"d"}`,
		`list_tables {"limit":1}`: `{"tables":["a","b"]}`,
	}).plugin(nil)
	list, err := p.ListTables(t.Context(), &ListOptions{Pattern: "o*", Schema: "s", Detail: "full", Limit: 2, Cursor: "c"})
	if err != nil || list.NextCursor != "d" || !list.Truncated || list.Tables[0].Schema != "s" || list.Tables[0].Columns != 2 || *list.Tables[0].RowsEstimate != 7 {
		t.Errorf("got %+v, %v", list, err)
	}
	list, err = p.ListTables(t.Context(), &ListOptions{Limit: 1})
	if err != nil || len(list.Tables) != 1 || !list.Truncated || list.Count != 2 {
		t.Errorf("got %+v, %v", list, err)
	}
	if _, err = p.ListTables(t.Context(), &ListOptions{Limit: -1}); err == nil {
		t.Error("a limit of -1 was taken")
	}
}

func TestDescribeTables(t *testing.T) {
	p := fullServer(t, map[string]string{
		`describe_table {"table_names":["a","s.b"]}`: `{"tables":[{"name":"a","columns":[{"name":"x","type":"int"}]},{"schema":"s","name":"b","columns":[{"name":"y","type":"int"}]}]}`,
		`describe_table {"table_name":"s.b"}`:        `{"schema":"s","name":"b","columns":[{"name":"y","type":"int"}]}`,
	}).plugin(nil)
	all, err := p.DescribeTables(t.Context(), "a", "s.b")
	if err != nil || len(all) != 2 || all[1].Name != "b" || all[1].Schema != "s" || all[1].Columns[0].Name != "y" {
		t.Errorf("got %+v, %v", all, err)
	}
	if all, err = p.DescribeTables(t.Context(), "s.b"); err != nil || len(all) != 1 || all[0].Name != "b" {
		t.Errorf("got %+v, %v", all, err)
	}
	two, err := replay(t, "toolbox-postgres", nil).DescribeTables(t.Context(), "orders", "orders")
	if err != nil || len(two) != 2 || two[1].Name != "orders" {
		t.Errorf("got %+v, %v", two, err)
	}
}

func TestDatabases(t *testing.T) {
	texts := map[string]string{
		`read_data {"database":"sales","limit":100,"query":"SELECT 1"}`:                               `{"columns":["a"],"rows":[[1]]}`,
		`read_data {"database":"sales","limit":5,"params":[12345678901234567890],"query":"SELECT ?"}`: "told",
		`fetch_rows {"handle":"h","limit":100}`:                                                       `{"columns":["a"],"rows":[[1]]}`,
		`database_info {"database":"sales"}`:                                                          `{"engine":"postgres"}`,
	}
	p := fullServer(t, texts).plugin(&Options{Database: "sales"})
	if _, err := p.ReadData(t.Context(), "SELECT 1", nil); err != nil {
		t.Error(err)
	}
	if _, err := p.FetchRows(t.Context(), "h", 0); err != nil {
		t.Error(err)
	}
	if info, err := p.DatabaseInfo(t.Context()); err != nil || info.Engine != "postgres" {
		t.Errorf("got %+v, %v", info, err)
	}
	for name, f := range functions(t, p) {
		if strings.Contains(string(f.Parameters), `"database"`) {
			t.Errorf("%s takes %s", name, f.Parameters)
		}
	}
	// The model chooses, where nobody has.
	f := functions(t, fullServer(t, texts).plugin(nil))["execute_sql_query"]
	text, err := f.Invoke(t.Context(), json.RawMessage(`{"database":"sales","query":"SELECT ?","params":[12345678901234567890],"limit":5}`))
	if err != nil || text != "told" {
		t.Errorf("got %q, %v", text, err)
	}
	if text, err = f.Invoke(t.Context(), json.RawMessage(`{"database":"else","query":"SELECT 1"}`)); err != nil || !strings.HasPrefix(text, "INVALID_ARGUMENT") {
		t.Errorf("got %q, %v", text, err)
	}
}

// TestDefinitionsAreSmall holds what definitions cost a model, in tokens as
// bytes / 4: each request has all of them.
func TestDefinitionsAreSmall(t *testing.T) {
	cost := func(p *Plugin) (tokens int) {
		for _, f := range functions(t, p) {
			tokens += len(f.Name) + len(f.Description) + len(f.Parameters)
		}
		return tokens / 4
	}
	for name, c := range map[string]struct {
		p    *Plugin
		most int
	}{
		"the four tools":     {answering(t, ""), 300},
		"all, two databases": {fullServer(t, nil).plugin(&Options{Write: true}), 700},
	} {
		if tokens := cost(c.p); tokens > c.most {
			t.Errorf("%s: %d tokens, at most %d are good", name, tokens, c.most)
		} else {
			t.Logf("%s: %d tokens", name, tokens)
		}
	}
}

func TestTextsForModelsAreBounded(t *testing.T) {
	p := answering(t, textOnly(strings.Repeat("é", maxText)))
	text, err := functions(t, p)["get_database_info"].Invoke(t.Context(), nil)
	if err != nil || len(text) > maxText || !strings.HasPrefix(text, "éé") || !strings.Contains(text, "é…\nNotice: cut, these are") {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	p = answering(t, textOnly("{\n  \"a\": 1\n}"))
	if text, err = functions(t, p)["get_database_info"].Invoke(t.Context(), nil); err != nil || text != `{"a":1}` {
		t.Errorf("got %q, %v", text, err)
	}
}
