//go:build unix

package mysql

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

// A sample statement of a corpus.
type corpusEntry struct {
	line     int
	sql      string
	expected []string // codes, "" for success
	role     bool     // only the account stops it
}

func readCorpus(t testing.TB, name string) []corpusEntry {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../testdata/corpus", name))
	if err != nil {
		t.Fatal(err)
	}
	var entries []corpusEntry
	e := corpusEntry{line: 1}
	var lines []string
	add := func(next int) {
		if e.sql = strings.Join(lines, "\n"); e.sql != "" {
			entries = append(entries, e)
		}
		e, lines = corpusEntry{line: next}, nil
	}
	for i, line := range strings.Split(string(text), "\n") {
		switch codes, expects := strings.CutPrefix(line, "#:"); {
		case line == "---":
			add(i + 2)
		case expects && strings.TrimSpace(codes) == "role":
			e.role = true
		case expects:
			for code := range strings.SplitSeq(codes, ",") {
				e.expected = append(e.expected, strings.TrimSpace(code))
			}
		case strings.HasPrefix(line, "#") || line == "" && len(lines) == 0:
		case line != "" || len(lines) > 0:
			lines = append(lines, line)
		}
	}
	add(0)
	if len(entries) < 20 {
		t.Fatalf("%s has %d statements", name, len(entries))
	}
	return entries
}

// attackedSQL is what the corpus of attacks finds besides the sample.
const attackedSQL = `
CREATE SEQUENCE numbers;
CREATE FUNCTION writes() RETURNS INT BEGIN INSERT INTO customers (name) VALUES ('written'); RETURN 1; END;
CREATE FUNCTION remembers() RETURNS INT BEGIN SET @left = 1, @@sql_mode = 'ANSI_QUOTES'; RETURN GET_LOCK('left', 1); END;
CREATE PROCEDURE clears() DELETE FROM orders;
CREATE VIEW by_function AS SELECT writes() AS w;
CREATE VIEW by_memory AS SELECT remembers() AS r;
`

