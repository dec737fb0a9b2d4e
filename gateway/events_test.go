package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

// notifies is a handler that sends so many progress notifications, and a log
// message of each level, before it answers.
func notifies(progress int) handler {
	return func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
		for i := range progress {
			call.Events.Notify("notifications/progress", json.RawMessage(fmt.Sprintf("{\"progressToken\":\"t\",\r\n\"progress\":%d}", i)))
		}
		for _, level := range []string{"debug", "warning", "emergency", "odd"} {
			call.Events.Notify("notifications/message", json.RawMessage(fmt.Sprintf(`{"level":%q}`, level)))
		}
		call.Events.Notify("notifications/tools/list_changed", nil)
		return rpc.Result(json.RawMessage("{\"content\":\n[]}")), nil
	}
}

// frames takes a stream of events apart.
func frames(t testing.TB, stream string) []string {
	t.Helper()
	var out []string
	for event := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
		event = strings.TrimPrefix(event, "retry: 1000\n") // before the first of a stream
		if id, rest, ok := strings.Cut(event, "\n"); ok && strings.HasPrefix(id, "id: ") {
			event = rest
		}
		frame, ok := strings.CutPrefix(event, "event: message\ndata: ")
		if !ok || strings.ContainsAny(frame, "\r\n") {
			t.Fatalf("event %q", event)
		}
		out = append(out, frame)
	}
	return out
}

// frames are those of a response, be it a stream or not.
func (r response) frames(t testing.TB) []string {
	t.Helper()
	if r.header.Get("Content-Type") == "text/event-stream" {
		return frames(t, r.body)
	}
	return []string{r.body}
}

// answer is the response without the events before the answer.
func (r response) answer(t testing.TB) response {
	t.Helper()
	list := r.frames(t)
	r.body = list[len(list)-1]
	return r
}

func TestEventsGoToWhoAskedForThem(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(notifies(2)))
	const token, level = `"progressToken":"t"`, `"io.modelcontextprotocol/logLevel":"warning"`
	const both, onlyJSON, onlyEvents = "application/json, text/event-stream", "application/json", "text/event-stream"
	for name, test := range map[string]struct {
		legacy       bool
		meta, accept string
		want         string // what the events are, in short; "json" for none and a plain answer
	}{
		"modern, token":              {false, token, both, "0 1 answer"},
		"modern, token and level":    {false, token + "," + level, both, "0 1 warning emergency odd answer"},
		"modern, level":              {false, level, both, "warning emergency odd answer"},
		"modern, nothing":            {false, "", both, "json"},
		"modern, token, JSON only":   {false, token, onlyJSON, "json"},
		"modern, token, events only": {false, token, onlyEvents, "0 1 answer"},
		"modern, events only":        {false, "", onlyEvents, "answer"},
		"modern, a token that is no": {false, `"progressToken":{}`, both, "json"},
		"legacy, token":              {true, token, both, "0 1 warning emergency odd answer"},
		"legacy, nothing":            {true, "", both, "warning emergency odd answer"},
		"legacy, token, JSON only":   {true, token, onlyJSON, "json"},
	} {
		metas, headers := meta[:len(meta)-1], modernHeaders("tools/call", "x")
		if test.legacy {
			metas, headers = `"_meta":{`, []string{"Mcp-Session-Id", initialize(t, g, "/mcp")}
		}
		if test.meta != "" && !test.legacy {
			metas += ","
		}
		body := `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x",` + metas + test.meta + `}}}`
		r := do(g, "POST", "/mcp", body, append(headers, "Accept", test.accept)...)
		got := "json"
		if r.header.Get("Content-Type") == "text/event-stream" {
			if r.header.Get("X-Accel-Buffering") != "no" || r.header.Get("Content-Length") != "" {
				t.Errorf("%s: headers %v", name, r.header)
			}
			var short []string
			for _, frame := range frames(t, r.body) {
				var f struct {
					ID     int
					Params struct {
						Progress *int
						Level    string
					}
				}
				if err := json.Unmarshal([]byte(frame), &f); err != nil {
					t.Fatal(err)
				}
				switch {
				case f.ID == 5:
					short = append(short, "answer")
				case f.Params.Progress != nil:
					short = append(short, fmt.Sprint(*f.Params.Progress))
				default:
					short = append(short, f.Params.Level)
				}
			}
			got = strings.Join(short, " ")
		} else if r.code(t) != 0 {
			t.Errorf("%s: got %s", name, r)
		}
		if got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

func TestAnErrorAfterEventsEndsTheStream(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"an error": errors.New("broke"), "a lost session": &mcpool.Error{Server: "one", Err: mcpool.ErrSessionLost}} {
		g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			_, _ = notifies(1)(ctx, call)
			return rpc.Answer{}, err
		})))
		session := initialize(t, g, "/mcp")
		r := legacyPost(g, "/mcp", session, `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":1}}}`)
		list := frames(t, r.body)
		if last := list[len(list)-1]; r.status != 200 || !strings.Contains(last, `"id":5`) || !strings.Contains(last, `"error"`) {
			t.Errorf("%s: got %s", name, r)
		}
		if lost := lostSession(err); lost != (legacyPost(g, "/mcp", session, `{"jsonrpc":"2.0","id":5,"method":"ping"}`).status == 404) {
			t.Errorf("%s: the session lives: %v", name, !lost)
		}
	}
}

