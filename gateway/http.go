package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// retryAfter is the seconds after which to come back to a gateway that shuts
// down: another may have taken its place.
const retryAfter = "1"

// A visit is a request over HTTP, with what is found out about it before its
// message is read.
type visit struct {
	w         http.ResponseWriter // record
	record    *record
	r         *http.Request
	endpoint  *endpoint
	principal string
	accepts   accepts
}

// route finds the endpoint of a request's path and what its method is for.
func (g *Gateway) route(w http.ResponseWriter, r *http.Request) {
	v := &visit{w: w, record: w.(*record), r: r, accepts: parseAccept(r.Header.Values("Accept"))}
	routes := g.now()
	var older bool // HTTP+SSE
	if v.endpoint, older = routes.endpoint(r.URL.Path); v.endpoint != nil {
		v.record.Path, v.record.Server = r.URL.Path, v.endpoint.name
	}
	var err error
	// First of all: who is nobody here is not told what there is, either.
	if v.principal, err = g.principal(r); err != nil {
		refusePrincipal(w, err)
		return
	}
	v.record.Principal = v.principal
	rights := routes.rights(v.principal)
	if v.endpoint == nil {
		var names []string
		for _, s := range routes.all.visibleTo(rights).servers {
			names = append(names, s.Name)
		}
		refuse(w, http.StatusNotFound, rpc.Errorf(rpc.CodeInvalidRequest,
			"nothing is served at %s: there are /mcp and /mcp/NAME, where NAME is one of %s", r.URL.Path, strings.Join(names, ", ")))
		return
	}
	if v.endpoint = v.endpoint.visibleTo(rights); len(v.endpoint.servers) == 0 {
		refuse(w, http.StatusForbidden, rpc.Errorf(rpc.CodeInvalidRequest, "nothing at %s is served to %s", r.URL.Path, v.principal))
		return
	}
	visitor := "" // of HTTP+SSE
	if r.URL.RawQuery != "" {
		visitor = r.URL.Query().Get(visitorParam)
	}
	switch {
	case r.Method == http.MethodGet && wantsToJoin(r) && !older:
		g.join(v)
	case r.Method == http.MethodPost && visitor != "":
		g.postSSE(v, visitor)
	case r.Method == http.MethodPost && !older:
		g.post(v)
	case r.Method == http.MethodGet && r.Header.Get(headerSession) != "" && v.accepts.asksEvents:
		g.get(v)
	case r.Method == http.MethodGet && v.accepts.asksEvents && r.Header.Get(headerVersion) == "":
		g.openSSE(v)
	case r.Method == http.MethodDelete && !older:
		g.delete(v)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		refuse(w, http.StatusMethodNotAllowed, rpc.Errorf(rpc.CodeInvalidRequest,
			"method %s is not served so: POST sends a message, DELETE ends a session, GET with Accept: text/event-stream opens the stream of a session", r.Method))
	}
}

// Serves reports whether a path is for a [Gateway], as http.Request.URL has it,
// so that a program can serve others beside it. To ask costs a twentieth of what
// an http.ServeMux does.
func Serves(path string) bool {
	rest, ok := strings.CutPrefix(path, "/mcp")
	if !ok {
		rest, ok = strings.CutPrefix(path, "/sse")
	}
	return ok && (rest == "" || rest[0] == '/')
}

// endpoint returns what a path serves, nil for nothing, and whether it is one
// for HTTP+SSE alone.
func (r *routes) endpoint(path string) (e *endpoint, older bool) {
	path = strings.TrimSuffix(path, "/")
	rest, found := strings.CutPrefix(path, "/mcp")
	if !found {
		rest, older = strings.CutPrefix(path, "/sse")
		if !older {
			return nil, false
		}
	}
	if rest == "" {
		return r.all, older
	}
	if rest[0] != '/' {
		return nil, false
	}
	return r.byName[rest[1:]], older
}

// delete ends a legacy session (MCP 2025-11-25, basic/transports "Session
// Management").
func (g *Gateway) delete(v *visit) {
	session, ok := g.session(v)
	if !ok {
		return
	}
	g.endSession(v.endpoint, rpc.Caller{Principal: v.principal, Session: session.name, Capabilities: session.caps})
	v.w.WriteHeader(http.StatusNoContent)
}

