//go:build unix

package postgres

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

// allocated is how many bytes f leaves behind or throws away.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestOfManyRowsFewAreRead(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `CREATE TABLE big AS SELECT i, repeat('x', 100) AS pad FROM generate_series(1, 3000000) i; GRANT SELECT ON big TO reader`)
	d := p.reader(t)
	read(t, d, "SELECT i, pad FROM big LIMIT 1")
	for _, limit := range []int{100, 200, 1000} {
		var page result.Page
		began := time.Now()
		n := allocated(func() {
			out := result.NewWriter(result.Limits{Rows: limit, Bytes: 1 << 20, Cell: 4096}, nil)
			if err := d.Read(t.Context(), someone, engine.Statement{SQL: "SELECT i, pad FROM big"}, out); err != nil {
				t.Fatal(err)
			}
			page = out.Page()
		})
		if page.Count != limit || page.TruncatedBy != result.ByRows || n > 4<<20 {
			t.Errorf("got %d rows of %d cut by %s, with %d bytes allocated", page.Count, limit, page.TruncatedBy, n)
		}
		t.Logf("%d rows of 3 million in %v", limit, time.Since(began))
	}
	page, err := tryRead(t.Context(), d, "SELECT count(*) FROM big")
	if err != nil || string(page.Rows) != "[3000000]" {
		t.Errorf("got %s, %v", page.Rows, err)
	}
}

func TestALongValueIsNotReadIntoMemory(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `CREATE TABLE blobs (t text, b bytea, j jsonb, n int);
		INSERT INTO blobs SELECT repeat('0123456789', 10000000), convert_to(repeat('0123456789', 10000000), 'UTF8'), to_jsonb(repeat('x', 20000000)), 7;
		GRANT SELECT ON blobs TO reader`)
	d := p.reader(t, one)
	read(t, d, "SELECT n FROM blobs")
	pid := read(t, d, "SELECT pg_backend_pid()")
	var page result.Page
	n := allocated(func() {
		var err error
		if page, err = tryRead(t.Context(), d, "SELECT t, b, j, n, t FROM blobs"); err != nil {
			t.Fatal(err)
		}
	})
	if n > 64<<20 {
		t.Errorf("%d MB were allocated for a row of 420 MB", n>>20)
	}
	rows := string(page.Rows)
	if page.Cut != 4 || page.Count != 1 || !strings.Contains(rows, `{"$bytes":100000000,"base64":"MDEy`) || !strings.HasSuffix(rows[:strings.LastIndex(rows, ",7,")], `x…"`) {
		t.Errorf("got %d cut in %.100s … %.100s", page.Cut, rows, rows[len(rows)-100:])
	}
	if again := read(t, d, "SELECT pg_backend_pid()"); again != pid {
		t.Error("the connection was not kept")
	}
}

// Long rows that nobody wants are not waited for.
func TestLongRowsThatNobodyWants(t *testing.T) {
	p := newDatabase(t)
	d := p.reader(t, one)
	pid := read(t, d, "SELECT pg_backend_pid()")
	out := result.NewWriter(result.Limits{Rows: 2, Bytes: 1 << 20, Cell: 100}, nil)
	if err := d.Read(t.Context(), someone, engine.Statement{SQL: "SELECT repeat('x', 10000000) FROM generate_series(1, 100)"}, out); err != nil {
		t.Fatal(err)
	}
	if page := out.Page(); page.Count != 2 || page.TruncatedBy != result.ByRows {
		t.Errorf("got %d rows, cut by %s", page.Count, page.TruncatedBy)
	}
	if again := read(t, d, "SELECT pg_backend_pid()"); again != pid {
		t.Error("the connection was not kept")
	}
}

// An error may quote a value of any length.
func TestALongErrorIsCut(t *testing.T) {
	d := newDatabase(t).reader(t)
	told := refused(t, d, "SELECT repeat('x', 3000000)::int", engine.EngineError)
	if told == nil || len(told.Message) > 1100 {
		t.Errorf("got %d bytes", len(told.Message))
	}
	if told := refused(t, d, "SELECT repeat('x', 100000000)::int", engine.ResultTooLarge); told == nil || len(told.Message) > 1100 {
		t.Errorf("got %+v", told)
	}
	if got := read(t, d, "select 1"); got != "[[1]]" {
		t.Errorf("got %s", got)
	}
}

