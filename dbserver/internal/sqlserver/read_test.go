package sqlserver

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

const settings = "SET XACT_ABORT ON SET NOCOUNT OFF SET LOCK_TIMEOUT 2000 SET ROWCOUNT 0 SET TEXTSIZE 16777216 SET CONTEXT_INFO 0x6d63706f6f6c2061646120726561645f64617461"

func twoRows(string, []driver.NamedValue) (*rows, error) {
	return &rows{names: []string{"id"}, data: [][]driver.Value{{int64(1)}, {int64(2)}}}, nil
}

func TestReadIsPlannedThenRunAndRolledBack(t *testing.T) {
	f := &fake{}
	f.run = func(string, []driver.NamedValue) (*rows, error) {
		if c := f.conns[0]; !c.inTransaction || c.showplan || !c.xactAbort || c.lockTimeout != 2000 || c.rowcount != 11 || c.textsize != maxValue {
			t.Errorf("the statement runs in a session %+v", *c)
		}
		return twoRows("", nil)
	}
	d := f.start(t, options())
	out := newWriter()
	stmt := engine.Statement{SQL: "SELECT id FROM users -- all ;", MaxRows: 11}
	if err := d.Read(t.Context(), who, stmt, out); err != nil {
		t.Fatal(err)
	}
	if got := string(out.Page().Rows); got != "[1],[2]" {
		t.Errorf("got %s", got)
	}
	read := []string{
		settings,
		"SET SHOWPLAN_XML ON",
		" SELECT id FROM users",
		"SET SHOWPLAN_XML OFF",
		"SET TEXTSIZE 1000000 SET ROWCOUNT 11",
		"BEGIN TRANSACTION",
		"sp_executesql | =SELECT id FROM users",
		"IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION",
	}
	same(t, "the first", f.sent(), read)
	if err := d.Read(t.Context(), who, stmt, newWriter()); err != nil {
		t.Fatal(err)
	}
	same(t, "the second, on the same connection", f.sent(), append([]string{"(reset)"}, read...))
}

func TestParamsAreBoundWithTheirTypes(t *testing.T) {
	f := &fake{run: twoRows, plan: func(sql string) (string, error) { return document("select-declared"), nil }}
	f.plan = func(sql string) (string, error) {
		declaration, _, _ := strings.Cut(sql, ";")
		return strings.ReplaceAll(document("select-declared"), "DECLARE @p1 bigint", declaration), nil
	}
	d := f.start(t, options())
	s := engine.Statement{SQL: "WITH x AS (SELECT @p1 a) SELECT * FROM x WHERE @P2 = '@p9' AND @p3 = @p4 AND @p5 = @p1 AND @p6 = [@p7] AND @p7 = 1",
		Params: []any{json.Number("9007199254740993"), "d'ä", true, nil, json.Number("-12.50"), json.Number("123456789012345678901"), json.Number("1e3")}}
	if err := d.Read(t.Context(), who, s, newWriter()); err != nil {
		t.Fatal(err)
	}
	const types = "@p1 bigint, @p2 nvarchar(4000), @p3 bit, @p4 nvarchar(4000), @p5 decimal(4,2), @p6 decimal(21,0), @p7 float"
	sent := f.sent()
	same(t, "planned", sent[2:3], []string{"DECLARE " + types + "; " + s.SQL})
	same(t, "run", sent[6:7], []string{"sp_executesql | =" + s.SQL + " | =" + types +
		" | p1=9007199254740993 | p2=d'ä | p3=true | p4=<nil> | p5=-12.50 | p6=123456789012345678901 | p7=1000"})

	for _, c := range []struct {
		sql    string
		params []any
	}{
		{"SELECT @p1", nil}, {"SELECT 1", []any{"x"}}, {"SELECT @p1, @p3", []any{"x", "y"}}, {"SELECT @x", []any{"x"}},
		{"SELECT @p01", []any{"x"}}, {"SELECT @p0", []any{"x"}}, {"SELECT @p1", []any{json.Number(strings.Repeat("9", 39))}},
		{"SELECT @p1", []any{json.Number("1e999")}}, {"SELECT @p1", []any{1}},
	} {
		if err := d.Read(t.Context(), who, engine.Statement{SQL: c.sql, Params: c.params}, newWriter()); code(err) != engine.InvalidArgument {
			t.Errorf("%s with %v: got %v", c.sql, c.params, err)
		}
	}
	if sent := f.sent(); len(sent) > 0 {
		t.Errorf("sent %q", sent)
	}
}

func TestRefusedPlansAreNotRun(t *testing.T) {
	for name, want := range map[string]string{
		"bad-select-and-delete": engine.MultiStatement, "bad-select-into": engine.ReadOnly, "bad-remote-query": engine.ReadOnly,
		"bad-function-scalar": engine.FunctionDenied, "delete": engine.ReadOnly,
	} {
		f := &fake{run: twoRows, plan: func(string) (string, error) { return document(name), nil }}
		d := f.start(t, options())
		if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1 SELECT 2"}, newWriter()); code(err) != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
		same(t, name, f.sent(), []string{settings, "SET SHOWPLAN_XML ON", " SELECT 1 SELECT 2", "SET SHOWPLAN_XML OFF"})
	}
}

