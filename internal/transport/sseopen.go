package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// endpointEvent is the type of the event that a stream of HTTP+SSE begins with.
const endpointEvent = "endpoint"

// endpointSilence is how long a server that was not said to speak HTTP+SSE may
// take over the event that proves it. One that speaks streamable HTTP may
// accept the same GET and never say anything. It is the probeSilence of stdio.
const endpointSilence = 2 * time.Second

// maySpeakSSE reports whether a server that answers initialize so has to be
// tried with HTTP+SSE (MCP 2025-11-25, transports, "Backwards Compatibility").
func maySpeakSSE(err error) bool {
	var status *StatusError
	if !errors.As(err, &status) {
		return false
	}
	switch status.Status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed:
		return true
	}
	return false
}

// openSSE opens a connection to a server that is set to HTTP+SSE, or that was
// found to speak it, in three round trips.
func (e *httpEndpoint) openSSE(ctx context.Context, caps rpc.Capabilities, authorize Authorize) (Conn, error) {
	c := newSSEConn(e, authorize)
	silence := endpointSilence
	if e.sse {
		silence = 0
	}
	err := c.listen(ctx, silence)
	if err == nil {
		return c, c.initialize(ctx, caps)
	}
	open := e.openError(ctx, err)
	if notUnderstood(err) {
		open.Err = e.errorf("the server does not speak HTTP+SSE: %w", open.Err)
		open.WrongEra = !e.sse
		var status *StatusError
		open.Permanent = e.sse && errors.As(err, &status) && status.Status == http.StatusMethodNotAllowed
	}
	return c, open
}

// trySSE opens a connection to a server that has refused initialize, if it
// speaks HTTP+SSE. Otherwise that refusal is the error.
func (e *httpEndpoint) trySSE(ctx context.Context, caps rpc.Capabilities, authorize Authorize, refusal *OpenError) (Conn, error) {
	c := newSSEConn(e, authorize)
	err := c.listen(ctx, endpointSilence)
	if err == nil {
		return c, c.initialize(ctx, caps)
	}
	if elsewhere := (*OpenError)(nil); errors.As(err, &elsewhere) {
		return c, elsewhere // it does speak it
	}
	tried := e.openError(ctx, err)
	return c, &OpenError{
		Permanent: refusal.Permanent || tried.Permanent,
		WrongEra:  refusal.WrongEra,
		Err:       fmt.Errorf("%w; HTTP+SSE was tried, too: %w", refusal.Err, tried.Err),
	}
}

func newSSEConn(e *httpEndpoint, authorize Authorize) *sseConn {
	c := &sseConn{httpConn: newHTTPConn(e, authorize), died: make(chan struct{})}
	// No header has the version agreed on: there was none when this transport
	// was in use.
	c.settle(Peer{Era: Legacy, SSE: true}, "")
	c.flights.link, c.flights.authorize, c.flights.log = c, authorize, e.log
	c.flights.quote = func(said []byte) string { return c.httpConn.quote(c.stream, said) }
	return c
}

// listen opens the event stream and waits for the endpoint. ctx and silence, 0
// for none, bound that; the stream lives as long as the connection. The error
// is an [*OpenError] if the server speaks HTTP+SSE and cannot be spoken to.
func (c *sseConn) listen(ctx context.Context, silence time.Duration) error {
	if silence > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, silence, c.server.stray("there is no endpoint event within %v", silence).Err)
		defer cancel()
	}
	stream, end := context.WithCancelCause(c.ctx)
	stop := context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })
	endpoint, err := c.firstEvent(stream)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = c.move(endpoint)
	}
	if err != nil {
		end(nil)
		if c.stream != nil {
			_ = c.stream.Body.Close()
		}
		return err
	}
	c.spawn(func() {
		defer end(nil)
		c.read()
	})
	return nil
}

// firstEvent makes the GET and returns what the endpoint event says.
func (c *sseConn) firstEvent(ctx context.Context) (endpoint string, err error) {
	header := c.header.Clone()
	header.Set("Accept", "text/event-stream")
	header.Del("Content-Type")
	response, failure := c.server.do(ctx, http.MethodGet, header, nil, c.httpConn.authorize)
	if failure != nil {
		return "", failure
	}
	c.stream = response
	c.hear()
	if response.StatusCode >= 300 {
		return "", c.refusal(response, nil)
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != "text/event-stream" {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 8*excerptLength))
		return "", c.server.stray("answered with %q where an event stream is expected: %s",
			excerpt([]byte(kind)), c.httpConn.quote(response, said))
	}
	c.events = newEventReader(hearing{response.Body, c.life}, c.server.limit)
	for {
		kind, data, err := c.events.event()
		switch {
		case errors.Is(err, io.EOF):
			return "", c.server.stray("the event stream ended before the endpoint event")
		case err != nil:
			return "", c.server.errorf("the event stream: %w", err)
		case kind == endpointEvent:
			return string(data), nil
		}
	}
}

// move has what we say from now on posted to the endpoint that the server has
// named. It must be where the stream comes from: headers and tokens are for
// nobody else.
func (c *sseConn) move(endpoint string) error {
	e := c.server
	u, err := e.url.Parse(endpoint)
	if err != nil {
		return &OpenError{Permanent: true, Err: e.errorf("the endpoint that the server names is no URL")}
	}
	if origin(u) != origin(e.url) {
		return &OpenError{Permanent: true, Err: e.errorf(
			"the server wants messages sent to %s: headers and tokens are for %s alone", excerpt([]byte(origin(u))), origin(e.url))}
	}
	u.User, u.Fragment = nil, ""
	moved := *e
	moved.url, moved.secrets = u, secrets(e.header, e.given, u)
	c.server = &moved
	c.session = u.RequestURI() // it is what tells the session from others
	return nil
}

// origin is whose a URL is: its scheme, host and port (RFC 6454, 4).
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// initialize begins the session, in two round trips.
func (c *sseConn) initialize(ctx context.Context, caps rpc.Capabilities) error {
	result, err := c.exchange(ctx, initializeCall(caps, c.server.protocol.legacy()), true, c.httpConn.authorize)
	if c.met, err = c.readHello(ctx, answer{result: result, response: c.stream}, err, false); err != nil {
		return err
	}
	c.met.SSE = true
	return c.initialized(ctx)
}
