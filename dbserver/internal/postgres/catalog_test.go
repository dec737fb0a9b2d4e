//go:build unix

package postgres

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func tableNames(t testing.TB, d *Database, f engine.Filter) []string {
	t.Helper()
	if f.Limit == 0 {
		f.Limit = 100
	}
	list, err := d.Tables(t.Context(), someone, f)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range list.Tables {
		names = append(names, x.Schema+"."+x.Name+":"+x.Type)
	}
	if list.More {
		names = append(names, "…")
	}
	return names
}

func TestTables(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `CREATE SCHEMA hidden; CREATE TABLE hidden.keys (a int); CREATE TABLE "Odd_Name" (a int); CREATE TABLE oddxname (a int);
		CREATE TABLE not_ours (a int); REVOKE ALL ON not_ours FROM reader`)
	d := p.reader(t)
	for _, c := range []struct {
		filter engine.Filter
		want   string
	}{
		{engine.Filter{}, "public.Odd_Name:table public.contacts:view public.oddxname:table public.orders:table public.parts:table public.users:table"},
		{engine.Filter{Pattern: "ER"}, "public.orders:table public.users:table"},
		{engine.Filter{Pattern: "d_n"}, "public.Odd_Name:table"},
		{engine.Filter{Pattern: "odd?name"}, "public.Odd_Name:table public.oddxname:table"},
		{engine.Filter{Pattern: "*rs"}, "public.orders:table public.users:table"},
		{engine.Filter{Kinds: []string{"view"}}, "public.contacts:view"},
		{engine.Filter{Limit: 2}, "public.Odd_Name:table public.contacts:view …"},
		{engine.Filter{Limit: 3, After: engine.Name{Schema: "public", Table: "oddxname"}}, "public.orders:table public.parts:table public.users:table"},
		{engine.Filter{Schema: "hidden"}, ""},
	} {
		if got := strings.Join(tableNames(t, d, c.filter), " "); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.filter, got, c.want)
		}
	}
	if got := tableNames(t, d, engine.Filter{Schema: "pg_catalog", Pattern: "pg_class"}); len(got) != 1 {
		t.Errorf("of the system's own tables got %s", got)
	}
	limited := p.reader(t, func(o *engine.Options) { o.Policy.DenyTables = []string{"o*", "c*"} })
	if got := strings.Join(tableNames(t, limited, engine.Filter{Limit: 1}), " "); got != "public.parts:table …" {
		t.Errorf("with tables denied got %s", got)
	}
}

