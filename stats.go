package mcpool

import (
	"time"
)

// Stats is what a pool has done and how it stands, at one moment. Counters
// never fall; the numbers of connections are what they are now.
type Stats struct {
	Server string

	// Connections now: Connections = InUse + Idle; those being opened and
	// those that left the pool and wait for their last call come besides.
	Connections int
	InUse       int // with a call in flight
	Idle        int
	Opening     int
	Retired     int
	Pinned      int // of all of them, those that are one caller's: a session's, or lent whole
	Groups      int // keys with a connection or a waiter
	MaxOpening  int // how many may be opened at once now: fewer after failures

	Slots         int // room for calls on the connections that are open
	CallsInFlight int
	Settling      int // of them, cancelled calls that the server may still be working on
	Paused        bool
	Breaker       Breaker
	Waiting       int           // callers waiting for a slot
	OldestWait    time.Duration // how long the first of them has waited

	Opened       uint64
	Opens        map[OpenReason]uint64 // openings begun
	OpenFailures map[OpenReason]uint64 // connections that could not be opened
	OpensElided  uint64                // openings that were not needed any more when they were to begin
	SparesUsed   uint64                // connections that were ready for the session that took them
	Closed       map[CloseReason]uint64

	Acquires  map[AcquireResult]uint64 // slots and whole connections asked for, by what came of it
	Released  uint64                   // of those lent, given back
	Waited    uint64                   // of those lent, waited for
	WaitTime  time.Duration
	LateBinds uint64               // waiters served by an old connection while a new one was being opened
	Pins      map[PinReason]uint64 // times that a connection came to be one caller's

	Calls     uint64                 // calls made through the pool
	Carried   uint64                 // of them, those that have had a connection
	CacheHits uint64                 // of them, answered from what the server had said before
	Errors    uint64                 // calls that got no answer, or an error of the protocol
	Retries   map[RetryReason]uint64 // times a call was sent again
	// RetryBudgetSpent counts the times that a call was sent again although it may
	// have run; RetryBudgetExhausted calls that were not, although they might have
	// been, because a fifth of all calls had been.
	RetryBudgetSpent     uint64
	RetryBudgetExhausted uint64
	Leaked               uint64 // leases found to be held for longer than LeakAfter

	HealthChecks   uint64
	HealthFailures uint64

	// ReuseRatio is the share of the calls that have had a connection that cost
	// none of their own: 1 - Opened/Carried, 0 where that is negative or there are
	// none.
	ReuseRatio float64

	Open Latency // opening a connection
	Wait Latency // from asking for a slot to having it
	Call Latency // from having a slot to the answer, each time sent
	// Lease is from having a slot, or a whole connection, to giving it back, be it
	// for one call or by [Pool.Acquire]. It is read off a clock that ticks every
	// 10 ms: most that are shorter count as 0, and the sum is right on the average.
	Lease Latency
}

// ClosedTotal is the number of connections closed, for all reasons.
func (s *Stats) ClosedTotal() uint64 {
	var n uint64
	for _, c := range s.Closed {
		n += c
	}
	return n
}

// OpenFailuresTotal is the number of connections that could not be opened, for
// all reasons.
func (s *Stats) OpenFailuresTotal() uint64 {
	var n uint64
	for _, c := range s.OpenFailures {
		n += c
	}
	return n
}

// RetriesTotal is the number of times that calls were sent again, for all
// reasons.
func (s *Stats) RetriesTotal() uint64 {
	var n uint64
	for _, c := range s.Retries {
		n += c
	}
	return n
}

// Breaker says what becomes of callers when no connection can be opened.
type Breaker string

const (
	BreakerClosed   Breaker = "closed"    // they wait for the server to come back
	BreakerOpen     Breaker = "open"      // it is away for 10 s or more: they are told at once
	BreakerHalfOpen Breaker = "half-open" // they are, but one try to connect is under way
)

