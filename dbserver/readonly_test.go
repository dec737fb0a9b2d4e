package dbserver

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modernc.org/sqlite"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// execute runs SQL on a file as another program would.
func execute(t testing.TB, file, sql string) {
	t.Helper()
	conn, err := (&sqlite.Driver{}).Open("file:" + file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.(driver.ExecerContext).ExecContext(t.Context(), sql, nil); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

func newDatabase(t testing.TB, sql string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "test.db")
	execute(t, file, sql)
	return file
}

const attacked = `
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT);
INSERT INTO users VALUES (1, 'Ada', 'ada@example.com'), (2, 'Bob', NULL);
CREATE TABLE log (line TEXT);
CREATE INDEX users_name ON users (name);
CREATE VIEW names AS SELECT name FROM users;
CREATE TRIGGER names_delete INSTEAD OF DELETE ON names BEGIN DELETE FROM users WHERE name = old.name; END;
CREATE VIRTUAL TABLE docs USING fts5(body);
INSERT INTO docs VALUES ('hello world'), ('goodbye');
CREATE VIRTUAL TABLE boxes USING rtree(id, x1, x2);
INSERT INTO boxes VALUES (1, 0.0, 1.0), (2, 5.0, 6.0);
PRAGMA user_version = 7;`

// attacks are statements that change something, or would if they could. %s is
// a directory.
var attacks = []string{
	// plain
	"INSERT INTO users VALUES (3, 'Eve', NULL)",
	"INSERT OR REPLACE INTO users VALUES (1, 'Eve', NULL)",
	"REPLACE INTO users VALUES (1, 'Eve', NULL)",
	"INSERT INTO users SELECT * FROM users WHERE 0",
	"INSERT INTO users VALUES (1, 'Eve', NULL) ON CONFLICT DO UPDATE SET name = 'Eve'",
	"UPDATE users SET name = 'Eve'",
	"DELETE FROM users",
	"DELETE FROM users WHERE 0",
	"DROP TABLE users", "DROP TABLE IF EXISTS nothing", "DROP INDEX users_name", "DROP VIEW names", "DROP TRIGGER names_delete",
	"CREATE TABLE x (a)", "CREATE TABLE x AS SELECT * FROM users", "CREATE INDEX x ON users (email)",
	"CREATE UNIQUE INDEX x ON users (lower(email))", "CREATE VIEW x AS SELECT 1",
	"CREATE TRIGGER x AFTER INSERT ON users BEGIN SELECT 1; END", "CREATE VIRTUAL TABLE x USING fts5(a)",
	"ALTER TABLE users ADD COLUMN x", "ALTER TABLE users RENAME TO x", "ALTER TABLE users RENAME COLUMN name TO x", "ALTER TABLE users DROP COLUMN email",
	"ANALYZE", "ANALYZE users", "REINDEX", "REINDEX users",
	// hidden
	"/* SELECT */ DELETE FROM users", "-- SELECT\nDELETE FROM users", " \t\r\n\f;; DELETE FROM users", "\ufeffDELETE FROM users",
	"WITH x AS (SELECT 1) DELETE FROM users",
	"WITH x AS (SELECT 1 AS id) UPDATE users SET name = 'Eve' FROM x WHERE users.id = x.id",
	"WITH RECURSIVE x(i) AS (VALUES (1)) INSERT INTO users (name) SELECT i FROM x",
	"DELETE FROM users RETURNING *", "INSERT INTO users (name) VALUES ('Eve') RETURNING id", "UPDATE users SET name = 'Eve' RETURNING *",
	"SELECT * FROM (DELETE FROM users RETURNING *)", "WITH x AS (DELETE FROM users RETURNING *) SELECT * FROM x",
	"EXPLAIN DELETE FROM users", "EXPLAIN QUERY PLAN INSERT INTO users VALUES (3, 'Eve', NULL)", "EXPLAIN DROP TABLE users", "EXPLAIN ANALYZE",
	"DELETE FROM names WHERE name = 'Ada'",
	// several at once
	"SELECT 1; DELETE FROM users", "SELECT 1;DELETE FROM users;", "DELETE FROM users; SELECT 1", "SELECT 1;;\n-- x\nDROP TABLE users",
	"SELECT ';'; DROP TABLE users", "SELECT 1 /* ; */; DROP TABLE users", "BEGIN; DELETE FROM users; COMMIT", "SELECT 1; PRAGMA query_only = OFF",
	"COMMIT; DROP TABLE users", "SELECT \"a;b\" FROM users; DELETE FROM users", "SELECT [;]; DELETE FROM users", "SELECT `;`; DELETE FROM users",
	// out of the statement that dates are read through
	"SELECT 1) SELECT 1; DELETE FROM users; --", "SELECT 1 AS d), x AS (SELECT 1",
	// transactions
	"BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "COMMIT", "END", "ROLLBACK", "SAVEPOINT x", "RELEASE x", "ROLLBACK TO x",
	// other files
	"ATTACH '%s/x.db' AS x", "ATTACH 'file:%s/x.db?mode=rwc' AS x", "ATTACH ':memory:' AS x", "ATTACH DATABASE '' AS x", "DETACH main", "DETACH temp",
	"VACUUM", "VACUUM main", "VACUUM INTO '%s/x.db'", "VACUUM main INTO 'file:%s/x.db?mode=rwc'",
	// temporary objects
	"CREATE TEMP TABLE x (a)", "CREATE TEMP TABLE x AS SELECT * FROM users", "CREATE TEMP VIEW x AS SELECT 1", "CREATE TABLE temp.x (a)",
	"CREATE TEMP TRIGGER x AFTER INSERT ON users BEGIN SELECT 1; END", "CREATE TEMP TABLE users (id, name, email)",
	"INSERT INTO temp.sqlite_schema VALUES ('table', 'x', 'x', 2, 'CREATE TABLE x(a)')",
	// pragmas
	"PRAGMA query_only = OFF", "PRAGMA query_only=0", "PRAGMA query_only(0)", "PRAGMA query_only=''", "PRAGMA query_only", "PRAGMA main.query_only = 0",
	"PRAGMA writable_schema = ON", "PRAGMA writable_schema = RESET", "PRAGMA writable_schema=''", "PRAGMA trusted_schema = ON", "PRAGMA trusted_schema=''",
	"PRAGMA journal_mode = WAL", "PRAGMA journal_mode = OFF", "PRAGMA journal_mode", "PRAGMA locking_mode = EXCLUSIVE", "PRAGMA synchronous = OFF",
	"PRAGMA user_version = 8", "PRAGMA user_version=''", "PRAGMA application_id = 1", "PRAGMA schema_version = 1", "PRAGMA auto_vacuum = 1", "PRAGMA incremental_vacuum",
	"PRAGMA wal_checkpoint", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA optimize", "PRAGMA optimize(0xffff)", "PRAGMA shrink_memory",
	"PRAGMA foreign_keys = ON", "PRAGMA foreign_keys=''", "PRAGMA ignore_check_constraints = ON", "PRAGMA encoding = 'UTF-16'", "PRAGMA page_size = 8192",
	"PRAGMA cache_size = 1000000", "PRAGMA mmap_size = 1000000000", "PRAGMA temp_store = MEMORY", "PRAGMA temp_store_directory = '%s'",
	"PRAGMA data_store_directory = '%s'", "PRAGMA busy_timeout = 1000000", "PRAGMA max_page_count = 1", "PRAGMA secure_delete = ON", "PRAGMA cell_size_check = OFF",
	"PRAGMA hard_heap_limit = 1", "PRAGMA soft_heap_limit = 1", "PRAGMA threads = 8", "PRAGMA recursive_triggers = OFF", "PRAGMA case_sensitive_like = ON",
	"PRAGMA page_count = 1", "PRAGMA integrity_check", "PRAGMA lock_proxy_file = '%s/x'", "PRAGMA vdbe_trace = ON", "PRAGMA parser_trace = ON",
	"SELECT * FROM pragma_query_only(0)", "SELECT * FROM pragma_journal_mode('main')", "SELECT * FROM pragma_user_version", "SELECT * FROM pragma_optimize",
	"SELECT 1 FROM pragma_wal_checkpoint('truncate')", "SELECT * FROM pragma_writable_schema",
	// functions
	"SELECT load_extension('%s/x.so')", "SELECT load_extension('%s/x.so', 'init')", "SELECT fts3_tokenizer('x', x'0000000000000000')", "SELECT fts3_tokenizer('simple')",
	"SELECT writefile('%s/x', 'x')", "SELECT readfile('/etc/passwd')", "SELECT edit('x', 'touch %s/x')", "SELECT name FROM users ORDER BY load_extension('x')",
	"SELECT sum(length(randomblob(500000000))) FROM users", "SELECT quote(zeroblob(500000000))",
	// virtual tables and what is behind them
	"INSERT INTO docs VALUES ('x')", "DELETE FROM docs", "INSERT INTO docs(docs) VALUES ('rebuild')", "INSERT INTO docs(docs) VALUES ('optimize')",
	"INSERT INTO docs(docs, rank) VALUES ('automerge', 8)", "UPDATE docs_data SET block = x'00'", "DELETE FROM docs_content", "DROP TABLE docs_config",
	"INSERT INTO boxes VALUES (3, 0.0, 1.0)", "UPDATE boxes_node SET data = x'00'", "INSERT INTO sqlite_dbpage VALUES (1, zeroblob(4096))",
	"UPDATE sqlite_dbpage SET data = x'00' WHERE pgno = 2", "DELETE FROM dbstat",
	// the schema itself
	"UPDATE sqlite_schema SET sql = 'CREATE TABLE users(x)'", "DELETE FROM sqlite_master", "INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 2, 'CREATE TABLE x(a)')",
	"UPDATE sqlite_sequence SET seq = 1", "DELETE FROM sqlite_stat1", "UPDATE main.sqlite_schema SET rootpage = 2",
	// what other engines do
	"COPY users TO '/tmp/x'", "SELECT * INTO x FROM users", "CALL x()", "DO $$ BEGIN END $$", "SET x = 1", "TRUNCATE users", "GRANT ALL ON users TO x",
	"/*!50000 DELETE FROM users */", ".shell touch %s/x", "LOAD DATA INFILE '/etc/passwd' INTO TABLE users",
}

// snapshot is the content of every file of a directory.
func snapshot(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = data
	}
	return files
}

