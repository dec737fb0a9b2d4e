package sqlite

import (
	"database/sql"
	"log/slog"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// newEngine opens a file with the server's defaults, and closes it with the
// test.
func newEngine(t testing.TB, o engine.Options) *Database {
	t.Helper()
	o.Name, o.Log = "main", slog.New(slog.DiscardHandler)
	if o.Pool.MaxOpen == 0 {
		o.Pool.MaxOpen = 1
	}
	o.Pool.MaxIdleTime, o.Pool.MaxLifetime = time.Hour, time.Hour
	o.Pool.AcquireTimeout, o.Pool.ConnectTimeout = 5*time.Second, 5*time.Second
	if o.LockTimeout == 0 {
		o.LockTimeout = 2 * time.Second
	}
	if o.StatementTimeout == 0 {
		o.StatementTimeout = 30 * time.Second
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

// measured are statements whose rows are counted by the second.
var measured = []struct{ name, sql string }{
	{"select1", "SELECT 1"},
	{"rows1000", "SELECT sale_id, amount_cents, date_key FROM sales LIMIT 1000"},
	{"texts1000", "SELECT customer_id, name, email FROM customers LIMIT 1000"},
}

// BenchmarkRead is what a statement costs up to the bytes of its answer.
func BenchmarkRead(b *testing.B) {
	path, err := samplePath()
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range measured {
		b.Run(m.name, func(b *testing.B) {
			d := newEngine(b, engine.Options{DSN: path})
			b.ReportAllocs()
			for b.Loop() {
				out := result.NewWriter(result.Limits{Rows: 1000, Bytes: 1 << 20, Cell: 4 << 10}, nil)
				if err := d.Read(b.Context(), engine.Caller{}, engine.Statement{SQL: m.sql}, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDriver is the same through database/sql, with rows scanned and
// thrown away: what there is to compare with.
func BenchmarkDriver(b *testing.B) {
	path, err := samplePath()
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range measured {
		b.Run(m.name, func(b *testing.B) {
			connector, err := sqlite.NewConnector("file:" + path + "?mode=ro")
			if err != nil {
				b.Fatal(err)
			}
			db := sql.OpenDB(connector)
			defer db.Close()
			db.SetMaxOpenConns(1)
			b.ReportAllocs()
			for b.Loop() {
				rows, err := db.QueryContext(b.Context(), m.sql)
				if err != nil {
					b.Fatal(err)
				}
				columns, err := rows.Columns()
				if err != nil {
					b.Fatal(err)
				}
				values, into := make([]any, len(columns)), make([]any, len(columns))
				for i := range into {
					into[i] = &values[i]
				}
				for rows.Next() {
					if err := rows.Scan(into...); err != nil {
						b.Fatal(err)
					}
				}
				if err := rows.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
