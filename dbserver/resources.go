package dbserver

import (
	"context"
	"encoding/json"
	"math"
	"net/url"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// resourceScheme begins the URI of each resource. What tools tell can be read
// as resources, too: db://DATABASE/KIND, with a name behind it where a kind has
// several.
const resourceScheme = "db://"

const jsonType = "application/json"

// A resourceKind is what a resource is the answer of: that of a tool.
type resourceKind struct {
	tool     string
	argument string // that the name in the URI is; empty for none
	about    string
}

var resourceKinds = map[string]resourceKind{
	"schema":  {"list_tables", "", "Tables and views"},
	"status":  {"database_info", "", "Status, limits and connections"},
	"table":   {"describe_table", "table_name", "Columns, keys and indexes of a table or view: table or schema.table"},
	"results": {"fetch_rows", "handle", "Rows of a result, by the handle of the rows before them"},
}

// A resource is one as lists of resources tell it, of one or of many.
type resource struct {
	URI         string `json:"uri,omitempty"`
	Template    string `json:"uriTemplate,omitempty"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Type        string `json:"mimeType"`
}

// resources is the result of resources/list.
func (s *Server) resources() json.RawMessage {
	var list []resource
	for _, d := range s.databases {
		for _, kind := range [...]string{"schema", "status"} {
			list = append(list, resource{URI: resourceScheme + d.Name + "/" + kind, Name: d.Name + " " + kind,
				Description: resourceKinds[kind].about, Type: jsonType})
		}
	}
	return mustMarshal(map[string]any{"resources": list})
}

// resourceTemplates is the result of resources/templates/list.
func (s *Server) resourceTemplates() json.RawMessage {
	list := []resource{{Template: resourceScheme + "{database}/table/{table}", Name: "table", Description: resourceKinds["table"].about, Type: jsonType}}
	if keeping(s.databases) {
		list = append(list, resource{Template: resourceScheme + "{database}/results/{handle}", Name: "results", Description: resourceKinds["results"].about, Type: jsonType})
	}
	return mustMarshal(map[string]any{"resourceTemplates": list})
}

// readResource serves resources/read: the structured content of a tool's answer.
func (s *Server) readResource(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	uri := jsonrpc.GetString(call.Params, "uri")
	tool, arguments, ok := s.resource(uri)
	if !ok {
		return rpc.Answer{}, rpc.Errorf(rpc.CodeInvalidParams, "no resource has the URI %q", uri)
	}
	call.Method, call.Params = "tools/call", mustMarshal(map[string]any{"name": tool, "arguments": arguments})
	answer, err := s.callTool(ctx, call)
	if err != nil {
		return rpc.Answer{}, err
	}
	content, _ := jsonrpc.Get(answer.Bytes(), "structuredContent")
	if isError, _ := jsonrpc.Get(answer.Bytes(), "isError"); string(isError) == "true" {
		failure, _ := jsonrpc.Get(content, "error")
		code := rpc.CodeInternal
		switch jsonrpc.GetString(failure, "code") {
		case engine.InvalidArgument, engine.UnknownObject, engine.AmbiguousObject, engine.HandleExpired: // no such resource
			code = rpc.CodeInvalidParams
		}
		return rpc.Answer{}, &rpc.Error{Code: code, Message: jsonrpc.GetString(failure, "message"), Data: failure}
	}
	return rpc.Result(mustMarshal(map[string]any{"contents": []map[string]string{{"uri": uri, "mimeType": jsonType, "text": string(content)}}})), nil
}

// resource returns the tool that tells a resource, and its arguments.
func (s *Server) resource(uri string) (tool string, arguments map[string]any, ok bool) {
	path, ok := strings.CutPrefix(uri, resourceScheme)
	if !ok {
		return "", nil, false
	}
	database, path, _ := strings.Cut(path, "/")
	name, rest, named := strings.Cut(path, "/")
	kind, ok := resourceKinds[name]
	if !ok || named != (kind.argument != "") || s.tools.tools[kind.tool] == nil {
		return "", nil, false
	}
	if _, err := s.choose(database); err != nil || database == "" {
		return "", nil, false
	}
	arguments = map[string]any{}
	if name == "schema" {
		arguments["limit"] = math.MaxInt32 // as many as an answer has room for
	}
	if len(s.databases) > 1 && kind.tool != "fetch_rows" {
		arguments["database"] = database
	}
	if named {
		value, err := url.PathUnescape(rest)
		if err != nil || value == "" {
			return "", nil, false
		}
		arguments[kind.argument] = value
	}
	return kind.tool, arguments, true
}
