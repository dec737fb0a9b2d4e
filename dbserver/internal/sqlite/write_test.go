package sqlite

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

const shop = `
	CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT UNIQUE);
	INSERT INTO users VALUES (1, 'Ada', 'a@x'), (2, 'Bob', 'b@x'), (3, 'Cyd', 'c@x');
	CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT REFERENCES users ON DELETE CASCADE);
	INSERT INTO orders SELECT value, 1 FROM json_each('[1,2,3,4,5]');
	CREATE TABLE log (line TEXT);
	CREATE TRIGGER logged AFTER UPDATE ON users BEGIN INSERT INTO log VALUES (new.name); END;
	CREATE VIEW names AS SELECT name FROM users;
	CREATE TRIGGER renamed INSTEAD OF UPDATE ON names BEGIN UPDATE users SET name = new.name WHERE name = old.name; END;
	CREATE VIRTUAL TABLE docs USING fts5(body);
	CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, x);
	CREATE TABLE secret (word TEXT); INSERT INTO secret VALUES ('w');`

// write writes, and returns the rows that came back as JSON.
func write(t testing.TB, d *Database, sql string, w engine.Write, params ...any) (engine.Written, string, error) {
	t.Helper()
	out := result.NewWriter(result.Limits{Rows: 2, Bytes: 1 << 20, Cell: 100}, nil)
	written, err := d.Write(t.Context(), engine.Caller{}, engine.Statement{SQL: sql, Params: params}, w, out)
	return written, "[" + string(out.Page().Rows) + "]", err
}

func TestWrite(t *testing.T) {
	commit := engine.Write{Commit: true}
	for _, c := range []struct {
		sql      string
		w        engine.Write
		class    string
		affected int64
		rows     string
		then     string // a query, and its rows
		want     string
	}{
		{"INSERT INTO log VALUES ('x'), ('y')", commit, "insert", 2, "[]", "SELECT count(*) FROM log", "[[2]]"},
		{"INSERT INTO log VALUES ('x')", engine.Write{}, "insert", 1, "[]", "SELECT count(*) FROM log", "[[0]]"},
		{"REPLACE INTO users VALUES (1, 'Eve', 'e@x')", commit, "insert", 1, "[]", "SELECT name FROM users WHERE id = 1", `[["Eve"]]`},
		{"INSERT INTO users VALUES (1, 'Eve', 'e@x') ON CONFLICT DO UPDATE SET name = excluded.name", commit, "insert", 1, "[]", "SELECT name FROM users WHERE id = 1", `[["Eve"]]`},
		{"UPDATE users SET name = upper(name) WHERE id < 3", commit, "update", 2, "[]", "SELECT * FROM log", `[["ADA"],["BOB"]]`},
		{"UPDATE users SET name = 'x' RETURNING id, name", commit, "update", 3, `[[1,"x"],[2,"x"]]`, "SELECT count(*) FROM users WHERE name = 'x'", "[[3]]"},
		{"WITH d AS (SELECT 3 AS id) DELETE FROM users WHERE id IN (SELECT id FROM d)", engine.Write{Commit: true, RequireWhere: true}, "delete", 1, "[]", "SELECT count(*) FROM users", "[[2]]"},
		{"DELETE FROM users WHERE id = 1", commit, "delete", 1, "[]", "SELECT count(*) FROM orders", "[[0]]"},
		{"DELETE FROM users WHERE 1=1", engine.Write{RequireWhere: true}, "delete", 3, "[]", "SELECT count(*) FROM users", "[[3]]"},
		{"DELETE FROM users", commit, "delete", 3, "[]", "SELECT count(*) FROM users", "[[0]]"},
		{"UPDATE names SET name = 'Eve' WHERE name = 'Ada'", commit, "update", 0, "[]", "SELECT name FROM users WHERE id = 1", `[["Eve"]]`},
		{"INSERT INTO docs VALUES ('hello world')", commit, "insert", 1, "[]", "SELECT body FROM docs WHERE docs MATCH 'hello'", `[["hello world"]]`},
		{"SELECT name FROM users WHERE id = 1", commit, "other", 0, `[["Ada"]]`, "SELECT 1", "[[1]]"},
		{"CREATE TABLE x AS SELECT * FROM users", engine.Write{Commit: true, DDL: true}, "ddl", 0, "[]", "SELECT count(*) FROM x", "[[3]]"},
		{"CREATE TABLE x (a)", engine.Write{DDL: true}, "ddl", 0, "[]", "SELECT count(*) FROM sqlite_schema WHERE name = 'x'", "[[0]]"},
		{"CREATE TRIGGER x AFTER UPDATE ON log BEGIN DELETE FROM counted; END", engine.Write{DDL: true, RequireWhere: true}, "ddl", 0, "[]", "SELECT count(*) FROM sqlite_schema WHERE name = 'x'", "[[0]]"},
		{"CREATE INDEX x ON users (name)", engine.Write{Commit: true, DDL: true}, "ddl", 0, "[]", "SELECT count(*) FROM sqlite_schema WHERE name = 'x'", "[[1]]"},
		{"ALTER TABLE users RENAME COLUMN email TO mail", engine.Write{Commit: true, DDL: true}, "ddl", 0, "[]", "SELECT mail FROM users WHERE id = 1", `[["a@x"]]`},
		{"ALTER TABLE users ADD COLUMN x", engine.Write{Commit: true, DDL: true}, "ddl", 0, "[]", "SELECT x FROM users WHERE id = 1", `[[null]]`},
		{"ALTER TABLE log RENAME TO lines", engine.Write{Commit: true, DDL: true}, "ddl", 0, "[]", "SELECT count(*) FROM lines", "[[0]]"},
		{"DROP TABLE log", engine.Write{Commit: true, DDL: true}, "ddl", 0, "[]", "SELECT count(*) FROM sqlite_schema WHERE name = 'log'", "[[0]]"},
		{"CREATE VIRTUAL TABLE more USING fts5(a)", engine.Write{Commit: true, DDL: true}, "ddl", 0, "[]", "SELECT count(*) FROM more", "[[0]]"},
		{"DROP TABLE docs", engine.Write{Commit: true, DDL: true}, "ddl", 0, "[]", "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'docs%'", "[[0]]"},
		{"INSERT INTO counted (x) VALUES ('x') RETURNING id", commit, "insert", 1, "[[1]]", "SELECT seq FROM sqlite_sequence", "[[1]]"},
		{"ANALYZE", engine.Write{Commit: true, DDL: true}, "ddl", 0, "[]", "SELECT count(*) > 0 FROM sqlite_stat1", "[[1]]"},
		{"REINDEX", engine.Write{Commit: true, DDL: true}, "ddl", 0, "[]", "SELECT 1", "[[1]]"},
	} {
		d := newEngine(t, engine.Options{DSN: newDatabase(t, shop), Write: true})
		written, got, err := write(t, d, c.sql, c.w)
		if err != nil || written.Class != c.class || written.Affected != c.affected || written.Uncertain || got != c.rows {
			t.Errorf("%s: got %+v, rows %s, %v", c.sql, written, got, err)
		}
		if got, err := rows(t, d, c.then); got != c.want {
			t.Errorf("after %s: got %s, %v, want %s", c.sql, got, err, c.want)
		}
	}
}

