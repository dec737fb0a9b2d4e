// Anthropic answers a question about a database through a model behind
// Anthropic's API for messages, with the SDK anthropic-sdk-go. What an agent of
// your own needs is in functions.go.
package main

import (
	"context"
	"fmt"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/mcpool-dev/mcpool/dbplugin"
	"github.com/mcpool-dev/mcpool/examples/internal/program"
)

var agent = program.Agent{Name: "anthropic", Provider: "ANTHROPIC", Model: string(anthropic.ModelClaudeSonnet5_5), Ask: ask}

// maxTokens bounds what the model says in one turn.
const maxTokens = 8192

func main() { agent.Main() }

func ask(ctx context.Context, model program.Model, functions []dbplugin.Function, question string) (string, error) {
	options := []option.RequestOption{option.WithAPIKey(model.Key)}
	if model.BaseURL != "" {
		options = append(options, option.WithBaseURL(model.BaseURL))
	}
	client := anthropic.NewClient(options...)
	tools, err := definitions(functions)
	if err != nil {
		return "", err
	}
	messages := []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(question))}
	for range program.MaxTurns {
		message, err := client.Messages.New(ctx, anthropic.MessageNewParams{
			Model: anthropic.Model(model.Name), MaxTokens: maxTokens, Messages: messages, Tools: tools,
			System: []anthropic.TextBlockParam{{Text: program.Instructions}},
		})
		if err != nil {
			return "", err
		}
		switch message.StopReason {
		case anthropic.StopReasonToolUse:
			messages = append(messages, message.ToParam(), anthropic.NewUserMessage(results(ctx, functions, message)...))
		case anthropic.StopReasonEndTurn:
			answer := ""
			for _, block := range message.Content {
				answer += block.Text // empty for what is no text
			}
			return answer, nil
		default:
			return "", fmt.Errorf("the model ended with %q", message.StopReason)
		}
	}
	return "", fmt.Errorf("the model has not answered in %d turns", program.MaxTurns)
}
