//go:build unix

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mcptest.Settled(dbtest.Servers(m))) }

const (
	readerRole     = "reader"
	readerPassword = "reader's \\ pass%word"
)

// schema is what tests read, one copy for each database that has it.
const schema = `
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, email varchar(80) UNIQUE, ssn text, mood mood DEFAULT 'ok',
	created timestamptz NOT NULL DEFAULT '2026-01-02 03:04:05+00');
COMMENT ON TABLE users IS 'who there is';
COMMENT ON COLUMN users.email IS 'where to write to';
INSERT INTO users VALUES (1, 'Ann', 'ann@example.org', '111-11-1111', 'happy'), (2, 'Bob', 'bob@example.org', '222-22-2222', 'sad'),
	(3, 'Käthe', NULL, '333-33-3333', 'ok');
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id int NOT NULL REFERENCES users (id), total numeric(10,2),
	note text, CHECK (total >= 0));
CREATE INDEX orders_of_user ON orders (user_id) WHERE total > 0;
CREATE INDEX ON orders (lower(note));
INSERT INTO orders (user_id, total, note) SELECT 1 + i % 3, i * 1.5, 'note ' || i FROM generate_series(1, 300) i;
CREATE VIEW contacts AS SELECT id, email AS contact FROM users;
CREATE TABLE parts (id int, region text, secret text) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
CREATE TABLE parts_us PARTITION OF parts FOR VALUES IN ('us');
INSERT INTO parts VALUES (1, 'eu', 's1'), (2, 'us', 's2');
CREATE SEQUENCE counter;
CREATE FUNCTION touch() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO orders (user_id) VALUES (1); SELECT 1';
CREATE FUNCTION double(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE FUNCTION st_distance(point, point) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT $1 <-> $2';
CREATE FUNCTION owner_touch() RETURNS int LANGUAGE sql VOLATILE SECURITY DEFINER AS 'INSERT INTO orders (user_id) VALUES (1); SELECT 1';
CREATE FUNCTION of_user(users) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1.name';
ANALYZE;
`

// A testDatabase is a database for tests with its server.
type testDatabase struct {
	*dbtest.PostgresServer
	database string
}

var roles sync.Once

// newDatabase makes a database with the schema and the role that may only read.
func newDatabase(t testing.TB) *testDatabase {
	t.Helper()
	p := &testDatabase{dbtest.Postgres(t), strings.ToLower(strings.NewReplacer("/", "_", " ", "_").Replace(t.Name()))}
	if len(p.database) > 60 {
		p.database = p.database[:60]
	}
	roles.Do(func() { setUp(t, p.PostgresServer) })
	p.Database(t, p.database)
	p.fill(t)
	return p
}

// setUp makes the roles of a server.
func setUp(t testing.TB, s *dbtest.PostgresServer) {
	t.Helper()
	s.Exec(t, "postgres", `CREATE ROLE reader LOGIN PASSWORD 'reader''s \ pass%word'`)
}

func (p *testDatabase) fill(t testing.TB) {
	t.Helper()
	p.Exec(t, p.database, schema)
	p.Exec(t, p.database, grants(p.database))
}

// grants give what [SetupSQL] gives, to the role that there is.
func grants(database string) string {
	_, rest, _ := strings.Cut(SetupSQL(readerRole, database, Setup{}), "CREATE ROLE")
	_, rest, _ = strings.Cut(rest, "\n")
	return rest
}

func options() engine.Options {
	return engine.Options{Name: "test", Log: slog.New(slog.DiscardHandler), LockTimeout: 2 * time.Second, StatementTimeout: 30 * time.Second,
		Pool: engine.Pool{MaxOpen: 8, MaxIdleTime: 4 * time.Minute, MaxLifetime: 30 * time.Minute, AcquireTimeout: 5 * time.Second,
			ConnectTimeout: 5 * time.Second}}
}

// reader opens a place as the role that may only read.
func (p *testDatabase) reader(t testing.TB, change ...func(*engine.Options)) *Database {
	t.Helper()
	return p.open(t, p.DSN(readerRole, readerPassword, p.database), change...)
}

// superuser opens a place as a role that may do all.
func (p *testDatabase) superuser(t testing.TB, change ...func(*engine.Options)) *Database {
	t.Helper()
	return p.open(t, p.Superuser(p.database), append(change, func(o *engine.Options) { o.AllowUnsafeRole = true })...)
}

func (p *testDatabase) open(t testing.TB, dsn string, change ...func(*engine.Options)) *Database {
	t.Helper()
	o := options()
	o.DSN = dsn
	for _, c := range change {
		c(&o)
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.(*Database)
}

var someone = engine.Caller{Principal: "ann", Tool: "read_data"}

// read runs a statement and returns its rows as JSON.
func read(t testing.TB, d *Database, sql string, params ...any) string {
	t.Helper()
	page, err := tryRead(t.Context(), d, sql, params...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return "[" + string(page.Rows) + "]"
}

var limits = result.Limits{Rows: 1000, Bytes: 1 << 20, Cell: 4096}

func tryRead(ctx context.Context, d *Database, sql string, params ...any) (result.Page, error) {
	out := result.NewWriter(limits, nil)
	err := d.Read(ctx, someone, engine.Statement{SQL: sql, Params: params}, out)
	return out.Page(), err
}

// code returns the code of an error that the caller of a tool can act on.
func code(err error) string {
	var told *engine.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &told):
		return told.Code
	}
	return err.Error()
}

