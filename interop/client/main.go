// Client is the client that the conformance suite tests: a pool, and for each
// scenario the calls that it wants to see.
//
//	MCP_CONFORMANCE_SCENARIO=tools_call client http://localhost:3000/mcp
//
// The suite names the scenario in the environment, and in
// MCP_CONFORMANCE_CONTEXT what else the scenario gives to clients, as JSON. It
// judges by what it sees on the wire; the exit code says whether the calls
// that the scenario is about were answered.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

// patience bounds a scenario; none takes a second where all is well.
const patience = 30 * time.Second

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: client URL, with a scenario in MCP_CONFORMANCE_SCENARIO")
	}
	if err := run(os.Args[1], os.Getenv("MCP_CONFORMANCE_SCENARIO")); err != nil {
		log.Fatalf("client: error: %v", err)
	}
}

func run(url, name string) error {
	scenario := scenarios[name]
	if strings.HasPrefix(name, "auth/") {
		scenario = authorized
	}
	if scenario == nil {
		return fmt.Errorf("no scenario %q", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	config := mcpool.DefaultConfig()
	config.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	to := mcpool.Server{Name: "referee", URL: url}
	if strings.HasPrefix(name, "auth/") {
		if err := logIn(&to, name); err != nil {
			return err
		}
	}
	pool, err := mcpool.New(to, &config)
	if err != nil {
		return err
	}
	return errors.Join(scenario(ctx, pool), pool.Close(ctx))
}

// scenarios are those of the suite, by name, but for auth/*, which are all
// the same to a client.
var scenarios = map[string]func(context.Context, *mcpool.Pool) error{
	"initialize":                          list,
	"request-metadata":                    list,
	"json-schema-ref-no-deref":            list,
	"tools_call":                          add,
	"sse-retry":                           callEach,
	"http-invalid-tool-headers":           callEach,
	"json-schema-2020-12-preservation":    echoSchema,
	"elicitation-sep1034-client-defaults": elicit,
	"sep-2322-client-request-state":       elicit,
	"http-standard-headers":               everyVerb,
	"http-custom-headers":                 callAsTold,
}

func list(ctx context.Context, pool *mcpool.Pool) error {
	_, err := pool.ListTools(ctx)
	return err
}

func add(ctx context.Context, pool *mcpool.Pool) error {
	if err := list(ctx, pool); err != nil {
		return err
	}
	_, err := pool.CallTool(ctx, "add_numbers", map[string]int{"a": 5, "b": 3})
	return err
}

// authorized makes the two requests that the server wants a token for, the
// second of them with more scopes in some scenarios.
func authorized(ctx context.Context, pool *mcpool.Pool) error {
	if err := list(ctx, pool); err != nil {
		return err
	}
	_, err := pool.CallTool(ctx, "test-tool", nil)
	return err
}

// callEach calls every tool that the pool lists.
func callEach(ctx context.Context, pool *mcpool.Pool) error {
	tools, err := pool.ListTools(ctx)
	for _, tool := range tools {
		_, failed := pool.CallTool(ctx, tool.Name, map[string]string{"region": "us-west1"})
		err = errors.Join(err, failed)
	}
	return err
}

// echoSchema sends the schema of one tool to another as it was listed.
func echoSchema(ctx context.Context, pool *mcpool.Pool) error {
	tools, err := pool.ListTools(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(tools, func(t mcpool.Tool) bool { return t.Name == "json_schema_2020_12_tool" })
	if i < 0 {
		return errors.New("the tool whose schema is wanted is not listed")
	}
	_, err = pool.CallTool(ctx, "json_schema_echo", map[string]any{"schema": tools[i].InputSchema})
	return err
}

// elicit calls every tool for a caller who accepts whatever is proposed.
func elicit(ctx context.Context, pool *mcpool.Pool) error {
	caller := rpc.Caller{Capabilities: rpc.Capabilities{Elicitation: true}}
	listed, err := pool.Do(ctx, rpc.Call{Method: "tools/list", Caller: caller})
	if err != nil {
		return err
	}
	for _, name := range names(listed, "tools", "name") {
		_, failed := pool.Do(ctx, rpc.Call{Method: "tools/call", Params: params("name", name), Caller: caller, Events: accepting{}})
		err = errors.Join(err, failed)
	}
	return err
}

// accepting answers elicitations with the defaults of the fields (MCP
// 2025-11-25, elicitation, "Requested Schema"), and true where there is none.
type accepting struct{}

func (accepting) Notify(string, json.RawMessage) {}

func (accepting) Ask(_ context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	if method != "elicitation/create" {
		return nil, rpc.Errorf(rpc.CodeMethodNotFound, "nobody here answers %s", method)
	}
	var asked struct {
		RequestedSchema struct {
			Properties map[string]struct{ Default json.RawMessage }
		}
	}
	if err := json.Unmarshal(params, &asked); err != nil {
		return nil, rpc.Errorf(rpc.CodeInvalidParams, "%v", err)
	}
	content := map[string]json.RawMessage{}
	for name, field := range asked.RequestedSchema.Properties {
		content[name] = json.RawMessage(cmp.Or(string(field.Default), "true"))
	}
	return json.Marshal(map[string]any{"action": "accept", "content": content})
}

// everyVerb makes each call that has a name in its params.
func everyVerb(ctx context.Context, pool *mcpool.Pool) error {
	var errs []error
	for _, verb := range []struct{ list, items, member, do, param string }{
		{"tools/list", "tools", "name", "tools/call", "name"},
		{"resources/list", "resources", "uri", "resources/read", "uri"},
		{"prompts/list", "prompts", "name", "prompts/get", "name"},
	} {
		listed, err := pool.Do(ctx, rpc.Call{Method: verb.list})
		errs = append(errs, err)
		for _, name := range names(listed, verb.items, verb.member) {
			_, err := pool.Do(ctx, rpc.Call{Method: verb.do, Params: params(verb.param, name)})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// callAsTold makes the tool calls that the suite gives, after the list that
// says which arguments go into headers.
func callAsTold(ctx context.Context, pool *mcpool.Pool) error {
	var told struct {
		ToolCalls []struct {
			Name      string
			Arguments json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(os.Getenv("MCP_CONFORMANCE_CONTEXT")), &told); err != nil {
		return fmt.Errorf("the context of the scenario: %w", err)
	}
	err := list(ctx, pool)
	for _, call := range told.ToolCalls {
		_, failed := pool.CallTool(ctx, call.Name, call.Arguments)
		err = errors.Join(err, failed)
	}
	return err
}

// names returns one member of each item of a list.
func names(listed rpc.Answer, items, member string) (names []string) {
	var list map[string]json.RawMessage
	var objects []map[string]json.RawMessage
	_ = json.Unmarshal(listed.Bytes(), &list)
	_ = json.Unmarshal(list[items], &objects)
	for _, object := range objects {
		var name string
		_ = json.Unmarshal(object[member], &name)
		names = append(names, name)
	}
	return names
}

func params(name, value string) json.RawMessage {
	params, _ := json.Marshal(map[string]string{name: value}) // strings always marshal
	return params
}
