// Openai answers a question about a database through a model behind OpenAI's
// API for chat completions, with the SDK openai-go. What an agent of your own
// needs is in functions.go.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/mcpool-dev/mcpool/dbplugin"
	"github.com/mcpool-dev/mcpool/examples/internal/program"
)

var agent = program.Agent{Name: "openai", Provider: "OPENAI", Model: openai.ChatModelGPT5_4Mini, Ask: ask}

func main() { agent.Main() }

func ask(ctx context.Context, model program.Model, functions []dbplugin.Function, question string) (string, error) {
	options := []option.RequestOption{option.WithAPIKey(model.Key)}
	if model.BaseURL != "" {
		options = append(options, option.WithBaseURL(model.BaseURL))
	}
	client := openai.NewClient(options...)
	tools, err := definitions(functions)
	if err != nil {
		return "", err
	}
	messages := []openai.ChatCompletionMessageParamUnion{
		openai.SystemMessage(program.Instructions), openai.UserMessage(question),
	}
	for range program.MaxTurns {
		completion, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
			Model: model.Name, Messages: messages, Tools: tools,
		})
		if err != nil {
			return "", err
		}
		if len(completion.Choices) == 0 {
			return "", errors.New("the model said nothing")
		}
		choice := completion.Choices[0]
		switch choice.FinishReason {
		case "tool_calls":
			messages = append(messages, choice.Message.ToParam())
			messages = append(messages, results(ctx, functions, choice.Message.ToolCalls)...)
		case "stop":
			return choice.Message.Content, nil
		default:
			return "", fmt.Errorf("the model ended with %q", choice.FinishReason)
		}
	}
	return "", fmt.Errorf("the model has not answered in %d turns", program.MaxTurns)
}
