package mcpool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"

	"golang.org/x/oauth2"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// warehouse is a server for the examples.
func warehouse() (url string, stop func()) {
	server := httptest.NewServer(&mcptest.Server{})
	return server.URL, server.Close
}

func Example() {
	url, stop := warehouse()
	defer stop()
	ctx := context.Background()

	pool, err := mcpool.New(mcpool.Server{Name: "warehouse", URL: url}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(ctx)

	for _, text := range []string{"one", "two", "three"} {
		result, err := pool.CallTool(ctx, "echo", map[string]any{"text": text})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.Text())
	}
	stats := pool.Stats()
	fmt.Println(stats.Calls, "calls on", stats.Opened, "connection")
	// Output:
	// one
	// two
	// three
	// 3 calls on 1 connection
}

// Settings are changed from the defaults, or from the environment.
func ExampleNew() {
	url, stop := warehouse()
	defer stop()

	config := mcpool.DefaultConfig()
	config.MaxConnections = 2
	config.Sharing = mcpool.ShareAll
	pool, err := mcpool.New(mcpool.Server{Name: "warehouse", URL: url}, &config)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(context.Background())

	_, err = mcpool.New(mcpool.Server{Name: "warehouse"}, nil)
	fmt.Println(err)
	// Output:
	// server warehouse: give exactly one of URL, Command and Handler
}

// A whole connection is for calls that build on each other's state.
func ExamplePool_Acquire() {
	url, stop := warehouse()
	defer stop()
	ctx := context.Background()
	pool, err := mcpool.New(mcpool.Server{Name: "warehouse", URL: url}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(ctx)

	lease, err := pool.Acquire(ctx, rpc.Caller{Principal: "ann"}, mcpool.Whole)
	if err != nil {
		log.Fatal(err)
	}
	defer lease.Release()
	for range 2 {
		_, err := lease.Do(ctx, rpc.Call{
			Method: "tools/call",
			Params: json.RawMessage(`{"name":"write","arguments":{"id":"1"}}`),
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(lease.Conn().ID(), "made", lease.Conn().Calls(), "calls")
	// Output:
	// warehouse-1 made 2 calls
}

// Each principal's calls carry its own tokens, and its connections are its own.
func ExampleServer_tokens() {
	url, stop := warehouse()
	defer stop()
	ctx := context.Background()

	// As a rule a source comes from an oauth2.Config and renews its tokens.
	sources := map[string]oauth2.TokenSource{
		"ann": oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "token of ann"}),
		"bob": oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "token of bob"}),
	}
	pool, err := mcpool.New(mcpool.Server{
		Name: "warehouse", URL: url,
		Tokens: func(principal string) oauth2.TokenSource { return sources[principal] },
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(ctx)

	for _, principal := range []string{"ann", "bob", "ann"} {
		_, err := pool.Do(ctx, rpc.Call{Method: "tools/list", Caller: rpc.Caller{Principal: principal}})
		if err != nil {
			log.Fatal(err)
		}
	}
	stats := pool.Stats()
	fmt.Println(stats.Calls, "calls on", stats.Opened, "connections")
	// Output:
	// 3 calls on 2 connections
}

func ExampleSafeToRetry() {
	pool, err := mcpool.New(mcpool.Server{Name: "typo", Command: "no-such-command"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(context.Background())

	_, err = pool.CallTool(context.Background(), "echo", nil)
	fmt.Println(errors.Is(err, mcpool.ErrUnavailable), mcpool.SafeToRetry(err))
	// Output:
	// true true
}
