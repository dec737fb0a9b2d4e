package dbserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/mcpool-dev/mcpool/rpc"
)

// sampleSum is the SHA-256 of the sample. It changes with sample.sql and with
// the version of SQLite, as the name of the file does.
const sampleSum = "f1dba6f31aadd31db3e26a375b5caabd2b60c526b4b74cd4f66de36885075492"

func TestSampleIsTheSameEachTime(t *testing.T) {
	path, err := samplePath()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != sampleSum {
		t.Errorf("the sum is %s", got)
	}
}

// raced is that the race detector is on, under which SQLite is so slow that
// the sample takes seconds.
var raced bool

func TestSampleCanBeMadeTwiceAtATime(t *testing.T) {
	if raced {
		t.Skip("too slow with the race detector")
	}
	dir := t.TempDir()
	var paths [2]string
	var wg sync.WaitGroup
	for i := range paths {
		wg.Go(func() {
			var err error
			if paths[i], err = Sample(t.Context(), dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || paths[0] != paths[1] {
		t.Errorf("%v, %v are in the directory, the paths are %q", entries, err, paths)
	}
}

func TestSampleContent(t *testing.T) {
	s := serveSample(t, Options{})
	for query, want := range map[string]string{
		"SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM products), (SELECT count(*) FROM calendar), (SELECT count(*) FROM stores)": "[[2000,200,1096,21]]",
		// Every key refers to something, so that no row is lost in the joins.
		`SELECT count(*), sum(amount_cents), sum(quantity), count(customer_id), sum(sale_id * (date_key + product_id + store_id) % 1000003)
			FROM sales JOIN calendar USING (date_key) JOIN stores USING (store_id) JOIN products USING (product_id)`: "[[50000,624795723,121210,45570,25155930053]]",
		"SELECT count(*) FROM sales JOIN customers USING (customer_id)":                                                                                               "[[45570]]",
		"SELECT count(*) - count(email), count(loyalty_number), min(loyalty_number) > 9007199254740992, sum(length(notes) > 4096), sum(length(photo)) FROM customers": "[[117,666,1,5,2432]]",
		"SELECT name FROM customers WHERE customer_id = 42 OR name LIKE 'محمد 李' OR name LIKE 'נועה Ø%' GROUP BY 1":                                                   `[["Café \"Tab\tand\nnewline\" 🎉👩🏽‍🚀"],["נועה Øster"],["محمد 李"]]`,
		"SELECT min(full_date), max(full_date), sum(is_weekend), max(quarter), max(weekday) FROM calendar":                                                            `[["2023-01-01","2025-12-31",313,4,7]]`,
		"SELECT items, revenue_cents FROM monthly_revenue WHERE year = 2024 AND month = 2 AND region = 'North'":                                                       "[[480,2401253]]",
	} {
		if got := rowsJSON(t, read(t, s, query)); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", query, got, want)
		}
	}
}

func TestCompleteSampleIsUsedAgain(t *testing.T) {
	path, err := samplePath()
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sample(t.Context(), filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was made again, %v", err)
	}

	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"half":  data[:len(data)/2],
		"empty": nil,
		"other": bytes.Repeat([]byte("x"), len(data)),
	} {
		other := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(other, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if complete(other) {
			t.Errorf("the %s file is taken for the sample", name)
		}
	}
}

func TestCancelledSampleLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Sample(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v are left in the directory", entries, err)
	}
}

func BenchmarkSample(b *testing.B) {
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		if _, err := Sample(b.Context(), filepath.Join(dir, fmt.Sprint(i))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFirstQuery(b *testing.B) {
	path, err := samplePath()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := New(Options{DSN: path})
		if err != nil {
			b.Fatal(err)
		}
		if a := read(b, s, "SELECT count(*) FROM stores"); a.IsError {
			b.Fatal(string(a.structured))
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadData(b *testing.B) {
	s := serveSample(b, Options{})
	params := []byte(`{"name":"read_data","arguments":{"query":"SELECT * FROM sales LIMIT 100"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Do(b.Context(), rpc.Call{Method: "tools/call", Params: params}); err != nil {
			b.Fatal(err)
		}
	}
}
