package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestOpenMakesNoMoreRoundTripsThanItMust(t *testing.T) {
	for name, test := range map[string]struct {
		modern                            bool
		era                               Era
		discover, initialize, initialized int
	}{
		"modern, known":   {true, Modern, 1, 0, 0},
		"modern, unknown": {true, Unknown, 1, 0, 0},
		"legacy, known":   {false, Legacy, 0, 1, 1},
		"legacy, unknown": {false, Unknown, 1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			server := &mcptest.Server{Modern: test.modern, Name: "it"}
			conn := open(t, inBubble(t, server), test.era)
			want := Peer{Name: "it", Version: "1.0", Era: Legacy, Protocol: "2025-11-25"}
			if test.modern {
				want.Era, want.Protocol = Modern, "2026-07-28"
			}
			got := conn.Peer()
			if !bytes.Contains(got.Hello, []byte(`"tools"`)) {
				t.Errorf("Peer().Hello is %s, want the capabilities in it", got.Hello)
			}
			if got.Hello = nil; !reflect.DeepEqual(got, want) {
				t.Errorf("Peer() = %+v, want %+v", got, want)
			}
			mustEcho(t, conn, "hello")
			conn.Close(context.Background())
			for method, n := range map[string]int{
				"server/discover": test.discover, "initialize": test.initialize,
				"notifications/initialized": test.initialized, "tools/call": 1,
			} {
				if got := server.Requests(method); got != n {
					t.Errorf("%d %s, want %d", got, method, n)
				}
			}
			if server.Open() != 0 || server.Gets() != 0 {
				t.Errorf("%d sessions left open, %d GETs", server.Open(), server.Gets())
			}
		})
	}
}

