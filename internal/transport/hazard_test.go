package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// The hazards are faults of servers that have cost other clients their whole
// connection, and with it every caller. Each test asserts what the call that
// met the fault gets, that a call in flight beside it finishes, that the next
// call succeeds, how long all of it takes, and that nothing is left. Which
// hazard is held by which tests on which transport, the table in
// hazard_table_test.go of package mcpool says.
//
// Those of streamable HTTP are here, or in sseconn_test.go and
// hazard_stdio_test.go for other transports; those of listening to a server are
// in hazard_listen_test.go.

// reaches are the ways to a server: without sockets and over them.
var reaches = map[string]func(testing.TB, http.Handler) *Endpoint{"in process": inBubble, "sockets": onSockets}

var bothEras = []Era{Legacy, Modern}

// hazard makes a call with the id "faulty", which fault answers, beside a call
// in flight, and a call after it.
func hazard(t *testing.T, era Era, fault func(w http.ResponseWriter, r *http.Request), check func(t *testing.T, err error)) {
	t.Helper()
	for name, reach := range reaches {
		t.Run(era.String()+", "+name, func(t *testing.T) {
			leavesNothing(t)
			arrived, release := make(chan struct{}), make(chan struct{})
			faulty := onFaulty(fault)
			server := &mcptest.Server{Modern: era == Modern, Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
				if method == "tools/call" && strings.Contains(string(peek(r)), `"id":"bystander"`) {
					close(arrived)
					<-release
				}
				return faulty(r, method, w)
			}}
			endpoint := reach(t, server)
			meet(t, func() Conn { return open(t, endpoint, era) }, func(conn Conn) error {
				_, err := call(context.Background(), conn, "echo", args{"id": "bystander"})
				return err
			}, arrived, release, check)
		})
	}
}

// meet makes the calls of a hazard: the bystander has arrived at the server
// before the faulty call is made, and is released after it.
func meet(t *testing.T, open func() Conn, bystander func(Conn) error, arrived <-chan struct{}, release chan<- struct{}, check func(*testing.T, error)) {
	t.Helper()
	conn, beside := open(), make(chan error)
	go func() { beside <- bystander(conn) }()
	<-arrived
	began := time.Now()
	_, err := call(t.Context(), conn, "echo", args{"id": "faulty"})
	if took := time.Since(began); took > soon {
		t.Errorf("the call took %v", took)
	}
	close(release)
	if err := <-beside; err != nil {
		t.Errorf("the call beside it: %v", err)
	}
	check(t, err)
	if isDead(err) {
		conn.Close(context.Background())
		conn = open()
	}
	mustEcho(t, conn, "next")
}

// peek returns the body of a request, which stays to be read.
func peek(r *http.Request) []byte {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	return body
}

// reply answers with a body in which ID stands for the id of the request.
func reply(status int, kind, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.ReplaceAll(body, "ID", string(mcptest.ID(r))))
	}
}

func fails(fate Fate, dead bool, texts ...string) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		failure := wantFailure(t, err, fate, dead)
		for _, text := range texts {
			if !strings.Contains(failure.Error(), text) {
				t.Errorf("%q does not say %q", failure, text)
			}
		}
	}
}

func wrongEra(t *testing.T, err error) {
	t.Helper()
	if !wantFailure(t, err, Refused, true).WrongEra {
		t.Errorf("%v is not taken for the other era", err)
	}
}

func answers(code int) func(*testing.T, error) {
	return func(t *testing.T, err error) { t.Helper(); wantError(t, err, code) }
}

const jsonType = "application/json"

