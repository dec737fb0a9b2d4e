package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/serving"
)

// What a gateway tells programs that join it.
const (
	headerVersion       = "Mcpool-Version"
	headerConfiguration = "Mcpool-Configuration" // the fingerprint
	headerReturns       = "Mcpool-Returns"       // "true" of one that is started again when it has ended
)

const (
	// returnTime is how long a gateway that is started again by others may take
	// to be there, before its place is taken.
	returnTime = 5 * time.Second
	// joinPause is how long the most to wait is before a gateway that is just
	// beginning, or ending, is tried again.
	joinPause = 50 * time.Millisecond
)

// serveStdio serves one client over standard input and output, by the gateway
// at addr. If there is none this process becomes it, for as long as its own
// client is there.
func serveStdio(ctx context.Context, s *service, addr *net.TCPAddr, text []byte, std stdio) error {
	token, err := s.callerKey.read()
	if err != nil {
		return err
	}
	m := &member{service: s, addr: addr, text: text, token: token}
	m.serving, m.stop = context.WithCancel(ctx)
	err = gateway.Relay(ctx, std.in, std.out, *s.listen.drainTimeout, m.connect)
	m.stop()
	if m.ended != nil {
		err = errors.Join(err, <-m.ended)
	}
	return err
}

// A member is one of the programs of which one is the gateway.
type member struct {
	*service
	addr    *net.TCPAddr
	text    []byte // of the configuration
	token   string // with which this program joins; "" for none
	returns bool   // the last gateway is started again when it has ended

	serving context.Context // ends when this is not to be the gateway any more
	stop    context.CancelFunc
	ended   chan error // gets why the gateway has ended; nil while this is none
}

// connect joins the gateway, or becomes it.
func (m *member) connect(ctx context.Context) (*gateway.Joined, error) {
	free := time.Now() // when the place may be taken
	if m.returns {
		free = free.Add(returnTime)
	}
	for {
		joined, err := gateway.Join(ctx, m.addr.String(), m.token)
		switch {
		case err == nil:
			m.greet(joined.Header)
			return joined, nil
		case errors.Is(err, gateway.ErrNotAdmitted):
			return nil, hinted{err, "--key-file or " + keyVariable + " has it"}
		case errors.Is(err, gateway.ErrNotJoinable):
			return nil, hinted{err, "--listen chooses another address"}
		case errors.Is(err, syscall.ECONNREFUSED) && !time.Now().Before(free):
			err = m.become()
			if err == nil {
				continue
			}
			if !errors.Is(err, syscall.EADDRINUSE) { // or another was faster
				return nil, err
			}
		}
		select {
		case <-time.After(rand.N(joinPause)): // #nosec G404 -- to spread what would come together
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// greet says in the log whom the client is served by.
func (m *member) greet(header http.Header) {
	m.returns = header.Get(headerReturns) == "true"
	if m.ended != nil {
		return // it was said
	}
	m.log.Info("joined the gateway", "gateway", m.addr, "version", header.Get(headerVersion))
	if header.Get(headerConfiguration) != m.fingerprint(m.text) {
		m.log.Warn("the gateway was started with another configuration or other settings than this program: its own apply", "gateway", m.addr)
	}
}

// become makes this process the gateway.
func (m *member) become() error {
	listener, err := net.ListenTCP("tcp", m.addr)
	if err != nil {
		return err
	}
	o, err := m.open(m.text)
	if err != nil {
		_ = listener.Close()
		return err
	}
	m.log.Info("serving", "mcp", "http://"+listener.Addr().String()+"/mcp")
	if m.ended != nil { // it was the gateway before, which has failed
		if err := <-m.ended; err != nil {
			m.log.Error("the gateway of this program failed, and is begun again", "error", err)
		}
	}
	m.ended = make(chan error, 1)
	go func() {
		m.ended <- m.serve(m.serving, o, listener, func(context.Context, *serving.Server) {
			_ = listener.Close() // so that another takes the place at once
		})
	}()
	return nil
}
