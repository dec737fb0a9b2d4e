package dbserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// Statements that run for ever: in their first step, and in their second, which
// the driver on its own cannot interrupt.
const (
	counting      = "WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
	endless       = "SELECT (" + counting + ")"
	endlessSecond = "SELECT 1 UNION ALL SELECT (" + counting + ")"
)

// rowsJSON returns the rows of an answer as they were written.
func rowsJSON(t testing.TB, a *answer) string {
	t.Helper()
	var s struct{ Rows json.RawMessage }
	if err := json.Unmarshal(a.structured, &s); err != nil {
		t.Fatal(err)
	}
	return string(s.Rows)
}

func TestValuesKeepWhatTheyAre(t *testing.T) {
	s := serveSample(t, Database{})
	for _, c := range []struct{ sql, json, text string }{
		{"NULL", `null`, `\N`},
		{"9007199254740992", `9007199254740992`, "9007199254740992"},
		{"9007199254740993", `"9007199254740993"`, "9007199254740993"},
		{"-9007199254740993", `"-9007199254740993"`, "-9007199254740993"},
		{"9223372036854775807", `"9223372036854775807"`, "9223372036854775807"},
		{"2.0", `2.0`, "2.0"},
		{"-0.0", `-0.0`, "-0.0"},
		{"0.1", `0.1`, "0.1"},
		{"1e300", `1e+300`, "1e+300"},
		{"123456789012.5", `123456789012.5`, "123456789012.5"},
		{"9e999", `"Infinity"`, "Infinity"},
		{"-9e999", `"-Infinity"`, "-Infinity"},
		{"''", `""`, ""},
		{`'a"b\c' || char(9, 10, 13, 0, 127)`, `"a\"b\\c\t\n\r\u0000` + "\x7f" + `"`, `a"b\\c\t\n\r` + "\x00\x7f"},
		{"'é🙂نص'", `"é🙂نص"`, "é🙂نص"},
		{"CAST(x'61ff62' AS TEXT)", `"a\ufffdb"`, "a\ufffdb"},
		{"x''", `{"$bytes":0,"base64":""}`, "<0 bytes>"},
		{"x'00ff'", `{"$bytes":2,"base64":"AP8="}`, "<2 bytes>"},
		{"date('2024-02-29')", `"2024-02-29"`, "2024-02-29"},
		{"json_object('a', 1)", `"{\"a\":1}"`, `{"a":1}`},
	} {
		a := read(t, s, "SELECT "+c.sql+" AS v")
		if a.IsError {
			t.Errorf("%s: %s", c.sql, a.structured)
			continue
		}
		if got := rowsJSON(t, a); got != "[["+c.json+"]]" {
			t.Errorf("%s: got %s, want [[%s]]", c.sql, got, c.json)
		}
		if got := strings.TrimPrefix(a.text(), untrusted+"v\n"); !strings.HasPrefix(got, c.text+"\n") {
			t.Errorf("%s: got text %q, want %q", c.sql, got, c.text)
		}
	}
}

