package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// An era is one of the two ways in which clients speak MCP.
type era int8

const (
	legacy era = iota // up to 2025-11-25: initialize and sessions
	modern            // 2026-07-28: stateless
)

// Methods that are answered here, or that say where they are to go in a member
// of their own. Others go to the server of an endpoint that has but one.
const (
	methodInitialize  = "initialize"            // legacy
	methodPing        = "ping"                  // legacy
	methodSetLevel    = "logging/setLevel"      // legacy
	methodSubscribe   = "resources/subscribe"   // legacy
	methodUnsubscribe = "resources/unsubscribe" // legacy
	methodDiscover    = "server/discover"       // modern
	methodListen      = "subscriptions/listen"  // modern
	methodCallTool    = "tools/call"
	methodGetPrompt   = "prompts/get"
	methodRead        = "resources/read"
	methodComplete    = "completion/complete"
	methodTasks       = "tasks/" // what they begin with
)

// tasksExtension is the extension of the modern era whose methods those are
// (SEP-2663).
const tasksExtension = "io.modelcontextprotocol/tasks"

// Notifications that mean something here.
const (
	notifyCancelled   = "notifications/cancelled"   // from clients, and to them
	notifyInitialized = "notifications/initialized" // from clients
	notifyProgress    = "notifications/progress"    // to clients
	notifyMessage     = "notifications/message"     // to clients
)

// A request is one request of a client.
type request struct {
	gateway  *Gateway
	routes   *routes   // until leave
	endpoint *endpoint // of routes
	left     bool      // leave was called
	era      era
	caller   rpc.Caller
	rights   Rights   // of the caller's principal
	session  *session // legacy; nil before initialize
	id       json.RawMessage
	method   string
	params   json.RawMessage
	meta     json.RawMessage // params._meta; nil for none
	token    json.RawMessage // the progress token; nil for none
	logLevel int             // the least severe log message that the client wants
	levelSet bool            // a legacy client has set it
	foreign  error           // it goes on with what another gateway has asked; why a server cannot
	trace    *rpc.Trace      // that the client says it is part of; nil for none
	overHTTP bool            // in a request of its own

	requestID string   // over HTTP; "" otherwise
	asked     *backend // the last that the request itself was for; nil while there is none

	header http.Header // of a modern request over HTTP; nil otherwise
	// cancel ends the request, and with it the call of the one server that it is
	// for; nil where that ends by itself.
	cancel context.CancelCauseFunc
	lent   rpc.Answer // what the result is in, to be freed when it is sent
	// standingOut is the way to the client outside of calls, where that is not a
	// stream of its own.
	standingOut outlet
	hungUp      <-chan struct{} // closed when nothing more comes of the client; nil over HTTP
	leaves      bool            // the client goes on elsewhere when the gateway closes
	// out is the way to the client ahead of the answer; nil where it takes
	// nothing but that.
	out outlet
}

// An outlet takes frames to a client, in order, ahead of an answer.
type outlet interface {
	// event takes a frame that is lost where too many wait for the client to
	// read: it does not block. That of a client in this process loses nothing,
	// and blocks instead.
	event(frame []byte)
	// send takes a frame that the client has to see. It blocks where the client
	// is read from no faster than it reads: over stdio.
	send(frame []byte)
}

// A message is a frame of a client, and what it says of itself.
type message struct {
	jsonrpc.Message
	meta json.RawMessage                   // params._meta; nil for none
	says [len(metaMembers)]json.RawMessage // those of meta; nil for what it lacks
}

// metaMembers are the members of _meta that are read here, and what follows
// their places in message.says.
var metaMembers = [...]string{metaVersion, metaCapabilities, metaLogLevel, "progressToken",
	rpc.TraceParentKey, rpc.TraceStateKey, rpc.TraceBaggageKey}

const (
	saysVersion = iota
	saysCapabilities
	saysLogLevel
	saysToken
	saysTraceParent
	saysTraceState
	saysTraceBaggage
)

// parse reads one frame. The message is there with an error as well, with the
// id if one was found; the errors are those of [jsonrpc.Parse].
func parse(frame []byte) (*message, error) {
	m, err := jsonrpc.Parse(frame)
	msg := &message{Message: m}
	if err == nil {
		if msg.meta, _ = jsonrpc.Get(m.Params, "_meta"); msg.meta != nil {
			jsonrpc.GetEach(msg.meta, metaMembers[:], msg.says[:])
		}
	}
	return msg, err
}

