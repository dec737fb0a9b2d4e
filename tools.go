package mcpool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A Tool is one tool of a server.
type Tool struct {
	Name, Title, Description string
	InputSchema              json.RawMessage
	OutputSchema             json.RawMessage // nil if it has none
	Annotations              json.RawMessage // nil if it has none
	Raw                      json.RawMessage // the tool as the server listed it
}

// A ToolResult is what a tool answered.
type ToolResult struct {
	// IsError says that the tool failed; Content says how.
	IsError           bool
	Content           []json.RawMessage
	StructuredContent json.RawMessage // nil if it has none
	Raw               json.RawMessage // the result as the server sent it
}

// Text returns the text of the content, its blocks joined by newlines.
func (r *ToolResult) Text() string {
	var texts []string
	for _, block := range r.Content {
		if jsonrpc.GetString(block, "type") == "text" {
			texts = append(texts, jsonrpc.GetString(block, "text"))
		}
	}
	return strings.Join(texts, "\n")
}

// CallTool calls a tool for the pool's own principal. arguments is anything
// that marshals to a JSON object; a json.RawMessage goes as it is, nil is {}.
// That the tool itself failed is no error: see [ToolResult.IsError]. Errors
// are those of [Pool.Do].
func (p *Pool) CallTool(ctx context.Context, name string, arguments any) (*ToolResult, error) {
	if arguments == nil {
		arguments = struct{}{}
	}
	params, err := json.Marshal(struct {
		Name      string `json:"name"`
		Arguments any    `json:"arguments"`
	}{name, arguments})
	if err != nil {
		return nil, fmt.Errorf("arguments of tool %s: %w", name, err)
	}
	answer, err := p.Do(ctx, rpc.Call{Method: "tools/call", Params: params})
	if err != nil {
		return nil, err
	}
	return readToolResult(answer.Bytes())
}

func readToolResult(raw json.RawMessage) (*ToolResult, error) {
	r := &ToolResult{Raw: raw}
	isError, _ := jsonrpc.Get(raw, "isError")
	r.IsError = string(isError) == "true"
	r.StructuredContent, _ = jsonrpc.Get(raw, "structuredContent")
	content, ok := jsonrpc.Get(raw, "content")
	if !ok {
		return r, nil
	}
	var err error
	if r.Content, err = jsonrpc.Elements(content); err != nil {
		return nil, fmt.Errorf("content of a tool's result: %w", err)
	}
	return r, nil
}

// listPages bounds how many pages of a list are followed: a server whose
// cursors never end must not hold its caller for ever.
const listPages = 1000

// ListTools returns all tools of the server, for the pool's own principal.
// Errors are those of [Pool.Do].
func (p *Pool) ListTools(ctx context.Context) ([]Tool, error) {
	var tools []Tool
	var params json.RawMessage
	for range listPages {
		answer, err := p.Do(ctx, rpc.Call{Method: "tools/list", Params: params})
		if err != nil {
			return nil, err
		}
		list, _ := jsonrpc.Get(answer.Bytes(), "tools")
		page, err := jsonrpc.Elements(list)
		if err != nil {
			return nil, fmt.Errorf("the server's list of tools: %w", err)
		}
		for _, raw := range page {
			tools = append(tools, readTool(raw))
		}
		cursor, ok := jsonrpc.Get(answer.Bytes(), "nextCursor")
		if !ok || string(cursor) == "null" {
			return tools, nil
		}
		if params, err = jsonrpc.Set(nil, cursor, "cursor"); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the server's list of tools does not end")
}

func readTool(raw json.RawMessage) Tool {
	t := Tool{
		Name:        jsonrpc.GetString(raw, "name"),
		Title:       jsonrpc.GetString(raw, "title"),
		Description: jsonrpc.GetString(raw, "description"),
		Raw:         raw,
	}
	t.InputSchema, _ = jsonrpc.Get(raw, "inputSchema")
	t.OutputSchema, _ = jsonrpc.Get(raw, "outputSchema")
	t.Annotations, _ = jsonrpc.Get(raw, "annotations")
	return t
}
