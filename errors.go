package mcpool

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// What can go wrong between a caller and a server, one sentinel per branch
// that a caller takes. They are found with errors.Is in the [*Error] that
// calls return. An error of the protocol, which is an answer, is an
// [*rpc.Error] instead.
var (
	// ErrPoolClosed: the pool was closed before the call was sent.
	ErrPoolClosed = errors.New("pool is closed")
	// ErrAcquireTimeout: no connection had room within ConnectionTimeout. The
	// error carries the pool's state and the last failure to connect.
	ErrAcquireTimeout = errors.New("no connection in time")
	// ErrQueueFull: as many callers wait as MaxWaiting, MaxWaitingPerPrincipal
	// or Limits allow, or made way for those of other principals.
	ErrQueueFull = errors.New("too many callers are waiting")
	// ErrUnavailable: the server cannot be connected to: for a reason that
	// waiting does not cure, such as a command that does not exist, or since
	// 10 s or more. The error carries the last failure to connect and when the
	// next try may be made.
	ErrUnavailable = errors.New("server unavailable")
	// ErrConnectionLost: the connection failed under the call.
	ErrConnectionLost = errors.New("connection lost")
	// ErrSessionLost: the connection that held this session's state is gone,
	// and the state with it. It is returned once; the next call of the
	// session starts from nothing.
	ErrSessionLost = errors.New("session lost")
	// ErrKilled: the connection was ended under the call by [Pool.Kill]. It comes
	// with ErrConnectionLost or ErrSessionLost, and the call is not sent again.
	ErrKilled = errors.New("it was killed by an operator")
	// ErrCredentials: there is no token for the call, and nothing was sent: its
	// source has failed, and the error carries why, or has not answered for
	// 30 s; or a caller brings its own where all callers share.
	ErrCredentials = errors.New("no credentials for the call")
	// ErrRefused: the server turned the call away without running it, as with
	// HTTP 401, 403 or 429. A token that is refused with 401 was renewed before,
	// or its source has no other; so was one that has too little scope, if its
	// source is an [rpc.ChallengeSource].
	ErrRefused = errors.New("server refused the call")
)

// An Error is a call that got no answer.
type Error struct {
	// Server is the name of the server.
	Server string
	// Attempts is how many times the call was sent.
	Attempts int
	// MayHaveRun is false where the call certainly did not run on the server.
	MayHaveRun bool
	// RetryAfter is how long the server wants to be left alone (RFC 9110,
	// 10.2.3), at most an hour; 0 if it does not say. Until then calls for the
	// same principal wait, or fail at once if that is longer than they may.
	RetryAfter time.Duration
	// Err is what happened: one of the sentinels, or the error of the
	// caller's context, with its cause.
	Err error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", e.Server, e.Err)
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " (sent %d times)", e.Attempts)
	}
	if e.MayHaveRun {
		b.WriteString("; the call may have run")
	}
	return b.String()
}

// Unwrap returns what happened.
func (e *Error) Unwrap() error { return e.Err }

// SafeToRetry reports whether the call that failed with err certainly did not
// run, so that making it again cannot run it twice. An answer of the server,
// be it an [*rpc.Error], is not safe: it may have done half its work.
func SafeToRetry(err error) bool {
	var e *Error
	return errors.As(err, &e) && !e.MayHaveRun
}

// failure is a sentinel with the cause behind it; both are found by errors.Is.
type failure struct {
	sentinel error
	cause    error
}

func (f *failure) Error() string   { return fmt.Sprintf("%v: %v", f.sentinel, f.cause) }
func (f *failure) Unwrap() []error { return []error{f.sentinel, f.cause} }

func because(sentinel, cause error) error {
	if cause == nil {
		return sentinel
	}
	return &failure{sentinel, cause}
}

// isAnswer reports whether err is an error that the server answered with.
func isAnswer(err error) bool {
	var e *rpc.Error
	return errors.As(err, &e)
}
