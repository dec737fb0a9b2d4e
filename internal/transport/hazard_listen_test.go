package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// The hazards of listening to a server: whatever becomes of it, the calls on
// the connection do not notice.

// A listening goes on beside the calls of a connection.
type listening struct {
	filters chan Filter
	heard   Pending
	stop    context.CancelFunc
	ended   chan error
}

func beginListening(t testing.TB, conn Conn, f Filter) *listening {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &listening{filters: make(chan Filter, 1), stop: cancel, ended: make(chan error, 1)}
	l.filters <- f
	go func() { l.ended <- conn.Listen(ctx, l.filters, nil, &l.heard) }()
	return l
}

// await takes in what is heard until each of the changes was.
func (l *listening) await(t *testing.T, changes ...Change) {
	t.Helper()
	missing := map[string]bool{}
	for _, c := range changes {
		missing[c.Method+resource(c)] = true
	}
	for late := time.After(soon); len(missing) > 0; {
		select {
		case <-l.heard.Arrived():
			for _, c := range l.heard.Take() {
				delete(missing, c.Method+resource(c))
			}
		case err := <-l.ended:
			t.Fatalf("listening has ended: %v", err)
		case <-late:
			t.Fatalf("not heard of: %v", missing)
		}
	}
}

// resource is the one that a change is of.
func resource(c Change) string {
	if c.Method != methodUpdated {
		return ""
	}
	var params struct{ URI string }
	_ = json.Unmarshal(c.Params, &params)
	return " " + params.URI
}

// A stream that a server accepts and then sends nothing by, not even headers,
// is no hazard if none is opened before somebody listens, and none then.
func TestHazard06_StreamThatIsNotAnswered(t *testing.T) {
	for _, era := range bothEras {
		for name, answer := range map[string]string{"no headers": "", "no event": ": hello\n\n"} {
			t.Run(era.String()+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					asked, ended := 0, 0
					fault := func(w http.ResponseWriter, r *http.Request) {
						asked++
						silent(answer)(w, r)
						ended++
					}
					server := &mcptest.Server{Modern: era == Modern}
					server.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
						return onGet(fault)(r, method, w) || onMethod(methodListen, fault)(r, method, w)
					}
					conn := open(t, inBubble(t, server), era)
					mustEcho(t, conn, "nobody listens")
					if asked != 0 {
						t.Errorf("%d streams were opened before somebody listened", asked)
					}
					l := beginListening(t, conn, Filter{Tools: true})
					began := time.Now()
					mustEcho(t, conn, "somebody listens")
					beside := make(chan error, 1)
					go func() {
						_, err := call(context.Background(), conn, "sleep", args{"ms": 60000})
						beside <- err
					}()
					synctest.Wait()
					if took := time.Since(began); took != 0 || asked != 1 {
						t.Errorf("a call beside %d streams took %v", asked, took)
					}
					if err := <-beside; err != nil {
						t.Errorf("the call beside it: %v", err)
					}
					closesIn(t.Context(), t, conn, 0)
					wantFailure(t, <-l.ended, MayHaveRun, true)
					synctest.Wait()
					if ended != 1 || server.Open() != 0 {
						t.Errorf("%d of 1 streams ended, %d sessions are open", ended, server.Open())
					}
				})
			})
		}
	}
}

func TestHazard06_StreamThatIsNotAnsweredOverSockets(t *testing.T) {
	for _, era := range bothEras {
		t.Run(era.String(), func(t *testing.T) {
			leavesNothing(t)
			asked := make(chan struct{})
			fault := func(_ http.ResponseWriter, r *http.Request) {
				close(asked)
				<-r.Context().Done()
			}
			server := &mcptest.Server{Modern: era == Modern}
			server.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
				return onGet(fault)(r, method, w) || onMethod(methodListen, fault)(r, method, w)
			}
			conn := open(t, onSockets(t, server), era)
			l := beginListening(t, conn, Filter{Tools: true})
			<-asked
			began := time.Now()
			mustEcho(t, conn, "beside")
			conn.Close(context.Background())
			if took := time.Since(began); took > soon {
				t.Errorf("a call and Close took %v", took)
			}
			wantFailure(t, <-l.ended, MayHaveRun, true)
		})
	}
}

