package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Large results pass as they are in all pairings of eras, also where many do at
// once and each is read into the memory of another.
func TestLargeResults(t *testing.T) {
	for _, server := range []*mcptest.Server{{}, {SSE: true}, {Modern: true}, {Modern: true, SSE: true}} {
		upstream := httptest.NewServer(server)
		defer upstream.Close()
		pool, err := mcpool.New(mcpool.Server{Name: "one", URL: upstream.URL}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close(context.Background())
		g := newGateway(t, nil, one(pool))
		session := initialize(t, g, "/mcp")
		for name, client := range map[string]struct {
			more    string // of params
			headers []string
		}{
			"legacy": {"", []string{"Mcp-Session-Id", session}},
			"modern": {"," + meta, modernHeaders("tools/call", "echo")},
		} {
			t.Run(fmt.Sprintf("%s client, modern server %v, SSE %v", name, server.Modern, server.SSE), func(t *testing.T) {
				var all sync.WaitGroup
				for i := range 4 {
					all.Go(func() {
						for _, size := range []int{jsonrpc.Large / 4, jsonrpc.Large, 100_000} {
							text := strings.Repeat(string(rune('a'+i)), size)
							body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"%d-%d","method":"tools/call","params":{"name":"echo","arguments":{"id":"x","text":%q}%s}}`,
								i, size, text, client.more)
							r := do(g, "POST", "/mcp", body, client.headers...)
							m, err := jsonrpc.Parse([]byte(r.body))
							if err != nil || string(m.ID) != fmt.Sprintf(`"%d-%d"`, i, size) || r.header.Get("Content-Type") != "application/json" {
								t.Errorf("%d bytes: %v, %.200s", size, err, r)
								return
							}
							if got := jsonrpc.GetString(m.Result, "structuredContent", "text"); got != text {
								t.Errorf("%d bytes became %d, %.20s", size, len(got), got)
							}
							kind, typed := jsonrpc.Get(m.Result, "resultType")
							if modern := name == "modern"; typed != modern || modern && string(kind) != `"complete"` {
								t.Errorf("%d bytes: resultType is %s", size, kind)
							}
						}
					})
				}
				all.Wait()
			})
		}
	}
}

// The memory of a result is given back once, and not before the result is sent.
func TestResultIsFreedWhenItIsSent(t *testing.T) {
	for name, headers := range map[string][]string{
		"legacy":         {"Mcp-Session-Id", ""},
		"modern":         modernHeaders("tools/call", "x"),
		"modern, events": append(modernHeaders("tools/call", "x"), "Accept", "text/event-stream"),
	} {
		result := `{"resultType":"complete","content":[{"type":"text","text":"` + strings.Repeat("x", jsonrpc.Large) + `"}]}`
		freed := 0
		g := newGateway(t, nil, one(handler(func(context.Context, rpc.Call) (rpc.Answer, error) {
			memory := []byte(result)
			return rpc.ModernResult(memory).Lent(func() { clear(memory); freed++ }), nil
		})))
		params := `{"name":"x",` + meta + `}`
		if name == "legacy" {
			headers[1] = initialize(t, g, "/mcp")
			params = `{"name":"x"}`
		}
		r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":`+params+`}`, headers...)
		if want := strings.TrimPrefix(result, `{"resultType":"complete",`); !strings.Contains(r.body, want) {
			t.Errorf("%s: the result became %.200q", name, r.body)
		}
		if freed != 1 {
			t.Errorf("%s: freed %d times", name, freed)
		}
	}
}

// A deafWriter is a client that has gone.
type deafWriter struct{ *httptest.ResponseRecorder }

func (deafWriter) Write([]byte) (int, error) { return 0, errors.New("gone") }

// What has failed may be written yet, over HTTP/2: the memory of another result
// must not be in its place.
func TestResultThatCouldNotBeSentIsNotFreed(t *testing.T) {
	g := newGateway(t, nil, one(handler(func(context.Context, rpc.Call) (rpc.Answer, error) {
		return text("x").Lent(func() { t.Error("it was freed") }), nil
	})))
	r := httptest.NewRequest("POST", "http://localhost/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`))
	r.Header = http.Header{"Content-Type": {"application/json"}, "Mcp-Session-Id": {initialize(t, g, "/mcp")}}
	g.ServeHTTP(deafWriter{httptest.NewRecorder()}, r)
}
