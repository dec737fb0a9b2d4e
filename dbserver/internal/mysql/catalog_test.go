//go:build unix

package mysql

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

func names(tables []engine.Table) string {
	var all []string
	for _, t := range tables {
		all = append(all, t.Name)
	}
	return strings.Join(all, " ")
}

func TestListTables(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "listed")
	s.Exec(t, "listed", "CREATE SEQUENCE no_table;\nCREATE TABLE `we_ird %n` (a INT);\nCREATE TABLE `Customers` (a INT);\nANALYZE TABLE customers")
	d := open(t, options(reader))
	for _, test := range []struct {
		filter engine.Filter
		want   string
		more   bool
	}{
		{engine.Filter{Limit: 100}, "Customers big_orders customers orders untransacted we_ird %n", false},
		{engine.Filter{Limit: 2}, "Customers big_orders", true},
		{engine.Filter{Limit: 6}, "Customers big_orders customers orders untransacted we_ird %n", false},
		{engine.Filter{Limit: 100, After: engine.Name{Schema: "listed", Table: "big_orders"}}, "customers orders untransacted we_ird %n", false},
		{engine.Filter{Limit: 100, Pattern: "cust"}, "Customers customers", false},
		{engine.Filter{Limit: 100, Pattern: "*ORDERS"}, "big_orders orders", false},
		{engine.Filter{Limit: 100, Pattern: "?rders"}, "orders", false},
		{engine.Filter{Limit: 100, Pattern: "d %"}, "we_ird %n", false},
		{engine.Filter{Limit: 100, Pattern: "e_i"}, "we_ird %n", false},
		{engine.Filter{Limit: 100, Pattern: "g_o"}, "big_orders", false},
		{engine.Filter{Limit: 100, Kinds: []string{"view"}}, "big_orders", false},
		{engine.Filter{Limit: 100, Kinds: []string{"virtual"}}, "", false},
		{engine.Filter{Limit: 100, Schema: "nowhere"}, "", false},
	} {
		got, err := d.Tables(t.Context(), who, test.filter)
		if err != nil || names(got.Tables) != test.want || got.More != test.more {
			t.Errorf("%+v: got %s, %v, %v", test.filter, names(got.Tables), got.More, err)
		}
	}
	got, err := d.Tables(t.Context(), who, engine.Filter{Limit: 1, Pattern: "customers", After: engine.Name{Schema: "listed", Table: "Customers"}, Detail: engine.Full})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(got.Tables[0])
	const want = `{"schema":"listed","name":"customers","type":"table","columns":5,"rows_estimate":3,"comment":"who buys",` +
		`"column_list":["id int(10) unsigned","name varchar(100)","email varchar(200)","state enum('new','it''s old','a,b')","created datetime"]}`
	if string(b) != want {
		t.Errorf("got %s", b)
	}
}

// manyTables makes tables t000000, t000001 and so on. One of the engine MEMORY is
// its .frm file and nothing else, so most are made as links to that of another:
// CREATE TABLE takes a hundred times as long.
func manyTables(t testing.TB, s *dbtest.MariaDBServer, database string, n int) {
	t.Helper()
	db := s.Open(t, database)
	file := func(i int) string { return filepath.Join(s.DatabaseDir(database), fmt.Sprintf("t%06d.frm", i)) }
	const links = 10_000 // of one file; ext4 lets it have 65,000
	for i := range n {
		if i%links == 0 {
			if _, err := db.Exec(fmt.Sprintf("CREATE TABLE t%06d (a INT) ENGINE=MEMORY", i)); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Link(file(i-i%links), file(i)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // DROP DATABASE would take as long as CREATE TABLE
		for i := range n {
			os.Remove(file(i))
		}
	})
}

func TestManyTables(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "lots")
	manyTables(t, s, "lots", 100_000)
	o := options(reader)
	o.Policy.DenyTables = []string{"t00*"} // many batches in a row
	d := open(t, o)
	timed := func(what string, do func() error) {
		t.Helper()
		dbtest.Timed(t, what, 20*time.Second, 32<<20, do)
	}
	list := func(what string, f engine.Filter, first string, n int, more bool) {
		t.Helper()
		timed(what, func() error {
			got, err := d.Tables(t.Context(), who, f)
			if err == nil && (len(got.Tables) != n || got.More != more || got.Tables[0].Name != first) {
				t.Errorf("%s: got %d tables, %v, %.200s", what, len(got.Tables), got.More, names(got.Tables))
			}
			return err
		})
	}
	list("the first page", engine.Filter{Limit: 100}, "big_orders", 100, true)
	for _, detail := range []engine.Detail{engine.Names, engine.Summary, engine.Full} {
		list(fmt.Sprint("a page of detail ", detail), engine.Filter{Limit: 100, Detail: detail, After: engine.Name{Schema: "lots", Table: "t050000"}}, "t050001", 100, true)
	}
	list("the last page", engine.Filter{Limit: 100, Detail: engine.Summary, After: engine.Name{Schema: "lots", Table: "t099989"}}, "t099990", 11, false)
	list("a pattern", engine.Filter{Limit: 100, Detail: engine.Summary, Pattern: "T09999?"}, "t099990", 10, false)
	list("behind those that the policy hides", engine.Filter{Limit: 10, Pattern: "t0"}, "t010000", 10, true)
	list("kinds", engine.Filter{Limit: 100, Kinds: []string{"view"}}, "big_orders", 1, false)
	timed("describe", func() error {
		got, err := d.Describe(t.Context(), who, engine.Name{Table: "t077777"}, 3)
		if err == nil && (got.Name != "t077777" || len(got.Columns) != 1) {
			t.Errorf("got %+v", got)
		}
		if err == nil && len(got.Notices) > 0 {
			t.Logf("of %s: %s", got.Name, got.Notices)
		}
		return err
	})
	timed("info", func() error {
		got, err := d.Info(t.Context(), who)
		if err == nil && (got.Status != "ready" || !got.Proof.Verified) {
			t.Errorf("got %+v", got)
		}
		return err
	})
	count, last := 0, engine.Name{}
	for more := true; more; {
		page, err := d.Tables(t.Context(), who, engine.Filter{Limit: 777, Pattern: "t02*", After: last})
		if err != nil {
			t.Fatal(err)
		}
		count += len(page.Tables)
		last = engine.Name{Schema: "lots", Table: page.Tables[len(page.Tables)-1].Name}
		more = page.More
	}
	if count != 10_000 {
		t.Errorf("pages have %d tables", count)
	}
}

