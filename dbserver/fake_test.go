package dbserver

import (
	"context"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// A fakeEngine is a database that only reads.
type fakeEngine struct {
	engine.Database // nil: nothing else is called
	read            func(ctx context.Context, s engine.Statement, out *result.Writer) error
}

func (f *fakeEngine) Read(ctx context.Context, _ engine.Caller, s engine.Statement, out *result.Writer) error {
	return f.read(ctx, s, out)
}

func (f *fakeEngine) Close() error { return nil }

// serveFake serves a database whose statements are read by a function.
func serveFake(t testing.TB, o Options, d Database, read func(ctx context.Context, s engine.Statement, out *result.Writer) error) *Server {
	t.Helper()
	d.DSN = "fake.db"
	o.Databases = []Database{d}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	db := s.databases[0]
	if err := db.engine.Close(); err != nil {
		t.Fatal(err)
	}
	db.engine = inTurns{&fakeEngine{read: read}, db.turns, &db.ended}
	return s
}

// numbers yields rows with the numbers from 1 up to n, as long as they are wanted.
func numbers(out *result.Writer, n int) {
	out.SetColumns([]result.Column{{Name: "n", Type: "INTEGER"}})
	for i := 1; i <= n; i++ {
		out.Int(int64(i))
		if !out.EndRow() {
			return
		}
	}
}
