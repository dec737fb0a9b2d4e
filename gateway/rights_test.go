package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// TestRightsHoldOverAllTransports has a principal with rights call over what is
// no HTTP, where nobody refuses by a status.
func TestRightsHoldOverAllTransports(t *testing.T) {
	left := 4
	a, b := &shop{name: "a", tools: []string{"read", "write/all"}}, &shop{name: "b", tools: []string{"read"}}
	g := newGateway(t, &Options{Rights: func(principal string) Rights {
		if principal != "ann" {
			return Rights{}
		}
		return Rights{
			Serves: func(server string) bool { return server == "a" },
			Offers: func(server, tool string) bool { return !strings.HasPrefix(tool, "write") },
			Wait: func() time.Duration {
				if left--; left < 0 {
					return 1500 * time.Millisecond
				}
				return 0
			},
		}
	}}, Server{Name: "a", Handler: a}, Server{Name: "b", Handler: b})
	c := g.NewClient(t.Context(), "ann")
	defer c.Close()
	id := 0
	ask := func(method, params string) jsonrpc.Message {
		t.Helper()
		id++
		if err := c.Write(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s%s}}`, id, method, params, meta)); err != nil {
			t.Fatal(err)
		}
		frame, err := c.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, err := jsonrpc.Parse(frame)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if got := ask("tools/list", ""); strings.Count(string(got.Result), `"of"`) != 1 || !strings.Contains(string(got.Result), `"a__read"`) {
		t.Errorf("listed %s%s", got.Result, got.Error)
	}
	for tool, ok := range map[string]bool{"a__read": true, "a__write/all": false, "b__read": false} {
		if got := ask("tools/call", fmt.Sprintf(`"name":%q,`, tool)); (got.Result != nil) != ok {
			t.Errorf("%s: %s%s", tool, got.Result, got.Error)
		}
	}
	if got := ask("tools/call", `"name":"a__read",`); !strings.Contains(string(got.Error), "too many requests of yours: the next may be made in 2 s. It did not run.") {
		t.Errorf("one too many: %s%s", got.Result, got.Error)
	}
	if len(a.called) != 1 || len(b.called) != 0 {
		t.Errorf("made %q and %q", a.called, b.called)
	}
}

// TestPatternsOfToolsStandForSlashes: names of tools may have some, and what is
// denied is to be denied.
func TestPatternsOfToolsStandForSlashes(t *testing.T) {
	a := &shop{name: "a", tools: []string{"read", "delete/all", "x/delete"}}
	g := newGateway(t, nil, Server{Name: "a", Handler: a, Deny: []string{"delete*", "*delete"}})
	r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+meta+`}}`, modernHeaders("tools/list", "")...)
	if strings.Contains(r.body, "delete") || !strings.Contains(r.body, `"read"`) {
		t.Errorf("listed %s", r)
	}
	r = do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete/all",`+meta+`}}`, modernHeaders("tools/call", "delete/all")...)
	if r.code(t) != -32602 || len(a.called) > 0 {
		t.Errorf("called %s", r)
	}
}
