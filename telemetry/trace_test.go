package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// headersSay has a server check that the headers of calls say of their trace
// what _meta says.
func headersSay(t *testing.T) func(*http.Request, string, http.ResponseWriter) bool {
	return func(r *http.Request, method string, _ http.ResponseWriter) bool {
		if method != "tools/call" {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		for _, key := range []string{"traceparent", "tracestate", "baggage"} {
			said := jsonrpc.GetString(body, "params", "_meta", key)
			if header := r.Header.Values(key); said == "" && len(header) > 0 || said != "" && (len(header) != 1 || header[0] != said) {
				t.Errorf("_meta has %s %q, headers %q", key, said, header)
			}
		}
		return false
	}
}

// kinds are servers of each kind.
func kinds(t *testing.T) map[string]mcpool.Server {
	over := func(s *mcptest.Server) mcpool.Server {
		s.Fault = headersSay(t)
		return mcpool.Server{URL: "http://one.test/mcp", RoundTripper: mcptest.RoundTripper(s)}
	}
	child := func(mode string) mcpool.Server {
		command, args, env := mcptest.Child(mode)
		return mcpool.Server{Command: command, Args: args, Env: env}
	}
	return map[string]mcpool.Server{
		"legacy over HTTP":  over(&mcptest.Server{}),
		"legacy over SSE":   over(&mcptest.Server{OverSSE: true}),
		"modern over HTTP":  over(&mcptest.Server{Modern: true}),
		"legacy over stdio": child(mcptest.Normal),
		"modern over stdio": child(mcptest.Modern),
	}
}

const traceID = "4bf92f3577b34da6a3ce929d%08x"

// parentOf is the traceparent of a client's call, sampled.
func parentOf(n int) string { return fmt.Sprintf("00-"+traceID+"-00f067aa%08x-01", n+1, n+1) }

// TestClientGatewayAndServerAreOneTrace has 64 callers at once call over one
// connection, each with a trace of its own, and again when the connection has
// been used. What arrives at the server has to continue the trace of its own
// caller.
func TestClientGatewayAndServerAreOneTrace(t *testing.T) {
	for name, server := range kinds(t) {
		for _, client := range []string{"legacy", "modern"} {
			t.Run(client+" client, "+name, func(t *testing.T) {
				r := newRecorder(t, server)
				if client == "legacy" {
					r.begin()
				}
				const callers, rounds = 64, 3
				type seen struct {
					Trace struct{ Traceparent, Tracestate, Baggage string }
				}
				var mu sync.Mutex
				saw := make(map[int]seen)
				var all sync.WaitGroup
				for caller := range callers {
					all.Go(func() {
						for round := range rounds {
							n := round*callers + caller
							said := map[string]string{"traceparent": parentOf(n), "tracestate": fmt.Sprintf("c=%d", n), "baggage": fmt.Sprintf("caller=%d", n)}
							var header http.Header
							if n%2 == 1 {
								header = make(http.Header)
								for key, value := range said {
									header.Set(key, value)
								}
								said = nil
							}
							w := r.call(n, "echo", map[string]any{"text": fmt.Sprint(n), "ms": n % 3}, said, "", header)
							raw, _ := jsonrpc.Get(w.Body.Bytes(), "result", "structuredContent")
							var s seen
							if err := json.Unmarshal(raw, &s); err != nil {
								t.Errorf("%d: %d %s", n, w.Code, w.Body)
								return
							}
							mu.Lock()
							saw[n] = s
							mu.Unlock()
						}
					})
				}
				all.Wait()
				spans := r.flushed()
				rode := make(map[string]int)
				for n := range callers * rounds {
					got := saw[n].Trace
					if got.Baggage != fmt.Sprintf("caller=%d", n) || got.Tracestate != fmt.Sprintf("c=%d", n) {
						t.Fatalf("call %d arrived with %+v", n, got)
					}
					id, span := got.Traceparent[3:35], got.Traceparent[36:52]
					if id != fmt.Sprintf(traceID, n+1) || !strings.HasSuffix(got.Traceparent, "-01") {
						t.Fatalf("call %d arrived with the traceparent %s", n, got.Traceparent)
					}
					sent := spans[span]
					served := spans[sent.Parent.SpanID().String()]
					if sent.Name != "tools/call echo" || sent.SpanKind != trace.SpanKindClient ||
						served.Name != "tools/call echo" || served.SpanKind != trace.SpanKindServer ||
						served.SpanContext.TraceID().String() != id || served.Parent.SpanID().String() != fmt.Sprintf("00f067aa%08x", n+1) {
						t.Fatalf("call %d: its server's parent is %+v, and that one's %+v", n, sent, served)
					}
					if n >= callers { // before that the era of a server may not be known
						rode[attributeOf(sent, "mcpool.connection")]++
					}
					if got := attributeOf(served, "jsonrpc.request.id"); got != fmt.Sprint(n) {
						t.Errorf("call %d has the id %s", n, got)
					}
				}
				if len(rode) != 1 {
					t.Errorf("calls went over %v, want one connection", rode)
				}
			})
		}
	}
}

func attributeOf(s tracetest.SpanStub, key string) string {
	for _, a := range s.Attributes {
		if a.Key == attribute.Key(key) {
			return a.Value.String()
		}
	}
	return ""
}

// TestMultiRoundTripIsOneTrace has a server ask the client something, so that
// the client makes two requests.
func TestMultiRoundTripIsOneTrace(t *testing.T) {
	for name, server := range kinds(t) {
		t.Run(name, func(t *testing.T) {
			r := newRecorder(t, server)
			arguments := map[string]any{"method": "elicitation/create", "params": map[string]any{"message": "?", "requestedSchema": map[string]any{"type": "object", "properties": map[string]any{}}}}
			parent := func(span int) map[string]string {
				return map[string]string{"traceparent": fmt.Sprintf("00-"+traceID+"-00f067aa%08x-01", 7, span)}
			}
			w := r.call(1, "ask", arguments, parent(1), "", nil)
			var asked struct {
				Result struct {
					ResultType    string
					InputRequests map[string]any
					RequestState  json.RawMessage
				}
			}
			if err := json.Unmarshal(w.Body.Bytes(), &asked); err != nil || asked.Result.ResultType != "input_required" {
				t.Fatalf("got %d %s", w.Code, w.Body)
			}
			responses := make(map[string]any)
			for key := range asked.Result.InputRequests {
				responses[key] = map[string]any{"action": "accept", "content": map[string]any{}}
			}
			answers, _ := json.Marshal(responses)
			more := fmt.Sprintf(`,"inputResponses":%s`, answers)
			if asked.Result.RequestState != nil {
				more += fmt.Sprintf(`,"requestState":%s`, asked.Result.RequestState)
			}
			w = r.call(2, "ask", arguments, parent(2), more, nil)
			reached := jsonrpc.GetString(w.Body.Bytes(), "result", "structuredContent", "trace", "traceparent")
			if reached == "" {
				t.Fatalf("got %d %s", w.Code, w.Body)
			}
			served, sent := 0, 0
			spans := r.flushed()
			for _, s := range spans {
				if s.SpanContext.TraceID().String() != fmt.Sprintf(traceID, 7) {
					if s.Name != "mcpool.open" && attributeOf(s, "mcp.method.name") == "tools/call" {
						t.Errorf("%s is of another trace", s.Name)
					}
					continue
				}
				switch s.SpanKind {
				case trace.SpanKindServer:
					served++
				case trace.SpanKindClient:
					sent++
					if parent := spans[s.Parent.SpanID().String()]; parent.SpanKind != trace.SpanKindServer {
						t.Errorf("the parent of what was sent is %+v", parent)
					}
				}
			}
			rounds := 1 // the call of a legacy server goes on
			if strings.HasPrefix(name, "modern") {
				rounds = 2
			}
			if served != 2 || sent != rounds {
				t.Errorf("%d requests and %d calls are in the trace, want 2 and %d", served, sent, rounds)
			}
			if span := spans[reached[36:52]]; reached[3:35] != fmt.Sprintf(traceID, 7) || span.SpanKind != trace.SpanKindClient {
				t.Errorf("the server was told %s, of %+v", reached, span)
			}
		})
	}
}
