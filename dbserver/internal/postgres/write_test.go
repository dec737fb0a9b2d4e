//go:build unix

package postgres

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

func (p *testDatabase) writer(t testing.TB, change ...func(*engine.Options)) *Database {
	return p.reader(t, append(change, func(o *engine.Options) { o.Write, o.WriteDSN = true, p.Superuser(p.database) })...)
}

func write(t testing.TB, d *Database, w engine.Write, sql string, params ...any) (string, error) {
	t.Helper()
	out := result.NewWriter(limits, nil)
	written, err := d.Write(t.Context(), someone, engine.Statement{SQL: sql, Params: params}, w, out)
	return fmt.Sprintf("%s %d [%s]", written.Class, written.Affected, out.Page().Rows), err
}

func TestWriteIsKeptOnlyIfItIsToBe(t *testing.T) {
	p := newDatabase(t)
	d := p.writer(t)
	w := newWatch(t, p)
	before := w.state(t)
	for sql, want := range map[string]string{
		"UPDATE users SET name = 'x' WHERE id < 3":                                                                      "update 2 []",
		"DELETE FROM orders WHERE id <= 10 RETURNING id * 10":                                                           "delete 10 [[10],[20],[30],[40],[50],[60],[70],[80],[90],[100]]",
		"INSERT INTO users (id, name) VALUES (7, 'G') RETURNING id, name":                                               `insert 1 [[7,"G"]]`,
		"WITH x AS (SELECT 1 AS id) UPDATE users SET name = 'x' FROM x WHERE x.id = users.id":                           "update 1 []",
		"MERGE INTO users u USING (VALUES (1)) v(id) ON u.id = v.id WHEN MATCHED THEN UPDATE SET name = 'm'":            "merge 1 []",
		"INSERT INTO users (id, name) VALUES (1, 'A') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name RETURNING id": "insert 1 [[1]]",
	} {
		if got, err := write(t, d, engine.Write{RequireWhere: true}, sql); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", sql, got, err, want)
		}
		if after := w.state(t); after != before {
			t.Fatalf("%s: a preview changed the database to %s", sql, after)
		}
	}
	if got, err := write(t, d, engine.Write{Commit: true}, "UPDATE users SET name = $1 WHERE id = $2", "Zoe", "1"); err != nil || got != "update 1 []" {
		t.Fatalf("got %s, %v", got, err)
	}
	if got, err := write(t, d, engine.Write{}, "UPDATE users SET name = $1 WHERE id = $2", strings.Repeat("x", 3*valueMost), "2"); err != nil || got != "update 1 []" {
		t.Errorf("a long value: got %s, %v", got, err)
	}
	if got := read(t, d, "SELECT name FROM users WHERE id = 1"); got != `[["Zoe"]]` {
		t.Errorf("what was to be kept is not: %s", got)
	}
}

// A transaction that cannot begin as the caller takes the statement with it.
func TestNothingRunsOutsideOfItsTransaction(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, "postgres", `CREATE DATABASE western TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`)
	p.Exec(t, "western", `CREATE TABLE things (n int); INSERT INTO things SELECT generate_series(1, 10)`)
	for database, principal := range map[string]string{"western": "日本", p.database: "nobody has this role"} {
		d := p.reader(t, func(o *engine.Options) {
			o.Identity.Role, o.Write, o.WriteDSN = "{principal}", true, p.Superuser(database)
		})
		for _, commit := range []bool{false, true} {
			out := result.NewWriter(limits, nil)
			_, err := d.Write(t.Context(), engine.Caller{Principal: principal}, engine.Statement{SQL: "CREATE TABLE made AS SELECT 1"}, engine.Write{Commit: commit, DDL: true}, out)
			if code(err) != engine.AccessDenied {
				t.Errorf("%s as %s: got %v", database, principal, err)
			}
		}
		if got := strings.TrimSpace(p.Exec(t, database, "SELECT count(*) FROM pg_class WHERE relname = 'made'")); got != "0" {
			t.Errorf("%s: the statement ran although its transaction did not begin", database)
		}
	}
}