// Breakers are all states there are.
func Breakers() []Breaker { return []Breaker{BreakerClosed, BreakerOpen, BreakerHalfOpen} }

// AcquireResult says what came of asking for a slot or a whole connection.
type AcquireResult string

const (
	AcquireOK          AcquireResult = "ok"           // it was lent
	AcquireTimeout     AcquireResult = "timeout"      // ErrAcquireTimeout
	AcquireQueueFull   AcquireResult = "queue_full"   // ErrQueueFull: the queue has rejected it
	AcquireUnavailable AcquireResult = "unavailable"  // ErrUnavailable
	AcquireSessionLost AcquireResult = "session_lost" // ErrSessionLost
	AcquireCancelled   AcquireResult = "cancelled"    // the caller's ctx ended while it waited
	AcquireClosed      AcquireResult = "closed"       // ErrPoolClosed
)

// AcquireResults are all results there are.
func AcquireResults() []AcquireResult {
	return []AcquireResult{AcquireOK, AcquireTimeout, AcquireQueueFull, AcquireUnavailable, AcquireSessionLost, AcquireCancelled, AcquireClosed}
}

// PinReason says why a connection came to be one caller's.
type PinReason string

const (
	PinnedSession PinReason = "session" // it holds the state of a session, under ShareSession
	PinnedLease   PinReason = "lease"   // it was acquired as a Whole
	PinnedCall    PinReason = "call"    // of a caller without a session, under ShareSession
)

// PinReasons are all reasons there are.
func PinReasons() []PinReason { return []PinReason{PinnedSession, PinnedLease, PinnedCall} }

// RetryReason says why a call was sent again.
type RetryReason string

const (
	RetriedNotSent     RetryReason = "not_sent"     // nothing of it had reached the server
	RetriedSessionLost RetryReason = "session_lost" // the session was gone, and the call unread
	RetriedHarmless    RetryReason = "harmless"     // it may have run, and may run twice
	RetriedLater       RetryReason = "later"        // the server wanted it later, by Retry-After
)

// RetryReasons are all reasons there are.
func RetryReasons() []RetryReason {
	return []RetryReason{RetriedNotSent, RetriedSessionLost, RetriedHarmless, RetriedLater}
}

// OpenReason says why a connection was opened.
type OpenReason string

const (
	OpenedForWaiters OpenReason = "waiters" // callers waited
	OpenedForMin     OpenReason = "min"     // to keep MinConnections ready
	OpenedForAge     OpenReason = "age"     // to replace one
)

// OpenReasons are all reasons there are.
func OpenReasons() []OpenReason {
	return []OpenReason{OpenedForWaiters, OpenedForMin, OpenedForAge}
}

// CloseReason says why a connection was closed.
type CloseReason string

const (
	ClosedIdle      CloseReason = "idle"      // unused for IdleTimeout
	ClosedAge       CloseReason = "age"       // replaced at MaxConnectionAge
	ClosedCalls     CloseReason = "calls"     // replaced after MaxConnectionCalls
	ClosedLost      CloseReason = "lost"      // the server dropped the session, or the link or process ended
	ClosedUnhealthy CloseReason = "unhealthy" // a health check failed
	ClosedReset     CloseReason = "reset"     // replaced by Reset or Drain
	ClosedEvicted   CloseReason = "evicted"   // made room for another group, or pool, at a cap
	ClosedSurplus   CloseReason = "surplus"   // opened, and then not needed
	ClosedSession   CloseReason = "session"   // the session that owned it ended
	ClosedKilled    CloseReason = "killed"    // by Kill
	ClosedShutdown  CloseReason = "shutdown"  // the pool was closed
)

// CloseReasons are all reasons there are.
func CloseReasons() []CloseReason {
	return []CloseReason{ClosedIdle, ClosedAge, ClosedCalls, ClosedLost, ClosedUnhealthy,
		ClosedReset, ClosedEvicted, ClosedSurplus, ClosedSession, ClosedKilled, ClosedShutdown}
}