// However a server refuses to be listened to, or stops to be: calls go on in
// the session, which is deleted at the end, and nothing is left open.
func TestHazard07_StreamFails(t *testing.T) {
	const event = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n"
	type answer = func(http.ResponseWriter, *http.Request)
	broken := func(text string) answer {
		return func(w http.ResponseWriter, r *http.Request) {
			reply(200, "text/event-stream", text)(w, r)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	both := map[string]answer{
		"400 text":         reply(400, "text/plain", "no"),
		"400 session":      reply(400, jsonType, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}`),
		"401":              reply(401, "", ""),
		"403":              reply(403, "", ""),
		"404":              reply(404, "text/plain", "404 page not found"),
		"404 with session": reply(404, jsonType, `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}`),
		"405":              reply(405, "", ""),
		"410":              reply(410, "", ""),
		"429":              reply(429, "", ""),
		"500":              reply(500, "", ""),
		"503":              reply(503, "", ""),
		"302":              reply(302, "", ""),
		"202":              reply(202, "", ""),
		"html":             reply(200, "text/html", "<html>"),
		"JSON":             reply(200, jsonType, "{}"),
		"reset":            func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"ends at once":     reply(200, "text/event-stream", ""),
		"ends":             reply(200, "text/event-stream", event),
		"garbage":          reply(200, "text/event-stream", "data: {\"jsonrpc\n\n"+event),
		"cut":              broken(event + "data: {\"jsonr"),
		"ends, with ids":   reply(200, "text/event-stream", "id: 1\n"+event),
		"cut, with ids":    broken("id: 1\n" + event),
	}
	modern := maps.Clone(both)
	modern["404 -32601"] = reply(404, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"Method not found"}}`)
	modern["200 -32601"] = reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"Method not found"}}`)
	modern["in good order"] = reply(200, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"resultType\":\"complete\"}}\n\n")
	for era, answers := range map[Era]map[string]answer{Legacy: both, Modern: modern} {
		for name, answer := range answers {
			t.Run(era.String()+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := &mcptest.Server{Modern: era == Modern}
					server.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
						return onGet(answer)(r, method, w) || onMethod(methodListen, answer)(r, method, w)
					}
					conn := open(t, inBubble(t, server), era)
					beside := make(chan error, 1)
					go func() {
						_, err := call(context.Background(), conn, "sleep", args{"id": "bystander", "ms": 60000})
						beside <- err
					}()
					synctest.Wait()
					began := time.Now()
					l := beginListening(t, conn, Filter{Tools: true})
					err := <-l.ended
					if answered := (*rpc.Error)(nil); errors.As(err, &answered) != strings.Contains(name, "-32601") {
						t.Errorf("got %v", err)
					}
					if (err == nil) != (name == "in good order") {
						t.Errorf("got %v", err)
					}
					if took := time.Since(began); took > 30*time.Second {
						t.Errorf("it took %v", took)
					}
					mustEcho(t, conn, "next")
					if err := <-beside; err != nil {
						t.Errorf("the call beside it: %v", err)
					}
					conn.Close(t.Context())
					synctest.Wait()
					if server.Open() != 0 || server.InFlight() != 0 {
						t.Errorf("%d sessions and %d calls are left", server.Open(), server.InFlight())
					}
				})
			})
		}
	}
}

// The same of a child, by whose one channel all comes.
func TestHazardStdioListen(t *testing.T) {
	for name, test := range map[string]struct {
		era   Era
		mode  string
		check func(*testing.T, error) // nil if it goes on
	}{
		"refused":      {Modern, mcptest.Normal, answers(-32601)},
		"not answered": {Modern, mcptest.IgnoreListen, nil},
		"legacy":       {Legacy, mcptest.Normal, nil},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			conn := open(t, stdioOf(t, test.era, test.mode), test.era)
			bystander := begin(context.Background(), t, conn, "sleep", args{"id": "bystander", "ms": 100})
			l := beginListening(t, conn, Filter{Tools: true})
			began := time.Now()
			if test.check != nil {
				test.check(t, <-l.ended)
			}
			if err := <-bystander; err != nil {
				t.Errorf("the call beside it: %v", err)
			}
			mustEcho(t, conn, "next")
			conn.Close(context.Background())
			if took := time.Since(began); took > soon {
				t.Errorf("it took %v", took)
			}
			if test.check == nil {
				wantFailure(t, <-l.ended, MayHaveRun, true)
			}
			isGone(t, conn)
		})
	}
}

// listenable is a server of the official SDK whose tool "change" changes what
// can be listened to.
func listenable() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "sdk", Version: "v1"}, &mcp.ServerOptions{
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	for _, uri := range []string{"x://a", "x://b"} {
		server.AddResource(&mcp.Resource{Name: uri, URI: uri}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return &mcp.ReadResourceResult{}, nil
		})
	}
	n := 0
	mcp.AddTool(server, &mcp.Tool{Name: "change"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ any) (*mcp.CallToolResult, any, error) {
		n++
		mcp.AddTool(server, &mcp.Tool{Name: fmt.Sprint("tool-", n)}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, any, error) {
			return nil, nil, nil
		})
		for _, uri := range []string{"x://a", "x://b"} {
			if err := server.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: uri}); err != nil {
				return nil, nil, err
			}
		}
		return &mcp.CallToolResult{}, nil, nil
	})
	return server
}

// Whatever is asked for instead of what was, all of it is told from the moment
// that it is acknowledged, also by a server that keeps one subscription for a
// whole channel.
func TestHazard16_ListeningToSomethingElse(t *testing.T) {
	overHTTP := func(options *mcp.StreamableHTTPOptions) func(t *testing.T) *Endpoint {
		return func(t *testing.T) *Endpoint {
			server := listenable()
			t.Cleanup(func() { endSessions(server) })
			return onSockets(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, options))
		}
	}
	overStdio := func(t *testing.T) *Endpoint { return sdkOverStdio(t, "listenable") }
	for name, test := range map[string]struct {
		endpoint func(t *testing.T) *Endpoint
		era      Era
		gaps     bool // what may have changed in between is told, too
	}{
		"legacy": {overHTTP(nil), Legacy, false},
		"modern": {overHTTP(&mcp.StreamableHTTPOptions{Stateless: true}), Modern, false},
		"HTTP+SSE": {func(t *testing.T) *Endpoint {
			server := listenable()
			return onSockets(t, mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil))
		}, Legacy, false},
		"stdio legacy": {overStdio, Legacy, false},
		"stdio modern": {overStdio, Modern, true},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			conn := open(t, test.endpoint(t), test.era)
			filters := []Filter{
				{Tools: true}, {Tools: true, URIs: []string{"x://a"}}, {Tools: true, URIs: []string{"x://a", "x://b"}},
				{Tools: true, URIs: []string{"x://b"}}, {URIs: []string{"x://b"}},
			}
			l := beginListening(t, conn, filters[0])
			acknowledged := Change{Method: MethodAcknowledged}
			l.await(t, acknowledged)
			for i := range 4 * len(filters) {
				if i > 0 {
					l.filters <- filters[i%len(filters)]
					wanted := []Change{acknowledged}
					if test.gaps {
						wanted = append(wanted, filters[(i-1)%len(filters)].Changes()...)
					}
					l.await(t, wanted...)
				}
				if _, err := call(t.Context(), conn, "change", args{}); err != nil {
					t.Fatal(err)
				}
				l.await(t, filters[i%len(filters)].Changes()...)
			}
			l.stop()
			wantFailure(t, <-l.ended, MayHaveRun, false)
			if _, err := call(t.Context(), conn, "change", args{}); err != nil {
				t.Errorf("next: %v", err)
			}
			conn.Close(context.Background())
		})
	}
}

// Where all comes by one channel, a change that is told behind the answer to
// the only call is of no call any more, and not lost with it.
func TestHazard16_ChangeBehindAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &mcptest.Server{OverSSE: true}
		server.Fault = onFaulty(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			server.Say("data: {\"jsonrpc\":\"2.0\",\"id\":" + string(mcptest.ID(r)) + ",\"result\":{}}\n\n" +
				"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n")
		})
		conn := openSSE(t, inBubble(t, server))
		l := beginListening(t, conn, Filter{Tools: true})
		for range 200 {
			synctest.Wait()
			l.heard.Take()
			if _, err := call(t.Context(), conn, "echo", args{"id": "faulty"}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if heard := l.heard.Take(); len(heard) != 1 || heard[0].Method != methodToolsChanged {
				t.Fatalf("heard %v", heard)
			}
		}
		conn.Close(t.Context())
		wantFailure(t, <-l.ended, MayHaveRun, true)
	})
}
