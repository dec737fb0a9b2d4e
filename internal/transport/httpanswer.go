package transport

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// maxRefusal bounds, in bytes, what is read of a response that is an error.
const maxRefusal = 1 << 20

// A strayError is a response that came whole and is no answer: a page of a
// proxy, a body that is not JSON, an answer to somebody else.
type strayError struct{ error }

func (e *strayError) Unwrap() error { return e.error }

// stray makes the failure of a call that got a response but no answer. It is
// of that call alone.
func (e *httpEndpoint) stray(format string, args ...any) *Failure {
	return &Failure{Fate: MayHaveRun, Err: &strayError{e.errorf(format, args...)}}
}

// read takes in a response until the answer. rest is the stream that may go on
// behind the answer, and has to be closed; nil if there is none and the body
// of the response can be closed.
//
// The errors, by what the server did:
//
//	2xx with an answer that is a JSON-RPC error  *rpc.Error
//	4xx with such an answer                      *rpc.Error, unless 401, 403 or 429
//	said that the session is gone                Refused, Dead (see lostSession)
//	said that the version is not spoken          Refused, Dead, WrongEra
//	modern, and spoke of sessions                Refused, Dead, WrongEra (see tellsEra)
//	404, 405 or 410 without such an error        Refused, Dead
//	3xx, 4xx                                     Refused
//	5xx                                          MayHaveRun
//	anything else                                MayHaveRun
func (c *httpConn) read(ctx context.Context, response *http.Response, x *exchange) (result json.RawMessage, rest io.ReadCloser, err error) {
	c.hear()
	if response.StatusCode >= 300 {
		return nil, nil, c.refusal(response, x)
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, c.server.stray("the request was accepted without an answer (HTTP %d)", response.StatusCode)
	}
	session := response.Header.Get(headerSession)
	if c.session != "" && session != "" && session != c.session {
		return nil, nil, c.server.stray("the answer came in another session than the request")
	}
	kind := response.Header.Get("Content-Type")
	if kind != "application/json" && kind != "text/event-stream" { // as most say it
		kind, _, _ = mime.ParseMediaType(kind)
	}
	switch kind {
	case "application/json":
		result, err = c.readBody(ctx, response, x)
		return result, nil, err
	case "text/event-stream":
		return c.readStream(ctx, response, x)
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, 8*excerptLength))
	return nil, nil, c.server.stray("answered with %q where JSON or an event stream is expected: %s",
		excerpt([]byte(kind)), c.quote(response, body))
}

// readBody reads the answer from a body that is one JSON message.
func (c *httpConn) readBody(ctx context.Context, response *http.Response, x *exchange) (json.RawMessage, error) {
	body, err := readAll(response, c.server.limit)
	if err != nil {
		return nil, c.cut(ctx, x, err)
	}
	x.memory = body
	parse := jsonrpc.Skim
	if !delimited(response) {
		parse = jsonrpc.Parse
	}
	m, err := parse(body)
	switch {
	case err != nil:
		return nil, c.server.stray("the answer is no message: %w: %s", err, c.quote(response, body))
	case m.IsResponse() && m.Error != nil && c.lostSession(response.StatusCode, m.Failure(), false):
		return nil, c.sessionLost(response, x, m.Failure())
	case !x.isAnswer(&m):
		return nil, c.server.stray("the answer belongs to another request: %s", c.quote(response, body))
	}
	return verdict(&m)
}

// delimited reports whether it can be told that the body of a response has come
// whole: not where the end of an HTTP/1 connection ends it.
func delimited(response *http.Response) bool {
	return response.ContentLength >= 0 || len(response.TransferEncoding) > 0 || response.ProtoMajor > 1
}

// readStream reads the answer from an event stream, and what comes before it.
func (c *httpConn) readStream(ctx context.Context, response *http.Response, x *exchange) (result json.RawMessage, rest io.ReadCloser, err error) {
	stream := c.newEventStream(response, x.authorize)
	defer func() {
		stream.events.release()
		if rest == nil {
			stream.close()
		}
	}()
	for {
		data, err := stream.next(ctx)
		if err != nil {
			return nil, nil, c.cut(ctx, x, err)
		}
		m, err := jsonrpc.Skim(data)
		switch {
		case err != nil:
			return nil, nil, c.server.stray("an event of the stream is no message: %w: %s", err, c.quote(response, data))
		case m.IsResponse() && m.Error != nil && c.lostSession(http.StatusOK, m.Failure(), false):
			return nil, nil, c.sessionLost(response, x, m.Failure())
		case x.isAnswer(&m):
			x.memory = stream.events.memory
			result, err := verdict(&m)
			return result, stream.body, err
		}
		if m.IsNotification() {
			c.changed(m.Method, m.Params)
		}
		x.receive(ctx, &m)
	}
}

// verdict returns what an answer says: the result or the error.
func verdict(m *jsonrpc.Message) (json.RawMessage, error) {
	if m.Error != nil {
		return nil, m.Failure()
	}
	return m.Result, nil
}

// cut is the failure of a call whose response broke off.
func (c *httpConn) cut(ctx context.Context, x *exchange, err error) *Failure {
	f := &Failure{Fate: MayHaveRun, Err: c.server.errorf("reading the answer: %w", err)}
	if again := (*Failure)(nil); errors.As(err, &again) { // of taking up the stream
		f.Dead = again.Dead
	}
	return c.cutShort(ctx, f, x)
}

