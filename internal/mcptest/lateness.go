package mcptest

import (
	"testing"
	"time"
)

// Within begins a bound of real time: what comes until end is called may take
// most, and as much longer as this machine was late.
func Within(t testing.TB, most time.Duration) (end func()) {
	began, late := time.Now(), Lateness()
	return func() {
		t.Helper()
		if took, lag := time.Since(began), late(); took > most+lag {
			t.Errorf("it took %v, and may take %v (the machine was late by %v)", took, most, lag)
		}
	}
}

// Lateness measures, until it is asked, for how long this machine had no time for
// who wanted to run: a bound of real time is to be that much longer.
func Lateness() (all func() time.Duration) {
	stop, late := make(chan struct{}), make(chan time.Duration)
	go func() {
		const beat = 10 * time.Millisecond
		sum := time.Duration(0)
		for {
			began := time.Now()
			select {
			case <-time.After(beat):
				sum += time.Since(began) - beat
			case <-stop:
				late <- sum + max(0, time.Since(began)-beat)
				return
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-late
	}
}
