package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// separator stands between a server's name and a tool's where one endpoint
// serves several servers.
const separator = "__"

// maxPages bounds how much of one server's list is followed, so that a server
// whose list never ends does not keep a client waiting for ever.
const maxPages = 100

// An endpoint is what one path serves. All of it is set at the start.
type endpoint struct {
	name     string // of the one server; "" where it is all of them
	servers  []*Server
	prefixed bool // tools are named SERVER__TOOL
}

// find returns the server that a client's name of a tool is for, and what the
// tool is called there. Server names that make this ambiguous are refused at
// the start.
func (e *endpoint) find(name string) (s *Server, tool string, ok bool) {
	if !e.prefixed {
		return e.servers[0], name, true
	}
	for i := 1; i+len(separator) < len(name); i++ {
		if !strings.HasPrefix(name[i:], separator) {
			continue
		}
		for _, s := range e.servers {
			if s.Name == name[:i] {
				return s, name[i+len(separator):], true
			}
		}
	}
	return nil, "", false
}

func (e *endpoint) endSession(session string) {
	for _, s := range e.servers {
		if s.EndSession != nil {
			s.EndSession(session)
		}
	}
}

// callTool calls one tool of one server.
func (q *request) callTool(ctx context.Context) (rpc.Answer, error) {
	name := jsonrpc.GetString(q.params, "name")
	if name == "" {
		return rpc.Answer{}, rpc.Errorf(rpc.CodeInvalidParams, "params.name of tools/call must be a string that is not empty")
	}
	server, tool, ok := q.endpoint.find(name)
	if !ok {
		return rpc.Answer{}, rpc.Errorf(rpc.CodeInvalidParams, "unknown tool %q: tools here are named SERVER%sTOOL", name, separator)
	}
	params := q.params
	if tool != name {
		var err error
		if params, err = setName(params, tool); err != nil {
			return rpc.Answer{}, fmt.Errorf("params of tools/call: %w", err)
		}
	}
	answer, err := q.ask(ctx, server, params, q.emit)
	q.lent = answer
	return answer, err
}

// listTools lists one server's tools page by page, as the server does, and
// those of several servers on one page.
func (g *Gateway) listTools(ctx context.Context, q *request) (rpc.Answer, error) {
	if cursor, ok := jsonrpc.Get(q.params, "cursor"); ok {
		if cursor[0] != '"' {
			return rpc.Answer{}, rpc.Errorf(rpc.CodeInvalidParams, "params.cursor of tools/list must be a string")
		}
		if q.endpoint.prefixed {
			return rpc.Answer{}, rpc.Errorf(rpc.CodeInvalidParams, "unknown cursor: tools/list has one page here")
		}
	}
	if !q.endpoint.prefixed {
		return q.ask(ctx, q.endpoint.servers[0], q.params, q.emit)
	}

	q.cancel = nil // the time of one server is not that of another
	servers := q.endpoint.servers
	lists, errs := make([][]json.RawMessage, len(servers)), make([]error, len(servers))
	var asked sync.WaitGroup
	for i, s := range servers {
		asked.Go(func() { lists[i], errs[i] = q.allTools(ctx, s) })
	}
	asked.Wait()

	var failures []string
	for i, err := range errs {
		switch {
		case err == nil:
		case lostSession(err):
			// It is said once: left out here, the client would never know.
			return rpc.Answer{}, err
		default:
			failures = append(failures, servers[i].Name+": "+err.Error())
		}
	}
	if len(failures) == len(servers) {
		return rpc.Answer{}, errors.New("no server listed its tools: " + strings.Join(failures, "; "))
	}
	out := append([]byte(nil), `{"tools":[`...)
	comma := false
	for i, s := range servers {
		if errs[i] != nil {
			g.log.Warn("server left out of tools/list", logServer, s.Name, logError, errs[i])
			continue
		}
		for _, tool := range lists[i] {
			if comma {
				out = append(out, ',')
			}
			out, comma = append(out, tool...), true
		}
	}
	return rpc.Result(append(out, ']', '}')), nil
}

// allTools returns all tools of one server, under the names that clients of
// the endpoint know.
func (q *request) allTools(ctx context.Context, s *Server) ([]json.RawMessage, error) {
	// The token cannot stand for the progress of several calls.
	params := jsonrpc.Delete(q.params, "_meta", "progressToken")
	var tools []json.RawMessage
	for range maxPages {
		answer, err := q.ask(ctx, s, params, nil)
		if err != nil {
			return nil, err
		}
		page := answer.Bytes()
		list, _ := jsonrpc.Get(page, "tools")
		elements, err := jsonrpc.Elements(list)
		if err != nil {
			return nil, fmt.Errorf("tools of its list: %w", err)
		}
		for _, tool := range elements {
			name := jsonrpc.GetString(tool, "name")
			if name == "" {
				return nil, errors.New("its list has a tool without a name")
			}
			if tool, err = setName(tool, s.Name+separator+name); err != nil {
				return nil, fmt.Errorf("tool %s: %w", name, err)
			}
			tools = append(tools, tool)
		}
		cursor, ok := jsonrpc.Get(page, "nextCursor")
		if !ok || string(cursor) == "null" {
			return tools, nil
		}
		if params, err = jsonrpc.Set(params, cursor, "cursor"); err != nil {
			return nil, fmt.Errorf("params of tools/list: %w", err)
		}
	}
	return nil, fmt.Errorf("its list has more than %d pages", maxPages)
}

// setName returns a copy of an object under another name.
func setName(object json.RawMessage, name string) (json.RawMessage, error) {
	quoted, err := json.Marshal(name)
	if err != nil {
		return nil, err
	}
	return jsonrpc.Set(object, quoted, "name")
}
