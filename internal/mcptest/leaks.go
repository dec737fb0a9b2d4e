package mcptest

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// ending is how long goroutines may take to end that have nothing left to do.
// goleak gives them less than half a second, in which a busy machine may not
// get round to them.
const ending = 30 * time.Second

// Settled returns m for [goleak.VerifyTestMain]: tests that have passed are
// over when their goroutines are, or when those have been waited for.
func Settled(m goleak.TestingM) goleak.TestingM { return settled{m} }

type settled struct{ goleak.TestingM }

func (s settled) Run() int {
	status := s.TestingM.Run()
	if status == 0 {
		awaitEnds()
	}
	return status
}

// VerifyNone is [goleak.VerifyNone] with the patience of [Settled].
func VerifyNone(t testing.TB, options ...goleak.Option) {
	t.Helper()
	awaitEnds(options...)
	goleak.VerifyNone(t, options...)
}

func awaitEnds(options ...goleak.Option) {
	for late := time.Now().Add(ending); goleak.Find(options...) != nil && time.Now().Before(late); {
		time.Sleep(time.Millisecond)
	}
}
