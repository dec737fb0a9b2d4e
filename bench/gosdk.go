package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// openGoSDK is the client of the official SDK.
func openGoSDK(to address) client { return goSDK(to, false, nil) }

// openGoSDKPinned asks for no version but the legacy one, and does without the
// stream of what the server sends outside of calls: the fewest requests that
// the SDK opens a session with.
func openGoSDKPinned(to address) client {
	return goSDK(to, true, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
}

func goSDK(to address, withoutStream bool, options *mcp.ClientSessionOptions) client {
	ctx := context.Background()
	c := mcp.NewClient(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
	return client{
		connect: func() session {
			var over mcp.Transport = &mcp.StreamableClientTransport{Endpoint: to.url,
				HTTPClient: &http.Client{Transport: to.tripper}, DisableStandaloneSSE: withoutStream}
			switch {
			case to.sse:
				over = &mcp.SSEClientTransport{Endpoint: to.url, HTTPClient: &http.Client{Transport: to.tripper}}
			case to.url == "":
				command := exec.Command(thisProgram())
				command.Env = append(os.Environ(), to.childEnv()...)
				over = &mcp.CommandTransport{Command: command}
			}
			s, err := c.Connect(ctx, over, options)
			must(err)
			return session{
				call: func() {
					result, err := s.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
					must(err)
					mustBe(len(result.Content) == 1)
				},
				close: func() { must(s.Close()) },
			}
		},
		close: func() {},
	}
}