func TestTablesInFull(t *testing.T) {
	d := newDatabase(t).reader(t)
	list, err := d.Tables(t.Context(), someone, engine.Filter{Detail: engine.Full, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	got := jsonOf(list.Tables)
	for _, want := range []string{
		`{"schema":"public","name":"contacts","type":"view","columns":2,"column_list":["id integer","contact character varying(80)"]}`,
		`"name":"users","type":"table","columns":6,"rows_estimate":3,"comment":"who there is"`,
		`"name":"parts","type":"table","columns":3,"rows_estimate":2`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s\nwant in it %s", got, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	p := newDatabase(t)
	d := p.reader(t)
	about, err := d.Describe(t.Context(), someone, engine.Name{Table: "users"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schema":"public","name":"users","type":"table","comment":"who there is","rows_estimate":3,"columns":[` +
		`{"name":"id","type":"int4","nullable":false,"default":null,"primary_key":1,"samples":["1","2"]},` +
		`{"name":"name","type":"text","nullable":false,"default":null,"primary_key":0,"samples":["Ann","Bob"]},` +
		`{"name":"email","type":"varchar(80)","nullable":true,"default":null,"primary_key":0,"comment":"where to write to","samples":["ann@example.org","bob@example.org"]},` +
		`{"name":"ssn","type":"text","nullable":true,"default":null,"primary_key":0,"samples":["111-11-1111","222-22-2222"]},` +
		`{"name":"mood","type":"mood","nullable":true,"default":"'ok'::mood","primary_key":0,"values":["sad","ok","happy"],"samples":["happy","sad"]},` +
		`{"name":"created","type":"timestamptz","nullable":false,"default":"'2026-01-02 03:04:05+00'::timestamp with time zone","primary_key":0,"samples":["2026-01-02 03:04:05+00"]}],` +
		`"foreign_keys":[],"referenced_by":[{"table":"orders","columns":["user_id"],"referenced_columns":["id"]}],` +
		`"indexes":[{"name":"users_email_key","columns":["email"],"unique":true},{"name":"users_pkey","columns":["id"],"unique":true}]}`
	if got := jsonOf(about); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	about, err = d.Describe(t.Context(), someone, engine.Name{Schema: "PUBLIC", Table: "Orders"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"foreign_keys":[{"table":"users","columns":["user_id"],"referenced_columns":["id"]}]`,
		`{"name":"orders_lower_idx","columns":[null],"unique":false},{"name":"orders_of_user","columns":["user_id"],"unique":false,"partial":true}`,
		`"checks":["(total \u003e= (0)::numeric)"]`, `{"name":"id","type":"int8","nullable":false,"default":null,"primary_key":1,"generated":true}`,
		`"type":"numeric(10,2)"`} {
		if got := jsonOf(about); !strings.Contains(got, want) {
			t.Errorf("got %s\nwant in it %s", got, want)
		}
	}
}

func TestDescribeOfAnUnknownTable(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.twice (x int); CREATE TABLE b.twice (x int);
		GRANT USAGE ON SCHEMA a, b TO reader; GRANT SELECT ON a.twice, b.twice TO reader`)
	d := p.reader(t)
	for name, want := range map[engine.Name]string{{Table: "usrs"}: "public.users", {Table: "twice"}: "a.twice b.twice"} {
		_, err := d.Describe(t.Context(), someone, name, 0)
		told, _ := err.(*engine.Error)
		if told == nil || strings.Join(told.DidYouMean, " ") != want {
			t.Errorf("%s: got %+v, want %s", name, told, want)
		}
	}
	hidden := p.reader(t, func(o *engine.Options) { o.Policy.DenyTables = []string{"users"} })
	_, err := hidden.Describe(t.Context(), someone, engine.Name{Table: "users"}, 0)
	if told, _ := err.(*engine.Error); told == nil || told.Code != engine.UnknownObject || slices.Contains(told.DidYouMean, "public.users") {
		t.Errorf("of a table that is denied got %+v", err)
	}
	orders, err := hidden.Describe(t.Context(), someone, engine.Name{Table: "orders"}, 0)
	if err != nil || len(orders.ForeignKeys) != 0 {
		t.Errorf("a key tells of a table that is denied: %+v, %v", orders, err)
	}
}

func TestExplain(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `CREATE TABLE big AS SELECT i, i % 7 AS x, 'text ' || i AS t FROM generate_series(1, 20000) i; ANALYZE big; GRANT SELECT ON big TO reader`)
	d := p.reader(t)
	plan, err := d.Explain(t.Context(), someone, engine.Statement{SQL: "SELECT * FROM big WHERE x = $1", Params: []any{json.Number("3")}})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], "reads all about 20000 rows of public.big to filter them by (big.x = 3)") {
		t.Errorf("got the warnings %q", plan.Warnings)
	}
	if plan.Cost == nil || *plan.Cost <= 0 || plan.Rows == nil || !strings.HasPrefix(plan.Text, "Seq Scan on public.big (cost ") {
		t.Errorf("got the plan %+v", plan)
	}
	w := newWatch(t, p)
	before := w.state(t)
	for sql, want := range map[string]string{
		"EXPLAIN SELECT 1":                            engine.InvalidArgument,
		"DELETE FROM orders":                          engine.AccessDenied, // of the role
		"DROP TABLE orders":                           engine.InvalidArgument,
		"SELECT touch()":                              engine.FunctionDenied,
		"SELECT 1; SELECT 2":                          engine.MultiStatement,
		"SELECT * FROM usrs":                          engine.UnknownObject,
		"WITH x AS (SELECT 1) SELECT * FROM x":        "",
		"WITH x AS (DELETE FROM orders) SELECT 1":     engine.ReadOnly,
		"SELECT $1":                                   engine.InvalidArgument,
		"CREATE TABLE evil AS SELECT * FROM orders":   engine.InvalidArgument,
		"VALUES (1)":                                  "",
		"INSERT INTO orders (user_id) SELECT touch()": engine.FunctionDenied,
	} {
		if _, err := d.Explain(t.Context(), someone, engine.Statement{SQL: sql}); code(err) != want {
			t.Errorf("%s: got %v, want %s", sql, err, want)
		}
	}
	if after := w.state(t); after != before {
		t.Errorf("changed the database to %s", after)
	}
	if plan, err := p.superuser(t).Explain(t.Context(), someone, engine.Statement{SQL: "DELETE FROM orders"}); err != nil || !strings.HasPrefix(plan.Text, "ModifyTable on public.orders") {
		t.Errorf("of a statement that writes got %+v, %v", plan, err)
	}
}

func TestInfo(t *testing.T) {
	p := newDatabase(t)
	d := p.reader(t)
	info, err := d.Info(t.Context(), someone)
	if err != nil {
		t.Fatal(err)
	}
	if info.Engine != "postgres" || info.Status != "ready" || info.Place != "127.0.0.1:"+p.Port+"/"+p.database || info.Size == 0 || info.Version == "" || info.MaxConnections < 10 {
		t.Errorf("got %+v", info)
	}
	if !info.Proof.Verified || len(info.Proof.Role) != 8 || len(info.Proof.Warnings) != 1 || !strings.Contains(info.Proof.Warnings[0], "owner_touch") {
		t.Errorf("got the proof %+v", info.Proof)
	}
	for _, c := range info.Proof.Role {
		if !c.OK {
			t.Errorf("not ok: %+v", c)
		}
	}
	info, err = p.superuser(t).Info(t.Context(), someone)
	if err != nil || !info.Proof.Verified || len(info.Findings) < 5 || info.Findings[0].Severity != "warning" {
		t.Errorf("of a superuser got %+v, %v", info, err)
	}
}
