package gateway

import (
	"bytes"
	"encoding/json"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// legacyVersions are the legacy versions that are served, the newest first.
var legacyVersions = []string{"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}

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

// notified takes in a notification of a legacy client. What makes no sense is
// ignored (MCP 2025-11-25, basic/utilities/cancellation "Error Handling"); and
// what clients tell of their roots and their progress is of nothing that
// servers were told.
func (g *Gateway) notified(session string, msg *message) {
	if msg.Method != notifyCancelled {
		return
	}
	if id, _ := jsonrpc.Get(msg.Params, "requestId"); jsonrpc.IsID(id) {
		g.calls.cancel(keyOf(session, id))
	}
}
