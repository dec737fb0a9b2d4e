package dbserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/seal"
)

func keptResults(s *Server) int {
	s.spools.mu.Lock()
	defer s.spools.mu.Unlock()
	return len(s.spools.kept)
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	endless := func(every time.Duration) func(context.Context, engine.Statement, *result.Writer) error {
		return func(ctx context.Context, _ engine.Statement, out *result.Writer) error {
			out.SetColumns([]result.Column{{Name: "n"}})
			for {
				if every > 0 {
					select {
					case <-time.After(every):
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
				out.Int(1)
				if !out.EndRow() {
					return nil
				}
			}
		}
	}
	for _, c := range []struct {
		name     string
		database Database
		every    time.Duration
		took     time.Duration // the reading, from its start
		by       string
		says     string
		rows     int // fetched
	}{
		{"rows", Database{SpoolRows: 50}, 0, 0, result.ByRows, "the result has more than 60 rows", 50},
		// A row has a header of 16 bytes, [1] and 1\n with an escaped end.
		{"bytes", Database{SpoolBytes: 22*30 + 21}, 0, 0, result.ByBytes, "the result has more than 40 rows", 30},
		{"time", Database{AcquireTimeout: time.Hour}, 300 * time.Millisecond, 3300*time.Millisecond + spoolTime, byTime, "the result has 27 rows or more", 17},
		{"others", Database{AcquireTimeout: 3 * time.Second}, 400 * time.Millisecond, 4400*time.Millisecond + 1500*time.Millisecond, byTime, "the result has 14 rows or more", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var took time.Duration
				one := endless(c.every)
				s := serveFake(t, Options{}, c.database, func(ctx context.Context, q engine.Statement, out *result.Writer) error {
					defer func() { took = time.Since(start) }()
					return one(ctx, q, out)
				})
				a := call(t, s, "read_data", object{"query": "q", "limit": 10})
				rows := 0
				for a.StructuredContent.Handle != "" {
					a = fetch(t, s, a.StructuredContent.Handle)
					rows += a.StructuredContent.RowCount
				}
				synctest.Wait()
				if got := a.StructuredContent; rows != c.rows || !got.Truncated || got.TruncatedBy != c.by || got.Complete == nil || *got.Complete {
					t.Errorf("after %d rows: %s", rows, a.structured)
				}
				wantNotice(t, a, c.says)
				if took != c.took {
					t.Errorf("read for %v, want %v", took, c.took)
				}
			})
		})
	}
}

func TestHandlesOpenForWhomTheyWereGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		yield := func(_ context.Context, _ engine.Statement, out *result.Writer) error {
			numbers(out, 3)
			return nil
		}
		key := bytes.Repeat([]byte("k"), seal.KeySize)
		s := serveFake(t, Options{Key: key, HandleTTL: time.Minute}, Database{}, yield)
		sibling := serveFake(t, Options{Key: key}, Database{}, yield)
		stranger := serveFake(t, Options{}, Database{}, yield)
		give := func(s *Server, principal string) string {
			t.Helper()
			a, err := tryAs(t.Context(), s, principal, "read_data", object{"query": "q", "limit": 1})
			if err != nil {
				t.Fatal(err)
			}
			return a.StructuredContent.Handle
		}
		ada := give(s, "ada")
		give(sibling, "ada") // so that there is a result of the same number
		give(stranger, "ada")
		tell := func(s *Server, principal, handle string) *answer {
			t.Helper()
			a, err := tryAs(t.Context(), s, principal, "fetch_rows", object{"handle": handle})
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		if a := tell(s, "ada", ada); firstColumn(a) != "2 3" {
			t.Fatalf("got %s", a.structured)
		}
		forged := ada[:len(ada)-2] + "AA"
		for _, c := range []struct {
			server                  *Server
			principal, handle, says string
		}{
			{s, "bob", ada, "not given to this caller"},
			{s, "", ada, "not given to this caller"},
			{s, "ada", forged, "not given to this caller"},
			{s, "ada", "x", "not given to this caller"},
			{sibling, "ada", ada, "kept by another server"},
			{sibling, "bob", ada, "not given to this caller"},
			{stranger, "ada", ada, "not given to this caller by this server"},
		} {
			a := tell(c.server, c.principal, c.handle)
			wantCode(t, a, engine.HandleExpired)
			if !strings.Contains(a.StructuredContent.Error.Message, c.says) {
				t.Errorf("%q does not say %q", a.StructuredContent.Error.Message, c.says)
			}
		}
		if len(ada) > 90 {
			t.Errorf("a handle has %d characters", len(ada))
		}

		// A result is kept as long as a handle of it is good, and no longer.
		time.Sleep(40 * time.Second)
		a, err := tryAs(t.Context(), s, "ada", "fetch_rows", object{"handle": ada, "limit": 1})
		if err != nil || firstColumn(a) != "2" {
			t.Fatalf("got %v, %v", a, err)
		}
		time.Sleep(40 * time.Second)
		wantCode(t, tell(s, "ada", ada), engine.HandleExpired)
		if a := tell(s, "ada", a.StructuredContent.Handle); firstColumn(a) != "3" {
			t.Errorf("got %s", a.structured)
		}
		if n := keptResults(s); n != 1 {
			t.Fatalf("%d results are kept", n)
		}
		s.spools.mu.Lock()
		kept := s.spools.kept[0].spool
		s.spools.mu.Unlock()
		time.Sleep(21 * time.Second)
		synctest.Wait()
		if kept.mu.Lock(); !kept.gone {
			t.Error("what has expired was not let go of")
		}
		kept.mu.Unlock()
		if n := keptResults(s); n != 0 {
			t.Errorf("%d results are kept", n)
		}
	})
}

