package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A pool is the connections of one kind to a database. Callers are served in
// the order in which they come.
type pool struct {
	db      *sql.DB
	options *engine.Options
	slots   chan struct{} // one in it for each connection in use
	opened  atomic.Bool
	waiting atomic.Int64
	waited  atomic.Int64 // calls that had to wait
	waitFor atomic.Int64 // how long they did, in nanoseconds
}

func newPool(k *connector, o *engine.Options) *pool {
	size := max(o.Pool.MaxOpen, 1)
	p := &pool{db: sql.OpenDB(k), options: o, slots: make(chan struct{}, size)}
	p.db.SetMaxOpenConns(size)
	p.db.SetMaxIdleConns(size)
	p.db.SetConnMaxIdleTime(o.Pool.MaxIdleTime)
	p.db.SetConnMaxLifetime(o.Pool.MaxLifetime) // of those that nobody gives back; see conn.IsValid
	return p
}

// enter waits for a connection to be free.
func (p *pool) enter(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	began := time.Now()
	p.waiting.Add(1)
	defer func() {
		p.waiting.Add(-1)
		p.waited.Add(1)
		p.waitFor.Add(int64(time.Since(began)))
	}()
	limited, cancel := within(ctx, p.options.Pool.AcquireTimeout, engine.ErrExhausted)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-limited.Done():
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &engine.Error{Code: engine.PoolExhausted, Layer: engine.LayerPool, Retryable: true,
		Message: fmt.Sprintf("all %d connections were busy for %v, and %d calls wait for one",
			len(p.slots), p.options.Pool.AcquireTimeout, p.waiting.Load()),
		Next: "try again in some seconds, with fewer calls at a time"}
}

// use lends a connection to fn. If fn finds it lost before anything was asked
// of it, another one is taken.
func (p *pool) use(ctx context.Context, fn func(*conn) error) error {
	if err := p.enter(ctx); err != nil {
		return err
	}
	defer func() { <-p.slots }()
	for {
		again, err := p.lend(ctx, fn)
		if !again {
			return err
		}
	}
}

func (p *pool) lend(ctx context.Context, fn func(*conn) error) (again bool, err error) {
	p.opened.Store(true)
	c, err := p.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	rawErr := c.Raw(func(raw any) error {
		own := raw.(*conn)
		wasUsed := own.used
		own.used = true
		err = fn(own)
		again = wasUsed && errors.Is(err, errStale)
		if own.broken {
			return driver.ErrBadConn
		}
		return nil
	})
	if closeErr := c.Close(); err == nil && rawErr != nil && !errors.Is(rawErr, driver.ErrBadConn) {
		err = errors.Join(rawErr, closeErr)
	}
	return again, err
}

// stats are what [engine.Info] has of a pool.
func (p *pool) stats() map[string]int64 {
	s := p.db.Stats()
	return map[string]int64{"max_open": int64(cap(p.slots)), "open": int64(s.OpenConnections), "in_use": int64(len(p.slots)),
		"idle": int64(s.Idle), "waiting": p.waiting.Load(), "waited": p.waited.Load(),
		"waited_ms": p.waitFor.Load() / int64(time.Millisecond)}
}

// within bounds a context by d, if that is not zero, with cause as its cause.
func within(ctx context.Context, d time.Duration, cause error) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, d, cause)
}

// A gate keeps callers from a database that is down: one of them at a time
// tries to open a connection, at intervals that grow from 1 to 30 s, and the
// others are told what it was told.
type gate struct {
	mu     sync.Mutex // guards what follows
	failed int        // times in a row
	err    error      // of the last time
	next   time.Time  // when to try again
	trying bool       // somebody does
}

const firstPause, lastPause = time.Second, 30 * time.Second

func (g *gate) pass(ctx context.Context, open func() error) error {
	g.mu.Lock()
	if g.failed > 0 && (g.trying || time.Now().Before(g.next)) {
		defer g.mu.Unlock()
		return &pausedError{g.err, max(time.Until(g.next), 0)}
	}
	g.trying = g.failed > 0
	g.mu.Unlock()

	err := open()

	g.mu.Lock()
	defer g.mu.Unlock()
	g.trying = false
	switch {
	case err == nil:
		g.failed, g.err = 0, nil
	case ctx.Err() != nil: // the caller went away, which says nothing of the database
	default:
		g.failed++
		g.err = err
		pause := min(firstPause<<min(g.failed-1, 10), lastPause)
		g.next = time.Now().Add(pause)
		return &pausedError{err, pause}
	}
	return err
}

// A pausedError says when the database is tried again.
type pausedError struct {
	err   error
	after time.Duration
}

func (e *pausedError) Error() string { return e.err.Error() }
func (e *pausedError) Unwrap() error { return e.err }
