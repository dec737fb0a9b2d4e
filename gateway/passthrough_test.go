package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// TestClientsTokenGoesToNoServer has clients of both eras send a token with
// all they ask, to servers of both eras, with and without a token of their own:
// a token is for whom it was given for (MCP 2026-07-28, security considerations,
// "Access Token Privilege Restriction").
func TestClientsTokenGoesToNoServer(t *testing.T) {
	const token = "tops3cret-of-the-client"
	t.Setenv("MCPOOL_TEST_TOKEN", "of-the-gateway")
	for _, modern := range []bool{false, true} {
		for _, auth := range []mcpool.Auth{nil, mcpool.BearerEnv("MCPOOL_TEST_TOKEN")} {
			var mu sync.Mutex
			came := map[string]int{} // requests by method
			server := &mcptest.Server{Modern: modern, Fault: func(r *http.Request, method string, _ http.ResponseWriter) bool {
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(body))
				mu.Lock()
				defer mu.Unlock()
				came[method]++
				if said := fmt.Sprint(r.URL, r.Header, string(body)); strings.Contains(said, token) {
					t.Errorf("%s came with it: %s", method, said)
				}
				if got := r.Header.Get("Authorization"); (auth != nil) != (got == "Bearer of-the-gateway") {
					t.Errorf("%s came with Authorization %q", method, got)
				}
				return false
			}}
			pool, err := mcpool.New(mcpool.Server{
				Name: "one", URL: "http://server.test/mcp", RoundTripper: mcptest.RoundTripper(server), Auth: auth,
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			g := newGateway(t, nil, one(pool))
			send := func(body string, headers ...string) response {
				t.Helper()
				r := do(g, "POST", "/mcp", body, append(headers, "Authorization", "Bearer "+token, "Proxy-Authorization", token, "Cookie", token)...)
				if r.status/100 != 2 || strings.Contains(r.body, `"error"`) {
					t.Errorf("modern %v: %s", modern, r)
				}
				return r
			}
			echo := `"name": "echo", "arguments": {"id": "%s", "text": "hello"}`
			send(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+meta+`}}`, modernHeaders("tools/list", "")...)
			send(fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{`+echo+`,%s}}`, "a", meta), modernHeaders("tools/call", "echo")...)
			session := send(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`).header.Get("Mcp-Session-Id")
			legacy := []string{"Mcp-Session-Id", session, "MCP-Protocol-Version", "2025-11-25"}
			send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`, legacy...)
			send(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, legacy...)
			send(fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{`+echo+`}}`, "b"), legacy...)
			if err := g.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if err := pool.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if came["tools/call"] != 2 || came["tools/list"] == 0 {
				t.Errorf("the server got %v", came)
			}
		}
	}
}