func TestSpoolFilesArePrivateAndGoAway(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := serveSample(t, Database{})
	a := read(t, s, "SELECT *, printf('%.*c', 500, 'x') FROM sales LIMIT 1000")
	for a.StructuredContent.Complete == nil || !*a.StructuredContent.Complete {
		a = fetch(t, s, a.StructuredContent.Handle)
	}
	file := s.spools.kept[0].file
	if file == nil {
		t.Fatal("there is no file")
	}
	info, err := file.Stat()
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() < 500*500 {
		t.Errorf("file is %v, %v", info, err)
	}
	dir, err := os.Stat(s.spools.dir)
	if err != nil || dir.Mode().Perm() != 0o700 || !strings.HasPrefix(s.spools.dir, os.TempDir()) {
		t.Errorf("folder is %v, %v", dir, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file is open: %v", err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestOldResultsMakeRoom(t *testing.T) {
	s := serveFake(t, Options{}, Database{}, func(_ context.Context, q engine.Statement, out *result.Writer) error {
		out.SetColumns([]result.Column{{Name: "n"}})
		for range 10 {
			out.Text(strings.Repeat("x", 4000))
			out.EndRow()
		}
		return nil
	})
	give := func(principal string) string {
		t.Helper()
		a, err := tryAs(t.Context(), s, principal, "read_data", object{"query": "q", "limit": 1})
		if err != nil {
			t.Fatal(err)
		}
		return a.StructuredContent.Handle
	}
	code := func(principal, handle string) string {
		t.Helper()
		a, err := tryAs(t.Context(), s, principal, "fetch_rows", object{"handle": handle})
		if err != nil {
			t.Fatal(err)
		}
		return a.StructuredContent.Error.Code
	}
	bob := give("bob")
	var ada []string
	for range maxSpoolsEach + 2 {
		ada = append(ada, give("ada"))
	}
	for i, handle := range ada {
		want := ""
		if i < 2 {
			want = engine.HandleExpired
		}
		if got := code("ada", handle); got != want {
			t.Errorf("result %d of the busy one: %q, want %q", i, got, want)
		}
	}
	if got := code("bob", bob); got != "" {
		t.Errorf("that of another principal: %q", got)
	}
	for i := range maxSpools - maxSpoolsEach {
		give(fmt.Sprint("p", i))
	}
	if got := code("bob", bob); got != engine.HandleExpired {
		t.Errorf("the oldest of all: %q", got)
	}
	if n := keptResults(s); n != maxSpools {
		t.Errorf("%d results are kept", n)
	}

	// Bytes count as results do.
	if got := code("large", give("large")); got != "" { // so that it is complete
		t.Error(got)
	}
	s.spools.mu.Lock()
	s.spools.kept[len(s.spools.kept)-1].bytes = maxSpoolBytes + 1
	s.spools.mu.Unlock()
	last := give("eve")
	if got := code("eve", last); got != "" {
		t.Errorf("the newest: %q", got)
	}
	if n := keptResults(s); n != 1 {
		t.Errorf("%d results are kept where one was too large", n)
	}
}

func TestManyReadWhileOneWrites(t *testing.T) {
	s := serveFake(t, Options{}, Database{SpoolRows: 10_000}, func(_ context.Context, q engine.Statement, out *result.Writer) error {
		out.SetColumns([]result.Column{{Name: "n"}, {Name: "late"}})
		for i := range 8000 {
			out.Int(int64(i))
			if i < 50 {
				out.Null()
			} else {
				out.Text(strings.Repeat("y", i%97))
			}
			if !out.EndRow() {
				return nil
			}
		}
		return nil
	})
	var wg sync.WaitGroup
	for range 4 {
		a := call(t, s, "read_data", object{"query": "q", "limit": 5})
		for range 3 {
			wg.Go(func() {
				next := 5
				for a := a; a.StructuredContent.Handle != ""; {
					var err error
					if a, err = try(t.Context(), s, "fetch_rows", object{"handle": a.StructuredContent.Handle, "limit": 1000}); err != nil || a.IsError {
						t.Errorf("got %v, %v", a, err)
						return
					}
					for _, row := range a.StructuredContent.Rows {
						if row[0] != json.Number(fmt.Sprint(next)) {
							t.Errorf("row %v comes where %d is due", row[0], next)
							return
						}
						next++
					}
				}
				if next != 8000 {
					t.Errorf("%d rows", next)
				}
			})
		}
	}
	wg.Wait()
}

func TestWhatIsReadDoesNotChangeAsRowsAreAdded(t *testing.T) {
	s := serveFake(t, Options{}, Database{}, nil)
	kept := s.spools.open(&request{server: s, database: s.databases[0]}, result.Page{})
	add := func(c byte, n int) {
		t.Helper()
		if row := bytes.Repeat([]byte{c}, n); !kept.add(row, nil, 0, 0) {
			t.Fatal("no row is wanted")
		}
	}
	add('b', tailBytes)                                               // so that there is a file, and memory that is used again
	for i, at := range []position{{1, headerBytes + tailBytes}, {}} { // what is in memory, then what is in both
		add('a', 100)
		_, from, err := kept.await(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		add('b', tailBytes-headerBytes-100)
		for range i + 1 {
			add('c', 1000)
		}
		got, err := io.ReadAll(from)
		if err != nil || !bytes.HasSuffix(got, bytes.Repeat([]byte("a"), 100)) {
			t.Errorf("%d: got %d bytes that end in %.20q, %v", i, len(got), got[max(0, len(got)-20):], err)
		}
	}
}

func TestRowsThatCannotBeKeptAreTold(t *testing.T) {
	t.Setenv("TMPDIR", "/nowhere/at/all")
	s := serveFake(t, Options{}, Database{}, func(_ context.Context, _ engine.Statement, out *result.Writer) error {
		out.SetColumns([]result.Column{{Name: "n"}})
		for out.Wants() {
			out.Text(strings.Repeat("x", 1000))
			out.EndRow()
		}
		return nil
	})
	a := call(t, s, "read_data", object{"query": "q", "limit": 10})
	a = fetch(t, s, a.StructuredContent.Handle)
	if c := a.StructuredContent; c.RowCount < 10 || c.RowCount > 32 || c.TruncatedBy != byError || c.Handle != "" || *c.Complete {
		t.Errorf("got %d rows: %s", c.RowCount, a.text())
	}
	wantNotice(t, a, "could not keep more rows")
	if strings.Contains(a.text(), "nowhere") {
		t.Error("the answer tells of the server's files")
	}
}