func TestWriteOfNobodyWhoListens(t *testing.T) {
	d := newEngine(t, engine.Options{DSN: newDatabase(t, shop), Write: true})
	written, err := d.Write(t.Context(), engine.Caller{}, engine.Statement{SQL: "DELETE FROM users RETURNING *"}, engine.Write{Commit: true}, nil)
	if err != nil || written.Affected != 3 {
		t.Errorf("got %+v, %v", written, err)
	}
}

func TestWriteRefuses(t *testing.T) {
	file := newDatabase(t, shop)
	dir := filepath.Dir(file)
	d := newEngine(t, engine.Options{DSN: file, Write: true})
	before := dbtest.Files(t, dir)
	for _, c := range []struct {
		sql  string
		w    engine.Write
		code string
	}{
		{"DELETE FROM users", engine.Write{RequireWhere: true}, engine.ReadOnly},
		{"UPDATE users SET name = (SELECT name FROM users WHERE id = 1)", engine.Write{RequireWhere: true}, engine.ReadOnly},
		{"WITH x AS (SELECT 1 WHERE 1) DELETE FROM users", engine.Write{RequireWhere: true}, engine.ReadOnly},
		{"UPDATE users SET name = 'WHERE' -- WHERE", engine.Write{RequireWhere: true}, engine.ReadOnly},
		{"DELETE FROM orders", engine.Write{MaxRows: 4}, engine.AffectedLimit},
		{"DELETE FROM users WHERE id = 1", engine.Write{MaxRows: 5}, engine.AffectedLimit}, // and five orders with it
		{"UPDATE users SET name = 'x' WHERE id = 1", engine.Write{MaxRows: 1}, engine.AffectedLimit},
		{"INSERT INTO log SELECT a.line FROM (VALUES (1), (2), (3)) JOIN (SELECT 'x' AS line) a", engine.Write{MaxRows: 2}, engine.AffectedLimit},
		{"CREATE TABLE x (a)", engine.Write{}, engine.ReadOnly},
		{"DROP TABLE users", engine.Write{}, engine.ReadOnly},
		{"ANALYZE", engine.Write{}, engine.ReadOnly},
		{"ALTER TABLE users ADD COLUMN x", engine.Write{}, engine.ReadOnly},
		{"CREATE TEMP TABLE x (a)", engine.Write{DDL: true}, engine.ReadOnly},
		{"CREATE TEMP VIEW users AS SELECT 1", engine.Write{DDL: true}, engine.ReadOnly},
		{"CREATE TEMP TRIGGER x AFTER INSERT ON log BEGIN DELETE FROM users; END", engine.Write{DDL: true}, engine.ReadOnly},
		{"CREATE VIRTUAL TABLE temp.x USING fts5(a)", engine.Write{DDL: true}, engine.ReadOnly},
		{"ATTACH '" + dir + "/x.db' AS x", engine.Write{DDL: true}, engine.ReadOnly},
		{"DETACH main", engine.Write{DDL: true}, engine.ReadOnly},
		{"VACUUM", engine.Write{DDL: true}, engine.EngineError},
		{"VACUUM INTO '" + dir + "/x.db'", engine.Write{DDL: true}, engine.EngineError},
		{"PRAGMA user_version = 8", engine.Write{DDL: true}, engine.ReadOnly},
		{"PRAGMA journal_mode = WAL", engine.Write{DDL: true}, engine.ReadOnly},
		{"PRAGMA foreign_keys = OFF", engine.Write{DDL: true}, engine.ReadOnly},
		{"PRAGMA writable_schema = ON", engine.Write{DDL: true}, engine.ReadOnly},
		{"PRAGMA query_only = ON", engine.Write{DDL: true}, engine.ReadOnly},
		{"UPDATE sqlite_schema SET sql = 'x' WHERE 1", engine.Write{DDL: true}, engine.SyntaxError},
		{"DELETE FROM sqlite_master", engine.Write{DDL: true}, engine.SyntaxError},
		{"INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 2, 'CREATE TABLE x(a)')", engine.Write{DDL: true}, engine.ReadOnly},
		{"UPDATE docs_data SET block = x'00' WHERE 1", engine.Write{DDL: true}, engine.SyntaxError},
		{"DROP TABLE docs_data", engine.Write{DDL: true}, engine.SyntaxError},
		{"UPDATE sqlite_dbpage SET data = x'00' WHERE pgno = 1", engine.Write{DDL: true}, engine.ReadOnly},
		{"BEGIN", engine.Write{DDL: true}, engine.ReadOnly},
		{"COMMIT", engine.Write{DDL: true}, engine.ReadOnly},
		{"ROLLBACK", engine.Write{DDL: true}, engine.ReadOnly},
		{"SAVEPOINT x", engine.Write{DDL: true}, engine.ReadOnly},
		{"DELETE FROM log; COMMIT; DELETE FROM users", engine.Write{DDL: true}, engine.MultiStatement},
		{"INSERT INTO log VALUES (load_extension('x'))", engine.Write{DDL: true}, engine.FunctionDenied},
		{"INSERT INTO log VALUES (randomblob(1))", engine.Write{DDL: true}, engine.FunctionDenied},
		{"INSERT INTO users VALUES (1, 'x', 'y')", engine.Write{}, engine.EngineError},
		{"INSERT OR ROLLBACK INTO users VALUES (1, 'x', 'y')", engine.Write{}, engine.EngineError},
		{"INSERT INTO orders VALUES (9, 99)", engine.Write{Commit: true}, engine.EngineError}, // there is no such user
		{"", engine.Write{}, engine.SyntaxError},
	} {
		c.w.Commit = true
		if written, got, err := write(t, d, c.sql, c.w); code(err) != c.code {
			t.Errorf("%s: got %+v, %s, %v, want %s", c.sql, written, got, err, c.code)
		}
		if !maps.Equal(before, dbtest.Files(t, dir)) {
			t.Fatalf("%s changed the files", c.sql)
		}
	}
	if written, _, err := write(t, d, "DELETE FROM log WHERE 0", engine.Write{Commit: true}); err != nil {
		t.Errorf("afterwards: %+v, %v", written, err)
	}
}

