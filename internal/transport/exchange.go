package transport

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// An exchange is one request under way: what is sent for it, and what becomes
// of the messages that come for it. Its methods are called by the goroutine of
// the call alone, but for ask and withdrawn, so that nothing reaches the
// caller's Events once the call has returned.
type exchange struct {
	id     int64           // ours, unique on the connection; progress comes under it too
	token  json.RawMessage // the caller's progress token as it came, nil for none
	era    Era
	method string
	level  logLevel // of the log messages that the caller wants
	events rpc.Events
	caps   rpc.Capabilities // what the caller can answer
	trace  *rpc.Trace       // that the request is part of; nil for none
	link   link
	log    *slog.Logger
	// authorize is for what is sent for it over HTTP.
	authorize Authorize
	memory    []byte // that its answer is in

	asks    sync.WaitGroup
	mu      sync.Mutex                    // guards what follows, and keeps asks.Add before asks.Wait
	pending map[string]context.CancelFunc // requests of the server, by their id
	over    bool                          // nobody is to be asked any more
}

// A link is what an exchange needs of its connection.
type link interface {
	// spawn runs f in a goroutine that closing the connection waits for.
	spawn(f func())
	// reply sends a response of ours to the server, and does not wait for it.
	reply(frame []byte, authorize Authorize)
	// changed looks whether a notification says that something of the server is
	// another now, whoever gets it.
	changed(method string, params json.RawMessage)
	// aside takes in a log message that is for no call.
	aside(params json.RawMessage)
}

func newExchange(id int64, era Era, call rpc.Call, link link, log *slog.Logger) *exchange {
	return &exchange{
		id: id, era: era, method: call.Method, events: call.Events, caps: answerable(call), trace: call.Trace, link: link, log: log,
	}
}

// frame returns the request as it goes to the server: params with what the
// era wants in _meta and nothing of the other, and with our progress token for
// the caller's, which is unique only to the caller.
func (x *exchange) frame(call rpc.Call) ([]byte, error) {
	params, id := call.Params, appendID(x.id)
	meta, found := jsonrpc.Get(params, "_meta")
	if string(meta) == "null" {
		meta = nil
	}
	var err error
	var says metaSays
	jsonrpc.GetEach(meta, metaMembers[:], says[:])
	token := says[saysToken]
	if jsonrpc.IsID(token) {
		x.token = token
		if meta, err = jsonrpc.Set(meta, id, "progressToken"); err != nil {
			return nil, badParams(err)
		}
	}
	x.level = readLogLevel(jsonrpc.String(says[saysLogLevel]))
	changed := x.token != nil
	switch {
	case x.era == Modern && says.all():
	case x.era == Modern:
		changed = true
		if meta, err = modernMeta(meta, x.caps); err != nil {
			return nil, badParams(err)
		}
	case says.modern():
		rest := legacyMeta(meta)
		changed = changed || len(rest) != len(meta)
		meta = rest
	}
	if x.trace != nil {
		changed = true
		if meta, err = traceMeta(meta, x.trace); err != nil {
			return nil, badParams(err)
		}
	}
	switch {
	case changed && string(meta) == "{}":
		params = jsonrpc.Delete(params, "_meta")
	case changed:
		if params, err = jsonrpc.Set(params, meta, "_meta"); err != nil {
			return nil, badParams(err)
		}
	case params != nil && !found: // no splice has read them
		if err := jsonrpc.ValidObject(params); err != nil {
			return nil, badParams(err)
		}
	}
	return jsonrpc.AppendRequest(nil, id, call.Method, params), nil
}

// badParams answers a call as the server would have: sending what is not JSON
// could cost other calls their connection.
func badParams(err error) error {
	return rpc.Errorf(rpc.CodeInvalidParams, "params: %v", err)
}

// isAnswer reports whether the message is the response to the exchange.
func (x *exchange) isAnswer(m *jsonrpc.Message) bool {
	return m.IsResponse() && isID(m.ID, x.id)
}

// receive takes in a message of the server that is not the answer.
func (x *exchange) receive(ctx context.Context, m *jsonrpc.Message) {
	switch {
	case m.IsNotification():
		x.notify(m)
	case m.IsRequest():
		x.request(ctx, m)
	}
}

func (x *exchange) notify(m *jsonrpc.Message) {
	params := m.Params
	switch m.Method {
	case methodProgress:
		if x.token == nil || !isID(progressToken(m), x.id) {
			return
		}
		var err error
		if params, err = jsonrpc.Set(params, x.token, "progressToken"); err != nil {
			return
		}
	case methodMessage:
		if !x.level.wants(params) {
			return
		}
	case methodCancelled:
		x.withdrawn(m)
		return
	}
	if x.events != nil {
		x.events.Notify(m.Method, params)
	}
}

// request answers a request of the server. A modern server has none to make
// and a client never sends responses (MCP 2026-07-28, streamable HTTP, Sending
// Messages 4).
func (x *exchange) request(ctx context.Context, m *jsonrpc.Message) {
	switch {
	case x.era == Modern:
		x.log.Debug("a modern server sent a request, ignored", "method", m.Method)
	case m.Method == methodPing:
		x.link.reply(pong(m.ID), x.authorize)
	case x.events == nil || !x.ask(ctx, m):
		x.link.reply(declined(m), x.authorize)
	}
}

