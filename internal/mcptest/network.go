package mcptest

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// RoundTripper returns an http.RoundTripper that is served by a handler,
// without sockets. Bodies are streams, cancelling a request cancels the
// handler's, and all waiting is on channels, so that a synctest bubble sees
// it.
func RoundTripper(handler http.Handler) http.RoundTripper {
	return &Network{Handler: handler}
}

// A Network is a RoundTripper, as the function of that name returns it, that
// can be down.
type Network struct {
	Handler http.Handler

	mu   sync.Mutex // guards down
	down bool
}

// SetDown makes new requests fail as if nobody listened at the server's
// address, or no longer. Requests in flight go on.
func (n *Network) SetDown(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
}

// RoundTrip implements http.RoundTripper.
func (n *Network) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	down := n.down
	n.mu.Unlock()
	trace := httptrace.ContextClientTrace(r.Context())
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(r.URL.Host)
	}
	if err := context.Cause(r.Context()); err != nil {
		return nil, err
	}
	if down {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	if trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}

	ctx, cancel := context.WithCancel(r.Context())
	body := &stream{ctx: r.Context(), cancel: cancel, changed: make(chan struct{})}
	w := &responseWriter{header: make(http.Header), body: body, begun: make(chan struct{})}
	served := r.Clone(ctx)
	served.RemoteAddr, served.RequestURI, served.Host = "mcptest", r.URL.RequestURI(), r.URL.Host
	if served.Body == nil {
		served.Body = http.NoBody
	}
	go w.serve(n.Handler, served)

	select {
	case <-w.begun:
	case <-r.Context().Done():
		cancel()
		return nil, context.Cause(r.Context())
	}
	if w.status == 0 {
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	}
	return &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: body, ContentLength: w.length, Request: r,
	}, nil
}

// A responseWriter is the server's side of one request. Only the goroutine of
// the handler uses it until begun is closed.
type responseWriter struct {
	header http.Header
	body   *stream
	begun  chan struct{} // closed when the response has begun, or will never

	// Written before begun is closed.
	status int // 0 if the handler has aborted
	sent   http.Header
	length int64 // as announced, -1 if not

	written int64
}

func (w *responseWriter) serve(handler http.Handler, r *http.Request) {
	defer w.body.cancel()
	defer func() {
		p := recover()
		switch {
		case p != nil && p != http.ErrAbortHandler: //nolint:errorlint // net/http compares it so too
			panic(p)
		case p != nil && w.status == 0:
			close(w.begun)
		case p != nil || w.length >= 0 && w.written < w.length:
			w.body.end(io.ErrUnexpectedEOF)
		default:
			w.body.end(io.EOF)
		}
	}()
	handler.ServeHTTP(w, r)
	w.WriteHeader(http.StatusOK)
}

func (w *responseWriter) Header() http.Header { return w.header }

func (w *responseWriter) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status, w.sent, w.length = status, w.header.Clone(), -1
	if n, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64); err == nil {
		w.length = n
	}
	close(w.begun)
}

func (w *responseWriter) Write(data []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.written += int64(len(data))
	return w.body.write(data)
}

func (w *responseWriter) Flush() { w.WriteHeader(http.StatusOK) }

// A stream is a response body: it holds what the handler has written until the
// client reads it.
type stream struct {
	ctx    context.Context    // of the request
	cancel context.CancelFunc // ends the handler's

	mu      sync.Mutex // guards what follows
	data    []byte
	err     error         // after data
	closed  bool          // by the client
	changed chan struct{} // closed and made anew when there is something to read
}

func (s *stream) write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ctx.Err() != nil {
		return 0, syscall.EPIPE
	}
	s.data = append(s.data, data...)
	s.signal()
	return len(data), nil
}

func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.signal()
}

func (s *stream) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		n, changed, err := s.take(p)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return 0, context.Cause(s.ctx)
		}
	}
}

func (s *stream) take(p []byte) (int, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return 0, nil, http.ErrBodyReadAfterClose
	case s.ctx.Err() != nil:
		return 0, nil, context.Cause(s.ctx)
	case len(s.data) > 0:
		n := copy(p, s.data)
		s.data = s.data[n:]
		return n, nil, nil
	}
	return 0, s.changed, s.err
}

func (s *stream) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	return nil
}