// attackable adds to a sample what the attacks are against.
func attackable(t *testing.T, s *dbtest.MariaDBServer, name string) *sql.DB {
	t.Helper()
	db := s.Open(t, name)
	for statement := range strings.SplitSeq(attackedSQL, ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return db
}

// state is all that a statement could have changed: rows, schema, accounts,
// settings and files.
func state(t testing.TB, db *sql.DB, dirs ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	ask := func(name, statement string) {
		rows, err := db.Query(statement)
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		defer rows.Close()
		columns, _ := rows.Columns()
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		for n := 0; rows.Next(); n++ {
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			line := ""
			for _, v := range values {
				line += "|" + v.String
			}
			all[fmt.Sprintf("%s %d", name, n)] = line
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	ask("checksum", "CHECKSUM TABLE customers, orders, untransacted EXTENDED")
	ask("sequence", "SELECT next_not_cached_value FROM numbers")
	ask("databases", "SHOW DATABASES")
	ask("tables", "SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'sys') ORDER BY 1, 2")
	ask("columns", "SELECT table_name, column_name, column_type FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY 1, 2")
	ask("routines", "SELECT routine_schema, routine_name FROM information_schema.routines WHERE routine_schema <> 'sys' ORDER BY 1, 2")
	ask("triggers", "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema <> 'sys' ORDER BY 1")
	ask("events", "SELECT event_name FROM information_schema.events")
	ask("accounts", "SELECT host, user, priv FROM mysql.global_priv ORDER BY 1, 2")
	ask("plugins", "SELECT name FROM mysql.plugin")
	ask("servers", "SELECT server_name FROM mysql.servers")
	ask("locks", "SELECT IS_FREE_LOCK('left')")
	ask("settings", "SELECT variable_name, variable_value FROM information_schema.global_variables WHERE variable_name NOT LIKE 'GTID%' AND variable_name NOT IN ('TIMESTAMP','RAND_SEED1','RAND_SEED2','PSEUDO_THREAD_ID') ORDER BY 1")
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil {
				all["file "+path] = ""
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// difference says what is not the same in two states.
func difference(before, after map[string]string) string {
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(before)) {
		if v, ok := after[k]; !ok || v != before[k] {
			lines = append(lines, fmt.Sprintf("%s: %s → %s", k, before[k], v))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(after)) {
		if _, ok := before[k]; !ok {
			lines = append(lines, fmt.Sprintf("%s: new: %s", k, after[k]))
		}
	}
	return strings.Join(lines, "\n")
}

// session is what a caller sees of its session.
func session(t testing.TB, d *Database) string {
	t.Helper()
	variables := mustRead(t, d, `SELECT variable_name, variable_value FROM information_schema.session_variables
		WHERE variable_name NOT IN ('TIMESTAMP','RAND_SEED1','RAND_SEED2','PSEUDO_THREAD_ID','LAST_GTID')`)
	return variables + mustRead(t, d, "SELECT @left, DATABASE(), CURRENT_ROLE(), LAST_INSERT_ID(), @@in_transaction, @@warning_count, (SELECT COUNT(*) FROM customers)")
}

func TestAttacksChangeNothing(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, root := sample(t, s, "attacked")
	db := attackable(t, s, "attacked")
	dir, own := s.WritableDir(t, "watched"), s.DatabaseDir("attacked")
	entries := readCorpus(t, "mysql-attack.txt")
	for _, role := range []string{"reader", "root"} {
		t.Run(role, func(t *testing.T) {
			o := options(reader)
			if role == "root" {
				o = options(root)
				o.AllowUnsafeRole = true
			}
			o.Pool.MaxOpen = 1 // the next caller has the same connection
			d := open(t, o)
			before, clean := state(t, db, dir, own), session(t, d)
			for _, e := range entries {
				sql := strings.ReplaceAll(e.sql, "{dir}", dir)
				_, err := read(t, d, sql)
				if code := codeOf(err); !slices.Contains(e.expected, code) && !(e.role && role == "root") {
					t.Errorf("mysql-attack.txt:%d: %s: got %q (%v), want %s", e.line, sql, code, err, strings.Join(e.expected, ", "))
				}
				var told *engine.Error
				if errors.As(err, &told) && told.Next == "" {
					t.Errorf("mysql-attack.txt:%d: %v does not say what to do", e.line, err)
				}
				if diff := difference(before, state(t, db, dir, own)); diff != "" {
					t.Errorf("mysql-attack.txt:%d: %s changed\n%s", e.line, sql, diff)
					before = state(t, db, dir, own)
				}
				if now := session(t, d); now != clean {
					t.Errorf("mysql-attack.txt:%d: after %s the session is\n%s\nwant\n%s", e.line, sql, now, clean)
				}
			}
		})
	}
}

func TestReadingStatementsPass(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "allowed")
	d := open(t, options(reader))
	for _, e := range readCorpus(t, "mysql-allow.txt") {
		_, err := read(t, d, e.sql)
		if len(e.expected) == 0 {
			e.expected = []string{""}
		}
		if code := codeOf(err); !slices.Contains(e.expected, code) {
			t.Errorf("mysql-allow.txt:%d: %s: %v", e.line, e.sql, err)
		}
	}
}

// TestAttacksByWriters runs the attacks by writing, which
// their corpus says more of.
func TestAttacksByWriters(t *testing.T) {
	const name = "attacked_by_writing"
	s := dbtest.MariaDB(t)
	_, root := sample(t, s, name)
	db := attackable(t, s, name)
	s.Exec(t, name, `CREATE TABLE noted (id INT PRIMARY KEY, at DATETIME DEFAULT CURRENT_TIMESTAMP)`)
	dir, own := s.WritableDir(t, "watched_writes"), s.DatabaseDir(name)
	o := options(root)
	o.AllowUnsafeRole, o.Write, o.Pool.MaxOpen = true, true, 1
	all := open(t, o)
	o.Policy = engine.Policy{DenyTables: []string{"untransacted"}, Masks: []engine.Mask{
		{Columns: []string{"customers.email"}, With: engine.WithNull}, {Columns: []string{"customers.state"}, With: engine.WithRefuse}}}
	hidden := open(t, o)
	settings := map[string]struct {
		d *Database
		w engine.Write
	}{
		"rows":   {all, engine.Write{RequireWhere: true, MaxRows: 2}},
		"ddl":    {all, engine.Write{RequireWhere: true, MaxRows: 2, DDL: true}},
		"hidden": {hidden, engine.Write{DDL: true}},
	}
	before := state(t, db, dir, own)
	for _, e := range readCorpus(t, "mysql-write-attack.txt") {
		setting, first, _ := strings.Cut(e.expected[0], " ")
		run, ok := settings[setting]
		if !ok {
			t.Fatalf("line %d: run with %q", e.line, setting)
		}
		e.expected[0] = first
		sql := strings.ReplaceAll(e.sql, "{dir}", dir)
		passes := slices.Contains(e.expected, "preview")
		for _, run.w.Commit = range []bool{false, true} {
			if passes && run.w.Commit && len(e.expected) == 1 {
				break
			}
			got, err := write(t, run.d, sql, run.w)
			if code := codeOf(err); !slices.Contains(e.expected, code) && !(passes && code == "" && !run.w.Commit) {
				t.Errorf("mysql-write-attack.txt:%d: %s (commit %t): got %+v, %v, want %s", e.line, sql, run.w.Commit, got, err, e.expected)
			}
			if told := fmt.Sprint(err); setting == "hidden" && strings.Contains(told, "@example.com") {
				t.Errorf("mysql-write-attack.txt:%d: %s: told %s", e.line, sql, told)
			}
			if diff := difference(before, state(t, db, dir, own)); diff != "" {
				t.Fatalf("mysql-write-attack.txt:%d: %s (commit %t) changed\n%s", e.line, sql, run.w.Commit, diff)
			}
		}
	}
}
