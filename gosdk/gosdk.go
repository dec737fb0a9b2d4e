// Package gosdk connects clients of the official Go SDK
// (github.com/modelcontextprotocol/go-sdk) to pools. A program that uses the
// SDK pools by changing the line in which it connects:
//
//	session, err := client.Connect(ctx, gosdk.NewTransport(pool), nil)
//
// in place of &mcp.StreamableClientTransport{…} or &mcp.CommandTransport{…}.
// All of the session is served: tools, prompts, resources and completion, with
// progress and cancellation; subscriptions and changes of lists; and what
// servers ask of the client, which its own handlers are called for: elicitation,
// sampling and roots. Any number of sessions, each with its own handlers, share
// the connections of a pool as far as its mcpool.Sharing says.
//
// # Versions
//
// A session speaks the version that the program has asked for in
// mcp.ClientSessionOptions, whatever the servers speak; without one that is
// 2026-07-28, in which a client is told nothing of a server's version, and the
// name of the server is mcpool. Where a program uses what that version has not
// got, such as ClientSession.SetLoggingLevel, and its servers are older, it now
// has to ask for 2025-11-25.
//
// # Numbers
//
// mcpool hands params and results on as the bytes that they are. The SDK does
// not: it has integers above 2^53 rounded in what it decodes into an any, such
// as CallToolResult.StructuredContent, with this transport as with its own.
// Arguments that are a json.RawMessage, or a struct with integers, arrive as they
// are.
package gosdk

import (
	"context"
	"errors"
	"fmt"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/gateway"
)

// A Transport connects clients of the SDK to the servers behind a gateway in
// this process. Unlike the SDK's own it may be used for any number of sessions,
// also at once; its fields must not be changed meanwhile.
//
// A Transport has nothing to close. When a session ends, its calls are
// cancelled and mcpool.Pool.EndSession is called for it, but the pools stay
// open: whoever has made them closes them, as a rule after the sessions. The
// calls of sessions that are left fail, with the text of mcpool.ErrPoolClosed.
//
// A session goes on when a server restarts or forgets its own. Under
// mcpool.ShareSession, where that had state, one call fails with the text of
// mcpool.ErrSessionLost; the next begins afresh.
type Transport struct {
	// Gateway serves the sessions; nil makes Connect fail. [NewTransport] makes
	// one; a program sets it to choose the options of the gateway and of its
	// servers, or to serve handlers that are no pools.
	Gateway *gateway.Gateway
	// Principal is on whose behalf the sessions make their calls; "" for that of
	// the pools. Under mcpool.SharePrincipal a program with several users has a
	// Transport for each.
	Principal string

	err error // why there is no gateway
}

// NewTransport returns the transport to the servers of these pools. With
// several of them tools and prompts are named SERVER__NAME, and resources
// SERVER+URI, as the gateway names them at /mcp; with one the names are the
// server's. What gateway.New refuses, such as two pools of one name, is told by
// Connect. Nothing is opened before the first session. Calls have the bounds of
// the gateway's zero Options: all sessions together may have
// gateway.DefaultMaxCallsPerPrincipal under way, and more fail; a program that
// needs others makes its Gateway itself.
func NewTransport(pools ...*mcpool.Pool) *Transport {
	servers := make([]gateway.Server, len(pools))
	for i, pool := range pools {
		servers[i] = gateway.Server{Name: pool.Name(), Handler: pool, EndSession: pool.EndSession}
	}
	g, err := gateway.New(servers, nil)
	return &Transport{Gateway: g, err: err}
}

// Connect begins a session. It implements [mcp.Transport]: give the Transport to
// [mcp.Client.Connect]. ctx is that of all calls of the session, for its values;
// its end ends none of them.
func (t *Transport) Connect(ctx context.Context) (mcp.Connection, error) {
	if t.Gateway == nil {
		if t.err == nil {
			return nil, errors.New("gosdk: the Transport has no Gateway: make it with NewTransport")
		}
		return nil, fmt.Errorf("gosdk: %w", t.err)
	}
	return connection{t.Gateway.NewClient(context.WithoutCancel(ctx), t.Principal)}, nil
}

// A connection is one session of the SDK.
type connection struct {
	client *gateway.Client
}

func (c connection) Read(ctx context.Context) (jsonrpc.Message, error) {
	frame, err := c.client.Read(ctx)
	if err != nil {
		return nil, err // as it is: the SDK looks for io.EOF
	}
	return jsonrpc.DecodeMessage(frame)
}

func (c connection) Write(_ context.Context, message jsonrpc.Message) error {
	frame, err := jsonrpc.EncodeMessage(message)
	if err != nil {
		return err
	}
	return c.client.Write(frame)
}

func (c connection) Close() error {
	c.client.Close()
	return nil
}

// SessionID is that of a session over HTTP; here there is none.
func (connection) SessionID() string { return "" }
