package dbserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/seal"
)

// fetch calls fetch_rows.
func fetch(t testing.TB, s *Server, handle string) *answer {
	t.Helper()
	return call(t, s, "fetch_rows", object{"handle": handle})
}

// firstColumn are the values of the first column of an answer's rows.
func firstColumn(a *answer) string {
	var list []string
	for _, row := range a.StructuredContent.Rows {
		list = append(list, fmt.Sprint(row[0]))
	}
	return strings.Join(list, " ")
}

func keptResults(s *Server) int {
	s.spools.mu.Lock()
	defer s.spools.mu.Unlock()
	return len(s.spools.kept)
}

func wantNotice(t testing.TB, a *answer, says string) {
	t.Helper()
	if !strings.Contains(strings.Join(a.StructuredContent.Notices, "\n"), says) || !strings.Contains(a.text(), says) {
		t.Errorf("notices %q, or the text, do not say %q", a.StructuredContent.Notices, says)
	}
}

func TestResultGoesOnToItsEnd(t *testing.T) {
	s := serveSample(t, Database{SpoolRows: 10_000})
	const query = "SELECT sale_id, printf('%.*c', sale_id % 700, 'x'), NULL FROM sales ORDER BY sale_id LIMIT 1950"
	all := rowsJSON(t, call(t, serveSample(t, Database{MaxRows: 1950, MaxBytes: 1 << 21}), "read_data", object{"query": query, "limit": 1950}))

	a := read(t, s, query)
	if a.StructuredContent.RowCount != 100 || a.StructuredContent.Handle == "" || !strings.Contains(a.text(), "\nHandle: "+a.StructuredContent.Handle+"\n") {
		t.Fatalf("first page: %d rows, text %s", a.StructuredContent.RowCount, a.text())
	}
	got := strings.TrimSuffix(rowsJSON(t, a), "]")
	rows := 100
	for a.StructuredContent.Handle != "" {
		handle := a.StructuredContent.Handle
		wantNotice(t, a, "call fetch_rows with this handle within 5m0s")
		a = call(t, s, "fetch_rows", object{"handle": handle, "limit": 77})
		if a.IsError || a.StructuredContent.RowCount == 0 || a.StructuredContent.RowCount > 77 {
			t.Fatalf("got %s", a.structured)
		}
		if again := call(t, s, "fetch_rows", object{"handle": handle, "limit": 77}); rowsJSON(t, again) != rowsJSON(t, a) {
			t.Fatal("the handle gives other rows the second time")
		}
		rows += a.StructuredContent.RowCount
		got += "," + strings.Trim(rowsJSON(t, a), "[]") + "]"
		if last := strings.Count(a.text(), "\\N\n"); last != a.StructuredContent.RowCount {
			t.Errorf("text has %d rows, want %d", last, a.StructuredContent.RowCount)
		}
		if a.StructuredContent.Handle != "" {
			wantNotice(t, a, fmt.Sprintf("rows %d to %d are here", rows-a.StructuredContent.RowCount+1, rows))
		}
	}
	if c := a.StructuredContent; rows != 1950 || c.Truncated || c.TruncatedBy != result.ByNone || c.Complete == nil || !*c.Complete || len(c.Notices) != 0 {
		t.Errorf("after %d rows: %s", rows, a.structured)
	}
	clean := strings.NewReplacer("[", "", "]", "")
	if clean.Replace(got) != clean.Replace(all) {
		t.Error("pages together are not the result")
	}
	if n := pool(t, s)["in_use"]; n != 0 {
		t.Errorf("%d connections are in use", n)
	}
}

func TestResultWithoutEndGivesItsConnectionBack(t *testing.T) {
	s := serveSample(t, Database{MaxConnections: 1})
	a := read(t, s, "WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n) SELECT x FROM n")
	rows := a.StructuredContent.RowCount
	if b := read(t, s, "SELECT 1"); b.IsError { // on the same connection
		t.Fatal(string(b.structured))
	}
	for a.StructuredContent.Handle != "" {
		a = call(t, s, "fetch_rows", object{"handle": a.StructuredContent.Handle, "limit": 1000})
		rows += a.StructuredContent.RowCount
		if want := fmt.Sprint(rows); !strings.HasSuffix(firstColumn(a), " "+want) {
			t.Fatalf("page does not end with row %s: %s", want, a.structured)
		}
	}
	if c := a.StructuredContent; rows != 100+DefaultSpoolRows || c.TruncatedBy != result.ByRows || *c.Complete {
		t.Errorf("after %d rows: %s", rows, a.structured)
	}
	wantNotice(t, a, "the result has more than 1100 rows")
}