func TestReadOnlyDatabaseIsNotWritten(t *testing.T) {
	d := newEngine(t, engine.Options{DSN: newDatabase(t, shop)})
	if _, _, err := write(t, d, "DELETE FROM users", engine.Write{Commit: true}); code(err) != engine.ReadOnly {
		t.Errorf("got %v", err)
	}
	nowhere := filepath.Join(t.TempDir(), "x.db")
	d = newEngine(t, engine.Options{DSN: nowhere, Write: true})
	if _, _, err := write(t, d, "CREATE TABLE x (a)", engine.Write{Commit: true, DDL: true}); code(err) != engine.Unreachable {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(nowhere); err == nil {
		t.Error("the file was made")
	}
}

func TestWriteDSNIsWritten(t *testing.T) {
	read, other := newDatabase(t, shop), newDatabase(t, shop)
	d := newEngine(t, engine.Options{DSN: read, Write: true, WriteDSN: other})
	if _, _, err := write(t, d, "DELETE FROM users", engine.Write{Commit: true}); err != nil {
		t.Fatal(err)
	}
	if got, err := rows(t, d, "SELECT count(*) FROM users"); got != "[[3]]" {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := rows(t, newEngine(t, engine.Options{DSN: other}), "SELECT count(*) FROM users"); got != "[[0]]" {
		t.Errorf("got %s, %v", got, err)
	}
}

// TestPolicyHoldsForWriting is about what a statement that writes could tell of
// what is hidden: it may set a masked column, and not read it.
func TestPolicyHoldsForWriting(t *testing.T) {
	file := newDatabase(t, shop+`CREATE VIEW joined AS SELECT email FROM users FULL JOIN (SELECT 'x' AS email WHERE 0) USING (email);
		CREATE TABLE copied (email TEXT); CREATE TRIGGER copies AFTER UPDATE ON orders BEGIN INSERT INTO copied SELECT email FROM users; END;`)
	d := newEngine(t, engine.Options{DSN: file, Write: true, Policy: engine.Policy{DenyTables: []string{"secret"},
		Masks: []engine.Mask{{Columns: []string{"users.email"}, With: engine.WithNull}}}})
	before := dbtest.Files(t, filepath.Dir(file))
	all := engine.Write{Commit: true, DDL: true}
	for _, c := range []struct{ sql, code string }{
		{"UPDATE users SET name = 'x' RETURNING email", engine.ColumnMasked},
		{"DELETE FROM users RETURNING *", engine.ColumnMasked},
		{"DELETE FROM users WHERE email = 'a@x'", engine.ColumnMasked},
		{"UPDATE users SET name = email", engine.ColumnMasked},
		{"INSERT INTO log SELECT email FROM users", engine.ColumnMasked},
		{"INSERT INTO log SELECT email FROM main.users", engine.ColumnMasked},
		{"INSERT INTO copied SELECT email FROM users FULL JOIN (SELECT 1 AS email) USING (email)", engine.ColumnMasked},
		{"DELETE FROM log WHERE EXISTS (SELECT 1 FROM users NATURAL JOIN (SELECT 'a@x' AS email))", engine.ColumnMasked},
		{"WITH users AS (SELECT email FROM main.users) INSERT INTO log SELECT * FROM users", engine.ColumnMasked},
		{"INSERT INTO log SELECT * FROM joined", engine.AccessDenied},
		{"INSERT INTO log SELECT 1 FROM 'joined'", engine.AccessDenied},
		{"UPDATE orders SET user_id = 2 WHERE id = 1", engine.ColumnMasked}, // its trigger reads
		{"SELECT email FROM users", engine.ColumnMasked},
		{"INSERT INTO log SELECT word FROM secret", engine.AccessDenied},
		{"DELETE FROM secret", engine.AccessDenied},
		{"INSERT INTO secret VALUES ('x')", engine.AccessDenied},
		{"ALTER TABLE users RENAME COLUMN email TO x", engine.ReadOnly},
		{"CREATE VIEW x AS SELECT email FROM users", engine.ReadOnly},
		{"CREATE INDEX x ON users (email)", engine.ReadOnly},
		{"DROP TABLE secret", engine.AccessDenied},
	} {
		if written, got, err := write(t, d, c.sql, all); code(err) != c.code {
			t.Errorf("%s: got %+v, %s, %v, want %s", c.sql, written, got, err, c.code)
		}
		if !maps.Equal(before, dbtest.Files(t, filepath.Dir(file))) {
			t.Fatalf("%s changed the files", c.sql)
		}
	}
	for _, sql := range []string{"UPDATE users SET email = 'new@x' WHERE id = 1", "INSERT INTO users (name, email) VALUES ('Dan', 'd@x')", "DELETE FROM users WHERE id = 2 RETURNING name"} {
		if _, _, err := write(t, d, sql, all); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// TestLockedDatabaseIsToldInTime is about a database that another program
// writes to: the wait ends with LockTimeout, and with ctx.
func TestLockedDatabaseIsToldInTime(t *testing.T) {
	file := newDatabase(t, shop)
	d := newEngine(t, engine.Options{DSN: file, Write: true, LockTimeout: 50 * time.Millisecond})
	if _, _, err := write(t, d, "DELETE FROM log", engine.Write{}); err != nil {
		t.Fatal(err)
	}
	other := newEngine(t, engine.Options{DSN: file, Write: true})
	held, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = other.write.with(t.Context(), 0, func(ctx context.Context, c *conn) error {
			close(held)
			<-release
			return nil
		})
	})
	<-held
	_, _, err := write(t, d, "DELETE FROM log", engine.Write{Commit: true})
	if code(err) != engine.LockTimeout || !err.(*engine.Error).Retryable {
		t.Errorf("got %v", err)
	}
	patient := newEngine(t, engine.Options{DSN: file, Write: true, LockTimeout: time.Hour})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := fmt.Errorf("the client went away")
	time.AfterFunc(20*time.Millisecond, func() { cancel(gone) })
	end := mcptest.Within(t, time.Second)
	if _, err := patient.Write(ctx, engine.Caller{}, engine.Statement{SQL: "DELETE FROM log"}, engine.Write{}, nil); err != gone {
		t.Errorf("got %v", err)
	}
	end()
	close(release)
	wg.Wait()
	if _, _, err := write(t, d, "DELETE FROM log", engine.Write{Commit: true}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestOpeningOfALockedFileEndsInTime is about a connection that is opened while
// another program has the file for itself: nothing runs on it yet that could be
// interrupted.
func TestOpeningOfALockedFileEndsInTime(t *testing.T) {
	file := newDatabase(t, shop)
	d := newEngine(t, engine.Options{DSN: file, LockTimeout: time.Hour, Pool: engine.Pool{MaxOpen: 2}})
	err := d.read.with(t.Context(), 0, func(ctx context.Context, _ *conn) error { // has the connection that there is
		other := newEngine(t, engine.Options{DSN: file, Write: true})
		return other.write.with(ctx, 0, func(ctx context.Context, c *conn) error {
			if err := c.each(ctx, "COMMIT", nil); err != nil {
				return err
			}
			if err := c.each(ctx, "BEGIN EXCLUSIVE", nil); err != nil {
				return err
			}
			gone := fmt.Errorf("the client went away")
			impatient, cancel := context.WithTimeoutCause(ctx, 20*time.Millisecond, gone)
			defer cancel()
			err := d.Read(impatient, engine.Caller{}, engine.Statement{SQL: "SELECT 1"}, result.NewWriter(result.Limits{Rows: 1, Bytes: 100, Cell: 100}, nil))
			if err != gone {
				t.Errorf("got %v", err)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCancelledWriteLeavesNothing ends a statement that writes for ever.
func TestCancelledWriteLeavesNothing(t *testing.T) {
	file := newDatabase(t, shop)
	d := newEngine(t, engine.Options{DSN: file, Write: true, StatementTimeout: 100 * time.Millisecond})
	_, _, err := write(t, d, "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) INSERT INTO log SELECT i FROM n", engine.Write{Commit: true})
	if err != engine.ErrTimeout {
		t.Errorf("got %v", err)
	}
	for range 2 {
		if written, _, err := write(t, d, "INSERT INTO log VALUES ('x')", engine.Write{}); err != nil || written.Affected != 1 {
			t.Errorf("afterwards: %+v, %v", written, err)
		}
	}
	if got, err := rows(t, d, "SELECT count(*) FROM log"); got != "[[0]]" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestEveryRow(t *testing.T) {
	for sql, want := range map[string]bool{
		"UPDATE t SET a = 1":                                       true,
		"update t set a = 1 where b":                               false,
		"DELETE FROM t /* WHERE */":                                true,
		"DELETE FROM \"WHERE\"":                                    true,
		"DELETE FROM t WHERE 1":                                    false,
		"INSERT INTO t SELECT 1":                                   false,
		"INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1": false,
		"REPLACE INTO t VALUES (1)":                                false,
		"WITH x AS (SELECT 1 WHERE 1) UPDATE t SET a = 1":          true,
		"WITH replace AS (SELECT 1) DELETE FROM t":                 true,
		"WITH x AS (SELECT 1) REPLACE INTO t SELECT * FROM x":      false,
		"UPDATE t SET a = count(*) FILTER (WHERE 1)":               true,
		"SELECT 1": false,
		"":         false,
	} {
		if got := everyRow(sql); got != want {
			t.Errorf("%s: got %t", sql, got)
		}
	}
}
