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
	info            func(ctx context.Context) (engine.Info, error)
}

func (f *fakeEngine) Read(ctx context.Context, _ engine.Caller, s engine.Statement, out *result.Writer) error {
	return f.read(ctx, s, out)
}

func (f *fakeEngine) Info(ctx context.Context, _ engine.Caller) (engine.Info, error) {
	return f.info(ctx)
}

func (f *fakeEngine) Open() int { return 1 }

func (f *fakeEngine) Close() error { return nil }

// serveFake serves a database whose statements are read by a function.
func serveFake(t testing.TB, o Options, d Database, read func(ctx context.Context, s engine.Statement, out *result.Writer) error) *Server {
	t.Helper()
	o.Databases = []Database{d}
	return serveFakes(t, o, &fakeEngine{read: read})
}

// serveFakes serves databases that are fakes, one for each.
func serveFakes(t testing.TB, o Options, fakes ...*fakeEngine) *Server {
	t.Helper()
	for i := range o.Databases {
		if o.Databases[i].DSN == "" {
			o.Databases[i].DSN = "fake.db"
		}
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	for i, db := range s.databases {
		if err := db.engine.Close(); err != nil {
			t.Fatal(err)
		}
		db.engine = inTurns{fakes[i], db.turns, &db.ended}
	}
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