func sameFiles(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for name, data := range a {
		if other, ok := b[name]; !ok || !bytes.Equal(data, other) {
			return false
		}
	}
	return true
}

func TestAttacksChangeNothing(t *testing.T) {
	file := newDatabase(t, attacked)
	dir := filepath.Dir(file)
	before := snapshot(t, dir)
	// One connection: what an attack changes in it, the next reader sees.
	s := serve(t, Database{DSN: file, MaxConnections: 1})
	allowed := map[string]bool{engine.ReadOnly: true, engine.FunctionDenied: true, engine.MultiStatement: true, engine.SyntaxError: true, engine.UnknownObject: true}
	for _, attack := range attacks {
		query := strings.ReplaceAll(attack, "%s", dir)
		a := read(t, s, query)
		if code := a.StructuredContent.Error.Code; !a.IsError || !allowed[code] {
			t.Errorf("%s was not refused: %s", query, a.structured)
		}
		if !sameFiles(before, snapshot(t, dir)) {
			t.Fatalf("%s changed the files", query)
		}
		if got := rowsJSON(t, read(t, s, "SELECT count(*), (SELECT count(*) FROM sqlite_temp_schema) FROM users")); got != "[[2,0]]" {
			t.Fatalf("after %s the next reader gets %s", query, got)
		}
	}
}