func TestFetchedPagesHaveTheCapsOfAnswers(t *testing.T) {
	// [["xxxxx"],["xxxxx"]] has 9 bytes a row, a comma between, two brackets.
	s := serveSample(t, Database{MaxBytes: 31})
	a := read(t, s, "SELECT 'xxxxx' FROM sales LIMIT 7")
	for _, want := range []struct {
		rows int
		by   string
	}{{3, result.ByBytes}, {1, result.ByNone}} {
		a = fetch(t, s, a.StructuredContent.Handle)
		if c := a.StructuredContent; c.RowCount != want.rows || c.TruncatedBy != want.by {
			t.Errorf("got %d rows, truncated by %s, want %+v", c.RowCount, c.TruncatedBy, want)
		}
	}
	s = serveSample(t, Database{MaxBytes: 40}) // one byte short of four rows
	a = read(t, s, "SELECT 'xxxxx' FROM sales LIMIT 7")
	if a = fetch(t, s, a.StructuredContent.Handle); a.StructuredContent.RowCount != 3 {
		t.Errorf("got %s", a.structured)
	}
	// A cut value is told on the page that it is on.
	s = serveSample(t, Database{MaxBytes: 31, MaxCellBytes: 5})
	a = read(t, s, "SELECT 'aaa' UNION ALL SELECT 'bbb' UNION ALL SELECT 'ccc' UNION ALL SELECT 'ddd' UNION ALL SELECT 'eeeeeee'")
	a = fetch(t, s, a.StructuredContent.Handle)
	if c := a.StructuredContent; c.TruncatedBy != result.ByCell || firstColumn(a) != "ddd eeeee…" {
		t.Errorf("got %s", a.structured)
	}
	wantNotice(t, a, "values cut: 1")
}

func TestFetchedRowsHaveTheirShape(t *testing.T) {
	s := serveSample(t, Database{})
	a := call(t, s, "read_data", object{"query": "SELECT sale_id AS a, 1 AS a FROM sales ORDER BY 1 LIMIT 4", "limit": 2})
	a, err := try(t.Context(), s, "fetch_rows", object{"handle": a.StructuredContent.Handle, "shape": "columns"})
	if err != nil || rowsJSON(t, a) != "[[3,4],[1,1]]" {
		t.Errorf("got %v, %v", a, err)
	}
}

func TestARowThatNeverFitsIsLeftOut(t *testing.T) {
	s := serveSample(t, Database{MaxBytes: 60})
	a := read(t, s, "SELECT printf('%.*c', n, 'x') FROM (SELECT 100 AS n UNION ALL SELECT 1 UNION ALL SELECT 101 UNION ALL SELECT 2 UNION ALL SELECT 102)")
	if a.StructuredContent.RowCount != 0 || a.StructuredContent.Handle == "" {
		t.Fatalf("got %s", a.structured)
	}
	a = fetch(t, s, a.StructuredContent.Handle)
	if c := a.StructuredContent; firstColumn(a) != "x xx" || c.TruncatedBy != result.ByBytes || c.Handle != "" || !*c.Complete {
		t.Errorf("got %s", a.structured)
	}
	wantNotice(t, a, "3 rows were left out, for each of them alone has more than 60 bytes")
}

func TestAnswerComesBeforeTheRestWhichIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proceed, end := make(chan struct{}), make(chan struct{})
		s := serveFake(t, Options{}, Database{}, func(ctx context.Context, _ engine.Statement, out *result.Writer) error {
			numbers(out, 3)
			for _, event := range []chan struct{}{proceed, end} {
				select {
				case <-event:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				if event == proceed {
					numbers(out, 2)
				}
			}
			return nil
		})
		ctx, leave := context.WithCancel(t.Context())
		a, err := try(ctx, s, "read_data", object{"query": "q", "limit": 2})
		leave() // which after the answer ends nothing
		if err != nil || firstColumn(a) != "1 2" {
			t.Fatalf("the answer waited for the rest: %v, %v", a, err)
		}
		handle := a.StructuredContent.Handle

		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := try(impatient, s, "fetch_rows", object{"handle": handle}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gave up got %v", err)
		}
		// One row is there, and whether it is the last is not known.
		var one, all sync.WaitGroup
		one.Go(func() {
			a := call(t, s, "fetch_rows", object{"handle": handle, "limit": 1})
			if c := a.StructuredContent; firstColumn(a) != "3" || c.TruncatedBy != result.ByRows || c.Complete != nil {
				t.Errorf("got %s", a.structured)
			}
		})
		all.Go(func() {
			a := fetch(t, s, handle)
			if c := a.StructuredContent; firstColumn(a) != "3 1 2" || !*c.Complete {
				t.Errorf("got %s", a.structured)
			}
		})
		synctest.Wait()
		close(proceed)
		one.Wait()
		synctest.Wait()
		close(end)
		all.Wait()
	})
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	endless := func(every time.Duration) func(context.Context, engine.Statement, *result.Writer) error {
		return func(ctx context.Context, _ engine.Statement, out *result.Writer) error {
			out.SetColumns([]result.Column{{Name: "n"}})
			for {
				if every > 0 {
					select {
					case <-time.After(every):
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
				out.Int(1)
				if !out.EndRow() {
					return nil
				}
			}
		}
	}
	for _, c := range []struct {
		name     string
		database Database
		every    time.Duration
		took     time.Duration // the reading, from its start
		by       string
		says     string
		rows     int // fetched
	}{
		{"rows", Database{SpoolRows: 50}, 0, 0, result.ByRows, "the result has more than 60 rows", 50},
		// A row has a header of 16 bytes, [1] and 1\n with an escaped end.
		{"bytes", Database{SpoolBytes: 22*30 + 21}, 0, 0, result.ByBytes, "the result has more than 40 rows", 30},
		{"time", Database{AcquireTimeout: time.Hour}, 300 * time.Millisecond, 3300*time.Millisecond + spoolTime, byTime, "the result has 27 rows or more", 17},
		{"others", Database{AcquireTimeout: 3 * time.Second}, 400 * time.Millisecond, 4400*time.Millisecond + 1500*time.Millisecond, byTime, "the result has 14 rows or more", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var took time.Duration
				one := endless(c.every)
				s := serveFake(t, Options{}, c.database, func(ctx context.Context, q engine.Statement, out *result.Writer) error {
					defer func() { took = time.Since(start) }()
					return one(ctx, q, out)
				})
				a := call(t, s, "read_data", object{"query": "q", "limit": 10})
				rows := 0
				for a.StructuredContent.Handle != "" {
					a = fetch(t, s, a.StructuredContent.Handle)
					rows += a.StructuredContent.RowCount
				}
				synctest.Wait()
				if got := a.StructuredContent; rows != c.rows || !got.Truncated || got.TruncatedBy != c.by || got.Complete == nil || *got.Complete {
					t.Errorf("after %d rows: %s", rows, a.structured)
				}
				wantNotice(t, a, c.says)
				if took != c.took {
					t.Errorf("read for %v, want %v", took, c.took)
				}
			})
		})
	}
}

func TestAnErrorBehindTheAnswerIsToldThere(t *testing.T) {
	failure := &engine.Error{Code: engine.EngineError, Layer: engine.LayerEngine, Message: "division by zero", Next: "correct the statement"}
	for _, c := range []struct {
		err     error
		code    string
		message string
	}{{failure, engine.EngineError, "division by zero"}, {engine.ErrTimeout, engine.StatementTimeout, "longer than 7s"}} {
		s := serveFake(t, Options{}, Database{}, func(_ context.Context, _ engine.Statement, out *result.Writer) error {
			numbers(out, 5)
			return c.err
		})
		a := call(t, s, "read_data", object{"query": "q", "limit": 2, "timeout_ms": 7000})
		if a.IsError || firstColumn(a) != "1 2" {
			t.Fatalf("got %s", a.structured)
		}
		a = call(t, s, "fetch_rows", object{"handle": a.StructuredContent.Handle, "limit": 2})
		if c := a.StructuredContent; firstColumn(a) != "3 4" || c.TruncatedBy != result.ByRows {
			t.Errorf("got %s", a.structured)
		}
		b := fetch(t, s, a.StructuredContent.Handle)
		if got := b.StructuredContent; firstColumn(b) != "5" || got.TruncatedBy != byError || got.Handle != "" || *got.Complete {
			t.Errorf("got %s", b.structured)
		}
		wantNotice(t, b, "reading failed behind row 5: "+c.code)

		s = serveFake(t, Options{}, Database{}, func(_ context.Context, _ engine.Statement, out *result.Writer) error {
			numbers(out, 5)
			return c.err
		})
		a = call(t, s, "read_data", object{"query": "q", "limit": 4, "timeout_ms": 7000})
		a = call(t, s, "fetch_rows", object{"handle": a.StructuredContent.Handle, "limit": 1})
		wantNotice(t, a, c.message)
	}
}

func TestCancelBeforeTheAnswerEndsTheStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("the client went away")
		ended := false
		s := serveFake(t, Options{}, Database{}, func(ctx context.Context, _ engine.Statement, out *result.Writer) error {
			numbers(out, 1)
			<-ctx.Done()
			ended = true
			return context.Cause(ctx)
		})
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		if _, err := try(ctx, s, "read_data", object{"query": "q", "limit": 1}); !errors.Is(err, cause) || !ended {
			t.Errorf("got %v, ended %t", err, ended)
		}
	})
}

func TestCloseEndsReadingOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveFake(t, Options{}, Database{AcquireTimeout: time.Hour}, func(ctx context.Context, _ engine.Statement, out *result.Writer) error {
			numbers(out, 3)
			<-ctx.Done()
			return context.Cause(ctx)
		})
		start := time.Now()
		call(t, s, "read_data", object{"query": "q", "limit": 1})
		if err := s.Close(); err != nil || time.Since(start) != 0 {
			t.Errorf("Close took %v: %v", time.Since(start), err)
		}
	})
}

func TestNothingIsKeptWhereThatIsOff(t *testing.T) {
	read := 0
	s := serveFake(t, Options{}, Database{SpoolRows: -1}, func(_ context.Context, _ engine.Statement, out *result.Writer) error {
		out.SetColumns([]result.Column{{Name: "n"}})
		for wants := true; wants; wants = out.EndRow() {
			read++
			out.Int(1)
		}
		return nil
	})
	a := call(t, s, "read_data", object{"query": "q", "limit": 3})
	if c := a.StructuredContent; c.Handle != "" || c.RowCount != 3 || c.TruncatedBy != result.ByRows || read != 4 {
		t.Errorf("after %d rows: %s", read, a.structured)
	}
	if s.tools.tools["fetch_rows"] != nil || strings.Contains(string(s.tools.list), `"name":"fetch_rows"`) ||
		strings.Contains(string(s.resourceTemplates()), "results") {
		t.Error("fetch_rows is offered")
	}
}

func TestHandlesOpenForWhomTheyWereGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		yield := func(_ context.Context, _ engine.Statement, out *result.Writer) error {
			numbers(out, 3)
			return nil
		}
		key := bytes.Repeat([]byte("k"), seal.KeySize)
		s := serveFake(t, Options{Key: key, HandleTTL: time.Minute}, Database{}, yield)
		sibling := serveFake(t, Options{Key: key}, Database{}, yield)
		stranger := serveFake(t, Options{}, Database{}, yield)
		give := func(s *Server, principal string) string {
			t.Helper()
			a, err := tryAs(t.Context(), s, principal, "read_data", object{"query": "q", "limit": 1})
			if err != nil {
				t.Fatal(err)
			}
			return a.StructuredContent.Handle
		}
		ada := give(s, "ada")
		give(sibling, "ada") // so that there is a result of the same number
		give(stranger, "ada")
		tell := func(s *Server, principal, handle string) *answer {
			t.Helper()
			a, err := tryAs(t.Context(), s, principal, "fetch_rows", object{"handle": handle})
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		if a := tell(s, "ada", ada); firstColumn(a) != "2 3" {
			t.Fatalf("got %s", a.structured)
		}
		forged := ada[:len(ada)-2] + "AA"
		for _, c := range []struct {
			server                  *Server
			principal, handle, says string
		}{
			{s, "bob", ada, "not given to this caller"},
			{s, "", ada, "not given to this caller"},
			{s, "ada", forged, "not given to this caller"},
			{s, "ada", "x", "not given to this caller"},
			{sibling, "ada", ada, "kept by another server"},
			{sibling, "bob", ada, "not given to this caller"},
			{stranger, "ada", ada, "not given to this caller by this server"},
		} {
			a := tell(c.server, c.principal, c.handle)
			wantCode(t, a, engine.HandleExpired)
			if !strings.Contains(a.StructuredContent.Error.Message, c.says) {
				t.Errorf("%q does not say %q", a.StructuredContent.Error.Message, c.says)
			}
		}
		if len(ada) > 90 {
			t.Errorf("a handle has %d characters", len(ada))
		}

		// A result is kept as long as a handle of it is good, and no longer.
		time.Sleep(40 * time.Second)
		a, err := tryAs(t.Context(), s, "ada", "fetch_rows", object{"handle": ada, "limit": 1})
		if err != nil || firstColumn(a) != "2" {
			t.Fatalf("got %v, %v", a, err)
		}
		time.Sleep(40 * time.Second)
		wantCode(t, tell(s, "ada", ada), engine.HandleExpired)
		if a := tell(s, "ada", a.StructuredContent.Handle); firstColumn(a) != "3" {
			t.Errorf("got %s", a.structured)
		}
		if n := keptResults(s); n != 1 {
			t.Fatalf("%d results are kept", n)
		}
		s.spools.mu.Lock()
		kept := s.spools.kept[0].spool
		s.spools.mu.Unlock()
		time.Sleep(21 * time.Second)
		synctest.Wait()
		if kept.mu.Lock(); !kept.gone {
			t.Error("what has expired was not let go of")
		}
		kept.mu.Unlock()
		if n := keptResults(s); n != 0 {
			t.Errorf("%d results are kept", n)
		}
	})
}

