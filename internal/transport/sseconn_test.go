package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

func openSSE(t testing.TB, endpoint *Endpoint) Conn {
	t.Helper()
	conn, err := endpoint.Open(t.Context(), knownSSE, rpc.Capabilities{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// onFaulty answers the calls whose id is "faulty".
func onFaulty(fault func(http.ResponseWriter, *http.Request)) func(*http.Request, string, http.ResponseWriter) bool {
	return func(r *http.Request, method string, w http.ResponseWriter) bool {
		if method != "tools/call" || !strings.Contains(string(peek(r)), `"id":"faulty"`) {
			return false
		}
		fault(w, r)
		return true
	}
}

// sseHazard makes a call that fault answers beside one in flight, which the
// server has accepted and waits in, and a call after it. say is what the server
// says over the stream once it has accepted the call; nil means that fault
// answers the POST.
func sseHazard(t *testing.T, fault func(http.ResponseWriter, *http.Request), say string, check func(*testing.T, error)) {
	t.Helper()
	for name, reach := range reaches {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			server := &mcptest.Server{OverSSE: true}
			server.Fault = onFaulty(func(w http.ResponseWriter, r *http.Request) {
				if say == "" {
					fault(w, r)
					return
				}
				w.WriteHeader(http.StatusAccepted)
				server.Say(strings.ReplaceAll(say, "ID", string(mcptest.ID(r))))
			})
			endpoint := reach(t, server)
			arrived, release := make(chan struct{}), make(chan struct{})
			meet(t, func() Conn { return openSSE(t, endpoint) }, func(conn Conn) error {
				asked := &events{ask: func(context.Context, string) (json.RawMessage, error) {
					close(arrived)
					<-release
					return json.RawMessage(`{}`), nil
				}}
				_, err := callWith(context.Background(), conn, asked, "ask", "", args{"id": "bystander", "method": "elicitation/create"})
				return err
			}, arrived, release, check)
		})
	}
}

func TestSSESessionGone(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request){
		"404 text":      reply(404, "text/plain", "Could not find session"),
		"404 empty":     reply(404, "", ""),
		"404 null id":   reply(404, jsonType, `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}`),
		"410":           reply(410, "text/plain", "gone"),
		"400 text":      reply(400, "text/plain", "session closed"),
		"400 -32602":    reply(400, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"Invalid session ID"}}`),
		"400 -32000":    reply(400, jsonType, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid SESSION ID provided"}}`),
		"400 -32001":    reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32001,"message":"unknown"}}`),
		"500 -32600":    reply(500, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32600,"message":"session expired"}}`),
		"404 to nobody": reply(404, jsonType, `{"jsonrpc":"2.0","id":"x","error":{"code":-32601,"message":"Method not found"}}`),
	} {
		t.Run(name, func(t *testing.T) { sseHazard(t, fault, "", fails(Refused, true, "no longer knows the session")) })
	}
}

func TestSSERequestThatIsNotAccepted(t *testing.T) {
	for name, test := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request)
		check func(*testing.T, error)
	}{
		"400 text":       {reply(400, "text/plain", "failed to parse body"), fails(Refused, false, "HTTP 400 Bad Request: failed to parse body")},
		"401":            {reply(401, "text/plain", "who are you"), fails(Refused, false, "HTTP 401 Unauthorized: who are you")},
		"403":            {reply(403, "text/plain", ""), fails(Refused, false, "HTTP 403")},
		"405":            {reply(405, "", ""), fails(Refused, true, "HTTP 405")},
		"413":            {reply(413, "text/plain", ""), fails(Refused, false, "HTTP 413")},
		"429":            {reply(429, "text/plain", "slow down"), fails(Refused, false, "HTTP 429")},
		"302":            {reply(302, "", ""), fails(Refused, false, "redirects are not followed")},
		"500":            {reply(500, "text/plain", "oops"), fails(MayHaveRun, false, "HTTP 500")},
		"502":            {reply(502, "text/html", "<html>"), fails(MayHaveRun, false, "HTTP 502")},
		"503":            {reply(503, "", ""), fails(MayHaveRun, false, "HTTP 503")},
		"504":            {reply(504, "", ""), fails(MayHaveRun, false, "HTTP 504")},
		"524":            {reply(524, "text/html", "<html>timeout"), fails(MayHaveRun, false, "HTTP 524")},
		"page":           {reply(200, "text/html; charset=utf-8", "\n<!doctype html><p>log in"), fails(MayHaveRun, false, "<!doctype html><p>log in")},
		"reset":          {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, fails(MayHaveRun, false)},
		"400 with error": {reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"no such tool in this session"}}`), answers(-32602)},
		"404 -32601":     {reply(404, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"Method not found"}}`), answers(-32601)},
	} {
		t.Run(name, func(t *testing.T) { sseHazard(t, test.fault, "", test.check) })
	}
}

