package mcptest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A Server is an MCP server over streamable HTTP whose faults a test chooses.
// The zero Server is a legacy server without faults. Set the fields before its
// first request.
//
// Its tools, all with an argument id that goes into the ledger of Executions,
// and ms, how long they take:
//
//	echo {text}            the text again; the only one with readOnlyHint,
//	                       besides progress
//	put {text}             the same with idempotentHint
//	write {text}           the same without hints: it must not be repeated
//	sleep                  the same again, for its ms
//	progress {steps}       sends so many notifications/progress, if there is a
//	                       token, and one notifications/message
//	ask {method, params}   sends that request to the client, and returns its
//	                       response as "reply"; a modern server asks for it as
//	                       input
//	verbatim {params}      answers with these very bytes; as the data of an error
//	                       of that message if there is a text. It is not listed
//
// Results have structuredContent {"id","text","session"}, and "trace" with what
// _meta says of the trace of the call, if it does. One that is Stateful
// has three more, which are not listed, keeps log levels and subscriptions, and
// has resources: a list in pages, and what is read is a number that was never
// used. Of a legacy one the capabilities of a session's client decide which
// tools are listed.
//
//	log              sends a notifications/message of each level that the session,
//	                 or the modern request, has asked for
//	hold             sends a notifications/progress, and runs until it is cancelled
//	cart {text}      adds to what the session keeps, and returns that as "cart"
type Server struct {
	Modern    bool          // speak the modern era and no other; else the legacy one, with sessions
	Name      string        // in serverInfo; empty means "mcptest"
	OpenDelay time.Duration // before initialize or server/discover is answered
	CallDelay time.Duration // before a tool runs, after the call is in the ledger
	SSE       bool          // answer tools/call by an event stream; progress and ask always do
	OverSSE   bool          // speak the HTTP+SSE transport of MCP 2024-11-05 and no other, see sse.go
	Stateful  bool          // keep state in sessions, see state.go; not with OverSSE

	// Fault sees every request first, method is that of JSON-RPC, or "" if the
	// body is a response or there is none. It returns true if it has answered
	// the request itself. It may also panic with http.ErrAbortHandler, which
	// resets the connection.
	Fault func(r *http.Request, method string, w http.ResponseWriter) bool

	once     sync.Once
	engine   engine
	mu       sync.Mutex // guards what follows
	open     map[string]*session
	modern   session // stands for all of a modern server's calls
	opened   int
	requests map[string]int
	deletes  int
	gets     int
	calls    int // of a modern server
	most     int // calls in flight at once on one session

	// Of one that is Stateful:
	listeners map[*listener]bool
	withdrawn map[string]int // calls of hold
	numbers   int            // that were used
}

// A session is what a legacy server keeps of a connection.
type session struct {
	id      string
	sse     *sseStream                      // over HTTP+SSE
	running map[string]context.CancelFunc   // calls in flight, by id
	asked   map[string]chan jsonrpc.Message // requests to the client, by id
	asks    int

	// Where the server is Stateful:
	caps       json.RawMessage // of the client
	level      int             // of log messages, the least severe
	subscribed map[string]bool // by URI
	cart       []string
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.once.Do(func() {
		s.engine.modern, s.engine.name, s.engine.delay = s.Modern, s.Name, s.CallDelay
		s.open, s.requests = make(map[string]*session), make(map[string]int)
		s.listeners, s.withdrawn = make(map[*listener]bool), make(map[string]int)
	})
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	m, err := jsonrpc.Parse(body)
	s.count(r.Method, m.Method)
	switch {
	case s.Fault != nil && s.Fault(r, m.Method, w):
	case r.Method == http.MethodDelete && !s.Modern && !s.OverSSE:
		s.delete(w, r.Header.Get("Mcp-Session-Id"))
	case s.OverSSE && r.Method == http.MethodGet:
		s.serveStream(w, r)
	case s.OverSSE && r.URL.Path != ssePath:
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	case r.Method != http.MethodPost && !(r.Method == http.MethodGet && s.Stateful && !s.Modern):
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	case err != nil && r.Method == http.MethodPost:
		writeError(w, http.StatusBadRequest, nil, rpc.Errorf(rpc.CodeParse, "%v", err))
	case s.Modern:
		s.serveModern(w, r, &m)
	case s.OverSSE:
		s.serveSSE(w, r, &m)
	default:
		s.serveLegacy(w, r, &m)
	}
}

func (s *Server) count(verb, method string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch verb {
	case http.MethodDelete:
		s.deletes++
	case http.MethodGet:
		s.gets++
	default:
		s.requests[method]++
	}
}