// withdrawn takes in that the server no longer wants an answer. It names its
// request by its own id, which means nothing to the caller.
func (x *exchange) withdrawn(m *jsonrpc.Message) {
	id, _ := jsonrpc.Get(m.Params, "requestId")
	x.mu.Lock()
	defer x.mu.Unlock()
	if cancel := x.pending[string(id)]; cancel != nil {
		cancel()
	}
}

// ask has the caller answer a request of the server, if it has declared that it
// can, and sends the answer unless the call or the request is over by then. It
// reports false if the call is over already.
func (x *exchange) ask(ctx context.Context, m *jsonrpc.Message) bool {
	if e := undeclared(x.caps, m.Method, m.Params); e != nil {
		x.link.reply(jsonrpc.AppendError(nil, m.ID, e), x.authorize)
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	if x.pending == nil {
		x.pending = make(map[string]context.CancelFunc)
	}
	x.pending[string(m.ID)] = cancel
	x.asks.Add(1)
	x.link.spawn(func() {
		result, err := x.events.Ask(ctx, m.Method, m.Params)
		withdrawn := ctx.Err() != nil
		cancel()
		x.asks.Done()
		if !withdrawn {
			x.link.reply(response(m, result, err), x.authorize)
		}
	})
	return true
}

// end ends the requests of the server that are still with the caller.
func (x *exchange) end() {
	x.mu.Lock()
	x.over = true
	for _, cancel := range x.pending {
		cancel()
	}
	x.mu.Unlock()
	x.asks.Wait()
}

// response is what the server is told that Events.Ask said.
func response(m *jsonrpc.Message, result json.RawMessage, err error) []byte {
	var e *rpc.Error
	switch {
	case errors.As(err, &e):
		return jsonrpc.AppendError(nil, m.ID, e)
	case err != nil:
		// What went wrong on our side is no business of the server's.
		return jsonrpc.AppendError(nil, m.ID, rpc.Errorf(rpc.CodeInternal, "%s failed", m.Method))
	case jsonrpc.ValidObject(result) != nil:
		return jsonrpc.AppendError(nil, m.ID, rpc.Errorf(rpc.CodeInternal, "%s got no valid answer", m.Method))
	}
	return jsonrpc.AppendResult(nil, m.ID, result)
}

func pong(id json.RawMessage) []byte {
	return jsonrpc.AppendResult(nil, id, json.RawMessage("{}"))
}

func declined(m *jsonrpc.Message) []byte {
	return jsonrpc.AppendError(nil, m.ID, nobodyAnswers(m.Method))
}

func nobodyAnswers(method string) *rpc.Error {
	return rpc.Errorf(rpc.CodeMethodNotFound, "nobody here answers %s", method)
}

// undeclared is the error for a request of the server that its caller has not
// declared to answer; nil for one that it has (MCP 2025-11-25, elicitation,
// "Error Handling", and sampling, "Tools in Sampling").
func undeclared(caps rpc.Capabilities, method string, params json.RawMessage) *rpc.Error {
	declared := false
	switch method {
	case "roots/list":
		declared = caps.Roots
	case "sampling/createMessage":
		declared = caps.Sampling
		if _, tools := jsonrpc.Get(params, "tools"); tools && declared && !caps.SamplingTools {
			return rpc.Errorf(rpc.CodeInvalidParams, "nobody here answers %s with tools", method)
		}
	case "elicitation/create":
		byURL := jsonrpc.GetString(params, "mode") == "url"
		declared = byURL && caps.ElicitationURL || !byURL && caps.Elicitation
		if !declared && (caps.Elicitation || caps.ElicitationURL) {
			return rpc.Errorf(rpc.CodeInvalidParams, "nobody here answers %s in that mode", method)
		}
	}
	if declared {
		return nil
	}
	return nobodyAnswers(method)
}

// cancelled is the notification that withdraws a request of ours (MCP
// 2025-11-25, utilities/cancellation).
func cancelled(id int64, cause error) []byte {
	reason := "the caller has cancelled"
	if errors.Is(cause, context.DeadlineExceeded) {
		reason = "the caller's time is up"
	}
	params, _ := json.Marshal(struct { // cannot fail
		RequestID int64  `json:"requestId"`
		Reason    string `json:"reason"`
	}{id, reason})
	return jsonrpc.AppendRequest(nil, nil, methodCancelled, params)
}

func progressToken(m *jsonrpc.Message) json.RawMessage {
	token, _ := jsonrpc.Get(m.Params, "progressToken")
	return token
}

func appendID(id int64) json.RawMessage { return strconv.AppendInt(nil, id, 10) }

// readID returns an id, or a progress token, of our making. It is read by
// value: a server may have taken 7 in and given 7.0 back.
func readID(raw json.RawMessage) (int64, bool) {
	if !jsonrpc.IsID(raw) || raw[0] == '"' {
		return 0, false
	}
	if id, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return id, true
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	id := int64(f)
	return id, err == nil && float64(id) == f
}

func isID(raw json.RawMessage, id int64) bool {
	got, ok := readID(raw)
	return ok && got == id
}