func TestSSEStrayEvents(t *testing.T) {
	const answer = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n"
	answered := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("got %v", err)
		}
	}
	for name, test := range map[string]struct {
		say   string
		check func(*testing.T, error)
	}{
		"comment":         {": ping\n\n" + answer, answered},
		"other type":      {"event: ping\ndata: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":7}\n\n" + answer, answered},
		"endpoint again":  {"event: endpoint\ndata: http://other.test/\n\n" + answer, answered},
		"garbage":         {"data: {\"jsonrpc\":\n\n" + answer, answered},
		"text":            {"data: hello\n\n" + answer, answered},
		"batch":           {"data: []\n\n" + answer, answered},
		"other id":        {"data: {\"jsonrpc\":\"2.0\",\"id\":4711,\"result\":7}\n\n" + answer, answered},
		"string id":       {"data: {\"jsonrpc\":\"2.0\",\"id\":\"ID\",\"result\":7}\n\n" + answer, answered},
		"without type":    {"data: {\"jsonrpc\":\"2.0\",\"id\":ID.0,\"result\":{}}\n\n", answered},
		"twice":           {answer + answer, answered},
		"foreign request": {"data: {\"jsonrpc\":\"2.0\",\"id\":\"r\",\"method\":\"roots/list\"}\n\n" + answer, answered},
		"half a message":  {"data: {\"id\":ID,\"result\":{}}\n\n", fails(MayHaveRun, false, "the answer is no message")},
		"error":           {"data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"error\":{\"code\":-32603,\"message\":\"no\"}}\n\n", answers(-32603)},
		"other version":   {"data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"error\":{\"code\":-32022,\"message\":\"no\"}}\n\n", fails(Refused, true, "version")},
	} {
		t.Run(name, func(t *testing.T) { sseHazard(t, nil, test.say, test.check) })
	}
}

// What the server says to a POST is not waited for where it has no end, and
// neither is the POST where the answer is there.
func TestSSEAcceptanceHoldsNobodyUp(t *testing.T) {
	for name, test := range map[string]struct {
		header bool
		ended  time.Duration // when the POST is
	}{"endless": {true, 0}, "none": {false, drainTime}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &mcptest.Server{OverSSE: true}
				began, ended := time.Now(), time.Duration(-1)
				server.Fault = onFaulty(func(w http.ResponseWriter, r *http.Request) {
					if test.header {
						reply(200, "text/plain", "Accepted")(w, r)
						_ = http.NewResponseController(w).Flush()
					}
					server.Say("data: {\"jsonrpc\":\"2.0\",\"id\":" + string(mcptest.ID(r)) + ",\"result\":{}}\n\n")
					<-r.Context().Done()
					ended = time.Since(began)
				})
				conn := openSSE(t, inBubble(t, server))
				ctx, cancel := context.WithCancel(t.Context())
				if _, err := call(ctx, conn, "echo", args{"id": "faulty"}); err != nil || time.Since(began) != 0 {
					t.Errorf("%v after %v", err, time.Since(began))
				}
				cancel() // as callers do; the POST is let alone for a while
				time.Sleep(time.Second)
				synctest.Wait()
				if ended != test.ended {
					t.Errorf("the POST was ended after %v, want %v", ended, test.ended)
				}
				conn.Close(t.Context())
			})
		})
	}
}

