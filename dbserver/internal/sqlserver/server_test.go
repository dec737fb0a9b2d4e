package sqlserver

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

const (
	testDatabase = "mcpool_test"
	testRole     = "mcpool_test_ro"
	testPassword = "Mcp00l-test-only!"
)

// testSchema makes what the corpora speak of.
var testSchema = []string{
	"CREATE TABLE dbo.users (id int IDENTITY PRIMARY KEY, name nvarchar(100), email nvarchar(100), born date, place geography)",
	"CREATE TABLE dbo.orders (id int IDENTITY PRIMARY KEY, user_id int REFERENCES dbo.users (id), total decimal(10,2), made datetime2, doc nvarchar(max))",
	"INSERT INTO dbo.users (name, email) VALUES (N'Ada', N'ada@example.com'), (N'Bob', NULL)",
	"INSERT INTO dbo.orders (user_id, total, made) VALUES (1, 9.99, '2024-02-29T12:00:00')",
	"CREATE VIEW dbo.names AS SELECT name FROM dbo.users",
	"CREATE SEQUENCE dbo.numbers START WITH 1",
	"CREATE PROCEDURE dbo.wipe AS DELETE FROM dbo.users",
	"CREATE FUNCTION dbo.touch (@id int) RETURNS int AS BEGIN DECLARE @n int = @id; RETURN @n END",
}

// A server is a SQL Server that the tests may fill.
type server struct {
	admin    *sql.DB
	url      *url.URL
	safeRole *Database
}

