package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/serving"
)

// send makes a request whose headers are pairs; Host is one of them.
func send(t testing.TB, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := once.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}

const initializeBody = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"page","version":"1"}}}`

// TestOnlyListedHostsAndOriginsAreServed goes through the pages that there are
// with each Host and Origin: what a name of another's resolves to, and what a
// foreign page sends.
func TestOnlyListedHostsAndOriginsAreServed(t *testing.T) {
	plain := serve(t)
	listed := serve(t, "--allowed-hosts", "mcp.example.com, proxy.example.com:8443",
		"--allowed-origins", "https://app.example.com", "--allowed-origins=https://other.example.com")
	database := serveDB(t, "--dsn", "sample", "--allowed-hosts", "mcp.example.com,proxy.example.com:8443", "--allowed-origins", "https://app.example.com")

	for name, test := range map[string]struct {
		host, origin  string
		plain, listed int
	}{
		"neither":                    {"", "", 200, 200},
		"localhost":                  {"localhost", "", 200, 200},
		"a page of this machine":     {"", "http://localhost:3000", 200, 200},
		"a listed host":              {"mcp.example.com", "", 403, 200},
		"with a port":                {"mcp.example.com:7432", "", 403, 200},
		"a host and port":            {"proxy.example.com:8443", "", 403, 200},
		"a port that is not listed":  {"proxy.example.com:9999", "", 403, 403},
		"a host within a listed one": {"x.mcp.example.com", "", 403, 403},
		"a foreign host":             {"evil.example.com", "", 403, 403},
		"a listed origin":            {"", "https://app.example.com", 403, 200},
		"another":                    {"", "https://other.example.com", 403, 200},
		"its plain twin":             {"", "http://app.example.com", 403, 403},
		"a foreign origin":           {"", "https://evil.example.com", 403, 403},
		"no origin to speak of":      {"", "null", 403, 403},
		"a rebound name":             {"evil.example.com", "http://evil.example.com", 403, 403},
	} {
		headers := []string{"Content-Type", "application/json"}
		if test.host != "" {
			headers = append(headers, "Host", test.host)
		}
		if test.origin != "" {
			headers = append(headers, "Origin", test.origin)
		}
		check := func(p *program, method, path string, want int) {
			t.Helper()
			body := ""
			if method == http.MethodPost {
				body = initializeBody
			}
			resp := send(t, method, p.url+path, body, headers...)
			if resp.StatusCode != want {
				t.Errorf("%s: %s %s: status %d, want %d", name, method, path, resp.StatusCode, want)
			}
			if want == http.StatusOK && resp.Header.Get("Access-Control-Allow-Origin") != test.origin {
				t.Errorf("%s: %s is for %q", name, path, resp.Header.Get("Access-Control-Allow-Origin"))
			}
		}
		for _, path := range []string{"/mcp", "/mcp/sales"} {
			check(plain, http.MethodPost, path, test.plain)
			check(listed, http.MethodPost, path, test.listed)
		}
		for _, path := range []string{"/status", "/metrics", "/healthz", "/readyz"} {
			check(plain, http.MethodGet, path, test.plain)
			check(listed, http.MethodGet, path, test.listed)
		}
		if test.origin != "https://other.example.com" {
			check(database, http.MethodPost, "/mcp", test.listed)
		}
	}
}

func TestAPageOfAListedOriginCanBeAClient(t *testing.T) {
	p := serve(t, "--allowed-origins", "https://app.example.com")
	const origin = "https://app.example.com"
	resp := send(t, http.MethodOptions, p.url+"/mcp", "", "Origin", origin,
		"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,mcp-session-id,mcp-protocol-version")
	allowed := strings.ToLower(resp.Header.Get("Access-Control-Allow-Headers"))
	if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Origin") != origin ||
		!strings.Contains(resp.Header.Get("Access-Control-Allow-Methods"), "POST") ||
		!strings.Contains(allowed, "content-type") || !strings.Contains(allowed, "mcp-session-id") || !strings.Contains(allowed, "mcp-protocol-version") {
		t.Errorf("preflight: %d %v", resp.StatusCode, resp.Header)
	}
	resp = send(t, http.MethodPost, p.url+"/mcp", initializeBody, "Origin", origin, "Content-Type", "application/json")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Mcp-Session-Id") == "" ||
		resp.Header.Get("Access-Control-Expose-Headers") != "Mcp-Session-Id, WWW-Authenticate" {
		t.Errorf("initialize: %d %v", resp.StatusCode, resp.Header)
	}
}

func TestServeListensBeyondLoopbackWhenToldTo(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0"} {
		p := serve(t, "--listen", address, "--listen-without-authentication")
		_, port, err := net.SplitHostPort(strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if status, _ := get(t, "http://127.0.0.1:"+port+"/healthz"); status != http.StatusOK {
			t.Errorf("%s: status %d", address, status)
		}
		// A name that anyone can point here is still not ours.
		if resp := send(t, http.MethodGet, "http://127.0.0.1:"+port+"/status", "", "Host", "evil.example.com"); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: status %d for a foreign host", address, resp.StatusCode)
		}
	}
}

// TestSilentConnectionsDoNotHoldUpTheEnd has a client that connects and says
// nothing, as browsers do in advance: net/http alone would wait 5 s for it.
func TestSilentConnectionsDoNotHoldUpTheEnd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	accepted := make(chan struct{})
	drain := 4 * time.Second
	flags := &listenFlags{drainTimeout: &drain, called: newFlags(stdio{}, "serve", "").called}
	ended := make(chan error)
	go func() {
		ended <- serveUntil(ctx, &announcing{Listener: listener, accepted: accepted}, http.NotFoundHandler(), flags,
			slog.New(slog.DiscardHandler), func(context.Context, *serving.Server) error { return nil }, nothing)
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-accepted
	stop()
	if err := <-ended; err != nil {
		t.Errorf("did not end in time: %v", err)
	}
}

func nothing(context.Context) error { return nil }

// announcing says when the server wants its second connection: by then it has
// taken note of the first.
type announcing struct {
	net.Listener
	accepted chan struct{}
	asked    int
}

func (a *announcing) Accept() (net.Conn, error) {
	if a.asked++; a.asked == 2 {
		close(a.accepted)
	}
	return a.Listener.Accept()
}

func TestFlagsOfListeningWithoutListenAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"--listen", ""}, {"--allowed-hosts", "a"}, {"--drain-timeout", "1"}, {"--listen-without-authentication"},
	} {
		refusal{append([]string{"db", "--dsn", "sample"}, args...), 2, []string{args[0] + ": there is no --listen address"}}.check(t)
	}
}