// refusal reads a response whose status is an error, and returns that error. x
// is nil for a notification or a response of ours, which have no answer.
func (c *httpConn) refusal(response *http.Response, x *exchange) error {
	status := response.StatusCode
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxRefusal))
	var said *rpc.Error
	var ours, nobodys bool
	if m, err := jsonrpc.Parse(body); err == nil && m.Error != nil {
		said = m.Failure()
		ours = x != nil && x.isAnswer(&m)
		nobodys = x != nil && m.ID == nil
	}
	err := &StatusError{Status: status, RetryAfter: retryAfter(response.Header), Said: c.quote(response, body)}
	switch {
	case c.lostSession(status, said, ours):
		return c.sessionLost(response, x, err)
	case c.session != "" && !ours && status == http.StatusBadRequest && speaksOfSessions(string(body)):
		// In words of its own, as mcp-go does, and those of HTTP+SSE.
		return c.sessionLost(response, x, err)
	case c.peer.Era == Modern && !ours && tellsEra(status) && speaksOfSessions(string(body)):
		return &Failure{Fate: Refused, Dead: true, WrongEra: true,
			Err: c.server.errorf("the server is no longer modern: %w", err)}
	case x != nil && said == nil && nothingThere(status):
		// There is something else at this address, or nothing, and calls would
		// be told so for ever: the next opening asks.
		return &Failure{Fate: Refused, Dead: true, Err: c.server.errorf("%w", err)}
	case status < 400:
		return &Failure{Fate: Refused, Err: c.server.errorf(
			"%w: redirects are not followed, set the URL to where this one leads", &StatusError{Status: status})}
	case status >= 500:
		return &Failure{Fate: MayHaveRun, Err: c.server.errorf("%w", err)}
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusTooManyRequests:
		// Said by whoever guards the server, whatever the body looks like.
	case ours, nobodys && status == http.StatusBadRequest:
		return said
	}
	return &Failure{Fate: Refused, Err: c.server.errorf("%w", err)}
}

// lostSession reports whether a response says that the session is gone, which
// it can only be if there was one. said is its JSON-RPC error or nil, ours
// tells that it answers the very request.
//
// MCP 2025-11-25 (transports, "Session Management" 3) has 404 for it. Servers
// also say it with 410, with 400 and -32000 or -32001, or with -32600 under
// any status and any id. A 404 with -32601 means, on the contrary, that the
// server knows the session and not the method.
func (c *httpConn) lostSession(status int, said *rpc.Error, ours bool) bool {
	if c.session == "" {
		return false
	}
	switch {
	case status == http.StatusNotFound:
		return said == nil || said.Code != rpc.CodeMethodNotFound || !ours
	case status == http.StatusGone:
		return true
	case said == nil:
		return false
	}
	message := strings.ToLower(said.Message)
	switch said.Code {
	case -32001:
		return status == http.StatusBadRequest
	case -32000:
		return status == http.StatusBadRequest && strings.Contains(message, "session")
	case rpc.CodeInvalidRequest:
		return strings.Contains(message, "session not found") ||
			strings.Contains(message, "session terminated") ||
			strings.Contains(message, "session expired")
	}
	return false
}

// maxRetryAfter bounds how long a server is left alone on its own word: one
// that is wrong about it is not to be lost.
const maxRetryAfter = time.Hour

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(header http.Header) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(date), 0), maxRetryAfter)
	}
	return 0
}

// speaksOfSessions reports whether a refusal is one that legacy servers give to
// a request without a session: a modern server has none to miss.
func speaksOfSessions(said string) bool {
	said = strings.ToLower(said)
	return strings.Contains(said, "session") || strings.Contains(said, "not initialized")
}

// nothingThere reports whether a status says that the address takes in no
// requests: not now, not to this tool, none.
func nothingThere(status int) bool {
	return status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusGone
}

// sessionLost is the failure of a call that came too late for its session. x is
// nil if it was no call: servers say 404 also to a GET of theirs that they do
// not know, and then the session has still to be deleted.
func (c *httpConn) sessionLost(response *http.Response, x *exchange, said error) *Failure {
	if x != nil {
		c.lost.Store(true)
	}
	return &Failure{Fate: Refused, Dead: true,
		Err: c.server.errorf("the server no longer knows the session: %s", c.quote(response, []byte(said.Error())))}
}

// readAll reads a body of at most limit bytes.
func readAll(response *http.Response, limit int) ([]byte, error) {
	const trusted = 2 << 20 // a length claimed is not yet a length sent
	size, first := int(response.ContentLength), 512
	switch {
	case size > limit:
		return nil, tooLarge(limit)
	case size >= 0:
		first = min(size, trusted)
	}
	body := newMemory(first)[:0]
	for len(body) != size {
		if len(body) == cap(body) {
			body = growMemory(body, 2*len(body))
		}
		n, err := response.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > limit:
			return nil, tooLarge(limit)
		case err == io.EOF && size < 0:
			return body, nil
		case err == io.EOF && len(body) < size:
			return body, io.ErrUnexpectedEOF
		case err != nil && err != io.EOF:
			return body, err
		}
	}
	return body, nil
}
