// Package transport is one connection to one MCP server: raw bytes over
// streamable HTTP or the older HTTP+SSE, over the standard input and output of
// a child process, or to a handler in process.
//
// An [Endpoint] says how a server is reached and opens connections to it. A
// [Conn] makes calls, any number at once; each has its own fate, told by
// [Failure], and the failure of one never touches another. What the era of a
// server wants around a call (sessions, _meta keys, headers, ids) is put on
// and taken off here, so a call looks the same to whoever makes it.
//
// A server has an era. Legacy servers, MCP up to 2025-11-25, open with
// initialize and keep a session. Modern servers, MCP 2026-07-28, are
// stateless: the opening only asks who they are, and not even that where it is
// [Known]. An opening costs no round trip, or one (modern), or two (legacy),
// and one more where the era is [Unknown]. Over HTTP+SSE it costs three, and
// one or two more until that is known.
package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// An Era is one of the two ways to speak MCP.
type Era int32

const (
	Unknown Era = iota // not asked yet; or in process, where there is none
	Legacy             // up to 2025-11-25: initialize and sessions
	Modern             // 2026-07-28: stateless
)

func (e Era) String() string {
	switch e {
	case Legacy:
		return "legacy"
	case Modern:
		return "modern"
	}
	return "unknown"
}

// An Endpoint is how one server is reached. It is safe for concurrent use;
// make one per server with [HTTP], [Stdio] or [InProcess].
type Endpoint struct {
	opener opener
	// ends are openings that failed half way: what they left is ended without
	// keeping the caller of Open waiting.
	ends sync.WaitGroup
}

// An opener opens connections of one kind.
type opener interface {
	// open returns the connection beside the error where the opening failed
	// half way and the connection has to be closed.
	open(ctx context.Context, known Known, caps rpc.Capabilities, authorize Authorize) (Conn, error)
	close()
}

// Known is what was found out about a server before. The zero Known is
// nothing.
type Known struct {
	// Peer is that of an earlier connection: its era and its SSE are relied
	// on, and so is all of it where a server is [Modern] and reached over HTTP: then nothing
	// is asked.
	Peer Peer
	// Doubted says that the server may be gone by now, or be another one: it
	// is asked in any case.
	Doubted bool
}

// Open opens a connection. If the era of the server is not known it is asked
// for it first, unless the endpoint is set to one version. caps is what a
// legacy server is told that the caller can answer; a modern one is told with
// each call. authorize is for the requests that are made for no call, as long
// as the connection lives: those of Open, Check and Close. Only servers over
// HTTP get it.
//
// ctx bounds the opening alone, and Open returns promptly when it ends. The
// error is an [*OpenError].
func (e *Endpoint) Open(ctx context.Context, known Known, caps rpc.Capabilities, authorize Authorize) (Conn, error) {
	if ctx.Err() != nil {
		return nil, &OpenError{Err: context.Cause(ctx)}
	}
	conn, err := e.opener.open(ctx, known, caps, authorize)
	if err == nil {
		return conn, nil
	}
	if conn != nil {
		e.ends.Go(func() { conn.Close(context.Background()) })
	}
	if open := (*OpenError)(nil); errors.As(err, &open) {
		return nil, open
	}
	return nil, &OpenError{Err: err}
}

// Close gives back what the endpoint keeps between connections: idle TCP
// connections, and the ends of openings that failed. Call it after every Conn
// is closed and no Open runs any more.
func (e *Endpoint) Close() {
	e.ends.Wait()
	e.opener.close()
}

// A Conn is one live connection to a server. It is safe for concurrent use.
type Conn interface {
	// Call makes one call and returns its answer. The error is an
	// [*rpc.Error] if the server answered with one (the connection is well),
	// else a [*Failure].
	//
	// ctx bounds the call: when it ends, Call returns promptly with its cause
	// and the server is told to stop. Events of the call are used while Call
	// runs and never after; an Events.Ask has to return when its ctx ends, for
	// Call waits for it.
	//
	// authorize is for the requests made for this call, over HTTP: the call
	// itself, its withdrawal, and replies to what the server asks meanwhile.
	Call(ctx context.Context, call rpc.Call, authorize Authorize) (rpc.Answer, error)
	// Listen puts into heard the changes of the server that a filter asks for,
	// outside of calls, until ctx ends, or the connection, or the server ends
	// it. filters has the filter, and later each that is to hold instead.
	//
	// What it puts there is what a modern server sends (MCP 2026-07-28,
	// "Subscriptions"), whatever the era: an acknowledgement each time that a
	// filter is heeded, of as much of it as the server does, and then the
	// changes, which may be more than was asked for, or come twice; and besides,
	// log messages that are for no call (notifications/message).
	//
	// That a server does not let itself be listened to, or stops to, is of no
	// consequence for the calls on the connection. The error is a [*Failure],
	// or an [*rpc.Error] of the server, or nil if the server ended it in good
	// order.
	Listen(ctx context.Context, filters <-chan Filter, authorize Authorize, heard *Pending) error
	// Check asks the server for a sign of life: ping if it is legacy,
	// server/discover if it is modern. Any answer is one, an error too. The
	// error is a [*Failure]. In process it is always nil.
	Check(ctx context.Context) error
	// Heard is when a byte last came from the server; at first, when the
	// connection was made. In process it says nothing.
	Heard() time.Time
	// Peer says who is at the other end.
	Peer() Peer
	// Done is closed when the connection has died by itself: the child has
	// exited or closed its output, or the stream of HTTP+SSE has ended. Close
	// does not close it. It is nil where that cannot happen: over streamable
	// HTTP and in process.
	Done() <-chan struct{}
	// Close ends the connection and the calls in flight on it, and returns
	// when nothing of it is left. A legacy HTTP session is deleted, for at
	// most 1 s, or over HTTP+SSE its stream is ended; a child is ended as [Command] says. When ctx ends Close no
	// longer asks politely: the DELETE is given up, the child is killed.
	// Closing again waits for the same end.
	Close(ctx context.Context)
}