func TestEventsArriveBeforeTheAnswerIsThere(t *testing.T) {
	t.Parallel()
	proceed := make(chan struct{})
	server := httptest.NewServer(newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		call.Events.Notify("notifications/progress", json.RawMessage(`{"progressToken":1,"progress":1}`))
		<-proceed
		return rpc.Result(json.RawMessage(`{}`)), nil
	}))))
	defer server.Close()
	resp := send(t, server, `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x",`+meta[:len(meta)-1]+`,"progressToken":1}}}`,
		modernHeaders("tools/call", "x")...)
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for _, want := range []string{"event: message\n", "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n", "\n"} {
		if line, err := lines.ReadString('\n'); err != nil || line != want {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	close(proceed)
	if rest, err := io.ReadAll(lines); err != nil || !strings.Contains(string(rest), `"id":5`) {
		t.Errorf("got %q, %v", rest, err)
	}
}

// send posts a frame over a real connection.
func send(t testing.TB, server *httptest.Server, body string, headers ...string) *http.Response {
	t.Helper()
	return sendContext(t, context.Background(), server, body, headers...)
}

func sendContext(t testing.TB, ctx context.Context, server *httptest.Server, body string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "POST", server.URL+"/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		t.Fatal(err)
	}
	return resp
}

func TestRequestsOfServersAreRefused(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		_, err := call.Events.Ask(ctx, "elicitation/create", nil)
		return rpc.Answer{}, err
	})))
	if r := legacyPost(g, "/mcp", initialize(t, g, "/mcp"), `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x"}}`); r.code(t) != -32601 {
		t.Errorf("got %s", r)
	}
}

// A stuck is a client that reads nothing until it is let go.
type stuck struct {
	*httptest.ResponseRecorder
	free chan struct{}
}

func (s stuck) Write(p []byte) (int, error) { <-s.free; return s.ResponseRecorder.Write(p) }

func TestAClientThatDoesNotReadHoldsUpNoServer(t *testing.T) {
	t.Parallel()
	const sent = 10 * maxQueued
	answered := make(chan struct{})
	g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		defer close(answered)
		return notifies(sent)(ctx, call)
	})))
	w := stuck{httptest.NewRecorder(), make(chan struct{})}
	r := httptest.NewRequest("POST", "http://localhost/mcp", strings.NewReader(
		`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x",`+meta[:len(meta)-1]+`,"progressToken":1}}}`))
	for h := modernHeaders("tools/call", "x"); len(h) > 0; h = h[2:] {
		r.Header.Set(h[0], h[1])
	}
	r.Header.Set("Content-Type", "application/json")
	done := make(chan struct{})
	go func() { defer close(done); g.ServeHTTP(w, r) }()
	<-answered
	close(w.free)
	<-done
	list := frames(t, w.Body.String())
	if n := len(list); n < maxQueued || n > maxQueued+3 || !strings.Contains(list[n-1], `"id":5`) {
		t.Errorf("%d frames, the last %s", n, list[n-1])
	}
}