// Progress that comes while the POST is not accepted yet is not held back.
func TestSSEProgressBeforeAcceptance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan struct{})
		server := &mcptest.Server{OverSSE: true}
		server.Fault = onFaulty(func(w http.ResponseWriter, r *http.Request) {
			id := string(mcptest.ID(r))
			server.Say(`data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + id + ",\"progress\":1}}\n\n")
			<-told
			server.Say(`data: {"jsonrpc":"2.0","id":` + id + ",\"result\":{}}\n\n")
		})
		conn := openSSE(t, inBubble(t, server))
		c := mcptest.CallTool("echo", args{"id": "faulty"})
		c.Params, _ = jsonrpc.Set(c.Params, []byte(`"t"`), "_meta", "progressToken")
		c.Events = mcptest.Events{OnNotify: func(string, json.RawMessage) { close(told) }}
		if _, err := conn.Call(t.Context(), c, nil); err != nil {
			t.Error(err)
		}
		conn.Close(t.Context())
	})
}

// What names no call goes to a call that is alone, never to one of several.
func TestSSEUnattributed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &mcptest.Server{OverSSE: true}
		server.Fault = onMethod("ping", reply(202, "", ""))
		conn := openSSE(t, inBubble(t, server))
		var wg sync.WaitGroup
		wg.Go(func() { // a check is no call
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_ = conn.Check(ctx)
		})
		const log = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n"
		var got [2]events
		for i := range got {
			wg.Go(func() {
				if _, err := callWith(t.Context(), conn, &got[i], "sleep", "", args{"ms": 1000 * (i + 1)}); err != nil {
					t.Error(err)
				}
				got[i].returned()
			})
		}
		time.Sleep(500 * time.Millisecond)
		server.Say(log) // whose?
		time.Sleep(time.Second)
		server.Say(log) // of the one that is left
		wg.Wait()
		server.Say(log) // of none
		synctest.Wait()
		if len(got[0].notes) != 0 || len(got[1].notes) != 1 {
			t.Errorf("got %q and %q", got[0].notes, got[1].notes)
		}
		conn.Close(t.Context())
		got[1].check(t)
	})
}

// A server may ping while no call is in flight.
func TestSSEPingWithoutACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		server := &mcptest.Server{OverSSE: true, Fault: g.fault}
		conn, err := inBubble(t, server).Open(t.Context(), knownSSE, rpc.Capabilities{}, carries("house"))
		if err != nil {
			t.Fatal(err)
		}
		g.taken()
		before := conn.Heard()
		time.Sleep(time.Minute)
		server.Say("data: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n\n")
		synctest.Wait()
		g.expect(t, "reply Bearer house-4")
		if heard := conn.Heard().Sub(before); heard != time.Minute {
			t.Errorf("heard after %v, want a minute", heard)
		}
		conn.Close(t.Context())
	})
}

// A server that asks without end gets no more answers than it takes in.
func TestSSERepliesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var replies, most atomic.Int32
		server := &mcptest.Server{OverSSE: true, Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
			if method != "" || r.Method != http.MethodPost {
				return false
			}
			most.Store(max(most.Load(), replies.Add(1)))
			<-r.Context().Done()
			replies.Add(-1)
			return true
		}}
		conn := openSSE(t, inBubble(t, server))
		server.Say(strings.Repeat("data: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n\n", 4*maxReplying))
		mustEcho(t, conn, "beside")
		synctest.Wait()
		if n := replies.Load(); n != maxReplying {
			t.Errorf("%d replies at once, want %d", n, maxReplying)
		}
		time.Sleep(replyTime)
		synctest.Wait()
		server.Say("data: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n\n")
		synctest.Wait()
		if n := replies.Load(); n != 1 {
			t.Errorf("%d replies, want the last alone", n)
		}
		conn.Close(t.Context())
	})
}

func TestSSECancel(t *testing.T) {
	for name, hung := range map[string]bool{"accepted": false, "not accepted": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []byte
				server := &mcptest.Server{OverSSE: true, Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
					switch {
					case method == "notifications/cancelled":
						time.Sleep(time.Second)
						told = peek(r)
					case method == "tools/call" && hung && strings.Contains(string(peek(r)), `"faulty"`):
						<-r.Context().Done()
						return true
					}
					return false
				}}
				conn := openSSE(t, inBubble(t, server))
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := call(t.Context(), conn, "sleep", args{"id": "bystander", "ms": 5000}); err != nil {
						t.Errorf("the call beside it: %v", err)
					}
				})
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				before := time.Now()
				_, err := call(ctx, conn, "sleep", args{"id": "faulty", "ms": 60000})
				failure := wantFailure(t, err, MayHaveRun, false)
				if took := time.Since(before); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v after %v", err, took)
				}
				<-failure.Settled
				if took := time.Since(before); took != 2*time.Second {
					t.Errorf("settled after %v, want when the server had accepted it", took)
				}
				if id, _ := jsonrpc.Get(told, "params", "requestId"); string(id) != "3" {
					t.Errorf("the server was told %s", told)
				}
				synctest.Wait()
				if n := server.InFlight(); n != 1 {
					t.Errorf("%d calls in flight at the server, want the one beside it", n)
				}
				mustEcho(t, conn, "next")
				wg.Wait()
				conn.Close(t.Context())
			})
		})
	}
}

func TestSSECallEndedBeforeItIsSent(t *testing.T) {
	server := &mcptest.Server{OverSSE: true}
	conn := openSSE(t, inBubble(t, server))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("never mind")
	cancel(why)
	_, err := call(ctx, conn, "echo", args{})
	if failure := wantFailure(t, err, NotSent, false); failure.Err != why || failure.Settled != nil {
		t.Errorf("got %+v", failure)
	}
	if n := server.Requests("tools/call"); n != 0 {
		t.Errorf("%d calls were sent", n)
	}
}

func TestSSECallWithoutNetwork(t *testing.T) {
	network := &mcptest.Network{Handler: &mcptest.Server{OverSSE: true}}
	conn := openSSE(t, newHTTP(t, "http://server.test/sse", HTTPOptions{RoundTripper: network}))
	network.SetDown(true)
	_, err := call(t.Context(), conn, "echo", args{})
	fails(NotSent, true, "connection refused")(t, err)
	network.SetDown(false)
	mustEcho(t, conn, "up again")
}

// The stream is the session: when it ends, all that was accepted may have run,
// and nothing more is sent.
func TestSSEStreamEnds(t *testing.T) {
	for name, reach := range reaches {
		for how, text := range map[string]string{"ended": "has ended the event stream", "cut": "unexpected EOF"} {
			t.Run(name+", "+how, func(t *testing.T) {
				server := &mcptest.Server{OverSSE: true}
				endpoint := reach(t, server)
				conn := openSSE(t, endpoint)
				accepted := make(chan error)
				for range 3 {
					go func() {
						asked := &events{ask: func(ctx context.Context, _ string) (json.RawMessage, error) {
							<-ctx.Done()
							return nil, ctx.Err()
						}}
						_, err := callWith(context.Background(), conn, asked, "sleep", "", args{"id": "accepted", "ms": 60000})
						accepted <- err
					}()
				}
				for server.InFlight() < 3 {
					time.Sleep(time.Millisecond)
				}
				select {
				case <-conn.Done():
					t.Fatal("Done is closed")
				default:
				}
				before := time.Now()
				server.EndStreams(how == "cut")
				<-conn.Done()
				for range 3 {
					fails(MayHaveRun, true, text)(t, <-accepted)
				}
				if took := time.Since(before); took > soon {
					t.Errorf("it took %v", took)
				}
				_, err := call(t.Context(), conn, "echo", args{"id": "late"})
				fails(NotSent, true, text)(t, err)
				wantFailure(t, conn.Check(t.Context()), NotSent, true)
				conn.Close(context.Background())
				mustEcho(t, openSSE(t, endpoint), "next")
				if n := server.Executions()["late"]; n != 0 {
					t.Error("the late call ran")
				}
			})
		}
	}
}

// A call whose POST is under way when the stream ends is given the time to be
// refused, for then it has not run.
func TestSSEStreamEndsWhilePosting(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		check  func(*testing.T, error)
		took   time.Duration
	}{
		"refused":    {reply(404, "text/plain", "no session"), fails(Refused, true, "session"), drainTime / 2},
		"not ours":   {reply(403, "text/plain", "no"), fails(Refused, true, "HTTP 403"), drainTime / 2},
		"accepted":   {reply(202, "", ""), fails(MayHaveRun, true, "has ended the event stream"), drainTime / 2},
		"in trouble": {reply(502, "", ""), fails(MayHaveRun, true, "HTTP 502"), drainTime / 2},
		"an answer":  {reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"no"}}`), answers(-32602), drainTime / 2},
		"hung":       {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, fails(MayHaveRun, true, "has ended the event stream"), drainTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &mcptest.Server{OverSSE: true}
				server.Fault = onFaulty(func(w http.ResponseWriter, r *http.Request) {
					server.EndStreams(false)
					time.Sleep(drainTime / 2)
					test.answer(w, r)
				})
				conn := openSSE(t, inBubble(t, server))
				before := time.Now()
				_, err := call(t.Context(), conn, "echo", args{"id": "faulty"})
				test.check(t, err)
				if took := time.Since(before); took != test.took {
					t.Errorf("it took %v, want %v", took, test.took)
				}
				conn.Close(t.Context())
				synctest.Wait()
				if n := server.Requests("notifications/cancelled"); n != 0 {
					t.Errorf("%d withdrawals from a session that is over", n)
				}
			})
		})
	}
}

