package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkCall is what the gateway adds to one call over HTTP, without the
// network: a recorder stands for the client and a constant for the server.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{100, 10_000, 1_000_000} {
		text, _ := json.Marshal(strings.Repeat("x", size))
		answer := handler(answers(fmt.Sprintf(`{"content":[{"type":"text","text":%s}]}`, text)))
		g := newGateway(b, nil, Server{Name: "a", Handler: answer}, Server{Name: "b", Handler: answer})
		session := initialize(b, g, "/mcp")
		for era, test := range map[string]struct {
			params  string
			headers []string
		}{
			"legacy": {`{"name":"a__x","arguments":{"q":"select 1"}}`, []string{"Mcp-Session-Id", session}},
			"modern": {`{"name":"a__x","arguments":{"q":"select 1"},` + meta + `}`, modernHeaders("tools/call", "a__x")},
		} {
			b.Run(fmt.Sprintf("%s/%d", era, size), func(b *testing.B) {
				body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":` + test.params + `}`
				r := httptest.NewRequest("POST", "http://localhost/mcp", nil)
				r.Header.Set("Content-Type", "application/json")
				for h := test.headers; len(h) > 0; h = h[2:] {
					r.Header.Set(h[0], h[1])
				}
				r.ContentLength = int64(len(body))
				b.ReportAllocs()
				for b.Loop() {
					r.Body = readCloser{strings.NewReader(body), func() {}}
					var w discard
					if g.ServeHTTP(&w, r); w.status != 200 {
						b.Fatalf("status %d", w.status)
					}
				}
			})
		}
	}
}

// discard is a client that takes everything and keeps nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header {
	if d.header == nil {
		d.header = make(http.Header)
	}
	return d.header
}
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
