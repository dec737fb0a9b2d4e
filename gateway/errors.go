package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Codes of errors that are ours. The specification gives neither timeouts nor
// lost sessions a code; -32001 is what the SDKs use for both. -32800 is what
// the Language Server Protocol calls RequestCancelled.
const (
	codeTimeout     = -32001
	codeSessionGone = -32001
	codeCancelled   = -32800
)

// Codes that MCP 2026-07-28 forbids (basic/index "Error Codes").
const (
	codeNotFoundLegacy = -32002 // a resource; invalid params since
	codeURLElicitation = -32042 // 2025-11-25 alone
)

// Why a request is not answered, or not by a server.
var (
	errClosed    = errors.New("the gateway is shutting down; the call was not made")
	errAborted   = errors.New("the gateway shut down before the answer came; the call may have run")
	errDuplicate = errors.New("a request with this id is still being answered in this session")
	errCancelled = errors.New("the call was cancelled by the client")
)

// A timeoutError is a call that outlasted its server's CallTimeout.
type timeoutError struct {
	server  string
	timeout time.Duration
	ran     bool // or may have
}

func (e *timeoutError) Error() string {
	ran := "It may have run."
	if !e.ran {
		ran = "It did not run."
	}
	return fmt.Sprintf("%s: the call timed out after %gs without an answer or progress; raise call_timeout if it needs longer. %s",
		e.server, e.timeout.Seconds(), ran)
}

// A refusal is an error of the protocol that is ours and not a server's.
type refusal struct{ err *rpc.Error }

func (r refusal) Error() string { return r.err.Error() }
func (r refusal) Unwrap() error { return r.err }

// wireError turns what [request.answer] failed with into what the client
// reads:
//
//	*rpc.Error       itself; to modern clients without the codes they know not
//	*timeoutError    -32001
//	errCancelled     -32800
//	errDuplicate     -32600
//	all others       -32603, with the error's text
func wireError(err error, era era) *rpc.Error {
	var answer *rpc.Error
	var timeout *timeoutError
	code := rpc.CodeInternal
	switch {
	case errors.As(err, &answer):
		if ours := (refusal{}); era == modern && !errors.As(err, &ours) {
			return modernError(answer)
		}
		return answer
	case errors.As(err, &timeout):
		code = codeTimeout
	case errors.Is(err, errCancelled):
		code = codeCancelled
	case errors.Is(err, errDuplicate):
		code = rpc.CodeInvalidRequest
	}
	return rpc.Errorf(code, "%v", err)
}

// modernError replaces the codes of a server's error that a modern client must
// not be sent, or would take for a word about its own request.
func modernError(e *rpc.Error) *rpc.Error {
	code := e.Code
	switch code {
	case codeNotFoundLegacy:
		code = rpc.CodeInvalidParams
	case codeURLElicitation, rpc.CodeHeaderMismatch, rpc.CodeUnsupportedVersion:
		code = rpc.CodeInternal
	}
	if code == e.Code {
		return e
	}
	return &rpc.Error{Code: code, Message: e.Message, Data: e.Data}
}

// poolClosed reports whether a call was not made because its pool had been closed:
// another may have taken its place.
func poolClosed(err error) bool {
	return errors.Is(err, mcpool.ErrPoolClosed) && mcpool.SafeToRetry(err)
}

// httpStatus is the HTTP status of an error that answers a request. To legacy
// clients an error of a method is an answer like any other: 200. Modern ones
// are told by the status as well (MCP 2026-07-28, basic/index and
// basic/transports/streamable-http) where the specification has one for the
// code. It has none for a server that failed, and 200 it is: clients throw the
// body of a 5xx away, and the reason with it.
func httpStatus(e *rpc.Error, era era) int {
	if era == legacy {
		return http.StatusOK
	}
	switch e.Code {
	case rpc.CodeMethodNotFound:
		return http.StatusNotFound
	case rpc.CodeInvalidRequest, rpc.CodeInvalidParams, rpc.CodeHeaderMismatch,
		rpc.CodeMissingCapability, rpc.CodeUnsupportedVersion:
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// overloaded is the HTTP status of a call that was not made for want of room,
// in whatever era; 0 for any other error. Clients are told to come back.
func overloaded(err error) int {
	var limit *limitError
	var early *earlyError
	switch {
	case errors.As(err, &early):
		return http.StatusTooManyRequests
	case errors.As(err, &limit) && limit.server == "":
		return http.StatusTooManyRequests
	case errors.As(err, &limit), errors.Is(err, mcpool.ErrQueueFull), errors.Is(err, errClosed), poolClosed(err):
		return http.StatusServiceUnavailable
	}
	return 0
}

// sessionGone is what a legacy client is told with status 404.
func sessionGone() *rpc.Error {
	return rpc.Errorf(codeSessionGone, "session not found: it has ended, has expired, or is of another gateway; send initialize again")
}

// lostSession reports whether a legacy session's state is gone for good.
func lostSession(err error) bool {
	return errors.Is(err, mcpool.ErrSessionLost) || errors.Is(err, errEnded)
}
