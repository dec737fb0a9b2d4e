package mcpool

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
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
// times in all; of the latter no more than a fifth of all calls are sent again,
// and none while the server breaks off other requests, too.
// Neither waiting for a server to come back is an attempt, nor
// being turned away by a session that had ended before the call came, nor
// being made again with a renewed token.
//
// A list or a resource that a modern server said is still fresh is answered
// without a call, for the same principal, or for all if the server said that
// it is public.
//
// Two methods of MCP 2026-07-28 work whatever the server speaks.
// server/discover says how the server has introduced itself, without asking it
// once more. Only if it has not, to anybody on this caller's account, is a
// connection opened, or a modern server asked; a Handler is asked each time.
// Without accounts, or if a modern server said that it is public, it is the same
// for all. subscriptions/listen is [Pool.Watch] for the filter in
// params.notifications, and tells Events. Neither counts as a call, unless the
// server is asked. What legacy
// clients send for a whole session (initialize, ping, logging/setLevel,
// resources/subscribe) is not for callers to send.
//
// The error is an [*rpc.Error] if the server answered with one, else an
// [*Error].
func (p *Pool) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	if call.Method == methodListen {
		return p.listen(ctx, call)
	}
	t := p.terms.Load()
	if call.Method == methodDiscover && t.server.Handler == nil && p.life.Err() == nil {
		peer, err := p.meet(ctx, t, call.Caller)
		if err != nil {
			return rpc.Answer{}, err
		}
		if peer.Hello != nil {
			return rpc.Result(introduction(peer, t.sharing())), nil
		}
	}
	p.calls.Add(1)
	p.budget.earn()
	key, cacheable := t.cacheable(&call)
	cacheable = cacheable && p.life.Err() == nil
	var seen uint64
	if cacheable {
		var kept rpc.Answer
		var hit bool
		if kept, hit, seen = t.known.cache.get(key); hit {
			p.cacheHits.Add(1)
			return kept, nil
		}
	}
	a := attempt{pool: p, terms: t, call: call, began: time.Now(), budget: t.config.ConnectionTimeout}
	if call.Events != nil {
		a.told = &told{Events: call.Events}
		a.call.Events = a.told
	}
	answer, err := a.run(ctx)
	if err != nil {
		p.errors.Add(1)
		if !isAnswer(err) {
			err = &Error{Server: p.name, Attempts: a.sent, MayHaveRun: a.mayHaveRun, RetryAfter: retryAfter(err), Err: err}
		}
	} else if cacheable {
		t.known.cache.put(key, answer, seen)
	}
	return answer, err
}

// attempt is one call on its way through a pool.
type attempt struct {
	pool  *Pool
	terms *terms
	call  rpc.Call
	told  *told // the call's Events, nil if it has none

	began      time.Time
	budget     time.Duration // what is left of ConnectionTimeout
	sent       int
	unsent     int // failures before anything was sent
	mayHaveRun bool
}

func (a *attempt) run(ctx context.Context) (rpc.Answer, error) {
	own, err := a.pool.prepare(ctx, a.terms, &a.call.Caller)
	if err != nil {
		return rpc.Answer{}, err
	}
	for first := true; ; first = false {
		waited, err := a.terms.keepQuiet(ctx, &a.call.Caller, a.budget)
		if err != nil {
			return rpc.Answer{}, err
		}
		a.budget -= waited
		lease, err := a.pool.acquire(ctx, a.terms, &a.call.Caller, Slot, a.budget)
		if err != nil {
			return rpc.Answer{}, err
		}
		if first {
			a.pool.carried.Add(1)
		}
		a.budget -= lease.Waited()
		start, err := a.check(ctx, lease.Conn())
		var answer rpc.Answer
		if err == nil {
			answer, err = a.pool.send(ctx, a.terms, lease.Conn(), a.call, own, start)
		}
		if err == nil {
			a.pool.release(lease)
			return answer, nil
		}
		failure := new(transport.Failure)
		if !errors.As(err, &failure) {
			a.pool.release(lease)
			return answer, err
		}
		switch {
		case failure.Fate == transport.Refused && failure.Dead && lease.Conn().opened.Before(a.began):
			// A server that restarts loses all sessions, and the call may meet
			// one after the other. Each is retired, so there is an end to it.
		case failure.Fate == transport.NotSent:
			a.budget -= time.Since(start)
			// A connection that twice took nothing is no better than a dead one.
			if a.unsent++; a.unsent > 1 && ctx.Err() == nil {
				failure.Dead = true
			}
		default:
			a.sent++
		}
		// A caller that has gone cannot be told that its state is lost: the
		// next one meets the dead connection, and is.
		if failure.Dead && (ctx.Err() == nil || !a.owned()) {
			lease.Lost()
		}
		a.pool.settle(lease, failure.Settled)
		a.mayHaveRun = a.mayHaveRun || failure.Fate == transport.MayHaveRun
		why, err := a.verdict(ctx, failure)
		if err != nil {
			return rpc.Answer{}, err
		}
		a.pool.retries.add(why)
		if a.mayHaveRun {
			wait := retryPause + rand.N(retryPause) // #nosec G404 -- to spread what would come together
			if failure.Fate != transport.MayHaveRun {
				a.budget -= wait
			}
			if !pause(ctx, wait) {
				return rpc.Answer{}, context.Cause(ctx)
			}
		}
	}
}

