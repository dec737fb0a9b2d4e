//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// endsWithin is how soon a statement is gone from its database once its call was
// cancelled: a second is promised, and the machine of a test may be busy.
const endsWithin = 2 * time.Second

// oneConnection is what has each call wait for the one before it, and not long.
var oneConnection = object{"max_connections": 1, "acquire_timeout": "900ms", "timeout": "1m"}

// A canceller begins a call of a tool on one of its clients and returns what
// takes it back.
type canceller func(t *testing.T, s *session, p *program, arguments object) (cancel func())

// bySDK has the official Go client take a call back, as it does in its era: by
// notifications/cancelled, or by closing the stream.
func bySDK(t *testing.T, s *session, _ *program, arguments object) func() {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.try(ctx, "read_data", arguments)
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the call ended with %v", err)
		}
	})
	return cancel
}

// byClosing closes the stream of a modern client that can be asked, whose calls
// run apart from their requests.
func byClosing(t *testing.T, _ *session, p *program, arguments object) func() {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := modernly(ctx, web(t), p.url+"/mcp", `{"elicitation":{}}`, "read_data", arguments, nil)
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the call ended with %v", err)
		}
	})
	return cancel
}

// modernly makes one call of a tool as modern clients do, and returns what the
// response carries. more are members of its params.
func modernly(ctx context.Context, h *http.Client, url, capabilities, tool string, arguments object, more object, headers ...string) (*modernAnswer, error) {
	params := object{"name": tool, "arguments": arguments, "_meta": object{
		"io.modelcontextprotocol/protocolVersion":    "2026-07-28",
		"io.modelcontextprotocol/clientCapabilities": json.RawMessage(capabilities),
	}}
	for key, value := range more {
		params[key] = value
	}
	body, err := json.Marshal(object{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for _, header := range append([]string{"Content-Type: application/json", "Accept: application/json, text/event-stream",
		"MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: " + tool}, headers...) {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Add(name, value)
	}
	resp, err := h.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	if _, data, ok := bytes.Cut(body, []byte("data: {")); ok { // the one event of a stream
		body = append([]byte{'{'}, data...)
	}
	a := &modernAnswer{status: resp.StatusCode, body: string(body)}
	return a, json.Unmarshal(bytes.TrimSpace(body), a)
}

// A modernAnswer is what a modern client is answered.
type modernAnswer struct {
	status int
	body   string
	Error  *struct {
		Code    int
		Message string
	}
	Result struct {
		ResultType    string
		IsError       bool
		RequestState  string
		InputRequests map[string]struct {
			Method string
			Params json.RawMessage
		}
		StructuredContent answered
	}
}

// TestACancelledCallEndsItsStatement takes back a call whose statement would run
// for ever, in each way that there is. The database has one connection, which
// the next call gets.
func TestACancelledCallEndsItsStatement(t *testing.T) {
	for name, way := range map[string]struct {
		transport, version string
		cancel             canceller
	}{
		"legacy over HTTP, notifications/cancelled":              {"HTTP", versions[0], bySDK},
		"legacy over stdio, notifications/cancelled":             {"stdio", versions[0], bySDK},
		"modern over HTTP, the stream closed":                    {"HTTP", versions[1], bySDK},
		"modern over HTTP, the stream closed, with capabilities": {"HTTP", versions[1], byClosing},
		"modern over stdio, notifications/cancelled":             {"stdio", versions[1], bySDK},
	} {
		t.Run(name, func(t *testing.T) {
			onEngines(t, func(t *testing.T, b *base) {
				args := []string{"--config", configureDatabases(t, map[string]any{"shop": b.entry(t, oneConnection)}, nil)}
				var p *program
				var transport mcp.Transport
				if way.transport == "HTTP" {
					p = serveDB(t, args...)
					transport = overHTTP(t, p)
				} else {
					transport = transports["stdio"](t, args...)
				}
				s := open(t, transport, way.version, nil)
				cancel := way.cancel(t, s, p, object{"query": endless})
				runs(t, s, b)
				cancel()
				ends(t, s, b)
			})
		})
	}
}

// runs waits until the endless statement runs.
func runs(t *testing.T, s *session, b *base) {
	t.Helper()
	eventually(t, patience, "it does not run", func() bool {
		if b.running != nil {
			return b.running() > 0
		}
		return s.want(t, "database_info", object{}).Status == "busy"
	})
}

// ends waits until the endless statement has ended, and the connection that it
// ran on is of use again.
func ends(t *testing.T, s *session, b *base) {
	t.Helper()
	defer mcptest.Within(t, endsWithin)()
	began := time.Now()
	if b.running != nil {
		eventually(t, patience, "it runs on", func() bool { return b.running() == 0 })
	}
	if got := s.want(t, "read_data", object{"query": "SELECT count(*) FROM orders"}); string(got.Rows) != "[[5]]" {
		t.Errorf("then %s", got.raw)
	}
	t.Logf("ended, and the next call answered, in %v", time.Since(began))
}

// eventually waits until something holds.
func eventually(t *testing.T, within time.Duration, otherwise string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", within, otherwise)
		}
	}
}

