package main

import (
	"context"
	"time"

	"github.com/mcpool-dev/mcpool/internal/slots"
)

// engine is the pool's lower half: slots and waiters without MCP.
type engine struct {
	pool *slots.Pool[string, *conn]
	key  slots.Key[string]
}

// conn is a connection that costs nothing.
type conn struct{ _ int }

// openEngine has the times that mcpool.DefaultConfig has.
func openEngine(conns, room int) lender {
	return &engine{
		pool: slots.New(slots.Options[string, *conn]{
			Open: func(context.Context, string) (slots.Opened[*conn], error) {
				return slots.Opened[*conn]{Conn: new(conn), Slots: room}, nil
			},
			Close: func(context.Context, *conn, slots.Reason) {},
			Check: func(context.Context, *conn) error { return nil },
			Min:   conns, Total: conns, AccountTotal: conns, MaxOpening: conns, MaxWaiting: 1e6, WaitingEach: 1e6, MaxCalls: 1e15,
			OpenTimeout: time.Minute, IdleTimeout: 10 * time.Minute, MaxAge: 2 * time.Hour,
			CheckInterval: 5 * time.Minute, CheckTimeout: 10 * time.Second, BreakAfter: 10 * time.Second,
		}),
		key: slots.Key[string]{ID: "local", Max: conns, Slots: room},
	}
}

func (e *engine) acquire(ctx context.Context) (slots.Lease[string, *conn], error) {
	return e.pool.Acquire(ctx, &e.key, slots.Ask{Who: "local", Timeout: time.Minute})
}

func (e *engine) pairs(ctx context.Context, n int, call func()) error {
	for range n {
		l, err := e.acquire(ctx)
		if err != nil {
			return err
		}
		if call != nil {
			call()
		}
		l.Release()
	}
	return nil
}

func (e *engine) hold(ctx context.Context) (func(), error) {
	l, err := e.acquire(ctx)
	return func() { l.Release() }, err
}

func (e *engine) close() { must(e.pool.Close(context.Background())) }