// The answer that comes right before the end of the stream counts.
func TestSSEStreamEndsAfterTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			server := &mcptest.Server{OverSSE: true}
			server.Fault = onFaulty(func(w http.ResponseWriter, r *http.Request) {
				server.Say("data: {\"jsonrpc\":\"2.0\",\"id\":" + string(mcptest.ID(r)) + ",\"result\":{}}\n\n")
				server.EndStreams(true)
				w.WriteHeader(http.StatusAccepted)
			})
			conn := openSSE(t, inBubble(t, server))
			if _, err := call(t.Context(), conn, "echo", args{"id": "faulty"}); err != nil {
				t.Fatal(err)
			}
			conn.Close(t.Context())
		}
	})
}

// An event that is too large fails the call that it belongs to, where its
// beginning or its end tells.
func TestSSEEventThatIsTooLarge(t *testing.T) {
	large := strings.Repeat("x", 3*shownLength)
	for name, test := range map[string]struct {
		say   string
		check func(*testing.T, error)
	}{
		"id in front":   {`data: {"jsonrpc":"2.0","id":ID,"result":{"text":"` + large + "\"}}\n\n", fails(MayHaveRun, false, errTooLarge.Error())},
		"id at the end": {`data: {"jsonrpc":"2.0","result":{"text":"` + large + "\"},\"id\":ID}\r\n\r\n", fails(MayHaveRun, false, errTooLarge.Error())},
		"in many lines": {"data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"a\":[\n" + strings.Repeat("data: 1,\n", shownLength) + "data: 1]}}\n\n", fails(MayHaveRun, false, errTooLarge.Error())},
		"an error":      {`data: {"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"` + large + "\"}}\n\n", fails(MayHaveRun, false, errTooLarge.Error())},
		"a notification": {`data: {"jsonrpc":"2.0","method":"notifications/message","params":{"data":"` + large + "\"}}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n", func(t *testing.T, err error) {
			if err != nil {
				t.Errorf("got %v", err)
			}
		}},
		"another type": {"event: x\ndata: " + large + "\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n", func(t *testing.T, err error) {
			if err != nil {
				t.Errorf("got %v", err)
			}
		}},
		"nobody's": {"data: " + large + "\n\n", fails(MayHaveRun, true, "whose answer it is does not show", errTooLarge.Error())},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &mcptest.Server{OverSSE: true}
				server.Fault = onFaulty(func(w http.ResponseWriter, r *http.Request) {
					w.WriteHeader(http.StatusAccepted)
					server.Say(strings.ReplaceAll(test.say, "ID", string(mcptest.ID(r))))
				})
				endpoint := inBubble(t, server)
				endpoint.opener.(*httpEndpoint).limit = 2 * shownLength
				conn := openSSE(t, endpoint)
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := call(t.Context(), conn, "sleep", args{"id": "bystander", "ms": 1000}); err != nil && name != "nobody's" {
						t.Errorf("the call beside it: %v", err)
					}
				})
				synctest.Wait()
				_, err := call(t.Context(), conn, "echo", args{"id": "faulty"})
				test.check(t, err)
				if !isDead(err) {
					mustEcho(t, conn, "next")
				}
				wg.Wait()
				conn.Close(t.Context())
			})
		})
	}
}

