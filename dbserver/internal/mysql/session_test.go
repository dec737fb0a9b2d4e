//go:build unix

package mysql

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// busy are statements that take long: one waits, one computes, one sends, one
// waits for a lock.
var busy = map[string]string{
	"waits":    "SELECT SLEEP(60)",
	"computes": "SELECT COUNT(*) FROM seq_1_to_1000000 a JOIN seq_1_to_1000000 b ON a.seq * 7 % 11 <> b.seq % 13",
	"sends":    "SELECT seq FROM seq_1_to_1000000000",
}

// unhurried lets busy statements in.
func unhurried(o engine.Options) engine.Options {
	o.Policy.Functions = []string{"sleep"}
	o.Pool.MaxOpen = 1
	return o
}

// all reads without end.
func all() *result.Writer {
	return result.NewWriter(limits(), func(_, _ []byte) bool { return true })
}

func TestCancelEndsTheStatement(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "cancelled")
	d := open(t, unhurried(options(reader)))
	for name, sql := range busy {
		t.Run(name, func(t *testing.T) {
			id := mustRead(t, d, "SELECT CONNECTION_ID()")
			gone := errors.New("the caller went away")
			ctx, cancel := context.WithCancelCause(t.Context())
			began := make(chan func(), 1)
			time.AfterFunc(300*time.Millisecond, func() { began <- mcptest.Within(t, time.Second); cancel(gone) })
			err := d.Read(ctx, who, engine.Statement{SQL: sql}, all())
			(<-began)()
			if !errors.Is(err, gone) {
				t.Errorf("got %v", err)
			}
			noneRuns(t, s)
			if now := mustRead(t, d, "SELECT CONNECTION_ID()"); now != id {
				t.Errorf("the connection was not kept: %s, then %s", id, now)
			}
		})
		t.Run(name+" too long", func(t *testing.T) {
			err := d.Read(t.Context(), who, engine.Statement{SQL: sql, Timeout: 300 * time.Millisecond}, all())
			if !errors.Is(err, engine.ErrTimeout) {
				t.Errorf("got %v", err)
			}
			noneRuns(t, s)
		})
	}
}

// A KILL may come when the statement has just ended. It must not hit what the
// next caller does.
func TestLateCancelHarmsNobody(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "late")
	d := open(t, unhurried(options(reader)))
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		stop := time.AfterFunc(time.Duration(i%30)*50*time.Microsecond, cancel)
		_ = d.Read(ctx, who, engine.Statement{SQL: "SELECT COUNT(*) FROM customers"}, all())
		stop.Stop()
		cancel()
		if _, err := read(t, d, "SELECT COUNT(*) FROM customers"); err != nil {
			t.Fatalf("round %d: the next caller got %v", i, err)
		}
	}
}

func TestSessionOfOneCallerIsNotSeenByTheNext(t *testing.T) {
	s := dbtest.MariaDB(t)
	_, root := sample(t, s, "hygiene")
	s.Exec(t, "", "CREATE ROLE other_role")
	t.Cleanup(func() { s.Exec(t, "", "DROP ROLE other_role") })
	o := options(root)
	o.AllowUnsafeRole = true
	o.Pool.MaxOpen = 1
	d := open(t, o)
	id, clean := mustRead(t, d, "SELECT CONNECTION_ID()"), session(t, d)
	db := s.Open(t, "hygiene")
	for _, left := range []string{
		"SET @left = 1",
		"SET SESSION sql_mode = 'ANSI_QUOTES', SESSION max_statement_time = 1, SESSION sql_select_limit = 1, NAMES latin1",
		"SET SESSION TRANSACTION READ WRITE",
		"SET SESSION tx_read_only = 0",
		"ROLLBACK",
		"DO GET_LOCK('left', 0)",
		"CREATE TEMPORARY TABLE customers (other INT)",
		"SET ROLE other_role",
		"USE mysql",
		"LOCK TABLES customers READ",
		"PREPARE left_over FROM 'SELECT 1'",
		"SET autocommit = 0",
		"DO LAST_INSERT_ID(77)",
	} {
		err := d.do(t.Context(), d.reads, task{who: who}, func(_ context.Context, c *conn) error {
			if err := c.exec("ROLLBACK"); err != nil { // out of what protects
				return err
			}
			if err := c.exec("SET SESSION tx_read_only = 0"); err != nil {
				return err
			}
			return c.exec(left)
		})
		if err != nil {
			t.Errorf("%s: %v", left, err)
		}
		if now := session(t, d); now != clean {
			t.Errorf("after %s the session is\n%s\nwant\n%s", left, now, clean)
		}
		var free int
		if err := db.QueryRow("SELECT IS_FREE_LOCK('left')").Scan(&free); err != nil || free != 1 {
			t.Errorf("after %s the lock is held (%v)", left, err)
		}
		if _, err := db.Exec("UPDATE customers SET name = name WHERE id = 1"); err != nil {
			t.Error(err)
		}
	}
	if now := mustRead(t, d, "SELECT CONNECTION_ID()"); now != id {
		t.Errorf("the connection was not kept: %s, then %s", id, now)
	}
}

