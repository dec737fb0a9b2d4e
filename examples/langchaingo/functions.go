package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/tmc/langchaingo/llms"

	"github.com/mcpool-dev/mcpool/dbplugin"
)

// definitions returns the functions as options of a request have them. They are
// no tools.Tool, whose input is one string: agents of langchaingo tell a model
// nothing of parameters.
func definitions(functions []dbplugin.Function) []llms.Tool {
	var tools []llms.Tool
	for _, f := range functions {
		tools = append(tools, llms.Tool{Type: "function", Function: &llms.FunctionDefinition{
			Name: f.Name, Description: f.Description, Parameters: f.Parameters,
		}})
	}
	return tools
}

// results makes the calls of one message, all at once, and returns the messages
// that answer them, in the order of the calls.
func results(ctx context.Context, functions []dbplugin.Function, calls []llms.ToolCall) []llms.MessageContent {
	messages := make([]llms.MessageContent, len(calls))
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() {
			text, err := invoke(ctx, functions, call.FunctionCall)
			if err != nil {
				text = "error: " + err.Error() // there is no other way to say so
			}
			messages[i] = llms.MessageContent{Role: llms.ChatMessageTypeTool, Parts: []llms.ContentPart{
				llms.ToolCallResponse{ToolCallID: call.ID, Name: call.FunctionCall.Name, Content: text},
			}}
		})
	}
	wg.Wait()
	return messages
}

// invoke calls the function of a name. The error means that there was no
// answer: what the database says of a mistake is a text like any other.
func invoke(ctx context.Context, functions []dbplugin.Function, call *llms.FunctionCall) (string, error) {
	for _, f := range functions {
		if f.Name == call.Name {
			return f.Invoke(ctx, json.RawMessage(call.Arguments))
		}
	}
	return "", fmt.Errorf("there is no function %q", call.Name)
}