// retryPause, or up to twice that, lies before each try at a call that may have
// run: what has broken one connection, such as a server going down, is often
// about to break the next.
const retryPause = 50 * time.Millisecond

// retryCheck bounds the check before that. A server that is silent for longer
// does not go down, it is busy.
const retryCheck = time.Second

// check returns when a call may be sent on a connection. One that may have run is
// not sent before the server has answered something else: one that goes down takes
// requests for a while that it does not answer, and a call has few attempts.
func (a *attempt) check(ctx context.Context, l *link) (time.Time, error) {
	began := time.Now()
	if !a.mayHaveRun {
		return began, nil
	}
	ctx, cancel := context.WithTimeout(ctx, min(retryCheck, a.budget))
	defer cancel()
	failure := (*transport.Failure)(nil)
	if err := l.conn.Check(ctx); errors.As(err, &failure) && ctx.Err() == nil {
		failure.Fate = transport.NotSent
		return began, failure
	}
	now := time.Now()
	a.budget -= now.Sub(began)
	return now, nil
}

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
// calls are over.
func (p *Pool) settle(lease slots.Lease[group, *link], settled ...<-chan struct{}) {
	settled = slices.DeleteFunc(settled, func(c <-chan struct{}) bool { return c == nil })
	if len(settled) == 0 || !p.enter() {
		p.giveBack(lease)
		return
	}
	p.settling.Add(1)
	go func() {
		defer p.work.Done()
		timer := time.NewTimer(cancelGrace)
		defer timer.Stop()
		for _, heard := range settled {
			select {
			case <-heard:
				continue
			case <-timer.C:
			case <-p.life.Done():
			}
			break
		}
		p.settling.Add(-1)
		p.giveBack(lease)
	}()
}

func (p *Pool) giveBack(lease slots.Lease[group, *link]) {
	p.release(lease)
	p.unsettled.forget(lease)
}

// release gives a lease back, and notes how long it was held.
func (p *Pool) release(lease slots.Lease[group, *link]) {
	held := lease.Lasted()
	if lease.Release() {
		p.lease.add(held)
	}
}

// owned reports whether the connection holds the state of the call's session.
func (a *attempt) owned() bool { return a.terms.key(&a.call.Caller).Owned }

// verdict returns why the call is to be sent again, or the error to give up
// with.
func (a *attempt) verdict(ctx context.Context, f *transport.Failure) (RetryReason, error) {
	again := a.sent < a.terms.config.RetryAttempts && !a.told.any()
	wait := retryAfter(f.Err)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case a.owned() && f.Dead:
		return "", because(ErrSessionLost, f.Err)
	case f.Fate != transport.NotSent && f.Err == ErrKilled:
		return "", because(ErrConnectionLost, f.Err)
	case f.Fate == transport.NotSent && a.budget > 0:
		return RetriedNotSent, nil
	case f.Fate == transport.NotSent:
		return "", because(ErrAcquireTimeout, f.Err)
	case f.Fate == transport.Refused && f.Dead && again:
		return RetriedSessionLost, nil // the session is gone and the call with it, unread
	case f.Fate == transport.Refused && !f.Dead && again && 0 < wait && wait <= a.budget:
		return RetriedLater, nil // see keepQuiet
	case f.Fate == transport.Refused && !f.Dead:
		return "", because(ErrRefused, f.Err)
	case f.Fate == transport.MayHaveRun && again && a.terms.known.hints.harmless(a.call) && a.pool.budget.spend():
		return RetriedHarmless, nil
	}
	return "", because(ErrConnectionLost, f.Err)
}

// told notes that something of a call was handed on to its caller: progress
// that must not run backwards, a question that must not be asked twice. Such a
// call is not sent again.
type told struct {
	rpc.Events
	said atomic.Bool
}

func (t *told) Notify(method string, params json.RawMessage) {
	t.said.Store(true)
	t.Events.Notify(method, params)
}

func (t *told) Ask(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	t.said.Store(true)
	return t.Events.Ask(ctx, method, params)
}

func (t *told) any() bool { return t != nil && t.said.Load() }

// retries counts what is sent again, by reason.
type retries [4]atomic.Uint64

func (r *retries) add(why RetryReason) { r[slices.Index(RetryReasons(), why)].Add(1) }

