package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mcpool-dev/mcpool/auth"
	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/internal/serving"
)

// defaultListen is where the gateway listens, and where its clients look.
const defaultListen = "127.0.0.1:7432"

// listenFlags are the flags of a command that serves HTTP.
type listenFlags struct {
	called                       func(flag string) string // what they are called in errors
	address                      *string
	open                         *bool
	allowedHosts, allowedOrigins *[]string
	drainTimeout                 *time.Duration
	tls                          *tls.Config                // nil for none
	files                        atomic.Pointer[tls.Config] // what it is made with now
}

// listenFlagNames are their names.
var listenFlagNames = []string{"listen", "listen-without-authentication", "allowed-hosts", "allowed-origins", "drain-timeout"}

func (f *flags) listen(address, usage string) *listenFlags {
	return &listenFlags{
		called:         f.called,
		address:        f.String("listen", address, usage),
		open:           f.Bool("listen-without-authentication", false, "listen beyond loopback although anyone who gets there may call every tool"),
		allowedHosts:   f.list("allowed-hosts", "names this gateway is called by, besides those of loopback"),
		allowedOrigins: f.list("allowed-origins", "origins whose web pages may call, besides those of loopback"),
		drainTimeout:   f.period("drain-timeout", 30*time.Second, "how long calls in flight may take when the program ends"),
	}
}

// resolve returns where to listen.
func (l *listenFlags) resolve() (*net.TCPAddr, error) {
	addr, err := net.ResolveTCPAddr("tcp", *l.address)
	if err != nil {
		return nil, usagef("%s %q: want HOST:PORT such as %s: %w", l.called("listen"), *l.address, defaultListen, err)
	}
	l.named(addr)
	return addr, nil
}

// named has an address be one that the gateway is called by.
func (l *listenFlags) named(addr *net.TCPAddr) {
	if addr.IP != nil && !addr.IP.IsUnspecified() {
		// Calling a host by its address is no rebinding of a name.
		*l.allowedHosts = append(*l.allowedHosts, addr.IP.String())
	}
}

// inherited checks the address of a socket that this process was started with.
func (l *listenFlags) inherited(listener net.Listener, who *auth.Options, t config.TLS, log *slog.Logger) error {
	switch addr := listener.Addr().(type) {
	case *net.TCPAddr:
		l.named(addr)
		return l.permit(addr, fmt.Sprintf("the socket %s that this program was started with", addr), who, t, log)
	case *net.UnixAddr: // who may connect is said by the modes of the file
		return nil
	default:
		return fmt.Errorf("the socket that this program was started with is of %s: want one of TCP, or a Unix stream", addr.Network())
	}
}

// secure sets how clients at addr are spoken to. It refuses an address beyond
// loopback where anybody may call, unless told in words.
func (l *listenFlags) secure(addr *net.TCPAddr, who *auth.Options, t config.TLS, log *slog.Logger) error {
	if err := l.permit(addr, fmt.Sprintf("%s %q", l.called("listen"), *l.address), who, t, log); err != nil {
		return err
	}
	if who != nil && who.URL != "" {
		if u, err := url.Parse(who.URL); err == nil { // which was checked
			*l.allowedHosts = append(*l.allowedHosts, u.Host)
		}
	}
	if t.CertFile != "" {
		return l.speak(t, log)
	}
	return nil
}

// speak has the handshakes from now on made with the files of t.
func (l *listenFlags) speak(t config.TLS, log *slog.Logger) error {
	files, err := serving.TLS(t.CertFile, t.KeyFile, t.ClientCAFile, log)
	if err != nil {
		return err
	}
	l.files.Store(files)
	if l.tls == nil {
		l.tls = &tls.Config{
			MinVersion: files.MinVersion,
			GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				return l.files.Load().GetConfigForClient(hello)
			},
		}
	}
	return nil
}

// permit refuses an address beyond loopback where anybody may call, unless told
// in words. what names it.
func (l *listenFlags) permit(addr *net.TCPAddr, what string, who *auth.Options, t config.TLS, log *slog.Logger) error {
	switch beyond := !addr.IP.IsLoopback(); {
	case beyond && who == nil && !*l.open:
		return hinted{usagef("%s is beyond loopback, and there is no authentication: anyone who reaches it could call every tool", what),
			"configure auth, listen on 127.0.0.1 behind a proxy that knows who calls, or say --listen-without-authentication"}
	case beyond && who != nil && t.CertFile == "":
		log.Warn("keys and tokens cross the network in the clear: configure tls, or have a proxy that speaks it before this", "listen", addr.String())
	}
	return nil
}

// scheme is that of the URLs at which clients are served.
func (l *listenFlags) scheme() string {
	if l.tls != nil {
		return "https"
	}
	return "http"
}

func listenOn(addr *net.TCPAddr) (net.Listener, error) {
	listener, err := net.ListenTCP("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, hinted{err, "is mcpool running already? --listen chooses another address"}
	}
	return listener, err
}

// serveUntil serves HTTP until ctx ends, and then stops in order: drain first,
// which refuses new calls and waits for those in flight; then the server, when
// their answers are written; then finish. All of it may take drainTimeout; a
// second signal ends that at once.
func serveUntil(ctx context.Context, listener net.Listener, handler http.Handler, l *listenFlags,
	log *slog.Logger, drain func(context.Context, *serving.Server) error, finish func(context.Context) error) error {
	server := serving.New(handler, log)
	failed := make(chan error, 1)
	go func() {
		if l.tls != nil {
			failed <- server.ServeTLS(listener, l.tls)
		} else {
			failed <- server.Serve(listener)
		}
	}()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}

	within, cancel := context.WithTimeoutCause(context.Background(), *l.drainTimeout,
		fmt.Errorf("%s of %v is over", l.called("drain-timeout"), *l.drainTimeout))
	defer cancel()
	within, stop := signal.NotifyContext(within, os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.Info("stopping", "drain_timeout", *l.drainTimeout)
	errs := []error{err, drain(within, server), server.Shutdown(within), finish(within)}
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
