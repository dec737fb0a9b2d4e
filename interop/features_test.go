//lint:file-ignore SA1019 What is deprecated is what legacy peers have.

package interop

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type nameArgs struct {
	Name string `json:"name"`
}

type countArgs struct {
	To int `json:"to"`
}

// serveFeatures serves whatever a client can ask for, with the official Go SDK.
// It is modern where it is stateless, and legacy elsewhere.
func serveFeatures(args []string) error {
	h, err := readHow(args)
	if err != nil {
		return err
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "features", Version: "v1"}, &mcp.ServerOptions{
		CompletionHandler:  complete,
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	text := func(s string) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
	}
	progress := func(ctx context.Context, r *mcp.CallToolRequest, done, total int) error {
		if token := r.Params.GetProgressToken(); token != nil {
			return r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(done), Total: float64(total)})
		}
		return nil
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo", Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true}}, func(_ context.Context, _ *mcp.CallToolRequest, in echoArgs) (*mcp.CallToolResult, any, error) {
		return text(in.Text), nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "count"}, func(ctx context.Context, r *mcp.CallToolRequest, in countArgs) (*mcp.CallToolResult, any, error) {
		for i := range in.To {
			if err := progress(ctx, r, i+1, in.To); err != nil {
				return nil, nil, err
			}
		}
		return text("counted"), nil, nil
	})
	// wait says by its progress that it has begun, and ends when it is
	// cancelled; cancelled waits for the end of the wait of that name.
	waits := newWaits()
	mcp.AddTool(server, &mcp.Tool{Name: "wait"}, func(ctx context.Context, r *mcp.CallToolRequest, in nameArgs) (*mcp.CallToolResult, any, error) {
		defer waits.end(in.Name)
		if err := progress(ctx, r, 1, 2); err != nil {
			return nil, nil, err
		}
		<-ctx.Done()
		return nil, nil, context.Cause(ctx)
	})
	mcp.AddTool(server, &mcp.Tool{Name: "cancelled"}, func(ctx context.Context, _ *mcp.CallToolRequest, in nameArgs) (*mcp.CallToolResult, any, error) {
		select {
		case <-waits.of(in.Name):
			return text("cancelled"), nil, nil
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	})
	mcp.AddTool(server, &mcp.Tool{Name: "ask"}, func(_ context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		// The SDK makes a request of it for clients of the legacy era.
		const key = "name"
		if answer, ok := r.Params.InputResponses[key].(*mcp.ElicitResult); ok {
			return text(fmt.Sprint(answer.Action, " ", answer.Content["name"])), nil, nil
		}
		return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{key: &mcp.ElicitParams{
			Message: "What is your name?",
			RequestedSchema: map[string]any{
				"type": "object", "required": []string{"name"},
				"properties": map[string]any{"name": map[string]string{"type": "string"}},
			},
		}}}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "log"}, func(ctx context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		for _, said := range []*mcp.LoggingMessageParams{{Level: "debug", Data: "quiet"}, {Level: "warning", Data: "loud"}} {
			if err := r.Session.Log(ctx, said); err != nil {
				return nil, nil, err
			}
		}
		return text("logged"), nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "update"}, func(ctx context.Context, _ *mcp.CallToolRequest, in nameArgs) (*mcp.CallToolResult, any, error) {
		return text("updated"), nil, server.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: notePrefix + in.Name})
	})
	server.AddResource(&mcp.Resource{Name: "first", URI: notePrefix + "first", MIMEType: "text/plain"}, readNote)
	server.AddResourceTemplate(&mcp.ResourceTemplate{Name: "note", URITemplate: notePrefix + "{name}", MIMEType: "text/plain"}, readNote)
	server.AddPrompt(&mcp.Prompt{Name: "greet", Arguments: []*mcp.PromptArgument{{Name: "name", Required: true}}}, func(_ context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		words := &mcp.TextContent{Text: "Greet " + r.Params.Arguments["name"]}
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: words}}}, nil
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{
		Stateless: h.stateless, PropagateRequestCancellation: true,
	})
	return http.ListenAndServe("127.0.0.1:"+h.port, handler)
}

const notePrefix = "note://"

func readNote(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{
		URI: r.Params.URI, MIMEType: "text/plain", Text: "the note " + strings.TrimPrefix(r.Params.URI, notePrefix),
	}}}, nil
}

func complete(_ context.Context, r *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
	if r.Params.Ref.Name != "greet" {
		return nil, errors.New("there is nothing to complete but the prompt greet")
	}
	values := slices.DeleteFunc([]string{"Ada", "Alan", "Barbara"}, func(name string) bool {
		return !strings.HasPrefix(name, r.Params.Argument.Value)
	})
	return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: values, Total: len(values)}}, nil
}

// waits are the calls of the tool wait that have ended, by name.
type waits struct {
	mu    sync.Mutex // guards ended
	ended map[string]chan struct{}
}

func newWaits() *waits { return &waits{ended: map[string]chan struct{}{}} }

// of is closed when the wait has ended.
func (w *waits) of(name string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended[name] == nil {
		w.ended[name] = make(chan struct{})
	}
	return w.ended[name]
}

// end is called once for a name: a wait that ran twice ends the server.
func (w *waits) end(name string) { close(w.of(name)) }
