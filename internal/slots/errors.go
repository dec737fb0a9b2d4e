package slots

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrClosed: the pool is closed.
	ErrClosed = errors.New("pool is closed")
	// ErrLost: the group's connection is gone and its owner's state with it.
	// It is returned once per loss.
	ErrLost = errors.New("the connection that held the state is gone")
	// ErrGone: a check found that the connection certainly has ended.
	ErrGone = errors.New("the connection has ended")
	// ErrQueueFull: as many callers wait as may.
	ErrQueueFull = errors.New("too many callers are waiting")
	// ErrTimeout: the wait took its whole time, or nothing can come of the rest
	// of it.
	ErrTimeout = errors.New("no slot in time")
	// ErrDown: nothing can be opened, told at once instead of after a wait.
	ErrDown = errors.New("nothing can be opened")
	// ErrResumed: a Pause was ended before no call was in flight.
	ErrResumed = errors.New("resumed meanwhile")
	// ErrPermanent: see Options.Open.
	ErrPermanent = errors.New("trying again does not help")
)

// A LaterError is an opening that is not to be tried again for a while. Those of
// its group who do not wait as long get it at once.
type LaterError struct {
	Err   error
	After time.Duration
	// Alone says that it is about the group alone: the server may be well, and
	// other groups open connections as before.
	Alone bool
}

func (e *LaterError) Error() string { return e.Err.Error() }
func (e *LaterError) Unwrap() error { return e.Err }

// errUnwanted is why the opening of a connection is broken off when another
// has all the room.
var errUnwanted = errors.New("connection no longer wanted")

// Failure says why a caller got no slot.
type Failure string

const (
	TimedOut  Failure = "timeout"      // ErrTimeout
	Full      Failure = "queue_full"   // ErrQueueFull
	Down      Failure = "unavailable"  // ErrDown
	StateLost Failure = "session_lost" // ErrLost
	Cancelled Failure = "cancelled"    // the ctx of the wait ended
	Ending    Failure = "closed"       // ErrClosed
)

// failureOf returns what a wait, or the refusal of one, has ended with.
func failureOf(err error) Failure {
	if failed, ok := err.(*WaitError); ok { //nolint:errorlint // made by us just now
		err = failed.Err
	}
	switch err {
	case ErrTimeout:
		return TimedOut
	case ErrQueueFull:
		return Full
	case ErrDown:
		return Down
	case ErrLost:
		return StateLost
	case ErrClosed:
		return Ending
	}
	return Cancelled
}

// A WaitError is a wait for a slot that ended without one. It says how the
// group stood then.
type WaitError struct {
	Err     error // ErrTimeout, ErrQueueFull, ErrDown, or the cause of the ctx
	After   time.Duration
	State   State
	Cause   error         // the last failure to open a connection, nil if that did not fail
	RetryIn time.Duration // when the next try to open one may be made, where that is later
}

func (e *WaitError) Error() string {
	var b strings.Builder
	b.WriteString(e.Err.Error())
	if e.After > 0 {
		fmt.Fprintf(&b, " after %v", e.After.Round(time.Microsecond))
	}
	fmt.Fprintf(&b, " (%v)", e.State)
	if e.RetryIn > 0 {
		fmt.Fprintf(&b, "; next try in %v", e.RetryIn.Round(time.Millisecond))
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	return b.String()
}

// Unwrap returns what ended the wait, and the last failure to open.
func (e *WaitError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}

// State is how a group stands, and those who wait for it.
type State struct {
	Ready, Retired, Opening, Max int // connections
	InFlight, Slots              int
	Waiting                      int
	OldestWait                   time.Duration
	Breaker                      Breaker
	Paused                       bool
}

// String is the state in one line.
func (s State) String() string {
	text := fmt.Sprintf("connections %d ready, %d retired, %d opening of %d; calls in flight %d of %d; waiting %d, oldest %v; breaker %v",
		s.Ready, s.Retired, s.Opening, s.Max, s.InFlight, s.Slots, s.Waiting, s.OldestWait.Round(time.Millisecond), s.Breaker)
	if s.Paused {
		text += "; paused"
	}
	return text
}

// Breaker says whether callers are let wait for a server that cannot be
// connected to.
type Breaker string

const (
	BreakerClosed   Breaker = "closed"    // they wait
	BreakerOpen     Breaker = "open"      // they are told at once
	BreakerHalfOpen Breaker = "half-open" // they are, but one try is under way
)

func (p *Pool[K, C]) breakerLocked(now moment) Breaker {
	switch {
	case !p.brokenLocked(now):
		return BreakerClosed
	case p.opening > 0:
		return BreakerHalfOpen
	}
	return BreakerOpen
}

// waitErrorLocked is err with the state of a group.
func (p *Pool[K, C]) waitErrorLocked(g *group[K, C], err error, now moment) *WaitError {
	s := State{Ready: len(g.conns()), Retired: g.retired, Opening: len(g.opening), Max: g.max(),
		Waiting: g.queue.n, Breaker: p.breakerLocked(now), Paused: p.paused}
	for _, c := range g.conns() {
		s.Slots += c.room()
		s.InFlight += c.inFlight()
	}
	if oldest, any := g.queue.oldest(); any {
		s.OldestWait = now - oldest
	}
	return &WaitError{Err: err, State: s}
}
