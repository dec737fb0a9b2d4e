package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

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

// TestAttacksByWriters runs the attacks by writing, which
// their corpus says more of.
func TestAttacksByWriters(t *testing.T) {
	schema, err := os.ReadFile(corpora + "sqlite-write-attacked.sql")
	if err != nil {
		t.Fatal(err)
	}
	file := newDatabase(t, string(schema))
	dir := filepath.Dir(file)
	open := newEngine(t, engine.Options{DSN: file, Write: true})
	hidden := newEngine(t, engine.Options{DSN: file, Write: true, Policy: engine.Policy{DenyTables: []string{"secret"}, Masks: []engine.Mask{
		{Columns: []string{"users.email", "contacts.email", "mails.email"}, With: engine.WithNull}, {Columns: []string{"ssn"}, With: engine.WithRefuse}}}})
	settings := map[string]struct {
		d *Database
		w engine.Write
	}{
		"rows":   {open, engine.Write{RequireWhere: true, MaxRows: 10}},
		"ddl":    {open, engine.Write{RequireWhere: true, MaxRows: 10, DDL: true}},
		"hidden": {hidden, engine.Write{DDL: true}},
	}
	secret := regexp.MustCompile("hidden[-0-9 ]")
	before := dbtest.Files(t, dir)
	for _, c := range corpus(t, "sqlite-write-attack.txt", dir) {
		name, want, _ := strings.Cut(c.Want, " ")
		s, ok := settings[name]
		if !ok {
			t.Fatalf("line %d: run with %q", c.Line, name)
		}
		for _, s.w.Commit = range []bool{false, true} {
			if want == "preview" && s.w.Commit {
				break
			}
			written, got, err := write(t, s.d, c.SQL, s.w)
			if code(err) != strings.TrimPrefix(want, "preview") {
				t.Errorf("line %d: %s (commit %t): got %+v, %v, want %s", c.Line, c.SQL, s.w.Commit, written, err, want)
			}
			if told := fmt.Sprint(got, err); name == "hidden" && secret.MatchString(strings.ReplaceAll(told, c.SQL, "")) {
				t.Errorf("line %d: %s: told %s", c.Line, c.SQL, told)
			}
			if !maps.Equal(before, dbtest.Files(t, dir)) {
				t.Fatalf("line %d: %s (commit %t) changed the files", c.Line, c.SQL, s.w.Commit)
			}
		}
	}
}

// FuzzPreview holds that whatever a preview runs leaves the files as they are,
// also where everything is allowed.
func FuzzPreview(f *testing.F) {
	schema, err := os.ReadFile(corpora + "sqlite-write-attacked.sql")
	if err != nil {
		f.Fatal(err)
	}
	file := newDatabase(f, string(schema))
	dir := filepath.Dir(file)
	for _, name := range []string{"sqlite-write-attack.txt", "sqlite-attack.txt"} {
		for _, c := range corpus(f, name, "{dir}") {
			f.Add(c.SQL)
		}
	}
	before := dbtest.Files(f, dir)
	d := newEngine(f, engine.Options{DSN: file, Write: true, StatementTimeout: time.Second})
	f.Fuzz(func(t *testing.T, sql string) {
		_, _, err := write(t, d, strings.ReplaceAll(sql, "{dir}", dir), engine.Write{DDL: true})
		if !maps.Equal(before, dbtest.Files(t, dir)) {
			t.Fatalf("%q changed the files: %v", sql, err)
		}
		if written, _, err := write(t, d, "DELETE FROM audited WHERE id = 1", engine.Write{}); err != nil || written.Affected != 1 {
			t.Fatalf("after %q the next writer gets %+v, %v", sql, written, err)
		}
	})
}
