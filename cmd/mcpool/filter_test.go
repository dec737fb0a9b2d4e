package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestToolsAreServedAsTheFileSays(t *testing.T) {
	server := &mcptest.Server{}
	url := upstream(t, server)
	const servers = `"mcpServers": {
		"a": {"url": %[1]q, "allow": ["echo", "p*"], "deny": ["progress"]},
		"b": {"url": %[1]q, "allow": ["ask"]}}`
	for prefix, want := range map[string][]string{
		"auto":   {"a__echo", "a__put", "b__ask"},
		"always": {"a__echo", "a__put", "b__ask"},
		"never":  {"echo", "put", "ask"},
	} {
		p := serve(t, "--config", configure(t, "mcp.json", "{"+servers+`, "gateway": {"prefix": "`+prefix+`"}}`, url))
		if got := toolNames(t, "--url", p.url); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", prefix, got, want)
		}
		for tool, says := range map[string]string{"progress": `unknown tool "progress"`, "write": `unknown tool "write"`} {
			if status, _, stderr := finish(t, "call", tool, "--server", "a", "--url", p.url); status != 1 || !strings.Contains(stderr, says) {
				t.Errorf("%s: status %d, %s", tool, status, stderr)
			}
		}
	}
	one := configure(t, "mcp.json", `{"mcpServers": {"a": {"url": %q, "allow": ["echo"]}}}`, url)
	if got := toolNames(t, "--url", serve(t, "--config", one).url); !slices.Equal(got, []string{"echo"}) {
		t.Errorf("one server: got %q", got)
	}
	if got := toolNames(t, "--url", serve(t, "--config", one, "--gateway-prefix", "always").url); !slices.Equal(got, []string{"a__echo"}) {
		t.Errorf("one server, always: got %q", got)
	}
	if n := len(server.Executions()); n != 0 {
		t.Errorf("%d calls ran", n)
	}
}

func TestCallsBeyondTheFilesLimitsAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ server, gateway, says string }{
		"of a server":    {`, "max_calls": 1`, "", "one: 1 calls are under way, and no more are taken (max_calls)"},
		"of a principal": {"", `, "gateway": {"max_calls_per_principal": 1}`, "1 calls of yours are under way, and no more are taken (max_calls_per_principal)"},
	} {
		t.Run(name, func(t *testing.T) {
			gate, server := newGate(t), &mcptest.Server{}
			server.Fault = gate.fault
			p := serve(t, "--config", configure(t, "mcp.json", `{"mcpServers": {"one": {"url": %q`+test.server+`}}`+test.gateway+"}", upstream(t, server)))
			c := connect(t, web(t), p.url+"/mcp")
			first := make(chan error, 1)
			go func() {
				_, err := c.call(t.Context(), "echo", "first")
				first <- err
			}()
			gate.await(t)
			if _, err := c.call(t.Context(), "echo", "second"); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the second: %v", err)
			}
			gate.open()
			if err := <-first; err != nil {
				t.Errorf("the first: %v", err)
			}
		})
	}
}
