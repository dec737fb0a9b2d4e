package interop

import (
	"context"
	"flag"
	"net/http"
	"time"

	mcpgo "github.com/mark3labs/mcp-go/mcp"
	mcpgoserver "github.com/mark3labs/mcp-go/server"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// goPrograms are the servers and clients in Go, which this program is when told
// so.
var goPrograms = map[string]func(args []string) error{
	"features":      serveFeatures,
	"go-sdk":        serveGoSDK,
	"mcp-go":        serveMCPGo,
	"go-sdk client": runGoSDK,
	"mcp-go client": runMCPGo,
}

// how is the way in which a server runs.
type how struct {
	port                                   string // "" for stdio
	stateful, stateless, legacy, json, sse bool
}

func readHow(args []string) (h how, err error) {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.StringVar(&h.port, "port", "", "")
	flags.BoolVar(&h.stateful, "stateful", false, "")
	flags.BoolVar(&h.stateless, "stateless", false, "")
	flags.BoolVar(&h.legacy, "legacy", false, "")
	flags.BoolVar(&h.json, "json", false, "")
	flags.BoolVar(&h.sse, "sse", false, "")
	return h, flags.Parse(args)
}

// legacyVersions is what a server is held to that must not be modern.
var legacyVersions = []string{"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}

type echoArgs struct {
	Text string `json:"text"`
}

type sleepArgs struct {
	MS int `json:"ms"`
}

func serveGoSDK(args []string) error {
	h, err := readHow(args)
	if err != nil {
		return err
	}
	options := &mcp.ServerOptions{}
	if h.legacy {
		options.SupportedProtocolVersions = legacyVersions
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "go-sdk", Version: "v1"}, options)
	reads := &mcp.ToolAnnotations{ReadOnlyHint: true}
	text := func(s string) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo", Annotations: reads}, func(_ context.Context, _ *mcp.CallToolRequest, in echoArgs) (*mcp.CallToolResult, any, error) {
		return text(in.Text), nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "sleep", Annotations: reads}, func(_ context.Context, _ *mcp.CallToolRequest, in sleepArgs) (*mcp.CallToolResult, any, error) {
		time.Sleep(time.Duration(in.MS) * time.Millisecond)
		return text("slept"), nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "change"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		server.AddTool(&mcp.Tool{Name: "new", InputSchema: map[string]string{"type": "object"}}, nil)
		return text("changed"), nil, nil
	})
	if h.port == "" {
		return server.Run(context.Background(), &mcp.StdioTransport{})
	}
	serve := func(*http.Request) *mcp.Server { return server }
	var handler http.Handler = mcp.NewStreamableHTTPHandler(serve, &mcp.StreamableHTTPOptions{Stateless: h.stateless, JSONResponse: h.json})
	if h.sse {
		handler = mcp.NewSSEHandler(serve, nil)
	}
	return http.ListenAndServe("127.0.0.1:"+h.port, handler)
}

func serveMCPGo(args []string) error {
	h, err := readHow(args)
	if err != nil {
		return err
	}
	server := mcpgoserver.NewMCPServer("mcp-go", "v1")
	reads := mcpgo.WithReadOnlyHintAnnotation(true)
	server.AddTool(mcpgo.NewTool("echo", reads, mcpgo.WithString("text")), func(_ context.Context, r mcpgo.CallToolRequest) (*mcpgo.CallToolResult, error) {
		return mcpgo.NewToolResultText(r.GetString("text", "")), nil
	})
	server.AddTool(mcpgo.NewTool("sleep", reads, mcpgo.WithNumber("ms")), func(_ context.Context, r mcpgo.CallToolRequest) (*mcpgo.CallToolResult, error) {
		time.Sleep(time.Duration(r.GetInt("ms", 0)) * time.Millisecond)
		return mcpgo.NewToolResultText("slept"), nil
	})
	server.AddTool(mcpgo.NewTool("change"), func(context.Context, mcpgo.CallToolRequest) (*mcpgo.CallToolResult, error) {
		server.AddTool(mcpgo.NewTool("new"), nil)
		return mcpgo.NewToolResultText("changed"), nil
	})
	if h.port == "" {
		var options []mcpgoserver.StdioOption
		if h.legacy {
			options = append(options, mcpgoserver.WithStdioContextFunc(func(ctx context.Context) context.Context {
				return mcpgoserver.WithSupportedProtocolVersions(ctx, legacyVersions)
			}))
		}
		return mcpgoserver.ServeStdio(server, options...)
	}
	if h.sse {
		return mcpgoserver.NewSSEServer(server).Start("127.0.0.1:" + h.port)
	}
	// Neither is its default: it names sessions then and forgets them.
	options := []mcpgoserver.StreamableHTTPOption{mcpgoserver.WithStateful(h.stateful), mcpgoserver.WithStateLess(h.stateless)}
	if h.legacy {
		options = append(options, mcpgoserver.WithStreamableHTTPProtocolVersions(legacyVersions...))
	}
	return mcpgoserver.NewStreamableHTTPServer(server, options...).Start("127.0.0.1:" + h.port)
}
