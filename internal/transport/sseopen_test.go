package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// knownSSE is what is known of a server that was found to speak HTTP+SSE.
var knownSSE = Known{Peer: Peer{Era: Legacy, SSE: true}}

func TestSSEOpeningMakesNoMoreRoundTripsThanItMust(t *testing.T) {
	for name, test := range map[string]struct {
		known   Known
		options HTTPOptions
		want    [4]int // discover, initialize, GET, initialized
	}{
		"unknown":            {Known{}, HTTPOptions{}, [4]int{1, 2, 1, 1}},
		"legacy":             {knownAs(Legacy), HTTPOptions{}, [4]int{0, 2, 1, 1}},
		"known":              {knownSSE, HTTPOptions{}, [4]int{0, 1, 1, 1}},
		"set":                {Known{}, HTTPOptions{SSE: true}, [4]int{0, 1, 1, 1}},
		"set, known modern":  {knownAs(Modern), HTTPOptions{SSE: true}, [4]int{0, 1, 1, 1}},
		"one version":        {Known{}, HTTPOptions{Protocol: "2024-11-05"}, [4]int{0, 2, 1, 1}},
		"one version, known": {knownSSE, HTTPOptions{Protocol: "2025-06-18"}, [4]int{0, 1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			server := &mcptest.Server{OverSSE: true, Name: "it"}
			conn, err := inBubbleWith(t, server, test.options).Open(t.Context(), test.known, rpc.Capabilities{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			peer := conn.Peer()
			if !strings.Contains(string(peer.Hello), `"tools"`) || peer.Name != "it" || peer.Era != Legacy || !peer.SSE || peer.Protocol != "2025-11-25" {
				t.Errorf("Peer() = %+v", peer)
			}
			mustEcho(t, conn, "hello")
			conn.Close(context.Background())
			got := [4]int{server.Requests("server/discover"), server.Requests("initialize"), server.Gets(), server.Requests("notifications/initialized")}
			if got != test.want {
				t.Errorf("%v of discover, initialize, GET and initialized, want %v", got, test.want)
			}
			if server.Deletes() != 0 {
				t.Errorf("%d DELETEs", server.Deletes())
			}
		})
	}
	if _, err := HTTP("http://host/sse", HTTPOptions{SSE: true, Protocol: "2026-07-28"}); err == nil {
		t.Error("HTTP+SSE with MCP 2026-07-28 was taken")
	}
}

// What a server without an endpoint for POST says to one there.
func TestSSEIsFoundOut(t *testing.T) {
	for name, refuse := range map[string]func(http.ResponseWriter, *http.Request){
		"400":         reply(400, "text/plain", "sessionid must be provided"),
		"404":         reply(404, "text/html", "<pre>Cannot POST /sse</pre>"),
		"405":         reply(405, "", ""),
		"404 null id": reply(404, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			server := &mcptest.Server{OverSSE: true, Fault: func(r *http.Request, _ string, w http.ResponseWriter) bool {
				if r.Method != http.MethodPost || r.URL.Path != "/mcp" {
					return false
				}
				refuse(w, r)
				return true
			}}
			conn := open(t, inBubble(t, server), Unknown)
			if !conn.Peer().SSE {
				t.Errorf("Peer() = %+v", conn.Peer())
			}
			mustEcho(t, conn, "hello")
		})
	}
}

// onGet answers GETs.
func onGet(answer func(http.ResponseWriter, *http.Request)) func(*http.Request, string, http.ResponseWriter) bool {
	return func(r *http.Request, _ string, w http.ResponseWriter) bool {
		if r.Method == http.MethodGet {
			answer(w, r)
			return true
		}
		return false
	}
}

// silent answers a GET as far as it is told, and then does nothing.
func silent(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		if text != "" {
			reply(200, "text/event-stream", text)(w, r)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}
}

// A server that takes initialize in by none of the two keeps the error that it
// has answered the POST with, and holds nobody up.
func TestSSEIsNotWhatItSpeaks(t *testing.T) {
	for name, test := range map[string]struct {
		post, get func(http.ResponseWriter, *http.Request)
		gets      int
		permanent bool
		took      time.Duration
		texts     []string
	}{
		"404, 404":   {reply(404, "text/plain", "not here"), reply(404, "", ""), 1, false, 0, []string{"HTTP 404 Not Found: not here; HTTP+SSE was tried, too: "}},
		"405, 405":   {reply(405, "", ""), reply(405, "", ""), 1, false, 0, []string{"HTTP 405", "HTTP+SSE was tried, too"}},
		"404, 503":   {reply(404, "", ""), reply(503, "", ""), 1, false, 0, []string{"HTTP 404", "HTTP 503"}},
		"404, 401":   {reply(404, "", ""), reply(401, "", ""), 1, true, 0, []string{"HTTP 404", "HTTP 401"}},
		"404, reset": {reply(404, "", ""), func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1, false, 0, []string{"HTTP 404", "reset"}},
		"404, JSON":  {reply(404, "", ""), reply(200, jsonType, "{}"), 1, false, 0, []string{"HTTP 404", jsonType}},
		"404, 202":   {reply(404, "", ""), reply(202, "", ""), 1, false, 0, []string{"HTTP 404"}},
		"404, ended": {reply(404, "", ""), reply(200, "text/event-stream", "data: {}\n\n"), 1, false, 0, []string{"HTTP 404", "ended before the endpoint event"}},
		"404, cut": {reply(404, "", ""), func(w http.ResponseWriter, r *http.Request) {
			reply(200, "text/event-stream", ": \n")(w, r)
			panic(http.ErrAbortHandler)
		}, 1, false, 0, []string{"HTTP 404", "unexpected EOF"}},
		"404, no header":   {reply(404, "", ""), silent(""), 1, false, endpointSilence, []string{"HTTP 404", "no endpoint event within 2s"}},
		"404, no event":    {reply(404, "", ""), silent(": hello\n\n"), 1, false, endpointSilence, []string{"HTTP 404", "no endpoint event within 2s"}},
		"404, other event": {reply(404, "", ""), silent("event: ping\ndata: 1\n\n"), 1, false, endpointSilence, []string{"HTTP 404", "no endpoint event within 2s"}},
		"404 with an answer": {reply(404, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"what?"}}`), reply(404, "", ""),
			0, true, 0, []string{"refused initialize: what?"}},
		"400 with an answer": {reply(400, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"what?"}}`), reply(404, "", ""),
			0, true, 0, []string{"refused initialize: what?"}},
		"401":  {reply(401, "", ""), reply(404, "", ""), 0, true, 0, []string{"HTTP 401"}},
		"406":  {reply(406, "", ""), reply(404, "", ""), 0, false, 0, []string{"HTTP 406"}},
		"502":  {reply(502, "", ""), reply(404, "", ""), 0, false, 0, []string{"HTTP 502"}},
		"html": {reply(200, "text/html", "<html>"), reply(404, "", ""), 0, false, 0, []string{"<html>"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &mcptest.Server{Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
					return onMethod("initialize", test.post)(r, method, w) || onGet(test.get)(r, method, w)
				}}
				for _, known := range []Known{{}, knownAs(Legacy)} {
					gets, before := server.Gets(), time.Now()
					conn, err := inBubble(t, server).Open(t.Context(), known, rpc.Capabilities{}, nil)
					wantOpenError(t, conn, err, test.permanent, false, test.texts...)
					if took := time.Since(before); took != test.took || server.Gets()-gets != test.gets {
						t.Errorf("%d GETs, and it took %v; want %d and %v", server.Gets()-gets, took, test.gets, test.took)
					}
				}
			})
		})
	}
}

