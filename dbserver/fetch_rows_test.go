package dbserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
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