func TestDescribeTable(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "described")
	s.Exec(t, "described", "ANALYZE TABLE customers;\nCREATE TABLE other (a INT, b INT, p POINT, UNIQUE KEY ab (a, b));\nINSERT INTO other VALUES (1, 2, POINT(1, 2));\n"+
		"CREATE TABLE refers (x INT, y INT, CONSTRAINT two FOREIGN KEY (x, y) REFERENCES other (a, b))")
	d := open(t, options(reader))
	got, err := d.Describe(t.Context(), who, engine.Name{Table: "customers"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.MarshalIndent(got, "", " ")
	for _, want := range []string{
		`"schema": "described"`, `"comment": "who buys"`, `"rows_estimate": 3`,
		`"name": "name",` + "\n" + `   "type": "varchar(100)",` + "\n" + `   "nullable": false,` + "\n" + `   "default": null,` + "\n" + `   "primary_key": 0,` + "\n" + `   "comment": "as on the invoice"`,
		`"samples": [` + "\n" + `    "Ada",` + "\n" + `    "Bob"`, `"it's old"`, `"a,b"`, `"default": "'new'"`, `"default": "current_timestamp()"`, `"primary_key": 1`,
		`"referenced_by": [` + "\n" + `  {` + "\n" + `   "table": "orders"`, `"name": "by_email"`, `"unique": true`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("there is no %s in\n%s", want, b)
		}
	}
	orders, err := d.Describe(t.Context(), who, engine.Name{Schema: "described", Table: "orders"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if k := orders.ForeignKeys; len(k) != 1 || fmt.Sprint(k[0]) != "{customers [customer] [id]}" {
		t.Errorf("got %v", k)
	}
	if c := orders.Columns[3]; !c.Generated || c.Default != nil {
		t.Errorf("got %+v", c)
	}
	if len(orders.Checks) != 1 || !strings.Contains(orders.Checks[0], "total") {
		t.Errorf("got %q", orders.Checks)
	}
	other, err := d.Describe(t.Context(), who, engine.Name{Table: "other"}, 2)
	if err != nil || len(other.ReferencedBy) != 1 || fmt.Sprint(other.ReferencedBy[0]) != "{refers [x y] [a b]}" {
		t.Errorf("got %+v, %v", other, err)
	}
	view, err := d.Describe(t.Context(), who, engine.Name{Table: "big_orders"}, 1)
	if err != nil || view.Type != "view" || view.Comment != "" || view.Estimate != nil || len(view.Columns) != 4 || len(view.Columns[1].Samples) != 1 {
		t.Errorf("got %+v, %v", view, err)
	}
	_, err = d.Describe(t.Context(), who, engine.Name{Table: "custommers"}, 1)
	if e, ok := err.(*engine.Error); !ok || e.Code != engine.UnknownObject || len(e.DidYouMean) == 0 || e.DidYouMean[0] != "customers" {
		t.Errorf("got %v", err)
	}
	nowhere := open(t, options(strings.TrimSuffix(reader, "described")))
	if _, err := nowhere.Describe(t.Context(), who, engine.Name{Table: "customers"}, 0); codeOf(err) != engine.InvalidArgument {
		t.Errorf("without a database: %v", err)
	}
	if _, err := nowhere.Describe(t.Context(), who, engine.Name{Schema: "described", Table: "customers"}, 0); err != nil {
		t.Errorf("without a database: %v", err)
	}
}

// The tables of the server have what other sessions run, and samples of values.
func TestTheServersOwnTablesGiveNoSamples(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "own_tables")
	d := open(t, options(reader))
	own, err := d.Describe(t.Context(), who, engine.Name{Schema: "information_schema", Table: "PROCESSLIST"}, 3)
	if err != nil || len(own.Columns) == 0 {
		t.Fatal(own, err)
	}
	for _, c := range own.Columns {
		if len(c.Samples) > 0 {
			t.Errorf("%s: %q", c.Name, c.Samples)
		}
	}
}
