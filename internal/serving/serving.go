// Package serving is how a process that is a gateway serves HTTP: each phase of
// a request has a bound, and the garbage collector is set for many small calls.
package serving

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxHeader bounds the headers of a request, in bytes. Those that mirror
	// arguments (Mcp-Param-*) are the longest.
	maxHeader = 64 << 10
	// headerTime is how long a client may take to send the headers of a request,
	// bodyTime its body, and writeTime to read what is written at once; idleTime
	// how long a connection is kept for another.
	headerTime = 10 * time.Second
	bodyTime   = 30 * time.Second
	writeTime  = 30 * time.Second
	idleTime   = 2 * time.Minute
	// answerTime is how long the answers of calls that were cut off may take to be
	// written.
	answerTime = time.Second
)

// A Server is an HTTP server.
type Server struct {
	http   http.Server
	silent silentConns
}

// New makes a server. Neither reading nor writing has a bound as a whole: it
// would end calls and streams that may take long.
func New(handler http.Handler, log *slog.Logger) *Server {
	s := &Server{
		http: http.Server{
			Handler:           boundBodies(handler),
			ReadHeaderTimeout: headerTime,
			IdleTimeout:       idleTime,
			MaxHeaderBytes:    maxHeader,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
		silent: silentConns{conns: map[net.Conn]struct{}{}},
	}
	s.http.ConnState = s.silent.note
	return s
}

// Serve serves what connects to a listener. It returns http.ErrServerClosed
// after Shutdown, and otherwise what ended it.
func (s *Server) Serve(listener net.Listener) error { return s.http.Serve(boundWrites{listener}) }

// ServeTLS is Serve with TLS, see [TLS].
func (s *Server) ServeTLS(listener net.Listener, config *tls.Config) error {
	s.http.TLSConfig = config
	return s.http.ServeTLS(boundWrites{listener}, "", "")
}

// Shutdown ends the server when its answers are written, or ctx ends. When ctx
// has ended before, it is still said to the clients whose calls were cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.silent.close()
	if ctx.Err() != nil {
		late, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), answerTime, context.Cause(ctx))
		defer cancel()
		ctx = late
	}
	err := s.http.Shutdown(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("answers not written in time: %w", context.Cause(ctx))
	}
	return errors.Join(err, s.http.Close())
}

// boundBodies bounds the time for the body of each request, read or not: what
// the handler leaves of it is read by net/http. A handler that goes on after
// it has read the body lifts the bound.
func boundBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		}
		next.ServeHTTP(w, r)
	})
}

// boundWrites is a listener whose connections fail when what is written is not
// read, whoever writes it.
type boundWrites struct{ net.Listener }

func (l boundWrites) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return boundConn{conn}, nil
}

// Close is no mistake when it was done before, so that another can listen.
func (l boundWrites) Close() error {
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

type boundConn struct{ net.Conn }

func (c boundConn) Write(data []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return 0, err
	}
	return c.Conn.Write(data)
}

// CloseWrite is that of a connection over TCP.
func (c boundConn) CloseWrite() error {
	if half, ok := c.Conn.(*net.TCPConn); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// silentConns are TCP connections on which nothing was said yet, such as those
// that browsers open in advance. The server would wait 5 s for each of them
// when it is shut down.
type silentConns struct {
	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
}

func (s *silentConns) note(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.conns[conn] = struct{}{}
	} else {
		delete(s.conns, conn)
	}
}

func (s *silentConns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close() // there is nobody to tell
	}
}
