package main

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// TestHealthIsAskedWithoutAKey: what a container runs has none.
func TestHealthIsAskedWithoutAKey(t *testing.T) {
	_, line := issueKey(t, "ann")
	p := serve(t, "--auth-key-file", configure(t, "keys", "%s\n", line))
	t.Setenv("MCP_POOL_LISTEN", strings.TrimPrefix(p.url, "http://"))
	t.Setenv(tokenFileVariable, "no-such-file") // which is the gateway's, and a hash
	for _, args := range [][]string{{"health"}, {"health", "--url", p.url}} {
		if status, out, stderr := finish(t, args...); status != 0 || out != "ok\n" || stderr != "" {
			t.Errorf("%q: status %d, %q, %q", args, status, out, stderr)
		}
	}
}

// TestHealthOverTLS asks as the other commands do: who is trusted is the system's
// affair, which is told so by SSL_CERT_FILE.
func TestHealthOverTLS(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SSL_CERT_FILE is heeded on Unix, but for macOS")
	}
	_, line := issueKey(t, "ann")
	name, hash, _ := strings.Cut(line, ": ")
	s := serveTLS(t, fmt.Sprintf(`{"keys": [{"name": %q, "sha256": %q}]}`, name, hash))
	for _, test := range []struct {
		trusts string
		status int
		says   string
	}{
		{s.ca.CAFile(t), 0, "ok\n"}, {mcptest.NewAuthority(t).CAFile(t), 1, "hint: --url wants a name that its certificate is for, and SSL_CERT_FILE"},
	} {
		cmd := commandLine(t, "health", "--url", s.url)
		cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+test.trusts, "SSL_CERT_DIR="+t.TempDir())
		out, _ := cmd.CombinedOutput() // the status says how it ended
		if got := cmd.ProcessState.ExitCode(); got != test.status || !strings.Contains(string(out), test.says) {
			t.Errorf("trusting %s: status %d, %s", test.trusts, got, out)
		}
	}
	if status, _, stderr := finish(t, "health", "--url", strings.Replace(s.url, "https", "http", 1)); status != 1 || !strings.Contains(stderr, "hint: --url wants https://") {
		t.Errorf("without TLS: status %d, %s", status, stderr)
	}
}

// TestHealthIsNotWaitedForForLong asks what takes connections and says nothing.
func TestHealthIsNotWaitedForForLong(t *testing.T) {
	t.Parallel() // it is waited for
	listener, err := net.Listen("tcp", somewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	url := "http://" + listener.Addr().String()
	want := "mcpool: error: no answer of the gateway at " + url + " within 3s\nhint: it may be overloaded, or be something else: its log says more\n"
	if status, out, stderr := finish(t, "health", "--url", url); status != 1 || out != "" || stderr != want {
		t.Errorf("status %d, %q, %q", status, out, stderr)
	}
}

func TestTheGatewayIsLookedForWhereItListens(t *testing.T) {
	for listen, want := range map[string]string{
		"": "http://127.0.0.1:7432", "0.0.0.0:9000": "http://127.0.0.1:9000", ":9000": "http://127.0.0.1:9000", "[::]:9000": "http://127.0.0.1:9000",
		"[::1]:9000": "http://[::1]:9000", "10.1.2.3:80": "http://10.1.2.3:80", "127.0.0.1:0": "http://127.0.0.1:7432", "9000": "http://127.0.0.1:7432",
	} {
		t.Setenv("MCP_POOL_LISTEN", listen)
		if got := gatewayURL(); got != want {
			t.Errorf("listening at %q: %s, want %s", listen, got, want)
		}
	}
}
