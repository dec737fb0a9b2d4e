package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
)

// A client is a legacy MCP client over HTTP, as plain as one can be: it tries
// nothing twice, so that what it sees is what the gateway said.
type client struct {
	http    *http.Client
	url     string
	session string
	ids     atomic.Int64
}

// connect opens a session at an endpoint.
func connect(t testing.TB, h *http.Client, url string) *client {
	t.Helper()
	c := &client{http: h, url: url}
	if _, err := c.request(t.Context(), "initialize", map[string]any{
		"protocolVersion": "2025-11-25",
		"capabilities":    map[string]any{},
		"clientInfo":      map[string]any{"name": "test", "version": "1"},
	}); err != nil {
		t.Fatal(err)
	}
	if c.session == "" {
		t.Fatal("there is no Mcp-Session-Id")
	}
	if _, err := c.post(t.Context(), map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"}); err != nil {
		t.Fatal(err)
	}
	return c
}

// request makes a request and returns its result. A JSON-RPC error is an error
// with its message.
func (c *client) request(ctx context.Context, method string, params any) (json.RawMessage, error) {
	id := c.ids.Add(1)
	body, err := c.post(ctx, map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	if err != nil {
		return nil, err
	}
	var answer struct {
		ID     int64
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	switch err := json.Unmarshal(body, &answer); {
	case err != nil:
		return nil, err
	case answer.Error != nil:
		return nil, fmt.Errorf("%s: %s", method, answer.Error.Message)
	case answer.ID != id:
		return nil, fmt.Errorf("%s with id %d was answered with %s", method, id, body)
	}
	return answer.Result, nil
}

// post sends a message and returns the body of the response.
func (c *client) post(ctx context.Context, message map[string]any) ([]byte, error) {
	body, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	if c.session != "" {
		r.Header.Set("Mcp-Session-Id", c.session)
		r.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
		return nil, fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
		c.session = id
	}
	return body, nil
}

// call calls a tool of mcptest for the call named id, and returns on which
// session of the server it ran. That the answer is that of another call is an
// error.
func (c *client) call(ctx context.Context, tool, id string) (session string, err error) {
	text := "the text of " + id
	raw, err := c.request(ctx, "tools/call", map[string]any{
		"name": tool, "arguments": map[string]any{"id": id, "text": text},
	})
	if err != nil {
		return "", err
	}
	var result struct {
		Content           []struct{ Text string }
		StructuredContent struct{ ID, Text, Session string }
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return "", err
	}
	got := result.StructuredContent
	if got.ID != id || got.Text != text || len(result.Content) != 1 || result.Content[0].Text != text {
		return "", fmt.Errorf("call %s was answered with %s", id, raw)
	}
	return got.Session, nil
}
