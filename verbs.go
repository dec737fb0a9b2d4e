package mcpool

import (
	"context"
	"errors"
	"fmt"

	"github.com/mcpool-dev/mcpool/internal/slots"
)

// The verbs of PgBouncer's console, on one pool.

// ErrResumed: a Pause was ended by Resume before no call was in flight.
var ErrResumed = errors.New("resumed meanwhile")

// Pause lends nothing more and waits until no call is in flight, or ctx ends;
// the pool stays paused either way. Callers wait meanwhile, at most
// ConnectionTimeout, and none of them is lost when [Pool.Resume] comes in time.
// Where Resume comes first the error is [ErrResumed]. Connections stay open. Leases
// count as calls in flight until they are released.
func (p *Pool) Pause(ctx context.Context) error {
	switch err := p.slots.Pause(ctx); {
	case errors.Is(err, slots.ErrResumed):
		return fmt.Errorf("pausing pool %s: %w", p.name, ErrResumed)
	case err != nil:
		return fmt.Errorf("pausing pool %s: calls are still in flight: %w", p.name, err)
	}
	return nil
}

// Resume ends a Pause: those who wait are served in their order.
func (p *Pool) Resume() { p.slots.Resume() }

// Reset has all connections replaced as they come free: those that are idle
// now are closed, those in use when their last call ends, and none of them,
// nor one whose opening has begun, is lent again. PgBouncer calls it
// RECONNECT.
func (p *Pool) Reset() { p.slots.Reset() }

// Kill closes the connection with that ID at once. The calls in flight on it
// fail with [ErrKilled] and are not sent again; all others, and those that had
// not been sent yet, go to other connections. It returns how many slots of it
// were lent, and reports false where no such connection is open.
func (p *Pool) Kill(id string) (lent int, found bool) {
	return p.slots.Kill(func(l *link) bool {
		if l.name != id {
			return false
		}
		l.killed.Store(true)
		return true
	})
}

// Drain is Reset, and waits until every connection that was open is closed, or
// ctx ends. Meanwhile callers get new connections. PgBouncer calls it
// RECONNECT and WAIT_CLOSE.
func (p *Pool) Drain(ctx context.Context) error {
	if err := p.slots.Drain(ctx); err != nil {
		return fmt.Errorf("draining pool %s: %w", p.name, err)
	}
	return nil
}