func refused(t testing.TB, d *Database, sql, want string, params ...any) *engine.Error {
	t.Helper()
	page, err := tryRead(t.Context(), d, sql, params...)
	if got := code(err); got != want {
		t.Errorf("%s: got %s (%v) with rows %s, want %s", sql, got, err, page.Rows, want)
	}
	var told *engine.Error
	errors.As(err, &told)
	return told
}

func TestReadReturnsRows(t *testing.T) {
	d := newDatabase(t).reader(t)
	for _, c := range []struct {
		sql    string
		params []any
		want   string
	}{
		{"select 1", nil, `[[1]]`},
		{"SELECT id, name FROM users ORDER BY id;", nil, `[[1,"Ann"],[2,"Bob"],[3,"Käthe"]]`},
		{"SELECT 1 AS a, 2 AS a", nil, `[[1,2]]`},
		{"SELECT * FROM users WHERE false", nil, `[]`},
		{"VALUES (1, 'a'), (2, 'b')", nil, `[[1,"a"],[2,"b"]]`},
		{"TABLE parts ORDER BY id", nil, `[[1,"eu","s1"],[2,"us","s2"]]`},
		{"(SELECT 1) UNION ALL (SELECT 2)", nil, `[[1],[2]]`},
		{"SHOW transaction_read_only", nil, `[["on"]]`},
		{"SELECT name FROM users WHERE id = $1 AND name = $2", []any{json.Number("1"), "Ann"}, `[["Ann"]]`},
		{"SELECT $1::int8, $2::bool, $3::text, $4::numeric", []any{json.Number("9007199254740993"), true, nil, json.Number("0.10")},
			`[["9007199254740993",true,null,"0.10"]]`},
		{"SELECT count(*) FROM orders", nil, `[[300]]`},
		{"SELECT", nil, `[[]]`},
	} {
		if got := read(t, d, c.sql, c.params...); got != c.want {
			t.Errorf("%s: got %s, want %s", c.sql, got, c.want)
		}
	}
}

func TestRowsBehindThePageAreRead(t *testing.T) {
	d := newDatabase(t).reader(t)
	const page = 10
	for _, most := range []int{0, page, page + 1, page + 2, 400} {
		for _, n := range []int{0, page - 1, page, page + 1, page + 2, 399, 400, 401, 3000} {
			behind := 0
			out := result.NewWriter(result.Limits{Rows: page, Bytes: 1 << 20, Cell: 100}, func([]byte, []byte) bool { behind++; return true })
			err := d.Read(t.Context(), someone, engine.Statement{SQL: "SELECT * FROM generate_series(1, $1)", Params: []any{json.Number(jsonOf(n))}, MaxRows: most}, out)
			want := n
			if most > 0 {
				want = min(n, most)
			}
			if got := out.Page().Count + behind; err != nil || got != want || out.Page().Count > page {
				t.Errorf("got %d and %d of %d rows where %d are wanted (%v)", out.Page().Count, behind, n, most, err)
			}
		}
	}
}

func jsonOf(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func BenchmarkSelect1(b *testing.B) {
	d := newDatabase(b).reader(b)
	for b.Loop() {
		read(b, d, "select 1")
	}
}

func BenchmarkSelect1ByManyCallers(b *testing.B) {
	d := newDatabase(b).reader(b)
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			read(b, d, "select 1")
		}
	})
}

func Benchmark1000Rows(b *testing.B) {
	p := newDatabase(b)
	p.Exec(b, p.database, "CREATE TABLE rows AS SELECT i AS id, 'name ' || i AS name, i * 1.5::float8 AS x FROM generate_series(1, 1000) i; GRANT SELECT ON rows TO reader; ANALYZE")
	d := p.reader(b)
	for b.Loop() {
		read(b, d, "SELECT id, name, x FROM rows")
	}
}

func BenchmarkFirst100RowsOfAGigabyte(b *testing.B) {
	p := newDatabase(b)
	p.Exec(b, p.database, "CREATE UNLOGGED TABLE big AS SELECT i AS id, repeat('x', 970) AS pad FROM generate_series(1, 1000000) i; GRANT SELECT ON big TO reader")
	d := p.reader(b)
	for b.Loop() {
		out := result.NewWriter(result.Limits{Rows: 100, Bytes: 1 << 20, Cell: 4096}, nil)
		if err := d.Read(b.Context(), someone, engine.Statement{SQL: "SELECT * FROM big"}, out); err != nil || out.Page().Count != 100 {
			b.Fatal(out.Page().Count, err)
		}
	}
}

func newPage() *result.Writer { return result.NewWriter(limits, nil) }
