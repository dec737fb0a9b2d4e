package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/cloudwego/eino/components/tool"
	"github.com/cloudwego/eino/compose"
	"github.com/cloudwego/eino/schema"
	"github.com/eino-contrib/jsonschema"

	"github.com/mcpool-dev/mcpool/dbplugin"
)

// toolsNode returns the functions as the tools of an agent or a graph. The
// calls of one message are made all at once.
func toolsNode(functions []dbplugin.Function) compose.ToolsNodeConfig {
	config := compose.ToolsNodeConfig{
		UnknownToolsHandler: func(_ context.Context, name, _ string) (string, error) {
			return fmt.Sprintf("error: there is no function %q", name), nil
		},
	}
	for _, f := range functions {
		config.Tools = append(config.Tools, function{f})
	}
	return config
}

// A function is a tool.InvokableTool.
type function struct{ dbplugin.Function }

var _ tool.InvokableTool = function{}

// Info returns the definition of the function.
func (f function) Info(context.Context) (*schema.ToolInfo, error) {
	var parameters jsonschema.Schema
	if err := json.Unmarshal(f.Parameters, &parameters); err != nil {
		return nil, fmt.Errorf("parameters of %s: %w", f.Name, err)
	}
	return &schema.ToolInfo{Name: f.Name, Desc: f.Description, ParamsOneOf: schema.NewParamsOneOfByJSONSchema(&parameters)}, nil
}

// InvokableRun calls the function. That there was no answer is said to the
// model: an error would end the agent, and a tool has no other way to say so.
func (f function) InvokableRun(ctx context.Context, arguments string, _ ...tool.Option) (string, error) {
	text, err := f.Invoke(ctx, json.RawMessage(arguments))
	if err != nil {
		text = "error: " + err.Error()
	}
	return text, ctx.Err()
}
