package dbserver

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func TestListTables(t *testing.T) {
	s := serveSample(t, Database{})
	a := call(t, s, "list_tables", nil)
	var list tableList
	if err := json.Unmarshal(a.structured, &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, table := range list.Tables {
		got = append(got, fmt.Sprintf("%s/%s/%s/%s", table.Name, table.Type, numberText(table.ColumnCount), numberText(table.Estimate)))
	}
	want := `calendar/table/7/1096 customers/table/9/2000 monthly_revenue/view/5/\N products/table/6/200 sales/table/8/50000 stores/table/5/21`
	if s := strings.Join(got, " "); s != want || list.Count != 6 || list.Truncated {
		t.Errorf("got %s\nwant %s", s, want)
	}
	if list.Tables[4].Comment != "the facts: one row for each line of a receipt" {
		t.Errorf("comment is %q", list.Tables[4].Comment)
	}
	if !strings.HasPrefix(a.text(), untrusted+"name\ttype\t") || !strings.Contains(a.text(), "\nsales\ttable\t8\t50000\tthe facts") {
		t.Errorf("text is %s", a.text())
	}
}

func TestListTablesIsCapped(t *testing.T) {
	s := serveSample(t, Database{MaxRows: 2})
	a := call(t, s, "list_tables", object{})
	var list tableList
	if err := json.Unmarshal(a.structured, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Tables) != 2 || list.Count != 2 || !list.Truncated || !strings.Contains(a.text(), "first 2 tables") {
		t.Errorf("got %s", a.structured)
	}
	rest := call(t, s, "list_tables", object{"cursor": list.NextCursor})
	if err := json.Unmarshal(rest.structured, &list); err != nil || list.Tables[0].Name != "monthly_revenue" {
		t.Errorf("got %s, %v", rest.structured, err)
	}
	wantCode(t, call(t, s, "list_tables", object{"cursor": "x"}), engine.InvalidArgument)
}

func TestEmptyDatabase(t *testing.T) {
	s := serve(t, Database{DSN: newDatabase(t, "VACUUM")})
	if a := call(t, s, "list_tables", object{}); !strings.Contains(string(a.structured), `"tables":[]`) {
		t.Errorf("got %s", a.structured)
	}
}

func TestDescribeTable(t *testing.T) {
	file := newDatabase(t, `
		CREATE TABLE parent (a INTEGER, b TEXT, note TEXT DEFAULT 'it''s', PRIMARY KEY (b, a)) WITHOUT ROWID;
		CREATE TABLE "child ""of"" two" ( -- children
			id INTEGER PRIMARY KEY, -- the row number
			pa INTEGER, pb TEXT NOT NULL, up REFERENCES "child ""of"" two",
			total REAL AS (pa * 2) STORED,
			FOREIGN KEY (pb, pa) REFERENCES parent);
		CREATE UNIQUE INDEX by_b ON "child ""of"" two" (pb, lower(pb)) WHERE pa > 0;`)
	s := serve(t, Database{DSN: file})
	describe := func(name string) engine.Description {
		t.Helper()
		a := call(t, s, "describe_table", object{"table_name": name})
		var d engine.Description
		if err := json.Unmarshal(a.structured, &d); err != nil || a.IsError {
			t.Fatal(err, string(a.structured))
		}
		return d
	}
	child := describe(`CHILD "OF" TWO`)
	if got, want := fmt.Sprint(child.ForeignKeys), `[{child "of" two [up] [id]} {parent [pb pa] [b a]}]`; got != want {
		t.Errorf("foreign keys are %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(child.ReferencedBy), `[{child "of" two [up] [id]}]`; got != want {
		t.Errorf("referenced by %s, want %s", got, want)
	}
	if i := child.Indexes; len(i) != 1 || !i[0].Unique || !i[0].Partial || len(i[0].Columns) != 2 || *i[0].Columns[0] != "pb" || i[0].Columns[1] != nil {
		t.Errorf("indexes are %+v", i)
	}
	var columns []string
	for _, c := range child.Columns {
		columns = append(columns, fmt.Sprintf("%s:%s:%t:%d:%t:%s", c.Name, c.Type, c.Nullable, c.PrimaryKey, c.Generated, c.Comment))
	}
	if got, want := strings.Join(columns, " "), "id:INTEGER:false:1:false:the row number pa:INTEGER:true:0:false: pb:TEXT:false:0:false: up::true:0:false: total:REAL:true:0:true:"; got != want {
		t.Errorf("columns are %s, want %s", got, want)
	}
	if child.Comment != "children" {
		t.Errorf("comment is %q", child.Comment)
	}

	parent := describe("parent")
	if got, want := fmt.Sprint(parent.ReferencedBy), `[{child "of" two [pb pa] [b a]}]`; got != want {
		t.Errorf("referenced by %s, want %s", got, want)
	}
	if c := parent.Columns; c[0].PrimaryKey != 2 || c[1].PrimaryKey != 1 || c[0].Nullable || *c[2].Default != "'it''s'" {
		t.Errorf("columns are %+v", c)
	}
}

func TestDescribeView(t *testing.T) {
	a := call(t, serveSample(t, Database{}), "describe_table", object{"table_name": "monthly_revenue"})
	if !strings.Contains(a.text(), "view monthly_revenue\n") || !strings.Contains(a.text(), "\nrevenue_cents\t") {
		t.Errorf("text is %s", a.text())
	}
}

func TestDescribeUnknownTable(t *testing.T) {
	s := serveSample(t, Database{})
	a := call(t, s, "describe_table", object{"table_name": "costumer"})
	wantCode(t, a, engine.UnknownObject)
	if got := a.StructuredContent.Error.DidYouMean; len(got) != 1 || got[0] != "customers" {
		t.Errorf("did you mean %v", got)
	}
	wantCode(t, call(t, s, "describe_table", object{"table_name": "sales; DROP TABLE sales"}), engine.UnknownObject)
}

func TestEstimates(t *testing.T) {
	file := newDatabase(t, `
		CREATE TABLE dense (x); WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 12000) INSERT INTO dense SELECT i FROM n;
		CREATE TABLE keyed (id INTEGER PRIMARY KEY); INSERT INTO keyed SELECT rowid * 1000000000000 FROM dense;
		CREATE TABLE few (id INTEGER PRIMARY KEY); INSERT INTO few VALUES (1), (1000000);
		CREATE TABLE none (id INTEGER PRIMARY KEY);`)
	s := serve(t, Database{DSN: file})
	want := func(want string) {
		t.Helper()
		var list tableList
		if err := json.Unmarshal(call(t, s, "list_tables", object{}).structured, &list); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, table := range list.Tables {
			got = append(got, table.Name+" "+numberText(table.Estimate))
		}
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	want(`dense 12000, few 2, keyed \N, none 0`)
	execute(t, file, "ANALYZE")
	want(`dense 12000, few 2, keyed 12000, none 0`)
}