// serveModern checks what MCP 2026-07-28 has a server check (streamable HTTP,
// "Server Validation") before it answers.
func (s *Server) serveModern(w http.ResponseWriter, r *http.Request, m *jsonrpc.Message) {
	if !m.IsRequest() {
		writeError(w, http.StatusBadRequest, nil, rpc.Errorf(rpc.CodeInvalidRequest, "only requests are taken"))
		return
	}
	name := jsonrpc.GetString(m.Params, "name")
	if m.Method == "resources/read" {
		name = jsonrpc.GetString(m.Params, "uri")
	}
	version := requestedVersion(m)
	switch {
	case version != ModernVersion:
		writeError(w, http.StatusBadRequest, m.ID, versionError(version))
		return
	case r.Header.Get("Mcp-Protocol-Version") != version,
		r.Header.Get("Mcp-Method") != m.Method,
		decodeHeader(r.Header.Get("Mcp-Name")) != name:
		writeError(w, http.StatusBadRequest, m.ID, rpc.Errorf(rpc.CodeHeaderMismatch, "Header mismatch"))
		return
	case !hasMeta(m.Params, "io.modelcontextprotocol/clientCapabilities"):
		writeError(w, http.StatusBadRequest, m.ID, rpc.Errorf(rpc.CodeInvalidParams, "no clientCapabilities"))
		return
	}
	if m.Method == "server/discover" {
		s.mu.Lock()
		s.opened++
		s.mu.Unlock()
		if wait(r.Context(), s.OpenDelay) != nil {
			return
		}
	}
	if m.Method == "subscriptions/listen" && s.Stateful {
		filter, _ := jsonrpc.Get(m.Params, "notifications")
		s.hear(w, r, &listener{id: m.ID, filter: filter})
		return
	}
	s.answer(w, r, m, &s.modern)
}

func hasMeta(params json.RawMessage, key string) bool {
	_, ok := jsonrpc.Get(params, "_meta", key)
	return ok
}

func decodeHeader(value string) string {
	encoded, ok := strings.CutPrefix(value, "=?base64?")
	if encoded, ok2 := strings.CutSuffix(encoded, "?="); ok && ok2 {
		if text, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			return string(text)
		}
	}
	return value
}

// serveLegacy answers as the SDKs do to requests without a session, or with
// one that they do not know.
func (s *Server) serveLegacy(w http.ResponseWriter, r *http.Request, m *jsonrpc.Message) {
	if m.Method == "initialize" {
		if wait(r.Context(), s.OpenDelay) != nil {
			return
		}
		in := s.begin(nil)
		s.remember(in, m)
		w.Header().Set("Mcp-Session-Id", in.id)
		writeJSON(w, http.StatusOK, jsonrpc.AppendResult(nil, m.ID, s.introduce(s.engine.initialize())))
		return
	}
	id := r.Header.Get("Mcp-Session-Id")
	s.mu.Lock()
	in := s.open[id]
	s.mu.Unlock()
	switch {
	case id == "":
		writeError(w, http.StatusBadRequest, nil, rpc.Errorf(-32000, "Bad Request: No valid session ID provided"))
	case in == nil:
		writeError(w, http.StatusNotFound, nil, rpc.Errorf(-32001, "Session not found"))
	case r.Method == http.MethodGet:
		s.hear(w, r, &listener{session: in})
	case m.IsRequest():
		s.answer(w, r, m, in)
	default:
		s.accept(m, in)
		w.WriteHeader(http.StatusAccepted)
	}
}

func (s *Server) begin(sse *sseStream) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	in := &session{id: fmt.Sprintf("session-%d", s.opened), sse: sse}
	s.open[in.id] = in
	return in
}

func (s *Server) delete(w http.ResponseWriter, id string) {
	s.mu.Lock()
	_, known := s.open[id]
	delete(s.open, id)
	s.mu.Unlock()
	if !known {
		writeError(w, http.StatusNotFound, nil, rpc.Errorf(-32001, "Session not found"))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// accept takes in a notification or a response.
func (s *Server) accept(m *jsonrpc.Message, in *session) {
	id := m.ID
	if m.Method == "notifications/cancelled" {
		id, _ = jsonrpc.Get(m.Params, "requestId")
	}
	s.mu.Lock()
	cancel, asked := in.running[string(id)], in.asked[string(id)]
	s.mu.Unlock()
	switch {
	case m.Method == "notifications/cancelled" && cancel != nil:
		cancel()
	case m.IsResponse() && asked != nil:
		asked <- *m
	}
}

// talkative are the tools that send something before their answer.
var talkative = []string{"progress", "ask", "log", "hold"}

// answer answers a request by the response to it.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, m *jsonrpc.Message, in *session) {
	out := &events{w: w}
	frame, status := s.respond(r.Context(), m, in, out)
	if name := jsonrpc.GetString(m.Params, "name"); m.Method == "tools/call" && (s.SSE || slices.Contains(talkative, name)) {
		out.send("message", frame)
		return
	}
	writeJSON(w, status, frame)
}

// respond does what a request wants, and returns the response. A tools/call
// counts as in flight meanwhile, and out gets what the tool sends.
func (s *Server) respond(ctx context.Context, m *jsonrpc.Message, in *session, out *events) (frame []byte, status int) {
	from := &exchange{server: s, session: in, out: out}
	if m.Method == "tools/call" {
		var done func()
		ctx, done = s.run(ctx, m, in)
		defer done()
	}
	result, e := s.result(ctx, m, in, from)
	frame, status = jsonrpc.AppendResult(nil, m.ID, result), http.StatusOK
	if e != nil {
		frame = jsonrpc.AppendError(nil, m.ID, e)
		if e.Code == rpc.CodeMethodNotFound && s.Modern {
			status = http.StatusNotFound
		}
	}
	return frame, status
}

func (s *Server) result(ctx context.Context, m *jsonrpc.Message, in *session, from *exchange) (json.RawMessage, *rpc.Error) {
	if s.Stateful {
		if result, e, known := s.stateful(ctx, m, in, from); known {
			return result, e
		}
	}
	result, e := s.engine.answer(ctx, m, in.id, from)
	if m.Method == "server/discover" && e == nil {
		result = s.introduce(result)
	}
	return result, e
}

// run enters a call into what is in flight, until done is called.
func (s *Server) run(ctx context.Context, m *jsonrpc.Message, in *session) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancel(ctx)
	key := string(m.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Modern {
		s.calls++ // ids are unique only to their sender
		key = strconv.Itoa(s.calls)
	}
	if in.running == nil {
		in.running = make(map[string]context.CancelFunc)
	}
	in.running[key] = cancel
	s.most = max(s.most, len(in.running))
	return ctx, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(in.running, key)
	}
}