func TestHazard01_SessionGoneWithoutID(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request){
		"404 text":    reply(404, "text/plain", "no such session"),
		"404 null id": reply(404, jsonType, `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}`),
		"404 empty":   reply(404, "", ""),
		"410":         reply(410, "text/plain", "gone"),
		// In words of their own: mcp-go, the TypeScript SDK.
		"400 text":            reply(400, "text/plain", "Invalid session ID"),
		"400 not initialized": reply(400, jsonType, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}`),
	} {
		t.Run(name, func(t *testing.T) { hazard(t, Legacy, fault, fails(Refused, true, "session")) })
	}
}

func TestHazard02_SessionGoneWithID(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request){
		"404 foreign id":    reply(404, jsonType, `{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found"}}`),
		"404 our id":        reply(404, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32600,"message":"Session not found"}}`),
		"404 -32601 not us": reply(404, jsonType, `{"jsonrpc":"2.0","id":"x","error":{"code":-32601,"message":"Method not found"}}`),
		"400 -32000":        reply(400, jsonType, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid SESSION ID provided"}}`),
		"400 -32001":        reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32001,"message":"unknown"}}`),
		"200 -32600":        reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32600,"message":"Session terminated"}}`),
		"500 -32600":        reply(500, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32600,"message":"session expired"}}`),
		"stream -32600":     reply(200, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"id\":\"server-error\",\"error\":{\"code\":-32600,\"message\":\"Session not found\"}}\n\n"),
	} {
		t.Run(name, func(t *testing.T) { hazard(t, Legacy, fault, fails(Refused, true, "session")) })
	}
	t.Run("404 -32601 is an answer", func(t *testing.T) {
		hazard(t, Legacy, reply(404, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"Method not found"}}`), answers(-32601))
	})
}

// A modern server has no session to lose. What speaks of one is not modern any
// more, and what takes in no requests at all is something else.
func TestHazard02_ModernServerGone(t *testing.T) {
	for name, test := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request)
		check func(*testing.T, error)
	}{
		"404 -32601":    {reply(404, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"no"}}`), answers(-32601)},
		"404 text":      {reply(404, "text/plain", "no"), fails(Refused, true, "HTTP 404")},
		"404 null id":   {reply(404, jsonType, `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}`), wrongEra},
		"410":           {reply(410, "text/plain", "gone"), fails(Refused, true, "HTTP 410")},
		"405":           {reply(405, "", ""), fails(Refused, true, "HTTP 405")},
		"400 text":      {reply(400, "text/plain", "no"), fails(Refused, false, "HTTP 400")},
		"400 legacy":    {reply(400, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}`), wrongEra},
		"400 python":    {reply(400, jsonType, `{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Bad Request: Missing session ID"}}`), wrongEra},
		"400 ours":      {reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"no such session in your cart"}}`), answers(-32602)},
		"400 -32001":    {reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32001,"message":"unknown"}}`), answers(-32001)},
		"400 -32022":    {reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"no"}}`), wrongEra},
		"200 -32022":    {reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"no"}}`), fails(Refused, true, "version")},
		"400 -32020":    {reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32020,"message":"no"}}`), answers(-32020)},
		"session words": {reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32600,"message":"session not found"}}`), answers(-32600)},
	} {
		t.Run(name, func(t *testing.T) { hazard(t, Modern, test.fault, test.check) })
	}
}