// What is left of the questions before ends when HTTP+SSE is tried.
func TestSSEIsFoundOutAndNothingIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, ended := time.Now(), time.Duration(-1)
		server := &mcptest.Server{OverSSE: true, Fault: onMethod("server/discover", func(w http.ResponseWriter, r *http.Request) {
			reply(200, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"error\":{\"code\":-32601,\"message\":\"no\"}}\n\n")(w, r)
			<-r.Context().Done()
			ended = time.Since(asked)
		})}
		conn := open(t, inBubble(t, server), Unknown)
		time.Sleep(time.Second)
		synctest.Wait()
		if ended != 0 || !conn.Peer().SSE {
			t.Errorf("the stream of server/discover was ended after %v", ended)
		}
		conn.Close(t.Context())
	})
}

func TestSSEIsNotTriedWhereInitializedIsRefused(t *testing.T) {
	server := &mcptest.Server{Fault: onMethod("notifications/initialized", reply(405, "", ""))}
	conn, err := inBubble(t, server).Open(t.Context(), Known{}, rpc.Capabilities{}, nil)
	wantOpenError(t, conn, err, false, false, "HTTP 405")
	if server.Gets() != 0 {
		t.Errorf("%d GETs", server.Gets())
	}
}

// A server that spoke HTTP+SSE and says something else now is asked anew; one
// that is in trouble is not. One that is set to it is never asked.
func TestSSEServerThatHasChanged(t *testing.T) {
	for name, test := range map[string]struct {
		get       func(http.ResponseWriter, *http.Request)
		wrongEra  bool
		permanent bool // if it is known
		set       bool // permanent if it is set
		text      string
	}{
		"400":      {reply(400, "", ""), true, false, false, "does not speak HTTP+SSE"},
		"404":      {reply(404, "", ""), true, false, false, "HTTP 404"},
		"405":      {reply(405, "", ""), true, false, true, "HTTP 405"},
		"JSON":     {reply(200, jsonType, "{}"), true, false, false, jsonType},
		"no event": {silent(": hello\n\n"), true, false, false, ""},
		"401":      {reply(401, "", ""), false, true, true, "HTTP 401"},
		"429":      {reply(429, "", ""), false, false, false, "HTTP 429"},
		"503":      {reply(503, "", ""), false, false, false, "HTTP 503"},
		"reset":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false, false, false, "reset"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &mcptest.Server{Fault: onGet(test.get)}
				before := time.Now()
				conn, err := inBubble(t, server).Open(t.Context(), knownSSE, rpc.Capabilities{}, nil)
				wantOpenError(t, conn, err, test.permanent, test.wrongEra, test.text)
				if took := time.Since(before); took > endpointSilence {
					t.Errorf("it took %v", took)
				}
				// Who set it knows better than to give up after 2 s.
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				before = time.Now()
				conn, err = inBubbleWith(t, server, HTTPOptions{SSE: true}).Open(ctx, knownSSE, rpc.Capabilities{}, nil)
				wantOpenError(t, conn, err, test.set, false, test.text)
				if took := time.Since(before); name == "no event" && took != time.Minute {
					t.Errorf("set to HTTP+SSE, it took %v", took)
				}
				if server.Requests("initialize")+server.Requests("server/discover") != 0 {
					t.Error("something was posted")
				}
			})
		})
	}
}

