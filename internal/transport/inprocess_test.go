package transport

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/mcpool-dev/mcpool/rpc"
)

type handler func(ctx context.Context, call rpc.Call) (rpc.Answer, error)

func (h handler) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) { return h(ctx, call) }

func TestInProcess(t *testing.T) {
	broken := errors.New("disk is gone")
	endpoint := InProcess("db", handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		switch call.Method {
		case "hang":
			<-ctx.Done()
			return rpc.Answer{}, ctx.Err()
		case "error":
			return rpc.Answer{}, rpc.Errorf(-32602, "no")
		case "broken":
			return rpc.Answer{}, broken
		}
		return rpc.Result(call.Params), nil
	}))
	defer endpoint.Close()
	synctest.Test(t, func(t *testing.T) {
		conn := open(t, endpoint, Unknown)
		if want := (Peer{Name: "db", InProcess: true}); !reflect.DeepEqual(conn.Peer(), want) || conn.Done() != nil {
			t.Errorf("Peer() = %+v, Done() = %v", conn.Peer(), conn.Done())
		}
		if err := conn.Check(t.Context()); err != nil {
			t.Errorf("Check: %v", err)
		}
		answer, err := conn.Call(t.Context(), rpc.Call{Method: "echo", Params: []byte(`{"a":1}`)}, nil)
		if err != nil || string(answer.Bytes()) != `{"a":1}` {
			t.Errorf("got %s, %v", answer.Bytes(), err)
		}
		_, err = conn.Call(t.Context(), rpc.Call{Method: "error"}, nil)
		wantError(t, err, -32602)
		_, err = conn.Call(t.Context(), rpc.Call{Method: "broken"}, nil)
		if wantFailure(t, err, MayHaveRun, false); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}

		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		hung := make(chan error, 2)
		go func() { _, err := conn.Call(ctx, rpc.Call{Method: "hang"}, nil); hung <- err }()
		synctest.Wait()
		cancel(why)
		if failure := wantFailure(t, <-hung, MayHaveRun, false); failure.Err != why {
			t.Errorf("got %v", failure)
		}
		_, err = conn.Call(ctx, rpc.Call{Method: "echo"}, nil)
		wantFailure(t, err, NotSent, false)

		go func() { _, err := conn.Call(context.Background(), rpc.Call{Method: "hang"}, nil); hung <- err }()
		synctest.Wait()
		conn.Close(t.Context())
		wantFailure(t, <-hung, MayHaveRun, true)
		_, err = conn.Call(t.Context(), rpc.Call{Method: "echo"}, nil)
		wantFailure(t, err, NotSent, true)
	})
}
