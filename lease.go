package mcpool

import (
	"context"
	"errors"

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
	pool   *Pool
	slot   slots.Lease[group, *link]
	caller rpc.Caller
	own    *credential // of the caller's own token source, nil if it has none
}

// Acquire lends a connection of the caller's group. It blocks until there is
// one, at most ConnectionTimeout; ctx ends the wait. The lease must be
// released. The error is an [*Error].
func (p *Pool) Acquire(ctx context.Context, who rpc.Caller, what Take) (Lease, error) {
	t := p.terms.Load()
	key, whole := t.key(who)
	own, err := p.prepare(ctx, t, key.ID, who)
	if err != nil {
		return Lease{}, &Error{Server: p.name, Err: err}
	}
	lease, err := p.slots.Acquire(ctx, key, slots.Ask{
		Who: t.principal(who), Whole: whole || what == Whole, Timeout: t.config.ConnectionTimeout,
	})
	if err != nil {
		return Lease{}, &Error{Server: p.name, Err: acquireError(err)}
	}
	p.wait.add(lease.Waited())
	return Lease{pool: p, slot: lease, caller: who, own: own}, nil
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
	if !l.slot.Held() {
		failed.Err = ErrReleased
		return rpc.Answer{}, failed
	}
	call.Caller = l.caller
	answer, err := l.pool.send(ctx, l.slot.Conn(), call, l.own)
	failure := new(transport.Failure)
	switch {
	case err == nil || isAnswer(err):
		return answer, err
	case !errors.As(err, &failure):
		failed.Err = err
		return rpc.Answer{}, failed
	}
	if failure.Fate != transport.NotSent {
		failed.Attempts = 1
	}
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
func (l Lease) Conn() *Conn {
	v := l.slot.View()
	return &Conn{link: v.Conn, slots: v.Slots, used: v.Used, retired: v.Retired}
}

// Release gives the lease back. Releasing it again has no effect.
func (l Lease) Release() { l.slot.Release() }