// TestAnEmptyOrBrokenPlanIsRefused: what cannot be understood is not run.
func TestAnEmptyOrBrokenPlanIsRefused(t *testing.T) {
	whole := document("select")
	for _, plan := range []string{"", "<ShowPlanXML/>", whole[:len(whole)/2], "<html/>", strings.Replace(whole, "ShowPlanXML", "Other", 1), whole + "<x>"} {
		f := &fake{run: twoRows, plan: func(string) (string, error) { return plan, nil }}
		d := f.start(t, options())
		if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); code(err) != engine.ReadOnly {
			t.Errorf("%.40q: got %v", plan, err)
		}
		if sent := f.sent(); len(sent) != 4 {
			t.Errorf("%.40q: sent %q", plan, sent)
		}
	}
}

// TestASessionThatIsNotInOrderIsThrownAway: whatever of our own texts fails,
// the connection is not lent again.
func TestASessionThatIsNotInOrderIsThrownAway(t *testing.T) {
	broken := mssql.Error{Number: 50000, Class: 16, Message: "no"}
	for _, text := range []string{"SET SHOWPLAN_XML ON", "SET SHOWPLAN_XML OFF", "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION"} {
		f := &fake{run: twoRows}
		f.refuse = func(sent string) error {
			if sent == text {
				return broken
			}
			return nil
		}
		d := f.start(t, options())
		_ = d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter())
		if !f.conns[0].closed {
			t.Errorf("%s failed, and the connection is kept", text)
		}
		f.refuse = nil
		if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil {
			t.Errorf("after %s: %v", text, err)
		}
	}
	f := &fake{run: twoRows, refuse: func(sent string) error {
		if sent == "BEGIN TRANSACTION" || strings.HasPrefix(sent, "SET TEXTSIZE") {
			return broken
		}
		return nil
	}}
	d := f.start(t, options())
	if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); code(err) != engine.EngineError {
		t.Errorf("got %v", err)
	}
}

func TestErrorsOfStatementsKeepTheConnection(t *testing.T) {
	f := &fake{}
	f.plan = func(string) (string, error) {
		return "", mssql.Error{Number: 208, Class: 16, LineNo: 2, Message: "Invalid object name 'usres'."}
	}
	f.run = func(sql string, _ []driver.NamedValue) (*rows, error) {
		if strings.Contains(sql, "sys.objects") {
			return &rows{names: []string{"s", "o", "c"}, data: [][]driver.Value{{"dbo", "users", nil}, {"dbo", "orders", nil}, {"dbo", "secrets", nil}}}, nil
		}
		return &rows{names: []string{"x"}, data: [][]driver.Value{{int64(1)}}, err: mssql.Error{Number: 8134, Class: 16, Message: "Divide by zero error encountered."}}, nil
	}
	o := options()
	o.Policy.DenyTables = []string{"secrets"}
	d := f.start(t, o)
	err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT *\nFROM usres"}, newWriter())
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.UnknownObject || e.EngineCode != "208" || e.Message != "Invalid object name 'usres'." ||
		e.Position == nil || *e.Position != (engine.Position{Line: 2, Column: 6}) || len(e.DidYouMean) == 0 || e.DidYouMean[0] != "users" {
		t.Errorf("got %+v", e)
	}
	f.plan = func(string) (string, error) { return document("select"), nil }
	if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1/0"}, newWriter()); code(err) != engine.EngineError {
		t.Errorf("got %v", err)
	}
	if len(f.conns) != 1 || f.conns[0].closed {
		t.Errorf("%d connections", len(f.conns))
	}
}

func TestEnoughRowsEndTheStatement(t *testing.T) {
	f := &fake{run: func(string, []driver.NamedValue) (*rows, error) {
		return &rows{names: []string{"x"}, data: [][]driver.Value{{int64(1)}}, endless: true}, nil
	}}
	d := f.start(t, options())
	out := newWriter()
	if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, out); err != nil {
		t.Fatal(err)
	}
	if p := out.Page(); p.Count != 100 || p.TruncatedBy != "rows" {
		t.Errorf("got %d rows, truncated by %s", p.Count, p.TruncatedBy)
	}
	sent := f.sent()
	same(t, "the end", sent[len(sent)-2:], []string{"(attention)", "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION"})
}

func TestCtxEndsTheStatementAndRollsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{run: func(string, []driver.NamedValue) (*rows, error) {
			return &rows{names: []string{"x"}, hangs: true}, nil
		}}
		d := f.start(t, options())
		start := time.Now()
		err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1", Timeout: 3 * time.Second}, newWriter())
		if took := time.Since(start); err != engine.ErrTimeout || took != 3*time.Second {
			t.Errorf("got %v after %v", err, took)
		}
		gone := errors.New("the caller went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if err := d.Read(ctx, who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != gone {
			t.Errorf("got %v", err)
		}
		start = time.Now()
		if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1", Timeout: time.Hour}, newWriter()); err != engine.ErrTimeout || time.Since(start) != 30*time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if len(f.conns) != 1 {
			t.Errorf("%d connections", len(f.conns))
		}
		sent := f.sent()
		if last := sent[len(sent)-1]; last != "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION" {
			t.Errorf("the last was %s", last)
		}
		_ = d.Close() // in the bubble
	})
}