func TestSSEEndpoint(t *testing.T) {
	const elsewhere = "headers and tokens are for http://server.test:80 alone"
	for endpoint, failure := range map[string]string{
		"/messages?session=session-1":                          "",
		"messages?session=session-1":                           "",
		"http://server.test/messages?session=session-1":        "",
		"http://SERVER.test:80/messages?session=session-1":     "",
		"//server.test/messages?session=session-1#there":       "",
		"http://me:you@server.test/messages?session=session-1": "",
		"http://other.test/messages?session=session-1":         "wants messages sent to http://other.test:80: " + elsewhere,
		"//other.test/messages":                                elsewhere,
		"https://server.test/messages":                         "https://server.test:443: " + elsewhere,
		"http://server.test:8080/messages":                     "http://server.test:8080: " + elsewhere,
		"http://0.0.0.0:3001/messages":                         elsewhere,
		"mailto:server.test":                                   elsewhere,
		"http://[::1/messages":                                 "no URL",
		"\x01":                                                 "no URL",
	} {
		t.Run(endpoint, func(t *testing.T) {
			server := &mcptest.Server{OverSSE: true}
			server.Fault = func(r *http.Request, _ string, w http.ResponseWriter) bool {
				if r.Method == http.MethodPost {
					if r.Host != "server.test" && r.Host != "SERVER.test:80" || r.URL.User != nil || r.URL.Fragment != "" {
						t.Errorf("a request went to %v", r.URL)
					}
					return false
				}
				if r.Header.Get("Accept") != "text/event-stream" || r.Header.Get("Content-Type") != "" {
					t.Errorf("GET with %v", r.Header)
				}
				server.Fault = nil
				server.ServeHTTP(renaming{w, endpoint}, r)
				return true
			}
			conn, err := inBubble(t, server).Open(t.Context(), knownSSE, rpc.Capabilities{}, nil)
			if failure != "" {
				wantOpenError(t, conn, err, true, false, failure)
				if n := server.Requests("initialize"); n != 0 {
					t.Errorf("%d messages were sent", n)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			mustEcho(t, conn, "hello")
		})
	}
}

// renaming is a ResponseWriter that names another endpoint.
type renaming struct {
	http.ResponseWriter
	endpoint string
}

func (w renaming) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), "event: endpoint\n") {
		_, _ = fmt.Fprintf(w.ResponseWriter, "event: endpoint\ndata: %s\n\n", w.endpoint)
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

func (w renaming) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestSSEOpeningObeysItsContext(t *testing.T) {
	for _, at := range []string{"GET", "stream", "initialize", "answer", "initialized"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &mcptest.Server{OverSSE: true}
				if at == "answer" {
					server.OpenDelay = time.Hour
				}
				server.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
					switch {
					case at == "GET" && r.Method == at, at == "initialize" && method == at, at == "initialized" && method == "notifications/initialized":
						<-r.Context().Done()
					case at == "stream" && r.Method == http.MethodGet:
						silent(": hello\n\n")(w, r)
					default:
						return false
					}
					return true
				}
				endpoint := inBubbleWith(t, server, HTTPOptions{SSE: true})
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				before := time.Now()
				conn, err := endpoint.Open(ctx, Known{}, rpc.Capabilities{}, nil)
				if took := time.Since(before); took != 3*time.Second {
					t.Errorf("Open took %v", took)
				}
				wantOpenError(t, conn, err, false, false, "http://server.test: opening")
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v is not the cause of ctx", err)
				}
				endpoint.Close()
				synctest.Wait()
				if server.Open() != 0 {
					t.Errorf("%d streams are left", server.Open())
				}
			})
		})
	}
}