func TestHazard03_ResponseThatIsNoAnswer(t *testing.T) {
	cut := func(kind string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = fmt.Fprintf(w, `data: {"jsonrpc":"2.0","id":%s,"result":{"content":[`, mcptest.ID(r))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	for name, test := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request)
		check func(*testing.T, error)
	}{
		"400 text":         {reply(400, "text/plain", "bad  request\n"), fails(Refused, false, "HTTP 400 Bad Request: bad request")},
		"401":              {reply(401, "text/plain", "who are you"), fails(Refused, false, "HTTP 401 Unauthorized: who are you")},
		"401 with error":   {reply(401, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"no token"}}`), fails(Refused, false, "no token")},
		"403":              {reply(403, "text/plain", ""), fails(Refused, false, "HTTP 403 Forbidden")},
		"413":              {reply(413, "text/plain", ""), fails(Refused, false, "HTTP 413")},
		"415":              {reply(415, "text/plain", ""), fails(Refused, false, "HTTP 415")},
		"524":              {reply(524, "text/html", "<html>timeout"), fails(MayHaveRun, false, "HTTP 524: <html>timeout")},
		"redirect":         {reply(302, "", ""), fails(Refused, false, "HTTP 302 Found", "redirects are not followed")},
		"html":             {reply(200, "text/html", "<html>hello"), fails(MayHaveRun, false, "text/html", "<html>hello")},
		"no type":          {reply(200, "x", "{}"), fails(MayHaveRun, false)},
		"garbage":          {reply(200, jsonType, `{"jsonrpc":`), fails(MayHaveRun, false, "no message")},
		"not JSON-RPC":     {reply(200, jsonType, `{"ok":true}`), fails(MayHaveRun, false, `{"ok":true}`)},
		"batch":            {reply(200, jsonType, `[]`), fails(MayHaveRun, false, "batches")},
		"other id":         {reply(200, jsonType, `{"jsonrpc":"2.0","id":4711,"result":{}}`), fails(MayHaveRun, false, "another request")},
		"string id":        {reply(200, jsonType, `{"jsonrpc":"2.0","id":"ID","result":{}}`), fails(MayHaveRun, false, "another request")},
		"202":              {reply(202, "", ""), fails(MayHaveRun, false, "without an answer")},
		"204":              {reply(204, "", ""), fails(MayHaveRun, false, "without an answer")},
		"cut body":         {cut(jsonType), fails(MayHaveRun, false, "reading the answer")},
		"cut stream":       {cut("text/event-stream"), fails(MayHaveRun, false, "reading the answer")},
		"garbage event":    {reply(200, "text/event-stream", "data: {\"jsonrpc\n\n"), fails(MayHaveRun, false, "no message")},
		"400 with error":   {reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"no such tool"}}`), answers(-32602)},
		"400 with null id": {reply(400, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}`), answers(-32700)},
		"422 with null id": {reply(422, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}`), fails(Refused, false, "what?")},
		"other version":    {reply(400, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"no","data":{}}}`), fails(Refused, true, "version")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, era := range bothEras {
				hazard(t, era, test.fault, test.check)
			}
		})
	}
	t.Run("405", func(t *testing.T) {
		hazard(t, Legacy, reply(405, "text/html", "<h1>Not Allowed"), fails(Refused, true, "HTTP 405"))
	})
	t.Run("other session", func(t *testing.T) {
		hazard(t, Legacy, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Mcp-Session-Id", "another")
			reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"result":{}}`)(w, r)
		}, fails(MayHaveRun, false, "another session"))
	})
}

func TestHazard04_ServerInTrouble(t *testing.T) {
	reset := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	later := func(status int, after string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", after)
			w.WriteHeader(status)
		}
	}
	for name, test := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request)
		check func(*testing.T, error)
	}{
		"429":   {reply(429, "text/plain", "slow down"), fails(Refused, false, "HTTP 429", "slow down")},
		"500":   {reply(500, "text/plain", "oops"), fails(MayHaveRun, false, "HTTP 500", "oops")},
		"502":   {reply(502, "text/html", "<html>"), fails(MayHaveRun, false, "HTTP 502")},
		"503":   {reply(503, "", ""), fails(MayHaveRun, false, "HTTP 503 Service Unavailable")},
		"504":   {reply(504, "", ""), fails(MayHaveRun, false, "HTTP 504")},
		"reset": {reset, fails(MayHaveRun, false)},
		// That it is obeyed is for the pool: TestServerIsLeftAloneAsItAsks.
		"429, Retry-After": {later(429, "7"), fails(Refused, false, "HTTP 429", "to be tried again in 7s")},
		"503, Retry-After": {later(503, "7"), fails(MayHaveRun, false, "HTTP 503", "to be tried again in 7s")},
		"stream ends": {reply(200, "text/event-stream", ": hello\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n"),
			fails(MayHaveRun, false, "the stream ended")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, era := range bothEras {
				hazard(t, era, test.fault, test.check)
			}
		})
	}
}

