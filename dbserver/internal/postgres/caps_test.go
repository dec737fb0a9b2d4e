//go:build unix

package postgres

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
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

func TestManyTables(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `DO $$ BEGIN FOR i IN 1..3000 LOOP EXECUTE format('CREATE TABLE many_%s (a int)', lpad(i::text, 5, '0')); END LOOP; END $$`)
	d := p.reader(t)
	var after engine.Name
	n := 0
	for {
		list, err := d.Tables(t.Context(), someone, engine.Filter{Pattern: "many_*", After: after, Limit: 700})
		if err != nil {
			t.Fatal(err)
		}
		n += len(list.Tables)
		if !list.More {
			break
		}
		last := list.Tables[len(list.Tables)-1]
		after = engine.Name{Schema: last.Schema, Table: last.Name}
	}
	if n != 3000 {
		t.Errorf("got %d tables", n)
	}
}
