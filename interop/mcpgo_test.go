//lint:file-ignore SA1019 What is deprecated is what legacy peers have.

package interop

import (
	"context"
	"errors"
	"slices"
	"strings"

	mcpgoclient "github.com/mark3labs/mcp-go/client"
	mcpgotransport "github.com/mark3labs/mcp-go/client/transport"
	mcpgo "github.com/mark3labs/mcp-go/mcp"
)

// An answerer answers what a client of mcp-go is asked.
type answerer struct{}

func (answerer) Elicit(context.Context, mcpgo.ElicitationRequest) (*mcpgo.ElicitationResult, error) {
	return &mcpgo.ElicitationResult{ElicitationResponse: mcpgo.ElicitationResponse{
		Action: mcpgo.ElicitationResponseActionAccept, Content: map[string]any{"name": "Ada"},
	}}, nil
}

// runMCPGo is a client of mcp-go: legacy|auto URL NAME.
func runMCPGo(args []string) error {
	era, url, name := args[0], args[1], args[2]
	uri := notePrefix + name
	ctx := context.Background()
	options := []mcpgoclient.ClientOption{mcpgoclient.WithElicitationHandler(answerer{})}
	var how []mcpgotransport.StreamableHTTPCOption
	if era == "legacy" {
		options = append(options, mcpgoclient.WithLegacyProtocolOnly())
		how = append(how, mcpgotransport.WithContinuousListening()) // without it there are no updates
	}
	transport, err := mcpgotransport.NewStreamableHTTP(url, how...)
	if err != nil {
		return err
	}
	client := mcpgoclient.NewClient(transport, options...)
	heard := newHearing()
	client.OnNotification(func(n mcpgo.JSONRPCNotification) {
		fields := n.Params.AdditionalFields
		switch n.Method {
		case "notifications/progress":
			done, _ := fields["progress"].(float64)
			total, _ := fields["total"].(float64)
			heard.progress(done, total)
		case "notifications/message":
			level, _ := fields["level"].(string)
			heard.message(level, fields["data"])
		case acknowledged:
			heard.once(heard.heeded)
		case "notifications/resources/updated":
			if fields["uri"] == uri {
				heard.once(heard.updated)
			}
		}
	})
	if err := client.Start(ctx); err != nil {
		return err
	}
	var initialize mcpgo.InitializeRequest
	initialize.Params.ProtocolVersion = mcpgo.LATEST_PROTOCOL_VERSION
	initialize.Params.ClientInfo = mcpgo.Implementation{Name: name, Version: "v1"}
	result, err := client.Initialize(ctx, initialize)
	if err != nil {
		return err
	}
	protocol := result.ProtocolVersion
	call := func(ctx context.Context, tool string, arguments map[string]any) (string, error) {
		var r mcpgo.CallToolRequest
		r.Params = mcpgo.CallToolParams{Name: tool, Arguments: arguments, Meta: &mcpgo.Meta{ProgressToken: tool}}
		result, err := client.CallTool(ctx, r)
		if err != nil {
			return "", err
		}
		if words, ok := result.Content[0].(mcpgo.TextContent); ok {
			return words.Text, nil
		}
		return "", errors.New("no text")
	}
	do := heard.doing(name, call)
	if protocol != modern { // until then it tells nobody over HTTP that it has cancelled
		delete(do, "cancel")
	}
	err = act(protocol, do, map[string]doing{
		"list": func(ctx context.Context) (string, error) {
			result, err := client.ListTools(ctx, mcpgo.ListToolsRequest{})
			if err != nil {
				return "", err
			}
			var names []string
			for _, tool := range result.Tools {
				names = append(names, tool.Name)
			}
			slices.Sort(names)
			return strings.Join(names, " "), nil
		},
		"subscribe": func(ctx context.Context) (string, error) {
			end := func() error {
				var r mcpgo.UnsubscribeRequest
				r.Params.URI = uri
				return client.Unsubscribe(ctx, r)
			}
			if protocol == modern {
				stop, err := client.ListenAsync(ctx, mcpgo.SubscriptionFilter{ResourceSubscriptions: []string{uri}}, nil)
				if err != nil {
					return "", err
				}
				end = func() error { stop(); return nil }
				if err := await(ctx, heard.heeded); err != nil {
					return "", err
				}
			} else {
				var r mcpgo.SubscribeRequest
				r.Params.URI = uri
				if err := client.Subscribe(ctx, r); err != nil {
					return "", err
				}
			}
			if _, err := call(ctx, "update", map[string]any{"name": name}); err != nil {
				return "", err
			}
			if err := await(ctx, heard.updated); err != nil {
				return "", err
			}
			return "updated", end()
		},
		"resources": func(ctx context.Context) (string, error) {
			resources, err := client.ListResources(ctx, mcpgo.ListResourcesRequest{})
			if err != nil {
				return "", err
			}
			templates, err := client.ListResourceTemplates(ctx, mcpgo.ListResourceTemplatesRequest{})
			if err != nil {
				return "", err
			}
			var r mcpgo.ReadResourceRequest
			r.Params.URI = uri
			read, err := client.ReadResource(ctx, r)
			if err != nil {
				return "", err
			}
			words, ok := read.Contents[0].(mcpgo.TextResourceContents)
			if !ok {
				return "", errors.New("no text")
			}
			return strings.Join([]string{
				resources.Resources[0].URI, templates.ResourceTemplates[0].URITemplate.Raw(), strings.Replace(words.Text, name, "NAME", 1),
			}, " "), nil
		},
		"prompt": func(ctx context.Context) (string, error) {
			prompts, err := client.ListPrompts(ctx, mcpgo.ListPromptsRequest{})
			if err != nil {
				return "", err
			}
			var r mcpgo.GetPromptRequest
			r.Params.Name, r.Params.Arguments = "greet", map[string]string{"name": "Ada"}
			prompt, err := client.GetPrompt(ctx, r)
			if err != nil {
				return "", err
			}
			words, ok := prompt.Messages[0].Content.(mcpgo.TextContent)
			if !ok {
				return "", errors.New("no text")
			}
			return prompts.Prompts[0].Name + " " + words.Text, nil
		},
		"complete": func(ctx context.Context) (string, error) {
			var r mcpgo.CompleteRequest
			r.Params.Ref = mcpgo.PromptReference{Type: "ref/prompt", Name: "greet"}
			r.Params.Argument = mcpgo.CompleteArgument{Name: "name", Value: "A"}
			result, err := client.Complete(ctx, r)
			if err != nil {
				return "", err
			}
			return strings.Join(result.Completion.Values, " "), nil
		},
		"log": func(ctx context.Context) (string, error) {
			var r mcpgo.SetLevelRequest
			r.Params.Level = mcpgo.LoggingLevelWarning
			if err := client.SetLevel(ctx, r); err != nil {
				return "", err
			}
			if _, err := call(ctx, "log", nil); err != nil {
				return "", err
			}
			if err := await(ctx, heard.loud); err != nil {
				return "", err
			}
			return heard.said(&heard.levels), nil
		},
	})
	return errors.Join(err, client.Close())
}
