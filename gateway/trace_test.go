package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

// TestTraceOfARequest reads it from _meta, or else from headers, in both eras.
func TestTraceOfARequest(t *testing.T) {
	t.Parallel()
	const inMeta, inHeader = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00"
	var got *rpc.Trace
	g := newGateway(t, nil, one(handler(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
		got = call.Trace
		return rpc.Result(json.RawMessage(`{"content":[]}`)), nil
	})))
	session := initialize(t, g, "/mcp")
	for name, test := range map[string]struct {
		meta    string // members
		headers []string
		want    *rpc.Trace
	}{
		"none":         {"", nil, nil},
		"_meta":        {`"traceparent":"` + inMeta + `","tracestate":"a=b","baggage":"c=d"`, nil, &rpc.Trace{Parent: inMeta, State: "a=b", Baggage: "c=d"}},
		"headers":      {"", []string{"traceparent", inHeader, "tracestate", "e=f", "baggage", "g=h"}, &rpc.Trace{Parent: inHeader, State: "e=f", Baggage: "g=h"}},
		"both":         {`"traceparent":"` + inMeta + `"`, []string{"traceparent", inHeader, "tracestate", "e=f"}, &rpc.Trace{Parent: inMeta}},
		"none that is": {`"traceparent":7`, []string{"traceparent", "x", "baggage", "ä"}, nil},
		"bad in _meta": {`"traceparent":"x"`, []string{"traceparent", inHeader}, &rpc.Trace{Parent: inHeader}},
	} {
		comma := ""
		if test.meta != "" {
			comma = ","
		}
		for era, send := range map[string]func(){
			"modern": func() {
				body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x",` + strings.Replace(meta, `{`, `{`+test.meta+comma, 1) + `}}`
				do(g, "POST", "/mcp", body, append(modernHeaders("tools/call", "x"), test.headers...)...)
			},
			"legacy": func() {
				body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{` + test.meta + `}}}`
				do(g, "POST", "/mcp", body, append([]string{"Mcp-Session-Id", session}, test.headers...)...)
			},
		} {
			got = &rpc.Trace{Parent: "not called"}
			send()
			if (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
				t.Errorf("%s, %s: got %+v, want %+v", era, name, got, test.want)
			}
		}
	}
	closed(t, g)
}

// TestCallsAreCountedByErasAndOutcome has calls that end in each way there is.
func TestCallsAreCountedByErasAndOutcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		ends := make(map[Outcome]int)
		hooks := Hooks{
			RequestStart: func(ctx context.Context, e RequestStart) context.Context { return ctx },
			RequestEnd: func(_ context.Context, e RequestEnd) {
				mu.Lock()
				defer mu.Unlock()
				if e.Server == "one" {
					ends[e.Outcome]++
				}
				if (e.Err == nil) != (e.Outcome == Answered || e.Outcome == ToolError) {
					t.Errorf("%s with %v", e.Outcome, e.Err)
				}
			},
		}
		server := handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			var params struct{ Name string }
			if err := json.Unmarshal(call.Params, &params); err != nil {
				return rpc.Answer{}, err
			}
			switch params.Name {
			case "legacy":
				return rpc.LegacyResult(json.RawMessage(`{"content":[]}`)), nil
			case "modern":
				return rpc.ModernResult(json.RawMessage(`{"resultType":"complete","content":[{"type":"text","text":"\"isError\":true"}]}`)), nil
			case "tool_error":
				return rpc.ModernResult(json.RawMessage(`{"resultType":"complete","isError" : true,"content":[]}`)), nil
			case "error":
				return rpc.Answer{}, rpc.Errorf(-32000, "no")
			case "unavailable":
				return rpc.Answer{}, fmt.Errorf("x: %w", mcpool.ErrUnavailable)
			case "refused":
				return rpc.Answer{}, mcpool.ErrQueueFull
			case "lost":
				return rpc.Answer{}, errors.New("gone")
			}
			<-ctx.Done()
			return rpc.Answer{}, context.Cause(ctx)
		})
		g := newGateway(t, &Options{Hooks: hooks}, Server{Name: "one", Handler: server, CallTimeout: time.Minute, MaxCalls: 1})
		session := initialize(t, g, "/mcp")
		legacyTool := func(name string) {
			legacyPost(g, "/mcp", session, `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"`+name+`"}}`)
		}
		legacyTool("error") // before its era is known
		legacyTool("legacy")
		for _, tool := range []string{"unavailable", "refused", "lost", "error"} {
			callModern(g, "/mcp", tool, "")
		}
		callModern(g, "/mcp", "modern", "")
		legacyTool("tool_error")
		callModern(g, "/mcp", "tool_error", "")
		callModern(g, "/mcp", "times out", "")
		var waits sync.WaitGroup
		waits.Go(func() { legacyTool("is cancelled") })
		synctest.Wait()
		callModern(g, "/mcp", "modern", "") // beyond MaxCalls
		legacyPost(g, "/mcp", session, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}`)
		waits.Wait()

		var got []string
		total := make(map[Outcome]int)
		for _, c := range g.Status().Servers[0].Calls {
			got = append(got, fmt.Sprint(c.ClientEra, " ", c.ServerEra, " ", c.Outcome, " ", c.Count))
			total[c.Outcome] += int(c.Count)
		}
		slices.Sort(got)
		want := []string{
			"legacy legacy ok 1", "legacy modern cancelled 1", "legacy modern tool_error 1", "legacy none error 1",
			"modern legacy error 1", "modern legacy lost 1", "modern legacy refused 1", "modern legacy unavailable 1",
			"modern modern ok 1", "modern modern refused 1", "modern modern timeout 1", "modern modern tool_error 1",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for _, o := range Outcomes() {
			if total[o] == 0 {
				t.Errorf("no call ended as %s", o)
			}
			if ends[o] != total[o] {
				t.Errorf("hooks were told of %d requests that ended as %s, want %d", ends[o], o, total[o])
			}
		}
		closed(t, g)
	})
}
