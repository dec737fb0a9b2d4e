package transport

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

const (
	// standPause lies before a standing stream that has ended is opened again,
	// and is doubled each time that it does not begin, up to standPauseMost.
	standPause     = time.Second
	standPauseMost = 30 * time.Second
)

var errNoStream = errors.New("the server offers no stream outside of calls")

// A standing stream is that of a legacy session outside of calls, opened with
// the connection, for callers who can be asked something: some servers make
// their requests there, and not on the stream of the call that they are for.
// Whose they are nobody says, so they go to a call that is alone, and are
// declined otherwise.
type standing struct {
	mu    sync.Mutex // guards what follows
	calls map[*exchange]context.Context
	now   standingRun
	over  bool // there will be no other
}

// A standingRun is one stream after another.
type standingRun struct {
	begun, ended chan struct{} // closed when it has
}

func newStandingRun() standingRun {
	return standingRun{make(chan struct{}), make(chan struct{})}
}

// stand has the server's requests outside of calls heard for as long as the
// connection lives, and the server offers them.
func (c *httpConn) stand() {
	s := c.standing
	for wait := standPause; ; {
		begun := false
		run := s.run()
		err := c.watch(c.ctx, c.authorize, func() {
			begun = true
			close(run.begun)
		})
		again := c.ctx.Err() == nil && passes(err)
		s.ended(run, again)
		if begun {
			wait = standPause
		}
		if !again || !pause(c.ctx, wait) {
			return
		}
		wait = min(2*wait, standPauseMost)
	}
}

func (s *standing) run() standingRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *standing) ended(run standingRun, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.over = newStandingRun(), !again
	close(run.ended)
}

// settles waits until the stream has begun, or has ended, for no longer than a
// server may take that sends no headers before the first event.
func (run standingRun) settles(ctx context.Context) {
	timer := time.NewTimer(streamSilence)
	defer timer.Stop()
	select {
	case <-run.begun:
	case <-run.ended:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// hear waits for the stream to begin, and for its end.
func (s *standing) hear(ctx context.Context, begun func()) error {
	s.mu.Lock()
	run, over := s.now, s.over
	s.mu.Unlock()
	if over {
		return &Failure{Fate: Refused, Err: errNoStream}
	}
	start := run.begun
	for {
		select {
		case <-start:
			begun()
			start = nil
		case <-run.ended:
			return &Failure{Fate: MayHaveRun, Err: errStreamEnded}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// enter has an exchange asked what the server asks while it is alone, until
// leave is called. It is safe on a nil standing.
func (s *standing) enter(ctx context.Context, x *exchange) (leave func()) {
	if s == nil || x.events == nil {
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == nil {
		s.calls = make(map[*exchange]context.Context)
	}
	s.calls[x] = ctx
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.calls, x)
	}
}

// asked takes in a request of the server outside of calls.
func (c *httpConn) asked(m *jsonrpc.Message, authorize Authorize) {
	if m.Method == methodPing {
		c.reply(pong(m.ID), authorize)
		return
	}
	if x, ctx := c.standing.only(); x == nil || !x.ask(ctx, m) {
		c.reply(declined(m), authorize)
	}
}

// withdrawn takes in that the server no longer wants an answer.
func (s *standing) withdrawn(m *jsonrpc.Message) {
	if x, _ := s.only(); x != nil {
		x.withdrawn(m)
	}
}

// only returns the call in flight if there is exactly one.
func (s *standing) only() (*exchange, context.Context) {
	if s == nil {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) != 1 {
		return nil, nil
	}
	for x, ctx := range s.calls {
		return x, ctx
	}
	return nil, nil
}
