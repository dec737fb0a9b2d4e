package main

import (
	"bytes"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// curl runs curl, and nothing of its user's settings, and returns the head and
// the body of the response.
func curl(t *testing.T, args ...string) (head http.Header, body string) {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{
		"--disable", "--noproxy", "*", "--silent", "--show-error", "--fail-with-body", "--max-time", "30", "--include",
		"-H", "Content-Type: application/json", "-H", "Accept: application/json, text/event-stream",
	}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("curl %q: %v\n%s%s", args, err, out, &stderr)
	}
	lines, body, _ := strings.Cut(string(out), "\r\n\r\n")
	head = http.Header{}
	for line := range strings.SplitSeq(lines, "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			head.Add(name, value)
		}
	}
	return head, body
}

const (
	query = `{"name":"read_data","arguments":{"query":"select customer_id, name, loyalty_number from customers where customer_id in (3, 41)"}`
	// The second number is above 2^53, where JSON's readers begin to round.
	rows = `"rows":[[3,"Łukasz 李","9007199257741002"],[41,"Siobhán Nguyễn",null]]`
)

func TestCurlIsALegacyClient(t *testing.T) {
	p := serve(t)
	head, body := curl(t, p.url+"/mcp", "-d", initializeBody)
	session := head.Get("Mcp-Session-Id")
	if session == "" || !strings.Contains(body, `"protocolVersion":"2025-11-25"`) {
		t.Fatalf("initialize: %v %s", head, body)
	}
	in := []string{p.url + "/mcp", "-H", "Mcp-Session-Id: " + session, "-d"}
	if _, body := curl(t, append(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)...); body != "" {
		t.Errorf("initialized: %s", body)
	}
	if _, body := curl(t, append(in, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":`+query+`}}`)...); !strings.Contains(body, rows) {
		t.Errorf("tools/call: %s", body)
	}
}

func TestCurlIsAModernClient(t *testing.T) {
	p := serve(t)
	_, body := curl(t, p.url+"/mcp",
		"-H", "MCP-Protocol-Version: 2026-07-28", "-H", "Mcp-Method: tools/call", "-H", "Mcp-Name: read_data",
		"-d", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":`+query+`,"_meta":{`+
			`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`)
	if !strings.Contains(body, rows) {
		t.Errorf("tools/call: %s", body)
	}
}
