package transport

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// overSockets are the servers that speak over HTTP.
func overSockets() map[string]*mcptest.Server {
	return map[string]*mcptest.Server{
		"legacy": {}, "legacy streams": {SSE: true}, "modern": {Modern: true}, "modern streams": {Modern: true, SSE: true},
		"HTTP+SSE": {OverSSE: true},
	}
}

// Many callers use the TCP connections that there are. Those of a transport
// that keeps two idle ones would be hundreds here.
func TestHazard18_TCPConnections(t *testing.T) {
	const callers, calls = 64, 40
	for name, server := range overSockets() {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			var accepted atomic.Int32
			web := httptest.NewUnstartedServer(server)
			web.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					accepted.Add(1)
				}
			}
			web.Start()
			defer web.Close()
			endpoint := newHTTP(t, web.URL, HTTPOptions{})
			defer endpoint.Close()
			conn := open(t, endpoint, Unknown)
			defer conn.Close(context.Background())
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for range calls {
						if _, err := call(t.Context(), conn, "echo", args{}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			// One for each caller, and one while the end of the stream behind its
			// last answer is still read, or over HTTP+SSE that a message was
			// accepted, which may come behind several answers.
			if n := accepted.Load(); n > 4*callers {
				t.Errorf("%d TCP connections for %d callers with %d calls each", n, callers, calls)
			}
		})
	}
}

// What a server answers reaches the caller byte for byte, known to us or not,
// and so does what a caller says reach the server: it answers with a part of
// that.
func TestHazard20_Fidelity(t *testing.T) {
	payloads := map[string]string{
		"large integers":       `{"structuredContent":{"id":9007199254740993,"n":1.10,"e":1E400,"z":-0},"_meta":{"v":18446744073709551617}}`,
		"unknown members":      `{ "content" : [ ], "x" : null, "y" : { "z" : [ 1.0, {} ] }, "isError" : false }`,
		"unknown content type": `{"content":[{"type":"hologram","mesh":[1,2,{"a":18446744073709551617}],"x":null}]}`,
		"spelling":             `{"structuredContent":{"a":"\u00e9\/é\ud83d\ude00","b":1,"a":2}}`,
		"a task":               `{"resultType":"task","taskId":"786512e2","status":"working","ttl":9007199254740993}`,
		"unknown result type":  `{"resultType":"later","when":1.50}`,
	}
	test := func(t *testing.T, conn Conn) {
		for name, payload := range payloads {
			for _, mine := range []rpc.Call{
				{Params: json.RawMessage(`{"name":"verbatim","arguments":{"params":` + payload + `}}`)},
				{Params: json.RawMessage(`{"name":"verbatim","arguments":{"params":` + payload + `},"_meta":{"progressToken":9007199254740993}}`),
					Events: new(events), Caller: rpc.Caller{Capabilities: rpc.Capabilities{Elicitation: true}}},
			} {
				mine.Method = "tools/call"
				answer, err := conn.Call(t.Context(), mine, nil)
				if err != nil || string(answer.Bytes()) != payload {
					t.Errorf("%s: got %s, %v", name, answer.Bytes(), err)
				}
			}
			_, err := conn.Call(t.Context(), rpc.Call{Method: "tools/call",
				Params: json.RawMessage(`{"name":"verbatim","arguments":{"text":"no","params":` + payload + `}}`)}, nil)
			var answered *rpc.Error
			if !errors.As(err, &answered) || string(answered.Data) != payload {
				t.Errorf("%s, in an error: got %#v", name, err)
			}
		}
	}
	for name, server := range overSockets() {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			test(t, open(t, onSockets(t, server), Unknown))
		})
	}
	t.Run("stdio", func(t *testing.T) {
		onStdio(t, func(t *testing.T, era Era) { test(t, open(t, stdioOf(t, era, mcptest.Normal), era)) })
	})
}

// A check asks the server each time, and any answer to it is a sign of life.
func TestHazard14_CheckAsksTheServer(t *testing.T) {
	for name, server := range overSockets() {
		t.Run(name, func(t *testing.T) {
			method := map[bool]string{true: methodDiscover, false: methodPing}[server.Modern]
			conn := open(t, inBubble(t, server), Unknown)
			before := server.Requests(method)
			for range 3 {
				if err := conn.Check(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if n := server.Requests(method) - before; n != 3 {
				t.Errorf("%d requests for 3 checks", n)
			}
			if !strings.HasPrefix(name, "modern") && server.Requests(methodDiscover) > 1 {
				t.Error("a legacy server was asked for more than its era")
			}
		})
	}
}
