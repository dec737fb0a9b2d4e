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
	"sync/atomic"
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
	// unusedTime is how long a connection that clients are to leave is kept for a
	// request that may be on its way.
	unusedTime = 5 * time.Second
)

// A Server is an HTTP server.
type Server struct {
	http    http.Server
	conns   conns
	leaving atomic.Bool

	mu        sync.Mutex // guards listeners
	listeners []net.Listener
}

// New makes a server. Neither reading nor writing has a bound as a whole: it
// would end calls and streams that may take long.
func New(handler http.Handler, log *slog.Logger) *Server {
	s := &Server{
		http: http.Server{
			ReadHeaderTimeout: headerTime,
			IdleTimeout:       idleTime,
			MaxHeaderBytes:    maxHeader,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
		conns: conns{of: make(map[net.Conn]conn), fewer: make(chan struct{}, 1)},
	}
	s.http.Handler = s.lastAnswers(boundBodies(handler))
	s.http.ConnState = s.conns.note
	return s
}

// Serve serves what connects to a listener. It returns http.ErrServerClosed
// after Shutdown, and otherwise what ended it.
func (s *Server) Serve(listener net.Listener) error {
	return s.http.Serve(s.listener(listener))
}

// listener notes one, for Leave.
func (s *Server) listener(l net.Listener) net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, l)
	return boundWrites{l}
}

// Leave has clients make their next requests on new connections, and sees to it
// that none of them fails: it stops listening, and each connection is closed with
// the next answer on it, or when it was not used for 5 s. Another process has to
// listen at the same socket. Leave returns when no connection is left, or ctx
// ends.
func (s *Server) Leave(ctx context.Context) {
	s.leaving.Store(true)
	s.mu.Lock()
	for _, l := range s.listeners {
		_ = l.Close() // that of the other process stays
	}
	s.mu.Unlock()
	for {
		left, wait := s.conns.closeUnused()
		if left == 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.conns.fewer:
		case <-ctx.Done():
			return
		}
		timer.Stop()
	}
}

// lastAnswers has an answer be the last of its connection, if clients are to
// leave. To close a connection that is idle instead would fail the request that
// may be on its way.
func (s *Server) lastAnswers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// ServeTLS is Serve with TLS, see [TLS].
func (s *Server) ServeTLS(listener net.Listener, config *tls.Config) error {
	s.http.TLSConfig = config
	return s.http.ServeTLS(s.listener(listener), "", "")
}

// Shutdown ends the server when its answers are written, or ctx ends. When ctx
// has ended before, it is still said to the clients whose calls were cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.conns.closeSilent()
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

// conns are the TCP connections there are, but those that were taken over.
type conns struct {
	fewer chan struct{} // holds a token when one has gone

	mu sync.Mutex // guards of
	of map[net.Conn]conn
}

// A conn is how a connection stands.
type conn struct {
	state http.ConnState
	since time.Time
}

func (c *conns) note(of net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state != http.StateHijacked && state != http.StateClosed {
		c.of[of] = conn{state, time.Now()}
		return
	}
	delete(c.of, of)
	select {
	case c.fewer <- struct{}{}:
	default:
	}
}

// closeSilent closes those on which nothing was said yet, such as those that
// browsers open in advance. The server would wait 5 s for each of them when it is
// shut down.
func (c *conns) closeSilent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for of, conn := range c.of {
		if conn.state == http.StateNew {
			_ = of.Close() // there is nobody to tell
		}
	}
}

// closeUnused closes those that no request came on for unusedTime. It returns how
// many are left, and when to look again.
func (c *conns) closeUnused() (left int, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait = unusedTime
	for of, conn := range c.of {
		if conn.state == http.StateActive {
			continue
		}
		if rest := unusedTime - time.Since(conn.since); rest > 0 {
			wait = min(wait, rest)
		} else {
			_ = of.Close() // there is nobody to tell
		}
	}
	return len(c.of), wait
}