// get opens the stream of a legacy session outside of calls, or goes on with
// one that broke off (MCP 2025-11-25, basic/transports "Listening for Messages
// from the Server", "Resumability and Redelivery").
func (g *Gateway) get(v *visit) {
	session, ok := g.session(v)
	if !ok {
		return
	}
	last := v.r.Header.Get(headerLastEvent)
	if s, n, ok := g.streams.find(last, session.name); ok && !s.complete(n+1) {
		g.stream(v, s, n+1)
		return
	}
	if strings.Contains(last, callMark) {
		// Clients take this as the end of it; an empty stream they would ask for
		// again and again.
		v.w.Header().Set("Allow", "POST, DELETE")
		refuse(v.w, http.StatusMethodNotAllowed, rpc.Errorf(rpc.CodeInvalidRequest, "there is nothing more behind event %q", last))
		return
	}
	st, err := g.standings.get(v.endpoint, v.principal, session, nil)
	if errors.Is(err, errEnded) {
		refuse(v.w, http.StatusNotFound, sessionGone())
		return
	}
	if err != nil {
		v.w.Header().Set("Retry-After", retryAfter)
		refuse(v.w, http.StatusServiceUnavailable, rpc.Errorf(rpc.CodeInternal, "%v", err))
		return
	}
	if g.leaving.Err() != nil {
		st.end() // the client has come back on the connection that it had
	}
	defer st.read()()
	from := st.stream.next()
	if id, n := readEventID(last); id == st.stream.id {
		from = n + 1
	}
	g.stream(v, st.stream, from)
}

// stream serves a stream from an event on.
func (g *Gateway) stream(v *visit, s *stream, from int) {
	ctx, release := g.admitted.hold(v.r.Context(), v)
	defer release()
	startEvents(v.w)
	// Who is not let in any more is to come back, and be told so.
	if err := s.serve(ctx, v.w, from); err != nil && err != errNotAdmitted {
		panic(http.ErrAbortHandler) // returning would end it as if it were whole
	}
}

// session returns the session that a legacy request names, or refuses the
// request.
func (g *Gateway) session(v *visit) (*session, bool) {
	id := v.r.Header.Get(headerSession)
	if id == "" {
		refuse(v.w, http.StatusBadRequest, rpc.Errorf(rpc.CodeInvalidRequest,
			"header %s is missing: begin with %s, or speak %s with header %s and the _meta that goes with it",
			headerSession, methodInitialize, versionModern, headerVersion))
		return nil, false
	}
	session, ok := g.sessions.open(id, v.endpoint.name, v.principal)
	if !ok {
		refuse(v.w, http.StatusNotFound, sessionGone())
	}
	return session, ok
}

// readTime is how long a client may take to send a message of up to MaxBody. It
// is less than writeTime: net/http reads what is left of a body when it already
// writes the answer.
const readTime = 20 * time.Second

// body reads the message of a request, or refuses it. All of it is read before
// anything is answered: net/http closes the body when the response begins.
func (g *Gateway) body(v *visit) ([]byte, bool) {
	if kind, _, _ := mediaType(v.r.Header.Get("Content-Type")); kind != "application/json" {
		refuse(v.w, http.StatusUnsupportedMediaType, rpc.Errorf(rpc.CodeInvalidRequest, "Content-Type must be application/json"))
		return nil, false
	}
	body, err := readAll(http.MaxBytesReader(v.w, v.r.Body, g.maxBody), v.r.ContentLength)
	if err == nil {
		_ = http.NewResponseController(v.w).SetReadDeadline(time.Time{})
		return body, true
	}
	// Else it holds for what net/http reads yet, to use the connection again.
	status, e := http.StatusBadRequest, rpc.Errorf(rpc.CodeParse, "the body could not be read: %v", err)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		status, e = http.StatusRequestEntityTooLarge, rpc.Errorf(rpc.CodeInvalidRequest, "the body has more than %d bytes", tooLarge.Limit)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		status = http.StatusRequestTimeout
	}
	refuse(v.w, status, e)
	return nil, false
}

