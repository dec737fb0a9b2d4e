package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// defaultListen is where the gateway listens, and where its clients look.
const defaultListen = "127.0.0.1:7432"

// listenFlags are the flags of a command that serves HTTP.
type listenFlags struct {
	address                      *string
	open                         *bool
	allowedHosts, allowedOrigins *[]string
	drainTimeout                 *time.Duration
}

// listenFlagNames are their names.
var listenFlagNames = []string{"listen", "listen-without-authentication", "allowed-hosts", "allowed-origins", "drain-timeout"}

func (f *flags) listen(address, usage string) *listenFlags {
	return &listenFlags{
		address:        f.String("listen", address, usage),
		open:           f.Bool("listen-without-authentication", false, "listen beyond loopback although anyone who gets there may call every tool"),
		allowedHosts:   f.list("allowed-hosts", "names this gateway is called by, besides those of loopback"),
		allowedOrigins: f.list("allowed-origins", "origins whose web pages may call, besides those of loopback"),
		drainTimeout:   f.period("drain-timeout", 30*time.Second, "how long calls in flight may take when the program ends"),
	}
}

// resolve returns where to listen. It refuses what is beyond loopback unless
// told in words: there is no authentication.
func (l *listenFlags) resolve() (*net.TCPAddr, error) {
	addr, err := net.ResolveTCPAddr("tcp", *l.address)
	if err != nil {
		return nil, usagef("--listen %q: want HOST:PORT such as %s: %w", *l.address, defaultListen, err)
	}
	if !addr.IP.IsLoopback() && !*l.open {
		return nil, usagef("--listen %q is beyond loopback, and there is no authentication: "+
			"anyone who reaches it could call every tool. Listen on 127.0.0.1 behind a proxy that knows who calls, "+
			"or say --listen-without-authentication", *l.address)
	}
	if addr.IP != nil && !addr.IP.IsUnspecified() {
		// Calling a host by its address is no rebinding of a name.
		*l.allowedHosts = append(*l.allowedHosts, addr.IP.String())
	}
	return addr, nil
}

func listenOn(addr *net.TCPAddr) (net.Listener, error) {
	listener, err := net.ListenTCP("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w; is mcpool running already? --listen chooses another address", err)
	}
	return listener, err
}

// serveUntil serves HTTP until ctx ends, and then stops in order: drain first,
// which refuses new calls and waits for those in flight; then the server, when
// their answers are written; then finish. All of it may take drainTimeout; a
// second signal ends that at once.
func serveUntil(ctx context.Context, listener net.Listener, handler http.Handler, l *listenFlags,
	log *slog.Logger, drain, finish func(context.Context) error) error {
	// Neither ReadTimeout nor WriteTimeout: they would end calls and streams
	// that may take long.
	server := &http.Server{
		Handler:           boundBodies(handler),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	silent := &silentConns{conns: map[net.Conn]struct{}{}}
	server.ConnState = silent.note
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(boundWrites{listener}) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}

	within, cancel := context.WithTimeoutCause(context.Background(), *l.drainTimeout,
		fmt.Errorf("--drain-timeout of %v is over", *l.drainTimeout))
	defer cancel()
	within, stop := signal.NotifyContext(within, os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.Info("stopping", "drain_timeout", *l.drainTimeout)
	errs := []error{err, drain(within), silent.close(), shutDown(within, server), finish(within)}
	for i, err := range errs {
		if errors.Is(err, http.ErrServerClosed) {
			errs[i] = nil
		}
	}
	if err == nil {
		<-failed // Serve has returned
	}
	log.Info("stopped")
	return errors.Join(errs...)
}

const (
	// maxHeader bounds the headers of a request, in bytes. Those that mirror
	// arguments (Mcp-Param-*) are the longest.
	maxHeader = 64 << 10
	// bodyTime is how long a client may take to send the body of a request, and
	// writeTime to read what is written at once.
	bodyTime  = 30 * time.Second
	writeTime = 30 * time.Second
)

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
	mu    sync.Mutex
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

func (s *silentConns) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close() // there is nobody to tell
	}
	return nil
}

// answerTime is how long the answers of calls that were cut off may take to be
// written.
const answerTime = time.Second

// shutDown ends the server when its answers are written, or ctx ends. When ctx
// has ended before, it is still said to the clients whose calls were cut off.
func shutDown(ctx context.Context, server *http.Server) error {
	if ctx.Err() != nil {
		late, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), answerTime, context.Cause(ctx))
		defer cancel()
		ctx = late
	}
	err := server.Shutdown(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("answers not written in time: %w", context.Cause(ctx))
	}
	return errors.Join(err, server.Close())
}