func TestHazard05_CancelWhileJSONBodyArrives(t *testing.T) {
	for _, era := range bothEras {
		for name, reach := range reaches {
			t.Run(era.String()+", "+name, func(t *testing.T) {
				leavesNothing(t)
				arrived, halfway, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
				withdrawn, ended := make(chan []byte, 1), make(chan struct{})
				server := &mcptest.Server{Modern: era == Modern, Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
					switch body := peek(r); {
					case method == "notifications/cancelled":
						withdrawn <- body
					case method != "tools/call":
					case strings.Contains(string(body), `"bystander"`):
						close(arrived)
						<-release
					case strings.Contains(string(body), `"faulty"`):
						w.Header().Set("Content-Type", jsonType)
						_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,`, mcptest.ID(r))
						_ = http.NewResponseController(w).Flush()
						close(halfway)
						<-r.Context().Done()
						close(ended)
						return true
					}
					return false
				}}
				conn := open(t, reach(t, server), era)
				bystander := make(chan error)
				go func() {
					_, err := call(context.Background(), conn, "echo", args{"id": "bystander"})
					bystander <- err
				}()
				<-arrived
				ctx, cancel := context.WithCancelCause(t.Context())
				why := fmt.Errorf("changed my mind")
				var left time.Time
				go func() {
					<-halfway
					left = time.Now()
					cancel(why)
				}()
				_, err := call(ctx, conn, "echo", args{"id": "faulty"})
				if failure := wantFailure(t, err, MayHaveRun, false); failure.Err != why {
					t.Errorf("got the cause %v, want %v", failure.Err, why)
				}
				if took := time.Since(left); took > soon {
					t.Errorf("the call returned %v after its end", took)
				}
				<-ended // which is how a modern server is told
				if era == Legacy {
					if body := <-withdrawn; jsonrpc.GetString(body, "params", "reason") == "" {
						t.Errorf("the server was told %s", body)
					}
				}
				close(release)
				if err := <-bystander; err != nil {
					t.Errorf("the call beside it: %v", err)
				}
				mustEcho(t, conn, "next")
			})
		}
	}
}

// A server that holds a GET stream back is no hazard if none is opened.
func TestHazard06_NoStreamIsOpened(t *testing.T) {
	server := &mcptest.Server{}
	conn := open(t, onSockets(t, server), Unknown)
	mustEcho(t, conn, "hello")
	conn.Close(context.Background())
	if server.Gets() != 0 {
		t.Errorf("%d GETs were made", server.Gets())
	}
}

// closesIn closes a connection, which has to take so long in the time of a
// bubble.
func closesIn(ctx context.Context, t *testing.T, conn Conn, want time.Duration) {
	t.Helper()
	before := time.Now()
	conn.Close(ctx)
	if took := time.Since(before); took != want {
		t.Errorf("Close took %v, want %v", took, want)
	}
}

func TestHazard09_CloseWithHungCall(t *testing.T) {
	for _, era := range bothEras {
		t.Run(era.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hung := make(chan struct{})
				defer close(hung)
				server := &mcptest.Server{Modern: era == Modern}
				server.Fault = onFaulty(func(http.ResponseWriter, *http.Request) {
					<-hung // not even the end of the request ends it
				})
				endpoint := inBubble(t, server)
				conn := open(t, endpoint, era)
				var wg sync.WaitGroup
				var faulty error
				wg.Go(func() { _, faulty = call(context.Background(), conn, "echo", args{"id": "faulty"}) })
				synctest.Wait()
				closesIn(t.Context(), t, conn, 0)
				wg.Wait()
				wantFailure(t, faulty, MayHaveRun, true)
				sessions := map[Era]int{Legacy: 1}[era]
				if server.Deletes() != sessions || server.Open() != 0 {
					t.Errorf("%d DELETEs, %d sessions open", server.Deletes(), server.Open())
				}
				_, err := call(t.Context(), conn, "echo", args{"id": "late"})
				wantFailure(t, err, NotSent, true)
				mustEcho(t, open(t, endpoint, era), "next")
			})
		})
	}
}

// A server that does not even answer the DELETE holds Close up for a second,
// or until its ctx ends.
func TestHazard09_CloseWithHungServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &mcptest.Server{Fault: func(r *http.Request, _ string, w http.ResponseWriter) bool {
			if r.Method == http.MethodDelete {
				<-r.Context().Done()
				return true
			}
			return false
		}}
		endpoint := inBubble(t, server)
		conn := open(t, endpoint, Legacy)
		closesIn(context.Background(), t, conn, closeTime)
		conn = open(t, endpoint, Legacy)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		closesIn(ctx, t, conn, 100*time.Millisecond)
	})
}

// A server that takes in the headers of a call and not its body.
func TestHazard10_ServerStopsReading(t *testing.T) {
	for name, server := range map[string]*mcptest.Server{"legacy": {}, "modern": {Modern: true}, "HTTP+SSE": {OverSSE: true}} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			begun, stuck := make(chan struct{}), make(chan struct{})
			defer close(stuck)
			const large = 16 << 20 // more than the buffers of a TCP connection
			conn := open(t, onSockets(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ContentLength > large {
					close(begun)
					<-stuck
					panic(http.ErrAbortHandler)
				}
				server.ServeHTTP(w, r)
			})), Unknown)
			beside := make(chan error, 1)
			go func() {
				_, err := call(context.Background(), conn, "sleep", args{"id": "bystander", "ms": 300})
				beside <- err
			}()
			for server.Executions()["bystander"] == 0 {
				time.Sleep(time.Millisecond)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var left time.Time
			go func() {
				<-begun
				left = time.Now()
				cancel()
			}()
			_, err := call(ctx, conn, "echo", args{"id": "faulty", "text": strings.Repeat("x", large)})
			wantFailure(t, err, MayHaveRun, false)
			if took := time.Since(left); took > soon || !errors.Is(err, context.Canceled) {
				t.Errorf("got %v after %v", err, took)
			}
			if err := <-beside; err != nil {
				t.Errorf("the call beside it: %v", err)
			}
			mustEcho(t, conn, "next")
		})
	}
}

func TestHazard10_ChildStopsReading(t *testing.T) {
	onStdio(t, childStopsReading)
}

func childStopsReading(t *testing.T, era Era) {
	conn := open(t, stdioOf(t, era, mcptest.Normal), era)
	bystander := begin(t.Context(), t, conn, "sleep", args{"id": "bystander", "ms": 100})
	if _, err := call(t.Context(), conn, "deafen", args{"ms": 3000}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	// More than a pipe holds: it is being written when its ctx ends.
	faulty := begin(ctx, t, conn, "echo", args{"id": "faulty", "text": strings.Repeat("x", 1<<20)})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := call(ctx, conn, "echo", args{"id": "queued"})
		wantFailure(t, err, NotSent, false)
	})
	cancel()
	wantFailure(t, <-faulty, MayHaveRun, false)
	wg.Wait()
	if err := <-bystander; err != nil {
		t.Errorf("the call beside it: %v", err)
	}
	mustEcho(t, conn, "next")
}

func TestHazard10_CloseWhileChildDoesNotRead(t *testing.T) {
	onStdio(t, closeWhileChildDoesNotRead)
}

func closeWhileChildDoesNotRead(t *testing.T, era Era) {
	endpoint := stdioOf(t, era, mcptest.Normal)
	conn := open(t, endpoint, era)
	if _, err := call(t.Context(), conn, "deafen", args{"ms": 0}); err != nil {
		t.Fatal(err)
	}
	background := context.Background()
	faulty := begin(background, t, conn, "echo", args{"text": strings.Repeat("x", 1<<20)})
	queued := make(chan error, 1)
	go func() {
		_, err := call(background, conn, "echo", args{"id": "queued"})
		queued <- err
	}()
	before := time.Now()
	conn.Close(background)
	if took := time.Since(before); took > soon {
		t.Errorf("Close took %v", took)
	}
	wantFailure(t, <-faulty, MayHaveRun, true)
	wantFailure(t, <-queued, NotSent, true)
	mustEcho(t, open(t, endpoint, era), "next")
}

func TestHazard11_StrayLinesOnStdout(t *testing.T) {
	onStdio(t, strayLinesOnStdout)
}

func strayLinesOnStdout(t *testing.T, era Era) {
	var log logbook
	endpoint := stdioOf(t, era, mcptest.Chatty, func(c *Command) { c.Log = log.logger() })
	conn := open(t, endpoint, Unknown)
	if got := conn.Peer().Era; got != era {
		t.Errorf("it is %v", got)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { mustEcho(t, conn, "beside") })
	}
	wg.Wait()
	mustEcho(t, conn, "next")
	if !log.has("INFO about to answer") {
		t.Error("the stray line was not logged")
	}
}

func TestHazard12_ChildKilled(t *testing.T) {
	onStdio(t, childKilled)
}

func childKilled(t *testing.T, era Era) {
	endpoint := stdioOf(t, era, mcptest.Normal)
	conn := open(t, endpoint, era)
	mustEcho(t, conn, "first")
	var sleepers []<-chan error
	for range 3 {
		sleepers = append(sleepers, begin(context.Background(), t, conn, "sleep", args{"ms": 60000}))
	}
	mustEcho(t, conn, "so the others are written")
	process := conn.(*stdioConn).child.Process
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	<-conn.Done()
	for _, sleeper := range sleepers {
		fails(MayHaveRun, true, "signal: killed")(t, <-sleeper)
	}
	if took := time.Since(before); took > soon {
		t.Errorf("the calls failed after %v", took)
	}
	if err := process.Signal(os.Interrupt); err == nil {
		t.Error("the child was not reaped")
	}
	_, err := call(t.Context(), conn, "echo", args{})
	wantFailure(t, err, NotSent, true)
	conn.Close(context.Background())
	mustEcho(t, open(t, endpoint, era), "next")
}

// A shell between us and the server passes no signal on, and the server
// ignores the end of its input.
func TestHazard13_WrapperSwallowsSignals(t *testing.T) {
	onStdio(t, wrapperSwallowsSignals)
}

func wrapperSwallowsSignals(t *testing.T, era Era) {
	wrap := func(c *Command) {
		c.Args = append([]string{"-c", `trap "" TERM; "$0" "$@"; true`, c.Path}, c.Args...)
		c.Path = "/bin/sh"
		c.CloseGrace = 50 * time.Millisecond
	}
	endpoint := stdioOf(t, era, mcptest.Stubborn, wrap)
	conn := open(t, endpoint, era)
	mustEcho(t, conn, "first")
	faulty := begin(context.Background(), t, conn, "sleep", args{"ms": 60000})
	group := conn.(*stdioConn).child.Process.Pid
	if n := groupSize(t, group); n < 2 {
		t.Fatalf("%d processes in the group, want the shell and the server", n)
	}
	before := time.Now()
	conn.Close(context.Background())
	if took := time.Since(before); took > soon {
		t.Errorf("Close took %v", took)
	}
	isGone(t, conn)
	wantFailure(t, <-faulty, MayHaveRun, true)
	mustEcho(t, open(t, endpoint, era), "next")
}

// Whoever guards a modern server, or leads elsewhere, may speak of sessions of
// its own: that is no word of the server, and of one call alone.
func TestGuardOfAModernServerSpeaksOfSessions(t *testing.T) {
	for status, era := range map[int]bool{302: false, 401: false, 403: false, 407: false, 408: false, 429: false, 400: true, 422: true} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			server := &mcptest.Server{Modern: true, Fault: onMethod("tools/call", reply(status, "text/html", "Your session has expired"))}
			_, err := call(t.Context(), open(t, inBubble(t, server), Modern), "echo", args{})
			if failure := wantFailure(t, err, Refused, era); failure.WrongEra != era {
				t.Errorf("WrongEra %v: %v", failure.WrongEra, err)
			}
		})
	}
}