func TestDatesAreReadAsWritten(t *testing.T) {
	s := serveSample(t, Database{})
	a := read(t, s, "SELECT full_date, date_key, full_date FROM calendar WHERE year = ? ORDER BY full_date DESC LIMIT 2 -- the last days", 2024)
	if got, want := rowsJSON(t, a), `[["2024-12-31",20241231,"2024-12-31"],["2024-12-30",20241230,"2024-12-30"]]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := fmt.Sprint(a.StructuredContent.Columns); got != "[{full_date DATE} {date_key INTEGER} {full_date DATE}]" {
		t.Errorf("columns are %s", got)
	}
}

func TestColumnTypes(t *testing.T) {
	s := serveSample(t, Database{})
	a := read(t, s, "SELECT sale_id, amount_cents / 100.0 AS x, NULL AS x, 'a' AS \"\" FROM sales LIMIT 1;")
	if got := fmt.Sprint(a.StructuredContent.Columns); got != "[{sale_id INTEGER} {x REAL} {x ANY} { TEXT}]" {
		t.Errorf("columns are %s", got)
	}
	a = read(t, s, "SELECT * FROM customers WHERE 0")
	if got := a.StructuredContent; got.RowCount != 0 || len(got.Columns) != 9 || got.Truncated || rowsJSON(t, a) != "[]" {
		t.Errorf("empty result is %s", a.structured)
	}
}

func TestRowCapIsExact(t *testing.T) {
	s := serveSample(t, Database{MaxRows: 150})
	for _, c := range []struct {
		arguments object
		rows      int
		by        string
	}{
		{object{"query": "SELECT 1 FROM sales"}, 100, result.ByRows},
		{object{"query": "SELECT 1 FROM sales LIMIT 100"}, 100, result.ByNone},
		{object{"query": "SELECT 1 FROM sales LIMIT 101"}, 100, result.ByRows},
		{object{"query": "SELECT 1 FROM sales", "limit": 7}, 7, result.ByRows},
		{object{"query": "SELECT 1 FROM sales LIMIT 7", "limit": 7}, 7, result.ByNone},
		{object{"query": "SELECT 1 FROM sales", "limit": 150}, 150, result.ByRows},
		{object{"query": "SELECT 1 FROM sales", "limit": 1000000}, 150, result.ByRows},
		{object{"query": "SELECT 1 FROM sales", "limit": json.RawMessage("1e2")}, 100, result.ByRows},
	} {
		got := call(t, s, "read_data", c.arguments).StructuredContent
		if got.RowCount != c.rows || len(got.Rows) != c.rows || got.TruncatedBy != c.by || got.Truncated != (c.by != result.ByNone) {
			t.Errorf("%v: got %d rows, truncated by %s", c.arguments, got.RowCount, got.TruncatedBy)
		}
		if (len(got.Notices) > 0) != got.Truncated {
			t.Errorf("%v: notices are %q", c.arguments, got.Notices)
		}
	}
}

func TestByteCapIsExact(t *testing.T) {
	// [["xxxxx"],["xxxxx"]] has 9 bytes a row, a comma between, two brackets.
	const query = "SELECT 'xxxxx' FROM sales LIMIT 5"
	for _, c := range []struct{ bytes, rows int }{{1, 0}, {10, 0}, {11, 1}, {20, 1}, {21, 2}, {50, 4}, {51, 5}, {52, 5}} {
		s := serveSample(t, Database{MaxBytes: c.bytes})
		a := read(t, s, query)
		got := a.StructuredContent
		by := result.ByBytes
		if c.rows == 5 {
			by = result.ByNone
		}
		if got.RowCount != c.rows || len(got.Rows) != c.rows || got.TruncatedBy != by {
			t.Errorf("%d bytes: got %d rows, truncated by %s", c.bytes, got.RowCount, got.TruncatedBy)
		}
		if n := len(rowsJSON(t, a)); c.bytes > 2 && n > c.bytes {
			t.Errorf("%d bytes: rows have %d", c.bytes, n)
		}
		if lines := strings.Count(a.text(), "xxxxx\n"); lines != c.rows+strings.Count("'xxxxx'\n", "xxxxx\n") {
			t.Errorf("%d bytes: text has %d rows: %s", c.bytes, lines, a.text())
		}
	}
}

func TestCellsAreCutAtCharacters(t *testing.T) {
	s := serveSample(t, Database{})
	a := read(t, s, "SELECT printf('%.*c', 4095, 'x') || 'é' AS a, printf('%.*c', 4096, 'x') AS b, printf('%.*c', 4097, 'x') AS c, CAST(printf('%.*c', 257, 'x') AS BLOB) AS d")
	got := a.StructuredContent
	if got.TruncatedBy != result.ByCell || got.RowCount != 1 || len(got.Notices) != 1 || !strings.Contains(got.Notices[0], "values cut: 3") {
		t.Errorf("truncated by %s: %q", got.TruncatedBy, got.Notices)
	}
	row := got.Rows[0]
	if a, b, c := row[0].(string), row[1].(string), row[2].(string); a != strings.Repeat("x", 4095)+"…" ||
		b != strings.Repeat("x", 4096) || c != strings.Repeat("x", 4096)+"…" {
		t.Errorf("lengths are %d, %d, %d", len(a), len(b), len(c))
	}
	if d := row[3].(object); d["$bytes"] != json.Number("257") || len(d["base64"].(string)) != 344 {
		t.Errorf("blob is %v", d)
	}
}

func TestParametersAreBound(t *testing.T) {
	s := serveSample(t, Database{})
	a := call(t, s, "read_data", json.RawMessage(
		`{"query":"SELECT ?, ?2, ?, ?, ?, typeof(?4)","params":["x'; DROP TABLE sales --",9007199254740993,1.5,true,null]}`))
	if got, want := rowsJSON(t, a), `[["x'; DROP TABLE sales --","9007199254740993",1.5,1,null,"integer"]]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	s := serveSample(t, Database{})
	for _, c := range []struct {
		query, code string
		near        []string
	}{
		{"SELEC 1", engine.SyntaxError, nil},
		{"SELECT FROM sales", engine.SyntaxError, nil},
		{"", engine.InvalidArgument, nil},
		{" ;-- nothing\n/* at all */ ; ", engine.SyntaxError, nil},
		{"SELECT * FROM costumers", engine.UnknownObject, []string{"customers"}},
		{"SELECT * FROM main.sale", engine.UnknownObject, []string{"sales"}},
		{"SELECT s.amount FROM sales s", engine.UnknownObject, []string{"amount_cents"}},
		{`SELECT "emial" FROM customers`, engine.UnknownObject, []string{"email"}},
		{"SELECT zzzzzzzz FROM sales", engine.UnknownObject, nil},
		{"SELECT median(1)", engine.UnknownObject, nil},
		{"SELECT 1; SELECT 2", engine.MultiStatement, nil},
		{"SELECT json('{')", engine.EngineError, nil},
		{"SELECT abs(-9223372036854775808)", engine.EngineError, nil},
		{"SELECT printf('%1000000000d', 1)", engine.ResultTooLarge, nil},
		{"SELECT hex(printf('%.*c', 999999, 'x'))", engine.ResultTooLarge, nil},
		{"SELECT group_concat(printf('%.*c', 1000, 'x')) FROM sales", engine.ResultTooLarge, nil},
		{"SELECT randomblob(500000000)", engine.FunctionDenied, nil},
		{"SELECT zeroblob(500000000)", engine.FunctionDenied, nil},
		{"SELECT " + strings.Repeat("1,", 256) + "1", engine.ResultTooLarge, nil},
	} {
		a := read(t, s, c.query)
		wantCode(t, a, c.code)
		if got := a.StructuredContent.Error.DidYouMean; fmt.Sprint(got) != fmt.Sprint(c.near) {
			t.Errorf("%s: did you mean %v, want %v", c.query, got, c.near)
		}
	}
}

