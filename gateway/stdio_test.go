package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A console is the client's end of ServeStdio.
type console struct {
	t      *testing.T
	in     *io.PipeWriter
	out    *bufio.Reader
	close  func() // out
	served chan error
}

func newConsole(t *testing.T, ctx context.Context, g *Gateway) *console {
	fromClient, in := io.Pipe()
	out, toClient := io.Pipe()
	c := &console{t, in, bufio.NewReader(out), func() { out.Close() }, make(chan error, 1)}
	go func() {
		err := g.ServeStdio(ctx, fromClient, toClient)
		fromClient.Close()
		toClient.Close()
		c.served <- err
	}()
	return c
}

func (c *console) write(frame string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, frame+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *console) read() string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// end closes in and returns what ServeStdio returned.
func (c *console) end() error {
	c.in.Close()
	return <-c.served
}

const stdioInitialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}`

func TestStdioServesBothEras(t *testing.T) {
	t.Parallel()
	g := newGateway(t, &Options{MaxBody: 600}, one(handler(demo)))
	c := newConsole(t, t.Context(), g)
	for _, test := range []struct{ frame, want string }{
		{`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,`},
		{`{"jsonrpc":"2.0","id":2,"method":"ping"}`, `{"jsonrpc":"2.0","id":2,"result":{}}`},
		{`{"jsonrpc":"2.0","id":"d","method":"server/discover","params":{` + meta + `}}`, `{"jsonrpc":"2.0","id":"d","result":{"capabilities":{"tools":{}},"supportedVersions":`},
		{`{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{` + meta + `}}`, `{"jsonrpc":"2.0","id":3,"result":{"tools":[{"name":"echo",`},
		{`{"jsonrpc":"2.0","id":4,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`, `{"jsonrpc":"2.0","id":4,"error":{"code":-32602,`},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{` + strings.Replace(meta, "2026", "2036", 1) + `}}`, `{"jsonrpc":"2.0","id":5,"error":{"code":-32022,`},
		{`{"jsonrpc":"2.0","id":6,"method":"ping","params":{` + meta + `}}`, `{"jsonrpc":"2.0","id":6,"error":{"code":-32601,`},
		{" \r\n" + stdioInitialize, `{"jsonrpc":"2.0","id":0,"result":{"capabilities":{"tools":{}},"protocolVersion":"2025-06-18"`},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n" + `{"jsonrpc":"2.0","id":7,"method":"tools/list"}` + "\r", `{"jsonrpc":"2.0","id":7,"result":{"tools":`},
		{`{"jsonrpc":"2.0","id":8,"method":"prompts/list"}`, `{"jsonrpc":"2.0","id":8,"error":{"code":-32601,`},
		{`{"jsonrpc":"2.0","id":8,"result":{}}` + "\n" + `{"jsonrpc":"2.0","id":9`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,`},
		{`[]`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,`},
		{`{"jsonrpc":"2.0","id":10,"method":5}`, `{"jsonrpc":"2.0","id":10,"error":{"code":-32600,`},
		{`{"jsonrpc":"2.0","id":11,"method":"` + strings.Repeat("x", 10000) + `"}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"a line is longer than the bound of 600 bytes"}}`},
		{`{"jsonrpc":"2.0","id":12,"method":"tools/list","params":{` + meta + `}}`, `{"jsonrpc":"2.0","id":12,"result":{"tools":`},
	} {
		c.write(test.frame)
		if got := c.read(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s:\ngot  %s\nwant %s", test.frame, got, test.want)
		}
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

func TestStdioHasOneSession(t *testing.T) {
	t.Parallel()
	var ended []string
	g := newGateway(t, nil, Server{Name: "one", Handler: handler(demo), EndSession: func(who rpc.Caller) { ended = append(ended, who.Session) }})
	seen := map[string]bool{}
	for range 2 {
		c := newConsole(t, t.Context(), g)
		c.write(stdioInitialize)
		c.read()
		for _, more := range []string{"", "," + meta} {
			c.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"` + more + `}}`)
			seen[jsonrpc.GetString([]byte(c.read()), "result", "structuredContent", "session")] = true
		}
		if err := c.end(); err != nil {
			t.Error(err)
		}
	}
	if len(seen) != 2 || seen[""] || len(ended) != 2 || !seen[ended[0]] || !seen[ended[1]] {
		t.Errorf("sessions %v, ended %v", seen, ended)
	}
}

func TestStdioCallsRunAtOnceAndFinishAtTheEnd(t *testing.T) {
	t.Parallel()
	h := newWaiter()
	c := newConsole(t, t.Context(), newGateway(t, nil, one(h)))
	const calls = 20
	for i := range calls {
		c.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"x",%s}}`, i, meta))
	}
	for range calls {
		<-h.began
	}
	c.write(`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"x",` + meta + `}}`)
	if got := c.read(); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":3,"error":{"code":-32600,`) {
		t.Errorf("an id again: got %s", got)
	}
	c.in.Close()
	close(h.free)
	got := map[string]bool{}
	for range calls {
		line := c.read()
		msg, err := jsonrpc.Parse([]byte(line))
		if err != nil || msg.Result == nil {
			t.Errorf("got %s, %v", line, err)
		}
		got[string(msg.ID)] = true
	}
	if err := <-c.served; err != nil || len(got) != calls {
		t.Errorf("%d answers, %v", len(got), err)
	}
}

func TestStdioCallsAreCancelledInSilence(t *testing.T) {
	t.Parallel()
	h := newWaiter()
	c := newConsole(t, t.Context(), newGateway(t, nil, one(h)))
	for _, more := range []string{"", "," + meta} {
		if more == "" {
			c.write(stdioInitialize)
			c.read()
		}
		// The cancellation comes right behind the request and finds it.
		c.write(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"` + more + `}}` + "\n" +
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
		ctx := <-h.began
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), errCancelled) {
			t.Errorf("cause %v", context.Cause(ctx))
		}
	}
	c.write(`{"jsonrpc":"2.0","id":8,"method":"ping"}`)
	if got := c.read(); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":8,`) {
		t.Errorf("got %s", got)
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

func TestStdioForwardsEventsAheadOfTheAnswer(t *testing.T) {
	t.Parallel()
	c := newConsole(t, t.Context(), newGateway(t, nil, one(notifies(2))))
	c.write(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x",` + meta[:len(meta)-1] + `,"progressToken":"t"}}}`)
	for _, want := range []string{
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t",  "progress":0}}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t",  "progress":1}}`,
		`{"jsonrpc":"2.0","id":7,"result":{"content": [],`,
	} {
		if got := c.read(); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

func TestStdioEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newWaiter()
		ctx, cancel := context.WithCancelCause(t.Context())
		c := newConsole(t, ctx, newGateway(t, nil, one(h)))
		c.write(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x",` + meta + `}}`)
		call := <-h.began
		why := errors.New("enough")
		cancel(why)
		<-call.Done()
		if err := <-c.served; !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	})
}

func TestStdioEndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := newGateway(t, nil, one(handler(demo)))
		c := newConsole(t, ctx, g)
		for i := range 2 * maxQueued {
			// Until out is full of answers.
			_, _ = io.WriteString(c.in, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"x",%s}}`, i, meta)+"\n")
		}
		cancel()
		if err := <-c.served; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		c.close()
	})
}

func TestStdioDoesNotReadFromWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := newConsole(t, ctx, newGateway(t, nil, one(handler(demo))))
		taken := 0
		written := make(chan struct{})
		go func() {
			defer close(written)
			for i := range 3 * maxUnanswered {
				if _, err := io.WriteString(c.in, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"ping"}`, i)+"\n"); err != nil {
					return
				}
				taken++
			}
		}()
		synctest.Wait()
		if most := maxUnanswered + maxQueued + 10; taken > most {
			t.Errorf("%d requests were taken, want at most %d", taken, most)
		}
		cancel()
		<-c.served
		<-written
		c.close()
	})
}