// wantOpenError checks why an opening failed.
func wantOpenError(t testing.TB, conn Conn, err error, permanent, wrongEra bool, texts ...string) {
	t.Helper()
	var open *OpenError
	if conn != nil || !errors.As(err, &open) {
		t.Fatalf("got %v, %T %v, want an *OpenError", conn, err, err)
	}
	if open.Permanent != permanent || open.WrongEra != wrongEra {
		t.Errorf("got permanent %v, wrong era %v, want %v, %v: %v", open.Permanent, open.WrongEra, permanent, wrongEra, err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
}

// onMethod answers the requests of one method.
func onMethod(method string, answer func(http.ResponseWriter, *http.Request)) func(*http.Request, string, http.ResponseWriter) bool {
	return func(r *http.Request, got string, w http.ResponseWriter) bool {
		if got != method {
			return false
		}
		answer(w, r)
		return true
	}
}

func TestOpenUnknownEra(t *testing.T) {
	jsonError := func(status, code int, data string) func(http.ResponseWriter, *http.Request) {
		return reply(status, jsonType, fmt.Sprintf(`{"jsonrpc":"2.0","id":ID,"error":{"code":%d,"message":"no","data":%s}}`, code, data))
	}
	type outcome struct {
		era       Era // Unknown: the opening fails
		permanent bool
	}
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		want   outcome
	}{
		"200 -32601":                {jsonError(200, -32601, `{}`), outcome{era: Legacy}},
		"404 -32601":                {jsonError(404, -32601, `{}`), outcome{era: Legacy}},
		"400 -32022 legacy":         {jsonError(400, -32022, `{"supported":["2025-11-25"]}`), outcome{era: Legacy}},
		"400 -32022 modern":         {jsonError(400, -32022, `{"supported":["2026-07-28"]}`), outcome{era: Modern}},
		"400 text":                  {reply(400, "text/plain", "no"), outcome{era: Legacy}},
		"404 text":                  {reply(404, "text/plain", "no"), outcome{era: Legacy}},
		"405":                       {reply(405, "", ""), outcome{era: Legacy}},
		"406":                       {reply(406, "", ""), outcome{era: Legacy}},
		"415":                       {reply(415, "", ""), outcome{era: Legacy}},
		"202":                       {reply(202, "", ""), outcome{era: Legacy}},
		"html":                      {reply(200, "text/html", "<html>"), outcome{era: Legacy}},
		"result of something else":  {reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"result":{}}`), outcome{era: Legacy}},
		"result without our modern": {reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"result":{"supportedVersions":["2031-01-01"]}}`), outcome{era: Legacy}},
		"result in a stream": {reply(200, "text/event-stream",
			"data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"supportedVersions\":[\"2026-07-28\"]}}\n\n"), outcome{era: Modern}},
		"401":   {reply(401, "", ""), outcome{permanent: true}},
		"403":   {reply(403, "", ""), outcome{permanent: true}},
		"429":   {reply(429, "", ""), outcome{}},
		"500":   {reply(500, "", ""), outcome{}},
		"503":   {reply(503, "", ""), outcome{}},
		"302":   {reply(302, "", ""), outcome{}},
		"reset": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, outcome{}},
	} {
		t.Run(name, func(t *testing.T) {
			server := &mcptest.Server{Fault: onMethod("server/discover", test.answer)}
			conn, err := inBubble(t, server).Open(t.Context(), Known{}, rpc.Capabilities{}, nil)
			if test.want.era == Unknown {
				wantOpenError(t, conn, err, test.want.permanent, false)
				if n := server.Requests("initialize"); n != 0 {
					t.Errorf("%d initialize after no verdict", n)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if conn.Peer().Era != test.want.era {
				t.Errorf("got %v, want %v", conn.Peer().Era, test.want.era)
			}
			conn.Close(t.Context())
		})
	}
}

func TestOpenWrongEra(t *testing.T) {
	legacy, modern := inBubble(t, &mcptest.Server{}), inBubble(t, &mcptest.Server{Modern: true})
	conn, err := legacy.Open(t.Context(), knownAs(Modern), rpc.Capabilities{}, nil)
	wantOpenError(t, conn, err, false, true, "does not speak MCP 2026-07-28", "No valid session ID")
	conn, err = modern.Open(t.Context(), knownAs(Legacy), rpc.Capabilities{}, nil)
	wantOpenError(t, conn, err, false, true, "Unsupported protocol version")
}

// A modern server that is known has no session to begin: nothing is asked.
func TestOpenAsksNothingOfAKnownModernServer(t *testing.T) {
	server := &mcptest.Server{Modern: true}
	endpoint := inBubble(t, server)
	first := open(t, endpoint, Unknown)
	conn, err := endpoint.Open(t.Context(), Known{Peer: first.Peer()}, rpc.Capabilities{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	mustEcho(t, conn, "a")
	if server.Requests("server/discover") != 1 || !reflect.DeepEqual(conn.Peer(), first.Peer()) {
		t.Errorf("%d server/discover, peer %+v", server.Requests("server/discover"), conn.Peer())
	}
	open(t, endpoint, Modern)
	if n := server.Requests("server/discover"); n != 2 {
		t.Errorf("a doubted server was asked %d times, want once more", n)
	}
}

// An endpoint that is set to one version never speaks another.
func TestOpenWithAProtocol(t *testing.T) {
	for name, test := range map[string]struct {
		modern                 bool
		protocol               string
		known                  Known
		discovers, initializes int
		failure                string
	}{
		"legacy":              {false, "2025-11-25", Known{}, 0, 1, ""},
		"older":               {false, "2025-06-18", Known{}, 0, 1, ""},
		"modern":              {true, "2026-07-28", Known{}, 1, 0, ""},
		"known otherwise":     {false, "2025-11-25", knownAs(Modern), 0, 1, ""},
		"legacy, but modern":  {true, "2025-11-25", Known{}, 0, 1, "refused initialize"},
		"modern, but legacy":  {false, "2026-07-28", Known{}, 1, 0, "set to MCP 2026-07-28 alone"},
		"legacy, once modern": {false, "2026-07-28", knownAs(Legacy), 1, 0, "set to MCP 2026-07-28 alone"},
	} {
		t.Run(name, func(t *testing.T) {
			server := &mcptest.Server{Modern: test.modern}
			server.Fault = func(r *http.Request, method string, _ http.ResponseWriter) bool {
				if asked := jsonrpc.GetString(peek(r), "params", "protocolVersion"); method == "initialize" && asked != test.protocol {
					t.Errorf("initialize asks for %q", asked)
				}
				return false
			}
			endpoint := inBubbleWith(t, server, HTTPOptions{Protocol: test.protocol})
			conn, err := endpoint.Open(t.Context(), test.known, rpc.Capabilities{}, nil)
			if test.failure != "" {
				wantOpenError(t, conn, err, true, false, test.failure)
			} else if err != nil {
				t.Fatal(err)
			} else {
				defer conn.Close(context.Background())
				mustEcho(t, conn, "a")
			}
			if d, i := server.Requests("server/discover"), server.Requests("initialize"); d != test.discovers || i != test.initializes {
				t.Errorf("%d server/discover and %d initialize, want %d and %d", d, i, test.discovers, test.initializes)
			}
		})
	}
	if _, err := HTTP("http://host/mcp", HTTPOptions{Protocol: "2026"}); err == nil || !strings.Contains(err.Error(), "2025-03-26") {
		t.Errorf("protocol 2026: %v, want the versions there are", err)
	}
}

func TestOpenLegacyRefused(t *testing.T) {
	for name, test := range map[string]struct {
		method    string
		answer    func(http.ResponseWriter, *http.Request)
		permanent bool
		text      string
	}{
		"error":           {"initialize", reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"not today"}}`), true, "refused initialize: not today"},
		"unknown method":  {"initialize", reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"what?"}}`), true, "what?"},
		"old version":     {"initialize", reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2023-01-01"}}`), true, "2023-01-01"},
		"no version":      {"initialize", reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"result":{}}`), true, "without a protocol version"},
		"401":             {"initialize", reply(401, "", ""), true, "HTTP 401"},
		"404":             {"initialize", reply(404, "", ""), false, "HTTP 404"},
		"502":             {"initialize", reply(502, "", ""), false, "HTTP 502"},
		"initialized 500": {"notifications/initialized", reply(500, "", ""), false, "HTTP 500"},
		"initialized 404": {"notifications/initialized", reply(404, "", ""), false, "session"},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := inBubble(t, &mcptest.Server{Fault: onMethod(test.method, test.answer)})
			conn, err := endpoint.Open(t.Context(), Known{}, rpc.Capabilities{}, nil)
			wantOpenError(t, conn, err, test.permanent, false, test.text)
		})
	}
}

func TestOpenFailedHalfWayLeavesNoSession(t *testing.T) {
	server := &mcptest.Server{Fault: onMethod("notifications/initialized", reply(500, "", ""))}
	endpoint, err := HTTP("http://server.test", HTTPOptions{RoundTripper: mcptest.RoundTripper(server)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := endpoint.Open(t.Context(), knownAs(Legacy), rpc.Capabilities{}, nil); err == nil {
		t.Fatal("Open succeeded")
	}
	endpoint.Close()
	if server.Sessions() != 1 || server.Open() != 0 {
		t.Errorf("%d sessions opened, %d left", server.Sessions(), server.Open())
	}
}

func TestOpenAcceptsLegacyVersions(t *testing.T) {
	for _, version := range []string{"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"} {
		var sent string
		server := &mcptest.Server{Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
			switch method {
			case "initialize":
				reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"`+version+`"}}`)(w, r)
			case "notifications/initialized":
				sent = r.Header.Get("MCP-Protocol-Version")
				w.WriteHeader(202)
			default:
				return false
			}
			return true
		}}
		conn := open(t, inBubble(t, server), Legacy)
		if conn.Peer().Protocol != version || sent != version {
			t.Errorf("%s: the peer has %q, requests have %q", version, conn.Peer().Protocol, sent)
		}
	}
}

