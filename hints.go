package mcpool

import (
	"encoding/json"
	"slices"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// readOnly are the methods that only read, whatever their params.
var readOnly = []string{
	"tools/list", "prompts/list", "prompts/get", "completion/complete",
	"resources/list", "resources/templates/list", "resources/read",
}

// hintsMost bounds how many tools are remembered.
const hintsMost = 10_000

// hints remembers which tools do no harm when they run twice, from the tool
// lists that pass by: those with readOnlyHint or idempotentHint (MCP
// 2025-03-26, ToolAnnotations). A tool never listed is taken to do harm.
type hints struct {
	mu   sync.RWMutex
	safe map[string]bool
}

// learn takes in the result of tools/list.
func (h *hints) learn(result json.RawMessage) {
	list, _ := jsonrpc.Get(result, "tools")
	tools, err := jsonrpc.Elements(list)
	if err != nil {
		return
	}
	seen := make(map[string]bool, len(tools))
	for _, tool := range tools {
		reads, _ := jsonrpc.Get(tool, "annotations", "readOnlyHint")
		repeats, _ := jsonrpc.Get(tool, "annotations", "idempotentHint")
		seen[jsonrpc.GetString(tool, "name")] = string(reads) == "true" || string(repeats) == "true"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.safe == nil {
		h.safe = map[string]bool{}
	}
	for name, safe := range seen {
		if _, known := h.safe[name]; known || len(h.safe) < hintsMost {
			h.safe[name] = safe
		}
	}
}

// harmless reports whether a call may run twice.
func (h *hints) harmless(call rpc.Call) bool {
	if call.Method != "tools/call" {
		return slices.Contains(readOnly, call.Method)
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.safe[jsonrpc.GetString(call.Params, "name")]
}
