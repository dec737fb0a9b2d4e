package dbserver

import (
	"database/sql/driver"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modernc.org/sqlite"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
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

const corpora = "testdata/corpus/"

// attacked makes the database that the corpora of SQLite are against.
func attacked(t testing.TB) (file, dir string) {
	t.Helper()
	schema, err := os.ReadFile(corpora + "sqlite-attacked.sql")
	if err != nil {
		t.Fatal(err)
	}
	file = newDatabase(t, string(schema))
	return file, filepath.Dir(file)
}

// TestAttacksChangeNothing runs the attacks through the tool. That each is
// refused by the engine for the reason it should be is a test of the engine.
func TestAttacksChangeNothing(t *testing.T) {
	file, dir := attacked(t)
	// One connection: what an attack changes in it, the next reader sees.
	s := serve(t, Database{DSN: file, MaxConnections: 1})
	dbtest.Attack(t, corpora+"sqlite-attack.txt", dir, func(sql string) (code, said string) {
		a := read(t, s, sql)
		return a.StructuredContent.Error.Code, string(a.structured)
	}, func() string {
		return rowsJSON(t, read(t, s, "SELECT count(*), (SELECT count(*) FROM sqlite_temp_schema) FROM users"))
	})
}

func TestReadingIsAllowed(t *testing.T) {
	file, dir := attacked(t)
	s := serve(t, Database{DSN: file, MaxConnections: 1})
	dbtest.Allow(t, corpora+"sqlite-allow.txt", dir, func(sql string) (rows, refused string) {
		a := read(t, s, sql)
		if a.IsError {
			return "", string(a.structured)
		}
		return rowsJSON(t, a), ""
	})
	for _, query := range []string{ // as deep as a statement may be
		"SELECT " + strings.TrimSuffix(strings.Repeat("0 OR ", 150), "OR "),
		strings.TrimSuffix(strings.Repeat("SELECT 1 UNION ", 150), "UNION "),
	} {
		if a := read(t, s, query); a.IsError {
			t.Errorf("%s was refused: %s", query, a.structured)
		}
	}
}

// TestVirtualTablesSurviveChangesOfTheSchema is about R*Tree, which prepares
// statements that write each time it is connected: at first on a connection,
// and after a change of the schema.
func TestVirtualTablesSurviveChangesOfTheSchema(t *testing.T) {
	file, _ := attacked(t)
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
	left := dbtest.Files(t, filepath.Dir(writing))
	if len(left["test.db-journal"]) == 0 {
		t.Fatal("there is no journal")
	}
	for name, data := range left {
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, read(t, s, "SELECT count(*) FROM t"), engine.Unreachable)
	wantCode(t, read(t, serve(t, Database{DSN: file}), "SELECT count(*) FROM t"), engine.Unreachable)
	if !maps.Equal(left, dbtest.Files(t, filepath.Dir(file))) {
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