func TestSessionThatCannotBeResetIsThrownAway(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "unresettable")
	o := options(reader)
	o.Pool.MaxOpen = 1
	d := open(t, o)
	id := mustRead(t, d, "SELECT CONNECTION_ID()")
	err := d.do(t.Context(), d.reads, task{who: who}, func(_ context.Context, c *conn) error {
		c.database = "nowhere" // to which the reset cannot return
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if now := mustRead(t, d, "SELECT CONNECTION_ID()"); now == id {
		t.Error("the connection was kept")
	}
}

func TestSessionHasItsSettings(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "settings")
	o := options(reader)
	o.LockTimeout, o.StatementTimeout = 1500*time.Millisecond, 7*time.Second
	d := open(t, o)
	got := mustRead(t, d, `SELECT @@tx_read_only, @@lock_wait_timeout, @@innodb_lock_wait_timeout, @@max_statement_time, @@time_zone,
		@@character_set_client, @@character_set_results, @@autocommit`)
	if want := `[[1,2,2,8.0,"+00:00","utf8mb4","utf8mb4",1]]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := mustRead(t, d, "SELECT @@sql_mode"); got != `[["`+sqlMode+`"]]` {
		t.Errorf("got %s", got)
	}
}

func TestLockTimeout(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "locked")
	o := options(reader)
	o.LockTimeout = time.Second
	d := open(t, o)
	holder := s.Open(t, "locked")
	holder.SetMaxOpenConns(1)
	if _, err := holder.Exec("LOCK TABLES customers WRITE"); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, d, "SELECT * FROM customers"); codeOf(err) != engine.LockTimeout {
		t.Errorf("got %v", err)
	}
}

func TestManyCallersShareFewConnections(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "many")
	o := options(reader)
	o.Pool.MaxOpen, o.Pool.AcquireTimeout = 8, time.Minute
	d := open(t, o)
	var callers sync.WaitGroup
	for i := range 200 {
		callers.Go(func() {
			for n := range 5 {
				want := fmt.Sprintf("[[%d]]", i*1000+n)
				if n == 3 { // some go away
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*20*time.Microsecond)
					_ = d.Read(ctx, who, engine.Statement{SQL: "SELECT SLEEP(1)"}, all())
					cancel()
					continue
				}
				if got, err := read(t, d, "SELECT ?", number64(fmt.Sprint(i*1000+n))); err != nil || got != want {
					t.Errorf("caller %d got %s, %v", i, got, err)
				}
			}
		})
	}
	callers.Wait()
	if stats := d.reads.stats(); stats["open"] > 8 || stats["in_use"] != 0 || stats["waited"] == 0 || stats["waiting"] != 0 {
		t.Errorf("the pool has %v", stats)
	}
}

func TestConnectionsGoWithTime(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "aging")
	awaitNone := func(d *Database) {
		t.Helper()
		for late := time.Now().Add(10 * time.Second); d.reads.stats()["open"] > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(late) {
				t.Fatal("the connection is still open")
			}
		}
	}
	o := options(reader)
	o.Pool.MaxIdleTime = 50 * time.Millisecond
	d := open(t, o)
	mustRead(t, d, "SELECT 1")
	awaitNone(d)

	o = options(reader)
	o.Pool.MaxLifetime = time.Nanosecond
	d = open(t, o)
	first := mustRead(t, d, "SELECT CONNECTION_ID()")
	if second := mustRead(t, d, "SELECT CONNECTION_ID()"); first == second {
		t.Error("a connection outlived its time")
	}
}

func TestLogHasNoSecrets(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "logged")
	var log strings.Builder
	o := options(strings.Replace(reader, "pw-logged", "pw-wrong", 1))
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	if _, err := read(t, open(t, o), "SELECT 'private'"); codeOf(err) != engine.AuthFailed {
		t.Errorf("got %v", err)
	}
	o.DSN = reader
	mustRead(t, open(t, o), "SELECT 'private'")
	got := log.String()
	if !strings.Contains(got, "connection not opened") || !strings.Contains(got, "connection opened") ||
		strings.Contains(got, "pw-") || strings.Contains(got, "private") {
		t.Errorf("got %s", got)
	}
}

func TestBusyPoolSaysSo(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "exhausted")
	o := unhurried(options(reader))
	o.Pool.AcquireTimeout = 100 * time.Millisecond
	d := open(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	var holder sync.WaitGroup
	holder.Go(func() { _ = d.Read(ctx, who, engine.Statement{SQL: "SELECT SLEEP(60)"}, all()) })
	for d.reads.stats()["in_use"] == 0 {
		time.Sleep(time.Millisecond)
	}
	_, err := read(t, d, "SELECT 1")
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.PoolExhausted || !e.Retryable || !strings.Contains(e.Message, "all 1 connections") {
		t.Errorf("got %v", err)
	}
	if info, err := d.Info(t.Context(), who); err != nil || info.Status != "busy" {
		t.Errorf("got %+v, %v", info, err)
	}
	cancel()
	holder.Wait()
	mustRead(t, d, "SELECT 1")
}

func TestADroppedDatabase(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "dropped")
	// Each call finds the database gone in a session that began before, and then
	// in none.
	for name, ask := range map[string]func(d *Database) error{
		"read": func(d *Database) error { _, err := read(t, d, "SELECT * FROM customers"); return err },
		"list": func(d *Database) error { _, err := d.Tables(t.Context(), who, engine.Filter{Limit: 3}); return err },
		"describe": func(d *Database) error {
			_, err := d.Describe(t.Context(), who, engine.Name{Table: "customers"}, 0)
			return err
		},
	} {
		d := open(t, options(reader))
		mustRead(t, d, "SELECT 1")
		s.Exec(t, "", "DROP DATABASE dropped")
		for range 2 {
			var e *engine.Error
			err := ask(d)
			if !errors.As(err, &e) || e.Code != engine.Unreachable || e.EngineCode != "1049" || e.Retryable || !strings.Contains(e.Message, "Unknown database 'dropped'") || e.Next != nextMissing {
				t.Errorf("%s: got %+v", name, err)
			}
		}
		if info, err := d.Info(t.Context(), who); err != nil || info.Status != "down" || !strings.Contains(info.LastError, "Unknown database") {
			t.Errorf("%s: got %+v, %v", name, info, err)
		}
		s.Exec(t, "", "CREATE DATABASE dropped;\nCREATE TABLE dropped.customers (a INT)")
	}
	d := open(t, options(reader))
	if _, err := read(t, d, "SELECT * FROM dropped.nothing"); codeOf(err) != engine.UnknownObject {
		t.Errorf("got %v", err)
	}
}

func TestLostConnections(t *testing.T) {
	s := dbtest.OwnMariaDB(t)
	reader, _ := sample(t, s, "chaos")
	d := open(t, unhurried(options(reader)))
	kill := func() { s.Exec(t, "", "KILL CONNECTION "+strings.Trim(mustRead(t, d, "SELECT CONNECTION_ID()"), "[]")) }

	mustRead(t, d, "SELECT 1")
	kill() // while nobody uses it
	mustRead(t, d, "SELECT 2")

	id := strings.Trim(mustRead(t, d, "SELECT CONNECTION_ID()"), "[]")
	time.AfterFunc(200*time.Millisecond, func() { s.Exec(t, "", "KILL CONNECTION "+id) })
	_, err := read(t, d, "SELECT SLEEP(60)")
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.Unreachable && e.Code != engine.Cancelled || !e.Retryable {
		t.Errorf("killed while it ran: %v", err)
	}
	mustRead(t, d, "SELECT 3")

	s.Restart(t)
	mustRead(t, d, "SELECT 4")

	s.Stop()
	began, end := time.Now(), mcptest.Within(t, time.Second)
	for range 3 {
		_, err = read(t, d, "SELECT 5")
		if !errors.As(err, &e) || e.Code != engine.Unreachable || !e.Retryable || e.RetryAfter > 1000 && time.Since(began) < time.Second {
			t.Errorf("while it is down: %v", err)
		}
	}
	if info, err := d.Info(t.Context(), who); err != nil || info.Status != "down" || info.LastError == "" {
		t.Errorf("got %+v, %v", info, err)
	}
	end() // of four calls
	s.Start(t)
	for {
		_, err := read(t, d, "SELECT 6")
		if err == nil {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("it did not recover: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestServersConnectionsUsedUp(t *testing.T) {
	s := dbtest.OwnMariaDB(t, "--max-connections=10", "--extra-max-connections=1")
	reader, _ := sample(t, s, "crowded")
	d := open(t, options(reader))
	db := s.Open(t, "")
	var taken []*sql.Conn
	for { // until there is none
		c, err := db.Conn(t.Context())
		if err != nil {
			break
		}
		taken = append(taken, c)
	}
	_, err := read(t, d, "SELECT 1")
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.Unreachable || e.EngineCode != "1040" || !e.Retryable {
		t.Errorf("got %v", err)
	}
	for _, c := range taken {
		c.Close()
	}
	db.Close()
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := read(t, d, "SELECT 1"); err == nil {
			break
		} else if time.Now().After(late) {
			t.Fatal(err)
		}
	}
}

func TestServerThatDoesNotAnswer(t *testing.T) {
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	o := options("mysql://ada:secret@" + hole.Addr().String() + "/db")
	o.Pool.ConnectTimeout = 200 * time.Millisecond
	d := open(t, o)
	end := mcptest.Within(t, time.Second)
	_, err = read(t, d, "SELECT 1")
	end()
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.Unreachable || !strings.Contains(e.Message, "200ms") || strings.Contains(e.Message, "secret") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	d = open(t, options("mysql://ada:secret@"+hole.Addr().String()+"/db"))
	if err := d.Read(ctx, who, engine.Statement{SQL: "SELECT 1"}, all()); !errors.Is(err, context.DeadlineExceeded) || codeOf(err) == engine.Unreachable {
		t.Errorf("got %v", err)
	}
}

// The network may go away while a statement runs: neither it nor the KILL is
// answered, then.
func TestNetworkThatGoesAway(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "gone")
	proxy := newRelay(t, net.JoinHostPort(s.Host, s.Port))
	o := unhurried(options(strings.Replace(reader, net.JoinHostPort(s.Host, s.Port), proxy.listener.Addr().String(), 1)))
	d := open(t, o)
	mustRead(t, d, "SELECT 1")
	ctx, cancel := context.WithCancel(t.Context())
	began := make(chan func(), 1)
	time.AfterFunc(200*time.Millisecond, func() {
		proxy.stalled.Store(true)
		began <- mcptest.Within(t, 1500*time.Millisecond)
		cancel()
	})
	err := d.Read(ctx, who, engine.Statement{SQL: "SELECT SLEEP(5)"}, all())
	(<-began)()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Where a KILL is not answered, nobody knows when it comes: the connection it is
// for is not lent again, also if the statement has ended by itself.
func TestAKillThatIsNotAnsweredEndsTheConnection(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "unanswered")
	proxy := newRelay(t, net.JoinHostPort(s.Host, s.Port))
	proxy.drops = func(sent []byte) bool { return bytes.Contains(sent, []byte("KILL QUERY")) }
	d := open(t, unhurried(options(strings.Replace(reader, net.JoinHostPort(s.Host, s.Port), proxy.listener.Addr().String(), 1))))
	id := mustRead(t, d, "SELECT CONNECTION_ID()")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := d.Read(ctx, who, engine.Statement{SQL: "SELECT SLEEP(0.2)"}, all()); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if now := mustRead(t, d, "SELECT CONNECTION_ID()"); now == id {
		t.Error("the connection was kept")
	}
}

// A COMMIT that is not answered may have been done, also where the statement's
// time has ended by then.
func TestACommitThatIsNotAnsweredMayHaveBeen(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, root := sample(t, s, "maybe")
	proxy := newRelay(t, net.JoinHostPort(s.Host, s.Port))
	proxy.drops = func(sent []byte) bool {
		proxy.stalled.Store(proxy.stalled.Load() || bytes.Contains(sent, []byte("COMMIT")))
		return false
	}
	o := options(reader)
	o.Write, o.WriteDSN = true, strings.Replace(root, net.JoinHostPort(s.Host, s.Port), proxy.listener.Addr().String(), 1)
	d := open(t, o)
	_, err := d.Write(t.Context(), who, engine.Statement{SQL: "UPDATE customers SET name = 'kept' WHERE id = 1", Timeout: 2 * time.Second},
		engine.Write{Commit: true}, all())
	if !errors.Is(err, errMaybeKept) {
		t.Errorf("got %v", err)
	}
	if got := mustRead(t, d, "SELECT name FROM customers WHERE id = 1"); got != `[["kept"]]` {
		t.Errorf("got %s", got)
	}
}

// A relay hands on what is sent to a server, but for what drops reports, and
// what the server answers, until it stalls.
type relay struct {
	listener net.Listener
	stalled  atomic.Bool
	drops    func(sent []byte) bool // nil for nothing
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l}
	var running sync.WaitGroup
	var conns []net.Conn
	running.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				from.Close()
				continue
			}
			conns = append(conns, from, server)
			running.Go(func() { copyUnless(server, from, func(sent []byte) bool { return r.drops != nil && r.drops(sent) }) })
			running.Go(func() { copyUnless(from, server, func([]byte) bool { return r.stalled.Load() }) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		for _, c := range conns {
			c.Close()
		}
		running.Wait()
	})
	return r
}

func copyUnless(to, from net.Conn, drops func([]byte) bool) {
	defer to.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if drops(buffer[:n]) {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
