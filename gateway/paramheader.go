package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mirror"
	"github.com/mcpool-dev/mcpool/rpc"
)

// maxTools bounds the tools of one server whose headers are remembered.
const maxTools = 10_000

// paramHeaders remembers which arguments of a server's tools modern clients
// repeat in headers, from the lists that pass by.
type paramHeaders struct {
	mu sync.RWMutex // guards of
	of map[string][]mirror.Header
}

// learn takes in a page of a server's tools.
func (p *paramHeaders) learn(page json.RawMessage) {
	list, _ := jsonrpc.Get(page, tools.member)
	elements, err := jsonrpc.Elements(list)
	if err != nil {
		return
	}
	seen := make(map[string][]mirror.Header, len(elements))
	for _, tool := range elements {
		var headers []mirror.Header
		if bytes.Contains(tool, []byte(`"x-mcp-header"`)) {
			schema, _ := jsonrpc.Get(tool, "inputSchema")
			headers, _ = mirror.Of(schema) // one that makes no sense asks for none
		}
		seen[jsonrpc.GetString(tool, "name")] = headers
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, headers := range seen {
		if _, known := p.of[name]; known || len(p.of) < maxTools {
			p.of[name] = headers
		}
	}
}

func (p *paramHeaders) get(tool string) (headers []mirror.Header, known bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	headers, known = p.of[tool]
	return headers, known
}

// checkParamHeaders checks that the headers of a modern call say what its
// arguments say: others route by them (MCP 2026-07-28,
// basic/transports/streamable-http "Custom Headers from Tool Parameters"). A
// tool of which nothing is known yet is looked up if the call has any.
func (q *request) checkParamHeaders(ctx context.Context, s *backend, tool string) error {
	headers, known := s.headers.get(tool)
	if !known && hasParamHeader(q.header) {
		if _, err := q.all(ctx, s, &tools); err != nil {
			return err
		}
		headers, _ = s.headers.get(tool)
	}
	if len(headers) == 0 {
		return nil
	}
	arguments, _ := jsonrpc.Get(q.params, "arguments")
	for _, h := range headers {
		raw, _ := jsonrpc.Get(arguments, h.Path...)
		value, goes := mirror.Value(raw)
		switch values := q.header.Values(h.Name); {
		case goes:
			if err := mirrors(q.header, h.Name, value); err != nil {
				return refusal{err}
			}
		case len(values) > 0 && (len(raw) == 0 || string(raw) == "null"):
			return refusal{rpc.Errorf(rpc.CodeHeaderMismatch, "header %s is there, and argument %s is not", h.Name, strings.Join(h.Path, "."))}
		}
	}
	return nil
}

func hasParamHeader(header http.Header) bool {
	for name := range header {
		if isParamHeader(name) {
			return true
		}
	}
	return false
}
