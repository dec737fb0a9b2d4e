package transport

import (
	"context"
	"errors"
	"net/http"

	"github.com/mcpool-dev/mcpool/rpc"
)

// open opens a connection: by server/discover if the server is modern, by
// initialize if it is legacy. If the era is unknown the first tells whether
// the second is needed (MCP 2026-07-28, streamable HTTP, "Backward
// Compatibility"), and a server that takes in neither may speak HTTP+SSE. A
// modern server that is well known is asked nothing: it has no session to
// begin.
func (e *httpEndpoint) open(ctx context.Context, known Known, caps rpc.Capabilities, authorize Authorize) (Conn, error) {
	era, given := e.protocol.era(known)
	if e.sse || era == Legacy && known.Peer.SSE {
		return e.openSSE(ctx, caps, authorize)
	}
	c := newHTTPConn(e, authorize)
	if era != Legacy {
		if known.Peer.Era == Modern && !known.Doubted {
			c.settle(known.Peer, "")
			return c, nil
		}
		err := c.discover(ctx)
		if err == nil {
			return c, nil
		}
		if !notUnderstood(err) {
			return c, e.openError(ctx, err)
		}
		if era == Modern {
			return c, e.protocol.wrong(given, e.errorf("the server does not speak MCP %s: %w", modernVersion, err))
		}
	}
	err := c.initialize(ctx, caps, given)
	if refusal := (*OpenError)(nil); errors.As(err, &refusal) && c.peer.Protocol == "" && maySpeakSSE(refusal) {
		c.Close(ctx) // at once: it has no session
		return e.trySSE(ctx, caps, authorize, refusal)
	}
	return c, err
}

// discover makes a modern connection, in one round trip.
func (c *httpConn) discover(ctx context.Context) error {
	c.settle(Peer{Protocol: modernVersion, Era: Modern}, "")
	got, err := c.exchange(ctx, rpc.Call{Method: methodDiscover}, c.authorize)
	if refused := (*rpc.Error)(nil); errors.As(err, &refused) && modernAfterAll(refused) {
		return nil
	}
	if err != nil {
		return err
	}
	peer, modern := readDiscover(got.result)
	if !modern {
		return c.server.stray("server/discover was answered without MCP %s: %s",
			modernVersion, c.quote(got.response, got.result))
	}
	c.settle(peer, "")
	return nil
}

// notUnderstood reports whether the answer to the first request of an opening,
// such as server/discover, is that of a server that does not know such
// requests. Refused credentials, a server in trouble and a broken network say
// nothing about what it knows.
func notUnderstood(err error) bool {
	var refused *rpc.Error
	var stray *strayError
	var status *StatusError
	switch {
	case errors.As(err, &refused), errors.As(err, &stray):
		return true
	case errors.As(err, &status):
		return tellsEra(status.Status)
	}
	return false
}

// tellsEra reports whether a refusal with this status is one of the server, and
// so may say of which era it is: not of whoever guards it, or leads elsewhere.
func tellsEra(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired,
		http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return 400 <= status && status < 500
}

// initialize makes a legacy connection, in two round trips. given tells that
// the era was not asked for just now.
func (c *httpConn) initialize(ctx context.Context, caps rpc.Capabilities, given bool) error {
	c.settle(Peer{Era: Legacy}, "")
	got, refused := c.exchange(ctx, initializeCall(caps, c.server.protocol.legacy()), c.authorize)
	peer, err := c.readHello(ctx, got, refused, given)
	if refused == nil {
		c.settle(peer, got.response.Header.Get(headerSession)) // to be deleted if we cannot use it
	}
	if err != nil {
		return err
	}
	if caps == (rpc.Capabilities{}) || c.session == "" {
		return c.initialized(ctx)
	}
	first := newStandingRun()
	c.standing = &standing{now: first}
	c.spawn(c.stand)
	err = c.initialized(ctx)
	if err == nil {
		first.settles(ctx)
	}
	return err
}

// readHello reads the answer to initialize, or the error that came instead.
func (c *httpConn) readHello(ctx context.Context, got answer, err error, given bool) (Peer, error) {
	if refused := (*rpc.Error)(nil); errors.As(err, &refused) {
		open := initializeRefused(refused, c.quote(got.response, []byte(refused.Error())), given)
		open.Err = c.server.errorf("%w", open.Err)
		return Peer{}, open
	}
	if err != nil {
		return Peer{}, c.server.openError(ctx, err)
	}
	return readInitialize(got.result, c.quote(got.response, got.result))
}

// initialized tells the server that the opening is over. Calls may begin when
// it has taken this in, no sooner (MCP 2025-11-25, lifecycle,
// "Initialization").
func (c *httpConn) initialized(ctx context.Context) error {
	if err := c.tell(ctx, c.header, initializedFrame(), c.authorize); err != nil {
		return c.server.openError(ctx, err)
	}
	return nil
}

// openError says what a failed request means for an opening.
func (e *httpEndpoint) openError(ctx context.Context, err error) *OpenError {
	if already := (*OpenError)(nil); errors.As(err, &already) {
		return already
	}
	open := &OpenError{Err: err}
	var status *StatusError
	var lasting *lastingError
	if errors.As(err, &status) {
		switch status.Status {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
			open.Permanent = true
		}
	} else {
		open.Permanent = errors.As(err, &lasting)
	}
	var failure *Failure
	if errors.As(err, &failure) {
		open.Err = failure.Err // the fate of the request is of no interest
	}
	if ctx.Err() != nil {
		open.Err = e.errorf("opening: %w", context.Cause(ctx))
	}
	return open
}
