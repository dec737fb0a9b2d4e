package mcpool

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/internal/slots"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Take says what [Pool.Acquire] takes.
type Take int

const (
	// Slot is room for one call at a time on a connection shared with others.
	Slot Take = iota
	// Whole is a connection that nobody else calls on meanwhile.
	Whole
)

// ErrReleased: the lease was given back; it is the caller's mistake.
var ErrReleased = errors.New("lease was released")

// A Lease is the right to use a slot or a whole connection, so that several
// calls go to the same connection and find the state it holds. It is a value;
// copies are the same lease.
type Lease struct {
	pool *Pool
	slot slots.Lease[group, *link]
	by   *holder // nil for nobody in particular
}

// holder is on whose behalf a lease was acquired.
type holder struct {
	rpc.Caller
	own *credential // of the caller's own token source, nil if it has none
}

// Acquire lends a connection of the caller's group. It blocks until there is
// one, at most ConnectionTimeout; ctx ends the wait. The lease must be
// released. The error is an [*Error].
func (p *Pool) Acquire(ctx context.Context, who rpc.Caller, what Take) (Lease, error) {
	t := p.terms.Load()
	own, err := p.prepare(ctx, t, &who)
	if err != nil {
		return Lease{}, &Error{Server: p.name, Err: err}
	}
	lease, err := p.acquire(ctx, t, &who, what, t.config.ConnectionTimeout)
	if err != nil {
		return Lease{}, &Error{Server: p.name, Err: err}
	}
	if t.config.LeakAfter > 0 && watched(lease) {
		p.watchLease(lease, t.config.LeakAfter)
	}
	if isAnyone(&who) {
		return Lease{pool: p, slot: lease}, nil
	}
	return Lease{p, lease, &holder{who, own}}, nil
}

// Do makes a call on the leased connection, for the caller that acquired it.
// Nothing is repeated: when the connection fails the state it held is gone,
// and the error is [ErrSessionLost]. A lease of a slot makes one call at a
// time; on a whole connection there may be several.
func (l Lease) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	p := l.pool
	p.calls.Add(1)
	answer, err := l.do(ctx, call)
	if err != nil {
		p.errors.Add(1)
	}
	return answer, err
}

func (l Lease) do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	failed := &Error{Server: l.pool.name}
	p := l.pool
	if !l.slot.Held() || p.unsettled.released(l.slot) {
		failed.Err = ErrReleased
		return rpc.Answer{}, failed
	}
	var by holder
	if l.by != nil {
		by = *l.by
	}
	call.Caller = by.Caller
	link := l.slot.Conn()
	if _, err := link.account.keepQuiet(ctx, 0); err != nil { // its holder knows better when
		failed.Err, failed.RetryAfter = err, retryAfter(err)
		return rpc.Answer{}, failed
	}
	p.carried.Add(1)
	answer, err := p.send(ctx, p.terms.Load(), link, call, by.own, time.Now())
	if err == nil || isAnswer(err) {
		return answer, err
	}
	failure := new(transport.Failure)
	if !errors.As(err, &failure) {
		failed.Err = err
		return rpc.Answer{}, failed
	}
	if failure.Fate != transport.NotSent {
		failed.Attempts = 1
	}
	if failure.Settled != nil {
		p.unsettled.add(l.slot, failure.Settled)
	}
	failed.RetryAfter = retryAfter(failure.Err)
	failed.MayHaveRun = failure.Fate == transport.MayHaveRun
	switch {
	case ctx.Err() != nil:
		failed.Err = context.Cause(ctx)
	case failure.Dead:
		l.slot.Lost()
		failed.Err = because(ErrSessionLost, failure.Err)
	case failure.Fate == transport.Refused:
		failed.Err = because(ErrRefused, failure.Err)
	default:
		failed.Err = because(ErrConnectionLost, failure.Err)
	}
	return rpc.Answer{}, failed
}

// Conn returns the leased connection.
func (l Lease) Conn() *Conn { return newConn(l.slot.View()) }

// Release gives the lease back; a call that was cancelled on it first has to
// be heard of by the server, or 10 s have to pass, before others get its slot.
// Releasing it again, or the zero Lease, has no effect.
func (l Lease) Release() {
	if l.pool == nil {
		return
	}
	if l.pool.unsettled.n.Load() == 0 {
		l.pool.release(l.slot)
		return
	}
	heard, first := l.pool.unsettled.release(l.slot)
	if first {
		l.pool.settle(l.slot, heard...)
	}
}

// unsettled are leases whose calls were cancelled, with what says when the
// server has heard of that.
type unsettled struct {
	n      atomic.Int64 // of leases
	mu     sync.Mutex   // guards leases
	leases map[slots.Lease[group, *link]]*unheard
}

type unheard struct {
	calls    []<-chan struct{}
	released bool
}

func (u *unsettled) add(slot slots.Lease[group, *link], heard <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.leases[slot]
	if l == nil {
		if u.leases == nil {
			u.leases = map[slots.Lease[group, *link]]*unheard{}
		}
		l = new(unheard)
		u.leases[slot] = l
		u.n.Add(1)
	}
	l.calls = append(l.calls, heard)
	if !slot.Held() { // it was released before this call ended
		delete(u.leases, slot)
		u.n.Add(-1)
	}
}

// released reports whether the lease was given back and only its slot is kept.
func (u *unsettled) released(slot slots.Lease[group, *link]) bool {
	if u.n.Load() == 0 {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.leases[slot]
	return l != nil && l.released
}

// release returns what is to be heard before the slot is free, and whether
// the lease had not been released before.
func (u *unsettled) release(slot slots.Lease[group, *link]) (heard []<-chan struct{}, first bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.leases[slot]
	if l == nil {
		return nil, true
	}
	first = !l.released
	l.released = true
	return l.calls, first
}

// forget drops a lease whose slot is free.
func (u *unsettled) forget(slot slots.Lease[group, *link]) {
	if u.n.Load() == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.leases[slot] != nil {
		delete(u.leases, slot)
		u.n.Add(-1)
	}
}
