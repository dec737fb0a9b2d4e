//go:build unix

package mysql

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

// TestNamedServer runs what does not need MariaDB against the server of
// MCPOOL_TEST_MYSQL: the DSN of an account that may make databases and accounts,
// such as mysql://root:password@127.0.0.1:3306/. Nothing of it stays.
func TestNamedServer(t *testing.T) {
	dsn := os.Getenv("MCPOOL_TEST_MYSQL")
	if dsn == "" {
		t.Skip("skipped: MCPOOL_TEST_MYSQL names no server")
	}
	a, err := parseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	s := dbtest.NamedMySQL(a.addr, a.user, a.password)
	reader, root := sample(t, s, "mcpool_test")
	o := unhurried(options(reader))
	d := open(t, o)
	checksum := func() string {
		return s.Exec(t, "mcpool_test", "CHECKSUM TABLE customers, orders, untransacted EXTENDED") + s.Exec(t, "mcpool_test", "SHOW TABLES") +
			s.Exec(t, "", "SHOW DATABASES")
	}
	before := checksum()
	sessionOf := func(d *Database) string {
		return mustRead(t, d, `SELECT @left, DATABASE(), @@session.sql_mode, @@session.autocommit, @@session.time_zone, @@session.sql_select_limit,
			@@session.character_set_client, CURRENT_USER(), (SELECT COUNT(*) FROM customers)`)
	}

	t.Run("info", func(t *testing.T) {
		info, err := d.Info(t.Context(), who)
		if err != nil || info.Status != "ready" || info.Proof == nil || !info.Proof.Verified || len(info.Proof.Warnings) > 0 {
			t.Errorf("got %+v, %+v, %v", info, info.Proof, err)
		}
		t.Logf("%s %s", info.Engine, info.Version)
		if _, err := read(t, open(t, options(root)), "SELECT 1"); codeOf(err) != engine.RoleUnsafe {
			t.Errorf("the account of the test: %v", err)
		}
	})
	t.Run("attacks", func(t *testing.T) {
		unsafe := unhurried(options(root))
		unsafe.AllowUnsafeRole = true
		unsafe.Policy.Functions = nil
		for _, d := range []*Database{open(t, unsafe), open(t, options(reader))} {
			clean := sessionOf(d)
			for _, e := range readCorpus(t, "mysql-attack.txt") {
				if strings.Contains(e.sql, "by_function") || strings.Contains(e.sql, "by_memory") {
					continue // which only the sample of MariaDB has
				}
				_, err := read(t, d, e.sql)
				if code := codeOf(err); !slices.Contains(e.expected, code) {
					t.Errorf("mysql-attack.txt:%d: %s: %v", e.line, e.sql, err)
				}
				if now := sessionOf(d); now != clean {
					t.Errorf("mysql-attack.txt:%d: the session is %s, want %s", e.line, now, clean)
				}
			}
		}
		if after := checksum(); after != before {
			t.Errorf("got\n%s, want\n%s", after, before)
		}
	})
	t.Run("reads", func(t *testing.T) {
		for _, e := range readCorpus(t, "mysql-allow.txt") {
			_, err := read(t, d, e.sql)
			if code := codeOf(err); !slices.Contains(append(e.expected, ""), code) {
				t.Errorf("mysql-allow.txt:%d: %s: %v", e.line, e.sql, err)
			}
		}
	})
	t.Run("cancel", func(t *testing.T) {
		id := mustRead(t, d, "SELECT CONNECTION_ID()")
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := d.Read(ctx, who, engine.Statement{SQL: "SELECT SLEEP(60)"}, all()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		noneRuns(t, s)
		if now := mustRead(t, d, "SELECT CONNECTION_ID()"); now != id {
			t.Errorf("the connection was not kept: %s, then %s", id, now)
		}
	})
	t.Run("catalog", func(t *testing.T) {
		tables, err := d.Tables(t.Context(), who, engine.Filter{Limit: 10, Detail: engine.Full})
		if err != nil || names(tables.Tables) != "big_orders customers orders untransacted" {
			t.Errorf("got %s, %v", names(tables.Tables), err)
		}
		orders, err := d.Describe(t.Context(), who, engine.Name{Table: "orders"}, 2)
		if err != nil || len(orders.ForeignKeys) != 1 || len(orders.Checks) != 1 || !orders.Columns[3].Generated || len(orders.Columns[2].Samples) != 2 {
			t.Errorf("got %+v, %v", orders, err)
		}
		if _, err := d.Explain(t.Context(), who, engine.Statement{SQL: "SELECT * FROM orders"}); err != nil {
			t.Error(err)
		}
	})
	t.Run("writes", func(t *testing.T) {
		o := options(reader)
		o.Write, o.WriteDSN = true, root
		d := open(t, o)
		if got, err := write(t, d, "UPDATE customers SET name = 'x' WHERE id < 3", engine.Write{}); err != nil || got.Affected != 2 {
			t.Errorf("got %+v, %v", got, err)
		}
		if after := checksum(); after != before {
			t.Errorf("after a preview\n%s, want\n%s", after, before)
		}
		if got, err := write(t, d, "DELETE FROM untransacted WHERE n = 1", engine.Write{}); err != nil || !got.Uncertain {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}