// newServer makes the test database on the server that MCPOOL_TEST_SQLSERVER
// names as sqlserver://login:password@host:port, whose login may do all.
func newServer(t *testing.T) *server {
	t.Helper()
	dsn := os.Getenv("MCPOOL_TEST_SQLSERVER")
	if dsn == "" {
		t.Skip("MCPOOL_TEST_SQLSERVER names no server")
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("MCPOOL_TEST_SQLSERVER is no URL")
	}
	master, err := sql.Open("sqlserver", dsn)
	if err != nil {
		t.Fatal(err)
	}
	drop := func() {
		for _, text := range []string{
			"IF DB_ID('" + testDatabase + "') IS NOT NULL BEGIN ALTER DATABASE " + testDatabase + " SET SINGLE_USER WITH ROLLBACK IMMEDIATE; DROP DATABASE " + testDatabase + " END",
			"IF SUSER_ID('" + testRole + "') IS NOT NULL DROP LOGIN " + testRole,
		} {
			if _, err := master.ExecContext(context.WithoutCancel(t.Context()), text); err != nil {
				t.Error(err)
			}
		}
	}
	drop()
	t.Cleanup(func() {
		drop()
		_ = master.Close()
	})
	if _, err := master.ExecContext(t.Context(), "CREATE DATABASE "+testDatabase); err != nil {
		t.Fatal(err)
	}
	s := &server{url: u}
	if s.admin, err = sql.Open("sqlserver", s.dsn(u.User)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.admin.Close() })
	for _, text := range testSchema {
		s.exec(t, text)
	}
	conn, err := s.admin.Conn(t.Context()) // one, for USE lasts
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for line := range strings.Lines(strings.ReplaceAll(SetupSQL(testRole, testDatabase), "<password>", testPassword)) {
		if _, err := conn.ExecContext(t.Context(), line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return s
}

func (s *server) exec(t *testing.T, text string) {
	t.Helper()
	if _, err := s.admin.ExecContext(t.Context(), text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func (s *server) dsn(user *url.Userinfo) string {
	u := *s.url
	u.User = user
	q := u.Query()
	q.Set("database", testDatabase)
	u.RawQuery = q.Encode()
	return u.String()
}

func (s *server) start(t *testing.T, user *url.Userinfo, change func(*engine.Options)) *Database {
	t.Helper()
	o := options()
	o.DSN = s.dsn(user)
	change(&o)
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// state is what a statement could have changed: rows, objects, logins,
// databases, numbers drawn.
func (s *server) state(t *testing.T) string {
	t.Helper()
	var state string
	err := s.admin.QueryRowContext(t.Context(), `SELECT CONCAT(
		(SELECT COUNT(*) FROM dbo.users), ' ', (SELECT CHECKSUM_AGG(CHECKSUM(id, name, email, born)) FROM dbo.users), ' ',
		(SELECT COUNT(*) FROM dbo.orders), ' ', (SELECT CHECKSUM_AGG(BINARY_CHECKSUM(id, user_id, total, made)) FROM dbo.orders), ' ',
		(SELECT CHECKSUM_AGG(CHECKSUM(name, modify_date)) FROM sys.objects), ' ', (SELECT COUNT(*) FROM sys.server_principals), ' ',
		(SELECT COUNT(*) FROM sys.databases), ' ', (SELECT CAST(current_value AS bigint) FROM sys.sequences WHERE name = 'numbers'))`).Scan(&state)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// busy says what sessions of ours do that are not lent.
func (s *server) busy(t *testing.T) string {
	t.Helper()
	var requests, transactions, locks int
	err := s.admin.QueryRowContext(t.Context(), `SELECT
		(SELECT COUNT(*) FROM sys.dm_exec_requests r JOIN sys.dm_exec_sessions s ON s.session_id = r.session_id WHERE s.program_name = 'mcpool'),
		(SELECT ISNULL(SUM(open_transaction_count), 0) FROM sys.dm_exec_sessions WHERE program_name = 'mcpool'),
		(SELECT COUNT(*) FROM sys.dm_tran_locks l JOIN sys.dm_exec_sessions s ON s.session_id = l.request_session_id
			WHERE s.program_name = 'mcpool' AND l.resource_type <> 'DATABASE')`).Scan(&requests, &transactions, &locks)
	if err != nil {
		t.Fatal(err)
	}
	if requests+transactions+locks == 0 {
		return ""
	}
	return fmt.Sprintf("%d requests, %d transactions, %d locks", requests, transactions, locks)
}

// TestOnSQLServer runs on a real server.
func TestOnSQLServer(t *testing.T) {
	s := newServer(t)
	s.safeRole = s.start(t, testUser, func(*engine.Options) {})
	for _, test := range []struct {
		name string
		run  func(*server, *testing.T)
	}{
		{"the role is clean", (*server).cleanRole},
		{"attacks change nothing", (*server).attacks},
		{"reads pass", (*server).reads},
		{"values and params", (*server).values},
		{"masks", (*server).masks},
		{"another session's commit is seen", (*server).freshness},
		{"settings of one caller are not those of the next", (*server).settings},
		{"ctx ends a statement in the server", (*server).cancel},
		{"enough rows end a statement", (*server).enoughRows},
		{"a killed session", (*server).killedSession},
		{"many callers", (*server).manyCallers},
		{"a preview and a commit", (*server).writing},
		{"the catalog", (*server).catalog},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(s, t) })
	}
}

var testUser = url.UserPassword(testRole, testPassword)

func readOn(t *testing.T, d *Database, sql string, params ...any) (string, error) {
	t.Helper()
	out := newWriter()
	err := d.Read(t.Context(), who, engine.Statement{SQL: sql, Params: params}, out)
	return string(out.Page().Rows), err
}

func (s *server) cleanRole(t *testing.T) {
	info, err := s.safeRole.Info(t.Context(), who)
	if err != nil || info.Status != "ready" || !info.Proof.Verified {
		t.Fatalf("got %+v, %v", info, err)
	}
	for _, c := range info.Proof.Role {
		if !c.OK {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
	d := s.start(t, s.url.User, func(*engine.Options) {})
	if _, err := readOn(t, d, "SELECT 1"); code(err) != engine.RoleUnsafe {
		t.Errorf("got %v", err)
	}
}

func (s *server) attacks(t *testing.T) {
	for _, d := range []*Database{s.safeRole, s.start(t, s.url.User, func(o *engine.Options) { o.AllowUnsafeRole = true })} {
		for _, e := range corpus(t, "sqlserver-attack.txt") {
			before := s.state(t)
			_, err := readOn(t, d, e.sql)
			// A server without the linked server of the corpus does not know it.
			if got := code(err); got != e.code && !(got == engine.UnknownObject && strings.Contains(e.sql, "far.")) {
				t.Errorf("%q: got %v, want %s", e.sql, err, e.code)
			}
			if after := s.state(t); after != before {
				t.Fatalf("%q changed %s into %s", e.sql, before, after)
			}
			if busy := s.busy(t); busy != "" {
				t.Errorf("%q left %s", e.sql, busy)
			}
		}
	}
}

func (s *server) reads(t *testing.T) {
	for _, e := range corpus(t, "sqlserver-allow.txt") {
		if _, err := readOn(t, s.safeRole, e.sql); err != nil {
			t.Errorf("%q: %v", e.sql, err)
		}
	}
}

func (s *server) values(t *testing.T) {
	got, err := readOn(t, s.safeRole, "SELECT @p1, @p2, @p3, @p4, CAST(1.5 AS money), CAST('6F9619FF-8B86-D011-B42D-00C04FC964FF' AS uniqueidentifier)",
		json.Number("9007199254740993"), json.Number("12.50"), "ä", nil)
	if want := `["9007199254740993","12.50","ä",null,"1.5000","6F9619FF-8B86-D011-B42D-00C04FC964FF"]`; err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func (s *server) masks(t *testing.T) {
	d := s.start(t, testUser, func(o *engine.Options) {
		o.Policy.Masks = []engine.Mask{{Columns: []string{"users.email"}, With: engine.WithNull}}
	})
	for _, sql := range []string{"SELECT * FROM users", "SELECT id FROM users WHERE email LIKE 'a%'", "SELECT id FROM users ORDER BY email", "SELECT MAX(email) FROM users"} {
		if _, err := readOn(t, d, sql); code(err) != engine.ColumnMasked {
			t.Errorf("%s: got %v", sql, err)
		}
	}
	if _, err := readOn(t, d, "SELECT name FROM users"); err != nil {
		t.Error(err)
	}
}

func (s *server) freshness(t *testing.T) {
	if _, err := readOn(t, s.safeRole, "SELECT COUNT(*) FROM users"); err != nil {
		t.Fatal(err)
	}
	s.exec(t, "UPDATE dbo.users SET name = N'Eve' WHERE id = 2")
	if got, err := readOn(t, s.safeRole, "SELECT name FROM users WHERE id = 2"); err != nil || got != `["Eve"]` {
		t.Errorf("got %s, %v", got, err)
	}
}

func (s *server) settings(t *testing.T) {
	d := s.start(t, testUser, func(o *engine.Options) { o.Pool.MaxOpen, o.Identity.Setting = 1, "app.user" })
	for _, name := range []string{"ada", "bob"} {
		out := newWriter()
		if err := d.Read(t.Context(), engine.Caller{Principal: name}, engine.Statement{SQL: "SELECT SESSION_CONTEXT(N'app.user'), @@LOCK_TIMEOUT"}, out); err != nil {
			t.Fatal(err)
		}
		if got := string(out.Page().Rows); got != `["`+name+`",2000]` {
			t.Errorf("got %s", got)
		}
	}
}

func (s *server) cancel(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	time.AfterFunc(time.Second, func() { cancel(gone) })
	err := s.safeRole.Read(ctx, who, engine.Statement{SQL: "SELECT COUNT_BIG(*) FROM sys.all_columns a, sys.all_columns b, sys.all_columns c, sys.all_columns d"}, newWriter())
	if err != gone {
		t.Errorf("got %v", err)
	}
	late := time.Now().Add(time.Second)
	for busy := s.busy(t); busy != ""; busy = s.busy(t) {
		if time.Now().After(late) {
			t.Fatalf("after a second: %s", busy)
		}
	}
}

func (s *server) enoughRows(t *testing.T) {
	start := time.Now()
	if _, err := readOn(t, s.safeRole, "SELECT a.name FROM sys.all_columns a, sys.all_columns b, sys.all_columns c"); err != nil || time.Since(start) > 5*time.Second {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
}

func (s *server) killedSession(t *testing.T) {
	if _, err := readOn(t, s.safeRole, "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	var kill string
	if err := s.admin.QueryRowContext(t.Context(), "SELECT STRING_AGG(CONCAT('KILL ', session_id), ' ') FROM sys.dm_exec_sessions WHERE program_name = 'mcpool'").Scan(&kill); err != nil {
		t.Fatal(err)
	}
	s.exec(t, kill)
	if _, err := readOn(t, s.safeRole, "SELECT 1"); err != nil {
		t.Error(err)
	}
}

func (s *server) manyCallers(t *testing.T) {
	d := s.start(t, testUser, func(o *engine.Options) { o.Pool.MaxOpen, o.Pool.AcquireTimeout = 8, 30*time.Second })
	var callers sync.WaitGroup
	for range 200 {
		callers.Go(func() {
			if _, err := readOn(t, d, "SELECT id FROM users"); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if busy := s.busy(t); busy != "" {
		t.Error(busy)
	}
}

func (s *server) writing(t *testing.T) {
	d := s.start(t, testUser, func(o *engine.Options) { o.Write, o.WriteDSN = true, s.dsn(s.url.User) })
	before := s.state(t)
	stmt := engine.Statement{SQL: "UPDATE users SET name = @p1 WHERE id = 1", Params: []any{"Grace"}}
	if got, err := d.Write(t.Context(), who, stmt, engine.Write{}, newWriter()); err != nil || got.Affected != 1 || s.state(t) != before {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := d.Write(t.Context(), who, stmt, engine.Write{Commit: true}, newWriter()); err != nil || got.Affected != 1 || s.state(t) == before {
		t.Errorf("got %+v, %v", got, err)
	}
}

func (s *server) catalog(t *testing.T) {
	list, err := s.safeRole.Tables(t.Context(), who, engine.Filter{Limit: 10, Detail: engine.Full})
	if err != nil || len(list.Tables) != 3 {
		t.Errorf("got %+v, %v", list, err)
	}
	told, err := s.safeRole.Describe(t.Context(), who, engine.Name{Table: "orders"}, 3)
	if err != nil || len(told.Columns) != 5 || len(told.ForeignKeys) != 1 || told.ForeignKeys[0].Table != "users" {
		t.Errorf("got %+v, %v", told, err)
	}
	if plan, err := s.safeRole.Explain(t.Context(), who, engine.Statement{SQL: "SELECT * FROM users"}); err != nil || !strings.Contains(plan.Text, "dbo.users") {
		t.Errorf("got %+v, %v", plan, err)
	}
}