func TestOpenDeclaresCapabilities(t *testing.T) {
	var params string
	server := &mcptest.Server{Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
		if method == "initialize" {
			if r.Header.Get("MCP-Protocol-Version") != "" {
				t.Error("initialize has a version header")
			}
			declared, _ := jsonrpc.Get(peek(r), "params", "capabilities")
			params = string(declared)
		}
		return false
	}}
	endpoint := inBubble(t, server)
	for want, caps := range map[string]rpc.Capabilities{
		`{}`: {},
		`{"elicitation":{},"roots":{},"sampling":{}}`: {Roots: true, Sampling: true, Elicitation: true},
		`{"elicitation":{}}`:                          {Elicitation: true},
	} {
		openWith(t, endpoint, Legacy, caps)
		if params != want {
			t.Errorf("%+v was declared as %s", caps, params)
		}
	}
}

func TestOpenObeysItsContext(t *testing.T) {
	for _, method := range []string{"server/discover", "initialize", "notifications/initialized"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &mcptest.Server{Fault: onMethod(method, func(_ http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
				})}
				endpoint := inBubble(t, server)
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
			})
		})
	}
}

// Some servers answer a notification with a stream that has no end.
func TestOpenWithEndlessStreamForNotification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &mcptest.Server{Fault: onMethod("notifications/initialized", func(w http.ResponseWriter, r *http.Request) {
			reply(200, "text/event-stream", ": welcome\n\n")(w, r)
			<-r.Context().Done()
		})}
		before := time.Now()
		conn := open(t, inBubble(t, server), Legacy)
		mustEcho(t, conn, "hello")
		if took := time.Since(before); took != 0 {
			t.Errorf("the opening took %v", took)
		}
		conn.Close(t.Context())
	})
}

