//go:build unix

package mysql

import (
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

// policed makes the sample with more views, and opens it with a policy.
func policed(t *testing.T, name string, p engine.Policy) *Database {
	t.Helper()
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, name)
	s.Exec(t, name, `
CREATE VIEW over_view AS SELECT id FROM big_orders;
CREATE VIEW harmless AS SELECT id, total FROM orders;
CREATE VIEW with_cte AS WITH x AS (SELECT id FROM customers) SELECT id FROM x;
CREATE FUNCTION peek() RETURNS TEXT READS SQL DATA RETURN (SELECT email FROM customers WHERE id = 1);
CREATE VIEW by_function AS SELECT peek() AS p;
CREATE TABLE hidden_too (a INT, secret TEXT INVISIBLE);
INSERT INTO hidden_too (a, secret) VALUES (1, 'invisible')`)
	o := options(reader)
	o.Policy = p
	return open(t, o)
}

func TestTablesThatMayNotBeRead(t *testing.T) {
	d := policed(t, "denied", engine.Policy{DenyTables: []string{"customers"}})
	for _, sql := range []string{
		"SELECT * FROM customers", "SELECT * FROM `Customers`", "SELECT * FROM denied.customers", "SELECT 1 FROM orders WHERE EXISTS (SELECT 1 FROM customers)",
		"SELECT * FROM big_orders", "SELECT * FROM over_view", "SELECT * FROM with_cte", "SELECT * FROM by_function",
		"WITH x AS (SELECT * FROM customers) SELECT * FROM x", "TABLE customers", "SHOW COLUMNS FROM customers", "SHOW CREATE TABLE customers",
		"SHOW INDEX FROM customers FROM denied", "DESCRIBE customers", "EXPLAIN SELECT * FROM customers",
		"SELECT * FROM information_schema.columns", "SELECT * FROM information_schema.processlist", "SELECT * FROM mysql.column_stats",
		"SHOW TABLES FROM information_schema",
	} {
		if _, err := read(t, d, sql); codeOf(err) != engine.AccessDenied {
			t.Errorf("%s: got %v", sql, err)
		}
	}
	for _, sql := range []string{"SELECT * FROM orders", "SELECT * FROM harmless", "SHOW TABLES", "SELECT 1", "SHOW COLUMNS FROM orders"} {
		mustRead(t, d, sql)
	}
	tables, err := d.Tables(t.Context(), who, engine.Filter{Limit: 100})
	if err != nil || len(tables.Tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, table := range tables.Tables {
		if table.Name == "customers" {
			t.Error("list_tables has it")
		}
	}
	_, err = d.Describe(t.Context(), who, engine.Name{Table: "customers"}, 0)
	if e, ok := err.(*engine.Error); !ok || e.Code != engine.UnknownObject || strings.Contains(strings.Join(e.DidYouMean, " "), "customers") {
		t.Errorf("describe_table: %v", err)
	}
	orders, err := d.Describe(t.Context(), who, engine.Name{Table: "orders"}, 0)
	if err != nil || len(orders.ForeignKeys) != 0 {
		t.Errorf("a key tells of it: %+v, %v", orders, err)
	}
}

func TestSchemasThatMayBeRead(t *testing.T) {
	s := dbtest.MariaDB(t)
	s.Database(t, "elsewhere")
	s.Exec(t, "elsewhere", "CREATE TABLE t (a INT)")
	d := policed(t, "schemas", engine.Policy{Schemas: []string{"schemas"}})
	mustRead(t, d, "SELECT * FROM customers")
	mustRead(t, d, "SELECT * FROM big_orders")
	for _, sql := range []string{"SELECT * FROM elsewhere.t", "SHOW TABLES FROM elsewhere", "SELECT * FROM information_schema.tables"} {
		if _, err := read(t, d, sql); codeOf(err) != engine.AccessDenied {
			t.Errorf("%s: got %v", sql, err)
		}
	}
}

func TestMasks(t *testing.T) {
	d := policed(t, "masked", engine.Policy{Masks: []engine.Mask{
		{Columns: []string{"customers.email"}, With: engine.WithNull},
		{Columns: []string{"masked.customers.name"}, With: engine.WithPartial},
		{Columns: []string{"orders.note"}, With: engine.WithRefuse},
		{Columns: []string{"hidden_too.secret"}, With: engine.WithNull},
	}})
	for _, test := range []struct{ sql, want string }{
		{"SELECT id, name, email FROM customers ORDER BY id LIMIT 2", `[[1,"A***",null],[2,"B***",null]]`},
		{"SELECT * FROM (SELECT id, name, email, state FROM customers) x WHERE id = 1", `[[1,"A***",null,"new"]]`},
		{"SELECT c.email, c.name, o.total FROM customers AS c JOIN orders o ON o.customer = c.id WHERE o.id = 1", `[[null,"A***","10.50"]]`},
		{"SELECT customers.name FROM customers WHERE customers.id = 1", `[["A***"]]`},
		{"SELECT name FROM masked.customers WHERE id = 1", `[["A***"]]`},
		{"SELECT COUNT(*) FROM customers WHERE email LIKE 'ada%'", `[[0]]`},
		{"SELECT COUNT(*) FROM customers WHERE name = 'Ada'", `[[0]]`},
		{"SELECT id FROM customers ORDER BY email, name, id LIMIT 1", `[[1]]`},
		{"SELECT CONCAT(email), UPPER(name), MAX(email) FROM customers WHERE id = 1", `[[null,"A***",null]]`},
		{"WITH x AS (SELECT * FROM customers) SELECT name, email FROM x WHERE id = 1", `[["A***",null]]`},
		{"SELECT (SELECT email FROM customers c WHERE c.id = o.customer) FROM orders o WHERE o.id = 1", `[[null]]`},
		{"SELECT name FROM customers WHERE id = 1 UNION ALL SELECT email FROM customers WHERE id = 2", `[["A***"],[null]]`},
		{"SELECT id, total FROM orders WHERE id = 1", `[[1,"10.50"]]`},
		{"SELECT * FROM orders WHERE id = 1", `[[1,1,"10.50","21.00"]]`},
		{"SELECT 'it''s \\\\ a \\' b' AS s, X'41', 1.50, 1--1 FROM customers WHERE id = 1", `[["it's \\ a ' b",{"$bytes":1,"base64":"QQ=="},"1.50",2]]`},
		{"SELECT `email` FROM `customers` GROUP BY email", `[[null]]`},
		{"SELECT * FROM hidden_too", `[[1]]`},
	} {
		if got, err := read(t, d, test.sql); err != nil || got != test.want {
			t.Errorf("%s: got %s, %v, want %s", test.sql, got, err, test.want)
		}
	}
	if got := mustRead(t, d, "SELECT name FROM customers WHERE id = ? AND ? = 'x'", number64("2"), "x"); got != `[["B***"]]` {
		t.Errorf("with params: %s", got)
	}
	if got := mustRead(t, d, "TABLE customers"); !strings.Contains(got, `[1,"A***",null`) {
		t.Errorf("TABLE: %s", got)
	}
	for _, sql := range []string{
		"SELECT note FROM orders", "SELECT o.note FROM orders o", "SELECT id FROM orders WHERE note LIKE 'f%'", "SELECT id FROM orders ORDER BY note",
		"SELECT * FROM orders WHERE MATCH (note) AGAINST ('first')",
		"SELECT masked.customers.name FROM masked.customers", "SELECT masked.customers.* FROM customers",
		"SELECT name FROM big_orders", "SELECT * FROM over_view", "SELECT * FROM harmless", "SELECT * FROM with_cte",
		"WITH customers AS (SELECT 1 AS id) SELECT * FROM customers", "WITH x AS (WITH customers AS (SELECT * FROM customers) SELECT * FROM customers) SELECT * FROM x",
		"SELECT * FROM customers USE INDEX (by_email)",
	} {
		if got, err := read(t, d, sql); codeOf(err) != engine.ColumnMasked {
			t.Errorf("%s: got %s, %v", sql, got, err)
		}
	}
	for _, sql := range []string{"SELECT secret FROM hidden_too", "SELECT * FROM by_function", "SELECT peek()", "SELECT DEFAULT(email) FROM customers"} {
		if got, err := read(t, d, sql); err == nil {
			t.Errorf("%s: got %s", sql, got)
		}
	}
	if p, err := d.Explain(t.Context(), who, engine.Statement{SQL: "SELECT * FROM customers WHERE email = 'x'"}); err != nil || strings.Contains(string(p.JSON), "by_email") {
		t.Errorf("explain: %s, %v", p.JSON, err)
	}
	table, err := d.Describe(t.Context(), who, engine.Name{Table: "customers"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range table.Columns {
		if masked := c.Name == "name" || c.Name == "email"; masked != (c.Policy != "") || masked && len(c.Samples) > 0 {
			t.Errorf("%+v", c)
		}
	}
}

func TestMaskedColumnsDecideNoWrite(t *testing.T) {
	s := dbtest.MariaDB(t)
	_, root := sample(t, s, "mask_write")
	o := options(root)
	o.AllowUnsafeRole, o.Write = true, true
	o.Policy = engine.Policy{DenyTables: []string{"untransacted"}, Masks: []engine.Mask{{Columns: []string{"email"}, With: engine.WithNull}}}
	d := open(t, o)
	for sql, want := range map[string]string{
		"UPDATE customers SET name = email WHERE id = 1":                                   engine.ColumnMasked,
		"UPDATE customers SET name = 'x' WHERE email LIKE 'a%'":                            engine.ColumnMasked,
		"DELETE FROM customers WHERE id = 1 ORDER BY email LIMIT 1":                        engine.ColumnMasked,
		"INSERT INTO orders (note, customer, total) SELECT c.email, 1, 1 FROM customers c": engine.ColumnMasked,
		"INSERT INTO customers SELECT * FROM customers":                                    engine.ColumnMasked,
		"DELETE a FROM customers a JOIN customers b USING (email)":                         engine.ColumnMasked,
		"DELETE a FROM customers a NATURAL JOIN customers b":                               engine.ColumnMasked,
		"UPDATE customers SET state = 'new' WHERE MATCH (email) AGAINST ('ada')":           engine.ColumnMasked,
		"INSERT INTO customers TABLE customers":                                            engine.ColumnMasked,
		"ALTER TABLE customers RENAME COLUMN email TO mail":                                engine.ColumnMasked,
		"ALTER TABLE customers MODIFY email INT":                                           engine.ColumnMasked,
		"ALTER TABLE customers ADD COLUMN copy VARCHAR(200) AS (email)":                    engine.ColumnMasked,
		"ALTER TABLE customers RENAME TO c2":                                               engine.ColumnMasked,
		"RENAME TABLE orders TO o2, customers TO c2":                                       engine.ColumnMasked,
		"CREATE TABLE c2 AS SELECT email FROM customers":                                   engine.ColumnMasked,
		"CREATE TABLE c2 (e VARCHAR(200), FOREIGN KEY (e) REFERENCES customers (email))":   engine.ColumnMasked,
		"CREATE VIEW v AS SELECT email FROM customers":                                     engine.ColumnMasked,
		"CREATE UNIQUE INDEX u ON customers (email)":                                       engine.ColumnMasked,
		"DROP TABLE orders, customers":                                                     engine.ColumnMasked,
		"ALTER TABLE orders RENAME TO o2":                                                  "",
		"DELETE FROM untransacted WHERE n = 1":                                             engine.AccessDenied,
		"UPDATE mysql.global_priv SET priv = '' WHERE user = 'x'":                          engine.AccessDenied,
		"UPDATE customers SET email = 'new' WHERE id = 1":                                  "",
		"INSERT INTO customers (name, email) VALUES ('x', 'y')":                            "",
	} {
		_, err := d.Write(t.Context(), who, engine.Statement{SQL: sql}, engine.Write{DDL: true}, result.NewWriter(limits(), nil))
		if codeOf(err) != want {
			t.Errorf("%s: got %v, want %s", sql, err, want)
		}
	}
}

// FuzzMasksHide holds that no statement returns what a mask hides.
func FuzzMasksHide(f *testing.F) {
	for _, e := range readCorpus(f, "mysql-allow.txt") {
		f.Add(e.sql)
	}
	for _, sql := range []string{
		"SELECT email FROM customers", "SELECT c.* FROM hides.customers c", "SELECT hides.c.email FROM customers c", "SELECT `customers`.`email` FROM customers",
		"SELECT email FROM (customers JOIN orders)", "SELECT email FROM (customers)", "SELECT email FROM ((customers a))", "SELECT * FROM orders RIGHT JOIN customers ON 1",
		"SELECT email FROM {oj customers LEFT OUTER JOIN orders ON 1}", "TABLE customers ORDER BY email", "(TABLE customers) UNION (TABLE customers)",
		"SELECT (SELECT MAX(email) FROM customers)", "SELECT 1 IN (TABLE customers)", "SELECT JSON_ARRAYAGG(email) FROM customers", "SELECT VALUES(email) FROM customers",
		"WITH c AS (TABLE customers) TABLE c", "SELECT email FROM CUSTOMERS", "SELECT email FROM customers PARTITION (p0)", "SELECT e FROM mail", "SELECT * FROM big_orders",
		"SELECT * FROM customers, LATERAL (SELECT customers.email AS e) x", "SHOW CREATE TABLE customers", "SELECT email FROM `hides`.`customers` AS `customers`",
	} {
		f.Add(sql)
	}
	s := dbtest.MariaDB(f)
	reader, _ := sample(f, s, "hides")
	s.Exec(f, "hides", "CREATE VIEW mail AS SELECT email AS e FROM customers;\nUPDATE customers SET email = CONCAT('hidden', id, '@example.com')")
	o := options(reader)
	o.StatementTimeout = time.Second
	o.Policy.Masks = []engine.Mask{{Columns: []string{"customers.email"}, With: engine.WithNull}}
	d := open(f, o)
	f.Fuzz(func(t *testing.T, sql string) {
		if rows, err := read(t, d, sql); strings.Contains(rows, "hidden") && !strings.Contains(sql, "hidden") {
			t.Errorf("%s: got %s, %v", sql, rows, err)
		}
	})
}
