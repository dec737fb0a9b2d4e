//lint:file-ignore SA1019 what MCP 2026-07-28 deprecates is served like the rest

package gosdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool"
)

// A place is a server of the SDK over HTTP that has some of everything.
type place struct {
	url       string
	server    *mcp.Server
	client    *http.Client
	began     chan struct{} // one for each call of block
	cancelled chan struct{} // one for each that was cancelled
}

// kinds are the two ways in which the SDK serves over HTTP: a legacy server
// with sessions, and a modern one.
var kinds = map[string]bool{"stateful": false, "stateless": true}

func newPlace(t testing.TB, stateless bool) *place {
	t.Helper()
	p := &place{began: make(chan struct{}), cancelled: make(chan struct{}), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	p.server = mcp.NewServer(&mcp.Implementation{Name: "place", Version: "1"}, &mcp.ServerOptions{
		PageSize:           4,
		Instructions:       "Knock first.",
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
		CompletionHandler: func(_ context.Context, r *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
			return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: []string{r.Params.Argument.Value + "!"}}}, nil
		},
		Capabilities: &mcp.ServerCapabilities{Logging: &mcp.LoggingCapabilities{}},
	})
	p.addTools()
	p.server.AddPrompt(&mcp.Prompt{Name: "greet", Arguments: []*mcp.PromptArgument{{Name: "whom"}}}, func(_ context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: "Greet " + r.Params.Arguments["whom"]}}}}, nil
	})
	read := func(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		if strings.HasSuffix(r.Params.URI, "nothing") {
			return nil, mcp.ResourceNotFoundError(r.Params.URI)
		}
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: r.Params.URI, Blob: []byte{0, 255}}}}, nil
	}
	p.server.AddResource(&mcp.Resource{Name: "room", URI: "place:room"}, read)
	p.server.AddResourceTemplate(&mcp.ResourceTemplate{Name: "rooms", URITemplate: "place:rooms/{n}"}, read)
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return p.server }, &mcp.StreamableHTTPOptions{
		Stateless: stateless, PropagateRequestCancellation: true, // without it a modern client cannot cancel
	})
	web := httptest.NewServer(handler)
	p.url = web.URL
	t.Cleanup(func() {
		for session := range p.server.Sessions() {
			_ = session.Close()
		}
		p.client.CloseIdleConnections()
		web.Close()
	})
	return p
}

func text(format string, args ...any) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprintf(format, args...)}}}
}

// tool adds a tool whose arguments are not looked at but by itself.
func (p *place) tool(name string, handler func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error)) {
	p.server.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(`{"type":"object"}`)}, handler)
}

func (p *place) addTools() {
	p.tool("echo", func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		result := text("%s", r.Params.Arguments)
		result.StructuredContent = r.Params.Arguments
		return result, nil
	})
	p.tool("fail", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return nil, errors.New("it is no use")
	})
	p.tool("progress", func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for i := range progress {
			if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i)}); err != nil {
				return nil, err
			}
		}
		return text("done"), nil
	})
	p.tool("log", func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for _, level := range []mcp.LoggingLevel{"debug", "info", "warning", "error"} {
			if err := r.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Data: "a " + level}); err != nil {
				return nil, err
			}
		}
		return text("done"), nil
	})
	p.tool("block", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		p.began <- struct{}{}
		<-ctx.Done()
		p.cancelled <- struct{}{}
		return nil, ctx.Err()
	})
	p.tool("change", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		p.tool("zzz", func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) { return text(""), nil })
		return text("changed"), nil
	})
	p.tool("update", func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return text("updated"), p.server.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: "place:room"})
	})
	// Each asks its client for something, in the way that suits both eras.
	ask := func(name string, request func(arguments string) mcp.InputRequest) {
		p.tool(name, func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if answer, ok := r.Params.InputResponses["q"]; ok {
				raw, err := json.Marshal(answer)
				return text("%s was answered %s", r.Params.Arguments, raw), err
			}
			return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"q": request(string(r.Params.Arguments))}}, nil
		})
	}
	ask("elicit", func(arguments string) mcp.InputRequest { return &mcp.ElicitParams{Message: arguments} })
	ask("sample", func(arguments string) mcp.InputRequest {
		return &mcp.CreateMessageParams{MaxTokens: 5, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: arguments}}}}
	})
	ask("roots", func(string) mcp.InputRequest { return &mcp.ListRootsParams{} })
}

// progress is how many notifications the tool sends.
const progress = 200

// direct is the way to the place as the SDK has it.
func (p *place) direct() mcp.Transport {
	return &mcp.StreamableClientTransport{Endpoint: p.url, HTTPClient: p.client}
}

// pool makes a pool of connections to the place.
func (p *place) pool(t testing.TB, name string, change func(*mcpool.Config)) *mcpool.Pool {
	t.Helper()
	config := mcpool.DefaultConfig()
	if change != nil {
		change(&config)
	}
	pool, err := mcpool.New(mcpool.Server{Name: name, URL: p.url}, &config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return pool
}
