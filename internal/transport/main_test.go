package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestMain(m *testing.M) {
	mcptest.StdioMain()
	if which := os.Getenv(sdkChildSetting); which != "" {
		sdkChild(which)
		return
	}
	goleak.VerifyTestMain(mcptest.Settled(m))
}

// inBubble returns the endpoint of a server that is reached without sockets.
func inBubble(t testing.TB, handler http.Handler) *Endpoint {
	t.Helper()
	return inBubbleWith(t, handler, HTTPOptions{})
}

func inBubbleWith(t testing.TB, handler http.Handler, options HTTPOptions) *Endpoint {
	t.Helper()
	options.RoundTripper = mcptest.RoundTripper(handler)
	return newHTTP(t, "http://server.test/mcp", options)
}

// onSockets returns the endpoint of a server that is reached by our own
// transport.
func onSockets(t testing.TB, handler http.Handler) *Endpoint {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return newHTTP(t, server.URL, HTTPOptions{})
}

func newHTTP(t testing.TB, url string, options HTTPOptions) *Endpoint {
	t.Helper()
	endpoint, err := HTTP(url, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(endpoint.Close)
	return endpoint
}

// knownAs is what is known of a server whose era was found out, and that has
// to be asked again.
func knownAs(era Era) Known { return Known{Peer: Peer{Era: era}, Doubted: true} }

func open(t testing.TB, endpoint *Endpoint, era Era) Conn {
	t.Helper()
	return openWith(t, endpoint, era, rpc.Capabilities{})
}

func openWith(t testing.TB, endpoint *Endpoint, era Era, caps rpc.Capabilities) Conn {
	t.Helper()
	conn, err := endpoint.Open(t.Context(), knownAs(era), caps, nil)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// able is a caller that can answer whatever a server asks.
var able = rpc.Caller{Capabilities: rpc.Capabilities{
	Roots: true, Sampling: true, SamplingTools: true, SamplingContext: true, Elicitation: true, ElicitationURL: true,
}}

// args are the arguments of the tools of mcptest.
type args map[string]any

func call(ctx context.Context, conn Conn, tool string, arguments args) (json.RawMessage, error) {
	answer, err := conn.Call(ctx, mcptest.CallTool(tool, arguments), nil)
	return answer.Bytes(), err
}

// mustEcho makes a call that has to succeed.
func mustEcho(t testing.TB, conn Conn, text string) {
	t.Helper()
	result, err := call(t.Context(), conn, "echo", args{"id": text, "text": text})
	if err != nil {
		t.Fatalf("echo %s: %v", text, err)
	}
	if got := jsonrpc.GetString(result, "structuredContent", "text"); got != text {
		t.Fatalf("echo %s answered %s", text, result)
	}
}

// wantFailure checks what a call without an answer got.
func wantFailure(t testing.TB, err error, fate Fate, dead bool) *Failure {
	t.Helper()
	var failure *Failure
	if !errors.As(err, &failure) {
		t.Fatalf("got %T %v, want a *Failure", err, err)
	}
	if failure.Fate != fate || failure.Dead != dead {
		t.Fatalf("got fate %v, dead %v, want %v, %v: %v", failure.Fate, failure.Dead, fate, dead, err)
	}
	return failure
}

// wantError checks that a call was answered by an error of the protocol.
func wantError(t testing.TB, err error, code int) {
	t.Helper()
	var answered *rpc.Error
	if !errors.As(err, &answered) || answered.Code != code {
		t.Fatalf("got %T %v, want an *rpc.Error with code %d", err, err, code)
	}
	if failure := (*Failure)(nil); errors.As(err, &failure) {
		t.Fatalf("%v is an answer and a failure", err)
	}
}

// events collects what a call's Events get.
type events struct {
	mu    sync.Mutex
	over  bool
	late  bool
	notes []string // method and params
	asked []string
	ask   func(ctx context.Context, method string) (json.RawMessage, error)
}

func (e *events) Notify(method string, params json.RawMessage) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.late = e.late || e.over
	e.notes = append(e.notes, method+" "+string(params))
}

func (e *events) Ask(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	e.mu.Lock()
	e.late = e.late || e.over
	e.asked = append(e.asked, method+" "+string(params))
	e.mu.Unlock()
	return e.ask(ctx, method)
}

// returned marks the call as over; nothing may come from now on.
func (e *events) returned() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
}

func (e *events) check(t testing.TB) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.late {
		t.Error("Events were used after the call had returned")
	}
}

// logbook is a log that a test reads.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logbook) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), text)
}
