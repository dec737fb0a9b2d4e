package transport

import (
	"context"
	"errors"

	"github.com/mcpool-dev/mcpool/rpc"
)

// InProcess returns the endpoint of a handler in this process. Its connections
// have no era and no session; name is what Peer says. The handler has to
// return when the ctx of a call ends, for Call and Close wait for it.
func InProcess(name string, handler rpc.Handler) *Endpoint {
	return &Endpoint{opener: &handlerEndpoint{name, handler}}
}

type handlerEndpoint struct {
	name    string
	handler rpc.Handler
}

func (e *handlerEndpoint) open(context.Context, Known, rpc.Capabilities, Authorize) (Conn, error) {
	return &handlerConn{life: newLife(nil), endpoint: e}, nil
}

func (e *handlerEndpoint) close() {}

// A handlerConn is a connection to a handler in this process.
type handlerConn struct {
	*life
	endpoint *handlerEndpoint
}

func (c *handlerConn) Call(ctx context.Context, call rpc.Call, _ Authorize) (rpc.Answer, error) {
	if !c.enter() {
		return rpc.Answer{}, &Failure{Fate: NotSent, Dead: true, Err: errClosed}
	}
	defer c.leave()
	if ctx.Err() != nil {
		return rpc.Answer{}, &Failure{Fate: NotSent, Err: context.Cause(ctx)}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.ctx, func() { cancel(errClosed) })
	defer stop()

	answer, err := c.endpoint.handler.Do(ctx, call)
	if err == nil {
		return answer, nil
	}
	if said := (*rpc.Error)(nil); errors.As(err, &said) {
		return rpc.Answer{}, said
	}
	if cause := context.Cause(ctx); cause != nil {
		return rpc.Answer{}, &Failure{Fate: MayHaveRun, Dead: errors.Is(cause, errClosed), Err: cause}
	}
	return rpc.Answer{}, &Failure{Fate: MayHaveRun, Err: err}
}

func (c *handlerConn) Check(context.Context) error { return nil }
func (c *handlerConn) Peer() Peer                  { return Peer{Name: c.endpoint.name, InProcess: true} }
func (c *handlerConn) Done() <-chan struct{}       { return nil }
func (c *handlerConn) Close(ctx context.Context)   { c.close(ctx, func() {}) }
