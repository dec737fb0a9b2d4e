package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/anthropics/anthropic-sdk-go"

	"github.com/mcpool-dev/mcpool/dbplugin"
)

// definitions returns the functions as a request has them.
func definitions(functions []dbplugin.Function) ([]anthropic.ToolUnionParam, error) {
	var tools []anthropic.ToolUnionParam
	for _, f := range functions {
		var schema anthropic.ToolInputSchemaParam
		if err := json.Unmarshal(f.Parameters, &schema); err != nil {
			return nil, fmt.Errorf("parameters of %s: %w", f.Name, err)
		}
		tools = append(tools, anthropic.ToolUnionParam{OfTool: &anthropic.ToolParam{
			Name: f.Name, Description: anthropic.String(f.Description), InputSchema: schema,
		}})
	}
	return tools, nil
}

// results makes the calls of one message, all at once, and returns the blocks
// that answer them, in the order of the calls. is_error says that there was no
// answer: what the database says of a mistake is a text like any other.
func results(ctx context.Context, functions []dbplugin.Function, message *anthropic.Message) []anthropic.ContentBlockParamUnion {
	var calls []anthropic.ToolUseBlock
	for _, block := range message.Content {
		if block.Type == "tool_use" {
			calls = append(calls, block.AsToolUse())
		}
	}
	blocks := make([]anthropic.ContentBlockParamUnion, len(calls))
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() {
			text, err := invoke(ctx, functions, call)
			if err != nil {
				text = err.Error()
			}
			blocks[i] = anthropic.NewToolResultBlock(call.ID, text, err != nil)
		})
	}
	wg.Wait()
	return blocks
}

func invoke(ctx context.Context, functions []dbplugin.Function, call anthropic.ToolUseBlock) (string, error) {
	for _, f := range functions {
		if f.Name == call.Name {
			return f.Invoke(ctx, call.Input)
		}
	}
	return "", fmt.Errorf("there is no function %q", call.Name)
}
