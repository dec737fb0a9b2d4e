package dbserver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// A closingEngine yields the numbers 1 to 3, each after a pause, and counts how
// often it is closed.
type closingEngine struct {
	fakeEngine
	closed int
}

func (e *closingEngine) Close() error { e.closed++; return nil }

// pretend has the databases of a server that have begun with it be closing
// engines, by their names.
func pretend(t testing.TB, s *Server, pause time.Duration) map[string]*closingEngine {
	t.Helper()
	engines := make(map[string]*closingEngine)
	for _, d := range s.databases {
		if d.users.Load() > 1 {
			continue
		}
		if err := d.engine.Close(); err != nil {
			t.Fatal(err)
		}
		e := new(closingEngine)
		e.read = func(ctx context.Context, _ engine.Statement, out *result.Writer) error {
			out.SetColumns([]result.Column{{Name: "n", Type: "INTEGER"}})
			for i := range int64(3) {
				out.Int(i + 1)
				if !out.EndRow() {
					return nil
				}
				select {
				case <-time.After(pause):
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		}
		engines[d.Name], d.engine = e, inTurns{e, d.turns, &d.ended}
	}
	return engines
}

func TestTheNextServerKeepsWhatIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{Databases: []Database{{Name: "same", DSN: "x.db"}, {Name: "other", DSN: "x.db"}}})
		if err != nil {
			t.Fatal(err)
		}
		before := pretend(t, s, time.Second)
		first := func(s *Server, database string) *answer {
			t.Helper()
			return call(t, s, "read_data", object{"database": database, "query": "q", "limit": 1})
		}
		kept, lost := first(s, "same").StructuredContent.Handle, first(s, "other").StructuredContent.Handle
		next, err := s.Next(Options{Databases: []Database{{Name: "fresh", DSN: "x.db"}, {Name: "other", DSN: "y.db"}, {Name: "same", DSN: "x.db"}}}, []string{"same"})
		if err != nil {
			t.Fatal(err)
		}
		after := pretend(t, next, 0)
		if len(after) != 2 || after["same"] != nil {
			t.Fatalf("begun are %v", after)
		}
		ended := make(chan error)
		go func() { ended <- s.Close() }()
		synctest.Wait()

		// Rows are still read behind the answer of a database that stays.
		a := fetch(t, next, kept)
		if c := a.StructuredContent; firstColumn(a) != "2 3" || c.Complete == nil || !*c.Complete {
			t.Errorf("the database that stays: %s", a.structured)
		}
		a = fetch(t, next, lost)
		wantCode(t, a, engine.HandleExpired)
		if says := a.StructuredContent.Error.Message; says != "the database other is not served any more, or in another way, and its rows are not kept" {
			t.Errorf("that of the other says %q", says)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if before["same"].closed != 0 || before["other"].closed != 1 {
			t.Errorf("closed: %d, %d", before["same"].closed, before["other"].closed)
		}
		for _, database := range []string{"same", "other", "fresh"} {
			if a := first(next, database); firstColumn(a) != "1" {
				t.Errorf("%s: %s", database, a.structured)
			}
		}
		if a := fetch(t, next, kept); firstColumn(a) != "2 3" {
			t.Errorf("after the end of the one before: %s", a.structured)
		}
		synctest.Wait()
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		if before["same"].closed != 1 || after["other"].closed != 1 || after["fresh"].closed != 1 {
			t.Errorf("closed: %d, %d, %d", before["same"].closed, after["other"].closed, after["fresh"].closed)
		}
		if got := next.databases[2].ended.all()["ok"]; got != 1 { // the second was read behind its answer until Close
			t.Errorf("%d statements are counted", got)
		}
	})
}

func TestATokenIsGoodOnceOnAServerAndTheNext(t *testing.T) {
	l := &ledger{rows: 1, class: "delete"}
	options := Options{Databases: []Database{{DSN: "x.db", Mode: Write}}}
	s := serveLedger(t, l, options)
	args := func(query, token string) object { return object{"query": query, "token": token} }
	used := call(t, s, "write_data", args("DELETE FROM a", "")).written(t).Token
	open := call(t, s, "write_data", args("DELETE FROM b", "")).written(t).Token
	if !call(t, s, "write_data", args("DELETE FROM a", used)).written(t).Committed {
		t.Fatal("not committed")
	}
	next, err := s.Next(options, []string{DefaultName})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	wantCode(t, call(t, next, "write_data", args("DELETE FROM a", used)), engine.Confirmation)
	if !call(t, next, "write_data", args("DELETE FROM b", open)).written(t).Committed {
		t.Error("a token of before is not good")
	}
}

func TestANextServerThatMakesNoSenseChangesNothing(t *testing.T) {
	s, err := New(Options{Databases: []Database{{Name: "a", DSN: "x.db"}}})
	if err != nil {
		t.Fatal(err)
	}
	engines := pretend(t, s, 0)
	for says, options := range map[string]Options{
		"at least one":         {},
		"another of its name":  {Databases: []Database{{Name: "a", DSN: "x.db"}, {Name: "a", DSN: "y.db"}}},
		"there is another too": {Databases: []Database{{Name: "a", DSN: "x.db"}}, Tools: []Tool{{Name: "read_data"}}},
	} {
		if _, err := s.Next(options, []string{"a"}); err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(says, " too")) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if a := call(t, s, "read_data", object{"query": "q"}); a.IsError {
		t.Errorf("got %s", a.structured)
	}
	if engines["a"].closed != 0 {
		t.Error("the database is closed")
	}
	if err := s.Close(); err != nil || engines["a"].closed != 1 {
		t.Errorf("%v, closed %d", err, engines["a"].closed)
	}
	if _, err := s.Next(Options{Databases: []Database{{Name: "a", DSN: "x.db"}}}, []string{"a"}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
