//go:build unix

package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// slow runs for hours.
const slow = "SELECT count(*) FROM generate_series(1, 1000000000) a, generate_series(1, 1000000) b"

// running counts statements of callers that run in a database, asked of the
// server.
func (p *testDatabase) running(t testing.TB) string {
	t.Helper()
	return strings.TrimSpace(p.Exec(t, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE datname = '`+p.database+`' AND pid <> pg_backend_pid() AND state <> 'idle' AND query LIKE '%generate_series%'`))
}

// awaitNone returns when no statement runs any more, which may take a second.
func (p *testDatabase) awaitNone(t testing.TB) {
	t.Helper()
	defer mcptest.Within(t, time.Second)()
	p.awaitRunning(t, "0", 30*time.Second)
}

// awaitRunning returns when so many statements run.
func (p *testDatabase) awaitRunning(t testing.TB, want string, within time.Duration) {
	t.Helper()
	for late := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		got := p.running(t)
		if got == want {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%s statements run after %v, want %s", got, within, want)
		}
	}
}

func TestCancelEndsTheStatement(t *testing.T) {
	p := newDatabase(t)
	d := p.reader(t, one)
	pid := read(t, d, "SELECT pg_backend_pid()")
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("nobody waits any more")
	done := make(chan error)
	go func() {
		_, err := tryRead(ctx, d, slow)
		done <- err
	}()
	p.awaitRunning(t, "1", 10*time.Second)
	cancel(reason)
	end := mcptest.Within(t, time.Second)
	if err := <-done; err != reason {
		t.Errorf("got %v", err)
	}
	end()
	p.awaitNone(t)
	if again := read(t, d, "SELECT pg_backend_pid()"); again != pid {
		t.Errorf("the connection was not kept: %s, then %s", pid, again)
	}
}

func TestTimeoutEndsTheStatement(t *testing.T) {
	p := newDatabase(t)
	d := p.reader(t, one)
	end := mcptest.Within(t, 1200*time.Millisecond)
	err := d.Read(t.Context(), someone, engine.Statement{SQL: slow, Timeout: 200 * time.Millisecond}, result.NewWriter(limits, nil))
	end()
	if !errors.Is(err, engine.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	p.awaitNone(t)
	if got := read(t, d, "select 1"); got != "[[1]]" {
		t.Errorf("got %s", got)
	}
}

// The server ends a statement by itself if nobody here is left to end it.
func TestTheServerKnowsTheTimeout(t *testing.T) {
	// The reader's own settings would stand in for those of the connection.
	d := newDatabase(t).superuser(t, func(o *engine.Options) { o.StatementTimeout, o.LockTimeout = 7*time.Second, 3*time.Second })
	for setting, want := range map[string]string{"statement_timeout": "7s", "lock_timeout": "3s", "idle_in_transaction_session_timeout": "7s",
		"default_transaction_read_only": "on", "transaction_read_only": "on", "application_name": "mcpool read_data ann"} {
		if got := read(t, d, "SHOW "+setting); got != `[["`+want+`"]]` {
			t.Errorf("%s: got %s, want %s", setting, got, want)
		}
	}
}

func TestWaitingForALockIsTold(t *testing.T) {
	p := newDatabase(t)
	w := newWatch(t, p)
	if err := w.pg.Exec(t.Context(), "BEGIN; LOCK TABLE users").Close(); err != nil {
		t.Fatal(err)
	}
	d := p.reader(t, func(o *engine.Options) { o.LockTimeout = 50 * time.Millisecond })
	if told := refused(t, d, "SELECT * FROM users", engine.LockTimeout); told == nil || !told.Retryable {
		t.Errorf("got %+v", told)
	}
	if err := w.pg.Exec(t.Context(), "ROLLBACK").Close(); err != nil {
		t.Fatal(err)
	}
	read(t, d, "SELECT * FROM users")
}

func TestNothingIsLeftForTheNextCaller(t *testing.T) {
	p := newDatabase(t)
	d := p.superuser(t, one, func(o *engine.Options) { o.Policy.Functions = []string{"set_config", "pg_advisory_lock", "litter"} })
	p.Exec(t, p.database, `CREATE FUNCTION litter() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
		PERFORM set_config('work_mem', '123kB', false), set_config('search_path', 'nowhere', false), set_config('role', 'reader', false);
		PERFORM pg_advisory_lock(1), pg_advisory_lock_shared(2, 3);
		EXECUTE 'LISTEN evil'; EXECUTE 'PREPARE evil AS SELECT 1'; EXECUTE 'DECLARE evil CURSOR FOR SELECT 1';
		RETURN 1; END $$`)
	clean := session(t, d)
	read(t, d, "SELECT litter()")
	if after := session(t, d); after != clean {
		t.Errorf("the session became %s, not %s", after, clean)
	}
	if locks := p.Exec(t, p.database, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"); locks != "0\n" {
		t.Errorf("%s locks are left", locks)
	}
}

func TestOneCallerNeedsOneConnection(t *testing.T) {
	d := newDatabase(t).reader(t)
	pid := read(t, d, "SELECT pg_backend_pid()")
	for range 50 {
		if again := read(t, d, "SELECT pg_backend_pid()"); again != pid {
			t.Fatalf("a caller alone got %s, then %s", pid, again)
		}
	}
	if opened := d.reads.stats()["opened"]; opened != 1 {
		t.Errorf("%d connections were opened", opened)
	}
}

// The first page does not wait for the rows behind it.
func TestTheFirstPageComesFirst(t *testing.T) {
	d := newDatabase(t).reader(t)
	const timeout = 15 * time.Second
	began := time.Now()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("the first page is there")
	var out *result.Writer
	out = result.NewWriter(result.Limits{Rows: 3, Bytes: 1 << 20, Cell: 100}, func([]byte, []byte) bool {
		if got := string(out.Page().Rows); got != "[1],[2],[3]" {
			t.Errorf("got %s", got)
		}
		if took := time.Since(began); took >= timeout {
			t.Errorf("it came after %v, with the end of the statement", took)
		}
		cancel(enough)
		return true
	})
	sql := "SELECT i FROM generate_series(1, 4) i UNION ALL (" + slow + ")"
	err := d.Read(ctx, engine.Caller{}, engine.Statement{SQL: sql, Timeout: timeout, MaxRows: 1000}, out)
	if err != enough {
		t.Errorf("got %v", err)
	}
}

func TestEachCallSeesWhatOthersHaveCommitted(t *testing.T) {
	p := newDatabase(t)
	d := p.reader(t, one)
	for i := range 3 {
		p.Exec(t, p.database, fmt.Sprintf("UPDATE users SET name = 'v%d' WHERE id = 1", i))
		if got := read(t, d, "SELECT name FROM users WHERE id = 1"); got != fmt.Sprintf(`[["v%d"]]`, i) {
			t.Errorf("got %s after version %d", got, i)
		}
	}
}

func TestKilledBackendsAreReplaced(t *testing.T) {
	p := newDatabase(t)
	d := p.reader(t, one)
	read(t, d, "select 1")
	kill := `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '` + p.database + `' AND pid <> pg_backend_pid()`
	// While it is idle, nobody is told.
	p.Exec(t, "postgres", kill)
	if got := read(t, d, "select 1"); got != "[[1]]" {
		t.Errorf("got %s", got)
	}
	// While it runs, its caller is, and it is not run again.
	done := make(chan error)
	go func() {
		_, err := tryRead(t.Context(), d, slow)
		done <- err
	}()
	p.awaitRunning(t, "1", 10*time.Second)
	time.Sleep(staleWithin) // the test is of a statement that has run for long
	p.Exec(t, "postgres", kill)
	var told *engine.Error
	if err := <-done; !errors.As(err, &told) || told.Code != engine.Unreachable || !told.Retryable {
		t.Errorf("got %v", err)
	}
	if got := read(t, d, "select 1"); got != "[[1]]" {
		t.Errorf("got %s", got)
	}
}

// A statement that has brought its server down is not run again.
func TestACrashIsNotRepeated(t *testing.T) {
	s := dbtest.OwnPostgres(t)
	p := &testDatabase{s, "postgres"}
	d := p.superuser(t, one)
	pid, err := strconv.Atoi(strings.Trim(read(t, d, "SELECT pg_backend_pid()"), "[]"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := tryRead(t.Context(), d, slow)
		done <- err
	}()
	p.awaitRunning(t, "1", 10*time.Second)
	time.Sleep(staleWithin) // the test is of a statement that has run for long
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-done; code(err) != engine.Unreachable || !strings.Contains(err.Error(), "connection to the database was lost") {
		t.Errorf("got %v", err)
	}
}

func TestARestartedServerIsFoundAgain(t *testing.T) {
	s := dbtest.OwnPostgres(t)
	p := &testDatabase{s, "postgres"}
	d := p.superuser(t)
	read(t, d, "SELECT lanname FROM pg_language LIMIT 0")
	s.Restart(t)
	// Also the connection on which names are looked up was lost.
	page, err := tryRead(t.Context(), d, "SELECT spcname FROM pg_tablespace LIMIT 1")
	if err != nil || page.Columns[0].Origin != "pg_catalog.pg_tablespace.spcname" {
		t.Errorf("got %+v, %v", page, err)
	}
	s.Stop()
	failed := time.Now()
	told := refused(t, d, "select 1", engine.Unreachable)
	if told == nil || !told.Retryable || strings.Contains(told.Message, s.Password) {
		t.Errorf("got %+v", told)
	}
	if told := refused(t, d, "select 1", engine.Unreachable); told == nil || told.RetryAfter < 1 || told.RetryAfter > 1000 && time.Since(failed) < leastPause {
		t.Errorf("in the pause got %+v", told)
	}
	if info, err := d.Info(t.Context(), someone); err != nil || info.Status != "down" || info.LastError == "" {
		t.Errorf("got %+v, %v", info, err)
	}
	s.Start(t)
	readsAgain(t, d)
}

// readsAgain waits until a database answers that was refused: when its pause is
// over, and the server ready.
func readsAgain(t testing.TB, d *Database) {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := tryRead(t.Context(), d, "select 1"); err == nil {
			return
		} else if time.Now().After(late) {
			t.Fatal(err)
		}
	}
}

func TestAServerThatNeverAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := options()
	o.DSN = "postgres://u:secret@" + l.Addr().String() + "/x"
	o.Pool.ConnectTimeout = 100 * time.Millisecond
	made, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	defer mcptest.Within(t, 2*time.Second)()
	if told := refused(t, made.(*Database), "select 1", engine.Unreachable); told == nil || strings.Contains(told.Message, "secret") {
		t.Errorf("got %+v", told)
	}
}

func TestNamesThatAreSlowToResolve(t *testing.T) {
	d := newDatabase(t).reader(t, func(o *engine.Options) {
		o.Pool.ConnectTimeout = 100 * time.Millisecond
		o.Resolve = func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}
	})
	defer mcptest.Within(t, 2*time.Second)()
	refused(t, d, "select 1", engine.Unreachable)
}

func TestConnectionsUsedUp(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, "postgres", "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 1")
	t.Cleanup(func() { p.Exec(t, "postgres", "DROP ROLE few") })
	dsn := p.DSN("few", "few", p.database)
	first, second := p.open(t, dsn), p.open(t, dsn)
	read(t, first, "select 1")
	if told := refused(t, second, "select 1", engine.Unreachable); told == nil || told.EngineCode != "53300" || !told.Retryable {
		t.Errorf("got %+v", told)
	}
	first.Close()
	readsAgain(t, second)
}

func TestWaitingForAConnectionIsTold(t *testing.T) {
	p := newDatabase(t)
	d := p.reader(t, one, func(o *engine.Options) { o.Pool.AcquireTimeout = 50 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tryRead(ctx, d, slow)
	}()
	p.awaitRunning(t, "1", 10*time.Second)
	told := refused(t, d, "select 1", engine.PoolExhausted)
	if told == nil || !told.Retryable || !strings.Contains(told.Message, "1 of 1 are in use and 1 calls are waiting") {
		t.Errorf("got %+v", told)
	}
	if info, err := d.Info(t.Context(), someone); err != nil || info.Status != "busy" || info.Pool["in_use"] != 1 {
		t.Errorf("got %+v, %v", info, err)
	}
	cancel()
	<-done
}

func TestADroppedDatabase(t *testing.T) {
	p := newDatabase(t)
	d := p.reader(t, one)
	read(t, d, "select 1")
	p.Exec(t, "postgres", "DROP DATABASE "+p.database+" WITH (FORCE)")
	for range 2 {
		told := refused(t, d, "select 1", engine.Unreachable)
		if told == nil || told.EngineCode != "3D000" || told.Retryable || !strings.Contains(told.Message, "does not exist") || !strings.Contains(told.Next, "does not exist") {
			t.Errorf("got %+v", told)
		}
	}
	if info, err := d.Info(t.Context(), someone); err != nil || info.Status != "down" || !strings.Contains(info.LastError, "does not exist") {
		t.Errorf("got %+v, %v", info, err)
	}
	p.Exec(t, "postgres", "CREATE DATABASE "+p.database)
}

func TestManyCallersOverFewConnections(t *testing.T) {
	p := newDatabase(t)
	d := p.reader(t, func(o *engine.Options) { o.Pool.AcquireTimeout = time.Minute })
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			for n := range 3 {
				sql := fmt.Sprintf("SELECT %d, count(*), max(name) FROM users WHERE id = %d", i, n+1)
				page, err := tryRead(t.Context(), d, sql)
				if want := fmt.Sprintf("[%d,1,", i); err != nil || !strings.HasPrefix(string(page.Rows), want) {
					t.Errorf("got %s, %v, want %s", page.Rows, err, want)
				}
				if i%20 == 0 {
					refused(t, d, "SELECT * FROM nowhere", engine.UnknownObject)
				}
				if i%25 == 0 {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
					if _, err := tryRead(ctx, d, slow); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("got %v", err)
					}
					cancel()
				}
			}
		})
	}
	wg.Wait()
	if stats := d.reads.stats(); stats["open"] > 8 || stats["waited"] == 0 {
		t.Errorf("got %v", stats)
	}
	d.Close()
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		n := p.Exec(t, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE datname = '`+p.database+`'`)
		if n == "0\n" && runtime.NumGoroutine() <= before {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("%s connections and %d goroutines are left", n, runtime.NumGoroutine()-before)
		}
	}
}