func TestSpoolFilesArePrivateAndGoAway(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := serveSample(t, Database{})
	a := read(t, s, "SELECT *, printf('%.*c', 500, 'x') FROM sales LIMIT 1000")
	for a.StructuredContent.Complete == nil || !*a.StructuredContent.Complete {
		a = fetch(t, s, a.StructuredContent.Handle)
	}
	file := s.spools.kept[0].file
	if file == nil {
		t.Fatal("there is no file")
	}
	info, err := file.Stat()
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() < 500*500 {
		t.Errorf("file is %v, %v", info, err)
	}
	dir, err := os.Stat(s.spools.dir)
	if err != nil || dir.Mode().Perm() != 0o700 || !strings.HasPrefix(s.spools.dir, os.TempDir()) {
		t.Errorf("folder is %v, %v", dir, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file is open: %v", err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestOldResultsMakeRoom(t *testing.T) {
	s := serveFake(t, Options{}, Database{}, func(_ context.Context, q engine.Statement, out *result.Writer) error {
		out.SetColumns([]result.Column{{Name: "n"}})
		for range 10 {
			out.Text(strings.Repeat("x", 4000))
			out.EndRow()
		}
		return nil
	})
	give := func(principal string) string {
		t.Helper()
		a, err := tryAs(t.Context(), s, principal, "read_data", object{"query": "q", "limit": 1})
		if err != nil {
			t.Fatal(err)
		}
		return a.StructuredContent.Handle
	}
	code := func(principal, handle string) string {
		t.Helper()
		a, err := tryAs(t.Context(), s, principal, "fetch_rows", object{"handle": handle})
		if err != nil {
			t.Fatal(err)
		}
		return a.StructuredContent.Error.Code
	}
	bob := give("bob")
	var ada []string
	for range maxSpoolsEach + 2 {
		ada = append(ada, give("ada"))
	}
	for i, handle := range ada {
		want := ""
		if i < 2 {
			want = engine.HandleExpired
		}
		if got := code("ada", handle); got != want {
			t.Errorf("result %d of the busy one: %q, want %q", i, got, want)
		}
	}
	if got := code("bob", bob); got != "" {
		t.Errorf("that of another principal: %q", got)
	}
	for i := range maxSpools - maxSpoolsEach {
		give(fmt.Sprint("p", i))
	}
	if got := code("bob", bob); got != engine.HandleExpired {
		t.Errorf("the oldest of all: %q", got)
	}
	if n := keptResults(s); n != maxSpools {
		t.Errorf("%d results are kept", n)
	}

	// Bytes count as results do.
	if got := code("large", give("large")); got != "" { // so that it is complete
		t.Error(got)
	}
	s.spools.mu.Lock()
	s.spools.kept[len(s.spools.kept)-1].bytes = maxSpoolBytes + 1
	s.spools.mu.Unlock()
	last := give("eve")
	if got := code("eve", last); got != "" {
		t.Errorf("the newest: %q", got)
	}
	if n := keptResults(s); n != 1 {
		t.Errorf("%d results are kept where one was too large", n)
	}
}

func TestManyReadWhileOneWrites(t *testing.T) {
	s := serveFake(t, Options{}, Database{SpoolRows: 10_000}, func(_ context.Context, q engine.Statement, out *result.Writer) error {
		out.SetColumns([]result.Column{{Name: "n"}, {Name: "late"}})
		for i := range 8000 {
			out.Int(int64(i))
			if i < 50 {
				out.Null()
			} else {
				out.Text(strings.Repeat("y", i%97))
			}
			if !out.EndRow() {
				return nil
			}
		}
		return nil
	})
	var wg sync.WaitGroup
	for range 4 {
		a := call(t, s, "read_data", object{"query": "q", "limit": 5})
		for range 3 {
			wg.Go(func() {
				next := 5
				for a := a; a.StructuredContent.Handle != ""; {
					var err error
					if a, err = try(t.Context(), s, "fetch_rows", object{"handle": a.StructuredContent.Handle, "limit": 1000}); err != nil || a.IsError {
						t.Errorf("got %v, %v", a, err)
						return
					}
					for _, row := range a.StructuredContent.Rows {
						if row[0] != json.Number(fmt.Sprint(next)) {
							t.Errorf("row %v comes where %d is due", row[0], next)
							return
						}
						next++
					}
				}
				if next != 8000 {
					t.Errorf("%d rows", next)
				}
			})
		}
	}
	wg.Wait()
}

func TestWhatIsReadDoesNotChangeAsRowsAreAdded(t *testing.T) {
	s := serveFake(t, Options{}, Database{}, nil)
	kept := s.spools.open(&request{server: s, database: s.databases[0]}, result.Page{})
	add := func(c byte, n int) {
		t.Helper()
		if row := bytes.Repeat([]byte{c}, n); !kept.add(row, nil, 0, 0) {
			t.Fatal("no row is wanted")
		}
	}
	add('b', tailBytes)                                               // so that there is a file, and memory that is used again
	for i, at := range []position{{1, headerBytes + tailBytes}, {}} { // what is in memory, then what is in both
		add('a', 100)
		_, from, err := kept.await(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		add('b', tailBytes-headerBytes-100)
		for range i + 1 {
			add('c', 1000)
		}
		got, err := io.ReadAll(from)
		if err != nil || !bytes.HasSuffix(got, bytes.Repeat([]byte("a"), 100)) {
			t.Errorf("%d: got %d bytes that end in %.20q, %v", i, len(got), got[max(0, len(got)-20):], err)
		}
	}
}

func TestRowsThatCannotBeKeptAreTold(t *testing.T) {
	t.Setenv("TMPDIR", "/nowhere/at/all")
	s := serveFake(t, Options{}, Database{}, func(_ context.Context, _ engine.Statement, out *result.Writer) error {
		out.SetColumns([]result.Column{{Name: "n"}})
		for out.Wants() {
			out.Text(strings.Repeat("x", 1000))
			out.EndRow()
		}
		return nil
	})
	a := call(t, s, "read_data", object{"query": "q", "limit": 10})
	a = fetch(t, s, a.StructuredContent.Handle)
	if c := a.StructuredContent; c.RowCount < 10 || c.RowCount > 32 || c.TruncatedBy != byError || c.Handle != "" || *c.Complete {
		t.Errorf("got %d rows: %s", c.RowCount, a.text())
	}
	wantNotice(t, a, "could not keep more rows")
	if strings.Contains(a.text(), "nowhere") {
		t.Error("the answer tells of the server's files")
	}
}