// newRequest makes the request of a message whose era has been found and, for
// the modern one, checked. out is as in request. It finds the servers of the
// endpoint as they are now, and has to leave them.
func (g *Gateway) newRequest(e *endpoint, era era, principal string, s *session, msg *message, out outlet) *request {
	routes := g.enter()
	rights := routes.rights(principal)
	q := &request{
		gateway: g, routes: routes, endpoint: routes.at(e.name).visibleTo(rights), era: era, session: s, caller: rpc.Caller{Principal: principal}, rights: rights,
		id: msg.ID, method: msg.Method, params: msg.Params, meta: msg.meta, out: out,
	}
	if token := msg.says[saysToken]; jsonrpc.IsID(token) {
		q.token = token
	}
	q.trace = msg.trace()
	var caps json.RawMessage
	switch {
	case era == modern:
		q.logLevel = logLevel(jsonrpc.String(msg.says[saysLogLevel]))
		caps = msg.says[saysCapabilities]
	case msg.Method == methodInitialize:
		caps, _ = jsonrpc.Get(msg.Params, "capabilities")
	case s != nil:
		// Before a client has set a level the server decides what to send (MCP
		// 2025-11-25, server/utilities/logging); but another client may have had
		// it send everything.
		if q.logLevel, q.levelSet = g.levels.get(s.name); !q.levelSet {
			q.logLevel = logLevel(defaultLevel)
		}
		q.caller.Capabilities = s.caps
	}
	if len(caps) > len("{}") {
		q.caller.Capabilities = rpc.ReadCapabilities(caps)
	}
	if s != nil {
		q.caller.Session = s.name
	}
	if out == nil && era == legacy {
		q.caller.Capabilities = rpc.Capabilities{} // there is no way to ask
	}
	return q
}

// reroute has the request begin anew with the servers that have taken the place of
// those that it was begun with. It reports false where none have.
func (q *request) reroute() bool {
	select {
	case <-q.routes.replaced:
	default:
		return false
	}
	if q.left {
		return false
	}
	q.routes.leave()
	q.routes, q.asked = q.gateway.enter(), nil
	q.rights = q.routes.rights(q.caller.Principal)
	q.endpoint = q.routes.at(q.endpoint.name).visibleTo(q.rights)
	return true
}

// leave says that the request needs the servers of its endpoint no more. It may
// be called again, by the same goroutine.
func (q *request) leave() {
	if !q.left {
		q.left = true
		q.routes.leave()
	}
}

// answer answers a request, which counts as a call in flight meanwhile. It
// returns what [request.run] does, or why the request was turned away.
func (q *request) answer(ctx context.Context) (json.RawMessage, error) {
	ctx, this, err := q.gateway.calls.begin(ctx, keyOf(q.caller.Session, q.id), q.author())
	if err != nil {
		return nil, err
	}
	defer q.gateway.calls.end(this)
	q.cancel = this.cancel
	return q.run(ctx)
}

// run answers a request that has been counted in: with a result that is ready
// to be sent, or with an error for [wireError].
func (q *request) run(ctx context.Context) (json.RawMessage, error) {
	hooks := &q.gateway.hooks
	if hooks.RequestStart == nil {
		return q.reply(ctx)
	}
	ctx = hooks.RequestStart(ctx, q.start())
	result, err := q.reply(ctx)
	hooks.RequestEnd(ctx, q.end(ctx, result, err))
	return result, err
}

func (q *request) reply(ctx context.Context) (json.RawMessage, error) {
	if q.rights.Wait != nil {
		if wait := q.rights.Wait(); wait > 0 {
			return nil, &earlyError{wait}
		}
	}
	answer, err := q.dispatch(ctx)
	for poolClosed(err) && q.reroute() {
		answer, err = q.dispatch(ctx)
	}
	if err != nil {
		switch cause := context.Cause(ctx); {
		case isAnswer(err):
		case cause == errCancelled:
			err = cause // rather than what the handler made of it
		case poolClosed(err) && q.gateway.leaving.Err() != nil, cause == errAborted && mcpool.SafeToRetry(err):
			err = errClosed
		case cause == errAborted:
			err = cause
		}
		return nil, err
	}
	if q.era == modern {
		return q.gateway.modernResult(q.method, answer)
	}
	return legacyResult(answer)
}