func (r *retries) counts() map[RetryReason]uint64 {
	counts := map[RetryReason]uint64{}
	for i, why := range RetryReasons() {
		counts[why] = r[i].Load()
	}
	return counts
}

// acquire takes a slot for a caller, or a whole connection.
func (p *Pool) acquire(ctx context.Context, t *terms, who *rpc.Caller, what Take, timeout time.Duration) (slots.Lease[group, *link], error) {
	if isAnyone(who) {
		return p.acquireFor(ctx, t, t.anyonesKey(), who, what, timeout)
	}
	key := t.key(who) // stays off the heap
	return p.acquireFor(ctx, t, &key, who, what, timeout)
}

func (p *Pool) acquireFor(ctx context.Context, t *terms, key *callersKey, who *rpc.Caller, what Take, timeout time.Duration) (slots.Lease[group, *link], error) {
	principal := t.principal(who)
	ask := slots.Ask{Who: principal, Weight: t.weight(principal), Whole: key.whole || what == Whole, Timeout: timeout}
	hooks := &t.config.Hooks
	if hooks.AcquireStart != nil {
		ctx = hooks.AcquireStart(ctx, AcquireStart{Server: p.name, Principal: principal, Whole: ask.Whole})
	}
	lease, err := p.slots.Acquire(ctx, &key.Key, ask)
	if waited := lease.Waited(); waited > 0 { // that others waited for nothing is counted elsewhere
		p.wait.add(waited)
	}
	if err != nil {
		return lease, p.notAcquired(ctx, hooks, err)
	}
	switch {
	case what == Whole:
		p.pinnedLease.Add(1)
	case key.whole:
		p.pinnedCall.Add(1)
	}
	if hooks.AcquireEnd != nil {
		hooks.AcquireEnd(ctx, AcquireEnd{Conn: lease.Conn().name, Waited: lease.Waited()})
	}
	return lease, nil
}

// notAcquired counts a wait that came to nothing and puts its error, which is
// one of package slots, into the words of this one. One of the caller's own
// ctx stays as it is.
func (p *Pool) notAcquired(ctx context.Context, hooks *Hooks, err error) error {
	var waited time.Duration
	if failed := (*slots.WaitError)(nil); errors.As(err, &failed) {
		waited = failed.After
	}
	p.wait.add(waited)
	switch {
	case errors.Is(err, slots.ErrClosed):
		err = ErrPoolClosed
	case errors.Is(err, slots.ErrLost):
		err = ErrSessionLost
	case errors.Is(err, slots.ErrTimeout):
		err = because(ErrAcquireTimeout, err)
	case errors.Is(err, slots.ErrQueueFull):
		err = because(ErrQueueFull, err)
	case errors.Is(err, slots.ErrDown):
		err = because(ErrUnavailable, err)
	}
	if hooks.AcquireEnd != nil {
		hooks.AcquireEnd(ctx, AcquireEnd{Waited: waited, Err: err})
	}
	return err
}

// send sends a call on a connection and learns from the answer. own is the
// credential of the caller's own token source, nil if it has none.
func (p *Pool) send(ctx context.Context, t *terms, l *link, call rpc.Call, own *credential, began time.Time) (rpc.Answer, error) {
	l.called(began, l.calls.Add(1))
	l.inFlight.Add(1)
	hooks := &t.config.Hooks
	if hooks.CallStart != nil {
		shown := call // so that call itself stays off the heap
		ctx = hooks.CallStart(ctx, CallStart{Server: p.name, Conn: l.name, Principal: t.principal(&call.Caller), Method: call.Method,
			Protocol: l.peer.Protocol, Call: &shown})
		call.Trace = shown.Trace
	}
	authorize := l.authorizer(own)
	answer, err := l.conn.Call(ctx, call, authorize)
	if err != nil && l.outdated(call, err) && l.relist(ctx, call, authorize) {
		answer, err = l.conn.Call(ctx, call, authorize)
	}
	took := time.Since(began)
	p.call.add(took)
	if hooks.CallEnd != nil {
		hooks.CallEnd(ctx, CallEnd{Took: took, Result: answer.Bytes(), Err: err})
	}
	l.inFlight.Add(-1)
	if err != nil {
		l.errors.Add(1)
		if failed := (*transport.Failure)(nil); errors.As(err, &failed) {
			if failed.Dead && l.killed.Load() {
				failed.Err = ErrKilled // rather than how the call has met that
			}
			l.known.failed(l.peer.Era, failed)
			l.account.heed(err)
			if ctx.Err() == nil && failed.Err != ErrKilled {
				p.trouble.note(failed.Err)
			}
		}
		l.story.failed(err)
		return answer, withoutToken(err)
	}
	if call.Method == "tools/list" {
		answer = p.listed(l, answer)
	}
	return answer, nil
}
