//go:build unix

package mysql

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/pingcap/tidb/pkg/parser/ast"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

// A recorder remembers what is visited.
type recorder struct{ seen map[ast.Node]bool }

func (r *recorder) Enter(n ast.Node) (ast.Node, bool) { r.seen[n] = true; return n, false }
func (r *recorder) Leave(n ast.Node) (ast.Node, bool) { return n, true }

// unvisited are nodes that the parser's own walk passes by, and that hold
// nothing that could do more than read.
var unvisited = map[string]bool{
	"*ast.WildCardField":         true, // which SelectField has
	"*ast.IndexHint":             true,
	"*ast.ColumnName of DEFAULT": true,
}

// TestTheGuardSeesEverything holds that the parser's walk comes by all that a
// statement has: by each node that can be reached through its fields.
func TestTheGuardSeesEverything(t *testing.T) {
	statements := []string{
		"SELECT GROUP_CONCAT(a ORDER BY f(b) SEPARATOR 'x'), COUNT(DISTINCT f(a), g(b)) FROM t",
		"SELECT SUM(f(a)) OVER (PARTITION BY f(b) ORDER BY f(c) ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING) FROM t",
		"SELECT SUM(a) OVER w FROM t WINDOW w AS (PARTITION BY f(b)), v AS (w ORDER BY f(c))",
		"SELECT a FROM t WHERE MATCH (a) AGAINST (f('x') IN BOOLEAN MODE) LIMIT 1, 2",
		"SELECT CASE f(a) WHEN f(b) THEN f(c) ELSE f(d) END, f(a) BETWEEN f(b) AND f(c), f(a) IN (f(b)), f(a) LIKE f(b), f(a) REGEXP f(b), f(a) COLLATE utf8mb4_bin",
		"SELECT CAST(f(a) AS CHAR), CONVERT(f(a) USING utf8mb4), TRIM(BOTH f(a) FROM f(b)), EXTRACT(YEAR FROM f(a)), f(a) + INTERVAL f(b) DAY, POSITION(f(a) IN f(b)), SUBSTRING(f(a) FROM f(b) FOR f(c))",
		"WITH x (c) AS (SELECT f(1)), y AS (SELECT * FROM x) SELECT * FROM x, y UNION SELECT f(2) EXCEPT (SELECT 3 LIMIT 1) ORDER BY f(4) LIMIT 5",
		"SELECT (SELECT f(1)), EXISTS (SELECT f(2)), 1 = ANY (SELECT f(3)), ROW(f(1), 2) = ROW(3, f(4)) FROM (SELECT f(5)) x JOIN t ON f(6) LEFT JOIN u USING (a)",
		"SELECT a FROM t USE INDEX (i) GROUP BY f(a), f(b) WITH ROLLUP HAVING f(c) ORDER BY f(d), f(e) DESC",
		"VALUES ROW(f(1), 2), ROW(3, f(4)) ORDER BY 1 LIMIT 1",
		"SHOW FULL COLUMNS FROM t WHERE f(a)", "EXPLAIN FORMAT='json' SELECT f(1)", "DESC t a", "SELECT DEFAULT(a), VALUES(a), @a, @@b, ?, NOT f(a), -f(b), (f(c)) IS TRUE, f(d) IS NULL FROM t",
		"INSERT INTO t (a, b) VALUES (f(1), f(2)), (3, DEFAULT) ON DUPLICATE KEY UPDATE a = f(3), b = VALUES(b)",
		"INSERT INTO t SET a = f(1)", "REPLACE INTO t SELECT f(1) FROM u WHERE f(2)",
		"UPDATE t, u SET t.a = f(1), u.b = f(2) WHERE f(3)", "UPDATE t SET a = f(1) WHERE f(2) ORDER BY f(3) LIMIT 4",
		"WITH x AS (SELECT f(1)) UPDATE t JOIN x ON f(2) SET a = 1", "DELETE FROM t WHERE f(1) ORDER BY f(2) LIMIT 3", "DELETE t, u FROM t JOIN u ON f(1) WHERE f(2)",
		"CREATE TABLE t (a INT DEFAULT (f(1)) CHECK (f(2)), b INT AS (f(3)) STORED, c INT ON UPDATE CURRENT_TIMESTAMP(), CHECK (f(4)), KEY ((f(5))), FOREIGN KEY (a) REFERENCES u (b) ON DELETE CASCADE)",
		"CREATE TABLE t AS SELECT f(1)", "CREATE TABLE t LIKE u", "CREATE VIEW v AS SELECT f(1) FROM t", "CREATE INDEX i ON t ((f(1)))",
		"ALTER TABLE t ADD COLUMN a INT DEFAULT (f(1)) AFTER b, ADD CHECK (f(2)), ALTER b SET DEFAULT (f(3)), RENAME TO u", "RENAME TABLE a TO b", "DROP TABLE a, b", "TRUNCATE t",
	}
	for _, e := range readCorpus(t, "mysql-allow.txt") {
		statements = append(statements, e.sql)
	}
	for _, sql := range statements {
		s, err := parse(sql)
		if err != nil {
			if !strings.Contains(sql, "f(") {
				continue // syntax that the parser has not got
			}
			t.Errorf("%s: %v", sql, err)
			continue
		}
		r := &recorder{seen: map[ast.Node]bool{}}
		s.node.Accept(r)
		ofDefault := map[*ast.ColumnName]bool{}
		for _, n := range reachable(s.node) {
			kind := fmt.Sprintf("%T", n)
			if d, ok := n.(*ast.DefaultExpr); ok {
				ofDefault[d.Name] = true
			}
			if c, ok := n.(*ast.ColumnName); ok && ofDefault[c] {
				kind += " of DEFAULT"
			}
			if !r.seen[n] && !unvisited[kind] {
				t.Errorf("%s: %T is not seen", sql, n)
			}
		}
	}
}

