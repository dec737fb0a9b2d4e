//go:build unix

package mysql

import (
	"encoding/json"
	"fmt"
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

func TestListManyTables(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "lots")
	db := s.Open(t, "lots")
	const n = 1600
	for i := range n {
		if _, err := db.Exec(fmt.Sprintf("CREATE TABLE t%05d (a INT) ENGINE=MEMORY", i)); err != nil {
			t.Fatal(err)
		}
	}
	o := options(reader)
	o.Policy.DenyTables = []string{"t000*", "t001*", "t002*", "t003*", "t004*", "t005*", "t006*", "t007*", "t008*", "t009*", "t010*"} // more than a batch in a row
	d := open(t, o)
	began := time.Now()
	got, err := d.Tables(t.Context(), who, engine.Filter{Limit: 10, Pattern: "t0"})
	if err != nil || len(got.Tables) != 10 || !got.More || got.Tables[0].Name != "t01100" {
		t.Errorf("got %s, %v", names(got.Tables), err)
	}
	t.Logf("10 of %d tables took %v", n, time.Since(began))
	count := 0
	for after := (engine.Name{}); ; {
		page, err := d.Tables(t.Context(), who, engine.Filter{Limit: 77, After: after})
		if err != nil {
			t.Fatal(err)
		}
		count += len(page.Tables)
		if !page.More {
			break
		}
		last := page.Tables[len(page.Tables)-1]
		after = engine.Name{Schema: last.Schema, Table: last.Name}
	}
	if count != n-1100+4 {
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
