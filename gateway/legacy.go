package gateway

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// legacyVersions are the legacy versions that are served, the newest first.
var legacyVersions = []string{"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}

// capabilities is what clients of either era are told that can be done here.
var capabilities = json.RawMessage(`{"tools":{}}`)

// initialize agrees on the client's version, or proposes the newest legacy one
// (MCP 2025-11-25, basic/lifecycle "Version Negotiation").
func (g *Gateway) initialize(params json.RawMessage) (json.RawMessage, error) {
	version := jsonrpc.GetString(params, "protocolVersion")
	if version == "" {
		return nil, rpc.Errorf(rpc.CodeInvalidParams, "params.protocolVersion of initialize must be a string")
	}
	if !slices.Contains(legacyVersions, version) {
		version = legacyVersions[0]
	}
	return json.Marshal(map[string]any{
		"protocolVersion": version,
		"capabilities":    capabilities,
		"serverInfo":      g.serverInfo,
	})
}

// legacyResult takes off a result what only modern clients understand.
func legacyResult(answer rpc.Answer) (json.RawMessage, error) {
	result := answer.Bytes()
	if !isObject(bytes.TrimSpace(result)) {
		return nil, errNoObject
	}
	if answer.Legacy() {
		return result, nil
	}
	if has(result, "resultType") {
		// Anything else is the beginning of an exchange that legacy clients
		// do not know (MCP 2026-07-28, basic/patterns/mrtr).
		if kind := jsonrpc.GetString(result, "resultType"); kind != "complete" {
			return nil, rpc.Errorf(rpc.CodeInternal, "the server answered with a result of type %q, which this client cannot read", kind)
		}
	}
	for _, name := range [...]string{"resultType", "ttlMs", "cacheScope"} {
		if has(result, name) {
			result = jsonrpc.Delete(result, name)
		}
	}
	return result, nil
}

// cancelled does what a notifications/cancelled asks for. One that makes no
// sense is ignored (MCP 2025-11-25, basic/utilities/cancellation "Error
// Handling").
func (g *Gateway) cancelled(session string, params json.RawMessage) {
	if id, _ := jsonrpc.Get(params, "requestId"); jsonrpc.IsID(id) {
		g.calls.cancel(keyOf(session, id))
	}
}

// endSession makes a session's id good for nothing and tells the servers of
// its endpoint.
func (g *Gateway) endSession(e *endpoint, session string) {
	if g.sessions.end(session) {
		e.endSession(session)
	}
}
