package dbplugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcpool-dev/mcpool/rpc"
)

// What real servers answered: `go test -run TestDatabaseServers -record
// ../dbplugin/testdata/tapes` in interop writes testdata/tapes, each with the
// server's name and version, over the databases of interop/testdata/databases.
// Postgres MCP Pro ran with pglast 8.8 in place of 7.2. Servers that are not
// recorded are in documented_test.go.

// A tape is a server that answers what a real one has answered, and nothing
// else.
type tape struct {
	t      testing.TB
	prefix string // before the names of its tools, as a gateway has them
	List   struct {
		Tools []map[string]any
	}
	Calls []struct {
		Params, Result json.RawMessage
		Error          *rpc.Error
	}

	mu    sync.Mutex // guards lists
	lists int        // times that the list was asked for
}

func load(t testing.TB, name string) *tape {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/tapes", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	tape := &tape{t: t}
	if err := json.Unmarshal(text, tape); err != nil {
		t.Fatal(err)
	}
	return tape
}

// replay returns a plugin on a server of testdata/tapes.
func replay(t testing.TB, name string, options *Options) *Plugin {
	t.Helper()
	if options == nil {
		options = &Options{}
	}
	if name == "dbhub-two-sources" {
		options.Database = "the-shop"
	}
	p, err := New(load(t, name), options)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (f *tape) Do(_ context.Context, call rpc.Call) (rpc.Answer, error) {
	if call.Method == "tools/list" {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.lists++
		var list struct {
			Tools []map[string]any `json:"tools"`
		}
		for _, tool := range f.List.Tools {
			renamed := map[string]any{"name": f.prefix + tool["name"].(string), "inputSchema": tool["inputSchema"], "annotations": tool["annotations"]}
			list.Tools = append(list.Tools, renamed)
		}
		encoded, err := json.Marshal(list)
		return rpc.Result(encoded), err
	}
	asked := compact(f.t, bytes.Replace(call.Params, []byte(`"name":"`+f.prefix), []byte(`"name":"`), 1))
	for _, c := range f.Calls {
		if compact(f.t, c.Params) != asked {
			continue
		}
		if c.Error != nil {
			return rpc.Answer{}, c.Error
		}
		return rpc.Result(c.Result), nil
	}
	f.t.Errorf("the server was not asked this: %s", asked)
	return rpc.Answer{}, errors.New("not recorded")
}

// compact is JSON with its members in order of their names.
func compact(t testing.TB, raw json.RawMessage) string {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var recorded = []string{"toolbox-sqlite", "toolbox-postgres", "toolbox-mysql", "dbhub-sqlite", "dbhub-postgres", "dbhub-two-sources",
	"postgres-mcp-pro", "reference-postgres", "reference-sqlite"}

func TestEveryTapeIsReplayed(t *testing.T) {
	files, err := filepath.Glob("testdata/tapes/*.json")
	if err != nil || len(files) != len(recorded) {
		t.Errorf("%d tapes, %d are replayed: %v", len(files), len(recorded), err)
	}
}

func TestProfileOfRecordedServers(t *testing.T) {
	for _, name := range recorded {
		want := map[string]string{"toolbox": "MCP Toolbox", "dbhub": "DBHub", "postgres": "Postgres MCP Pro"}[strings.Split(name, "-")[0]]
		switch name {
		case "reference-postgres":
			want = "reference PostgreSQL"
		case "reference-sqlite":
			want = "reference SQLite"
		}
		p := replay(t, name, nil)
		if s, err := p.site(t.Context(), ""); err != nil || s.Name != want {
			t.Errorf("%s: taken for %s, %v", name, s.Name, err)
		}
	}
}

// number is a json.Number in what is wanted.
func number(s string) json.Number { return json.Number(s) }

func TestRecordedRows(t *testing.T) {
	const large = "9007199254740993" // 2^53 + 1
	const all = "SELECT * FROM orders ORDER BY id"
	small := []any{number("2"), number("1"), number("0.1"), "it's", number("0"), nil, nil}
	sqlite := func(id any, raw any) [][]any {
		return [][]any{small, {id, id, number("1234.5"), nil, number("1"), "2026-01-02", raw}}
	}
	for name, want := range map[string]struct {
		query string
		rows  [][]any
	}{
		"toolbox-sqlite":    {all, sqlite(number(large), "3q2+7w==")},
		"dbhub-sqlite":      {all, sqlite(large, map[string]any{"0": number("222"), "1": number("173"), "2": number("190"), "3": number("239")})},
		"dbhub-two-sources": {all, sqlite(large, map[string]any{"0": number("222"), "1": number("173"), "2": number("190"), "3": number("239")})},
		"reference-sqlite":  {all, sqlite(number(large), []byte{0xde, 0xad, 0xbe, 0xef})},
		"postgres-mcp-pro": {all, [][]any{
			{number("2"), number("1"), number("0.1000"), "it's", false, nil, nil, nil, nil, nil, number("0.1")},
			{number(large), number(large), number("12345678901234.5678"), nil, true, "2026-01-02T03:04:05.678Z", "2026-01-02",
				map[string]any{"a": number(large)}, []byte{0xde, 0xad, 0xbe, 0xef}, []any{"a", "b"}, "NaN"},
		}},
		"toolbox-mysql": {all, [][]any{
			{number("2"), number("1"), "0.1000", "it's", number("0"), nil, nil, nil, nil, number("0.1")},
			{number(large), number(large), "12345678901234.5678", nil, number("1"), "2026-01-02T03:04:05.678Z", "2026-01-02T00:00:00Z",
				`{"a":` + large + `}`, "ޭ\ufffd\ufffd", number("0.5")},
		}},
	} {
		r, err := replay(t, name, nil).ReadData(t.Context(), want.query, nil)
		if err != nil || !reflect.DeepEqual(r.Rows, want.rows) || r.RowCount != 2 || r.Truncated || r.TruncatedBy != "none" {
			t.Errorf("%s: got %#v, %v", name, r.Rows, err)
		}
		if len(r.Columns) != len(want.rows[0]) || r.Columns[0].Name != "id" || r.Columns[3].Name != "note" {
			t.Errorf("%s: columns are %v", name, r.Columns)
		}
	}
	// Their integers are texts, and those inside JSON were rounded before they came.
	for _, name := range []string{"dbhub-postgres", "reference-postgres"} {
		r, err := replay(t, name, nil).ReadData(t.Context(), all, nil)
		if err != nil || r.Rows[1][0] != large || r.Rows[1][2] != "12345678901234.5678" || r.Rows[0][4] != false ||
			!reflect.DeepEqual(r.Rows[1][7], map[string]any{"a": number("9007199254740992")}) || !reflect.DeepEqual(r.Rows[1][9], []any{"a", "b"}) {
			t.Errorf("%s: got %#v, %v", name, r.Rows, err)
		}
	}
	r, err := replay(t, "toolbox-postgres", nil).ReadData(t.Context(), "SELECT id, customer_id, total, note, paid, at, day, doc, raw, tags FROM orders ORDER BY id", nil)
	if err != nil || r.Rows[1][0] != number(large) || r.Rows[1][2] != number("12345678901234.5678") || r.Rows[1][4] != true {
		t.Errorf("got %#v, %v", r.Rows, err)
	}
}

func TestRecordedTexts(t *testing.T) {
	for _, name := range recorded {
		r, err := replay(t, name, nil).ReadData(t.Context(), "SELECT * FROM customers ORDER BY id", nil)
		if err != nil || r.Rows[0][1] != `O'Brien "the one"` || r.Rows[1][1] != "Zoë\nLine" || r.Rows[1][2] != nil {
			t.Errorf("%s: got %#v, %v", name, r.Rows, err)
		}
	}
}

func TestRecordedColumnsOfOneName(t *testing.T) {
	for _, name := range recorded {
		r, err := replay(t, name, nil).ReadData(t.Context(), "SELECT 1 AS a, 2 AS a", nil)
		want := "[[2]]" // the others keep one of them
		switch {
		case strings.HasPrefix(name, "toolbox"):
			want = "[[1 2]]"
		case name == "reference-sqlite":
			want = "[[1]]"
		}
		if err != nil || fmt.Sprint(r.Rows) != want || len(r.Columns) != len(r.Rows[0]) {
			t.Errorf("%s: got %v %v, %v", name, r.Columns, r.Rows, err)
		}
	}
}

func TestRecordedResultsWithoutRows(t *testing.T) {
	for _, name := range recorded {
		r, err := replay(t, name, nil).ReadData(t.Context(), "SELECT id FROM orders WHERE 1 = 0", nil)
		if err != nil || len(r.Rows) != 0 || r.Truncated {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
	}
}

func TestRowsOverTheLimitAreCutHere(t *testing.T) {
	const query = "SELECT id, customer_id FROM orders ORDER BY id DESC"
	for _, name := range recorded {
		p := replay(t, name, nil)
		r, err := p.ReadData(t.Context(), query, &ReadOptions{Limit: 1})
		if err != nil || fmt.Sprint(r.Rows) != "[[9007199254740993 9007199254740993]]" || r.RowCount != 1 || !r.Truncated || r.TruncatedBy != "rows" {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
		text, err := functions(t, p)["execute_sql_query"].Invoke(t.Context(), json.RawMessage(`{"query":"`+query+`","limit":1}`))
		if want := untrusted + "id\tcustomer_id\n9007199254740993\t9007199254740993\nNotice: only the first 1 of 2 rows that the server sent are here: aggregate or filter in SQL\n"; err != nil || text != want {
			t.Errorf("%s: a model is told %q, %v", name, text, err)
		}
	}
}

func TestRecordedErrors(t *testing.T) {
	for _, name := range recorded {
		_, err := replay(t, name, nil).ReadData(t.Context(), "SELECT nothing FROM orders", nil)
		var failed *ToolError
		var refused *rpc.Error
		if name == "reference-postgres" {
			if !errors.As(err, &refused) {
				t.Errorf("%s: got %v", name, err)
			}
		} else if !errors.As(err, &failed) || !strings.Contains(failed.Message, "nothing") {
			t.Errorf("%s: got %#v", name, err)
		}
		if strings.HasPrefix(name, "dbhub") && failed != nil && (failed.Code != "EXECUTION_ERROR" || strings.Contains(failed.Message, "{")) {
			t.Errorf("%s: got %#v", name, failed)
		}
	}
	r, err := replay(t, "toolbox-postgres", nil).ReadData(t.Context(), "SELECT 1.5 AS a, 'NaN'::float8 AS b", nil)
	if err == nil || !strings.Contains(err.Error(), "block 1 of 1 is no JSON: fail to marshal") || !strings.Contains(r.Text, "unsupported value: NaN") {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestRecordedLists(t *testing.T) {
	for name, want := range map[string]string{
		"toolbox-sqlite":    "customers: orders:",
		"toolbox-postgres":  "public.customers: public.orders:",
		"toolbox-mysql":     "shop.customers: shop.orders:",
		"dbhub-sqlite":      "main.customers:table main.orders:table main.totals:view",
		"dbhub-two-sources": "main.customers:table main.orders:table main.totals:view",
		"dbhub-postgres":    "public.customers:table public.orders:table public.totals:view",
		"postgres-mcp-pro":  "public.customers:table public.orders:table public.totals:view",
		"reference-sqlite":  "customers: orders:",
	} {
		p := replay(t, name, nil)
		list, err := p.ListTables(t.Context(), nil)
		var got []string
		for _, table := range list.Tables {
			got = append(got, table.qualified()+":"+table.Type)
		}
		if err != nil || strings.Join(got, " ") != want || list.Count != len(got) || list.Truncated {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
		text, err := functions(t, p)["list_database_tables"].Invoke(t.Context(), nil)
		if err != nil || !strings.HasPrefix(text, untrusted+"name\ttype\trows_estimate\tcomment\n"+list.Tables[0].qualified()+"\t") {
			t.Errorf("%s: a model is told %q, %v", name, text, err)
		}
	}
	list, err := replay(t, "dbhub-postgres", nil).ListTables(t.Context(), nil)
	if err != nil || list.Tables[0].Comment != "Who buys" || list.Tables[1].Columns != 11 || list.Tables[1].RowsEstimate != nil {
		t.Errorf("got %+v, %v", list.Tables, err)
	}
	list, err = replay(t, "dbhub-sqlite", nil).ListTables(t.Context(), nil)
	if err != nil || *list.Tables[1].RowsEstimate != 2 {
		t.Errorf("got %+v, %v", list.Tables, err)
	}
}

func TestRecordedDescriptions(t *testing.T) {
	for _, name := range recorded {
		if name == "reference-postgres" {
			continue
		}
		p := replay(t, name, nil)
		d, err := p.DescribeTable(t.Context(), "orders")
		if err != nil || d.Name != "orders" || len(d.Columns) < 7 {
			t.Errorf("%s: got %+v, %v", name, d, err)
			continue
		}
		id, key, note, paid := d.Columns[0], d.Columns[1], d.Columns[3], d.Columns[4]
		if id.Name != "id" || id.PrimaryKey != 1 || id.Type == "" || key.Name != "customer_id" || key.Nullable || key.PrimaryKey != 0 || !note.Nullable ||
			note.Default != nil && *note.Default != "NULL" || paid.Default == nil { // MariaDB has DEFAULT NULL
			t.Errorf("%s: got %+v", name, d.Columns)
		}
		if name == "reference-sqlite" {
			continue // which tells of columns alone
		}
		if !slices.ContainsFunc(d.Indexes, func(i Index) bool { return i.Name == "orders_at" && !i.Unique }) {
			t.Errorf("%s: got %+v", name, d.Indexes)
		}
		if strings.Contains(name, "postgres") && !slices.ContainsFunc(d.Indexes, func(i Index) bool { return i.Name == "orders_pkey" && i.Unique }) {
			t.Errorf("%s: got %+v", name, d.Indexes)
		}
		want := ForeignKey{"customers", []string{"customer_id"}, []string{"id"}}
		switch {
		case strings.HasPrefix(name, "dbhub"):
			if d.ForeignKeys != nil {
				t.Errorf("%s: got %+v", name, d.ForeignKeys)
			}
			continue
		case name == "postgres-mcp-pro":
			want = ForeignKey{"", []string{"customer_id"}, nil}
		}
		if !reflect.DeepEqual(d.ForeignKeys, []ForeignKey{want}) {
			t.Errorf("%s: got %+v", name, d.ForeignKeys)
		}
	}
}

func TestRecordedDescriptionsOfAView(t *testing.T) {
	for _, name := range []string{"dbhub-sqlite", "dbhub-postgres", "postgres-mcp-pro", "reference-sqlite"} {
		d, err := replay(t, name, nil).DescribeTable(t.Context(), "totals")
		if err != nil || len(d.Columns) != 2 || d.Columns[1].Name != "total" || strings.HasPrefix(name, "dbhub") && d.Type != "view" {
			t.Errorf("%s: got %+v, %v", name, d, err)
		}
	}
}

func TestRecordedUnknownTables(t *testing.T) {
	for _, name := range recorded {
		p := replay(t, name, nil)
		if name == "reference-postgres" {
			continue
		}
		_, err := p.DescribeTable(t.Context(), "absent")
		var failed *ToolError
		if !errors.As(err, &failed) || failed.Code != "UNKNOWN_OBJECT" {
			t.Errorf("%s: got %v", name, err)
		}
		text, err := functions(t, p)["describe_table_schema"].Invoke(t.Context(), json.RawMessage(`{"table_name":"absent"}`))
		if err != nil || text != "UNKNOWN_OBJECT: there is no table absent" {
			t.Errorf("%s: a model is told %q, %v", name, text, err)
		}
	}
}

func TestRecordedPlans(t *testing.T) {
	for name, want := range map[string]string{
		"toolbox-postgres":  "[map[Plan:map[",
		"toolbox-mysql":     "map[query_block:map[",
		"dbhub-two-sources": "map[count:",
		"postgres-mcp-pro":  "→ Index Scan",
	} {
		plan, err := replay(t, name, nil).Explain(t.Context(), "SELECT * FROM orders WHERE id = 2", nil)
		if text := fmt.Sprint(plan.Plan); err != nil || !strings.HasPrefix(text, want) {
			t.Errorf("%s: got %s, %v", name, text, err)
		}
	}
}

func TestRecordedInfo(t *testing.T) {
	info, err := replay(t, "toolbox-postgres", nil).DatabaseInfo(t.Context())
	if err != nil || !strings.HasPrefix(info.Version, "15.") {
		t.Errorf("got %+v, %v", info, err)
	}
}

func TestWhatAServerLacksIsUnsupported(t *testing.T) {
	p := replay(t, "reference-postgres", nil)
	_, err := p.ListTables(t.Context(), nil)
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "reference PostgreSQL has no tool to list tables, only query") {
		t.Errorf("got %v", err)
	}
	for what, do := range map[string]func(*Plugin) error{
		"FetchRows": func(p *Plugin) error { _, err := p.FetchRows(t.Context(), "h", 0); return err },
		"PreviewWrite": func(p *Plugin) error {
			_, err := p.PreviewWrite(t.Context(), "DELETE FROM orders", nil)
			return err
		},
		"params": func(p *Plugin) error {
			_, err := p.ReadData(t.Context(), "SELECT ?", &ReadOptions{Params: []any{1}})
			return err
		},
		"pattern": func(p *Plugin) error {
			_, err := p.ListTables(t.Context(), &ListOptions{Pattern: "x"})
			return err
		},
	} {
		for _, name := range []string{"toolbox-sqlite", "postgres-mcp-pro", "reference-sqlite", "reference-postgres"} {
			if err := do(replay(t, name, nil)); !errors.Is(err, ErrUnsupported) {
				t.Errorf("%s of %s: got %v", what, name, err)
			}
		}
	}
	_, err = replay(t, "toolbox-sqlite", &Options{Database: "other"}).ListTables(t.Context(), nil)
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "takes no database") {
		t.Errorf("got %v", err)
	}
}

func TestRecordedWordsForUnknownTools(t *testing.T) {
	for _, name := range recorded {
		answer, err := load(t, name).Do(t.Context(), rpc.Call{Method: "tools/call", Params: json.RawMessage(`{"arguments":{},"name":"no_such_tool"}`)})
		if err == nil {
			_, err = readAnswer(site{}, "no_such_tool", answer.Bytes())
		}
		if name == "reference-sqlite" { // which says that arguments are missing
			continue
		}
		if !isUnknownTool(err, "no_such_tool") || !isUnknownTool(err, "gateway__no_such_tool") || isUnknownTool(err, "another") {
			t.Errorf("%s says %v", name, err)
		}
	}
}

func TestFunctionsAreThoseOfTheServer(t *testing.T) {
	for name, want := range map[string]string{
		"reference-postgres": "execute_sql_query",
		"reference-sqlite":   "describe_table_schema execute_sql_query list_database_tables",
		"dbhub-two-sources":  "describe_table_schema execute_sql_query explain_sql_query list_database_tables",
		"toolbox-postgres":   "describe_table_schema execute_sql_query explain_sql_query get_database_info list_database_tables",
	} {
		p := replay(t, name, &Options{Write: true})
		var names []string
		for n, f := range functions(t, p) {
			names = append(names, n)
			if n == "execute_sql_query" && strings.Contains(f.Description, "read-only") != (name == "dbhub-two-sources") {
				t.Errorf("%s says of itself: %s", name, f.Description)
			}
			if strings.Contains(string(f.Parameters), "params") || strings.Contains(string(f.Parameters), "database") && n != "describe_table_schema" {
				t.Errorf("%s: %s takes %s", name, n, f.Parameters)
			}
		}
		slices.Sort(names)
		if strings.Join(names, " ") != want {
			t.Errorf("%s has %v", name, names)
		}
	}
}