// TestNoConnectionAndNoTimeAreToldApart: waiting for a connection is not the
// time of a statement.
func TestNoConnectionAndNoTimeAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{run: func(string, []driver.NamedValue) (*rows, error) {
			return &rows{names: []string{"x"}, hangs: true}, nil
		}}
		d := f.start(t, options())
		var callers sync.WaitGroup
		for range 2 {
			callers.Go(func() {
				if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != engine.ErrTimeout {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter())
		if took := time.Since(start); code(err) != engine.PoolExhausted || took != 5*time.Second || !strings.Contains(err.Error(), "2 of 2 in use") {
			t.Errorf("got %v after %v", err, took)
		}
		if info, err := d.Info(t.Context(), who); err != nil || info.Status != "busy" || info.Pool["in_use"] != 2 {
			t.Errorf("got %+v, %v", info, err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, io.ErrUnexpectedEOF)
		defer cancel()
		if err := d.Read(ctx, who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != io.ErrUnexpectedEOF {
			t.Errorf("got %v", err)
		}
		callers.Wait()
		_ = d.Close() // in the bubble
	})
}

func TestConnectionsThatDiedInThePoolAreReplaced(t *testing.T) {
	f := &fake{run: twoRows}
	d := f.start(t, options())
	for range 2 {
		if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil {
			t.Fatal(err)
		}
		for _, c := range f.conns { // as after a restart of the server
			c.bad = true
		}
	}
	if len(f.conns) != 2 {
		t.Errorf("%d connections", len(f.conns))
	}
	f.open = func(context.Context, msdsn.Config) error { return io.EOF }
	if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); code(err) != engine.Unreachable {
		t.Errorf("got %v", err)
	}
}

func TestTheSettingOfTheCallerIsThere(t *testing.T) {
	o := options()
	o.Identity.Setting = "app.user"
	f := &fake{run: twoRows}
	d := f.start(t, o)
	if err := d.Read(t.Context(), engine.Caller{Principal: "o'hara", Tool: "read_data"}, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil {
		t.Fatal(err)
	}
	same(t, "sent", f.sent()[1:3], []string{"sp_set_session_context | key=app.user | value=o'hara | read_only=true", "SET SHOWPLAN_XML ON"})
	o.Identity.Role = "x"
	if _, err := New(o); err == nil {
		t.Error("a role was taken")
	}
}

func TestManyCallersShareTheConnections(t *testing.T) {
	f := &fake{run: twoRows}
	o := options()
	o.Pool.MaxOpen = 8
	d := f.start(t, o)
	var callers sync.WaitGroup
	for i := range 200 {
		callers.Go(func() {
			out := newWriter()
			if err := d.Read(t.Context(), engine.Caller{Principal: fmt.Sprint(i)}, engine.Statement{SQL: "SELECT 1"}, out); err != nil || out.Page().Count != 2 {
				t.Errorf("got %v, %d rows", err, out.Page().Count)
			}
		})
	}
	callers.Wait()
	if len(f.conns) > 8 {
		t.Errorf("%d connections", len(f.conns))
	}
}

func TestExplainTellsThePlan(t *testing.T) {
	f := &fake{plan: func(string) (string, error) { return document("select-cross-join"), nil }}
	d := f.start(t, options())
	plan, err := d.Explain(t.Context(), who, engine.Statement{SQL: "SELECT u.id FROM users u, orders o"})
	if err != nil {
		t.Fatal(err)
	}
	want := "Nested Loops (Inner Join): about 3 rows, cost 0.0032\n" +
		"  Clustered Index Scan on dbo.users (PK_users): about 3 rows, cost 0.0032\n" +
		"  Table Scan on dbo.orders: about 250000 rows, cost 0.0032\n"
	if plan.Text != want || *plan.Cost != 0.0032 || *plan.Rows != 3 {
		t.Errorf("got %s %v %v", plan.Text, *plan.Cost, *plan.Rows)
	}
	for i, want := range []string{"an index of dbo.orders", "are converted", "without a condition", "dbo.orders is read whole"} {
		if i >= len(plan.Warnings) || !strings.Contains(plan.Warnings[i], want) {
			t.Errorf("warnings %q, want %s", plan.Warnings, want)
		}
	}
	same(t, "sent", f.sent(), []string{settings, "SET SHOWPLAN_XML ON", " SELECT u.id FROM users u, orders o", "SET SHOWPLAN_XML OFF"})
	if _, err := d.Explain(t.Context(), who, engine.Statement{SQL: "DELETE FROM users"}); code(err) != engine.ReadOnly {
		t.Errorf("got %v", err)
	}
}
