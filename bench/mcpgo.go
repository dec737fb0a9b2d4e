package main

import (
	"context"
	"net/http"

	mcpgo "github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
)

// openMCPGo is the client of mark3labs/mcp-go.
func openMCPGo(to address) client {
	ctx := context.Background()
	connect := func() session {
		c, err := openMCPGoAt(ctx, to)
		must(err)
		hello := mcp.InitializeRequest{}
		hello.Params.ClientInfo = mcp.Implementation{Name: "bench", Version: "1"}
		_, err = c.Initialize(ctx, hello)
		must(err)
		request := mcp.CallToolRequest{}
		request.Params.Name, request.Params.Arguments = tool, arguments
		return session{
			call: func() {
				result, err := c.CallTool(ctx, request)
				must(err)
				mustBe(len(result.Content) == 1)
			},
			close: func() { must(c.Close()) },
		}
	}
	return client{connect: connect, close: func() {}}
}

func openMCPGoAt(ctx context.Context, to address) (*mcpgo.Client, error) {
	if to.url == "" {
		return mcpgo.NewStdioMCPClient(thisProgram(), to.childEnv()) // starts by itself
	}
	requests := &http.Client{Transport: to.tripper}
	c, err := mcpgo.NewStreamableHttpClient(to.url, transport.WithHTTPBasicClient(requests))
	if to.sse {
		c, err = mcpgo.NewSSEMCPClient(to.url, transport.WithHTTPClient(requests))
	}
	if err != nil {
		return nil, err
	}
	return c, c.Start(ctx)
}
