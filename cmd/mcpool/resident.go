package main

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

	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/internal/serving"
)

// A resident is a gateway that is there for all, until it is told to end or
// another process takes its place.
type resident struct {
	*service
	opened   *opened
	listener net.Listener
	left     atomic.Bool // another process has taken its place
}

// inherited is what a process was started with.
type inherited struct {
	listener net.Listener // nil for none
	paused   []string     // the servers that were paused
	ready    func()       // tells who has started this process that it serves
}

// reside serves until ctx ends, or another process has taken its place. The
// socket is the one that this process was started with, or else listens at addr.
func (s *service) reside(ctx context.Context, addr *net.TCPAddr, text []byte) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r := &resident{service: s}
	signals := listenForSignals()
	defer signals.stop()
	given, err := inherit()
	if err == nil && given.listener != nil {
		err = s.listen.inherited(given.listener, s.conf.Auth, s.conf.TLS, s.log.Logger)
		s.shownAs("listen", func(one *admin.Setting) { one.Source = "the socket that the program was started with" })
	}
	if err != nil {
		return err
	}
	s.paused = given.paused
	if r.opened, err = s.open(text); err != nil {
		return err
	}
	if r.listener = given.listener; r.listener == nil {
		if r.listener, err = listenOn(addr); err != nil {
			return errors.Join(err, r.opened.close(ctx))
		}
	}
	greet(s.std.out, s.listen.scheme(), r.listener.Addr(), s.conf)

	var work sync.WaitGroup
	defer work.Wait()
	alive, dead := context.WithCancel(context.WithoutCancel(ctx))
	defer dead() // of what is done until the end; the rest ends with ctx
	work.Go(func() { r.keepWatchdog(alive) })
	if s.file != "" {
		work.Go(func() {
			watch(ctx, func() ([]byte, error) { return readConfiguration(s.file) }, text, r.opened.settled)
		})
	}
	work.Go(func() { r.heed(ctx, signals, stop) })
	given.ready()
	tellSystemd(s.log.Logger, "READY=1")
	return s.serve(ctx, r.opened, r.listener, r.leave)
}

// leave has clients go to another process, or sees to it that a balancer sends
// them there.
func (r *resident) leave(ctx context.Context, server *serving.Server) {
	if !r.left.Load() {
		tellSystemd(r.log.Logger, "STOPPING=1")
		within, cancel := context.WithTimeout(ctx, *r.drainDelay)
		defer cancel()
		<-within.Done()
		return
	}
	// The rest of the time is for calls that take longer.
	within, cancel := context.WithTimeout(ctx, *r.listen.drainTimeout/2)
	defer cancel()
	r.opened.turnAway()
	r.opened.gateway.Leave()
	server.Leave(within)
}

// tellSystemd tells systemd something.
func tellSystemd(log *slog.Logger, lines ...string) {
	if err := notify(lines...); err != nil {
		log.Warn("systemd was not told", "error", err)
	}
}

// answers makes a request to what listens at an address, as a client does, and
// fails if it is not answered.
func answers(ctx context.Context, scheme string, addr net.Addr) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // #nosec G402 -- it is this process, and told nothing
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, addr.Network(), addr.String())
		},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://localhost/healthz", nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}
