package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestManyCallsAtOnce(t *testing.T) {
	for name, server := range map[string]*mcptest.Server{
		"legacy":         {},
		"legacy streams": {SSE: true},
		"modern":         {Modern: true},
		"modern streams": {Modern: true, SSE: true},
		"HTTP+SSE":       {OverSSE: true},
	} {
		t.Run(name, func(t *testing.T) {
			conn := open(t, onSockets(t, server), Unknown)
			var wg sync.WaitGroup
			for i := range 32 {
				wg.Go(func() {
					text := fmt.Sprintf("call %d", i)
					result, err := call(t.Context(), conn, "echo", args{"id": text, "text": text})
					if got := jsonrpc.GetString(result, "structuredContent", "text"); err != nil || got != text {
						t.Errorf("%s got %s, %v", text, result, err)
					}
				})
			}
			wg.Wait()
			for id, n := range server.Executions() {
				if n != 1 {
					t.Errorf("%s ran %d times", id, n)
				}
			}
		})
	}
}

// Results are the bytes that the server sent, and so are params that carry
// nothing for us.
func TestBytesPassUntouched(t *testing.T) {
	const params = `{"name":"echo",  "arguments":{"n":9007199254740993, "f":1.10},"_meta":{"mine":"\u00e9"}}`
	const result = `{"structuredContent" : {"n":9007199254740993,"f":1.10}, "unknown":[ ]}`
	var sent string
	server := &mcptest.Server{Fault: onMethod("tools/call", func(w http.ResponseWriter, r *http.Request) {
		raw, _ := jsonrpc.Get(peek(r), "params")
		sent = string(raw)
		reply(200, "application/json; charset=utf-8", `{"id":ID.0, "jsonrpc":"2.0","result":`+result+`}`)(w, r)
	})}
	conn := open(t, inBubble(t, server), Legacy)
	answer, err := conn.Call(t.Context(), rpc.Call{Method: "tools/call", Params: json.RawMessage(params)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(answer.Bytes()) != result {
		t.Errorf("got the result %s", answer.Bytes())
	}
	if sent != params {
		t.Errorf("sent the params %s", sent)
	}
}

func TestParamsThatAreNone(t *testing.T) {
	for _, era := range []Era{Legacy, Modern} {
		server := &mcptest.Server{Modern: era == Modern}
		conn := open(t, inBubble(t, server), era)
		for _, params := range []string{`[1]`, `{"a":`, `7`, `{"_meta":7,"a":1} x`} {
			_, err := conn.Call(t.Context(), rpc.Call{Method: "tools/list", Params: json.RawMessage(params)}, nil)
			wantError(t, err, rpc.CodeInvalidParams)
		}
		if n := server.Requests("tools/list"); n != 0 {
			t.Errorf("%d of them were sent", n)
		}
	}
}

func TestModernRequest(t *testing.T) {
	type seen struct{ version, method, name, session string }
	var got seen
	var meta string
	server := &mcptest.Server{Modern: true, Fault: func(r *http.Request, method string, _ http.ResponseWriter) bool {
		h := r.Header
		got = seen{h.Get("MCP-Protocol-Version"), h.Get("Mcp-Method"), h.Get("Mcp-Name"), h.Get("Mcp-Session-Id")}
		raw, _ := jsonrpc.Get(peek(r), "params", "_meta")
		meta = string(raw)
		return false
	}}
	conn := open(t, inBubble(t, server), Modern)
	for _, test := range []struct {
		method, params string
		name           string
	}{
		{"tools/call", `{"name":"echo","arguments":{"id":"a"}}`, "echo"},
		{"tools/call", `{"name":"écho"}`, "=?base64?w6ljaG8=?="},
		{"prompts/get", `{"name":" x"}`, "=?base64?IHg=?="},
		{"resources/read", `{"uri":"file:///a b","name":"no"}`, "file:///a b"},
		{"tools/list", ``, ""},
	} {
		_, _ = conn.Call(t.Context(), rpc.Call{Method: test.method, Params: json.RawMessage(test.params)}, nil)
		want := seen{version: "2026-07-28", method: test.method, name: test.name}
		if got != want {
			t.Errorf("%s %s: got %+v, want %+v", test.method, test.params, got, want)
		}
		us := jsonrpc.GetString([]byte(meta), "io.modelcontextprotocol/clientInfo", "name")
		caps, _ := jsonrpc.Get([]byte(meta), "io.modelcontextprotocol/clientCapabilities")
		if us != "mcpool" || string(caps) != "{}" {
			t.Errorf("_meta is %s", meta)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		modern bool
		fault  func(http.ResponseWriter, *http.Request)
		dead   bool
		alive  bool
	}{
		"legacy":              {alive: true},
		"legacy unknown ping": {fault: reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"no"}}`), alive: true},
		"legacy session gone": {fault: reply(404, "", ""), dead: true},
		"legacy 500":          {fault: reply(500, "", "")},
		"modern":              {modern: true, alive: true},
		"modern unknown":      {modern: true, fault: reply(404, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"no"}}`), alive: true},
		"modern 500":          {modern: true, fault: reply(500, "", "")},
		"modern other era":    {modern: true, fault: reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"no"}}`), dead: true},
	} {
		t.Run(name, func(t *testing.T) {
			opened := false
			server := &mcptest.Server{Modern: test.modern}
			server.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
				if !opened || test.fault == nil || method != "ping" && method != "server/discover" {
					return false
				}
				test.fault(w, r)
				return true
			}
			conn := open(t, inBubble(t, server), Unknown)
			opened = true
			err := conn.Check(t.Context())
			if (err == nil) != test.alive || isDead(err) != test.dead {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCallWithoutNetwork(t *testing.T) {
	for _, modern := range []bool{false, true} {
		network := &mcptest.Network{Handler: &mcptest.Server{Modern: modern}}
		endpoint := newHTTP(t, "http://server.test", HTTPOptions{RoundTripper: network})
		conn := open(t, endpoint, Unknown)
		network.SetDown(true)
		_, err := call(t.Context(), conn, "echo", args{})
		fails(NotSent, true, "connection refused")(t, err)
		network.SetDown(false)
		mustEcho(t, conn, "up again")
	}
}

func TestCallEndedBeforeItIsSent(t *testing.T) {
	server := &mcptest.Server{}
	conn := open(t, inBubble(t, server), Legacy)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("never mind")
	cancel(why)
	_, err := call(ctx, conn, "echo", args{})
	if failure := wantFailure(t, err, NotSent, false); failure.Err != why {
		t.Errorf("got the cause %v", failure.Err)
	}
	if n := server.Requests("tools/call"); n != 0 {
		t.Errorf("%d calls were sent", n)
	}
}

func TestCallEndedWhileDialing(t *testing.T) {
	target := httptest.NewServer(&mcptest.Server{Modern: true})
	defer target.Close()
	dialing := make(chan struct{}, 1)
	var dials int
	endpoint := newHTTP(t, target.URL, HTTPOptions{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials++; dials == 1 {
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}
			dialing <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	conn := open(t, endpoint, Modern)
	endpoint.Close() // the idle TCP connection, so that the call has to dial
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-dialing; cancel() }()
	_, err := call(ctx, conn, "echo", args{})
	wantFailure(t, err, NotSent, false)
}

// A RoundTripper that does not tell how far it has come proves nothing.
func TestCallOverSilentRoundTripper(t *testing.T) {
	inner := mcptest.RoundTripper(&mcptest.Server{Modern: true})
	broken := false
	endpoint := newHTTP(t, "http://server.test", HTTPOptions{
		RoundTripper: roundTripper(func(r *http.Request) (*http.Response, error) {
			if broken {
				return nil, io.ErrUnexpectedEOF
			}
			return inner.RoundTrip(r)
		}),
	})
	conn := open(t, endpoint, Modern)
	broken = true
	_, err := call(t.Context(), conn, "echo", args{})
	wantFailure(t, err, MayHaveRun, false)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTimeoutIsToldToTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []byte
		server := &mcptest.Server{Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
			if method == "notifications/cancelled" {
				told = peek(r)
			}
			return false
		}}
		conn := open(t, inBubble(t, server), Legacy)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		before := time.Now()
		_, err := call(ctx, conn, "sleep", args{"id": "a", "ms": 60000})
		wantFailure(t, err, MayHaveRun, false)
		if took := time.Since(before); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %v", err, took)
		}
		synctest.Wait()
		if id, _ := jsonrpc.Get(told, "params", "requestId"); string(id) != "2" {
			t.Errorf("the server was told %s", told)
		}
		conn.Close(t.Context())
	})
}

func TestModernCancelEndsTheStream(t *testing.T) {
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	server := &mcptest.Server{Modern: true, Fault: onMethod("tools/call", func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
		close(ended)
	})}
	conn := open(t, onSockets(t, server), Modern)
	_, err := call(ctx, conn, "echo", args{})
	wantFailure(t, err, MayHaveRun, false)
	<-ended
	conn.Close(context.Background())
	if n := server.Requests("notifications/cancelled"); n != 0 {
		t.Errorf("%d notifications/cancelled to a modern server", n)
	}
}

func TestCloseTellsOnceAndWaits(t *testing.T) {
	server := &mcptest.Server{}
	conn := open(t, inBubble(t, server), Legacy)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { conn.Close(context.Background()) })
	}
	wg.Wait()
	if server.Deletes() != 1 || server.Open() != 0 {
		t.Errorf("%d DELETEs, %d sessions open", server.Deletes(), server.Open())
	}
	_, err := call(t.Context(), conn, "echo", args{})
	wantFailure(t, err, NotSent, true)
	wantFailure(t, conn.Check(t.Context()), NotSent, true)
}

func TestLostSessionIsNotDeleted(t *testing.T) {
	server := &mcptest.Server{}
	endpoint := inBubble(t, server)
	conn := open(t, endpoint, Legacy)
	server.Expire()
	_, err := call(t.Context(), conn, "echo", args{"id": "a"})
	wantFailure(t, err, Refused, true)
	conn.Close(t.Context())
	if server.Deletes() != 0 {
		t.Errorf("%d DELETEs", server.Deletes())
	}
	if n := server.Executions()["a"]; n != 0 {
		t.Errorf("the call ran %d times", n)
	}
	mustEcho(t, open(t, endpoint, Legacy), "a")
}

// Without a session there is none to lose, and none to delete.
func TestNoSessionCannotBeLost(t *testing.T) {
	server := &mcptest.Server{}
	server.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
		switch method {
		case "initialize":
			reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2025-06-18"}}`)(w, r)
		case "tools/call":
			http.NotFound(w, r)
		default:
			w.WriteHeader(202)
		}
		return true
	}
	conn := open(t, inBubble(t, server), Legacy)
	_, err := call(t.Context(), conn, "echo", args{})
	if fails(Refused, true, "HTTP 404")(t, err); strings.Contains(err.Error(), "session") {
		t.Errorf("%v speaks of a session", err)
	}
	conn.Close(t.Context())
	if server.Deletes() != 0 {
		t.Errorf("%d DELETEs without a session", server.Deletes())
	}
}