func TestTimeoutEndsTheStatement(t *testing.T) {
	s := serveSample(t, Database{Timeout: time.Second, MaxConnections: 1})
	for _, query := range []string{endless, endlessSecond, "SELECT count(*) FROM sales a, sales b, sales c",
		"WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n) SELECT x FROM n ORDER BY -x"} {
		start := time.Now()
		wantCode(t, read(t, s, query), engine.StatementTimeout)
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s ended after %v", query, took)
		}
		// The only connection is well afterwards.
		if a := read(t, s, "SELECT 1"); a.IsError {
			t.Errorf("after %s: %s", query, a.structured)
		}
	}
}

func TestCancelEndsTheStatement(t *testing.T) {
	s := serveSample(t, Database{MaxConnections: 1})
	for _, query := range []string{endless, endlessSecond} {
		cause := errors.New("the client went away")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, cause)
		start := time.Now()
		_, err := try(ctx, s, "read_data", object{"query": query})
		cancel()
		if !errors.Is(err, cause) {
			t.Errorf("%s: got %v", query, err)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s ended after %v", query, took)
		}
	}
}

func TestCommittedChangesAreSeen(t *testing.T) {
	file := newDatabase(t, "CREATE TABLE t(x); INSERT INTO t VALUES (1)")
	s := serve(t, Database{DSN: file, MaxConnections: 1})
	if got := rowsJSON(t, read(t, s, "SELECT sum(x) FROM t")); got != "[[1]]" {
		t.Fatal(got)
	}
	execute(t, file, "INSERT INTO t VALUES (2); ALTER TABLE t ADD COLUMN y; CREATE TABLE u AS SELECT 7 AS z")
	if got := rowsJSON(t, read(t, s, "SELECT sum(x), count(y), (SELECT z FROM u) FROM t")); got != "[[3,0,7]]" {
		t.Fatal(got)
	}
}

func TestLargeStoredValuesDoNotHideTheirRow(t *testing.T) {
	file := newDatabase(t, "CREATE TABLE t(id INTEGER, big BLOB, name TEXT); INSERT INTO t VALUES (1, zeroblob(3000000), 'x')")
	s := serve(t, Database{DSN: file})
	if got := rowsJSON(t, read(t, s, "SELECT id, length(big), name FROM t")); got != `[[1,3000000,"x"]]` {
		t.Error(got)
	}
	wantCode(t, read(t, s, "SELECT * FROM t"), engine.ResultTooLarge)
}

func FuzzReadData(f *testing.F) {
	s := serveSample(f, Database{Timeout: 200 * time.Millisecond, MaxConnections: 1})
	for _, query := range []string{"SELECT 1", "SELECT '", "WITH x AS (SELECT 1) SELECT * FROM x", "VALUES (1), (2.5), (NULL), (x'00')",
		"SELECT full_date FROM calendar /* open", "EXPLAIN SELECT 1", "SELECT 1 -- x\n;;", "PRAGMA table_info(sales)"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		// Whatever the text, the answer is JSON that fits its schema.
		if _, err := try(t.Context(), s, "read_data", object{"query": query}); err != nil {
			t.Error(err)
		}
	})
}
