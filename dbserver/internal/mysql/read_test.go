//go:build unix

package mysql

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestReadRows(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "read_rows")
	d := open(t, options(reader))
	for _, test := range []struct {
		sql, want string
		params    []any
	}{
		{sql: "SELECT 1", want: `[[1]]`},
		{sql: "SELECT id, name FROM customers ORDER BY id", want: `[[1,"Ada"],[2,"Bob"],[3,"Grüße 🎉"]]`},
		{sql: "SELECT name FROM customers WHERE id = ?", params: []any{number64("2")}, want: `[["Bob"]]`},
		{sql: "SELECT ?, ?, ?, ?", params: []any{nil, true, "it's", number64("18446744073709551615")}, want: `[[null,1,"it's","18446744073709551615"]]`},
		{sql: "SELECT total FROM orders WHERE total = ?", params: []any{number64("99.99")}, want: `[["99.99"]]`},
		{sql: "SELECT 1 AS a, 2 AS a", want: `[[1,2]]`},
		{sql: "SELECT * FROM customers WHERE FALSE", want: `[]`},
		{sql: "SHOW TABLES LIKE 'cust%'", want: `[["customers"]]`},
	} {
		if got := mustRead(t, d, test.sql, test.params...); got != test.want {
			t.Errorf("%s: got %s, want %s", test.sql, got, test.want)
		}
	}
	out := result.NewWriter(limits(), nil)
	if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT id, total AS t FROM orders WHERE FALSE"}, out); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(out.Page().Columns); got != "[{id bigint  0} {t decimal(12,2)  0}]" {
		t.Errorf("columns of an empty result: %s", got)
	}
	if _, err := read(t, d, "SELECT ?"); codeOf(err) != engine.InvalidArgument {
		t.Errorf("a placeholder without a value: %v", err)
	}
	if _, err := read(t, d, "SELECT 1", "x"); codeOf(err) != engine.InvalidArgument {
		t.Errorf("a value without a placeholder: %v", err)
	}
}

func TestValuesAreLossless(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "lossless")
	s.Exec(t, "lossless", `
SET sql_mode = '';
SET time_zone = '+02:00';
CREATE TABLE v (
	i1 TINYINT, i8 BIGINT, u8 BIGINT UNSIGNED, u3 MEDIUMINT UNSIGNED, z INT ZEROFILL, d DECIMAL(40,10), f FLOAT, g DOUBLE,
	b BIT(1), b9 BIT(9), b64 BIT(64), y YEAR, da DATE, zero DATE, dt DATETIME(6), zdt DATETIME, ts TIMESTAMP(3) NULL, ti TIME(2), neg TIME,
	j JSON, bi BINARY(3), bl BLOB, ch CHAR(5) CHARACTER SET latin1, tx TEXT, e ENUM('a','b'), s SET('x','y'), g1 POINT, n INT
);
INSERT INTO v VALUES (-128, -9223372036854775808, 18446744073709551615, 16777215, 42, 123456789012345678901234567890.0123456789,
	16777215, 0.1, 1, b'100000001', 18446744073709551615, 2026, '2026-02-28', '0000-00-00', '2026-01-02 03:04:05.678901', '0000-00-00 00:00:00',
	'2026-07-01 12:00:00.125', '10:11:12.5', '-838:59:59', '{"a": [1, 2]}', 'ab', x'00ff', 'é', 'tab\t "q" \\ nul\0', 'b', 'x,y', POINT(1,2), NULL)
`)
	d := open(t, options(reader))
	const want = `[[-128,"-9223372036854775808","18446744073709551615",16777215,42,"123456789012345678901234567890.0123456789",` +
		`16777215.0,0.1,1,257,"18446744073709551615",2026,"2026-02-28","0000-00-00","2026-01-02T03:04:05.678901","0000-00-00 00:00:00",` +
		`"2026-07-01T10:00:00.125Z","10:11:12.50","-838:59:59","{\"a\": [1, 2]}",{"$bytes":3,"base64":"YWIA"},{"$bytes":2,"base64":"AP8="},` +
		`"é","tab\t \"q\" \\ nul\u0000","b","x,y",{"$bytes":25,"base64":"AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA=="},null]]`
	if got := mustRead(t, d, "SELECT * FROM v"); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	o := options(reader + "?time_zone=%2B03:00")
	if got := mustRead(t, open(t, o), "SELECT ts FROM v"); got != `[["2026-07-01T13:00:00.125"]]` {
		t.Errorf("in another zone: %s", got)
	}
}