// reachable returns all nodes below one, by the fields of what there is.
func reachable(root ast.Node) []ast.Node {
	var nodes []ast.Node
	seen := map[uintptr]bool{}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Interface:
			walk(v.Elem())
		case reflect.Pointer:
			if v.IsNil() || seen[v.Pointer()] {
				return
			}
			seen[v.Pointer()] = true
			if v.CanInterface() {
				if n, ok := v.Interface().(ast.Node); ok {
					nodes = append(nodes, n)
				}
			}
			walk(v.Elem())
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					walk(v.Field(i))
				}
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		}
	}
	walk(reflect.ValueOf(root))
	return nodes
}

func TestAllowedFunctions(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "functions")
	s.Exec(t, "functions", "CREATE FUNCTION twice(n INT) RETURNS INT NO SQL RETURN n * 2;\nGRANT EXECUTE ON functions.* TO functions_ro")
	o := options(reader)
	if _, err := read(t, open(t, o), "SELECT twice(2)"); codeOf(err) != engine.FunctionDenied {
		t.Errorf("got %v", err)
	}
	o.Policy.Functions = []string{"twice", "functions.*"}
	d := open(t, o)
	if got := mustRead(t, d, "SELECT twice(2), functions.twice(3)"); got != "[[4,6]]" {
		t.Errorf("got %s", got)
	}
	if _, err := read(t, d, "SELECT SLEEP(0)"); codeOf(err) != engine.FunctionDenied {
		t.Errorf("got %v", err)
	}
}

