package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// An address is where a peer is found: at a URL, with what makes the requests,
// or else in a child that speaks an era.
type address struct {
	url     string
	tripper http.RoundTripper
	sse     bool // over HTTP+SSE, which programs have to know
	child   transport.Era
}

// childEnv is what makes a child of this program such a peer.
func (a address) childEnv() []string { return []string{peerEnv + "=" + a.child.String()} }

// A client knows one server, and nothing about it yet.
type client struct {
	connect func() session // another connection
	close   func()
}

// A session is a connection of a client.
type session struct {
	call  func() // one call of a tool
	close func()
}

// A maker makes clients of one kind.
type maker struct {
	name string
	open func(address) client
}

const (
	goSDKName       = "go-sdk"
	goSDKPinnedName = "go-sdk, version given, without GET stream"
	mcpGoName       = "mcp-go"
	netHTTPName     = "`net/http` alone"
)

// clients have the settings that they have unless told otherwise.
func clients() []maker {
	return []maker{{poolName, openPoolClient}, {bareName, openBareClient}, {goSDKName, openGoSDK}, {mcpGoName, openMCPGo}}
}

// openPoolClient is a program that calls tools through a pool. What connects
// anew is another principal, who shares no connection with the others.
func openPoolClient(to address) client {
	server := mcpool.Server{Name: "bench", URL: to.url, RoundTripper: to.tripper}
	if to.url == "" {
		server = mcpool.Server{Name: "bench", Command: thisProgram(), Env: to.childEnv()}
	}
	config := everythingOn()
	p, err := mcpool.New(server, &config)
	must(err)
	principals := 0
	return client{
		connect: func() session {
			principals++
			call := func() {
				result, err := p.CallTool(context.Background(), tool, arguments)
				must(err)
				mustBe(len(result.Content) == 1)
			}
			if principals > 1 { // CallTool is for the pool's own principal
				other := rpc.Caller{Principal: fmt.Sprint("principal ", principals)}
				call = func() {
					answer, err := p.Do(context.Background(), rpc.Call{Method: callMethod, Params: params, Caller: other})
					must(err)
					mustBe(string(answer.Bytes()) == string(peerResult))
				}
			}
			return session{call: call, close: func() {}}
		},
		close: func() { must(p.Close(context.Background())) },
	}
}

// openBareClient makes calls on one of the connections that a pool would open,
// and remembers the server as a pool does.
func openBareClient(to address) client {
	ctx := context.Background()
	var endpoint *transport.Endpoint
	var err error
	if to.url != "" {
		endpoint, err = transport.HTTP(to.url, transport.HTTPOptions{RoundTripper: to.tripper})
	} else {
		endpoint, err = transport.Stdio(transport.Command{Path: thisProgram(), Inherited: os.Environ(), Env: to.childEnv()})
	}
	must(err)
	var known transport.Known
	return client{
		connect: func() session {
			c, err := endpoint.Open(ctx, known, rpc.Capabilities{}, nil)
			must(err)
			known = transport.Known{Peer: c.Peer()}
			return session{
				call: func() {
					answer, err := c.Call(ctx, rpc.Call{Method: callMethod, Params: params}, nil)
					must(err)
					mustBe(bytes.Contains(answer.Bytes(), peerContent)) // a gateway may add members
				},
				close: func() { c.Close(ctx) },
			}
		},
		close: endpoint.Close,
	}
}

// What the clients call.
const tool, callMethod = "read_data", "tools/call"

var (
	params    = []byte(`{"name":"read_data","arguments":{"query":"select 42"}}`)
	arguments = map[string]any{"query": "select 42"}
)

// mustBe ends the program if a call was answered with something else than it
// was meant to be.
func mustBe(right bool) {
	if !right {
		must(errors.New("that is not the peer's answer"))
	}
}