func (q *request) dispatch(ctx context.Context) (rpc.Answer, error) {
	if kind := listKinds[q.method]; kind != nil {
		return q.list(ctx, kind)
	}
	if q.era == modern && has(q.params, "requestState") {
		if state := jsonrpc.GetString(q.params, "requestState"); strings.HasPrefix(state, statePrefix) {
			result, err := q.resume(ctx, state)
			foreign, ok := err.(foreignState)
			if !ok {
				return result, err
			}
			q.foreign = foreign.error
		}
	}
	switch q.method {
	case methodCallTool:
		return q.byName(ctx, &tools, "name")
	case methodGetPrompt:
		return q.byName(ctx, &prompts, "name")
	case methodRead:
		return q.byURI(ctx, "uri")
	case methodComplete:
		return q.complete(ctx)
	}
	if q.era == legacy {
		switch q.method {
		case methodInitialize:
			result, err := q.initialize(ctx)
			return rpc.LegacyResult(result), err
		case methodPing:
			return rpc.LegacyResult(json.RawMessage("{}")), nil
		case methodSetLevel:
			result, err := q.setLevel()
			return rpc.LegacyResult(result), err
		case methodSubscribe, methodUnsubscribe:
			result, err := q.subscribe(ctx)
			return rpc.LegacyResult(result), err
		case methodDiscover, methodListen:
			return rpc.Answer{}, q.unknownMethod()
		}
	} else {
		switch q.method {
		case methodDiscover:
			result, err := q.discover(ctx)
			return rpc.Result(result), err
		case methodListen:
			result, err := q.listen(ctx)
			return rpc.Result(result), err
		case methodInitialize, methodPing, methodSetLevel, methodSubscribe, methodUnsubscribe:
			return rpc.Answer{}, q.unknownMethod()
		}
	}
	return q.pass(ctx)
}

// pass makes a call of a method that says nothing of its server: where there is
// but one it is for that.
func (q *request) pass(ctx context.Context) (rpc.Answer, error) {
	s, tasks := q.endpoint.only(), strings.HasPrefix(q.method, methodTasks)
	switch {
	case strings.HasPrefix(q.method, "notifications/"):
		return rpc.Answer{}, q.unknownMethod()
	case s == nil && tasks:
		return rpc.Answer{}, rpc.Errorf(rpc.CodeMethodNotFound, "%s is served where an endpoint has one server: at /mcp/NAME", q.method)
	case s == nil:
		return rpc.Answer{}, q.unknownMethod()
	case tasks && !q.hasTasks(ctx, s):
		return rpc.Answer{}, q.unknownMethod()
	}
	result, err := q.ask(ctx, s, q.params)
	if errors.Is(err, mcpool.ErrRefused) {
		return rpc.Answer{}, q.unknownMethod() // some servers answer what they do not know with a page
	}
	return result, err
}

// hasTasks reports whether the client can have tasks at a server. Those of
// 2025-11-25 and those of the modern extension have only their names in common.
// A legacy server's are those of a session, and a pool that has several sessions
// for a client does not offer them.
func (q *request) hasTasks(ctx context.Context, s *backend) bool {
	said := q.helloOf(ctx, s)
	if modernServer := s.modern.Load(); modernServer || q.era == modern {
		return modernServer && q.era == modern
	}
	_, told := jsonrpc.Get(said, "capabilities", "tasks")
	return told && q.endpoint.only() != nil
}

// withoutTask takes off what has a call become a task that the client could not
// ask for: a server without tasks would ignore it (MCP 2025-11-25,
// basic/utilities/tasks), and a modern one makes them for those alone who
// declare the extension (SEP-2663).
func (q *request) withoutTask(ctx context.Context, s *backend, params json.RawMessage) json.RawMessage {
	if has(params, "task") && !q.hasTasks(ctx, s) {
		params = jsonrpc.Delete(params, "task")
	}
	if q.endpoint.only() == nil {
		if _, declared := jsonrpc.Get(q.meta, metaCapabilities, "extensions", tasksExtension); declared {
			params = jsonrpc.Delete(params, "_meta", metaCapabilities, "extensions", tasksExtension)
		}
	}
	return params
}

func (q *request) unknownMethod() error {
	return rpc.Errorf(rpc.CodeMethodNotFound, "method %q is not supported", q.method)
}

// byName makes a call that is for the tool or prompt whose name is at path.
func (q *request) byName(ctx context.Context, kind *listKind, path ...string) (rpc.Answer, error) {
	name := jsonrpc.GetString(q.params, path...)
	s, inner, err := q.findName(ctx, kind, name)
	if err == nil && kind == &tools && q.header != nil {
		err = q.checkParamHeaders(ctx, s, inner)
	}
	if err != nil {
		return rpc.Answer{}, err
	}
	params := q.params
	if kind == &tools {
		params = q.withoutTask(ctx, s, params)
	}
	if inner != name {
		if params, err = setString(params, inner, path...); err != nil {
			return rpc.Answer{}, badParams(q.method, err)
		}
	}
	answer, err := q.ask(ctx, s, params)
	q.lent = answer
	return answer, err
}

