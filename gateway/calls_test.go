package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A waiter is a handler whose calls wait until they are let go or cancelled.
type waiter struct {
	began chan context.Context // of each call
	free  chan struct{}
}

func newWaiter() *waiter { return &waiter{make(chan context.Context, 100), make(chan struct{})} }

func (h *waiter) Do(ctx context.Context, _ rpc.Call) (rpc.Answer, error) {
	h.began <- ctx
	select {
	case <-h.free:
		return rpc.Result(json.RawMessage(`{}`)), nil
	case <-ctx.Done():
		return rpc.Answer{}, ctx.Err()
	}
}

const waitFrame = `{"jsonrpc":"2.0","id":"\u0061","method":"tools/call","params":{"name":"x"}}`

func TestLegacyClientsCancelInWords(t *testing.T) {
	t.Parallel()
	h := newWaiter()
	g := newGateway(t, nil, one(h))
	mine, other := initialize(t, g, "/mcp"), initialize(t, g, "/mcp")
	answered := make(chan response)
	go func() { answered <- legacyPost(g, "/mcp", mine, waitFrame) }()
	ctx := <-h.began
	cancel := func(session, params string) {
		t.Helper()
		if r := legacyPost(g, "/mcp", session, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":`+params+`}`); r.status != 202 {
			t.Errorf("cancel %s: got %s", params, r)
		}
	}
	cancel(other, `{"requestId":"a"}`)
	cancel(mine, `{"requestId":"b"}`)
	cancel(mine, `{"requestId":{}}`)
	cancel(mine, `{}`)
	if ctx.Err() != nil {
		t.Fatal("the call was cancelled by what did not mean it")
	}
	cancel(mine, `{"requestId":"a"}`)
	if r := <-answered; r.status != 200 || r.code(t) != -32800 || !errors.Is(context.Cause(ctx), errCancelled) {
		t.Errorf("got %s, cause %v", r, context.Cause(ctx))
	}
	cancel(mine, `{"requestId":"a"}`)
}

func TestAnIDIsUsedOnceAtATimeInASession(t *testing.T) {
	t.Parallel()
	h := newWaiter()
	g := newGateway(t, nil, one(h))
	mine, other := initialize(t, g, "/mcp"), initialize(t, g, "/mcp")
	var calls sync.WaitGroup
	calls.Go(func() {
		if r := legacyPost(g, "/mcp", mine, waitFrame); r.status != 200 || r.code(t) != 0 {
			t.Errorf("got %s", r)
		}
	})
	<-h.began
	if r := legacyPost(g, "/mcp", mine, strings.Replace(waitFrame, `\u0061`, "a", 1)); r.status != 400 || r.code(t) != -32600 {
		t.Errorf("the same again: got %s", r)
	}
	for _, again := range []func() response{
		func() response { return legacyPost(g, "/mcp", other, waitFrame) },
		func() response { return legacyPost(g, "/mcp", mine, strings.Replace(waitFrame, `"\u0061"`, "1", 1)) },
		func() response { return callModern(g, "/mcp", "x", "") },
		func() response { return callModern(g, "/mcp", "x", "") },
	} {
		calls.Go(func() {
			if r := again(); r.status != 200 || r.code(t) != 0 {
				t.Errorf("got %s", r)
			}
		})
		<-h.began
	}
	close(h.free)
	calls.Wait()
	if r := legacyPost(g, "/mcp", mine, waitFrame); r.status != 200 {
		t.Errorf("after it: got %s", r)
	}
}

func TestGoingAwayCancelsForModernClientsAlone(t *testing.T) {
	t.Parallel()
	h := newWaiter()
	ended := make(chan error, 1)
	g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		answer, err := h.Do(ctx, call)
		ended <- err
		return answer, err
	})))
	server := httptest.NewServer(g)
	defer server.Close()
	leave := func(body string, headers ...string) context.Context {
		ctx, cancel := context.WithCancel(context.Background())
		left := make(chan struct{})
		go func() {
			defer close(left)
			if resp := sendContext(t, ctx, server, body, headers...); resp != nil {
				resp.Body.Close()
				t.Error("there was an answer")
			}
		}()
		call := <-h.began
		cancel()
		<-left
		return call
	}
	leave(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x",`+meta+`}}`,
		"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "x")
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("modern: the call ended with %v", err)
	}
	session := initialize(t, g, "/mcp")
	call := leave(waitFrame, "Mcp-Session-Id", session)
	// The client that has gone may still cancel, with a new connection.
	if r := legacyPost(g, "/mcp", session, `{"jsonrpc":"2.0","method":"ping","id":1}`); r.status != 200 || call.Err() != nil {
		t.Errorf("legacy: the call was cancelled: %v", context.Cause(call))
	}
	close(h.free)
	if err := <-ended; err != nil {
		t.Errorf("legacy: the call ended with %v", err)
	}
}

func TestCloseWaitsForCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newWaiter()
		g := newGateway(t, nil, one(h))
		answered := make(chan response, 1)
		go func() { answered <- callModern(g, "/mcp", "x", "") }()
		<-h.began
		closed := make(chan error, 2)
		for range 2 {
			go func() { closed <- g.Close(t.Context()) }()
		}
		synctest.Wait()
		r := callModern(g, "/mcp", "x", "")
		if r.status != 503 || r.header.Get("Retry-After") != "1" || r.code(t) != -32603 {
			t.Errorf("a new call: got %s", r)
		}
		r = do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`)
		if r.status != 503 || r.header.Get("Mcp-Session-Id") != "" {
			t.Errorf("initialize: got %s", r)
		}
		close(h.free)
		if r := <-answered; r.status != 200 || r.code(t) != 0 {
			t.Errorf("the call: got %s", r)
		}
		for range 2 {
			if err := <-closed; err != nil {
				t.Error(err)
			}
		}
		if err := g.Close(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

func TestCloseCancelsCallsWhenItsTimeIsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newWaiter()
		g := newGateway(t, nil, one(h))
		session := initialize(t, g, "/mcp")
		answered := make(chan response, 2)
		go func() { answered <- callModern(g, "/mcp", "x", "") }()
		go func() { answered <- legacyPost(g, "/mcp", session, waitFrame) }()
		<-h.began
		<-h.began
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		err := g.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 calls") || time.Since(began) != 3*time.Second {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
		for range 2 {
			if r := <-answered; r.status != 200 || r.code(t) != -32603 || !strings.Contains(r.body, "may have run") {
				t.Errorf("got %s", r)
			}
		}
		if err := g.Close(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

// TestACallThatWaitsIsNotMadeWhenTimeIsUp: what has no slot yet was sent nowhere.
func TestACallThatWaitsIsNotMadeWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(handler(func(ctx context.Context, _ rpc.Call) (rpc.Answer, error) {
			<-ctx.Done()
			return rpc.Answer{}, &mcpool.Error{Server: "one", Err: context.Cause(ctx)}
		})))
		answered := make(chan response, 1)
		go func() { answered <- callModern(g, "/mcp", "x", "") }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_ = g.Close(ctx)
		if r := <-answered; r.status != 503 || !strings.Contains(r.body, errClosed.Error()) {
			t.Errorf("got %s", r)
		}
	})
}

// TestACallOfAClosedPoolBeginsAnew has the pool that a call waits in replaced and
// closed, and then closed alone.
func TestACallOfAClosedPoolBeginsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan struct{})
		waits := handler(func(context.Context, rpc.Call) (rpc.Answer, error) {
			<-closed
			return rpc.Answer{}, &mcpool.Error{Server: "one", Err: mcpool.ErrPoolClosed}
		})
		g := newGateway(t, nil, one(waits))
		answered := make(chan response, 1)
		go func() { answered <- callModern(g, "/mcp/one", "echo", "") }()
		synctest.Wait()
		left, err := g.Change([]Server{one(polite(handler(demo)))}, nil)
		if err != nil {
			t.Fatal(err)
		}
		close(closed)
		if r := <-answered; r.status != 200 || r.code(t) != 0 {
			t.Errorf("got %s", r)
		}
		<-left
		if _, err := g.Change([]Server{one(polite(waits))}, nil); err != nil {
			t.Fatal(err)
		}
		if r := callModern(g, "/mcp/one", "echo", ""); r.status != 503 || !strings.Contains(r.body, mcpool.ErrPoolClosed.Error()) {
			t.Errorf("without another pool: got %s", r)
		}
		g.Leave()
		if r := callModern(g, "/mcp/one", "echo", ""); r.status != 503 || !strings.Contains(r.body, errClosed.Error()) {
			t.Errorf("while the gateway ends: got %s", r)
		}
	})
}