// broken is a client whose connection has failed.
type broken struct{ *httptest.ResponseRecorder }

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestABrokenStreamIsNotEndedAsIfItWereWhole(t *testing.T) {
	t.Parallel()
	for progress := range 3 {
		g := newGateway(t, nil, one(notifies(progress)))
		body := `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":1}}}`
		r := httptest.NewRequest("POST", "http://localhost/mcp", strings.NewReader(body))
		r.Header.Set("Mcp-Session-Id", initialize(t, g, "/mcp"))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "text/event-stream")
		func() {
			defer func() {
				if p := recover(); p != http.ErrAbortHandler {
					t.Errorf("%d events: panicked with %v", progress, p)
				}
			}()
			g.ServeHTTP(broken{httptest.NewRecorder()}, r)
		}()
	}
}

func TestAPanicOfAHandlerIsAnError(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	g := newGateway(t, &Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		panic("oh")
	})))
	r := legacyPost(g, "/mcp", initialize(t, g, "/mcp"), `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x"}}`)
	if r.code(t) != -32603 || strings.Contains(r.body, "oh") || !strings.Contains(log.String(), "oh") || !strings.Contains(log.String(), "events_test.go") {
		t.Errorf("got %s, and in the log %s", r, log.String())
	}
	if len(g.calls.running)+len(g.calls.byID)+len(g.limits.whose) != 0 {
		t.Error("the call still counts")
	}
}

func TestCallsTimeOutUnlessThereIsProgress(t *testing.T) {
	t.Parallel()
	const frame = `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x"}}`
	synctest.Test(t, func(t *testing.T) {
		var cause error
		progress := 0
		g := newGateway(t, nil, Server{Name: "slow", CallTimeout: 300 * time.Second, Handler: handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			for range progress {
				time.Sleep(200 * time.Second)
				call.Events.Notify("notifications/progress", json.RawMessage(`{}`))
			}
			<-ctx.Done()
			cause = context.Cause(ctx)
			return rpc.Answer{}, &mcpool.Error{Server: "slow", MayHaveRun: progress > 0, Err: ctx.Err()}
		})})
		session := initialize(t, g, "/mcp")
		for progress = range 3 {
			began := time.Now()
			r := legacyPost(g, "/mcp", session, frame)
			ran := "It did not run."
			if progress > 0 {
				ran = "It may have run."
			}
			if r.status != 200 || r.code(t) != -32001 || !strings.Contains(r.body, "timed out after 300s") || !strings.Contains(r.body, "raise call_timeout") || !strings.Contains(r.body, ran) {
				t.Errorf("got %s", r)
			}
			if took, want := time.Since(began), time.Duration(200*progress+300)*time.Second; took != want {
				t.Errorf("took %s, want %s", took, want)
			}
			if cause == nil || !strings.Contains(cause.Error(), "timed out") {
				t.Errorf("the server's context ended with cause %v", cause)
			}
		}
		if r := callModern(g, "/mcp", "x", ""); r.status != 200 || r.code(t) != -32001 {
			t.Errorf("modern: got %s", r)
		}
	})
}

func TestAnAnswerAtTheLastMomentIsAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var err error
		g := newGateway(t, nil, Server{Name: "slow", CallTimeout: time.Second, Handler: handler(func(ctx context.Context, _ rpc.Call) (rpc.Answer, error) {
			<-ctx.Done()
			return rpc.Result(json.RawMessage(`{}`)), err
		})})
		if r := callModern(g, "/mcp", "x", ""); r.code(t) != 0 {
			t.Errorf("got %s", r)
		}
		err = rpc.Errorf(7, "no")
		if r := callModern(g, "/mcp", "x", ""); r.code(t) != 7 {
			t.Errorf("got %s", r)
		}
	})
}
