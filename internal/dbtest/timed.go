package dbtest

import (
	"runtime"
	"testing"
	"time"
)

// Timed runs do, and logs how long that took and how much was allocated. More
// than most, or more than so many bytes, is an error: both are to be far more
// than it takes, for machines are busy, and tests run beside each other.
func Timed(t testing.TB, what string, most time.Duration, bytes uint64, do func() error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	err := do()
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%s: %v, %d KB allocated", what, took.Round(time.Millisecond/10), allocated>>10)
	switch {
	case err != nil:
		t.Errorf("%s: %v", what, err)
	case took > most:
		t.Errorf("%s took %v", what, took)
	case allocated > bytes:
		t.Errorf("%s allocated %d bytes", what, allocated)
	}
}
