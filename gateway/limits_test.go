package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestCallsAreLimitedPerServerAndPerPrincipal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		full, free := newWaiter(), newWaiter()
		g := newGateway(t, &Options{Principal: byHeader, MaxCallsPerPrincipal: 3},
			Server{Name: "full", Handler: full, MaxCalls: 2}, Server{Name: "free", Handler: free})
		modernFrame := func(tool string) string {
			return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,%s}}`, tool, meta)
		}
		var all []*wire
		start := func(tool, who string) *wire {
			w := open(t, g, "POST", "/mcp", modernFrame(tool), append(modernHeaders("tools/call", tool), "X-Principal", who)...)
			synctest.Wait()
			all = append(all, w)
			return w
		}
		start("full__x", "a")
		start("full__x", "b")
		session := initializeWith(t, g, "/mcp", `{}`, "X-Principal", "b")
		refused := func(name string, r response, status int, words string) {
			t.Helper()
			retry := r.header.Get("Retry-After")
			if r.status != status || r.code(t) != -32603 || !strings.Contains(r.body, words) || !strings.Contains(r.body, "did not run") || (retry != "") != (status != 200) {
				t.Errorf("%s: got %s", name, r)
			}
		}
		legacyFrame := strings.Replace(legacyCall, `"x"`, `"full__x"`, 1)
		refused("a third of the server", start("full__x", "c").body(), 503, "max_calls)")
		refused("the same, legacy", do(g, "POST", "/mcp", legacyFrame, session...), 200, "max_calls)")
		start("free__x", "b")
		start("free__x", "b")
		refused("a fourth of b", start("free__x", "b").body(), 429, "max_calls_per_principal)")
		refused("the same, legacy", do(g, "POST", "/mcp", strings.Replace(legacyFrame, "full", "free", 1), session...), 200, "max_calls_per_principal)")
		// What a client is told when it begins it keeps.
		r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{`+meta+`}}`,
			append(modernHeaders("server/discover", ""), "X-Principal", "b")...)
		if caps, _ := jsonrpc.Get(r.result(t), "capabilities"); string(caps) != `{"tools":{}}` {
			t.Errorf("what the servers can, when no more calls are taken: got %s", r)
		}
		start("free__x", "a")
		close(full.free)
		close(free.free)
		for _, w := range all {
			if r := w.body(); r.status == 200 && r.code(t) != 0 {
				t.Errorf("one that was let in: %s", r)
			}
		}
		closed(t, g)
	})
}

func TestHandlersThatPanicDoNotCount(t *testing.T) {
	t.Parallel()
	g := newGateway(t, &Options{MaxCallsPerPrincipal: 1}, one(handler(func(context.Context, rpc.Call) (rpc.Answer, error) { panic("oh") })))
	for range 3 {
		for _, r := range []response{callModern(g, "/mcp", "x", ""), callParked(g, "/mcp", "x", "")} {
			if r.status != 200 || r.code(t) != -32603 || strings.Contains(r.body, "max_calls") {
				t.Errorf("got %s", r)
			}
		}
	}
	closed(t, g)
}

func TestSessionIDsSayWhoseTheyAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := []byte(strings.Repeat("k", KeySize))
		var last rpc.Call
		server := func() Server {
			return one(handler(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
				last = call
				return text(""), nil
			}))
		}
		g := newGateway(t, &Options{Key: key, Name: "a", Principal: byHeader}, server())
		sibling := newGateway(t, &Options{Key: key, Name: "b", Principal: byHeader}, server())
		stranger := newGateway(t, &Options{Key: []byte(strings.Repeat("s", KeySize)), Principal: byHeader}, server())
		r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18",`+
			`"capabilities":{"elicitation":{"url":{}},"roots":{"listChanged":true}},"clientInfo":{"name":"c","version":"é"}}}`, "X-Principal", "p")
		id := r.header.Get("Mcp-Session-Id")
		with := func(g *Gateway, path, principal string) int {
			return do(g, "POST", path, legacyCall, "Mcp-Session-Id", id, "X-Principal", principal).status
		}
		for name, status := range map[string]int{
			"another key":       with(stranger, "/mcp", "p"),
			"another endpoint":  with(g, "/mcp/one", "p"),
			"another principal": with(g, "/mcp", "q"),
			"no principal":      with(g, "/mcp", ""),
		} {
			if status != 404 {
				t.Errorf("%s: got %d", name, status)
			}
		}
		if with(g, "/mcp", "p") != 200 {
			t.Error("its own does not take it")
		}
		first := last.Caller
		if status := with(sibling, "/mcp", "p"); status != 200 || last.Caller != first || first.Session == "" || first.Principal != "p" {
			t.Errorf("another with the same key: got %d; its server saw %+v, and %+v before", status, last.Caller, first)
		}
		if c := first.Capabilities; !c.ElicitationURL || !c.Roots || c.Sampling {
			t.Errorf("the server saw %+v", c)
		}
		session, ok := sibling.sessions.open(id, "", "p")
		if !ok || session.protocol != "2025-06-18" || session.info != `{"name":"c","version":"é"}` || session.gateway != "a" {
			t.Errorf("the id says %+v", session)
		}
		if r := do(g, "DELETE", "/mcp", "", "Mcp-Session-Id", id, "X-Principal", "p"); r.status != 204 || with(g, "/mcp", "p") != 404 {
			t.Errorf("ended: %s", r)
		}
		for _, g := range []*Gateway{g, sibling, stranger} {
			closed(t, g)
		}
	})
}

// The time of a server that is asked beside others is up for that server alone.
func TestCallTimeoutOfOneServerIsNotThatOfAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hangs := handler(func(ctx context.Context, _ rpc.Call) (rpc.Answer, error) {
			<-ctx.Done()
			return rpc.Answer{}, context.Cause(ctx)
		})
		thinks := handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			select {
			case <-time.After(listWait - time.Millisecond):
			case <-ctx.Done():
				return rpc.Answer{}, context.Cause(ctx)
			}
			if call.Method == "server/discover" {
				return rpc.Result(json.RawMessage(`{"capabilities":{"completions":{}}}`)), nil
			}
			return demo(ctx, call)
		})
		g := newPlain(t, &Options{Prefix: PrefixNever}, Server{Name: "a", Handler: hangs, CallTimeout: time.Second}, Server{Name: "b", Handler: thinks})
		r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}`)
		if r.status != 200 || !strings.Contains(r.body, `"completions":{}`) {
			t.Errorf("initialize: %s", r)
		}
		if r := callModern(g, "/mcp", "echo", ""); r.status != 200 || !strings.Contains(r.body, `"text":"ok"`) {
			t.Errorf("a name that is looked for: %s", r)
		}
		closed(t, g)
	})
}
