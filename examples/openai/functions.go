package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/openai/openai-go/v3"

	"github.com/mcpool-dev/mcpool/dbplugin"
)

// definitions returns the functions as a request has them.
func definitions(functions []dbplugin.Function) ([]openai.ChatCompletionToolUnionParam, error) {
	var tools []openai.ChatCompletionToolUnionParam
	for _, f := range functions {
		var parameters openai.FunctionParameters
		if err := json.Unmarshal(f.Parameters, &parameters); err != nil {
			return nil, fmt.Errorf("parameters of %s: %w", f.Name, err)
		}
		tools = append(tools, openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
			Name: f.Name, Description: openai.String(f.Description), Parameters: parameters,
		}))
	}
	return tools, nil
}

// results makes the calls of one message, all at once, and returns the messages
// that answer them, in the order of the calls.
func results(ctx context.Context, functions []dbplugin.Function, calls []openai.ChatCompletionMessageToolCallUnion) []openai.ChatCompletionMessageParamUnion {
	messages := make([]openai.ChatCompletionMessageParamUnion, len(calls))
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() {
			text, err := invoke(ctx, functions, call.Function.Name, call.Function.Arguments)
			if err != nil {
				text = "error: " + err.Error() // the API has no other way to say so
			}
			messages[i] = openai.ToolMessage(text, call.ID)
		})
	}
	wg.Wait()
	return messages
}

// invoke calls the function of a name. The error means that there was no
// answer: what the database says of a mistake is a text like any other.
func invoke(ctx context.Context, functions []dbplugin.Function, name, arguments string) (string, error) {
	for _, f := range functions {
		if f.Name == name {
			return f.Invoke(ctx, json.RawMessage(arguments))
		}
	}
	return "", fmt.Errorf("there is no function %q", name)
}