func TestTextsThatAreNone(t *testing.T) {
	for _, sql := range []string{"SELECT '\xff'", "SELECT 1\x00", "SELECT\u0085 1", "SELECT \x1b[0m1"} {
		if _, err := parse(sql); codeOf(err) != engine.InvalidArgument {
			t.Errorf("%q: got %v", sql, err)
		}
	}
	if s, err := parse("SELECT 1 --\x7f INTO OUTFILE 'x'"); err == nil && strings.Contains(s.sql, "INTO") {
		t.Errorf("a comment to the server is none to the guard: %q", s.sql)
	}
	for sql, want := range map[string]string{
		"SELECT 1 /* a\nb */ + 2":          "SELECT 1     \n     + 2",
		"SELECT 'a -- /* # ' -- x\n":       "SELECT 'a -- /* # '",
		"SELECT 1--1":                      "SELECT 1--1",
		"# größe\nSELECT `#`":              "         \nSELECT `#`",
		"SELECT '/*! */', \"/*+ */\" /**/": "SELECT '/*! */', \"/*+ */\"",
	} {
		if s, err := parse(sql); err != nil || s.sql != want {
			t.Errorf("%q: got %+v, %v", sql, s, err)
		}
	}
}

func TestMistakesAreNoWrites(t *testing.T) {
	for sql, want := range map[string]string{
		"SELCT 1": engine.SyntaxError, "1 + 1": engine.SyntaxError, "(SELEC 1)": engine.SyntaxError, "SELECT FROM": engine.SyntaxError,
		"INSERT INTO": engine.ReadOnly, "optimize TABLE t x": engine.ReadOnly, "(DELETE FROM t": engine.ReadOnly, "SELCT 1 INTO OUTFILE 'x'": engine.ReadOnly,
	} {
		if _, err := parse(sql); codeOf(err) != want {
			t.Errorf("%s: got %v, want %s", sql, err, want)
		}
	}
}

// FuzzReadsChangeNothing holds that whatever the guard lets through leaves
// everything as it was, even for an account that may do anything.
func FuzzReadsChangeNothing(f *testing.F) {
	for _, name := range []string{"mysql-attack.txt", "mysql-allow.txt"} {
		for _, e := range readCorpus(f, name) {
			f.Add(e.sql)
		}
	}
	for _, sql := range []string{
		"SELECT 1/*/ INTO OUTFILE 'x' /*/", "SELECT 1 -- \r; DELETE FROM orders", "SELECT/**/1/**//*!*/", "SELECT '\\\\'; DELETE FROM orders -- '",
		"SELECT `a``; DELETE FROM orders; -- ` FROM t", "SELECT 1 FROM orders PARTITION (p) FOR UPDATE", "SELECT {fn NOW()}", "SELECT {d '2020-01-01'}",
		"SELECT * FROM customers, LATERAL (SELECT writes()) x", "(((SELECT 1)))", "SELECT 1 AS `/*!`, 2 AS '*/ INTO @a'", "SELECT N'x' 'y' \"z\"",
		"SELECT _binary 0x41 'x'", "SELECT@@version,@a", "SELECT 1e1.5, 1.e", "SELECT .1.2", "SELECT 0xg", "SELECT 1 INTO", "SELECT a.b.c.d", "SHOW TABLES FROM mysql WHERE writes()",
	} {
		f.Add(sql)
	}
	s := dbtest.MariaDB(f)
	_, root := sample(f, s, "fuzzed")
	db := s.Open(f, "fuzzed")
	for statement := range strings.SplitSeq(attackedSQL, ";\n") {
		if strings.TrimSpace(statement) != "" {
			if _, err := db.Exec(statement); err != nil {
				f.Fatal(err)
			}
		}
	}
	dir, own := s.WritableDir(f, "fuzzed"), s.DatabaseDir("fuzzed")
	o := options(root)
	o.AllowUnsafeRole = true
	o.StatementTimeout = 2e9
	o.Pool.MaxOpen = 1
	d := open(f, o)
	before, clean := state(f, db, dir, own), session(f, d)
	f.Fuzz(func(t *testing.T, sql string) {
		sql = strings.ReplaceAll(sql, "{dir}", dir)
		if _, err := d.read(sql); err != nil {
			return
		}
		_, _ = read(t, d, sql)
		if diff := difference(before, state(t, db, dir, own)); diff != "" {
			t.Fatalf("%s changed\n%s", sql, diff)
		}
		if now := session(t, d); now != clean {
			t.Fatalf("after %s the session is\n%s\nwant\n%s", sql, now, clean)
		}
	})
}