func TestManyColumns(t *testing.T) {
	p := newDatabase(t)
	var columns []string
	for i := range 1600 {
		columns = append(columns, fmt.Sprintf("c%d int", i))
	}
	p.Exec(t, p.database, "CREATE TABLE wide ("+strings.Join(columns, ", ")+"); INSERT INTO wide (c0, c1599) VALUES (1, 2); GRANT SELECT ON wide TO reader")
	d := p.reader(t)
	page, err := tryRead(t.Context(), d, "SELECT * FROM wide")
	if err != nil || len(page.Columns) != 1600 || page.Columns[1599].Origin != "public.wide.c1599" || !strings.HasSuffix(string(page.Rows), ",2]") {
		t.Errorf("got %d columns, %v", len(page.Columns), err)
	}
	about, err := d.Describe(t.Context(), someone, engine.Name{Table: "wide"}, 1)
	if err != nil || len(about.Columns) != 1600 {
		t.Errorf("got %v", err)
	}
	told := refused(t, d, "SELECT "+strings.TrimSuffix(strings.Repeat("1,", 1700), ","), engine.ResultTooLarge)
	if told == nil || told.EngineCode != "54011" {
		t.Errorf("got %+v", told)
	}
}

// PostgreSQL takes about a millisecond to make a table, so of the 100,000 that
// the list is for there are so many only where MCPOOL_TEST_TABLES says it.
func TestManyTables(t *testing.T) {
	n := 10_000
	if all := os.Getenv("MCPOOL_TEST_TABLES"); all != "" {
		var err error
		if n, err = strconv.Atoi(all); err != nil || n < 10_000 {
			t.Fatalf("MCPOOL_TEST_TABLES is %q", all)
		}
	}
	p := newDatabase(t)
	began := time.Now()
	p.Exec(t, p.database, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
		EXECUTE format('CREATE TABLE many_%%s (a int)', lpad(i::text, 6, '0'));
		IF i %% 500 = 0 THEN COMMIT; END IF; -- a transaction keeps a lock for each
	END LOOP; END $$`, n))
	t.Logf("making %d tables: %v", n, time.Since(began))
	d := p.reader(t)
	timed := func(what string, do func() error) {
		t.Helper()
		dbtest.Timed(t, what, 10*time.Second, 8<<20, do)
	}
	name := func(i int) string { return fmt.Sprintf("many_%06d", i) }
	list := func(what string, f engine.Filter, first string, tables int, more bool) {
		t.Helper()
		timed(what, func() error {
			got, err := d.Tables(t.Context(), someone, f)
			if err == nil && (len(got.Tables) != tables || got.More != more || got.Tables[0].Name != first) {
				t.Errorf("%s: got %d tables, %v, %.200v", what, len(got.Tables), got.More, got.Tables)
			}
			return err
		})
	}
	list("the first page", engine.Filter{Limit: 100, Detail: engine.Summary, Pattern: "many_"}, name(1), 100, true)
	for _, detail := range []engine.Detail{engine.Names, engine.Summary, engine.Full} {
		list(fmt.Sprint("a page of detail ", detail), engine.Filter{Limit: 100, Detail: detail, After: engine.Name{Schema: "public", Table: name(n / 2)}}, name(n/2+1), 100, true)
	}
	list("the last page", engine.Filter{Limit: 100, Detail: engine.Summary, Pattern: "MANY*", After: engine.Name{Schema: "public", Table: name(n - 10)}}, name(n-9), 10, false)
	list("a pattern", engine.Filter{Limit: 100, Detail: engine.Summary, Pattern: "many_00999?"}, name(9990), 10, false)
	list("kinds", engine.Filter{Limit: 100, Kinds: []string{"view"}}, "contacts", 1, false)
	timed("describe", func() error {
		got, err := d.Describe(t.Context(), someone, engine.Name{Table: name(n / 2)}, 3)
		if err == nil && (got.Name != name(n/2) || len(got.Columns) != 1) {
			t.Errorf("got %+v", got)
		}
		return err
	})
	timed("a wrong name", func() error {
		_, err := d.Describe(t.Context(), someone, engine.Name{Table: "user"}, 0)
		var told *engine.Error
		if !errors.As(err, &told) || told.Code != engine.UnknownObject {
			return err
		}
		return nil
	})
	count, after := 0, engine.Name{}
	for more := true; more; {
		page, err := d.Tables(t.Context(), someone, engine.Filter{Pattern: "many_00*", After: after, Limit: 700})
		if err != nil {
			t.Fatal(err)
		}
		count += len(page.Tables)
		after = engine.Name{Schema: "public", Table: page.Tables[len(page.Tables)-1].Name}
		more = page.More
	}
	if count != 9999 {
		t.Errorf("pages have %d tables", count)
	}
}
