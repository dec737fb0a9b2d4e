package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A wire is a response as it comes, in process, so that time can be made up.
type wire struct {
	t      testing.TB
	leave  context.CancelFunc // the client goes away
	begun  chan struct{}      // closed with the first flush
	events chan string        // closed with the response
	whole  bool               // the response ended as responses do; read when events is closed

	mu      sync.Mutex // guards what follows
	header  http.Header
	status  int
	unsplit []byte
	flushed bool
}

// open sends a request and returns its response while it is under way.
func open(t testing.TB, h http.Handler, method, path, body string, headers ...string) *wire {
	ctx, cancel := context.WithCancel(context.Background())
	w := &wire{t: t, leave: cancel, begun: make(chan struct{}), events: make(chan string, 10000), header: make(http.Header)}
	r := httptest.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	for ; len(headers) > 0; headers = headers[2:] {
		r.Header.Set(headers[0], headers[1])
	}
	go func() {
		defer close(w.events)
		defer cancel()
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			} else if p == nil {
				w.whole = true
			}
		}()
		h.ServeHTTP(w, r)
		w.Flush()
	}()
	return w
}

func (w *wire) Header() http.Header { return w.header }
func (w *wire) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsplit = append(w.unsplit, p...)
	for {
		event, rest, found := bytes.Cut(w.unsplit, []byte("\n\n"))
		if !found {
			return len(p), nil
		}
		w.events <- string(event)
		w.unsplit = bytes.Clone(rest)
	}
}

func (w *wire) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.flushed {
		w.flushed = true
		close(w.begun)
	}
}

// next waits for an event and returns its id and its frame; both are "" for a
// heartbeat, and the frame is "end" where there are no more.
func (w *wire) next() (id, frame string) {
	w.t.Helper()
	event, ok := <-w.events
	if !ok {
		return "", "end"
	}
	if event == ":" {
		return "", ""
	}
	event = strings.TrimPrefix(event, "retry: 1000\n") // before the first of a stream
	if line, rest, found := strings.Cut(event, "\n"); found && strings.HasPrefix(line, "id: ") {
		id, event = line[4:], rest
	}
	frame, ok = strings.CutPrefix(event, "event: message\ndata: ")
	if !ok || strings.ContainsAny(frame, "\r\n") {
		w.t.Fatalf("event %q", event)
	}
	return id, frame
}

// frame is the next that is no heartbeat.
func (w *wire) frame() string {
	w.t.Helper()
	for {
		if _, frame := w.next(); frame != "" {
			return frame
		}
	}
}

// message is the next frame, taken apart.
func (w *wire) message() jsonrpc.Message {
	w.t.Helper()
	frame := w.frame()
	m, err := jsonrpc.Parse([]byte(frame))
	if err != nil {
		w.t.Fatalf("frame %q: %v", frame, err)
	}
	return m
}

// want checks that the next frame has these parts.
func (w *wire) want(parts ...string) {
	w.t.Helper()
	frame := w.frame()
	for _, part := range parts {
		if !strings.Contains(frame, part) {
			w.t.Errorf("got frame %s, want one with %s", frame, part)
		}
	}
}

// rest waits for the end and returns the frames before it.
func (w *wire) rest() (all []string) {
	w.t.Helper()
	for {
		frame := w.frame()
		if frame == "end" {
			return all
		}
		all = append(all, frame)
	}
}

// body waits for the end of a response that is no stream.
func (w *wire) body() response {
	for range w.events {
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return response{w.status, w.header, string(w.unsplit)}
}

// A teller is a handler that lets itself be listened to.
type teller struct {
	handler
	heeds func(filter) filter // nil for everything

	mu        sync.Mutex
	listeners map[*rpc.Call]filter
}

func newTeller(h handler) *teller {
	return &teller{handler: h, listeners: make(map[*rpc.Call]filter)}
}

func (l *teller) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	switch call.Method {
	case "server/discover":
		return rpc.Result(json.RawMessage(`{"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}}}`)), nil
	case "subscriptions/listen":
	default:
		return l.handler.Do(ctx, call)
	}
	var said struct{ Notifications filter }
	if err := json.Unmarshal(call.Params, &said); err != nil {
		return rpc.Answer{}, err
	}
	if l.heeds != nil {
		said.Notifications = l.heeds(said.Notifications)
	}
	ack, err := json.Marshal(map[string]any{"notifications": said.Notifications})
	if err != nil {
		return rpc.Answer{}, err
	}
	call.Events.Notify("notifications/subscriptions/acknowledged", ack)
	l.mu.Lock()
	l.listeners[&call] = said.Notifications
	l.mu.Unlock()
	<-ctx.Done()
	l.mu.Lock()
	delete(l.listeners, &call)
	l.mu.Unlock()
	return rpc.Answer{}, context.Cause(ctx)
}

// count returns how many listen.
func (l *teller) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.listeners)
}

// tell tells of a change those who listen for it, or all of them a log message
// of a level.
func (l *teller) tell(method, uri string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for call, f := range l.listeners {
		switch method {
		case "notifications/message": // to all, as a pool does of a session's connection
			call.Events.Notify(method, json.RawMessage(`{"level":"`+uri+`"}`))
		case "notifications/tools/list_changed":
			if f.Tools {
				call.Events.Notify(method, nil)
			}
		case "notifications/resources/updated":
			for _, one := range f.URIs {
				if one == uri {
					call.Events.Notify(method, json.RawMessage(`{"uri":"`+uri+`"}`))
				}
			}
		}
	}
}

// newPlain makes a gateway of handlers that are asked everything.
func newPlain(t testing.TB, options *Options, servers ...Server) *Gateway {
	t.Helper()
	g, err := New(servers, options)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// closed closes a gateway, for which there has to be no reason to wait.
func closed(t testing.TB, g *Gateway) {
	t.Helper()
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := len(g.parked.by) + len(g.parked.each) + len(g.questions.waiting) + len(g.calls.running); n != 0 {
		t.Errorf("%d things are still kept of calls", n)
	}
	g.limits.mu.Lock()
	defer g.limits.mu.Unlock()
	if len(g.limits.whose) != 0 {
		t.Errorf("calls still count: %v", g.limits.whose)
	}
	for s, n := range g.limits.of {
		if n != 0 {
			t.Errorf("%d calls of %s still count", n, s.Name)
		}
	}
}

// byHeader has requests made on behalf of whom a header names.
func byHeader(r *http.Request) (string, error) {
	if r.Header.Get("X-Principal") == "nobody" {
		return "", errors.New("nobody")
	}
	return r.Header.Get("X-Principal"), nil
}

// initializeWith begins a legacy session with capabilities and returns the
// headers that go with it.
func initializeWith(t testing.TB, h http.Handler, path, capabilities string, headers ...string) []string {
	t.Helper()
	r := do(h, "POST", path, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":`+capabilities+`}}`, headers...)
	id := r.header.Get("Mcp-Session-Id")
	if r.status != 200 || id == "" {
		t.Fatalf("initialize: %s", r)
	}
	return append([]string{"Mcp-Session-Id", id}, headers...)
}
