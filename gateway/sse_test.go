package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestTheOfficialSDKOverHTTPAndSSE(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/mcp", "/sse", "/mcp/one", "/sse/one"} {
		ended := make(chan rpc.Caller, 1)
		tells := newTeller(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			if call.Method == "tools/call" && jsonrpc.GetString(call.Params, "name") == "ask" {
				call.Events.Notify("notifications/progress", json.RawMessage(`{"progressToken":"t","progress":1}`))
				answer, err := call.Events.Ask(ctx, "elicitation/create", json.RawMessage(`{"message":"who","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}}}}`))
				return rpc.Result(json.RawMessage(`{"content":[],"structuredContent":` + string(answer) + `}`)), err
			}
			return demo(ctx, call)
		})
		g := newPlain(t, nil, Server{Name: "one", Handler: tells, EndSession: func(who rpc.Caller) { ended <- who }})
		server := httptest.NewServer(g)
		client := &http.Client{Transport: &http.Transport{}}
		changed, progress := make(chan struct{}, 1), make(chan float64, 1)
		session := connect(t, &mcp.SSEClientTransport{Endpoint: server.URL + path, HTTPClient: client}, "2025-06-18", &mcp.ClientOptions{
			ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
			ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
				progress <- r.Params.Progress
			},
			ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
			},
		})
		checkSession(t, session, false)
		params := &mcp.CallToolParams{Name: "ask"}
		params.SetProgressToken("t")
		result, err := session.CallTool(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		if said, _ := json.Marshal(result.StructuredContent); !strings.Contains(string(said), `"name":"Ada"`) || <-progress != 1 {
			t.Errorf("%s: the server was answered %s", path, said)
		}
		for tells.count() == 0 { // the client has said that it is there
			time.Sleep(time.Millisecond)
		}
		tells.tell(toolsChanged, "")
		<-changed
		if err := session.Close(); err != nil {
			t.Errorf("%s: close: %v", path, err)
		}
		if who := <-ended; who.Session == "" || !who.Capabilities.Elicitation {
			t.Errorf("%s: %+v ended", path, who)
		}
		client.CloseIdleConnections()
		server.Close()
		closed(t, g)
		if len(g.visitors.by)+len(g.standings.of)+tells.count() != 0 {
			t.Errorf("%s: something is left of it", path)
		}
	}
}

// openTalk begins as a client over HTTP+SSE, and returns where it posts to.
func openTalk(t testing.TB, g *Gateway, headers ...string) (w *wire, where string) {
	t.Helper()
	w = open(t, g, "GET", "/mcp", "", append(headers, "Accept", "text/event-stream")...)
	event := <-w.events
	where, ok := strings.CutPrefix(event, "event: endpoint\ndata: ")
	if !ok {
		t.Fatalf("got %q", event)
	}
	return w, where
}

func TestATalkIsOfWhoBeganIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, &Options{Principal: byHeader}, one(handler(demo)))
		w, where := openTalk(t, g, "X-Principal", "a")
		_, other := openTalk(t, g, "X-Principal", "b")
		for name, test := range map[string]struct {
			where, principal, body string
			status                 int
		}{
			"its own":           {where, "a", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, 202},
			"no JSON":           {where, "a", `{`, 400},
			"another's":         {other, "a", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, 404},
			"another endpoint":  {strings.Replace(where, "/mcp?", "/mcp/one?", 1), "a", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, 404},
			"for another":       {where, "b", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, 404},
			"one that is not":   {where + "x", "a", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, 404},
			"nobody knows whom": {where, "nobody", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, 401},
		} {
			if r := do(g, "POST", test.where, test.body, "X-Principal", test.principal); r.status != test.status {
				t.Errorf("%s: got %s", name, r)
			}
		}
		w.want(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		w.leave()
		if rest := w.rest(); len(rest) != 0 {
			t.Errorf("got %v", rest)
		}
		if r := do(g, "POST", where, `{"jsonrpc":"2.0","id":1,"method":"ping"}`, "X-Principal", "a"); r.status != 404 {
			t.Errorf("after its end: %s", r)
		}
		closed(t, g)
	})
}

func TestTheCallsOfATalkFinishWhenTheGatewayCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(progressing(3)))
		w, where := openTalk(t, g)
		idle, _ := openTalk(t, g)
		do(g, "POST", where, stdioInitialize)
		w.want(`"id":0`)
		do(g, "POST", where, withToken)
		w.want(`"progress":0`)
		ended := make(chan error)
		began := time.Now()
		go func() { ended <- g.Close(t.Context()) }()
		idle.rest()
		if !time.Now().Equal(began) {
			t.Errorf("a client that waits for nothing was let go after %v", time.Since(began))
		}
		w.want(`"progress":1`)
		do(g, "POST", where, `{"jsonrpc":"2.0","id":6,"method":"ping"}`)
		w.want(`"id":6`, "shutting down")
		w.want(`"progress":2`)
		w.want(`"id":5`, "done")
		if rest := w.rest(); len(rest) != 0 || !w.whole {
			t.Errorf("got %v", rest)
		}
		if err := <-ended; err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("closed after %v with %v", time.Since(began), err)
		}
	})
}

func TestATalkThatIsNotReadIsNotListenedTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		big := strings.Repeat("x", maxUnread/8)
		g := newGateway(t, nil, one(handler(func(context.Context, rpc.Call) (rpc.Answer, error) { return text(big), nil })))
		w := stuck{httptest.NewRecorder(), make(chan struct{})}
		gone, leave := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(gone, "GET", "http://localhost/mcp", nil)
		r.Header.Set("Accept", "text/event-stream")
		over := make(chan struct{})
		go func() { defer close(over); g.ServeHTTP(w, r) }()
		synctest.Wait()
		where := "/mcp?sessionId="
		for id := range g.visitors.by {
			where += id
		}
		do(g, "POST", where, stdioInitialize)
		taken, status := 0, 0
		for ; taken < 100; taken++ {
			status = do(g, "POST", where, legacyCall).status
			synctest.Wait()
			if status != 202 {
				break
			}
		}
		if status != 429 || taken < 8 || taken > 10 {
			t.Errorf("%d were taken, then %d", taken, status)
		}
		leave()
		close(w.free)
		<-over
		closed(t, g)
	})
}

func TestATalkHasNoMoreRequestsThanItsPrincipalMayMake(t *testing.T) {
	t.Parallel()
	h := newWaiter()
	g := newGateway(t, &Options{MaxCallsPerPrincipal: 2}, one(h))
	c := newConsole(t, t.Context(), g)
	c.write(stdioInitialize)
	c.read()
	for _, id := range []string{"1", "2"} {
		c.write(strings.Replace(legacyCall, "5", id, 1))
		<-h.began
	}
	c.write(`{"jsonrpc":"2.0","id":3,"method":"ping"}`)
	if got := c.read(); !strings.Contains(got, `"id":3`) || !strings.Contains(got, "max_calls_per_principal") {
		t.Errorf("got %s", got)
	}
	close(h.free)
	c.read()
	c.read()
	for got := ""; !strings.Contains(got, `"result":{}`); { // it may still count
		c.write(`{"jsonrpc":"2.0","id":3,"method":"ping"}`)
		got = c.read()
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
	closed(t, g)
}
