package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

type ctxHandler = ctxwatch.Handler

// A conn is one connection. It belongs to one call or is idle in its pool.
type conn struct {
	pg      *pgconn.PgConn
	in      *stream // from which pg reads
	expires time.Time
	used    bool        // it has served a call before
	unused  *time.Timer // closes it; runs while it is idle
}

// close ends the connection and returns when nothing of it is left.
func (c *conn) close() {
	ctx, cancel := context.WithTimeout(context.Background(), cancelDelay)
	defer cancel()
	if c.pg.IsClosed() {
		_ = c.pg.Conn().Close() // pgconn would read on for 15 s
	}
	_ = c.pg.Close(ctx)
	<-c.pg.CleanupDone()
}

// A pool keeps connections. Those who wait for one get it in their order.
type pool struct {
	limits engine.Pool
	open   func(ctx context.Context) (*conn, error)

	permits chan struct{} // one is held for each connection that is not idle
	waiting atomic.Int64
	waited  atomic.Int64 // calls that had to wait
	waitedD atomic.Int64 // for how long, in ns
	opened  atomic.Int64
	work    sync.WaitGroup // resets and closings

	mu     sync.Mutex // guards idle, closed
	idle   []*conn    // the one used last at the end
	closed bool

	gate gate
}

func newPool(limits engine.Pool, open func(ctx context.Context) (*conn, error)) *pool {
	return &pool{limits: limits, open: open, permits: make(chan struct{}, max(limits.MaxOpen, 1))}
}

// acquire returns a connection for one call, which [pool.release] takes back.
// With fresh set it is a new one.
func (p *pool) acquire(ctx context.Context, fresh bool) (*conn, error) {
	if err := p.permit(ctx); err != nil {
		return nil, err
	}
	if !fresh {
		if c := p.pop(); c != nil {
			return c, nil
		}
	}
	c, err := p.connect(ctx)
	if err != nil {
		<-p.permits
		return nil, err
	}
	return c, nil
}

func (p *pool) permit(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case p.permits <- struct{}{}:
		return nil
	default:
	}
	p.waiting.Add(1)
	began := time.Now()
	defer func() {
		p.waiting.Add(-1)
		p.waited.Add(1)
		p.waitedD.Add(int64(time.Since(began)))
	}()
	late := time.NewTimer(p.limits.AcquireTimeout)
	defer late.Stop()
	select {
	case p.permits <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-late.C:
		return &engine.Error{Code: engine.PoolExhausted, Layer: engine.LayerPool, Retryable: true,
			Message: fmt.Sprintf("no connection came free in %v: %d of %d are in use and %d calls are waiting",
				p.limits.AcquireTimeout, len(p.permits), cap(p.permits), p.waiting.Load()),
			Next: "try again in some seconds, with fewer calls at a time"}
	}
}

// pop returns an idle connection, the one used last, if there is one.
func (p *pool) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	c := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	if c.unused != nil {
		c.unused.Stop()
	}
	return c
}

// connect opens a connection, unless opening has failed a short time ago.
func (p *pool) connect(ctx context.Context) (*conn, error) {
	if err := p.gate.enter(); err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, p.limits.ConnectTimeout)
	defer cancel()
	c, err := p.open(within)
	if err != nil && ctx.Err() != nil {
		p.gate.abandon()
		return nil, context.Cause(ctx)
	}
	p.gate.leave(err)
	if err != nil {
		return nil, err
	}
	p.opened.Add(1)
	// A tenth less at random, so that connections opened together do not end
	// together.
	life := p.limits.MaxLifetime
	if life > 0 {
		life -= rand.N(life/10 + 1) // #nosec G404 -- to spread what would come together
	}
	c.expires = time.Now().Add(life)
	return c, nil
}

// release takes a clean connection back.
func (p *pool) release(c *conn) {
	c.used = true
	if p.limits.MaxLifetime > 0 && time.Now().After(c.expires) || !p.push(c) {
		p.releaseOnce(c, func() bool { return false })
		return
	}
	<-p.permits
}

// releaseOnce takes a connection back once clean has made it clean; where that
// fails it is closed. It does not wait for either.
func (p *pool) releaseOnce(c *conn, clean func() bool) {
	p.work.Go(func() {
		if clean() {
			p.release(c)
			return
		}
		c.close()
		<-p.permits
	})
}

// push makes a connection idle, and reports whether it may be.
func (p *pool) push(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.idle = append(p.idle, c)
	if p.limits.MaxIdleTime > 0 {
		c.unused = time.AfterFunc(p.limits.MaxIdleTime, func() { p.drop(c) })
	}
	return true
}

// drop closes a connection that is idle.
func (p *pool) drop(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.idle {
		if other == c {
			p.idle = append(p.idle[:i:i], p.idle[i+1:]...)
			p.work.Go(c.close)
			return
		}
	}
}

// purge closes all connections that are idle, because one was found dead.
func (p *pool) purge() {
	for c := p.pop(); c != nil; c = p.pop() {
		p.work.Go(c.close)
	}
}

// close closes the connections and waits for the end of what is done with them.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.purge()
	p.work.Wait()
}

// stats are the figures of the pool.
func (p *pool) stats() map[string]int64 {
	p.mu.Lock()
	idle := int64(len(p.idle))
	p.mu.Unlock()
	inUse := int64(len(p.permits))
	return map[string]int64{"max": int64(cap(p.permits)), "open": idle + inUse, "in_use": inUse, "idle": idle,
		"waiting": p.waiting.Load(), "waited": p.waited.Load(), "waited_ms": p.waitedD.Load() / int64(time.Millisecond),
		"opened": p.opened.Load()}
}

// Opening is tried again after leastPause, which doubles with each failure up
// to mostPause.
const (
	leastPause = time.Second
	mostPause  = 30 * time.Second
)

// A gate keeps callers from a database that is down: after a failure one of
// them tries again when a pause is over, and the others are told the failure.
type gate struct {
	mu    sync.Mutex // guards what follows
	err   error      // of the last try, nil if it went well
	pause time.Duration
	until time.Time // nobody tries before
}

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	wait := time.Until(g.until)
	if g.err == nil || wait <= 0 {
		if g.err != nil {
			g.until = time.Now().Add(g.pause) // others wait for this try
		}
		return nil
	}
	var told *engine.Error
	if errors.As(g.err, &told) {
		again := *told
		again.RetryAfter = max(wait.Milliseconds(), 1)
		return &again
	}
	return g.err
}

func (g *gate) leave(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err = err; err == nil {
		g.pause, g.until = 0, time.Time{}
		return
	}
	g.pause = min(max(2*g.pause, leastPause), mostPause)
	g.until = time.Now().Add(g.pause)
}

// abandon says that the try was ended before it told anything of the database.
func (g *gate) abandon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = time.Now()
}
