package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modernc.org/sqlite"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

const corpora = "../../testdata/corpus/"

// attacked makes the database that the corpora are against, alone in a
// directory that is written to only by who holds the file for his own.
func attacked(t testing.TB) (file, dir string) {
	t.Helper()
	schema, err := os.ReadFile(corpora + "sqlite-attacked.sql")
	if err != nil {
		t.Fatal(err)
	}
	file = newDatabase(t, string(schema))
	return file, filepath.Dir(file)
}

// corpus reads a corpus, with the directory in its place.
func corpus(t testing.TB, name, dir string) []dbtest.Case {
	t.Helper()
	list := dbtest.Corpus(t, corpora+name)
	for i := range list {
		list[i].SQL = strings.ReplaceAll(list[i].SQL, "{dir}", dir)
	}
	return list
}

// rows reads and returns the rows as JSON.
func rows(t testing.TB, d *Database, sql string, params ...any) (string, error) {
	t.Helper()
	out := result.NewWriter(result.Limits{Rows: 1000, Bytes: 1 << 20, Cell: 4 << 10}, nil)
	err := d.Read(t.Context(), engine.Caller{}, engine.Statement{SQL: sql, Params: params}, out)
	return "[" + string(out.Page().Rows) + "]", err
}

// code is the code of an error, empty if it has none.
func code(err error) string {
	var told *engine.Error
	if errors.As(err, &told) {
		return told.Code
	}
	return ""
}

// TestAttacksChangeNothing runs the attacks as the owner of the file, who may
// write to it: what keeps it as it is are this package and SQLite.
func TestAttacksChangeNothing(t *testing.T) {
	file, dir := attacked(t)
	// One connection: what an attack changes in it, the next reader sees.
	d := newEngine(t, engine.Options{DSN: file})
	dbtest.Attack(t, corpora+"sqlite-attack.txt", dir, attacker(t, d), func() string {
		got, err := rows(t, d, `SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM docs), (SELECT count(*) FROM boxes), (SELECT count(*) FROM sqlite_temp_schema),
			(SELECT group_concat(name) FROM pragma_table_list WHERE schema <> 'main')`)
		if err != nil {
			t.Fatal(err)
		}
		return got
	})
}

// attacker runs statements for [dbtest.Attack].
func attacker(t *testing.T, d *Database) func(sql string) (code, said string) {
	return func(sql string) (string, string) {
		_, err := rows(t, d, sql)
		return code(err), fmt.Sprint(err)
	}
}

// TestEachLineHoldsAlone runs the attacks with the authorizer taken away: the
// lines behind it keep the files as they are.
func TestEachLineHoldsAlone(t *testing.T) {
	file, dir := attacked(t)
	before := dbtest.Files(t, dir)
	d := newEngine(t, engine.Options{DSN: file})
	for _, c := range corpus(t, "sqlite-attack.txt", dir) {
		if strings.Contains(strings.ToLower(c.SQL), "query_only") || strings.Contains(c.SQL, "_directory") || strings.Contains(c.SQL, "heap_limit") {
			continue // takes a line away itself, or is not of one connection
		}
		err := d.read.with(t.Context(), 0, func(ctx context.Context, conn *conn) error {
			if err := conn.Conn.(sqlite.AuthorizerRegisterer).RegisterAuthorizer(nil); err != nil {
				t.Fatal(err)
			}
			for sql := c.SQL; sql != ""; { // all of the text, as the driver would
				s, tail, err := conn.prepare(ctx, sql)
				if err != nil {
					return nil
				}
				for ok := true; ok; {
					ok, _ = s.step(ctx)
				}
				s.close()
				sql = sql[tail:]
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(before, dbtest.Files(t, dir)) {
			t.Fatalf("line %d: %s changed the files", c.Line, c.SQL)
		}
	}
}

func TestReadingIsAllowed(t *testing.T) {
	file, dir := attacked(t)
	d := newEngine(t, engine.Options{DSN: file})
	dbtest.Allow(t, corpora+"sqlite-allow.txt", dir, func(sql string) (got, refused string) {
		got, err := rows(t, d, sql)
		if err != nil {
			refused = err.Error()
		}
		return got, refused
	})
}

// FuzzReadOnly holds that whatever passes leaves the files as they are.
func FuzzReadOnly(f *testing.F) {
	file, dir := attacked(f)
	for _, name := range []string{"sqlite-attack.txt", "sqlite-allow.txt"} {
		for _, c := range corpus(f, name, "{dir}") {
			f.Add(c.SQL)
		}
	}
	before := dbtest.Files(f, dir)
	d := newEngine(f, engine.Options{DSN: file, StatementTimeout: 200_000_000})
	f.Fuzz(func(t *testing.T, sql string) {
		_, err := rows(t, d, strings.ReplaceAll(sql, "{dir}", dir))
		if !maps.Equal(before, dbtest.Files(t, dir)) {
			t.Fatalf("%q changed the files: %v", sql, err)
		}
		if got, err := rows(t, d, "SELECT count(*), (SELECT count(*) FROM sqlite_temp_schema) FROM users"); got != "[[2,0]]" {
			t.Fatalf("after %q the next reader gets %s, %v", sql, got, err)
		}
	})
}
