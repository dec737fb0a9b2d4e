package main

import (
	"context"

	"github.com/jackc/puddle/v2"
)

// puddlePool is the pool under pgx.
type puddlePool struct{ *puddle.Pool[*conn] }

func openPuddle(conns, slots int) lender {
	p, err := puddle.NewPool(&puddle.Config[*conn]{
		Constructor: func(context.Context) (*conn, error) { return new(conn), nil },
		Destructor:  func(*conn) {},
		MaxSize:     int32(conns * slots),
	})
	must(err)
	return puddlePool{p}
}

func (p puddlePool) pairs(ctx context.Context, n int, call func()) error {
	for range n {
		r, err := p.Acquire(ctx)
		if err != nil {
			return err
		}
		if call != nil {
			call()
		}
		r.Release()
	}
	return nil
}

func (p puddlePool) hold(ctx context.Context) (func(), error) {
	r, err := p.Acquire(ctx)
	return func() { r.Release() }, err
}

func (p puddlePool) close() { p.Close() }
