package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/rpc"
)

// greeter is a server; a pool of connections to one is used in the same way.
type greeter struct{}

func (greeter) Do(_ context.Context, call rpc.Call) (rpc.Answer, error) {
	if call.Method != "tools/call" {
		return rpc.Answer{}, rpc.Errorf(rpc.CodeMethodNotFound, "no method %s", call.Method)
	}
	return rpc.Result(json.RawMessage(`{"content":[{"type":"text","text":"hello"}]}`)), nil
}

func Example() {
	g, err := gateway.New([]gateway.Server{{Name: "greeter", Handler: greeter{}}}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer g.Close(context.Background())
	web := httptest.NewServer(g)
	defer web.Close()

	// A modern client needs no session: one request is a call.
	request, err := http.NewRequest(http.MethodPost, web.URL+"/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,
		"method":"tools/call","params":{"name":"greet","arguments":{},"_meta":{
			"io.modelcontextprotocol/protocolVersion":"2026-07-28",
			"io.modelcontextprotocol/clientCapabilities":{}}}}`))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("MCP-Protocol-Version", "2026-07-28")
	request.Header.Set("Mcp-Method", "tools/call")
	request.Header.Set("Mcp-Name", "greet")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(response.Status, strings.Contains(string(body), "hello"))
	// Output: 200 OK true
}
