// Package mcpool keeps connections to MCP servers open and shares them, so
// that a tool call costs one round trip and not a handshake: what a
// connection pool is to a database, for the Model Context Protocol.
//
// A [Pool] holds the connections to one [Server], which is reached over
// streamable HTTP, over the older HTTP+SSE, over the standard input and output
// of a child process, or in this process. It speaks MCP from 2024-11-05 to
// 2026-07-28, and finds out which of them its server does:
//
//	pool, err := mcpool.New(mcpool.Server{Name: "sales", URL: "https://db.example.com/mcp"}, nil)
//	if err != nil {
//		return err
//	}
//	defer pool.Close(context.Background())
//	result, err := pool.CallTool(ctx, "read_data", map[string]any{"query": "select 1"})
//
// New does no I/O: the first call opens the first connection. [Pool.CallTool]
// and [Pool.ListTools] do what most programs want; [Pool.Do] makes any call
// and keeps its params and its result as bytes. [Pool.Acquire] lends a whole
// connection, for calls that build on each other's state.
//
// # Groups and sharing
//
// Who shares a connection is declared per server, see [Sharing]. Calls that
// may share form a group: by default all calls of one principal. No two
// principals ever meet on a connection under [SharePrincipal]; an
// [rpc.Caller] says on whose behalf a call is made.
//
// # Credentials
//
// A server over HTTP may want a token. [Server.Tokens] gives each principal a
// source of them, and an [rpc.Caller] may bring its own. A token goes with each
// request and stays with no connection: it may change at any time, and neither
// connections nor sessions notice. It is renewed before it expires, and once
// when the server refuses it with 401; all who need it share that. What splits
// a group is the Revision of its principal's credentials, never a token.
//
// [Server.Auth] makes such sources: [BearerEnv], [BearerFile], and [OAuth] for
// OAuth 2.1 logins. A source that is an [rpc.ChallengeSource] learns what the
// server said when it refused.
//
// # What servers say
//
// Progress and log messages of a call, and what a server asks before it
// answers, come to the Events of an [rpc.Call], whatever the era of the server.
// A caller is asked only what its [rpc.Capabilities] declare.
// [Pool.Watch] tells of changes outside of calls. Lists and resources that a
// modern server said are fresh are answered without a call.
//
// A pool is an [rpc.Handler], and looks like a modern server: server/discover
// and subscriptions/listen are calls like any other, and what the _meta of a
// modern request says of its client is handed on, or done as legacy servers
// have it.
//
// # Slots and waiting
//
// A connection has room for several calls at once: its slots. A caller waits
// for a slot, and the oldest waiter of a group gets the first one that comes
// free, be it on an old connection or on a new one. So N callers at once cost
// N divided by the slots of a connection, rounded up, and never more than
// MaxConnections. Opening belongs to the pool: a caller that goes away does
// not break it off.
//
// # Loss
//
// A connection is dead when the server says that its session is gone, when
// the process or the link ends, or when a health check fails; a call's timeout
// is not a dead connection. Connections that are lost are reopened once for
// all. A call is sent again if it certainly did not run, or if running twice
// does no harm; otherwise it fails with an [*Error] that says that it may have
// run. [SafeToRetry] asks that of any error.
//
// A child process dies with this one. [Supervise], called first in main, sees to
// it that nothing is left of what it has started either, even when this process
// is killed.
//
// # Settings
//
// [Config] has the settings; [ConfigFromEnv] reads them from MCP_POOL_*
// variables. [Limits] bound several pools together. [Pool.Stats] tells how it
// goes, [Pool.Conns] shows each connection, and [Hooks] are told of what
// happens while it does.
package mcpool