// A stream that is silent for ever is found out by the check.
func TestSSECheck(t *testing.T) {
	for name, test := range map[string]struct {
		say   string
		alive bool
	}{
		"silent":       {"", false},
		"answer":       {`{"jsonrpc":"2.0","id":ID,"result":{}}`, true},
		"without ping": {`{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"no"}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &mcptest.Server{OverSSE: true}
				server.Fault = onMethod("ping", func(w http.ResponseWriter, r *http.Request) {
					w.WriteHeader(http.StatusAccepted)
					if test.say != "" {
						server.Say("data: " + strings.ReplaceAll(test.say, "ID", string(mcptest.ID(r))) + "\n\n")
					}
				})
				conn := openSSE(t, inBubble(t, server))
				heard := conn.Heard()
				time.Sleep(time.Minute)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				err := conn.Check(ctx)
				if test.alive && err != nil {
					t.Errorf("got %v", err)
				} else if !test.alive {
					wantFailure(t, err, MayHaveRun, false)
				}
				if now := conn.Heard().After(heard); now != test.alive {
					t.Errorf("heard: %v; that a POST is accepted is no word about the stream", now)
				}
				conn.Close(t.Context())
			})
		})
	}
}

func TestSSECloseWithHungCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := make(chan struct{})
		defer close(hung)
		server := &mcptest.Server{OverSSE: true, Fault: onFaulty(func(http.ResponseWriter, *http.Request) { <-hung })}
		conn := openSSE(t, inBubble(t, server))
		var wg sync.WaitGroup
		for _, id := range []string{"faulty", "accepted"} {
			wg.Go(func() {
				_, err := call(context.Background(), conn, "sleep", args{"id": id, "ms": 60000})
				wantFailure(t, err, MayHaveRun, true)
			})
		}
		synctest.Wait()
		closesIn(t.Context(), t, conn, 0)
		wg.Wait()
		synctest.Wait()
		if server.Open() != 0 || server.Requests("notifications/cancelled") != 0 || server.Deletes() != 0 {
			t.Errorf("%d streams open, %d withdrawals, %d DELETEs; want nothing but the end of the stream",
				server.Open(), server.Requests("notifications/cancelled"), server.Deletes())
		}
		select {
		case <-conn.Done():
			t.Error("Close has closed Done")
		default:
		}
		_, err := call(t.Context(), conn, "echo", args{"id": "late"})
		wantFailure(t, err, NotSent, true)
	})
}

// A withdrawal that the server does not accept holds Close up for a second, or
// until its ctx ends.
func TestSSECloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &mcptest.Server{OverSSE: true, Fault: onMethod("notifications/cancelled", func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		})}
		endpoint := inBubble(t, server)
		for _, bound := range []time.Duration{closeTime, 100 * time.Millisecond} {
			conn := openSSE(t, endpoint)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := call(ctx, conn, "sleep", args{"ms": 60000})
			wantFailure(t, err, MayHaveRun, false)
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), bound)
			closesIn(ctx, t, conn, bound)
			cancel()
		}
	})
}

func TestSSESecretsStayOutOfErrors(t *testing.T) {
	var log logbook
	server := &mcptest.Server{OverSSE: true, Fault: onFaulty(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, fmt.Sprint("cannot POST ", r.URL.RequestURI(), r.URL.Query(), r.Header, r.URL.RawQuery), http.StatusForbidden)
	})}
	inner, broken := mcptest.RoundTripper(server), false
	endpoint := newHTTP(t, "http://alice:hunter2-hunter2@server.test/mcp?key=key-0123456789", HTTPOptions{
		Header: http.Header{"X-Token": {"Bearer tops3cret-token"}},
		RoundTripper: roundTripper(func(r *http.Request) (*http.Response, error) {
			if broken {
				password, _ := r.URL.User.Password()
				return nil, fmt.Errorf("%s %s %q: hunter2-hunter2 %w", r.Method, r.URL, password, io.ErrUnexpectedEOF)
			}
			return inner.RoundTrip(r)
		}),
		Log: log.logger(),
	})
	conn := openSSE(t, endpoint)
	for _, id := range []string{"faulty", "broken"} {
		broken = id == "broken"
		_, err := call(t.Context(), conn, "echo", args{"id": id})
		if err == nil || !strings.Contains(err.Error(), "***") {
			t.Errorf("got %v", err)
		}
		for _, word := range []string{"tops3cret-token", "hunter2-hunter2", "key-0123456789", "session-1"} {
			if strings.Contains(err.Error(), word) || log.has(word) {
				t.Errorf("%v tells %s", err, word)
			}
		}
	}
	broken = false
	server.Say("data: not for us: tops3cret-token, session-1\n\n")
	mustEcho(t, conn, "next")
	if !log.has("not for us: ***, ***") || log.has("session-1") {
		t.Error("what is no message was not logged, or with its secrets")
	}
}