func TestWriteThatMayNotBe(t *testing.T) {
	p := newDatabase(t)
	d := p.writer(t)
	w := newWatch(t, p)
	before := w.state(t)
	all := engine.Write{Commit: true, DDL: true}
	for _, c := range []struct {
		sql  string
		w    engine.Write
		want string
	}{
		{"UPDATE users SET name = 'x'", engine.Write{Commit: true, RequireWhere: true}, engine.AccessDenied},
		{"DELETE FROM orders /* WHERE */ -- WHERE", engine.Write{Commit: true, RequireWhere: true}, engine.AccessDenied},
		{"DELETE FROM orders USING (SELECT 1 WHERE true) x", engine.Write{Commit: true, RequireWhere: true}, engine.AccessDenied},
		{"WITH x AS (SELECT 1 WHERE true) DELETE FROM orders", engine.Write{Commit: true, RequireWhere: true}, engine.AccessDenied},
		{"DELETE FROM orders WHERE id < 100", engine.Write{Commit: true, MaxRows: 98}, engine.AffectedLimit},
		{"WITH x AS (DELETE FROM orders RETURNING 1) SELECT count(*) FROM x", all, engine.AccessDenied},
		{"WITH x AS (DELETE FROM orders RETURNING 1) INSERT INTO parts SELECT 1, 'eu' FROM x", all, engine.AccessDenied},
		{"CREATE TABLE evil (a int)", engine.Write{Commit: true}, engine.AccessDenied},
		{"TRUNCATE orders", engine.Write{Commit: true}, engine.AccessDenied},
		{"SELECT 1", all, engine.InvalidArgument},
		{"WITH x AS (SELECT 1) SELECT * FROM x", all, engine.InvalidArgument},
		{"UPDATE users SET name = 'x' WHERE id = 1; DROP TABLE orders", all, engine.MultiStatement},
		{"INSERT INTO orders (user_id) SELECT touch()", all, engine.FunctionDenied},
		{"INSERT INTO orders (note) VALUES (pg_read_file('PG_VERSION'))", all, engine.FunctionDenied},
		{"CREATE TABLE evil AS SELECT lo_create(0)", all, engine.FunctionDenied},
		{"INSERT INTO users (id, name) VALUES (1, 'twice')", all, engine.EngineError},
		{"INSERT INTO orders (user_id) VALUES (99)", all, engine.EngineError},
		{"CREATE ROLE evil", all, engine.AccessDenied},
		{"CREATE FUNCTION evil() RETURNS int LANGUAGE sql AS 'SELECT 1'", all, engine.AccessDenied},
		{"CREATE OR REPLACE FUNCTION evil() RETURNS int LANGUAGE sql AS 'SELECT 1'", all, engine.AccessDenied},
		{"CREATE TRIGGER evil AFTER INSERT ON users EXECUTE FUNCTION touch()", all, engine.AccessDenied},
		{"CREATE EXTENSION dblink", all, engine.AccessDenied},
		{"ALTER SYSTEM SET work_mem = '1GB'", all, engine.AccessDenied},
		{"ALTER ROLE reader SUPERUSER", all, engine.AccessDenied},
		{"DROP DATABASE postgres", all, engine.AccessDenied},
		{"GRANT ALL ON users TO PUBLIC", all, engine.AccessDenied},
		{"COPY users TO '/tmp/mcpool-evil'", all, engine.AccessDenied},
		{"COMMIT", all, engine.AccessDenied},
		{"SET ROLE reader", all, engine.AccessDenied},
		{"DO $$ BEGIN DELETE FROM orders; END $$", all, engine.AccessDenied},
		{"CALL touch()", all, engine.AccessDenied},
		{"", all, engine.InvalidArgument},
	} {
		if got, err := write(t, d, c.w, c.sql); code(err) != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.sql, got, err, c.want)
		}
		if after := w.state(t); after != before {
			t.Fatalf("%s: changed the database to %s", c.sql, after)
		}
	}
	if _, err := write(t, p.reader(t), all, "DELETE FROM orders"); code(err) != engine.ReadOnly {
		t.Errorf("where nobody may write got %v", err)
	}
}

func TestSchemaChanges(t *testing.T) {
	p := newDatabase(t)
	d := p.writer(t)
	all := engine.Write{Commit: true, DDL: true, RequireWhere: true}
	for _, sql := range []string{
		"CREATE TABLE made (id int PRIMARY KEY, at timestamptz DEFAULT now())",
		"CREATE UNIQUE INDEX made_at ON made (at)",
		"COMMENT ON COLUMN made.at IS 'when'",
		"ALTER TABLE made ADD COLUMN n int GENERATED ALWAYS AS IDENTITY",
		"CREATE OR REPLACE VIEW seen AS SELECT id FROM made",
		"DROP VIEW seen", "TRUNCATE made", "DROP TABLE made",
	} {
		if got, err := write(t, d, all, sql); err != nil || got != "ddl 0 []" {
			t.Errorf("%s: got %s, %v", sql, got, err)
		}
	}
}