func TestConnectionsEndWhenTheyAreOldOrIdle(t *testing.T) {
	p := newDatabase(t)
	idle := p.reader(t, func(o *engine.Options) { o.Pool.MaxIdleTime = 30 * time.Millisecond })
	read(t, idle, "select 1")
	for late := time.Now().Add(10 * time.Second); idle.reads.stats()["open"] > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("an idle connection stays open")
		}
	}
	old := p.reader(t, one, func(o *engine.Options) { o.Pool.MaxLifetime = time.Nanosecond })
	if a, b := read(t, old, "SELECT pg_backend_pid()"), read(t, old, "SELECT pg_backend_pid()"); a == b {
		t.Error("an old connection was used again")
	}
}

// lateProxy is a way to a server on which requests to cancel a statement wait
// until they are let through.
type lateProxy struct {
	address string
	let     <-chan struct{}
	open    func()        // lets them through
	passed  chan struct{} // has one for each that was let through and answered
}

func newLateProxy(t testing.TB, server string) *lateProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	let := make(chan struct{})
	p := &lateProxy{address: listener.Addr().String(), let: let, passed: make(chan struct{}, 100), open: sync.OnceFunc(func() { close(let) })}
	var work sync.WaitGroup
	t.Cleanup(func() { p.open(); listener.Close(); work.Wait() })
	work.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() { p.serve(client, server) })
		}
	})
	return p
}