// A stream is read to its end behind the answer, so that calls one after the
// other need one TCP connection and not one each.
func TestStreamsKeepTheTCPConnection(t *testing.T) {
	var mu sync.Mutex
	opened := 0
	server := httptest.NewUnstartedServer(&mcptest.Server{SSE: true})
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			opened++
			mu.Unlock()
		}
	}
	server.Start()
	defer server.Close()
	conn := open(t, newHTTP(t, server.URL, HTTPOptions{}), Legacy)
	for range 50 {
		mustEcho(t, conn, "again")
	}
	mu.Lock()
	defer mu.Unlock()
	if opened > 25 { // the end of a stream may lose the race with the next call now and then
		t.Errorf("%d TCP connections for 50 calls", opened)
	}
}

// A server that leaves the stream open behind the answer holds nobody up.
func TestStreamStaysOpenBehindTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended time.Duration
		began := time.Now()
		server := &mcptest.Server{Fault: onMethod("tools/call", func(w http.ResponseWriter, r *http.Request) {
			reply(200, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n")(w, r)
			<-r.Context().Done()
			ended = time.Since(began)
		})}
		conn := open(t, inBubble(t, server), Legacy)
		if _, err := call(t.Context(), conn, "echo", args{}); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if ended != drainTime {
			t.Errorf("the stream was ended after %v, want %v", ended, drainTime)
		}
		conn.Close(t.Context())
	})
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	var log logbook
	words := []string{"tops3cret-token", "hunter2-hunter2", "key-0123456789", "session-1"}
	server := &mcptest.Server{Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
		if method != "tools/call" {
			return false
		}
		status := 403
		if strings.Contains(string(peek(r)), `"500"`) {
			status = 500
		}
		user, password, _ := r.BasicAuth()
		http.Error(w, fmt.Sprint("cannot do this: ", r.Header.Get("X-Token"), user, password, r.URL.RawQuery, r.Header.Get("Mcp-Session-Id"), r.Header), status)
		return true
	}}
	endpoint := newHTTP(t, "http://alice:hunter2-hunter2@server.test/mcp?key=key-0123456789", HTTPOptions{
		Header:       http.Header{"X-Token": {"Bearer tops3cret-token"}},
		RoundTripper: mcptest.RoundTripper(server),
		Log:          log.logger(),
	})
	conn := open(t, endpoint, Legacy)
	for _, id := range []string{"403", "500"} {
		_, err := call(t.Context(), conn, "echo", args{"id": id})
		if err == nil || !strings.Contains(err.Error(), "***") {
			t.Errorf("got %v", err)
		}
		for _, word := range words {
			if strings.Contains(err.Error(), word) || log.has(word) {
				t.Errorf("%v tells %s", err, word)
			}
		}
		if len(err.Error()) > 400 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is too long", err)
		}
	}
	var status *StatusError
	_, err := call(t.Context(), conn, "echo", args{})
	if !errors.As(err, &status) || status.Status != 403 {
		t.Errorf("%v has no status", err)
	}
}

