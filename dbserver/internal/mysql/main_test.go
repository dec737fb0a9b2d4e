//go:build unix

package mysql

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mcptest.Settled(dbtest.Servers(m))) }

var who = engine.Caller{Principal: "ada", Tool: "read_data"}

// options are those of tests, for a DSN.
func options(dsn string) engine.Options {
	return engine.Options{Name: "test", DSN: dsn, Log: slog.New(slog.DiscardHandler),
		Pool: engine.Pool{MaxOpen: 4, MaxIdleTime: time.Minute, MaxLifetime: time.Hour, AcquireTimeout: 10 * time.Second,
			ConnectTimeout: 10 * time.Second},
		LockTimeout: 2 * time.Second, StatementTimeout: time.Minute}
}

func open(t testing.TB, o engine.Options) *Database {
	t.Helper()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d.(*Database)
}

// sample makes a database with some tables and an account that may read it, and
// returns the DSNs of the account and of root.
func sample(t testing.TB, s *dbtest.MariaDBServer, name string) (reader, root string) {
	t.Helper()
	s.Database(t, name)
	s.Exec(t, name, sampleSQL)
	account := name + "_ro"
	password := "pw-" + name
	setup := strings.ReplaceAll(SetupSQL(account, name, 30), "change this password", password)
	s.Exec(t, name, setup)
	t.Cleanup(func() { s.Exec(t, "", "DROP USER IF EXISTS '"+account+"'@'%'") })
	return s.DSN(account, password, name), s.Root(name)
}

const sampleSQL = `
CREATE TABLE customers (
	id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT,
	name VARCHAR(100) NOT NULL COMMENT 'as on the invoice',
	email VARCHAR(200),
	state ENUM('new','it''s old','a,b') DEFAULT 'new',
	created DATETIME DEFAULT CURRENT_TIMESTAMP,
	UNIQUE KEY by_email (email)
) COMMENT 'who buys';
CREATE TABLE orders (
	id BIGINT PRIMARY KEY AUTO_INCREMENT,
	customer INT UNSIGNED NOT NULL,
	total DECIMAL(12,2) NOT NULL CHECK (total >= 0),
	double_total DECIMAL(13,2) AS (total * 2) VIRTUAL,
	note TEXT,
	FULLTEXT KEY words (note),
	CONSTRAINT of_customer FOREIGN KEY (customer) REFERENCES customers (id)
);
INSERT INTO customers (id, name, email) VALUES (1,'Ada','ada@example.com'), (2,'Bob','bob@example.com'), (3,'Grüße 🎉',NULL);
INSERT INTO orders (customer, total, note) VALUES (1, 10.50, 'first order'), (1, 20, 'second'), (2, 99.99, NULL);
CREATE VIEW big_orders AS SELECT o.id, c.name, c.email, o.total FROM orders o JOIN customers c ON c.id = o.customer WHERE o.total > 15;
CREATE TABLE untransacted (n INT, t TEXT) ENGINE=MyISAM;
INSERT INTO untransacted VALUES (1, 'x');
`

func limits() result.Limits { return result.Limits{Rows: 100, Bytes: 1 << 20, Cell: 10_000} }

// read returns the rows of a statement as JSON.
func read(t testing.TB, d *Database, sql string, params ...any) (string, error) {
	t.Helper()
	out := result.NewWriter(limits(), nil)
	err := d.Read(t.Context(), who, engine.Statement{SQL: sql, Params: params}, out)
	rows := "[" + string(out.Page().Rows) + "]"
	if err == nil && !json.Valid([]byte(rows)) {
		t.Errorf("%s: invalid JSON %s", sql, rows)
	}
	return rows, err
}

func mustRead(t testing.TB, d *Database, sql string, params ...any) string {
	t.Helper()
	rows, err := read(t, d, sql, params...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// codeOf is the code of an error, "" for none.
func codeOf(err error) string {
	switch e := err.(type) {
	case nil:
		return ""
	case *engine.Error:
		return e.Code
	}
	if err == engine.ErrTimeout {
		return engine.StatementTimeout
	}
	return fmt.Sprintf("%T %v", err, err)
}

func number64(digits string) json.Number { return json.Number(digits) }

type ctx = context.Context

func caller(principal, tool string) engine.Caller {
	return engine.Caller{Principal: principal, Tool: tool}
}
