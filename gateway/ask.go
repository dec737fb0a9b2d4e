package gateway

import (
	"context"
	"encoding/json"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// ask makes the call of a request to one server and returns its answer. emit,
// if any, gets the events that the client asked for. The error is an
// [*rpc.Error], a [*timeoutError], or the handler's.
func (q *request) ask(ctx context.Context, s *Server, params json.RawMessage, emit func(frame []byte)) (rpc.Answer, error) {
	on := &events{request: q, emit: emit}
	var timeout *timeoutError
	if s.CallTimeout > 0 {
		timeout = &timeoutError{server: s.Name, timeout: s.CallTimeout, ran: true}
		cancel := q.cancel
		if cancel == nil {
			ctx, cancel = context.WithCancelCause(ctx)
			defer cancel(nil)
		}
		timer := time.AfterFunc(s.CallTimeout, func() { cancel(timeout) })
		defer timer.Stop()
		on.extend = func() { timer.Reset(s.CallTimeout) }
	}
	answer, err := s.Handler.Do(ctx, rpc.Call{
		Method: q.method,
		Params: params,
		Caller: rpc.Caller{Session: q.session},
		Events: on,
	})
	if err == nil {
		return answer, nil
	}
	if timeout != nil && context.Cause(ctx) == error(timeout) && !isAnswer(err) {
		return rpc.Answer{}, &timeoutError{server: s.Name, timeout: s.CallTimeout, ran: !mcpool.SafeToRetry(err)}
	}
	return rpc.Answer{}, err
}

// events is what a server sends during one call.
type events struct {
	request *request
	emit    func(frame []byte) // nil: the client wants none
	extend  func()             // starts the call's timeout anew; nil: it has none
}

// Notify passes on the progress and the log messages that the client asked
// for.
func (on *events) Notify(method string, params json.RawMessage) {
	wanted := false
	switch method {
	case notifyProgress:
		if on.extend != nil {
			on.extend()
		}
		wanted = on.request.progress
	case notifyMessage:
		// A message without a level that is known ranks with the most severe.
		level := logLevel(jsonrpc.GetString(params, "level"))
		wanted = on.request.logLevel != noLog && level >= on.request.logLevel
	}
	if wanted && on.emit != nil {
		on.emit(oneLine(jsonrpc.AppendRequest(nil, nil, method, params)))
	}
}

// Ask refuses every request: the client was never asked what it can do.
func (on *events) Ask(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, error) {
	return nil, rpc.Errorf(rpc.CodeMethodNotFound, "the client did not say that it answers %s", method)
}

// oneLine makes a frame of ours fit where a line break ends it. JSON has them
// between its tokens only, so a space does as well.
func oneLine(frame []byte) []byte {
	for i, c := range frame {
		if c == '\n' || c == '\r' {
			frame[i] = ' '
		}
	}
	return frame
}
