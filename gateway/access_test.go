package gateway

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/mcpool-dev/mcpool/rpc"
)

func TestEachRequestIsWrittenDownOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []Access
	g := newGateway(t, &Options{Principal: byHeader, Access: func(a Access) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, a)
	}}, Server{Name: "a", Handler: handler(demo)}, Server{Name: "b", Handler: fails(errors.New("no"))})
	last := func() Access {
		mu.Lock()
		defer mu.Unlock()
		if len(got) != 1 {
			t.Fatalf("%d requests are written down", len(got))
		}
		a := got[0]
		got = nil
		if a.Duration <= 0 || a.RequestID == "" || a.From != "192.0.2.1:1234" { // as httptest has it
			t.Errorf("got %+v", a)
		}
		a.Duration, a.RequestID, a.From = 0, "", ""
		return a
	}
	session := initializeWith(t, g, "/mcp/a", `{}`, "X-Principal", "p")
	mu.Lock()
	got = nil
	mu.Unlock()
	for name, test := range map[string]struct {
		request func() response
		want    Access
	}{
		"a call": {
			func() response { return callModern(g, "/mcp", "a__echo", "") },
			Access{Method: "POST", Path: "/mcp", Call: "tools/call", Server: "a", Tool: "a__echo", Status: 200},
		},
		"a legacy one": {
			func() response {
				return do(g, "POST", "/mcp/a", strings.Replace(legacyCall, `"x"`, `"echo"`, 1), session...)
			},
			Access{Method: "POST", Path: "/mcp/a", Call: "tools/call", Server: "a", Tool: "echo", Principal: "p", Status: 200},
		},
		"one that fails": {
			func() response { return callModern(g, "/mcp", "b__echo", "") },
			Access{Method: "POST", Path: "/mcp", Call: "tools/call", Server: "b", Tool: "b__echo", Status: 200},
		},
		"a tool of nobody": {
			func() response { return callModern(g, "/mcp", "c__echo", "") },
			Access{Method: "POST", Path: "/mcp", Call: "tools/call", Status: 400},
		},
		"a list": {
			func() response { return listModern(g, "/mcp") },
			Access{Method: "POST", Path: "/mcp", Call: "tools/list", Status: 200},
		},
		"a foreign host": {
			func() response { return do(g, "POST", "/mcp", "{}", "Host", "evil.example.com") },
			Access{Method: "POST", Status: 403},
		},
		"a path of nothing": {
			func() response { return do(g, "GET", "/mcp/secret?secret", "") },
			Access{Method: "GET", Status: 404},
		},
		"nobody that is known": {
			func() response { return do(g, "POST", "/mcp", "{}", "X-Principal", "nobody") },
			Access{Method: "POST", Path: "/mcp", Status: 401},
		},
		"the end of a session": {
			func() response { return do(g, "DELETE", "/mcp/a", "", session...) },
			Access{Method: "DELETE", Path: "/mcp/a", Server: "a", Principal: "p", Status: 204},
		},
	} {
		if name == "the end of a session" {
			defer func() {
				r := test.request()
				if a := last(); a != test.want || r.status != 204 {
					t.Errorf("%s: got %+v, want %+v", name, a, test.want)
				}
			}()
			continue
		}
		r := test.request()
		test.want.Status, test.want.Bytes = r.status, int64(len(r.body))
		if a := last(); a != test.want {
			t.Errorf("%s: got %+v, want %+v", name, a, test.want)
		}
	}
}

func TestRequestsAreNamed(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	var ids []string
	g := newGateway(t, &Options{
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
		Access: func(a Access) { ids = append(ids, a.RequestID) },
	}, one(handler(func(_ context.Context, call rpc.Call) (rpc.Answer, error) { panic("oh") })))
	for given, taken := range map[string]bool{
		"": false, "a-1_B.2": true, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false,
		"a b": false, "a\"b": false, "é": false, "a\nb": false,
	} {
		log.Reset()
		ids = nil
		r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x",`+meta+`}}`,
			append(modernHeaders("tools/call", "x"), "X-Request-Id", given)...)
		id := r.header.Get("X-Request-Id")
		if (id == given) != taken || !isRequestID(id) || len(ids) != 1 || ids[0] != id {
			t.Errorf("%q: the client is told %q, and written down is %q", given, id, ids)
		}
		if !strings.Contains(log.String(), "request_id="+id+"\n") && !strings.Contains(log.String(), "request_id="+id+" ") {
			t.Errorf("%q: it is not in the log of the request: %s", given, &log)
		}
	}
}
