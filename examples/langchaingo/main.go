// Langchaingo answers a question about a database through any model that
// langchaingo has with functions; here one behind OpenAI's API. What an agent
// of your own needs is in functions.go.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/tmc/langchaingo/llms"
	"github.com/tmc/langchaingo/llms/openai"

	"github.com/mcpool-dev/mcpool/dbplugin"
	"github.com/mcpool-dev/mcpool/examples/internal/program"
)

var agent = program.Agent{Name: "langchaingo", Provider: "OPENAI", Model: "gpt-5.4-mini", Ask: ask}

func main() { agent.Main() }

func ask(ctx context.Context, model program.Model, functions []dbplugin.Function, question string) (string, error) {
	options := []openai.Option{openai.WithToken(model.Key), openai.WithModel(model.Name)}
	if model.BaseURL != "" {
		options = append(options, openai.WithBaseURL(model.BaseURL))
	}
	client, err := openai.New(options...)
	if err != nil {
		return "", err
	}
	messages := []llms.MessageContent{
		llms.TextParts(llms.ChatMessageTypeSystem, program.Instructions), llms.TextParts(llms.ChatMessageTypeHuman, question),
	}
	for range program.MaxTurns {
		// Without a temperature 0 is sent, which models that reason do not take.
		response, err := client.GenerateContent(ctx, messages, llms.WithTools(definitions(functions)), llms.WithTemperature(1))
		if err != nil {
			return "", err
		}
		if len(response.Choices) == 0 {
			return "", errors.New("the model said nothing")
		}
		choice := response.Choices[0]
		switch choice.StopReason {
		case "tool_calls":
			said := llms.MessageContent{Role: llms.ChatMessageTypeAI}
			if choice.Content != "" {
				said.Parts = append(said.Parts, llms.TextContent{Text: choice.Content})
			}
			for _, call := range choice.ToolCalls {
				said.Parts = append(said.Parts, call)
			}
			messages = append(messages, said)
			messages = append(messages, results(ctx, functions, choice.ToolCalls)...)
		case "stop":
			return choice.Content, nil
		default:
			return "", fmt.Errorf("the model ended with %q", choice.StopReason)
		}
	}
	return "", fmt.Errorf("the model has not answered in %d turns", program.MaxTurns)
}