// mediaType is mime.ParseMediaType, which makes a map, with the types that
// nearly every client names known at sight.
func mediaType(value string) (kind string, params map[string]string, err error) {
	if value == "application/json" || value == "text/event-stream" {
		return value, nil, nil
	}
	return mime.ParseMediaType(value)
}

// readAll reads a body that says how long it is, or -1; what it says is not
// taken on trust.
func readAll(r io.Reader, length int64) ([]byte, error) {
	if length < 0 || length > 64<<10 {
		return io.ReadAll(r)
	}
	body := make([]byte, length+1) // the end is seen in the same read
	n, err := io.ReadFull(r, body)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return body[:n], err
}

// post reads one message and finds its era.
func (g *Gateway) post(v *visit) {
	if !v.accepts.json && !v.accepts.events {
		refuse(v.w, http.StatusNotAcceptable, rpc.Errorf(rpc.CodeInvalidRequest, "Accept must allow application/json or text/event-stream"))
		return
	}
	body, ok := g.body(v)
	if !ok {
		return
	}
	msg, err := parse(body)
	if err != nil {
		reject(v.w, http.StatusBadRequest, msg.ID, frameError(err))
		return
	}
	if !msg.IsResponse() && msg.isModern(v.r.Header.Get(headerVersion)) {
		g.postModern(v, msg)
	} else {
		g.postLegacy(v, msg)
	}
}

// frameError is the error that answers a frame that could not be understood.
func frameError(err error) *rpc.Error {
	var syntax *jsonrpc.SyntaxError
	if errors.As(err, &syntax) {
		return rpc.Errorf(rpc.CodeParse, "not JSON: %v", err)
	}
	return rpc.Errorf(rpc.CodeInvalidRequest, "%v", err)
}

func (g *Gateway) postModern(v *visit, msg *message) {
	if msg.IsNotification() {
		// The era has none over HTTP, and asks nothing of them (MCP 2026-07-28,
		// basic/transports/streamable-http "Sending Messages").
		v.w.WriteHeader(http.StatusAccepted)
		return
	}
	if err := msg.checkModern(v.r.Header); err != nil {
		reject(v.w, httpStatus(err, modern), msg.ID, err)
		return
	}
	g.serve(v.r.Context(), v, modern, nil, msg)
}

func (g *Gateway) postLegacy(v *visit, msg *message) {
	if version := v.r.Header.Get(headerVersion); version != "" && !slices.Contains(legacyVersions, version) {
		reject(v.w, http.StatusBadRequest, msg.ID, unsupported(version))
		return
	}
	var session *session
	if !msg.IsRequest() || msg.Method != methodInitialize {
		var ok bool
		if session, ok = g.session(v); !ok {
			return
		}
	}
	switch {
	case msg.IsResponse():
		if err := g.questions.answered(session.name, msg.Message); err != nil {
			// It is the status for input that cannot be accepted (MCP 2025-11-25,
			// basic/transports "Sending Messages to the Server").
			refuse(v.w, http.StatusBadRequest, rpc.Errorf(rpc.CodeInvalidRequest, "%v", err))
			return
		}
		v.w.WriteHeader(http.StatusAccepted)
	case msg.IsNotification():
		g.notified(session.name, msg)
		v.w.WriteHeader(http.StatusAccepted)
	default:
		// To go away is not to cancel (MCP 2025-11-25, basic/transports "Sending
		// Messages to the Server").
		g.serve(context.WithoutCancel(v.r.Context()), v, legacy, session, msg)
	}
}

