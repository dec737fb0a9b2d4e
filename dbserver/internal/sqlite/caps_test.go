package sqlite

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

// manyTables is a database of 100,000 tables and a few others. Each CREATE TABLE
// looks at all tables there are, so their entries are written into the schema
// as they would be; all have the page of the first, which is empty.
func manyTables(t testing.TB) string {
	t.Helper()
	if raced || testing.Short() {
		t.Skip("too slow with the race detector")
	}
	return newDatabase(t, `
		CREATE TABLE t000000 (id INTEGER PRIMARY KEY, name TEXT);
		CREATE VIEW v AS SELECT 1; CREATE VIRTUAL TABLE f USING fts5(a); CREATE TABLE f_x (a); CREATE TABLE child (id INTEGER, t INT REFERENCES t000007);
		PRAGMA writable_schema = ON;
		WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
		INSERT INTO sqlite_schema SELECT type, printf('t%06d', i), printf('t%06d', i), rootpage, replace(sql, 't000000', printf('t%06d', i))
		FROM n, sqlite_schema WHERE name = 't000000';`)
}

func TestManyTables(t *testing.T) {
	d := newEngine(t, engine.Options{DSN: manyTables(t)})
	if _, err := rows(t, d, "SELECT 1"); err != nil { // reads the schema
		t.Fatal(err)
	}
	timed := func(what string, do func() error) {
		t.Helper()
		dbtest.Timed(t, what, 10*time.Second, 64<<20, do)
	}
	var list engine.Tables
	for _, detail := range []engine.Detail{engine.Names, engine.Summary, engine.Full} {
		timed(fmt.Sprint("a page of detail ", detail), func() (err error) {
			list, err = d.Tables(t.Context(), engine.Caller{}, engine.Filter{Limit: 100, After: engine.Name{Table: "t050000"}, Detail: detail})
			return err
		})
		if len(list.Tables) != 100 || !list.More || list.Tables[0].Name != "t050001" || list.Tables[99].Name != "t050100" {
			t.Errorf("detail %d: got %d tables, %+v", detail, len(list.Tables), list.Tables)
		}
	}
	timed("a pattern", func() (err error) {
		list, err = d.Tables(t.Context(), engine.Caller{}, engine.Filter{Limit: 100, Pattern: "T09999?"})
		return err
	})
	if len(list.Tables) != 10 || list.More {
		t.Errorf("got %+v", list)
	}
	timed("kinds", func() (err error) {
		list, err = d.Tables(t.Context(), engine.Caller{}, engine.Filter{Limit: 100, Kinds: []string{"view", "virtual"}})
		return err
	})
	if len(list.Tables) != 2 || list.Tables[0].Name != "f" || list.Tables[1].Name != "v" {
		t.Errorf("got %+v", list)
	}
	var told *engine.Description
	timed("describe", func() (err error) {
		told, err = d.Describe(t.Context(), engine.Caller{}, engine.Name{Table: "T000007"}, 3)
		return err
	})
	if told.Name != "t000007" || len(told.ReferencedBy) != 1 {
		t.Errorf("got %+v", told)
	}
	timed("an unknown table", func() error {
		_, err := rows(t, d, "SELECT * FROM t0")
		if code(err) != engine.UnknownObject {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	timed("an unknown column", func() error {
		_, err := rows(t, d, "SELECT nam FROM t000001")
		if code(err) != engine.UnknownObject {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
}

func TestManyColumns(t *testing.T) {
	var names, values []string
	for i := range 2000 { // as many as a table can have (https://www.sqlite.org/limits.html)
		names = append(names, fmt.Sprintf("c%04d TEXT CHECK (c%04d <> '')", i, i))
		values = append(values, fmt.Sprintf("'v%d'", i))
	}
	file := newDatabase(t, "CREATE TABLE wide ("+strings.Join(names, ",")+"); INSERT INTO wide VALUES ("+strings.Join(values, ",")+")")
	d := newEngine(t, engine.Options{DSN: file})
	start := time.Now()
	told, err := d.Describe(t.Context(), engine.Caller{}, engine.Name{Table: "wide"}, 3)
	if err != nil || len(told.Columns) != 2000 || len(told.Checks) != 2000 || told.Columns[1999].Samples[0] != "v1999" {
		t.Fatalf("got %+v, %v", told, err)
	}
	t.Logf("describe: %v", time.Since(start))
	if _, err := rows(t, d, "SELECT * FROM wide"); code(err) != engine.ResultTooLarge {
		t.Errorf("got %v", err)
	}
	if got, err := rows(t, d, "SELECT c1999 FROM wide"); got != `[["v1999"]]` {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := rows(t, d, "SELECT "+strings.Repeat("1,", 2999)+"1"); code(err) != engine.SyntaxError { // beyond SQLite's own limit
		t.Errorf("got %v", err)
	}
	masked := newEngine(t, engine.Options{DSN: file, Policy: engine.Policy{Masks: []engine.Mask{{Columns: []string{"c1999"}, With: engine.WithPartial}}}})
	if got, err := rows(t, masked, "SELECT c1998, c1999 FROM wide"); got != `[["v1998","v***"]]` {
		t.Errorf("got %s, %v", got, err)
	}
}

// memory is how many bytes do takes up at most, on top of what there was: of
// Go's heap, sampled as rows come. SQLite's own memory is bounded by its cache
// and by the limits of values.
func memory(do func(sample func())) uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, uint64(0)
	do(func() {
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	})
	if most < before {
		return 0
	}
	return most - before
}

func TestManyRows(t *testing.T) {
	if raced {
		t.Skip("too slow with the race detector")
	}
	const all = 3_000_000
	file := newDatabase(t, fmt.Sprintf(`CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT);
		WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO t SELECT i, 'some text of a row ' || i FROM n`, all))
	d := newEngine(t, engine.Options{DSN: file})
	start := time.Now()
	if got, err := rows(t, d, "SELECT * FROM t ORDER BY id LIMIT 1"); err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	out := result.NewWriter(result.Limits{Rows: 100, Bytes: 64 << 10, Cell: 4 << 10}, nil)
	if err := d.Read(t.Context(), engine.Caller{}, engine.Statement{SQL: "SELECT * FROM t"}, out); err != nil || out.Page().Count != 100 || out.Page().TruncatedBy != result.ByRows {
		t.Errorf("got %d rows, truncated by %s, %v", out.Page().Count, out.Page().TruncatedBy, err)
	}
	t.Logf("the first 100 of %d rows: %v", all, time.Since(start))
	n := 0
	start = time.Now()
	used := memory(func(sample func()) {
		out := result.NewWriter(result.Limits{Rows: 100, Bytes: 64 << 10, Cell: 4 << 10}, func(row, text []byte) bool {
			if n++; n%100_000 == 0 {
				sample()
			}
			return true
		})
		if err := d.Read(t.Context(), engine.Caller{}, engine.Statement{SQL: "SELECT * FROM t"}, out); err != nil {
			t.Error(err)
		}
	})
	t.Logf("all rows: %v, %d KiB", time.Since(start), used>>10)
	if n != all-100 {
		t.Errorf("%d rows were spilled", n)
	}
	if used > 8<<20 {
		t.Errorf("%d bytes were used", used)
	}
}

// TestHugeValues is about values of 100 MB: they are not read, what is asked
// about them is, and they do not take up memory.
func TestHugeValues(t *testing.T) {
	file := newDatabase(t, "CREATE TABLE t (id INTEGER, b BLOB, x TEXT); INSERT INTO t VALUES (1, zeroblob(100000000), 'x'); INSERT INTO t VALUES (2, NULL, 'y')")
	d := newEngine(t, engine.Options{DSN: file})
	used := memory(func(sample func()) {
		for sql, want := range map[string]string{
			"SELECT id, length(b), typeof(b), x FROM t WHERE id = 1": `[[1,100000000,"blob","x"]]`,
			"SELECT x FROM t WHERE b IS NULL":                        `[["y"]]`,
		} {
			if got, err := rows(t, d, sql); got != want {
				t.Errorf("%s: got %s, %v", sql, got, err)
			}
			sample()
		}
		for _, sql := range []string{"SELECT * FROM t", "SELECT substr(b, 1, 10) FROM t", "SELECT id FROM t ORDER BY b", "SELECT hex(b) FROM t"} {
			if _, err := rows(t, d, sql); code(err) != engine.ResultTooLarge {
				t.Errorf("%s: got %v", sql, err)
			}
			sample()
		}
	})
	if used > 8<<20 {
		t.Errorf("%d bytes were used", used)
	}
	told, err := d.Describe(t.Context(), engine.Caller{}, engine.Name{Table: "t"}, 2)
	if err != nil || len(told.Columns[2].Samples) != 2 {
		t.Errorf("got %+v, %v", told, err)
	}
}

func TestOddResults(t *testing.T) {
	d := newEngine(t, engine.Options{DSN: newDatabase(t, "CREATE TABLE t (a, b)")})
	for sql, want := range map[string]string{
		"SELECT 1 AS x, 2 AS x, 3 AS X, 4 AS \"\"":           "[[1,2,3,4]]",
		"SELECT * FROM t":                                    "[]",
		"SELECT a.*, b.* FROM t a, t b":                      "[]",
		"SELECT * FROM (SELECT 1 AS x) a, (SELECT 2 AS x) b": "[[1,2]]",
	} {
		if got, err := rows(t, d, sql); err != nil || got != want {
			t.Errorf("%s: got %s, %v", sql, got, err)
		}
	}
}
