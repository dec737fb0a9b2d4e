package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// retryAfter is the seconds after which to come back to a gateway that shuts
// down: another may have taken its place.
const retryAfter = "1"

// route finds the endpoint of a request's path and what its method is for.
func (g *Gateway) route(w http.ResponseWriter, r *http.Request) {
	e := g.endpoint(r.URL.Path)
	if e == nil {
		names := make([]string, len(g.all.servers))
		for i, s := range g.all.servers {
			names[i] = s.Name
		}
		refuse(w, http.StatusNotFound, rpc.Errorf(rpc.CodeInvalidRequest,
			"nothing is served at %s: there are /mcp and /mcp/NAME, where NAME is one of %s", r.URL.Path, strings.Join(names, ", ")))
		return
	}
	switch r.Method {
	case http.MethodPost:
		g.post(w, r, e)
	case http.MethodDelete:
		g.delete(w, r, e)
	default:
		// A GET would ask for a stream of its own, which is not offered (MCP
		// 2025-11-25, basic/transports "Listening for Messages").
		w.Header().Set("Allow", "POST, DELETE")
		refuse(w, http.StatusMethodNotAllowed, rpc.Errorf(rpc.CodeInvalidRequest,
			"method %s is not served: POST sends a message, DELETE ends a session", r.Method))
	}
}

func (g *Gateway) endpoint(path string) *endpoint {
	path = strings.TrimSuffix(path, "/")
	if path == "/mcp" {
		return g.all
	}
	name, ok := strings.CutPrefix(path, "/mcp/")
	if !ok {
		return nil
	}
	return g.byName[name]
}

// delete ends a legacy session (MCP 2025-11-25, basic/transports "Session
// Management").
func (g *Gateway) delete(w http.ResponseWriter, r *http.Request, e *endpoint) {
	session, ok := g.session(w, r, e)
	if !ok {
		return
	}
	g.endSession(e, session)
	w.WriteHeader(http.StatusNoContent)
}

// session returns the session that a legacy request names, or refuses the
// request.
func (g *Gateway) session(w http.ResponseWriter, r *http.Request, e *endpoint) (string, bool) {
	id := r.Header.Get(headerSession)
	if id == "" {
		refuse(w, http.StatusBadRequest, rpc.Errorf(rpc.CodeInvalidRequest,
			"header %s is missing: begin with %s, or speak %s with header %s and the _meta that goes with it",
			headerSession, methodInitialize, versionModern, headerVersion))
		return "", false
	}
	session, ok := g.sessions.open(id, e.name)
	if !ok {
		refuse(w, http.StatusNotFound, sessionGone())
	}
	return session, ok
}

// post reads one message and finds its era.
func (g *Gateway) post(w http.ResponseWriter, r *http.Request, e *endpoint) {
	if kind, _, _ := mediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, rpc.Errorf(rpc.CodeInvalidRequest, "Content-Type must be application/json"))
		return
	}
	accepts := parseAccept(r.Header.Values("Accept"))
	if !accepts.json && !accepts.events {
		refuse(w, http.StatusNotAcceptable, rpc.Errorf(rpc.CodeInvalidRequest, "Accept must allow application/json or text/event-stream"))
		return
	}
	// All of it is read before anything is answered: net/http closes the body
	// when the response begins.
	body, err := readBody(http.MaxBytesReader(w, r.Body, g.maxBody), r.ContentLength)
	if err != nil {
		status, e := http.StatusBadRequest, rpc.Errorf(rpc.CodeParse, "the body could not be read: %v", err)
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status, e = http.StatusRequestEntityTooLarge, rpc.Errorf(rpc.CodeInvalidRequest, "the body has more than %d bytes", tooLarge.Limit)
		}
		refuse(w, status, e)
		return
	}
	msg, err := parse(body)
	if err == nil && msg.IsResponse() {
		err = errors.New("nothing was asked that a response could answer")
	}
	if err != nil {
		writeJSON(w, http.StatusBadRequest, jsonrpc.AppendError(nil, msg.ID, frameError(err)))
		return
	}
	if msg.isModern(r.Header.Get(headerVersion)) {
		g.postModern(w, r, e, msg, accepts)
	} else {
		g.postLegacy(w, r, e, msg, accepts)
	}
}