func TestOpenAfterTheEndOfItsContext(t *testing.T) {
	server := &mcptest.Server{}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("too late")
	cancel(why)
	for _, endpoint := range []*Endpoint{inBubble(t, server), stdio(t, mcptest.Dead)} {
		conn, err := endpoint.Open(ctx, Known{}, rpc.Capabilities{}, nil)
		wantOpenError(t, conn, err, false, false, "too late")
	}
	if n := server.Requests("server/discover"); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// A delay of the server is no failure.
func TestOpenOutlivesItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := inBubble(t, &mcptest.Server{OpenDelay: 2 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		conn, err := endpoint.Open(ctx, knownAs(Legacy), rpc.Capabilities{}, nil)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		mustEcho(t, conn, "after the ctx of Open has ended")
		conn.Close(t.Context())
	})
}

func TestOpenRefusedTCP(t *testing.T) {
	network := &mcptest.Network{Handler: &mcptest.Server{}}
	network.SetDown(true)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	for name, endpoint := range map[string]*Endpoint{
		"network": newHTTP(t, "http://server.test", HTTPOptions{RoundTripper: network}),
		"sockets": newHTTP(t, "http://"+listener.Addr().String(), HTTPOptions{}),
	} {
		for _, era := range []Era{Unknown, Legacy, Modern} {
			conn, err := endpoint.Open(t.Context(), knownAs(era), rpc.Capabilities{}, nil)
			wantOpenError(t, conn, err, false, false, "connection refused")
			if t.Failed() {
				t.Fatal(name, era)
			}
		}
	}
}

func TestHTTPRefusesURL(t *testing.T) {
	for _, url := range []string{"", "server.test/mcp", "/mcp", "ftp://server.test", "http://", "http:///mcp", "http://secret\x7f@server.test"} {
		endpoint, err := HTTP(url, HTTPOptions{})
		if err == nil || endpoint != nil {
			t.Errorf("%q was accepted", url)
			continue
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%v tells secrets", err)
		}
	}
}

func TestCredentialsOfTheURL(t *testing.T) {
	var user, password string
	server := &mcptest.Server{Fault: func(r *http.Request, _ string, _ http.ResponseWriter) bool {
		user, password, _ = r.BasicAuth()
		if r.URL.User != nil {
			t.Error("the URL of the request has credentials")
		}
		return false
	}}
	endpoint := newHTTP(t, "http://alice:open%20sesame@server.test/mcp?x=1", HTTPOptions{RoundTripper: mcptest.RoundTripper(server)})
	open(t, endpoint, Legacy)
	if user != "alice" || password != "open sesame" {
		t.Errorf("got %q, %q", user, password)
	}
}
