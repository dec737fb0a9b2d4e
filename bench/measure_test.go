package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestHandOffServesWaiters holds that the case measures what it says: that
// slots go to somebody who waits for them.
func TestHandOffServesWaiters(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	waited := map[string]func(lender) int{
		poolName:         func(l lender) int { return int(l.(pool).Stats().Waited) },
		engineName:       func(l lender) int { return int(l.(*engine).pool.Stats().Waited) },
		puddleName:       func(l lender) int { return int(l.(puddlePool).Stat().EmptyAcquireCount()) },
		"`database/sql`": func(l lender) int { return int(l.(sqlPool).Stats().WaitCount) },
	}
	for _, s := range subjects() {
		count, counts := waited[s.name]
		if !counts {
			continue // a channel
		}
		l := s.openFull(1, 1)
		before := count(l)
		const n = 10_000
		alternate(l, n)
		if got := count(l) - before; got < n*9/10 {
			t.Errorf("%s: %d of %d releases served a waiter", s.name, got, n)
		}
		l.close()
	}
}

func TestPairedComparesRoundByRound(t *testing.T) {
	// The second and third rounds were disturbed, for both alike.
	a := series{{wall: 10}, {wall: 50}, {wall: 200}}
	b := series{{wall: 20}, {wall: 100}, {wall: 400}}
	if got := paired(a, b, wall, ratio); got != 0.5 {
		t.Errorf("ratio %v, want 0.5", got)
	}
	if got := a.median(wall); got != 50 {
		t.Errorf("median %v, want 50", got)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median of an even number %v, want 2.5", got)
	}
}

func TestTargetIsMissedBeyondItsBound(t *testing.T) {
	r := func(ns, allocs, puddle float64) verdict {
		name := freeName(1)
		return (&results{cases: map[string]map[string]series{name: {
			poolName: {{wall: ns, cpu: ns, allocs: allocs}}, puddleName: {{wall: puddle, cpu: puddle}},
		}}}).free(1, poolName)
	}
	for _, c := range []struct {
		ns, allocs, puddle float64
		met                bool
	}{{60, 0, 100, true}, {61, 0, 200, false}, {60, 1, 100, false}, {60, 0, 99, false}} {
		if v := r(c.ns, c.allocs, c.puddle); v.met != c.met {
			t.Errorf("%+v: %+v", c, v)
		}
	}
}

func TestWritePartKeepsTheRest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	begin, end := marks("pools")
	other, otherEnd := marks("transports")
	rest := "below\n" + other + "others\n" + otherEnd
	if err := os.WriteFile(file, []byte("above\n"+begin+end+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first\n", "second\n"} {
		if err := writePart(file, "pools", text); err != nil {
			t.Fatal(err)
		}
		got, _ := os.ReadFile(file)
		if want := "above\n" + begin + text + end + rest; string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if writePart(file, "roundtrips", "lost") == nil {
		t.Error("a part without marks was written")
	}
}

// TestReadmeHasRoomForEachPart holds that -write will find its marks.
func TestReadmeHasRoomForEachPart(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts() {
		begin, end := marks(p.name)
		if _, rest, ok := strings.Cut(string(readme), begin); !ok || !strings.Contains(rest, end) {
			t.Errorf("README.md lacks the marks of %s", p.name)
		}
	}
}
