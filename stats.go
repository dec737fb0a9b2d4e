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
	Groups      int // keys with a connection or a waiter

	Slots         int // room for calls on the connections that are open
	CallsInFlight int
	Settling      int // of them, cancelled calls that the server may still be working on
	Paused        bool
	Broken        bool          // the breaker is open: callers are told at once that the server is away
	Waiting       int           // callers waiting for a slot
	OldestWait    time.Duration // how long the first of them has waited

	Opened       uint64
	Opens        map[OpenReason]uint64 // openings begun
	OpenFailures uint64
	Closed       map[CloseReason]uint64

	Acquired        uint64 // slots and whole connections lent
	Released        uint64
	Waited          uint64 // of Acquired, those that had to wait
	WaitTime        time.Duration
	AcquireFailures uint64 // waits that ended without a slot
	Refused         uint64 // callers who were not let wait: too many did, or the server is away
	LateBinds       uint64 // waiters served by an old connection while a new one was being opened

	Calls   uint64 // calls made through the pool
	Errors  uint64 // calls that got no answer, or an error of the protocol
	Retries uint64 // times a call was sent again
	// OverBudget counts calls that were not sent again, although they might
	// have been, because a fifth of all calls had been.
	OverBudget uint64

	HealthChecks   uint64
	HealthFailures uint64

	// ReuseRatio is the share of calls that cost no connection of their own:
	// 1 - Opened/Calls, 0 where that is negative or nothing was called.
	ReuseRatio float64

	Open Latency // opening a connection
	Wait Latency // from asking for a slot to having it
	Call Latency // from having a slot to the answer, each time sent
}

// ClosedTotal is the number of connections closed, for all reasons.
func (s *Stats) ClosedTotal() uint64 {
	var n uint64
	for _, c := range s.Closed {
		n += c
	}
	return n
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
	ClosedLost      CloseReason = "lost"      // the server dropped the session, or the link or process ended
	ClosedUnhealthy CloseReason = "unhealthy" // a health check failed
	ClosedReset     CloseReason = "reset"     // replaced by Reset or Drain
	ClosedEvicted   CloseReason = "evicted"   // made room for another group at MaxConnectionsTotal
	ClosedSurplus   CloseReason = "surplus"   // opened, and then not needed
	ClosedSession   CloseReason = "session"   // the session that owned it ended
	ClosedShutdown  CloseReason = "shutdown"  // the pool was closed
)

// CloseReasons are all reasons there are.
func CloseReasons() []CloseReason {
	return []CloseReason{ClosedIdle, ClosedAge, ClosedLost, ClosedUnhealthy,
		ClosedReset, ClosedEvicted, ClosedSurplus, ClosedSession, ClosedShutdown}
}