func TestSSEOpeningRefused(t *testing.T) {
	for name, test := range map[string]struct {
		method    string
		answer    func(http.ResponseWriter, *http.Request)
		permanent bool
		text      string
	}{
		"401":             {"initialize", reply(401, "", ""), true, "HTTP 401"},
		"404":             {"initialize", reply(404, "", ""), false, "no longer knows the session"},
		"502":             {"initialize", reply(502, "", ""), false, "HTTP 502"},
		"error":           {"initialize", reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"not today"}}`), true, "refused initialize: not today"},
		"initialized 500": {"notifications/initialized", reply(500, "", ""), false, "HTTP 500"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &mcptest.Server{OverSSE: true, Fault: onMethod(test.method, test.answer)}
				endpoint := inBubble(t, server)
				conn, err := endpoint.Open(t.Context(), knownSSE, rpc.Capabilities{}, nil)
				wantOpenError(t, conn, err, test.permanent, false, test.text)
				endpoint.Close()
				synctest.Wait()
				if server.Open() != 0 {
					t.Errorf("%d streams are left", server.Open())
				}
			})
		})
	}
}

// The answer to initialize comes over the stream, and so may an error.
func TestSSEVersions(t *testing.T) {
	for version, failure := range map[string]string{
		"2024-11-05": "", "2025-03-26": "", "2025-11-25": "", "2023-01-01": "no common protocol version",
	} {
		server := &mcptest.Server{OverSSE: true}
		server.Fault = onMethod("initialize", func(w http.ResponseWriter, r *http.Request) {
			server.Say(`data: {"jsonrpc":"2.0","id":` + string(mcptest.ID(r)) + `,"result":{"protocolVersion":"` + version + "\"}}\n\n")
			w.WriteHeader(http.StatusAccepted)
		})
		conn, err := inBubble(t, server).Open(t.Context(), knownSSE, rpc.Capabilities{}, nil)
		if failure != "" {
			wantOpenError(t, conn, err, true, false, failure)
			continue
		}
		if err != nil || conn.Peer().Protocol != version {
			t.Fatalf("%s: %v", version, err)
		}
		conn.Close(t.Context())
	}
}

func TestSSERequestsAreAuthorizedForThemselves(t *testing.T) {
	g := &gate{}
	server := &mcptest.Server{OverSSE: true, Fault: g.fault}
	conn, err := inBubble(t, server).Open(t.Context(), knownSSE, rpc.Capabilities{}, carries("house"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	g.expect(t, "GET Bearer house-1", "initialize Bearer house-2", "notifications/initialized Bearer house-3")
	if _, err := conn.Call(t.Context(), mcptest.CallTool("echo", args{"id": "a"}), carries("ann")); err != nil {
		t.Fatal(err)
	}
	if err := conn.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.expect(t, "tools/call Bearer ann-1", "ping Bearer house-4")

	ask := mcptest.CallTool("ask", args{"id": "a", "method": "elicitation/create"})
	ctx, cancel := context.WithCancel(t.Context())
	ask.Caller = able
	ask.Events = mcptest.Events{OnAsk: func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	_, err = conn.Call(ctx, ask, carries("bob"))
	<-wantFailure(t, err, MayHaveRun, false).Settled
	g.expect(t, "tools/call Bearer bob-1", "notifications/cancelled Bearer bob-2")
}

// A token that is refused is replaced, for the stream and for messages.
func TestSSERefusedTokenIsReplaced(t *testing.T) {
	g := &gate{shut: func(carried string) bool { return !strings.HasSuffix(carried, "2") }}
	_, err := inBubble(t, &mcptest.Server{OverSSE: true, Fault: g.fault}).Open(t.Context(), knownSSE, rpc.Capabilities{}, carries("house"))
	wantOpenError(t, nil, err, true, false, "HTTP 401")
	g.expect(t, "GET Bearer house-1", "GET Bearer house-2", "initialize Bearer house-3", "initialize Bearer house-4")
}