// events is a stream of events.
type events struct {
	mu sync.Mutex // guards w
	w  http.ResponseWriter
}

func (e *events) send(kind string, data []byte) {
	e.write(fmt.Sprintf("event: %s\ndata: %s\n\n", kind, data))
}

func (e *events) write(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.w == nil { // closed
		return
	}
	e.w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(e.w, text)
	_ = http.NewResponseController(e.w).Flush()
}

func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.w = nil
}

// An exchange is a call whose tool has something to send before the answer.
type exchange struct {
	server  *Server
	session *session
	out     *events
}

func (x *exchange) notify(method string, params any) {
	x.out.send("message", jsonrpc.AppendRequest(nil, nil, method, marshal(params)))
}

func (x *exchange) ask(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	s, in := x.server, x.session
	reply := make(chan jsonrpc.Message, 1)
	s.mu.Lock()
	in.asks++
	id := json.RawMessage(fmt.Sprintf(`"ask-%d"`, in.asks))
	if in.asked == nil {
		in.asked = make(map[string]chan jsonrpc.Message)
	}
	in.asked[string(id)] = reply
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(in.asked, string(id))
		s.mu.Unlock()
	}()
	x.out.send("message", jsonrpc.AppendRequest(nil, id, method, params))
	return await(ctx, reply)
}

func await(ctx context.Context, reply <-chan jsonrpc.Message) (json.RawMessage, error) {
	select {
	case m := <-reply:
		if m.Error != nil {
			return m.Error, nil
		}
		return m.Result, nil
	case <-ctx.Done():
		return nil, errors.New("cancelled")
	}
}

// Expire forgets all sessions, as a restart does: requests in them get 404
// from now on. Calls in flight go on.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.open)
}

// forget forgets one session.
func (s *Server) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, id)
}

// Sessions returns how many sessions were opened in all; of a modern server,
// how often it was asked who it is.
func (s *Server) Sessions() int { return s.read(func() int { return s.opened }) }

// Open returns how many sessions are open now: neither deleted nor expired.
func (s *Server) Open() int { return s.read(func() int { return len(s.open) }) }

// Requests returns how many messages with a JSON-RPC method came, those that
// Fault answered included.
func (s *Server) Requests(method string) int {
	return s.read(func() int { return s.requests[method] })
}

// Deletes returns how many DELETEs came.
func (s *Server) Deletes() int { return s.read(func() int { return s.deletes }) }

// Gets returns how many GETs came.
func (s *Server) Gets() int { return s.read(func() int { return s.gets }) }

// MaxConcurrent returns the most tools/calls that were in flight at once on one
// session; of a modern server, on all of it.
func (s *Server) MaxConcurrent() int { return s.read(func() int { return s.most }) }

// InFlight returns how many tools/calls are in flight now, on all sessions that
// are open.
func (s *Server) InFlight() int {
	return s.read(func() int {
		n := len(s.modern.running)
		for _, in := range s.open {
			n += len(in.running)
		}
		return n
	})
}

func (s *Server) read(value func() int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return value()
}

// Executions returns how often each call ran, by its argument id.
func (s *Server) Executions() map[string]int {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	return maps.Clone(s.engine.ledger)
}

// ID returns the JSON-RPC id of a request, for a Fault to answer it.
func ID(r *http.Request) json.RawMessage {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	m, _ := jsonrpc.Parse(body)
	return m.ID
}

func writeJSON(w http.ResponseWriter, status int, frame []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(frame)
}

func writeError(w http.ResponseWriter, status int, id json.RawMessage, e *rpc.Error) {
	writeJSON(w, status, jsonrpc.AppendError(nil, id, e))
}