func (p *lateProxy) serve(client net.Conn, server string) {
	defer client.Close()
	start := make([]byte, 8) // length and code
	if _, err := io.ReadFull(client, start); err != nil {
		return
	}
	if binary.BigEndian.Uint32(start[4:]) == 80877102 { // CancelRequest
		defer func() { p.passed <- struct{}{} }()
		<-p.let
	}
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer upstream.Close()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = upstream.Write(start)
		_, _ = io.Copy(upstream, client)
		upstream.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(client, upstream)
	client.Close()
	both.Wait()
}

// A server that is asked late to end a statement that has ended does not end
// that of somebody else.
func TestALateCancelEndsNothingElse(t *testing.T) {
	p := newDatabase(t)
	proxy := newLateProxy(t, net.JoinHostPort(p.Host, p.Port))
	host, port, _ := net.SplitHostPort(proxy.address)
	d := p.open(t, strings.Replace(p.DSN(readerRole, readerPassword, p.database), p.Host+":"+p.Port, host+":"+port, 1), one,
		func(o *engine.Options) { o.Pool.AcquireTimeout = time.Minute })
	pid := read(t, d, "SELECT pg_backend_pid()")
	w := newWatch(t, p)
	if err := w.pg.Exec(t.Context(), "BEGIN; LOCK TABLE users").Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := tryRead(ctx, d, "SELECT * FROM users, generate_series(1, 2)")
		done <- err
	}()
	p.awaitRunning(t, "1", 10*time.Second)
	cancel()
	if err := w.pg.Exec(t.Context(), "ROLLBACK").Close(); err != nil { // so that it ends by itself
		t.Fatal(err)
	}
	<-done
	if again := read(t, d, "SELECT pg_backend_pid()"); again == pid {
		t.Error("a connection is used again that a request to cancel may reach yet")
	}
	proxy.open()
	<-proxy.passed
	read(t, d, "SELECT pg_backend_pid()")
}

// A message cannot have more params than two bytes count, which is no fault of
// the connection.
func TestTooManyParamsAreRefused(t *testing.T) {
	d := newDatabase(t).reader(t, one)
	pid := read(t, d, "SELECT pg_backend_pid()")
	refused(t, d, "SELECT 1", engine.InvalidArgument, make([]any, mostParams+1)...)
	if again := read(t, d, "SELECT pg_backend_pid()"); again != pid {
		t.Errorf("the connection was not kept: %s, then %s", pid, again)
	}
}

func TestNamesThatAreNoTextAreRefused(t *testing.T) {
	p := newDatabase(t)
	for what, identity := range map[string]engine.Identity{"role": {Role: "{principal}"}, "setting": {Setting: "app.user"}} {
		d := p.reader(t, func(o *engine.Options) { o.Identity = identity })
		err := d.Read(t.Context(), engine.Caller{Principal: "a\xff"}, engine.Statement{SQL: "SELECT 1"}, result.NewWriter(limits, nil))
		if code(err) != engine.AccessDenied || d.reads.stats()["opened"] != 0 {
			t.Errorf("%s: got %v, with %d connections", what, err, d.reads.stats()["opened"])
		}
	}
}