func TestCaps(t *testing.T) {
	s := dbtest.OwnMariaDB(t, "--max-allowed-packet=256M")
	reader, _ := sample(t, s, "caps")
	o := options(reader)
	o.Pool.MaxOpen = 1
	d := open(t, o)
	id := mustRead(t, d, "SELECT CONNECTION_ID()")

	t.Run("3 million rows", func(t *testing.T) {
		began := time.Now()
		out := result.NewWriter(limits(), nil)
		err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT seq, REPEAT('x', 100) FROM seq_1_to_3000000"}, out)
		if p := out.Page(); err != nil || p.Count != 100 || p.TruncatedBy != result.ByRows {
			t.Errorf("%d rows, truncated by %s, %v", p.Count, p.TruncatedBy, err)
		}
		t.Logf("the first 100 of 3 million rows took %v", time.Since(began))
		noneRuns(t, s)
		if now := mustRead(t, d, "SELECT CONNECTION_ID()"); now != id {
			t.Errorf("the connection was not kept: %s, then %s", id, now)
		}
	})
	t.Run("all of 300,000 rows", func(t *testing.T) {
		rows := 0
		out := result.NewWriter(limits(), func(_, _ []byte) bool { rows++; return true })
		if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT seq FROM seq_1_to_300000"}, out); err != nil || rows != 299_900 {
			t.Errorf("%d rows, %v", rows, err)
		}
	})
	t.Run("a value of 100 MB", func(t *testing.T) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := read(t, d, "SELECT REPEAT('x', 100000000)")
		runtime.ReadMemStats(&after)
		if codeOf(err) != engine.ResultTooLarge {
			t.Errorf("got %v", err)
		}
		if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 64 {
			t.Errorf("it took %d MiB", used)
		}
		noneRuns(t, s)
		mustRead(t, d, "SELECT 1")
	})
	t.Run("a value of 10 MB", func(t *testing.T) {
		if got := mustRead(t, d, "SELECT REPEAT('x', 10000000)"); len(got) > 20_000 {
			t.Errorf("a cell of %d bytes", len(got))
		}
	})
	t.Run("3,000 columns", func(t *testing.T) {
		got := mustRead(t, d, "SELECT 1"+strings.Repeat(", 1", 2999))
		if n := strings.Count(got, "1"); n != 3000 {
			t.Errorf("%d values", n)
		}
	})
	t.Run("a statement that is too long", func(t *testing.T) {
		if _, err := read(t, d, "SELECT '"+strings.Repeat("x", maxSQL)+"'"); codeOf(err) != engine.InvalidArgument {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a statement that is deep", func(t *testing.T) {
		// The server's own stack is smaller than the parser's.
		if _, err := read(t, d, "SELECT "+strings.Repeat("(", 100_000)+"1"+strings.Repeat(")", 100_000)); err == nil {
			t.Error("it was read")
		}
		mustRead(t, d, "SELECT 1")
	})
}

// noneRuns fails if a second from now a statement still runs.
func noneRuns(t testing.TB, s *dbtest.MariaDBServer) {
	t.Helper()
	const running = `SELECT info FROM information_schema.processlist
		WHERE command IN ('Query', 'Execute') AND id <> CONNECTION_ID() AND info IS NOT NULL`
	db := s.Open(t, "")
	defer db.Close()
	left := ""
	defer mcptest.Within(t, time.Second)()
	for late := time.Now().Add(30 * time.Second); ; {
		left = ""
		rows, err := db.Query(running)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var info string
			if err := rows.Scan(&info); err != nil {
				t.Fatal(err)
			}
			left += info + "\n"
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		if left == "" {
			return
		}
		if time.Now().After(late) {
			break
		}
	}
	t.Errorf("still running:\n%s", left)
}

func TestOtherSessionsCommitsAreSeen(t *testing.T) { // benborla/mcp-server-mysql issue 149
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "fresh")
	o := options(reader)
	o.Pool.MaxOpen = 1
	d := open(t, o)
	for want := 3; want < 6; want++ {
		if got := mustRead(t, d, "SELECT COUNT(*) FROM customers"); got != fmt.Sprintf("[[%d]]", want) {
			t.Errorf("got %s, want %d", got, want)
		}
		s.Exec(t, "fresh", "INSERT INTO customers (name) VALUES ('new')")
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, root := sample(t, s, "wrong")
	d := open(t, options(reader))
	for _, test := range []struct {
		sql, code, near string
		line, column    int
	}{
		{sql: "SELECT * FROM custmers", code: engine.UnknownObject, near: "customers"},
		{sql: "SELECT emial FROM customers", code: engine.UnknownObject, near: "email"},
		{sql: "SELECT c.nam FROM customers c", code: engine.UnknownObject, near: "name"},
		{sql: "SELECT id FROM customers, orders", code: engine.AmbiguousObject},
		{sql: "SELECT FROM customers", code: engine.SyntaxError, line: 1, column: 8},
		{sql: "SELECT 1\nFROM\n  customers WHERE", code: engine.SyntaxError, line: 3, column: 18},
		{sql: "SELECT 1,\n  name::text FROM customers", code: engine.SyntaxError, line: 2, column: 7},
		// What the parser takes and the server does not.
		{sql: "/* größe */ SELECT id\nFROM customers ORDER BY id LIMIT 1 WINDOW", code: engine.SyntaxError},
		{sql: "SELECT * FROM mysql.user", code: engine.AccessDenied},
		{sql: "SELECT CAST(name AS JSON) FROM customers", code: engine.SyntaxError, line: 1, column: 21},
	} {
		_, err := read(t, d, test.sql)
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != test.code || e.Next == "" {
			t.Errorf("%s: got %v, want %s", test.sql, err, test.code)
			continue
		}
		if test.near != "" && (len(e.DidYouMean) == 0 || e.DidYouMean[0] != test.near) {
			t.Errorf("%s: did you mean %q, want %s", test.sql, e.DidYouMean, test.near)
		}
		if test.line > 0 && (e.Position == nil || e.Position.Line != test.line || e.Position.Column != test.column) {
			t.Errorf("%s: at %v, want %d:%d (%s)", test.sql, e.Position, test.line, test.column, e.Message)
		}
	}
	_ = root
}

