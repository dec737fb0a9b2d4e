// Eino answers a question about a database through an agent of eino's and any
// model that eino has; here one behind OpenAI's API. What an agent of your own
// needs is in functions.go.
package main

import (
	"context"
	"fmt"

	"github.com/cloudwego/eino-ext/components/model/openai"
	"github.com/cloudwego/eino/flow/agent/react"
	"github.com/cloudwego/eino/schema"

	"github.com/mcpool-dev/mcpool/dbplugin"
	"github.com/mcpool-dev/mcpool/examples/internal/program"
)

var agent = program.Agent{Name: "eino", Provider: "OPENAI", Model: "gpt-5.4-mini", Ask: ask}

func main() { agent.Main() }

func ask(ctx context.Context, model program.Model, functions []dbplugin.Function, question string) (string, error) {
	client, err := openai.NewChatModel(ctx, &openai.ChatModelConfig{APIKey: model.Key, BaseURL: model.BaseURL, Model: model.Name})
	if err != nil {
		return "", err
	}
	loop, err := react.NewAgent(ctx, &react.AgentConfig{
		ToolCallingModel: client,
		ToolsConfig:      toolsNode(functions),
		MaxStep:          2 * program.MaxTurns, // the model and its tools are a step each
	})
	if err != nil {
		return "", err
	}
	message, err := loop.Generate(ctx, []*schema.Message{schema.SystemMessage(program.Instructions), schema.UserMessage(question)})
	if err != nil {
		return "", err
	}
	if meta := message.ResponseMeta; meta != nil && meta.FinishReason != "stop" {
		return "", fmt.Errorf("the model ended with %q", meta.FinishReason)
	}
	return message.Content, nil
}
