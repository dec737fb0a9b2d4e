// Package dbplugin gives agent programs the tools of an MCP database server as
// Go functions, and as functions for a language model to call.
//
// It speaks to any [rpc.Handler] whose tools are list_tables, describe_table,
// read_data and database_info: a pool of connections to such a server, or the
// server itself in the same process. Opening, sharing and repairing of
// connections is the handler's business; a plugin holds nothing to close.
//
//	plugin, err := dbplugin.New(pool, nil)
//	result, err := plugin.ReadData(ctx, "SELECT name FROM products ORDER BY 1", 10)
//
// For a model, [Plugin.Functions] returns definitions to put into a request
// and to call with the arguments that come back.
package dbplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool/rpc"
)

// DefaultLimit is how many rows a query returns at most if nothing else says,
// and LimitVariable the environment variable that says otherwise.
const (
	DefaultLimit  = 100
	LimitVariable = "DEFAULT_QUERY_LIMIT"
)

// Options change what a plugin does.
type Options struct {
	// DefaultLimit is the limit of ReadData where the caller gives none, in
	// rows. Zero means that of the environment variable DEFAULT_QUERY_LIMIT,
	// and without it the constant DefaultLimit.
	DefaultLimit int
	// Caller is on whose behalf the calls are made; the zero Caller is the
	// handler's own principal.
	Caller rpc.Caller
}

// A Plugin calls the tools of one database server. Its methods can be called
// from any goroutine. They block until the handler answers; ctx cancels the
// call. Their errors are
//
//   - a [*ToolError] if the tool says that it failed,
//   - an [*rpc.Error] if the server refuses the call,
//   - what the handler returns if there was no answer,
//   - and one that says what does not fit if the answer has another form; the
//     Raw and Text that came are then returned with it.
type Plugin struct {
	handler rpc.Handler
	caller  rpc.Caller
	limit   int
}

// New returns a plugin on a handler. Nil options are the defaults. The error
// is about a limit that makes no sense; nothing is called yet.
func New(handler rpc.Handler, options *Options) (*Plugin, error) {
	if handler == nil {
		return nil, errors.New("dbplugin: a handler is needed")
	}
	var o Options
	if options != nil {
		o = *options
	}
	if o.DefaultLimit < 0 {
		return nil, fmt.Errorf("dbplugin: DefaultLimit is %d: want a number of rows, 1 or more, or 0 for the default", o.DefaultLimit)
	}
	if o.DefaultLimit == 0 {
		var err error
		if o.DefaultLimit, err = environmentLimit(); err != nil {
			return nil, err
		}
	}
	return &Plugin{handler: handler, caller: o.Caller, limit: o.DefaultLimit}, nil
}

func environmentLimit() (int, error) {
	value, ok := os.LookupEnv(LimitVariable)
	if !ok || value == "" {
		return DefaultLimit, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("dbplugin: %s is %q: want a number of rows, 1 or more", LimitVariable, value)
	}
	return n, nil
}

// ListTables returns the tables and views of the database.
func (p *Plugin) ListTables(ctx context.Context) (TableList, error) {
	var list TableList
	err := p.read(ctx, toolListTables, struct{}{}, &list, &list.Answer)
	return list, err
}

// DescribeTable returns the columns, keys and indexes of a table or view.
func (p *Plugin) DescribeTable(ctx context.Context, name string) (TableDescription, error) {
	var d TableDescription
	err := p.read(ctx, toolDescribeTable, map[string]string{"table_name": name}, &d, &d.Answer)
	return d, err
}

// ReadData runs one statement that reads and returns its first rows, at most
// limit of them; zero means the default limit. The server can have a lower cap
// of its own: Truncated says whether there are more rows.
func (p *Plugin) ReadData(ctx context.Context, query string, limit int) (ResultSet, error) {
	var result ResultSet
	if limit < 0 {
		return result, fmt.Errorf("dbplugin: limit is %d: want 1 or more, or 0 for the default", limit)
	}
	err := p.read(ctx, toolReadData, p.readArguments(query, limit), &result, &result.Answer)
	return result, err
}

// DatabaseInfo returns what the server says of its database: engine, status,
// limits, and what makes it read-only.
func (p *Plugin) DatabaseInfo(ctx context.Context) (Info, error) {
	var info Info
	err := p.read(ctx, toolDatabaseInfo, struct{}{}, &info, &info.Answer)
	return info, err
}

func (p *Plugin) readArguments(query string, limit int) any {
	if limit == 0 {
		limit = p.limit
	}
	return struct {
		Query string `json:"query"`
		Limit int    `json:"limit"`
	}{query, limit}
}

// The tools that are called.
const (
	toolListTables    = "list_tables"
	toolDescribeTable = "describe_table"
	toolReadData      = "read_data"
	toolDatabaseInfo  = "database_info"
)

// read calls a tool and reads its answer into result, of which answer is a
// part.
func (p *Plugin) read(ctx context.Context, tool string, arguments, result any, answer *Answer) error {
	got, err := p.call(ctx, tool, arguments)
	if err != nil {
		return err
	}
	if got.Raw != nil {
		decoder := json.NewDecoder(strings.NewReader(string(got.Raw)))
		decoder.UseNumber() // an integer above 2^53 is not rounded
		if err = decoder.Decode(result); err != nil {
			err = fmt.Errorf("dbplugin: the answer of %s has another form: %w", tool, err)
		}
	}
	*answer = got
	return err
}

// call calls a tool and returns what it answered.
func (p *Plugin) call(ctx context.Context, tool string, arguments any) (Answer, error) {
	params, err := json.Marshal(map[string]any{"name": tool, "arguments": arguments})
	if err != nil {
		return Answer{}, fmt.Errorf("dbplugin: arguments of %s: %w", tool, err)
	}
	got, err := p.handler.Do(ctx, rpc.Call{Method: "tools/call", Params: params, Caller: p.caller})
	if err != nil {
		return Answer{}, fmt.Errorf("dbplugin: %s: %w", tool, err)
	}
	return readAnswer(tool, got.Bytes())
}
