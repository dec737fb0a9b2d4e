// Package rpc is a call as data: who asks for what, what comes back, and what
// a server says meanwhile. Everything in mcpool speaks it: a pool, the
// database server and a lease are all a [Handler], and the gateway needs
// nothing else from them.
//
// Params and results stay the bytes they came as. What an era wants around them
// (sessions, _meta keys, headers) is put on and taken off at the edges, by the
// code that speaks to a server and by the code that speaks to a client.
package rpc

import (
	"context"
	"encoding/json"

	"golang.org/x/oauth2"
)

// A Call is one request to an MCP server.
type Call struct {
	// Method is the MCP method, such as "tools/call".
	Method string
	// Params is the params object, or nil for none. It is not modified.
	//
	// Its _meta may say of the client what requests of MCP 2026-07-28 say
	// (basic, "_meta"): io.modelcontextprotocol/clientCapabilities, /clientInfo
	// and /logLevel. A modern server gets that as it is, with the capabilities
	// of Caller and the clientInfo of mcpool where it lacks; a legacy one does
	// not get it, for its session has said it already; a handler in this process
	// gets what there is.
	//
	// A logLevel is honoured by legacy servers, too, if they have the logging
	// capability: the session is set to the most verbose level that any of its
	// callers has wanted so far, and Events get what their own call wants. A
	// call without a logLevel gets whatever a server sends for it, and on a
	// legacy session that others share this is as much as they have asked for.
	// That a server does not take a level in is no failure of the call.
	Params json.RawMessage
	// Caller says on whose behalf the call is made.
	Caller Caller
	// Events receives what the server sends while the call runs. Nil means
	// that nobody listens: notifications are dropped, requests are declined.
	Events Events
	// MultiRound says that the caller makes multi round-trip requests itself
	// (MCP 2026-07-28, basic/patterns/mrtr): where a modern server asks for
	// input before it answers, that result, "input_required", is the answer, and
	// the next round is another call. Events.Ask is then for legacy servers
	// alone. Without it what a modern server asks for becomes an Ask.
	MultiRound bool
	// Trace is the trace that the call is part of; nil for none that is known.
	// Servers are told of it in _meta, where it takes the place of what Params
	// say, and over HTTP in headers as well.
	Trace *Trace
}

// A Caller is on whose behalf a call is made. The zero Caller is the
// principal of the pool, without a session and without capabilities.
type Caller struct {
	// Principal is who is answerable for the call. Under sharing by principal
	// no two principals ever share a connection.
	Principal string
	// Session names one conversation of the principal, for servers that keep
	// state; empty for none.
	Session string
	// Capabilities is what Events can answer.
	Capabilities Capabilities
	// Token gives the token that this caller's calls carry to a server over
	// HTTP; nil for that of the server's own Tokens, if it has any. It may give
	// another token at any time. Callers of one principal and revision are
	// taken to be one account at the server: they share connections, whatever
	// their sources.
	Token TokenSource
	// Revision is that of the principal's credentials. It changes when what
	// they allow does (consent, scopes, another account), not when a token is
	// renewed. Callers with different revisions share no connection, except
	// where everyone shares. It is for the program to set, never for its
	// clients.
	Revision string
}

// A TokenSource gives access tokens. Its Token is called when there is no
// token, when the last one is about to expire, and when the server has refused
// it; it may be called from several goroutines at once, and should be bounded
// in time, since no ctx ends it. Sources that are equal by == are one source. One
// that wants to know what the server said is a [ChallengeSource].
type TokenSource = oauth2.TokenSource

// Events is what a server sends while a call runs. Both methods may be called
// from any goroutine, never after the call has returned.
type Events interface {
	// Notify delivers a notification, such as notifications/progress. It must
	// not block for long: the answer waits behind it.
	Notify(method string, params json.RawMessage)
	// Ask answers a request of the server, such as elicitation/create. ctx
	// ends with the call. An *Error goes to the server as it is.
	Ask(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error)
}

// A Handler answers calls. Implementations are safe for concurrent use.
type Handler interface {
	// Do makes the call and returns its answer. An error of the protocol, sent
	// by the server, is an *[Error]; any other error means that there was no
	// answer. ctx cancels the call.
	Do(ctx context.Context, call Call) (Answer, error)
}

// An Answer is the result of a call.
type Answer struct {
	result         json.RawMessage
	legacy, modern bool   // where the server was asked over MCP
	free           func() // nil for nothing
}

// Result makes the answer whose result is these bytes: one JSON object.
func Result(result json.RawMessage) Answer { return Answer{result: result} }

// LegacyResult makes such an answer of a legacy server.
func LegacyResult(result json.RawMessage) Answer { return Answer{result: result, legacy: true} }

// ModernResult makes such an answer of a modern server.
func ModernResult(result json.RawMessage) Answer { return Answer{result: result, modern: true} }

// Bytes returns the result as the server sent it. The caller may keep it until
// it calls Free, and must not modify it. One of 8 KiB or more may not have been
// looked through: where the server sent what is no JSON, it is no JSON.
func (a Answer) Bytes() json.RawMessage { return a.result }

// Legacy reports whether the result is known to be one of a legacy server. Such
// a result has no resultType, nor anything else that came with MCP 2026-07-28,
// and need not be searched for it.
func (a Answer) Legacy() bool { return a.legacy }

// Modern reports whether the result is known to be one of a modern server. Such
// a result has a resultType (MCP 2026-07-28, basic/index, "ResultType").
func (a Answer) Modern() bool { return a.modern }

// Lent returns the answer with what Free is to call.
func (a Answer) Lent(free func()) Answer {
	a.free = free
	return a
}

// Free gives the memory of the result back, for other results to be read into.
// It may be called once, by whom the answer was returned to, when nobody uses
// the result or a part of it any more. Nobody has to call it.
func (a Answer) Free() {
	if a.free != nil {
		a.free()
	}
}