func TestExplain(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "plans")
	s.Exec(t, "plans", "CREATE TABLE large AS SELECT seq AS a, seq * 7 % 1000 AS b FROM seq_1_to_300000;\nANALYZE TABLE large")
	d := open(t, options(reader))
	p, err := d.Explain(t.Context(), who, engine.Statement{SQL: "SELECT b, COUNT(*) FROM large WHERE a > ? GROUP BY b ORDER BY 2", Params: []any{number64("5")}})
	if err != nil {
		t.Fatal(err)
	}
	if p.Format != "json" || p.Rows == nil || *p.Rows < 250_000 || !strings.Contains(strings.Join(p.Warnings, "; "), "large is read whole") {
		t.Errorf("got %+v\n%s", p, p.JSON)
	}
	if p, err = d.Explain(t.Context(), who, engine.Statement{SQL: "SELECT * FROM customers WHERE id = 1"}); err != nil || len(p.Warnings) > 0 {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, sql := range []string{"DELETE FROM customers", "SELECT SLEEP(1)", "SHOW TABLES"} {
		if _, err := d.Explain(t.Context(), who, engine.Statement{SQL: sql}); err == nil {
			t.Errorf("%s has a plan", sql)
		}
	}
}

// TestMaxRows holds that the server stops at the rows that are wanted, and counts
// and joins all of them nevertheless.
func TestMaxRows(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "max_rows")
	s.Exec(t, "max_rows", "CREATE TABLE wide (c0 INT"+columnsSQL(40)+", secret TEXT);\nINSERT INTO wide (secret) VALUES ('x')")
	masking := options(reader)
	masking.Policy.Masks = []engine.Mask{{Columns: []string{"secret"}, With: engine.WithNull}}
	for name, d := range map[string]*Database{"plain": open(t, options(reader)), "with masks": open(t, masking)} {
		for sql, want := range map[string]string{
			"SELECT seq FROM seq_1_to_1000":                                                                       "[1],[2],[3]",
			"SELECT seq FROM seq_1_to_1000 LIMIT 4":                                                               "[1],[2],[3],[4]",
			"SELECT COUNT(*) FROM (SELECT * FROM seq_1_to_1000) x":                                                "[1000]",
			"WITH x AS (SELECT * FROM seq_1_to_1000) SELECT COUNT(*) FROM x a JOIN x b ON a.seq = b.seq":          "[1000]",
			"SELECT (SELECT COUNT(*) FROM seq_1_to_1000), 5 IN (SELECT seq FROM seq_1_to_10)":                     "[1000,1]",
			"(SELECT seq FROM seq_1_to_2) UNION ALL (SELECT seq FROM seq_5_to_9)":                                 "[1],[2],[5]",
			"SELECT COUNT(*) FROM ((SELECT seq FROM seq_1_to_20) UNION ALL (SELECT seq FROM seq_1_to_30)) x":      "[50]",
			"WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 50) SELECT SUM(i) FROM n": `["1275"]`,
			"SELECT seq FROM seq_1_to_1000 ORDER BY seq DESC":                                                     "[1000],[999],[998]",
		} {
			out := all()
			err := d.Read(t.Context(), who, engine.Statement{SQL: sql, MaxRows: 3}, out)
			if got := string(out.Page().Rows); err != nil || got != want {
				t.Errorf("%s: %s: got %s, %v, want %s", name, sql, got, err, want)
			}
		}
		if got := mustRead(t, d, "SELECT COUNT(*), @@sql_select_limit > 1000 FROM seq_1_to_1000"); got != "[[1000,1]]" {
			t.Errorf("%s: the next caller got %s", name, got)
		}
	}
	out := all()
	err := open(t, masking).Read(t.Context(), who, engine.Statement{SQL: "SELECT secret FROM wide", MaxRows: 3}, out)
	if got := string(out.Page().Rows); err != nil || got != "[null]" {
		t.Errorf("a mask behind 40 columns: %s, %v", got, err)
	}
}

func columnsSQL(n int) string {
	s := ""
	for i := range n {
		s += fmt.Sprintf(", c%d INT", i+1)
	}
	return s
}