func TestHTTP2(t *testing.T) {
	arrived := make(chan struct{}, 1)
	handler := &mcptest.Server{SSE: true, Fault: func(r *http.Request, method string, _ http.ResponseWriter) bool {
		if r.ProtoMajor != 2 {
			t.Errorf("%s came over %s", method, r.Proto)
		}
		if method == "tools/call" {
			arrived <- struct{}{}
		}
		return false
	}}
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	conn := open(t, newHTTP(t, server.URL, HTTPOptions{RoundTripper: server.Client().Transport}), Legacy)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err := call(ctx, conn, "sleep", args{"ms": 60000})
	wantFailure(t, err, MayHaveRun, false)
	mustEcho(t, conn, "next")
	conn.Close(context.Background())
	if handler.Open() != 0 {
		t.Error("the session was not deleted")
	}
}

func BenchmarkCall(b *testing.B) {
	for name, reach := range map[string]func(b *testing.B) Conn{
		"HTTP legacy": func(b *testing.B) Conn { return open(b, onSockets(b, canned(jsonType, "%s")), Legacy) },
		"HTTP stream": func(b *testing.B) Conn {
			return open(b, onSockets(b, canned("text/event-stream", "data: %s\n\n")), Legacy)
		},
		"HTTP modern":  func(b *testing.B) Conn { return open(b, onSockets(b, canned(jsonType, "%s")), Modern) },
		"stdio legacy": func(b *testing.B) Conn { return open(b, stdio(b, mcptest.Normal), Legacy) },
	} {
		b.Run(name, func(b *testing.B) {
			conn, c := reach(b), mcptest.CallTool("echo", args{"id": "a", "text": "hello world"})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Call(b.Context(), c, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// canned is a server that does next to nothing, so that what is measured is us.
func canned(kind, frame string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m, err := jsonrpc.Parse(body)
		if err != nil || m.ID == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		result := `{"content":[{"type":"text","text":"hello world"}],"protocolVersion":"2025-11-25","supportedVersions":["2026-07-28"]}`
		w.Header().Set("Content-Type", kind)
		_, _ = fmt.Fprintf(w, frame, jsonrpc.AppendResult(nil, m.ID, json.RawMessage(result)))
	})
}

func TestReadAllBounds(t *testing.T) {
	const limit = 100
	for name, test := range map[string]struct {
		sent     int
		announce int64
		want     error
	}{
		"announced":             {100, 100, nil},
		"not announced":         {100, -1, nil},
		"announced too large":   {0, 101, errTooLarge},
		"too large":             {101, -1, errTooLarge},
		"shorter than it says":  {50, 100, io.ErrUnexpectedEOF},
		"nothing":               {0, 0, nil},
		"nothing, unannounced ": {0, -1, nil},
	} {
		body := io.NopCloser(strings.NewReader(strings.Repeat("x", test.sent)))
		got, err := readAll(&http.Response{Body: body, ContentLength: test.announce}, limit)
		if !errors.Is(err, test.want) || err == nil && len(got) != test.sent {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
	}
}
