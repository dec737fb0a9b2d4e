package sqlserver

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func TestARoleThatMayWriteIsTurnedAway(t *testing.T) {
	for _, more := range [][]driver.Value{
		{factServerRole, "sysadmin"}, {factDatabaseRole, "db_owner"}, {factDatabaseRole, "db_datawriter"},
		{factServerPermission, "CONTROL SERVER"}, {factServerPermission, "ADMINISTER BULK OPERATIONS"},
		{factDatabasePermission, "INSERT"}, {factDatabasePermission, "EXECUTE"}, {factDatabasePermission, "CREATE TABLE"}, {factDatabasePermission, "ALTER ANY USER"},
		{factObjectPermission, "UPDATE"}, {factOwned, "sales"},
	} {
		f := &fake{run: twoRows, facts: append(slices.Clone(safe), more)}
		d := f.start(t, options())
		err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter())
		if code(err) != engine.RoleUnsafe || !strings.Contains(err.Error(), more[1].(string)) {
			t.Errorf("%v: got %v", more, err)
		}
		if sent := f.sent(); len(sent) > 0 || !f.conns[0].closed {
			t.Errorf("%v: sent %q", more, sent)
		}
		o := options()
		o.AllowUnsafeRole = true
		f = &fake{run: twoRows, facts: f.facts}
		d = f.start(t, o)
		if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil {
			t.Errorf("%v allowed: %v", more, err)
		}
	}
	f := &fake{facts: [][]driver.Value{{factDatabase, "shop"}}}
	if err := f.start(t, options()).Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); code(err) != engine.Unreachable {
		t.Errorf("without facts: got %v", err)
	}
}

func TestEachConnectionAsksForItsPasswordAndReadsFromASecondary(t *testing.T) {
	f := &fake{run: twoRows}
	o := options()
	asked := 0
	o.Password = func() (string, error) { asked++; return fmt.Sprint("p", asked), nil }
	o.Write, o.WriteDSN = true, "sqlserver://writer@db.example.com?database=shop"
	d := f.start(t, o)
	for range 2 {
		if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil {
			t.Fatal(err)
		}
		f.conns[0].bad = true
	}
	f.plan = func(string) (string, error) { return document("delete"), nil }
	if _, err := d.Write(t.Context(), who, engine.Statement{SQL: "DELETE FROM users"}, engine.Write{}, newWriter()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range f.configs {
		got = append(got, fmt.Sprint(c.User, " ", c.Password, " ", c.ReadOnlyIntent))
	}
	same(t, "connections", got, []string{"mcp_ro p1 true", "mcp_ro p2 true", "writer p3 false"})

	o = options()
	o.Password = func() (string, error) { return "", io.ErrUnexpectedEOF }
	if err := (&fake{}).start(t, o).Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); code(err) != engine.Unreachable {
		t.Errorf("got %v", err)
	}
	o = options()
	o.DSN = "sqlserver://u@h" // for which the driver refuses the intent
	f = &fake{run: twoRows}
	if err := f.start(t, o).Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil || f.configs[0].ReadOnlyIntent {
		t.Errorf("got %v, %t", err, f.configs[0].ReadOnlyIntent)
	}
	o.DSN, o.Resolve = "", func(context.Context) (string, error) { return "sqlserver://made@h?database=x", nil }
	f = &fake{run: twoRows}
	if err := f.start(t, o).Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil || f.configs[0].User != "made" {
		t.Errorf("got %v, %+v", err, f.configs)
	}
}

// TestADatabaseThatIsDownIsTriedAgain: at intervals that grow from 1 to 30 s,
// by one caller at a time.
func TestADatabaseThatIsDownIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var tries []time.Duration
		start := time.Now()
		up := false
		f := &fake{run: twoRows, open: func(ctx context.Context, _ msdsn.Config) error {
			mu.Lock()
			defer mu.Unlock()
			tries = append(tries, time.Since(start))
			if up {
				return nil
			}
			return errors.New("connection refused")
		}}
		d := f.start(t, options())
		read := func() error { return d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()) }
		for range 130 {
			err := read()
			var e *engine.Error
			if !errors.As(err, &e) || e.Code != engine.Unreachable || !e.Retryable || e.RetryAfter <= 0 || e.RetryAfter > 30_000 {
				t.Fatalf("got %+v", e)
			}
			time.Sleep(time.Second / 2)
		}
		seconds := make([]string, len(tries))
		for i, at := range tries {
			seconds[i] = at.String()
		}
		same(t, "tries", seconds, []string{"0s", "1s", "3s", "7s", "15s", "31s", "1m1s"})
		if info, err := d.Info(t.Context(), who); err != nil || info.Status != "down" || !strings.Contains(info.LastError, "refused") {
			t.Errorf("got %+v, %v", info, err)
		}
		mu.Lock()
		up = true
		mu.Unlock()
		time.Sleep(longestPause)
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				if err := read(); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if len(f.conns) > 2 {
			t.Errorf("%d connections", len(f.conns))
		}
		_ = d.Close() // in the bubble
	})
}

func TestACallerWhoLeavesTeachesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{run: twoRows, open: func(ctx context.Context, _ msdsn.Config) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		d := f.start(t, options())
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, io.ErrUnexpectedEOF)
		defer cancel()
		if err := d.Read(ctx, who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != io.ErrUnexpectedEOF {
			t.Errorf("got %v", err)
		}
		f.open = nil
		if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil {
			t.Errorf("got %v", err)
		}
		_ = d.Close() // in the bubble
	})
}

func TestConnectionsAreNotLentBeyondTheirAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{run: twoRows}
		o := options()
		o.Pool.MaxIdleTime = 0
		d := f.start(t, o)
		for range 20 {
			if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
		}
		if n := len(f.conns); n != 4 { // in 3 h 20 min
			t.Errorf("%d connections", n)
		}
		_ = d.Close() // in the bubble
	})
}

// TestABlackHoleCostsTheConnectTimeout: the driver waits for the server's login
// without regard to ctx, so its links are cut.
func TestABlackHoleCostsTheConnectTimeout(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	o := options()
	o.DSN = "sqlserver://u:p@" + listener.Addr().String() + "?database=x"
	o.Pool.ConnectTimeout = 100 * time.Millisecond
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err = d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter())
	if code(err) != engine.Unreachable || !strings.Contains(err.Error(), errConnectTimeout.Error()) || time.Since(start) > 4*time.Second {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestSetupSQL(t *testing.T) {
	want := `USE [master];
CREATE LOGIN [mcp]]ro] WITH PASSWORD = N'<password>', CHECK_POLICY = ON;
USE [shop];
CREATE USER [mcp]]ro] FOR LOGIN [mcp]]ro];
ALTER ROLE db_datareader ADD MEMBER [mcp]]ro];
ALTER ROLE db_denydatawriter ADD MEMBER [mcp]]ro];
GRANT SHOWPLAN TO [mcp]]ro]; -- plans tell what a statement would do
DENY EXECUTE ON SCHEMA::[dbo] TO [mcp]]ro]; -- also for other schemas; leave it out for functions that are allowed
DENY ALTER TO [mcp]]ro];
DENY CREATE TABLE, CREATE VIEW, CREATE PROCEDURE, CREATE FUNCTION, CREATE SYNONYM, CREATE TYPE, CREATE SCHEMA TO [mcp]]ro];
DENY BACKUP DATABASE, BACKUP LOG, CHECKPOINT, TAKE OWNERSHIP TO [mcp]]ro];
`
	if got := SetupSQL("mcp]ro", "shop"); got != want {
		t.Errorf("got %s", got)
	}
}
