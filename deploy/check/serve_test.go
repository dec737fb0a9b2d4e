package check

import (
	"bufio"
	"context"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// serve starts the program on loopback as it is deployed, and compares how it
// answers /healthz and /readyz to those who call it by the names of statuses.
func (d deployment) serve(t *testing.T, statuses map[string]int) {
	t.Helper()
	cmd := d.command(t, "127.0.0.1:0")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", cmd, err)
		}
	}()
	base := ""
	for lines := bufio.NewScanner(out); base == "" && lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) == 2 && words[0] == "status" {
			base = strings.TrimSuffix(words[1], "/status")
		}
	}
	if base == "" {
		t.Fatalf("%s: it says no address", cmd)
	}
	for host, want := range statuses {
		for _, path := range []string{"/healthz", "/readyz"} {
			if got := status(t.Context(), t, base+path, host); got != want {
				t.Errorf("GET %s as %s: status %d, want %d", path, host, got, want)
			}
		}
	}
	if got := d.begin(t, base, ""); d.key != "" && got != http.StatusUnauthorized {
		t.Errorf("somebody without a key may call: status %d", got)
	}
	if got := d.begin(t, base, d.key); got != http.StatusOK {
		t.Errorf("who may call, may not: status %d", got)
	}
	if d.health != nil {
		health := exec.CommandContext(t.Context(), program, d.health...)
		health.Env = []string{"MCP_POOL_LISTEN=" + strings.TrimPrefix(base, "http://")}
		if out, err := health.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", health, err, out)
		}
	}
}

// begin begins a session with a key, "" for none, and returns the status.
func (d deployment) begin(t *testing.T, base, key string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/mcp", strings.NewReader(
		`{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "check", "version": "1"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// TestNothingListensWithoutAuthentication: what is shipped does not say the words.
func TestNothingListensWithoutAuthentication(t *testing.T) {
	read := 0
	err := filepath.WalkDir(deploy, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) == ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		if read++; strings.Contains(strings.ReplaceAll(strings.ToLower(string(text)), "_", "-"), "listen-without-authentication") {
			t.Errorf("%s listens without authentication", path)
		}
		return err
	})
	if err != nil || read < 10 {
		t.Errorf("%d files were read: %v", read, err)
	}
}

func status(ctx context.Context, t *testing.T, url, host string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}
