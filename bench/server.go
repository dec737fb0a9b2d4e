package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// legacyServer answers requests of streamable HTTP where they are made: no
// socket, no goroutine, no state.
type legacyServer struct{}

func (legacyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: http.NoBody,
		Header: http.Header{"Content-Type": {"application/json"}},
	}
	if r.Method != http.MethodPost {
		return answer, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	m, err := jsonrpc.Parse(body)
	if err != nil {
		return nil, err
	}
	said := `"result":{}`
	switch m.Method {
	case "server/discover":
		said = fmt.Sprintf(`"error":{"code":%d,"message":"unknown method"}`, rpc.CodeMethodNotFound)
	case "initialize":
		said = `"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"bench","version":"1"}}`
		answer.Header.Set("Mcp-Session-Id", "0123456789abcdef0123456789abcdef")
	}
	if m.IsRequest() {
		answer.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, m.ID, said)))
		answer.ContentLength = -1
	} else {
		answer.StatusCode = http.StatusAccepted
	}
	return answer, nil
}

// handler is a server in this process whose work is done at once.
type handler struct{}

func (handler) Do(context.Context, rpc.Call) (rpc.Answer, error) { return rpc.Result(result), nil }

var (
	result = []byte(`{"content":[{"type":"text","text":"42"}]}`)
	call   = rpc.Call{Method: callMethod, Params: params}
)
