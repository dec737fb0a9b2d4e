package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// exchange has a client send a frame and returns the next one for it.
func exchange(t *testing.T, c *Client, frame string) string {
	t.Helper()
	if err := c.Write([]byte(frame)); err != nil {
		t.Fatal(err)
	}
	got, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestClientsInThisProcessAreServedBothEras(t *testing.T) {
	t.Parallel()
	var seen, ended atomic.Value
	g := newGateway(t, nil, Server{
		Name:       "one",
		EndSession: func(who rpc.Caller) { ended.Store(who) },
		Handler: handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			seen.Store(call.Caller)
			return demo(ctx, call)
		}),
	})
	for _, test := range []struct{ begin, more string }{
		{stdioInitialize, ""},
		{`{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{` + meta + `}}`, "," + meta},
	} {
		c := g.NewClient(t.Context(), "ann")
		if got := exchange(t, c, test.begin); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":0,"result":{"capabilities":{"tools":{}},`) {
			t.Errorf("got %s", got)
		}
		got := exchange(t, c, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"`+test.more+`}}`)
		who := seen.Load().(rpc.Caller)
		if who.Principal != "ann" || who.Session == "" || jsonrpc.GetString([]byte(got), "result", "structuredContent", "session") != who.Session {
			t.Errorf("the call was made for %+v, answered %s", who, got)
		}
		if got := exchange(t, c, `{"jsonrpc"`); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,`) {
			t.Errorf("no frame: got %s", got)
		}
		c.Close()
		c.Close()
		if got := ended.Load(); got != who {
			t.Errorf("ended %+v, not %+v", got, who)
		}
		if _, err := c.Read(t.Context()); err != io.EOF {
			t.Errorf("read after close: %v", err)
		}
		if err := c.Write([]byte(stdioInitialize)); err != io.ErrClosedPipe {
			t.Errorf("write after close: %v", err)
		}
	}
}

func TestClientsCallsEndWithIt(t *testing.T) {
	t.Parallel()
	h := newWaiter()
	g := newGateway(t, nil, one(h))
	const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x",` + meta + `}}`
	why := errors.New("enough")
	for name, end := range map[string]func(c *Client, cancel context.CancelCauseFunc){
		"closed":  func(c *Client, _ context.CancelCauseFunc) { c.Close() },
		"its ctx": func(_ *Client, cancel context.CancelCauseFunc) { cancel(why) },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		c := g.NewClient(ctx, "")
		if err := c.Write([]byte(call)); err != nil {
			t.Fatal(err)
		}
		running := <-h.began
		end(c, cancel)
		<-running.Done()
		want := map[string]error{"closed": io.EOF, "its ctx": why}[name]
		if _, err := c.Read(t.Context()); err != want {
			t.Errorf("%s: Read: %v", name, err)
		}
		if err := c.Write([]byte(call)); err == nil || name == "its ctx" && err != why {
			t.Errorf("%s: Write: %v", name, err)
		}
		c.Close()
	}
	c := g.NewClient(t.Context(), "")
	defer c.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := c.Read(ctx); err != why {
		t.Errorf("Read: %v", err)
	}
}

// A server that tells more than a client has read waits for it, and its answer
// comes last.
func TestClientsInThisProcessLoseNothing(t *testing.T) {
	t.Parallel()
	const progress = 20 * maxQueued
	g := newGateway(t, nil, one(notifies(progress)))
	c := g.NewClient(t.Context(), "")
	defer c.Close()
	if err := c.Write([]byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x",` + meta[:len(meta)-1] + `,"progressToken":"t"}}}`)); err != nil {
		t.Fatal(err)
	}
	for i := range progress + 1 {
		frame, err := c.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`"progress":%d}}`, i)
		if i == progress {
			want = `"resultType":"complete"`
		}
		if !strings.Contains(string(frame), want) {
			t.Fatalf("frame %d: %s", i, frame)
		}
	}
	// One that goes away keeps no server waiting.
	gone := g.NewClient(t.Context(), "")
	if err := gone.Write([]byte(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x",` + meta[:len(meta)-1] + `,"progressToken":"t"}}}`)); err != nil {
		t.Fatal(err)
	}
	gone.Close()
}