// TestAStatementEndsWithTheProgram ends the program, as clients do that have
// started it. The end of its input alone ends nothing: what was asked before is
// answered.
func TestAStatementEndsWithTheProgram(t *testing.T) {
	onEngines(t, func(t *testing.T, b *base) {
		p := startChild(t, append([]string{"db"}, b.args(t)...)...)
		if _, err := io.WriteString(p.in, initializeBody+"\n"+`{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n"+
			`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"read_data","arguments":{"query":"`+endless+`"}}}`+"\n"); err != nil {
			t.Fatal(err)
		}
		if b.running == nil {
			p.await(t, &p.err, "database opened")
		} else {
			eventually(t, patience, "it does not run", func() bool { return b.running() > 0 })
		}
		ended := mcptest.Within(t, endsWithin)
		p.in.Close()
		p.stop()
		p.end(t)
		ended()
		if b.running != nil {
			defer mcptest.Within(t, endsWithin)()
			eventually(t, patience, "the statement runs on", func() bool { return b.running() == 0 })
		}
	})
}

// TestALegacyStreamThatClosesCancelsNothing holds what MCP 2025-11-25 says of it
// (basic/transports, "Sending Messages to the Server"); the statement's own time
// ends it.
func TestALegacyStreamThatClosesCancelsNothing(t *testing.T) {
	b := newPostgres(t)
	p := serve(t, "--config", configureDatabases(t, map[string]any{"shop": b.entry(t, object{"max_connections": 1, "timeout": "5s"})}, nil))
	s := open(t, overHTTP(t, p), versions[0], nil)
	c := connect(t, web(t), p.url+"/mcp")
	ctx, closeStream := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := c.request(ctx, "tools/call", object{"name": "read_data", "arguments": object{"query": endless}})
		ended <- err
	}()
	runs(t, s, b)
	closeStream()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
	eventually(t, patience, "it runs on", func() bool { return b.running() == 0 })
	s.want(t, "read_data", object{"query": "SELECT 1"})
	if _, metrics := get(t, p.url+"/metrics"); !strings.Contains(metrics, `mcpool_database_statements_total{database="shop",result="statement_timeout"} 1`) {
		t.Errorf("it did not end by its own time:\n%s", metrics)
	}
}

// TestCallTimeoutEndsTheStatement has mcpool serve give a call up.
func TestCallTimeoutEndsTheStatement(t *testing.T) {
	onEngines(t, func(t *testing.T, b *base) {
		p := serve(t, "--config", configureDatabases(t, map[string]any{"shop": b.entry(t, oneConnection)},
			object{"pool": object{"call_timeout": "3s"}}))
		for _, version := range versions {
			s := open(t, overHTTP(t, p), version, nil)
			ended := make(chan error, 1)
			go func() {
				_, err := s.try(t.Context(), "read_data", object{"query": endless})
				ended <- err
			}()
			runs(t, s, b)
			if err := <-ended; err == nil || !strings.Contains(err.Error(), "3s") {
				t.Errorf("%s: the call ended with %v", version, err)
			}
			ends(t, s, b)
		}
	})
}