func TestReadingIsAllowed(t *testing.T) {
	file := newDatabase(t, attacked)
	before := snapshot(t, filepath.Dir(file))
	s := serve(t, Database{DSN: file, MaxConnections: 1})
	for query, want := range map[string]string{
		"SELECT 1":                            "[[1]]",
		" ;; SELECT 1 ; ; -- done\n/* now */": "[[1]]",
		"select/**/1--x":                      "[[1]]",
		"SELECT ';' AS \";\" -- ; DROP":       `[[";"]]`,
		"SELECT 1 /* open":                    "[[1]]",
		"VACUUM temp INTO '/tmp/x.db'":        "[]", // which SQLite takes for nothing to do
		"VALUES (1), (2)":                     "[[1],[2]]",
		"WITH x(a) AS (SELECT 1), y AS (SELECT a + 1 AS b FROM x) SELECT a, b FROM x, y":                       "[[1,2]]",
		"WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT sum(i) FROM n": "[[5050]]",
		"SELECT name, row_number() OVER (ORDER BY id DESC), sum(id) OVER () FROM users ORDER BY id":            `[["Ada",2,3],["Bob",1,3]]`,
		"SELECT name FROM names ORDER BY 1 LIMIT 1 OFFSET 1":                                                   `[["Bob"]]`,
		"SELECT value FROM json_each('[1,\"a\",null]')":                                                        `[[1],["a"],[null]]`,
		"SELECT fullkey FROM json_tree('{\"a\":[1]}') WHERE atom IS NOT NULL":                                  `[["$.a[0]"]]`,
		"SELECT '{\"a\":{\"b\":7}}' ->> '$.a.b'":                                                               "[[7]]",
		"SELECT json_group_array(name) FROM users":                                                             `[["[\"Ada\",\"Bob\"]"]]`,
		"SELECT rowid, highlight(docs, 0, '<', '>') FROM docs WHERE docs MATCH 'hello'":                        `[[1,"<hello> world"]]`,
		"SELECT id FROM boxes WHERE x1 >= 0 AND x2 <= 2":                                                       "[[1]]",
		"SELECT name FROM pragma_table_info('users')":                                                          `[["id"],["name"],["email"]]`,
		"PRAGMA table_info(log)":                                                                               `[[0,"line","TEXT",0,null,0]]`,
		"PRAGMA index_list('users')":                                                                           `[[0,"users_name",0,"c",0]]`,
		"SELECT name FROM sqlite_schema WHERE type = 'index'":                                                  `[["users_name"]]`,
		"EXPLAIN QUERY PLAN SELECT * FROM users WHERE name = 'x'":                                              `[[3,0,62,"SEARCH users USING INDEX users_name (name=?)"]]`,
		"SELECT count(*) > 3 FROM (SELECT 1 UNION ALL SELECT 2 UNION SELECT 3 EXCEPT SELECT 4)":                "[[0]]",
		"SELECT printf('%05.1f', 2.25), upper('ß'), instr('hello', 'l'), replace('aXb', 'X', '-')":             `[["002.3","ß",3,"a-b"]]`,
		"SELECT coalesce(email, '-') FROM users GROUP BY 1 HAVING count(*) = 1 ORDER BY 1":                     `[["-"],["ada@example.com"]]`,
		"SELECT (SELECT max(id) FROM users WHERE name <= u.name) FROM users u ORDER BY id":                     "[[1],[2]]",
		"SELECT date('2024-01-31', '+1 month'), strftime('%Y', '2024-05-05')":                                  `[["2024-03-02","2024"]]`,
		"SELECT 'DELETE FROM users; DROP TABLE users' AS \"INSERT\"":                                           `[["DELETE FROM users; DROP TABLE users"]]`,
		"SELECT exp(0), sqrt(16), 7 % 3, 1 << 4, 'a' || 'b', 1 IN (1, 2), 'abc' LIKE '%B%', 'abc' GLOB 'a*'":   `[[1.0,4.0,1,16,"ab",1,1,1]]`,
		"SELECT " + strings.TrimSuffix(strings.Repeat("0 OR ", 150), "OR "):                                    "[[0]]",
		strings.TrimSuffix(strings.Repeat("SELECT 1 UNION ", 150), "UNION "):                                   "[[1]]",
	} {
		a := read(t, s, query)
		if a.IsError {
			t.Errorf("%s was refused: %s", query, a.structured)
			continue
		}
		if got := rowsJSON(t, a); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	if !sameFiles(before, snapshot(t, filepath.Dir(file))) {
		t.Error("reading changed the files")
	}
}

// TestVirtualTablesSurviveChangesOfTheSchema is about R*Tree, which prepares
// statements that write each time it is connected: at first on a connection,
// and after a change of the schema.
func TestVirtualTablesSurviveChangesOfTheSchema(t *testing.T) {
	file := newDatabase(t, attacked)
	s := serve(t, Database{DSN: file, MaxConnections: 1})
	for i := range 3 {
		a := read(t, s, "SELECT count(*) FROM boxes")
		if got := rowsJSON(t, a); got != "[[2]]" {
			t.Fatalf("round %d: %s", i, a.structured)
		}
		wantCode(t, read(t, s, "DELETE FROM boxes"), engine.ReadOnly)
		execute(t, file, fmt.Sprintf("CREATE TABLE t%d(x); CREATE VIRTUAL TABLE boxes%[1]d USING rtree(id, x1, x2); INSERT INTO boxes%[1]d VALUES (1, 2, 3)", i))
		if got := rowsJSON(t, read(t, s, fmt.Sprintf("SELECT count(*) FROM boxes%d", i))); got != "[[1]]" {
			t.Fatalf("round %d: %s", i, got)
		}
	}
}

// TestWriteAheadLogIsRead is about a database that another program writes to
// with a write-ahead log.
func TestWriteAheadLogIsRead(t *testing.T) {
	file := newDatabase(t, "PRAGMA journal_mode = WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1)")
	s := serve(t, Database{DSN: file})
	if got := rowsJSON(t, read(t, s, "SELECT x FROM t")); got != "[[1]]" {
		t.Fatal(got)
	}
	execute(t, file, "INSERT INTO t VALUES (2)")
	if got := rowsJSON(t, read(t, s, "SELECT x FROM t")); got != "[[1],[2]]" {
		t.Fatal(got)
	}
	wantCode(t, read(t, s, "DELETE FROM t"), engine.ReadOnly)
}

// TestDatabaseToRecoverIsUnreachable is about a database that another program
// left in the middle of a transaction: it cannot be read before it is rolled
// back, which is writing.
func TestDatabaseToRecoverIsUnreachable(t *testing.T) {
	file := newDatabase(t, "CREATE TABLE t(x); INSERT INTO t VALUES (1)")
	s := serve(t, Database{DSN: file})
	if a := read(t, s, "SELECT x FROM t"); a.IsError {
		t.Fatal(string(a.structured))
	}
	// The files of a writer that is in the middle of it.
	writing := newDatabase(t, "CREATE TABLE t(x); INSERT INTO t VALUES (1)")
	conn, err := (&sqlite.Driver{}).Open("file:" + writing)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.(driver.ExecerContext).ExecContext(t.Context(), "PRAGMA cache_size = 1; BEGIN IMMEDIATE;"+
		"WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO t SELECT i || '-----------------' FROM n", nil)
	if err != nil {
		t.Fatal(err)
	}
	left := snapshot(t, filepath.Dir(writing))
	if len(left["test.db-journal"]) == 0 {
		t.Fatal("there is no journal")
	}
	for name, data := range left {
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, read(t, s, "SELECT count(*) FROM t"), engine.Unreachable)
	wantCode(t, read(t, serve(t, Database{DSN: file}), "SELECT count(*) FROM t"), engine.Unreachable)
	if !sameFiles(left, snapshot(t, filepath.Dir(file))) {
		t.Error("the files were changed")
	}
	execute(t, file, "SELECT count(*) FROM t") // which recovers
	if got := rowsJSON(t, read(t, s, "SELECT count(*) FROM t")); got != "[[1]]" {
		t.Error(got)
	}
}

// TestStrangeFileNames opens files whose names mean something in a URI.
func TestStrangeFileNames(t *testing.T) {
	dir := t.TempDir()
	plain := newDatabase(t, "CREATE TABLE t(x); INSERT INTO t VALUES (7)")
	data, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a b.db", "a?mode=rwc&_pragma=query_only(0).db", "a#b.db", "100%.db", "a%41.db", "ünï.db", "'q'.db", "a&b;c.db"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := serve(t, Database{DSN: file})
		if a := read(t, s, "SELECT x FROM t"); rowsJSON(t, a) != "[[7]]" {
			t.Errorf("%s: %s", name, a.structured)
		}
		wantCode(t, read(t, s, "DELETE FROM t"), engine.ReadOnly)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 8 {
		t.Errorf("%d files are there, %v", len(entries), err)
	}
}
