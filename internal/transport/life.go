package transport

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A life counts what runs on a connection, so that closing it can end all of
// it and wait until nothing is left.
type life struct {
	ctx   context.Context // ends when closing begins, and the calls with it
	end   context.CancelCauseFunc
	last  context.Context // ends when closing has to be over, and what is sent at the end
	hurry context.CancelFunc

	changes changes
	logging logging

	heard atomic.Int64 // when the server was heard from last, in nanoseconds since 1970

	mu      sync.Mutex // guards closing and spans, and keeps running.Add before running.Wait
	closing bool
	spans   *span // that closing ends; a list, as a call has no time for more
	running sync.WaitGroup
	over    chan struct{}
}

func newLife(all func(Change)) *life {
	l := &life{changes: changes{all: all}, over: make(chan struct{})}
	l.ctx, l.end = context.WithCancelCause(context.Background())
	l.last, l.hurry = context.WithCancel(context.Background())
	l.hear()
	return l
}

// hear notes that something has come from the server.
func (l *life) hear() { l.heard.Store(time.Now().UnixNano()) }

// Heard implements Conn.
func (l *life) Heard() time.Time { return time.Unix(0, l.heard.Load()) }

// hearing is what a server sends on a connection.
type hearing struct {
	io.Reader
	life *life
}

func (h hearing) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if n > 0 {
		h.life.hear()
	}
	return n, err
}

// enter reports whether a call may begin; leave must follow if it may.
func (l *life) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closing {
		l.running.Add(1)
	}
	return !l.closing
}

func (l *life) leave() { l.running.Done() }

// spawn runs f in a goroutine that closing waits for. Only what has entered,
// or was spawned itself, may spawn.
func (l *life) spawn(f func()) { l.running.Go(f) }

// add has closing end a span, until it is removed.
func (l *life) add(s *span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		s.cancel(errClosed)
	}
	if s.next = l.spans; s.next != nil {
		s.next.prev = s
	}
	l.spans = s
}

func (l *life) remove(s *span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.next != nil {
		s.next.prev = s.prev
	}
	if s.prev != nil {
		s.prev.next = s.next
	} else if l.spans == s {
		l.spans = s.next
	}
	s.next, s.prev = nil, nil
}

// close ends the calls, runs farewell beside their end, and waits for all of
// it. When ctx ends, last is ended too. Closing again waits for the same end.
func (l *life) close(ctx context.Context, farewell func()) {
	stop := context.AfterFunc(ctx, l.hurry)
	defer stop()
	l.mu.Lock()
	first := !l.closing
	l.closing = true
	for s := l.spans; s != nil; s = s.next {
		s.cancel(errClosed)
	}
	l.mu.Unlock()
	if !first {
		<-l.over
		return
	}
	l.end(errClosed)
	farewell()
	l.running.Wait()
	l.hurry()
	close(l.over)
}