// A Peer is who is at the other end of a connection.
type Peer struct {
	Name, Version string // as the server calls itself; empty if it does not say
	Protocol      string // the MCP version spoken, such as "2025-11-25"; empty in process
	Era           Era    // Unknown in process
	// Hello is the result in which the server introduced itself, of
	// server/discover or initialize; nil where there was none.
	Hello     json.RawMessage
	InProcess bool
	Stdio     bool
	SSE       bool // over the HTTP+SSE transport of MCP 2024-11-05
}

// A Fate is what became of a call that got no answer.
type Fate int8

const (
	NotSent    Fate = iota // nothing of the call reached the server
	Refused                // the server turned it away without running it
	MayHaveRun             // it was sent, at least in part, and may have run
)

func (f Fate) String() string {
	switch f {
	case NotSent:
		return "not sent"
	case Refused:
		return "refused"
	}
	return "may have run"
}

// A Failure is a call that got no answer.
type Failure struct {
	Fate Fate
	// Dead says that the connection is of no further use: its session or its
	// child is gone, or the server cannot be reached. Otherwise it is as good
	// as before.
	Dead bool
	// WrongEra says that the server does not speak the era of the connection
	// any more: what was known about it is out of date.
	WrongEra bool
	Err      error // the cause; that of the ctx if it ended the call
	// Settled is closed when the server has heard that a call is over which its
	// ctx ended: until then it may be working on it. Nil if there is nothing to
	// wait for.
	Settled <-chan struct{}
}

func (f *Failure) Error() string { return fmt.Sprintf("%v (call %s)", f.Err, f.Fate) }
func (f *Failure) Unwrap() error { return f.Err }

// An OpenError is an opening that failed.
type OpenError struct {
	// Permanent says that trying again will not help soon: the command does
	// not exist, the credentials are refused, there is no common version.
	Permanent bool
	// WrongEra says that the server does not speak the era known to Open, or no
	// longer HTTP+SSE: that is out of date, open again with nothing known.
	WrongEra bool
	Err      error
}

func (e *OpenError) Error() string { return e.Err.Error() }
func (e *OpenError) Unwrap() error { return e.Err }

// A StatusError is an HTTP status that is no answer to a call. It is found in
// a [Failure] and in an [OpenError] with errors.As.
type StatusError struct {
	Status int
	// RetryAfter is how long the server wants to be left alone, at most
	// an hour; 0 if it does not say (RFC 9110, 10.2.3).
	RetryAfter time.Duration
	// Said is what the server said with it, at most 200 bytes on one line; it
	// may be empty.
	Said string
}

// Refused reports whether the server wants to know who calls, or does not let
// who calls in.
func (e *StatusError) Refused() bool {
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
}

func (e *StatusError) Error() string {
	text := strings.TrimSpace(fmt.Sprintf("HTTP %d %s", e.Status, http.StatusText(e.Status)))
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(", to be tried again in %v", e.RetryAfter.Round(time.Second))
	}
	if e.Said != "" {
		text += ": " + e.Said
	}
	return text
}

// DefaultMaxMessageBytes is the MaxMessageBytes of [HTTPOptions] and [Command]
// that have none: 64 MiB.
const DefaultMaxMessageBytes = 64 << 20

// messageLimit returns the limit in bytes that a MaxMessageBytes means.
func messageLimit(given int) (int, error) {
	const most = 1 << 30
	switch {
	case given < 0 || given > most:
		return 0, fmt.Errorf("a message of at most %d bytes makes no sense: want 1 to %d, or 0 for %d", given, most, DefaultMaxMessageBytes)
	case given == 0:
		return DefaultMaxMessageBytes, nil
	}
	return given, nil
}

// errTooLarge is found in the error of a message that is larger than its limit.
var errTooLarge = errors.New("a message is too large")

func tooLarge(limit int) error {
	return fmt.Errorf("%w: max_message_bytes (MaxMessageBytes) allows %d bytes", errTooLarge, limit)
}

// errClosed is the cause of calls that Close ended or found ended.
var errClosed = errors.New("the connection is closed")
