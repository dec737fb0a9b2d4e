package gosdk_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/gosdk"
)

// warehouse is a server for the examples.
func warehouse() (url string, stop func()) {
	type args struct {
		Item string `json:"item"`
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "warehouse", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "count"}, func(_ context.Context, _ *mcp.CallToolRequest, in args) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "5 of " + in.Item}}}, nil, nil
	})
	web := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	return web.URL, web.Close
}

// Twenty sessions of a program share one connection.
func Example() {
	url, stop := warehouse()
	defer stop()
	ctx := context.Background()
	config := mcpool.DefaultConfig()
	config.MaxConnections = 1
	pool, err := mcpool.New(mcpool.Server{Name: "warehouse", URL: url}, &config)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(ctx)

	client := mcp.NewClient(&mcp.Implementation{Name: "shop", Version: "1"}, nil)
	count := func(item string) string {
		// This line was: client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url}, nil)
		session, err := client.Connect(ctx, gosdk.NewTransport(pool), nil)
		if err != nil {
			log.Fatal(err)
		}
		defer session.Close()
		result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "count", Arguments: map[string]string{"item": item}})
		if err != nil {
			log.Fatal(err)
		}
		return result.Content[0].(*mcp.TextContent).Text
	}
	var sessions sync.WaitGroup
	for range 19 {
		sessions.Go(func() { count("nails") })
	}
	sessions.Wait()
	fmt.Println(count("bolts"))
	fmt.Println(pool.Stats().Opened, "connection was opened")
	// Output:
	// 5 of bolts
	// 1 connection was opened
}