func TestStdioEndsWhenTheClientIsGone(t *testing.T) {
	t.Parallel()
	h := newWaiter()
	c := newConsole(t, t.Context(), newGateway(t, nil, one(h)))
	c.write(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x",` + meta + `}}`)
	call := <-h.began
	c.close()
	c.write(`{"jsonrpc":"2.0","id":8,"method":"ping"}`)
	<-call.Done()
	if err := <-c.served; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	// A reader that fails is told, after what was asked before has been answered.
	why := errors.New("unplugged")
	in := io.MultiReader(strings.NewReader(stdioInitialize+"\n"), failingReader{why})
	var out strings.Builder
	if err := newGateway(t, nil, one(h)).ServeStdio(t.Context(), in, &out); !errors.Is(err, why) || !strings.Contains(out.String(), "protocolVersion") {
		t.Errorf("got %v, out %s", err, out.String())
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestStdioIsClosedWithTheGateway(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(func(context.Context, rpc.Call) (rpc.Answer, error) {
		return rpc.Result(json.RawMessage(`{}`)), nil
	})))
	c := newConsole(t, t.Context(), g)
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
	c.write(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x",` + meta + `}}`)
	if got := c.read(); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":7,"error":{"code":-32603,`) {
		t.Errorf("got %s", got)
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

func TestALineWithoutABreakIsALine(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	g := newGateway(t, nil, one(handler(demo)))
	if err := g.ServeStdio(t.Context(), strings.NewReader(stdioInitialize), &out); err != nil || !strings.HasSuffix(out.String(), "}\n") {
		t.Errorf("got %v, %q", err, out.String())
	}
}

// A call that waits for its client ends with the client, and not when its time
// to wait is up: it keeps a slot.
func TestParkedCallsEndWithTheirClient(t *testing.T) {
	t.Parallel()
	over := make(chan error, 1)
	g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		answer, err := call.Events.Ask(ctx, "elicitation/create", json.RawMessage(`{"message":"?"}`))
		over <- err
		return rpc.Result(answer), err
	})))
	var consoles []*console
	for range 2 {
		c := newConsole(t, t.Context(), g)
		c.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x",` + strings.Replace(meta, `Capabilities":{`, `Capabilities":{"elicitation":{}`, 1) + `}}`)
		if got := c.read(); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":1,"result":{"inputRequests":`) {
			t.Fatalf("got %s", got)
		}
		consoles = append(consoles, c)
	}
	for parked := len(consoles); parked > 0; parked-- {
		if n := g.parked.count(); n != parked {
			t.Errorf("%d calls are parked, want %d", n, parked)
		}
		if err := consoles[parked-1].end(); err != nil {
			t.Error(err)
		}
		if err := <-over; !errors.Is(err, errForgotten) {
			t.Errorf("the server was answered %v", err)
		}
	}
}