// attackedByWriters is what the attacks of writers find besides the schema.
const attackedByWriters = `
INSERT INTO users VALUES (4, 'Dan', 'dan@example.org', '444-44-4444');
CREATE TABLE notes (note text, user_id int REFERENCES users ON DELETE SET NULL CHECK (user_id IS NOT NULL));
INSERT INTO notes VALUES ('hush note', 4);
CREATE DOMAIN pin AS text;
CREATE TABLE cards (id int CHECK (id > 0), number pin);
INSERT INTO cards VALUES (1, 'hush pin');
UPDATE parts SET secret = 'hush part';
CREATE UNIQUE INDEX ON parts (id, region);
CREATE SCHEMA vault;
CREATE TABLE vault.keys AS SELECT 'hush key' AS key;
CREATE VIEW keys AS SELECT key FROM vault.keys;
CREATE VIEW people AS SELECT id, ssn AS number FROM users;
CREATE VIEW priced AS SELECT id, total FROM orders;
CREATE MATERIALIZED VIEW copied AS SELECT id, email AS contact FROM users;
CREATE TABLE ruled (n int);
INSERT INTO ruled VALUES (0);
CREATE RULE also AS ON UPDATE TO ruled DO ALSO DELETE FROM orders;
CREATE RULE nothing AS ON DELETE TO ruled DO INSTEAD NOTHING;
CREATE RULE other AS ON INSERT TO ruled DO INSTEAD DELETE FROM orders;
`

func TestAttacksByWriters(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, attackedByWriters)
	w := newWatch(t, p)
	before := w.state(t)
	secret := regexp.MustCompile(`hush|\d\d\d-\d\d|@example`)
	rows := engine.Write{RequireWhere: true, MaxRows: 10}
	ddl := rows
	ddl.DDL = true
	open := p.writer(t, one)
	settings := map[string]struct {
		d *Database
		w engine.Write
	}{
		"rows": {open, rows},
		"ddl":  {open, ddl},
		"hidden": {p.writer(t, one, func(o *engine.Options) {
			o.Policy.DenyTables = []string{"vault.*", "notes"}
			o.Policy.Masks = []engine.Mask{{Columns: []string{"users.email", "users.ssn", "cards.number", "parts_eu.secret"}, With: engine.WithNull}}
		}), ddl},
	}
	for _, c := range dbtest.Corpus(t, filepath.Join("..", "..", "testdata", "corpus", "postgres-write-attack.txt")) {
		name, want, _ := strings.Cut(c.Want, " ")
		s, ok := settings[name]
		if !ok {
			t.Fatalf("line %d: run with %q", c.Line, name)
		}
		for _, commit := range []bool{false, true} {
			if want == "preview" && commit {
				break
			}
			s.w.Commit = commit
			got, err := write(t, s.d, s.w, c.SQL)
			if code(err) != strings.TrimPrefix(want, "preview") {
				t.Errorf("line %d, %s (commit %t): got %s, %v, want %s", c.Line, c.SQL, commit, got, err, want)
			}
			if told := fmt.Sprint(got, jsonOf(err)); name == "hidden" && secret.MatchString(told) {
				t.Errorf("line %d, %s: told %s", c.Line, c.SQL, told)
			}
			if after := w.state(t); after != before {
				t.Fatalf("line %d, %s (commit %t): changed the database from\n%s\tto\n%s", c.Line, c.SQL, commit, before, after)
			}
		}
	}
}

// A commit whose answer nobody waited for may have been kept, whoever gave up.
func TestACommitWithoutAnAnswerIsToldAsThat(t *testing.T) {
	p := newDatabase(t)
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	address := hushed(t, net.JoinHostPort(p.Host, p.Port), []byte("COMMIT"), giveUp)
	d := p.reader(t, func(o *engine.Options) {
		o.Write, o.WriteDSN = true, strings.Replace(p.Superuser(p.database), net.JoinHostPort(p.Host, p.Port), address, 1)+"?sslmode=disable"
	})
	out := result.NewWriter(limits, nil)
	_, err := d.Write(ctx, someone, engine.Statement{SQL: "UPDATE users SET name = 'kept' WHERE id = 1"}, engine.Write{Commit: true}, out)
	if code(err) != engine.Unreachable || !strings.Contains(err.Error(), "may have been kept or not") {
		t.Errorf("got %v", err)
	}
	for late := time.Now().Add(10 * time.Second); read(t, d, "SELECT name FROM users WHERE id = 1") != `[["kept"]]`; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("it was not kept")
		}
	}
}

// hushed returns the address of a relay to a server. From when a client has sent
// what is to be waited for, which it is told of, nothing comes back.
func hushed(t *testing.T, server string, until []byte, sent func()) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { relay(client, server, until, sent) })
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return l.Addr().String()
}

func relay(client net.Conn, address string, until []byte, sent func()) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	hush := make(chan struct{})
	var back sync.WaitGroup
	defer back.Wait()
	back.Go(func() {
		answer := make([]byte, 4096)
		for {
			n, err := server.Read(answer)
			if err != nil {
				client.Close()
				return
			}
			select {
			case <-hush:
			default:
				_, _ = client.Write(answer[:n])
			}
		}
	})
	defer server.Close()
	said := make([]byte, 4096)
	for {
		n, err := client.Read(said)
		if err != nil {
			return
		}
		heard := bytes.Contains(said[:n], until)
		if heard {
			close(hush)
		}
		if _, err := server.Write(said[:n]); err != nil {
			return
		}
		if heard {
			sent()
		}
	}
}
