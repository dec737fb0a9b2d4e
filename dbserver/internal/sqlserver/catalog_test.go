package sqlserver

import (
	"database/sql/driver"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// catalog answers the statements of this package about tables.
func catalog(sql string, args []driver.NamedValue) (*rows, error) {
	table := func(id int64, schema, name, kind string, more ...driver.Value) []driver.Value {
		return append([]driver.Value{schema, name, kind, id}, append(more, nil, nil, nil)[:3]...)
	}
	r := &rows{}
	switch {
	case strings.HasPrefix(sql, askTables):
		r.data = [][]driver.Value{
			table(1, "dbo", "names", "view", int64(2), int64(5)), table(2, "dbo", "secrets", "table"), table(3, "dbo", "users", "table", int64(2), int64(7), "who they are"),
			table(4, "sales", "orders", "table"), table(5, "sales", "Users", "foreign"),
		}
		if schema := args[2].Value; schema != "" {
			r.data = slices.DeleteFunc(r.data, func(row []driver.Value) bool { return row[0] != schema })
		}
	case strings.Contains(sql, "FROM sys.columns c LEFT JOIN sys.default_constraints"):
		r.data = [][]driver.Value{
			{"id", "int", int64(4), int64(10), int64(0), false, nil, false, int64(1), nil},
			{"email", "nvarchar", int64(200), int64(0), int64(0), true, "(N'')", false, nil, "where to write"},
			{"photo", "varbinary", int64(-1), int64(0), int64(0), true, nil, true, nil, nil},
		}
	case strings.Contains(sql, "k.parent_object_id = @p1"):
		r.data = [][]driver.Value{{int64(9), "sales", "orders", "a", "x"}, {int64(9), "sales", "orders", "b", "y"}, {int64(10), "dbo", "secrets", "c", "z"}}
	case strings.Contains(sql, "k.referenced_object_id = @p1"):
		r.data = [][]driver.Value{{int64(11), "dbo", "users", "boss", "id"}}
	case strings.Contains(sql, "FROM sys.indexes i JOIN"):
		r.data = [][]driver.Value{{"IX", false, true, "email"}, {"PK", true, false, "id"}, {"PK", true, false, "email"}}
	case strings.Contains(sql, "check_constraints"):
		r.data = [][]driver.Value{{"([id]>(0))"}}
	case strings.HasPrefix(sql, "SELECT TOP"):
		r.data = [][]driver.Value{{"1"}, {"2"}, {nil}, {"2"}, {"3"}}
	case strings.Contains(sql, "database_files"):
		r.data = [][]driver.Value{{int64(8192)}}
	case strings.HasPrefix(sql, "SELECT s.name, o.name, c.name"):
		r.data = [][]driver.Value{{"dbo", "users", "email"}, {"dbo", "users", "id"}, {"sales", "orders", "e-mail"}}
	}
	if len(r.data) > 0 {
		r.names = make([]string, len(r.data[0]))
	}
	return r, nil
}

func guarded() engine.Options {
	o := options()
	o.Policy = engine.Policy{DenyTables: []string{"secrets"}, Masks: []engine.Mask{{Columns: []string{"users.email"}, With: engine.WithPartial}}}
	return o
}

func TestTables(t *testing.T) {
	for _, c := range []struct {
		filter engine.Filter
		want   string
	}{
		{engine.Filter{Limit: 10}, "dbo.names dbo.users sales.orders sales.Users"},
		{engine.Filter{Limit: 2}, "dbo.names dbo.users more"},
		{engine.Filter{Limit: 2, Pattern: "*s", Kinds: []string{"table"}}, "dbo.users sales.orders"},
		{engine.Filter{Limit: 10, Pattern: "user"}, "dbo.users sales.Users"},
		{engine.Filter{Limit: 10, Kinds: []string{"foreign", "view"}}, "dbo.names sales.Users"},
	} {
		f := &fake{run: catalog}
		d := f.start(t, guarded())
		list, err := d.Tables(t.Context(), who, c.filter)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range list.Tables {
			got = append(got, x.Schema+"."+x.Name)
		}
		if list.More {
			got = append(got, "more")
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%+v: got %s", c.filter, s)
		}
	}
	f := &fake{run: catalog}
	d := f.start(t, guarded())
	list, err := d.Tables(t.Context(), who, engine.Filter{Limit: 1, Detail: engine.Full, Kinds: []string{"table"}, Schema: "dbo", After: engine.Name{Schema: "dbo", Table: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	told, _ := json.Marshal(list.Tables)
	if want := `[{"schema":"dbo","name":"users","type":"table","columns":2,"rows_estimate":7,"comment":"who they are","column_list":["id int","email nvarchar(100)","photo varbinary(max)"]}]`; string(told) != want {
		t.Errorf("got %s", told)
	}
	for _, sent := range f.sent() {
		if strings.Contains(sent, "sys.objects o JOIN") && !strings.HasSuffix(sent, "| p1=dbo | p2=dbo | p3=a | p4=1") {
			t.Errorf("sent %s", sent)
		}
	}
}

func TestDescribe(t *testing.T) {
	f := &fake{run: catalog}
	d := f.start(t, guarded())
	told, err := d.Describe(t.Context(), who, engine.Name{Schema: "dbo", Table: "USERS"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(told)
	want := `{"schema":"dbo","name":"users","type":"table","comment":"who they are","rows_estimate":7,"columns":[` +
		`{"name":"id","type":"int","nullable":false,"default":null,"primary_key":1,"samples":["1","2"]},` +
		`{"name":"email","type":"nvarchar(100)","nullable":true,"default":"(N'')","primary_key":0,"comment":"where to write","policy":"partial"},` +
		`{"name":"photo","type":"varbinary(max)","nullable":true,"default":null,"primary_key":0,"generated":true}],` +
		`"foreign_keys":[{"table":"sales.orders","columns":["a","b"],"referenced_columns":["x","y"]}],` +
		`"referenced_by":[{"table":"users","columns":["boss"],"referenced_columns":["id"]}],` +
		`"indexes":[{"name":"IX","columns":["email"],"unique":false,"partial":true},{"name":"PK","columns":["id","email"],"unique":true}],"checks":["([id]\u003e(0))"]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	sent := f.sent()
	if last := sent[len(sent)-1]; last != "sp_executesql | =SELECT TOP (100) CAST([id] AS nvarchar(100)) FROM [dbo].[users]" {
		t.Errorf("sampled by %s", last)
	}
	for name, want := range map[engine.Name]string{
		{Table: "users"}: "dbo.users", {Table: "Users"}: "dbo.users", {Table: "orders"}: "sales.orders",
		{Table: "secrets"}: engine.UnknownObject, {Table: "usres"}: engine.UnknownObject,
	} {
		told, err := d.Describe(t.Context(), who, name, 0)
		got := code(err)
		if err == nil {
			got = told.Schema + "." + told.Name
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	f.facts = append([][]driver.Value{{factSchema, "web"}}, safe...)
	f.conns[0].bad = true
	if _, err := d.Describe(t.Context(), who, engine.Name{Table: "USERS"}, 0); code(err) != engine.AmbiguousObject {
		t.Errorf("got %v", err)
	}
}

func TestNearColumnsAreThoseOfTheTablesNamed(t *testing.T) {
	f := &fake{run: catalog, plan: func(string) (string, error) {
		return "", mssql.Error{Number: 207, Class: 16, LineNo: 1, Message: "Invalid column name 'emial'."}
	}}
	d := f.start(t, options())
	err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT emial FROM dbo.users"}, newWriter())
	if e, ok := err.(*engine.Error); !ok || e.Code != engine.UnknownObject || len(e.DidYouMean) != 1 || e.DidYouMean[0] != "email" || e.Position.Column != 8 {
		t.Errorf("got %+v", err)
	}
}

func TestInfoProvesThatWritingIsRefused(t *testing.T) {
	for _, c := range []struct {
		err      error
		facts    [][]driver.Value
		verified bool
		status   string
	}{
		{mssql.Error{Number: 262, Class: 14, Message: "CREATE TABLE permission denied in database 'shop'."}, nil, true, "ready"},
		{mssql.Error{Number: 3906, Class: 16, Message: "Failed to update database because the database is read-only."}, nil, true, "ready"},
		{nil, nil, false, "ready"},
		{mssql.Error{Number: 701, Class: 17, Message: "no memory"}, nil, false, "down"},
		{mssql.Error{Number: 262, Class: 14}, append([][]driver.Value{{factDatabaseRole, "db_owner"}}, safe...), false, "ready"},
	} {
		f := &fake{run: catalog, facts: c.facts}
		f.refuse = func(text string) error {
			if strings.HasPrefix(text, "CREATE TABLE") {
				if c.facts != nil {
					t.Error("a table was made with a role that may")
				}
				return c.err
			}
			return nil
		}
		o := options()
		o.AllowUnsafeRole = c.facts != nil
		d := f.start(t, o)
		info, err := d.Info(t.Context(), who)
		if err != nil {
			t.Fatal(err)
		}
		if info.Status != c.status || info.Version != "16.0.4135.4 Developer Edition" || info.Place != "db.example.com:1433/shop" || strings.Contains(info.LastError, "s3cret") {
			t.Errorf("%v: got %+v", c.err, info)
		}
		if c.status == "ready" && (info.Proof.Verified != c.verified || len(info.Proof.Role) != 6 || info.Size != 8192 || (len(info.Proof.Warnings) > 0) != (c.facts != nil)) {
			t.Errorf("%v: got %+v", c.err, info.Proof)
		}
		if len(info.Findings) != 1 || !strings.Contains(info.Findings[0].Message, "snapshots") {
			t.Errorf("findings %+v", info.Findings)
		}
	}
}

func TestSnapshotsAreReadWhereTheyAreAllowed(t *testing.T) {
	f := &fake{run: twoRows, facts: append([][]driver.Value{{factSnapshot, "1"}}, safe...)}
	d := f.start(t, options())
	if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil {
		t.Fatal(err)
	}
	same(t, "sent", f.sent()[4:6], []string{"SET TEXTSIZE 1000000 SET ROWCOUNT 0 SET TRANSACTION ISOLATION LEVEL SNAPSHOT", "BEGIN TRANSACTION"})
}
