package main

import (
	"context"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

// everythingOn is the config of every mcpool.Pool that is measured: with
// whatever a program may have switched on.
func everythingOn() mcpool.Config {
	c := mcpool.DefaultConfig()
	c.ConnectionTimeout = time.Minute
	c.MaxWaiting = 0 // there are cases with more callers than the default lets wait
	c.Hooks = mcpool.Hooks{
		AcquireStart: func(ctx context.Context, _ mcpool.AcquireStart) context.Context { return ctx },
		AcquireEnd:   func(context.Context, mcpool.AcquireEnd) {},
		CallStart:    func(ctx context.Context, _ mcpool.CallStart) context.Context { return ctx },
		CallEnd:      func(context.Context, mcpool.CallEnd) {},
		OpenStart:    func(ctx context.Context, _ mcpool.OpenStart) context.Context { return ctx },
		OpenEnd:      func(context.Context, mcpool.OpenEnd) {},
		CloseStart:   func(ctx context.Context, _ mcpool.CloseStart) context.Context { return ctx },
		CloseEnd:     func(context.Context, mcpool.CloseEnd) {},
	}
	return c
}

// pool is an mcpool.Pool over HTTP to a server that is not there: slots are
// lent and nothing is called.
type pool struct{ *mcpool.Pool }

func openPool(conns, slots int) lender {
	c := everythingOn()
	c.MinConnections, c.MaxConnections, c.CallsPerConnection = conns, conns, slots
	c.LazyInitialization = false
	p, err := mcpool.New(mcpool.Server{Name: "bench", URL: "http://bench.invalid/mcp", RoundTripper: legacyServer{}}, &c)
	must(err)
	return pool{p}
}

func (p pool) pairs(ctx context.Context, n int, call func()) error {
	for range n {
		l, err := p.Acquire(ctx, rpc.Caller{}, mcpool.Slot)
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

func (p pool) hold(ctx context.Context) (func(), error) {
	l, err := p.Acquire(ctx, rpc.Caller{}, mcpool.Slot)
	return l.Release, err
}

func (p pool) close() { must(p.Close(context.Background())) }
