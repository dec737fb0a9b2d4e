package mcpool

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/mcpool-dev/mcpool/internal/slots"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Do makes a call on a connection of the caller's group. It waits for a slot
// for at most ConnectionTimeout, and then for the answer as long as ctx
// allows; the end of ctx cancels the call at the server and leaves the
// connection as it is.
//
// A call that certainly did not run is sent again on another connection, and
// one that may have run if running twice does no harm, at most RetryAttempts
// times in all; of the latter no more than a fifth of all calls are sent again.
// Neither waiting for a server to come back is an attempt, nor
// being turned away by a session that had ended before the call came.
//
// The error is an [*rpc.Error] if the server answered with one, else an
// [*Error].
func (p *Pool) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	p.calls.Add(1)
	p.budget.earn()
	t := p.terms.Load()
	a := attempt{pool: p, terms: t, call: call, began: time.Now(), budget: t.config.ConnectionTimeout}
	a.key, a.whole = t.key(call.Caller)
	a.who = t.principal(call.Caller)
	answer, err := a.run(ctx)
	if err != nil {
		p.errors.Add(1)
		if !isAnswer(err) {
			err = &Error{Server: p.name, Attempts: a.sent, MayHaveRun: a.mayHaveRun, Err: err}
		}
	}
	return answer, err
}

// attempt is one call on its way through a pool.
type attempt struct {
	pool  *Pool
	terms *terms
	call  rpc.Call
	key   slots.Key[group]
	who   string // whose turn it is among those who wait
	whole bool

	began      time.Time
	budget     time.Duration // what is left of ConnectionTimeout
	sent       int
	unsent     int // failures before anything was sent
	mayHaveRun bool
}

func (a *attempt) run(ctx context.Context) (rpc.Answer, error) {
	for {
		start := time.Now()
		lease, err := a.pool.slots.Acquire(ctx, a.key, slots.Ask{Who: a.who, Whole: a.whole, Timeout: a.budget})
		a.pool.wait.add(time.Since(start))
		if err != nil {
			return rpc.Answer{}, acquireError(err)
		}
		a.budget -= lease.Waited()
		answer, err := a.pool.send(ctx, lease.Conn(), a.call)
		failure := new(transport.Failure)
		if err == nil || !errors.As(err, &failure) {
			lease.Release()
			return answer, err
		}
		switch {
		case failure.Fate == transport.Refused && failure.Dead && lease.Conn().opened.Before(a.began):
			// A server that restarts loses all sessions, and the call may meet
			// one after the other. Each is retired, so there is an end to it.
		case failure.Fate == transport.NotSent:
			a.budget -= time.Since(start) - lease.Waited()
			// A connection that twice took nothing is no better than a dead one.
			if a.unsent++; a.unsent > 1 && ctx.Err() == nil {
				failure.Dead = true
			}
		default:
			a.sent++
		}
		// A caller that has gone cannot be told that its state is lost: the
		// next one meets the dead connection, and is.
		if failure.Dead && (ctx.Err() == nil || !a.key.Owned) {
			lease.Lost()
		}
		a.pool.settle(lease, failure.Settled)
		a.mayHaveRun = a.mayHaveRun || failure.Fate == transport.MayHaveRun
		if err := a.verdict(ctx, failure); err != nil {
			return rpc.Answer{}, err
		}
		a.pool.retries.Add(1)
		if failure.Fate == transport.MayHaveRun && !pause(ctx, retryPause+rand.N(retryPause)) {
			return rpc.Answer{}, context.Cause(ctx)
		}
	}
}

// retryPause, or up to twice that, lies between two times that a call may run:
// what has broken one connection, such as a server going down, is often about
// to break the next.
const retryPause = 50 * time.Millisecond

// pause waits for d, or reports false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// cancelGrace is how long the slot of a cancelled call is kept for a server that
// does not say that it has heard. Without it, callers in a hurry would pile
// call upon call onto a server that is too slow for them.
const cancelGrace = 10 * time.Second

// settle gives a lease back: at once, or when the server has heard that the
// call is over.
func (p *Pool) settle(lease slots.Lease[group, *link], settled <-chan struct{}) {
	p.mu.Lock()
	wait := settled != nil && !p.closed
	if wait {
		p.work.Add(1)
		p.settling.Add(1)
	}
	p.mu.Unlock()
	if !wait {
		lease.Release()
		return
	}
	go func() {
		defer p.work.Done()
		timer := time.NewTimer(cancelGrace)
		defer timer.Stop()
		select {
		case <-settled:
		case <-timer.C:
		case <-p.life.Done():
		}
		p.settling.Add(-1)
		lease.Release()
	}()
}

// verdict returns the error to give up with, or nil if the call is to be sent
// again.
func (a *attempt) verdict(ctx context.Context, f *transport.Failure) error {
	again := a.sent < a.terms.config.RetryAttempts
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case a.key.Owned && f.Dead:
		return because(ErrSessionLost, f.Err)
	case f.Fate == transport.NotSent && a.budget > 0:
		return nil
	case f.Fate == transport.NotSent:
		return because(ErrAcquireTimeout, f.Err)
	case f.Fate == transport.Refused && f.Dead && again:
		return nil // the session is gone and the call with it, unread
	case f.Fate == transport.Refused && !f.Dead:
		return because(ErrRefused, f.Err)
	case f.Fate == transport.MayHaveRun && again && a.pool.hints.harmless(a.call):
		if a.pool.budget.spend() {
			return nil
		}
		a.pool.overBudget.Add(1)
	}
	return because(ErrConnectionLost, f.Err)
}

// send sends a call on a connection and learns from the answer.
func (p *Pool) send(ctx context.Context, l *link, call rpc.Call) (rpc.Answer, error) {
	l.calls.Add(1)
	l.inFlight.Add(1)
	start := time.Now()
	answer, err := l.conn.Call(ctx, call)
	p.call.add(time.Since(start))
	l.inFlight.Add(-1)
	if err != nil {
		l.errors.Add(1)
		return answer, err
	}
	if call.Method == "tools/list" {
		p.hints.learn(answer.Bytes())
	}
	return answer, nil
}

// acquireError puts an error of package slots into the words of this one.
func acquireError(err error) error {
	var timeout *slots.TimeoutError
	var down *slots.DownError
	switch {
	case errors.Is(err, slots.ErrClosed):
		return ErrPoolClosed
	case errors.Is(err, slots.ErrLost):
		return ErrSessionLost
	case errors.As(err, &timeout):
		return because(ErrAcquireTimeout, timeout)
	case errors.Is(err, slots.ErrQueueFull):
		return ErrQueueFull
	case errors.As(err, &down):
		return because(ErrUnavailable, down)
	}
	return err // the caller's own ctx
}
