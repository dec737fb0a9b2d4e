package gateway

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// Rights are what a principal may do. The zero value is everything. The funcs
// are called by several at once and must not block.
type Rights struct {
	// Serves reports whether a server is there for it. One that is not is
	// neither listed nor called, in no method, and its own endpoint answers with
	// status 403. Nil for all.
	Serves func(server string) bool
	// Offers reports whether a tool of a server is, beside what the Allow and
	// Deny of the server say. Nil for all.
	Offers func(server, tool string) bool
	// MaxCalls bounds its calls under way; 0 for Options.MaxCallsPerPrincipal.
	MaxCalls int
	// Wait counts one more request of it and returns 0; or how long it is until
	// it may make one, and then this one is not made: clients are told so as with
	// Options.MaxCallsPerPrincipal, and modern ones over HTTP by Retry-After. Nil
	// for any number of requests.
	Wait func() time.Duration
}

// visibleTo returns what of an endpoint there is for a principal.
func (e *endpoint) visibleTo(r Rights) *endpoint {
	if r.Serves == nil {
		return e
	}
	view := &endpoint{name: e.name, prefixed: e.prefixed}
	for _, s := range e.servers {
		if r.Serves(s.Name) {
			view.servers = append(view.servers, s)
		}
	}
	return view
}

// An earlyError is a request that was not made: its principal has made too many.
type earlyError struct{ wait time.Duration }

func (e *earlyError) Error() string {
	return fmt.Sprintf("too many requests of yours: the next may be made in %s s. It did not run.", e.seconds())
}

// seconds is when to come back, as Retry-After has it (RFC 9110, 10.2.3).
func (e *earlyError) seconds() string {
	return strconv.FormatFloat(math.Ceil(e.wait.Seconds()), 'f', 0, 64)
}

// A PrincipalError is an error of Options.Principal that says how the request is
// answered.
type PrincipalError struct {
	// Status is that of HTTP, 400 to 599.
	Status int
	// Header goes with the response, such as WWW-Authenticate.
	Header http.Header
	// Err is told to the client. It must not be nil.
	Err error
}

func (e *PrincipalError) Error() string { return e.Err.Error() }
func (e *PrincipalError) Unwrap() error { return e.Err }

// refusePrincipal answers a request of which it is not known who makes it.
func refusePrincipal(w http.ResponseWriter, err error) {
	status := http.StatusUnauthorized
	var says *PrincipalError
	if errors.As(err, &says) {
		status = says.Status
		for name, values := range says.Header {
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
	}
	refuse(w, status, rpc.Errorf(rpc.CodeInvalidRequest, "who calls is not known: %v", err))
}