// readBody reads all of a body, whose length is -1 where it is not known.
func readBody(body io.Reader, length int64) ([]byte, error) {
	const trusted = 64 << 10 // a length claimed is not yet a length sent
	if length < 0 || length > trusted {
		return io.ReadAll(body)
	}
	data := make([]byte, length)
	_, err := io.ReadFull(body, data)
	return data, err
}

// mediaType is mime.ParseMediaType, which makes a map, with the types that
// nearly every client names known at sight.
func mediaType(value string) (kind string, params map[string]string, err error) {
	if value == "application/json" || value == "text/event-stream" {
		return value, nil, nil
	}
	return mime.ParseMediaType(value)
}

// frameError is the error that answers a frame that could not be understood.
func frameError(err error) *rpc.Error {
	var syntax *jsonrpc.SyntaxError
	if errors.As(err, &syntax) {
		return rpc.Errorf(rpc.CodeParse, "not JSON: %v", err)
	}
	return rpc.Errorf(rpc.CodeInvalidRequest, "%v", err)
}

func (g *Gateway) postModern(w http.ResponseWriter, r *http.Request, e *endpoint, msg *message, accepts accepts) {
	if msg.IsNotification() {
		// The era has none over HTTP, and asks nothing of them (MCP 2026-07-28,
		// basic/transports/streamable-http "Sending Messages").
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if err := msg.checkModern(r.Header); err != nil {
		writeJSON(w, httpStatus(err, modern), jsonrpc.AppendError(nil, msg.ID, err))
		return
	}
	g.serve(r.Context(), w, newRequest(e, modern, "", msg), accepts)
}

func (g *Gateway) postLegacy(w http.ResponseWriter, r *http.Request, e *endpoint, msg *message, accepts accepts) {
	if v := r.Header.Get(headerVersion); v != "" && !slices.Contains(legacyVersions, v) {
		writeJSON(w, http.StatusBadRequest, jsonrpc.AppendError(nil, msg.ID, unsupported(v)))
		return
	}
	session := ""
	if !msg.IsRequest() || msg.Method != methodInitialize {
		var ok bool
		if session, ok = g.session(w, r, e); !ok {
			return
		}
	}
	if msg.IsNotification() {
		if msg.Method == notifyCancelled {
			g.cancelled(session, msg.Params)
		}
		w.WriteHeader(http.StatusAccepted)
		return
	}
	// To go away is not to cancel (MCP 2025-11-25, basic/transports "Sending
	// Messages to the Server").
	g.serve(context.WithoutCancel(r.Context()), w, newRequest(e, legacy, session, msg), accepts)
}

// serve answers one request. ctx ends when the client has gone away and its
// call is to end with it.
func (g *Gateway) serve(ctx context.Context, w http.ResponseWriter, q *request, accepts accepts) {
	out := &reply{w: w, accepts: accepts}
	defer out.stop() // for a handler that panics
	if accepts.events {
		q.emit = out.event
	}
	result, err := g.answer(ctx, q)
	switch {
	case err == nil:
		if q.method == methodInitialize { // no such method in the modern era
			w.Header().Set(headerSession, g.sessions.mint(q.endpoint.name))
		}
		out.result(q.id, result)
		q.lent.Free()
	case ctx.Err() != nil:
		// Nothing more is to be sent (MCP 2026-07-28,
		// basic/transports/streamable-http "Cancellation").
		panic(http.ErrAbortHandler)
	case errors.Is(err, errClosed):
		w.Header().Set("Retry-After", retryAfter)
		out.answer(http.StatusServiceUnavailable, jsonrpc.AppendError(nil, q.id, wireError(err, q.era)))
	case errors.Is(err, errDuplicate):
		out.answer(http.StatusBadRequest, jsonrpc.AppendError(nil, q.id, wireError(err, q.era)))
	case q.era == legacy && lostSession(err):
		g.endSession(q.endpoint, q.session)
		gone, id := sessionGone(), q.id
		gone.Message = fmt.Sprintf("%v; send %s again", err, methodInitialize)
		if !out.stop() {
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
func refuse(w http.ResponseWriter, status int, e *rpc.Error) {
	writeJSON(w, status, jsonrpc.AppendError(nil, nil, e))
}

// accepts is what a client can read.
type accepts struct{ json, events bool }

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
				a = accepts{json: true, events: true}
			case "application/json", "application/*":
				a.json = true
			case "text/event-stream", "text/*":
				a.events = true
			}
		}
	}
	return a
}
