//lint:file-ignore SA1019 What is deprecated is what legacy peers have.

package interop

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// runGoSDK is a client of the official Go SDK: legacy|auto URL NAME.
func runGoSDK(args []string) error {
	era, url, name := args[0], args[1], args[2]
	uri := notePrefix + name
	heard := newHearing()
	client := mcp.NewClient(&mcp.Implementation{Name: name, Version: "v1"}, &mcp.ClientOptions{
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			heard.progress(r.Params.Progress, r.Params.Total)
		},
		LoggingMessageHandler: func(_ context.Context, r *mcp.LoggingMessageRequest) {
			heard.message(string(r.Params.Level), r.Params.Data)
		},
		ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
			if r.Params.URI == uri {
				heard.once(heard.updated)
			}
		},
	})
	// Its Subscribe waits for no acknowledgement.
	client.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
			if method == acknowledged {
				heard.once(heard.heeded)
			}
			return next(ctx, method, r)
		}
	})
	ctx := context.Background()
	how := &mcp.ClientSessionOptions{}
	if era == "legacy" {
		how.ProtocolVersion = legacy
	}
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url}, how)
	if err != nil {
		return err
	}
	protocol := session.InitializeResult().ProtocolVersion
	call := func(ctx context.Context, tool string, arguments map[string]any) (string, error) {
		params := &mcp.CallToolParams{Meta: mcp.Meta{}, Name: tool, Arguments: arguments}
		params.SetProgressToken(tool)
		result, err := session.CallTool(ctx, params)
		if err != nil {
			return "", err
		}
		if words, ok := result.Content[0].(*mcp.TextContent); ok {
			return words.Text, nil
		}
		return "", errors.New("no text")
	}
	err = act(protocol, heard.doing(name, call), map[string]doing{
		"list": func(ctx context.Context) (string, error) {
			var names []string
			for tool, err := range session.Tools(ctx, nil) {
				if err != nil {
					return "", err
				}
				names = append(names, tool.Name)
			}
			slices.Sort(names)
			return strings.Join(names, " "), nil
		},
		"subscribe": func(ctx context.Context) (string, error) {
			if err := session.Subscribe(ctx, &mcp.SubscribeParams{URI: uri}); err != nil {
				return "", err
			}
			if protocol == modern {
				if err := await(ctx, heard.heeded); err != nil {
					return "", err
				}
			}
			if _, err := call(ctx, "update", map[string]any{"name": name}); err != nil {
				return "", err
			}
			if err := await(ctx, heard.updated); err != nil {
				return "", err
			}
			return "updated", session.Unsubscribe(ctx, &mcp.UnsubscribeParams{URI: uri})
		},
		"resources": func(ctx context.Context) (string, error) {
			resources, err := session.ListResources(ctx, nil)
			if err != nil {
				return "", err
			}
			templates, err := session.ListResourceTemplates(ctx, nil)
			if err != nil {
				return "", err
			}
			read, err := session.ReadResource(ctx, &mcp.ReadResourceParams{URI: uri})
			if err != nil {
				return "", err
			}
			return strings.Join([]string{
				resources.Resources[0].URI, templates.ResourceTemplates[0].URITemplate, strings.Replace(read.Contents[0].Text, name, "NAME", 1),
			}, " "), nil
		},
		"prompt": func(ctx context.Context) (string, error) {
			prompts, err := session.ListPrompts(ctx, nil)
			if err != nil {
				return "", err
			}
			prompt, err := session.GetPrompt(ctx, &mcp.GetPromptParams{Name: "greet", Arguments: map[string]string{"name": "Ada"}})
			if err != nil {
				return "", err
			}
			words, ok := prompt.Messages[0].Content.(*mcp.TextContent)
			if !ok {
				return "", errors.New("no text")
			}
			return prompts.Prompts[0].Name + " " + words.Text, nil
		},
		"complete": func(ctx context.Context) (string, error) {
			result, err := session.Complete(ctx, &mcp.CompleteParams{
				Ref:      &mcp.CompleteReference{Type: "ref/prompt", Name: "greet"},
				Argument: mcp.CompleteParamsArgument{Name: "name", Value: "A"},
			})
			if err != nil {
				return "", err
			}
			return strings.Join(result.Completion.Values, " "), nil
		},
		"log": func(ctx context.Context) (string, error) {
			params := &mcp.CallToolParams{Name: "log"}
			if protocol == modern {
				params.Meta = mcp.Meta{mcp.MetaKeyLogLevel: "warning"}
			} else if err := session.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: "warning"}); err != nil {
				return "", err
			}
			if _, err := session.CallTool(ctx, params); err != nil {
				return "", err
			}
			if err := await(ctx, heard.loud); err != nil {
				return "", err
			}
			return heard.said(&heard.levels), nil
		},
	})
	return errors.Join(err, session.Close())
}