// serve answers one request. ctx ends when the client has gone away and its
// call is to end with it.
func (g *Gateway) serve(ctx context.Context, v *visit, era era, session *session, msg *message) {
	out := &reply{gateway: g, w: v.w, ctx: v.r.Context(), accepts: v.accepts}
	defer out.finish()
	var events outlet
	if v.accepts.events {
		events = out
		if session != nil {
			out.session = session.name
		}
	}
	q := g.newRequest(v.endpoint, era, v.principal, session, msg, events)
	defer q.leave()
	q.requestID = v.record.RequestID
	defer v.record.called(q)
	q.overHTTP = true
	if q.trace == nil { // what stands with the call is nearer to it
		q.trace = headerTrace(v.r.Header)
	}
	if era == modern {
		q.header = v.r.Header
	}
	if q.method == methodListen {
		var release func()
		ctx, release = g.admitted.hold(ctx, v)
		defer release()
	}
	result, err := q.answer(ctx)
	switch {
	case err == nil:
		if q.method == methodInitialize { // no such method in the modern era
			v.w.Header().Set(headerSession, g.sessions.begin(v.endpoint.name, v.principal, q.session))
		}
		if out.result(q.id, result) {
			q.lent.Free()
		}
	case ctx.Err() != nil:
		// Nothing more is to be sent (MCP 2026-07-28,
		// basic/transports/streamable-http "Cancellation").
		panic(http.ErrAbortHandler)
	case overloaded(err) != 0 && (q.era == modern || errors.Is(err, errClosed)):
		// Legacy clients do not read an error whose status is not 200, and some
		// wait for ever; but another gateway may have taken the place of this one.
		if early := (*earlyError)(nil); errors.As(err, &early) {
			v.w.Header().Set("Retry-After", early.seconds())
		}
		out.answer(overloaded(err), jsonrpc.AppendError(nil, q.id, wireError(err, q.era)))
	case errors.Is(err, errDuplicate):
		out.answer(http.StatusBadRequest, jsonrpc.AppendError(nil, q.id, wireError(err, q.era)))
	case q.era == legacy && lostSession(err) && v.endpoint.only() != nil:
		// With several servers its session is one of all, and outlives the loss
		// that it was told of: clients as they are do not begin another.
		g.endSession(v.endpoint, q.caller)
		gone, id := sessionGone(), q.id
		gone.Message = fmt.Sprintf("%v; send %s again", err, methodInitialize)
		if !out.streaming() {
			// Without an id it is about the session: with one, go-sdk takes it
			// for an answer like any other and keeps the dead session.
			id = nil
		}
		out.answer(http.StatusNotFound, jsonrpc.AppendError(nil, id, gone))
	default:
		e := wireError(err, q.era)
		out.answer(httpStatus(e, q.era), jsonrpc.AppendError(nil, q.id, e))
	}
}

// refuse answers what is no request that could be answered.
func refuse(w http.ResponseWriter, status int, e *rpc.Error) { reject(w, status, nil, e) }

// reject answers a message, whose id may not be known, with an error.
func reject(w http.ResponseWriter, status int, id json.RawMessage, e *rpc.Error) {
	_ = writeJSON(w, status, jsonrpc.AppendError(nil, id, e)) // or the client is gone
}

// accepts is what a client can read.
type accepts struct {
	json, events bool
	asksEvents   bool // by their name: a browser that reads anything does not
	// prefersEvents says that they are named before JSON. Clients name JSON first,
	// but for those that want to see streams.
	prefersEvents bool
}

// takesJSON reports whether an answer that no event precedes is to be JSON.
func (a accepts) takesJSON() bool { return a.json && !a.prefersEvents }

// parseAccept reads the Accept headers (RFC 9110 section 12.5.1). A client
// without any reads everything.
func parseAccept(headers []string) accepts {
	if len(headers) == 0 {
		return accepts{json: true, events: true}
	}
	var a accepts
	for _, header := range headers {
		for kind := range strings.SplitSeq(header, ",") {
			kind, params, err := mediaType(strings.TrimSpace(kind))
			if err != nil || strings.Trim(params["q"], "0.") == "" && params["q"] != "" {
				continue
			}
			switch kind {
			case "*/*":
				a.json, a.events = true, true
			case "application/json", "application/*":
				a.json = true
			case "text/event-stream":
				a.asksEvents, a.prefersEvents = true, a.prefersEvents || !a.json
				fallthrough
			case "text/*":
				a.events = true
			}
		}
	}
	return a
}
