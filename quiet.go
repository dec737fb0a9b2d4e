package mcpool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/internal/slots"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// quiet is until when a server wants to be left alone, by Retry-After (RFC
// 9110, 10.2.3): by one account, since limits are mostly set for each.
type quiet struct{ until atomic.Int64 } // nanoseconds since 1970; 0 for not

// left is how much of it is left.
func (q *quiet) left() time.Duration {
	until := q.until.Load()
	if until == 0 {
		return 0
	}
	return max(time.Until(time.Unix(0, until)), 0)
}

// extend makes it last for d at least.
func (q *quiet) extend(d time.Duration) {
	until := time.Now().Add(d).UnixNano()
	for old := q.until.Load(); old < until && !q.until.CompareAndSwap(old, until); old = q.until.Load() {
	}
}

// A quietError is a request that was not made since the server wants to be
// left alone for longer than there is time.
type quietError struct{ left time.Duration }

func (e *quietError) Error() string {
	return fmt.Sprintf("the server wants to be left alone for %v", e.left.Round(time.Second))
}

// retryAfter is how long the server wants to be left alone, as an error has it;
// 0 if it does not say.
func retryAfter(err error) time.Duration {
	if asked := (*quietError)(nil); errors.As(err, &asked) {
		return asked.left
	}
	if status := (*transport.StatusError)(nil); errors.As(err, &status) {
		return status.RetryAfter
	}
	return 0
}

// later has an opening that failed not be tried again for as long as its error
// says. That an account is limited is nothing to others.
func later(err error) error {
	after := retryAfter(err)
	if after == 0 {
		return err
	}
	status := (*transport.StatusError)(nil)
	alone := !errors.As(err, &status) || status.Status == http.StatusTooManyRequests
	return &slots.LaterError{Err: err, After: after, Alone: alone}
}

// heed has no request of the account made for as long as an error says. It is
// safe on a nil account, as all that follows.
func (a *account) heed(err error) {
	if d := retryAfter(err); d > 0 && a != nil {
		a.quiet.extend(d)
		a.all.extend(d)
	}
}

// keepQuiet waits until the server may be asked again on the account, if that
// is within limit and the time of ctx. It returns how long that took.
func (a *account) keepQuiet(ctx context.Context, limit time.Duration) (time.Duration, error) {
	if a == nil {
		return 0, nil
	}
	left := a.quiet.left()
	if left == 0 {
		return 0, nil
	}
	deadline, ok := ctx.Deadline()
	if left > limit || ok && left > time.Until(deadline) {
		return 0, because(ErrRefused, &quietError{left})
	}
	if !pause(ctx, left) {
		return 0, context.Cause(ctx)
	}
	return left, nil
}

// keepQuiet is that of the account of a caller.
func (t *terms) keepQuiet(ctx context.Context, who *rpc.Caller, limit time.Duration) (time.Duration, error) {
	if t.accounts == nil || t.accounts.quiet.left() == 0 { // nearly always
		return 0, nil
	}
	return t.account(t.group(who)).keepQuiet(ctx, limit)
}