// findName returns the server that a client's name of a tool or a prompt is
// for, and what it is called there.
func (q *request) findName(ctx context.Context, kind *listKind, name string) (*backend, string, error) {
	if name == "" {
		return nil, "", rpc.Errorf(rpc.CodeInvalidParams, "%s lacks the name, a string that is not empty: params.name", q.method)
	}
	what := strings.TrimSuffix(kind.member, "s")
	s, inner, cut, ok := q.endpoint.inward(name)
	if !ok {
		return nil, "", rpc.Errorf(rpc.CodeInvalidParams, "unknown %s %q: here they are named SERVER%s%s", what, name, separator, strings.ToUpper(what))
	}
	if s == nil || cut {
		servers := q.endpoint.servers
		if s != nil {
			servers = []*backend{s}
		}
		found, there := q.locate(ctx, kind, servers, func(i item) bool { return q.endpoint.outward(i.server, i.inner) == name })
		switch {
		case there:
			s, inner = found.server, found.inner
		case s == nil:
			return nil, "", rpc.Errorf(rpc.CodeInvalidParams, "unknown %s %q", what, name)
		}
	}
	if kind == &tools && !q.offers(s, inner) {
		return nil, "", rpc.Errorf(rpc.CodeInvalidParams, "unknown tool %q", name)
	}
	return s, inner, nil
}

// byURI makes a call that is for the resource whose URI is at path.
func (q *request) byURI(ctx context.Context, path ...string) (rpc.Answer, error) {
	s, inner, err := q.findURI(ctx, jsonrpc.GetString(q.params, path...))
	if err != nil {
		return rpc.Answer{}, err
	}
	params := q.params
	if inner != jsonrpc.GetString(params, path...) {
		if params, err = setString(params, inner, path...); err != nil {
			return rpc.Answer{}, badParams(q.method, err)
		}
	}
	return q.ask(ctx, s, params)
}

// findURI returns the server that a client's URI is for, and what it is there.
// One that does not say is looked for in the lists: it may be from a result.
func (q *request) findURI(ctx context.Context, uri string) (*backend, string, error) {
	if uri == "" {
		return nil, "", rpc.Errorf(rpc.CodeInvalidParams, "%s lacks the uri, a string that is not empty", q.method)
	}
	s, inner := q.endpoint.inwardURI(uri)
	if s != nil {
		return s, inner, nil
	}
	found, ok := q.locate(ctx, &resources, q.endpoint.servers, func(i item) bool { return i.inner == uri })
	if !ok {
		found, ok = q.locate(ctx, &templates, q.endpoint.servers, func(i item) bool { return fits(uri, i.inner) })
	}
	if !ok {
		code := rpc.CodeInvalidParams
		if q.era == legacy {
			code = codeNotFoundLegacy
		}
		return nil, "", rpc.Errorf(code, "no server here lists resource %q", uri)
	}
	return found.server, uri, nil
}

// fits reports whether a URI may be made of a template: it begins as that does
// before its first variable (RFC 6570).
func fits(uri, template string) bool {
	begin, _, variable := strings.Cut(template, "{")
	return variable && begin != "" && strings.HasPrefix(uri, begin) || uri == template
}

// complete asks for the completion of an argument of a prompt, or of a
// template (MCP 2025-11-25, server/utilities/completion).
func (q *request) complete(ctx context.Context) (rpc.Answer, error) {
	if s := q.endpoint.only(); s != nil && !q.endpoint.prefixed {
		return q.ask(ctx, s, q.params)
	}
	switch kind := jsonrpc.GetString(q.params, "ref", "type"); kind {
	case "ref/resource":
		return q.byURI(ctx, "ref", "uri")
	case "ref/prompt":
		return q.byName(ctx, &prompts, "ref", "name")
	default:
		return rpc.Answer{}, rpc.Errorf(rpc.CodeInvalidParams, `params.ref.type of %s is %q: want "ref/prompt" or "ref/resource"`, q.method, kind)
	}
}

func badParams(method string, err error) error {
	return rpc.Errorf(rpc.CodeInvalidParams, "params of %s: %v", method, err)
}

// isAnswer reports whether err is an error that the server answered with.
func isAnswer(err error) bool {
	var e *rpc.Error
	return errors.As(err, &e)
}
