package sqlite

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
)

// samplePath makes the sample once for all tests of the package.
var samplePath = sync.OnceValues(func() (string, error) {
	return Sample(context.Background(), filepath.Join(testDir, "sample"))
})

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
