package mcpool

import (
	"context"
	"encoding/json"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	methodDiscover = "server/discover"
	metaServerInfo = "io.modelcontextprotocol/serverInfo"
)

// meet returns whom the server has introduced itself as, to who. If that is not
// known a connection is opened, as for a call. The Hello is nil where a modern
// server has to be asked. The error is an [*Error].
func (p *Pool) meet(ctx context.Context, t *terms, who rpc.Caller) (transport.Peer, error) {
	now := t.known.now.Load()
	if now.Peer.Era == transport.Unknown || now.Peer.Era == transport.Legacy && !t.shows(now, &who) {
		lease, err := p.Acquire(ctx, who, Slot)
		if err != nil {
			return transport.Peer{}, err
		}
		defer lease.Release()
		if peer := lease.slot.Conn().peer; peer.Era == transport.Legacy {
			return peer, nil
		}
		now = t.known.now.Load() // the opening of a modern connection may have asked nothing
	}
	if !t.shows(now, &who) {
		return transport.Peer{}, nil
	}
	return now.Peer, nil
}

// shows reports whether what a server said when it introduced itself is for a
// caller, too. Over HTTP it was said to an account, and another may be told
// something else, unless the server says that it is public (MCP 2026-07-28,
// "Caching").
func (t *terms) shows(f *finding, who *rpc.Caller) bool {
	return t.accounts == nil || f.by == t.owner(t.group(who)) ||
		f.Peer.Era == transport.Modern && jsonrpc.GetString(f.Peer.Hello, "cacheScope") == "public"
}

// introduction is how a server has introduced itself, in the form of the modern
// era (MCP 2026-07-28, DiscoverResult). For how long that holds is not said: it
// is what is known now. The tasks of a legacy server are those of a session
// (MCP 2025-11-25, tasks, "Task Isolation and Access Control"), and left out
// where callers do not have one each.
func introduction(peer transport.Peer, sharing Sharing) json.RawMessage {
	var result json.RawMessage
	set := func(value json.RawMessage, path ...string) {
		if with, err := jsonrpc.Set(result, value, path...); err == nil {
			result = with
		}
	}
	if peer.Era == transport.Modern {
		result = peer.Hello
		for _, name := range [...]string{"ttlMs", "cacheScope", "serverInfo"} {
			result = jsonrpc.Delete(result, name)
		}
	} else {
		versions, _ := json.Marshal([]string{peer.Protocol}) // strings always marshal
		set(versions, "supportedVersions")
		caps, _ := jsonrpc.Get(peer.Hello, "capabilities")
		if jsonrpc.ValidObject(caps) != nil {
			caps = json.RawMessage("{}")
		}
		if sharing != ShareSession {
			caps = jsonrpc.Delete(caps, "tasks")
		}
		set(caps, "capabilities")
		if said, there := jsonrpc.Get(peer.Hello, "instructions"); there {
			set(said, "instructions")
		}
	}
	if info, there := jsonrpc.Get(peer.Hello, "serverInfo"); there { // some modern servers have it there, too
		if _, better := jsonrpc.Get(result, "_meta", metaServerInfo); !better {
			set(info, "_meta", metaServerInfo)
		}
	}
	return result
}
