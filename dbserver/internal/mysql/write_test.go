//go:build unix

package mysql

import (
	"errors"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

// writable opens the sample for writing; reading is by the account for that.
func writable(t *testing.T, name string) (*Database, *dbtest.MariaDBServer) {
	t.Helper()
	s := dbtest.MariaDB(t)
	reader, root := sample(t, s, name)
	o := options(reader)
	o.Write, o.WriteDSN = true, root
	return open(t, o), s
}

func write(t *testing.T, d *Database, sql string, w engine.Write, params ...any) (engine.Written, error) {
	t.Helper()
	return d.Write(t.Context(), who, engine.Statement{SQL: sql, Params: params}, w, result.NewWriter(limits(), nil))
}

func TestPreviewAndCommit(t *testing.T) {
	d, _ := writable(t, "written")
	const update = "UPDATE customers SET name = ? WHERE id < ?"
	got, err := write(t, d, update, engine.Write{}, "New", number64("3"))
	if want := (engine.Written{Class: "update", Affected: 2}); err != nil || got != want {
		t.Errorf("preview: got %+v, %v", got, err)
	}
	if rows := mustRead(t, d, "SELECT name FROM customers WHERE id = 1"); rows != `[["Ada"]]` {
		t.Errorf("after the preview there is %s", rows)
	}
	if got, err = write(t, d, update, engine.Write{Commit: true}, "New", number64("3")); err != nil || got.Affected != 2 {
		t.Errorf("commit: got %+v, %v", got, err)
	}
	if rows := mustRead(t, d, "SELECT name FROM customers WHERE id < 3"); rows != `[["New"],["New"]]` {
		t.Errorf("after the commit there is %s", rows)
	}
	for sql, class := range map[string]string{
		"INSERT INTO customers (name) VALUES ('a'), ('b')":                            "insert",
		"REPLACE INTO customers (id, name) VALUES (77, 'a'), (78, 'b')":               "insert",
		"DELETE FROM orders WHERE customer = 1":                                       "delete",
		"DELETE o FROM orders o JOIN customers c ON c.id = o.customer WHERE c.id = 1": "delete",
	} {
		if got, err := write(t, d, sql, engine.Write{}); err != nil || got != (engine.Written{Class: class, Affected: 2}) {
			t.Errorf("%s: got %+v, %v", sql, got, err)
		}
	}
	if rows := mustRead(t, d, "SELECT (SELECT COUNT(*) FROM customers), (SELECT COUNT(*) FROM orders)"); rows != "[[3,3]]" {
		t.Errorf("after the previews there are %s", rows)
	}
}

func TestWritesThatAreRefused(t *testing.T) {
	d, s := writable(t, "refused")
	before := s.Exec(t, "refused", "CHECKSUM TABLE customers, orders, untransacted EXTENDED")
	strict := engine.Write{Commit: true, RequireWhere: true, MaxRows: 1}
	for sql, want := range map[string]string{
		"UPDATE customers SET name = 'x'":                  engine.AccessDenied,
		"DELETE FROM orders":                               engine.AccessDenied,
		"DELETE FROM orders WHERE 1":                       engine.AccessDenied,
		"DELETE FROM orders WHERE 1 = 1 OR 'a' <> 'b'":     engine.AccessDenied,
		"UPDATE customers SET name = 'x' WHERE id > 0":     engine.AffectedLimit,
		"DELETE FROM untransacted WHERE n = 1":             engine.AffectedLimit,
		"CREATE TABLE t2 (a INT)":                          engine.AccessDenied,
		"DROP TABLE orders":                                engine.AccessDenied,
		"TRUNCATE orders":                                  engine.AccessDenied,
		"SELECT 1":                                         engine.ReadOnly,
		"SET GLOBAL read_only = 0":                         engine.ReadOnly,
		"GRANT ALL ON *.* TO x":                            engine.ReadOnly,
		"LOAD DATA INFILE '/etc/passwd' INTO TABLE orders": engine.ReadOnly,
		"COMMIT":   engine.ReadOnly,
		"CALL p()": engine.ReadOnly,
		"INSERT INTO customers (name) VALUES ('a'); DROP TABLE orders":                                    engine.MultiStatement,
		"INSERT INTO customers (name) VALUES (LOAD_FILE('/etc/passwd'))":                                  engine.FunctionDenied,
		"INSERT INTO customers (id, name) VALUES (1, 'x') ON DUPLICATE KEY UPDATE name = LOAD_FILE('/x')": engine.FunctionDenied,
		"INSERT INTO customers SET name = LOAD_FILE('/x')":                                                engine.FunctionDenied,
		"INSERT INTO customers (name) SELECT LOAD_FILE('/x')":                                             engine.FunctionDenied,
		"DELETE FROM customers WHERE id = 1 ORDER BY LOAD_FILE('/x') LIMIT 1":                             engine.FunctionDenied,
		"DELETE c FROM customers c JOIN orders o ON LOAD_FILE('/x') WHERE c.id = 1":                       engine.FunctionDenied,
		"DELETE FROM mysql.global_priv WHERE user = 'x'":                                                  engine.AccessDenied,
		"UPDATE customers SET name = SLEEP(10) WHERE id = 1":                                              engine.FunctionDenied,
		"INSERT INTO customers (name) /*! VALUES ('x') */":                                                engine.ReadOnly,
		"INSERT INTO customers (name) SELECT name FROM customers FOR UPDATE":                              engine.ReadOnly,
		"UPDATE customers SET name = (@x := 1) WHERE id = 1":                                              engine.ReadOnly,
	} {
		if got, err := write(t, d, sql, strict); codeOf(err) != want {
			t.Errorf("%s: got %+v, %v, want %s", sql, got, err, want)
		}
	}
	if after := s.Exec(t, "refused", "CHECKSUM TABLE customers, orders, untransacted EXTENDED"); after != before {
		t.Errorf("got\n%s, want\n%s", after, before)
	}
	o := options(s.Root("refused"))
	o.AllowUnsafeRole = true
	if _, err := write(t, open(t, o), "DELETE FROM orders WHERE id = 1", engine.Write{Commit: true}); codeOf(err) != engine.ReadOnly {
		t.Errorf("not open for writing: %v", err)
	}
}

func TestWhatCannotBeRolledBackIsNotPreviewed(t *testing.T) {
	d, s := writable(t, "uncertain")
	s.Exec(t, "uncertain", `
CREATE TRIGGER noted AFTER INSERT ON customers FOR EACH ROW INSERT INTO untransacted VALUES (NEW.id, 'noted')`)
	before := s.Exec(t, "uncertain", "CHECKSUM TABLE untransacted EXTENDED")
	for sql, class := range map[string]string{
		"DELETE FROM untransacted WHERE n = 1":                           "delete",
		"INSERT INTO customers (name) VALUES ('x')":                      "insert", // by its trigger
		"UPDATE orders o, untransacted u SET u.t = 'x' WHERE o.id = u.n": "update",
		"CREATE TABLE t2 (a INT)":                                        "ddl",
	} {
		got, err := write(t, d, sql, engine.Write{DDL: true})
		if err != nil || got != (engine.Written{Class: class, Uncertain: true}) {
			t.Errorf("%s: got %+v, %v", sql, got, err)
		}
	}
	if after := s.Exec(t, "uncertain", "CHECKSUM TABLE untransacted EXTENDED"); after != before {
		t.Errorf("got\n%s, want\n%s", after, before)
	}
	if got := s.Exec(t, "uncertain", "SHOW TABLES LIKE 't2'"); got != "" {
		t.Error("the table was made")
	}
}

func TestSchemaChanges(t *testing.T) {
	d, s := writable(t, "ddl")
	w := engine.Write{Commit: true, DDL: true, RequireWhere: true, MaxRows: 1}
	for _, sql := range []string{
		"CREATE TABLE t2 (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(10) NOT NULL DEFAULT 'x', b INT, c INT, FOREIGN KEY (c) REFERENCES t2 (id), KEY (a)) ENGINE=InnoDB COMMENT='ours'",
		"CREATE TABLE IF NOT EXISTS t3 LIKE customers",
		"ALTER TABLE t2 ADD COLUMN d DATETIME DEFAULT CURRENT_TIMESTAMP, DROP COLUMN a, MODIFY b BIGINT",
		"CREATE INDEX by_d ON t2 (d)", "DROP INDEX by_d ON t2", "CREATE OR REPLACE VIEW v2 AS SELECT id FROM t2",
		"RENAME TABLE t3 TO t4", "TRUNCATE t4", "DROP TABLE t4",
	} {
		if got, err := write(t, d, sql, w); err != nil || got.Class != "ddl" || got.Uncertain {
			t.Errorf("%s: got %+v, %v", sql, got, err)
		}
	}
	if got := s.Exec(t, "ddl", "SELECT GROUP_CONCAT(column_name ORDER BY ordinal_position) FROM information_schema.columns WHERE table_schema='ddl' AND table_name='t2'"); got != "id,b,c,d\n" {
		t.Errorf("got %s", got)
	}
	// The cap is of statements that can be rolled back: these are done by now, and
	// how many rows they have touched is no reason to say that they are not.
	for _, sql := range []string{"CREATE TABLE t5 AS SELECT * FROM orders", "ALTER TABLE t5 MODIFY total VARCHAR(50)"} {
		if got, err := write(t, d, sql, w); err != nil || got.Affected != 3 {
			t.Errorf("%s: got %+v, %v", sql, got, err)
		}
	}
	for _, sql := range []string{
		"CREATE TABLE x (a INT) DATA DIRECTORY='/tmp'", "CREATE TABLE x (a INT) ENGINE=CONNECT", "CREATE TABLE x (a INT) ENGINE=FEDERATED CONNECTION='mysql://h/db/t'",
		"CREATE TABLE x (a INT) ENGINE=MERGE UNION=(customers)", "ALTER TABLE t2 ENGINE=MyISAM", "ALTER TABLE t2 DISCARD TABLESPACE",
		"CREATE DEFINER=root@'%' VIEW v AS SELECT 1", "CREATE VIEW v AS SELECT * FROM mysql.global_priv", "CREATE TABLE x AS SELECT * FROM mysql.global_priv",
		"CREATE VIEW v AS SELECT LOAD_FILE('/etc/passwd')", "CREATE TABLE x AS SELECT LOAD_FILE('/etc/passwd') AS f", "CREATE TABLE x (a TEXT DEFAULT (LOAD_FILE('/x')))",
		"CREATE DATABASE evil", "DROP DATABASE ddl", "CREATE USER x", "CREATE TRIGGER g BEFORE INSERT ON t2 FOR EACH ROW SET NEW.c = 1",
		"CREATE TABLE x (a INT) PARTITION BY HASH (a) PARTITIONS 4",
	} {
		if got, err := write(t, d, sql, w); err == nil {
			t.Errorf("%s: got %+v", sql, got)
		}
	}
}

func TestWriteErrorsAreOfTheEngine(t *testing.T) {
	d, _ := writable(t, "write_errors")
	for sql, want := range map[string]string{
		"UPDATE custmers SET name = 'x' WHERE id = 1":          engine.UnknownObject,
		"INSERT INTO customers (nme) VALUES ('x')":             engine.UnknownObject,
		"INSERT INTO customers (id, name) VALUES (1, 'x')":     engine.EngineError,
		"INSERT INTO orders (customer, total) VALUES (999, 1)": engine.EngineError,
		"INSERT INTO customers (name) VALUES (NULL)":           engine.EngineError,
	} {
		_, err := write(t, d, sql, engine.Write{Commit: true})
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != want || e.EngineCode == "" {
			t.Errorf("%s: got %v, want %s", sql, err, want)
		}
	}
}
