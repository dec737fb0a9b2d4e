package dbplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// TestMain gives the run a temporary directory of its own, so that nothing is
// left of what the examples make there.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "dbplugin")
	if err != nil {
		panic(err)
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		panic(err)
	}
	// Under the race detector it takes longer than a call may.
	if _, err := dbserver.Sample(context.Background(), filepath.Join(dir, "mcpool-example")); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(mcptest.Settled(m), goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir) // of a temporary directory nobody needs to know
		os.Exit(code)
	}))
}

// sample returns a plugin on a database server with the sample.
func sample(t testing.TB, options *Options) *Plugin {
	t.Helper()
	server, err := dbserver.New(dbserver.Options{Databases: []dbserver.Database{{Prepare: func(ctx context.Context) (string, error) {
		return dbserver.Sample(ctx, filepath.Join(os.TempDir(), "mcpool-example"))
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	p, err := New(server, options)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// handlerFunc is a server with the four tools of the source system that is a
// function.
type handlerFunc func(rpc.Call) (string, error)

func (f handlerFunc) Do(_ context.Context, call rpc.Call) (rpc.Answer, error) {
	if call.Method == "tools/list" {
		return rpc.Result(json.RawMessage(fourTools)), nil
	}
	result, err := f(call)
	return rpc.Result(json.RawMessage(result)), err
}

// listOf is a list of tools with these arguments, all strings.
func listOf(tools map[string][]string) string {
	var list []any
	for _, name := range slices.Sorted(maps.Keys(tools)) {
		properties := map[string]any{}
		for _, argument := range tools[name] {
			properties[argument] = map[string]string{"type": "string"}
		}
		list = append(list, map[string]any{"name": name, "inputSchema": map[string]any{"type": "object", "properties": properties}})
	}
	encoded, _ := json.Marshal(map[string]any{"tools": list})
	return string(encoded)
}

var fourTools = listOf(map[string][]string{
	"list_tables": nil, "describe_table": {"table_name"}, "read_data": {"query", "limit"}, "database_info": nil})

// answering returns a plugin on a server that gives every call this result.
func answering(t testing.TB, result string) *Plugin {
	t.Helper()
	p, err := New(handlerFunc(func(rpc.Call) (string, error) { return result, nil }), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// functions are those of a plugin, by their names.
func functions(t testing.TB, p *Plugin) map[string]Function {
	t.Helper()
	list, err := p.Functions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]Function{}
	for _, f := range list {
		all[f.Name] = f
	}
	return all
}

// textOnly is a tool result that is one text.
func textOnly(text string) string {
	result, _ := json.Marshal(map[string]any{"content": []any{map[string]string{"type": "text", "text": text}}})
	return string(result)
}

func TestListTables(t *testing.T) {
	list, err := sample(t, nil).ListTables(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Tables) != 6 || list.Count != 6 || list.Truncated || list.Raw == nil || list.Text == "" {
		t.Errorf("got %+v", list)
	}
	if s := list.Tables[4]; s.Name != "sales" || s.Type != "table" || s.Columns != 8 || *s.RowsEstimate != 50000 || !strings.Contains(s.Comment, "facts") {
		t.Errorf("got %+v", s)
	}
	if list.Tables[2].RowsEstimate != nil {
		t.Errorf("got %+v", list.Tables[2])
	}
}

func TestDescribeTable(t *testing.T) {
	d, err := sample(t, nil).DescribeTable(t.Context(), "SALES")
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "sales" || len(d.Columns) != 8 || len(d.ForeignKeys) != 4 || len(d.Indexes) != 3 || d.Raw == nil {
		t.Errorf("got %+v", d)
	}
	if c := d.Columns[6]; c.Name != "discount_percent" || c.Nullable || *c.Default != "0" || c.PrimaryKey != 0 {
		t.Errorf("got %+v", c)
	}
	if k := d.ForeignKeys[2]; fmt.Sprint(k) != "{customers [customer_id] [customer_id]}" {
		t.Errorf("got %+v", k)
	}
}

func TestReadDataLosesNothing(t *testing.T) {
	p := sample(t, nil)
	r, err := p.ReadData(t.Context(), "SELECT customer_id, loyalty_number, 2.50 AS x, email, photo FROM customers WHERE customer_id IN (34, 42, 500)", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%v", r.Rows[:2]); got != "[[34 <nil> 2.5 <nil> <nil>] [42 9007199296741119 2.5 customer0042@example.com <nil>]]" {
		t.Errorf("rows are %s", got)
	}
	if id, ok := r.Rows[0][0].(json.Number); !ok || id != "34" {
		t.Errorf("id is %#v", r.Rows[0][0])
	}
	if photo, ok := r.Rows[2][4].(map[string]any); !ok || photo["$bytes"] != json.Number("608") {
		t.Errorf("photo is %v", r.Rows[2][4])
	}
	if fmt.Sprint(r.Columns[1]) != "{loyalty_number INTEGER}" || r.RowCount != 3 || r.TruncatedBy != "cell" || r.Raw == nil {
		t.Errorf("got %+v", r)
	}
}

func TestIntegersOfOtherServersAreNotRounded(t *testing.T) {
	r, err := answering(t, `{"content":[],"structuredContent":{"rows":[[9007199254740993, 0.10]]}}`).ReadData(t.Context(), "x", nil)
	if err != nil || fmt.Sprint(r.Rows) != "[[9007199254740993 0.10]]" {
		t.Errorf("got %v, %v", r.Rows, err)
	}
}

func TestDatabaseInfo(t *testing.T) {
	info, err := sample(t, nil).DatabaseInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Engine != "sqlite" || info.Status != "ready" || !info.ReadOnly.Verified || info.Limits["rows"] != 1000 || info.Pool["max_connections"] != 8 {
		t.Errorf("got %+v", info)
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		environment string
		option      int
		limit       int
		want        string // of limit in the call
	}{
		{"", 0, 0, "100"},
		{"7", 0, 0, "7"},
		{"7", 5, 0, "5"},
		{"7", 5, 3, "3"},
	} {
		t.Setenv(LimitVariable, c.environment)
		var params json.RawMessage
		p, err := New(handlerFunc(func(call rpc.Call) (string, error) {
			params = call.Params
			return `{"content":[],"structuredContent":{"rows":[]}}`, nil
		}), &Options{DefaultLimit: c.option})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.ReadData(t.Context(), "SELECT 1", &ReadOptions{Limit: c.limit}); err != nil {
			t.Fatal(err)
		}
		if want := `{"arguments":{"limit":` + c.want + `,"query":"SELECT 1"},"name":"read_data"}`; string(params) != want {
			t.Errorf("got %s, want %s", params, want)
		}
		if _, err := p.ReadData(t.Context(), "SELECT 1", &ReadOptions{Limit: -1}); err == nil {
			t.Error("a limit of -1 was taken")
		}
	}
}

func TestNewRefusesWhatMakesNoSense(t *testing.T) {
	handler := handlerFunc(func(rpc.Call) (string, error) { return "", nil })
	for _, value := range []string{"0", "-1", "many", "1.5"} {
		t.Setenv(LimitVariable, value)
		_, err := New(handler, nil)
		if err == nil || !strings.Contains(err.Error(), LimitVariable) || !strings.Contains(err.Error(), strconv.Quote(value)) || !strings.Contains(err.Error(), "1 or more") {
			t.Errorf("%s: got %v", value, err)
		}
	}
	t.Setenv(LimitVariable, "")
	if _, err := New(handler, &Options{DefaultLimit: -1}); err == nil {
		t.Error("a default limit of -1 was taken")
	}
	if _, err := New(nil, nil); err == nil {
		t.Error("no handler was taken")
	}
}

func TestCallerIsPassedOn(t *testing.T) {
	want := rpc.Caller{Principal: "ada", Session: "chat-7"}
	p, err := New(handlerFunc(func(call rpc.Call) (string, error) {
		if call.Caller != want || call.Method != "tools/call" {
			t.Errorf("got %+v", call)
		}
		return `{"content":[],"structuredContent":{}}`, nil
	}), &Options{Caller: want})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DatabaseInfo(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestToolErrors(t *testing.T) {
	p := sample(t, nil)
	_, err := p.ReadData(t.Context(), "DELETE FROM sales", nil)
	var e *ToolError
	if !errors.As(err, &e) || e.Tool != "read_data" || e.Code != "READ_ONLY_VIOLATION" || e.Message == "" || e.Next == "" {
		t.Errorf("got %#v", err)
	}
	_, err = p.DescribeTable(t.Context(), "costumers")
	if !errors.As(err, &e) || e.Code != "UNKNOWN_OBJECT" || !strings.Contains(e.Text, "customers") {
		t.Errorf("got %#v", err)
	}
	// As other servers tell them.
	for result, want := range map[string]ToolError{
		`{"isError":true,"content":[{"type":"text","text":"it broke"}]}`:                                       {Message: "it broke"},
		`{"isError":true,"content":[]}`:                                                                        {Message: "failed without a message"},
		`{"isError":true,"content":[{"type":"text","text":"{\"error\":{\"code\":\"X\",\"message\":\"m\"}}"}]}`: {Code: "X", Message: "m"},
	} {
		_, err := answering(t, result).ListTables(t.Context(), nil)
		if !errors.As(err, &e) || e.Code != want.Code || e.Message != want.Message {
			t.Errorf("%s: got %#v", result, err)
		}
	}
}

func TestErrorsOfTheHandlerAreKept(t *testing.T) {
	for _, want := range []error{rpc.Errorf(rpc.CodeInvalidParams, "unknown tool"), context.Canceled} {
		p, err := New(handlerFunc(func(rpc.Call) (string, error) { return "", want }), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.ListTables(t.Context(), nil); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if text, err := functions(t, p)["list_database_tables"].Invoke(t.Context(), nil); !errors.Is(err, want) || text != "" {
			t.Errorf("got %q, %v, want %v", text, err, want)
		}
	}
}

func TestTextThatIsJSONIsRead(t *testing.T) {
	list, err := answering(t, textOnly(` {"tables":[{"name":"a","type":"table"},"b"]} `)).ListTables(t.Context(), nil)
	if err != nil || len(list.Tables) != 2 || list.Tables[0].Name != "a" || list.Tables[1].Name != "b" || list.Raw == nil {
		t.Errorf("got %+v, %v", list, err)
	}
	list, err = answering(t, textOnly(`["a","b"]`)).ListTables(t.Context(), nil)
	if err != nil || len(list.Tables) != 2 || list.Count != 2 {
		t.Errorf("got %+v, %v", list, err)
	}
	r, err := answering(t, textOnly(`{"columns":[{"name":"n"}],"rows":[[1],[null]],"row_count":2}`)).ReadData(t.Context(), "x", nil)
	if err != nil || fmt.Sprint(r.Rows) != "[[1] [<nil>]]" || r.RowCount != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestOtherTextIsAnErrorAndKept(t *testing.T) {
	p := answering(t, textOnly("n\n1\n"))
	r, err := p.ReadData(t.Context(), "x", nil)
	if err == nil || !strings.Contains(err.Error(), "read_data has another form") || r.Text != "n\n1\n" || r.Raw != nil || r.Rows != nil {
		t.Errorf("got %+v, %v", r, err)
	}
	d, err := p.DescribeTable(t.Context(), "x")
	if err == nil || d.Text != "n\n1\n" || d.Raw != nil {
		t.Errorf("got %+v, %v", d, err)
	}
	if text, err := functions(t, p)["execute_sql_query"].Invoke(t.Context(), json.RawMessage(`{"query":"x"}`)); text != "n\n1\n" || err != nil {
		t.Errorf("a model is told %q, %v", text, err)
	}
}

func TestAnswersOfAnotherFormAreErrors(t *testing.T) {
	list, err := answering(t, textOnly(`{"tables":[{"title":"a"}]}`)).ListTables(t.Context(), nil)
	if err == nil || list.Raw == nil {
		t.Errorf("got %+v, %v", list, err)
	}
	for _, answer := range []string{`{"rows":[7]}`, `{"rows":7}`, `{"row":[]}`, `{"columns":["a"],"rows":[[1,2]]}`} {
		r, err := answering(t, `{"content":[],"structuredContent":`+answer+`}`).ReadData(t.Context(), "x", nil)
		if err == nil || !strings.Contains(err.Error(), "another form") || string(r.Raw) != answer || r.Text != answer {
			t.Errorf("%s: got %+v, %v", answer, r, err)
		}
	}
	if _, err := answering(t, `7`).ListTables(t.Context(), nil); err == nil {
		t.Error("7 was taken for a tool result")
	}
}

func TestFunctions(t *testing.T) {
	p := sample(t, &Options{DefaultLimit: 3})
	all := functions(t, p)
	for _, f := range all {
		var schema struct {
			Type                 string
			AdditionalProperties *bool
		}
		if err := json.Unmarshal(f.Parameters, &schema); err != nil || schema.Type != "object" || schema.AdditionalProperties == nil || f.Description == "" {
			t.Errorf("%s: %s, %v", f.Name, f.Parameters, err)
		}
	}
	for _, c := range []struct{ name, arguments, says string }{
		{"list_database_tables", "", "\nsales\ttable\t8\t50000\t"},
		{"list_database_tables", "{}", "\nsales\t"},
		{"get_database_info", "null", "sqlite"},
		{"describe_table_schema", `{"table_name":"stores"}`, "region\tTEXT"},
		{"execute_sql_query", `{"query":"SELECT city FROM stores ORDER BY 1"}`, "only the first 3 rows"},
		{"execute_sql_query", `{"query":"SELECT city FROM stores ORDER BY 1","limit":1e0}`, "only the first 1 rows"},
		// What a model can put right.
		{"describe_table_schema", `{"table_name":"store"}`, "Did you mean: stores"},
		{"execute_sql_query", `{"query":"DROP TABLE stores"}`, "READ_ONLY_VIOLATION"},
		{"execute_sql_query", `{"query":"SELEC"}`, "SYNTAX_ERROR"},
		{"execute_sql_query", `{}`, `INVALID_ARGUMENT: execute_sql_query: required: missing properties: ["query"]`},
		{"execute_sql_query", `{"query":"SELECT 1","limit":0}`, "INVALID_ARGUMENT"},
		{"execute_sql_query", `{"query":"SELECT 1","limit":1.5}`, "INVALID_ARGUMENT"},
		{"execute_sql_query", `{"query":"SELECT 1","database":"x"}`, "INVALID_ARGUMENT"},
		{"execute_sql_query", `{"query":7}`, "INVALID_ARGUMENT"},
		{"execute_sql_query", `{"query":"SELECT 1`, "not JSON"},
		{"execute_sql_query", `["SELECT 1"]`, "not an object"},
		{"list_database_tables", `{"x":1}`, "INVALID_ARGUMENT"},
	} {
		text, err := all[c.name].Invoke(t.Context(), json.RawMessage(c.arguments))
		if err != nil || !strings.Contains(text, c.says) {
			t.Errorf("%s %s: got %q, %v, want %q", c.name, c.arguments, text, err, c.says)
		}
	}
	if len(all) != 6 {
		t.Errorf("%d functions", len(all))
	}
}

func TestPluginHoldsNothing(t *testing.T) {
	// The file is made by the first call, not before.
	dir := t.TempDir()
	server, err := dbserver.New(dbserver.Options{Databases: []dbserver.Database{{DSN: filepath.Join(dir, "missing.db")}}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p, err := New(server, nil)
	if err != nil {
		t.Fatal(err)
	}
	var e *ToolError
	if _, err := p.ListTables(t.Context(), nil); !errors.As(err, &e) || e.Code != "DATABASE_UNREACHABLE" {
		t.Errorf("got %v", err)
	}
}
