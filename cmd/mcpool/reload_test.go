package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// TestReloadTakesWhoMayCall replaces keys, rights, the admin token and settings
// while the gateway runs, by the command and by the API.
func TestReloadTakesWhoMayCall(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ann, lineOfAnn := issueKey(t, "ann")
	bob, lineOfBob := issueKey(t, "bob")
	root, lineOfRoot := issueKey(t, "root", "--admin")
	before := write("before", lineOfAnn+"\n"+lineOfRoot)
	after := write("after", lineOfBob+"\n"+lineOfRoot)
	write("token-of-root", root)
	one, two := upstream(t, &mcptest.Server{}), upstream(t, &mcptest.Server{})
	config := func(servers, keys, more string) string {
		return fmt.Sprintf(`{"mcpServers": {%s}, "auth": {"key_file": %q %s}}`, servers, keys, more)
	}
	file := write("mcp.json", config(fmt.Sprintf(`"one": {"url": %q}`, one), before, ""))
	p := serve(t, "--config", file)
	begin := func(path, key string) int {
		return sendAll(t, http.MethodPost, p.url+path, initializeBody, "Content-Type", "application/json", "Authorization", "Bearer "+key).StatusCode
	}
	if got := begin("/mcp/one", ann); got != http.StatusOK {
		t.Fatalf("ann: status %d", got)
	}

	write("mcp.json", config(fmt.Sprintf(`"one": {"url": %q}, "two": {"url": %q}`, one, two), after, `, "principals": {"bob": {"deny": ["two"]}}`))
	if status, out, stderr := finish(t, "reload", "--url", p.url, "--token-file", filepath.Join(dir, "token-of-root")); status != 0 || out != "reloaded\n" {
		t.Fatalf("status %d, %q, %q", status, out, stderr)
	}
	for _, test := range []struct {
		path, key string
		want      int
	}{
		{"/mcp/one", ann, 401}, {"/mcp/one", bob, 200}, {"/mcp/two", bob, 403}, {"/mcp/two", root, 200}, {"/mcp", bob, 200},
	} {
		if got := begin(test.path, test.key); got != test.want {
			t.Errorf("%+v: status %d", test, got)
		}
	}
	admin := func(method, path string) (int, string) {
		resp := sendAll(t, method, p.url+path, "", "Authorization", "Bearer "+root)
		var body json.RawMessage
		_ = json.NewDecoder(resp.Body).Decode(&body)
		return resp.StatusCode, string(body)
	}
	if _, pools := admin("GET", "/admin/v1/pools"); !strings.Contains(pools, `"server":"two"`) {
		t.Errorf("the API shows %s", pools)
	}
	if _, settings := admin("GET", "/admin/v1/config"); !strings.Contains(settings, `"two"`) {
		t.Errorf("the API shows %s", settings)
	}

	// What is wrong changes nothing.
	write("mcp.json", config(fmt.Sprintf(`"one": {"url": %q}`, one), filepath.Join(dir, "none"), ""))
	if status, body := admin("POST", "/admin/v1/reload"); status != http.StatusUnprocessableEntity || !strings.Contains(body, "nothing has changed") {
		t.Errorf("status %d, %s", status, body)
	}
	if got := begin("/mcp/two", root); got != http.StatusOK {
		t.Errorf("after one that was wrong: status %d", got)
	}

	// Whether it is asked who calls stays.
	write("mcp.json", fmt.Sprintf(`{"mcpServers": {"one": {"url": %q}}}`, one))
	if status, body := admin("POST", "/admin/v1/reload"); status != http.StatusOK {
		t.Errorf("status %d, %s", status, body)
	}
	p.await(t, &p.err, "needs a restart")
	if got := begin("/mcp/one", ann); got != http.StatusUnauthorized {
		t.Errorf("ann: status %d", got)
	}
	if _, settings := admin("GET", "/admin/v1/config"); !strings.Contains(settings, fmt.Sprintf(`"name":"auth_key_file","value":%q`, after)) {
		t.Errorf("what is in force is shown as %s", settings)
	}
}

// TestReloadTakesTheAdminToken gives a gateway a token, another one, and none.
func TestReloadTakesTheAdminToken(t *testing.T) {
	dir := t.TempDir()
	file, token := filepath.Join(dir, "mcp.json"), filepath.Join(dir, "token")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := fmt.Sprintf(`"mcpServers": {"one": {"url": %q}}`, upstream(t, &mcptest.Server{}))
	write(file, "{"+server+"}")
	p := serve(t, "--config", file)
	get := func(token string) int {
		return sendAll(t, http.MethodGet, p.url+"/admin/v1/pools", "", "Authorization", "Bearer "+token).StatusCode
	}
	first, second := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	for _, test := range []struct{ conf, token, good, bad string }{
		{`, "admin": {"token_file": "token"}`, first, first, second},
		{`, "admin": {"token_file": "token"}`, second, second, first},
		{``, second, "", second},
	} {
		write(token, test.token)
		write(file, "{"+server+test.conf+"}")
		if status, out, stderr := finish(t, "reload", "--url", p.url); status != 0 {
			t.Fatalf("status %d, %q, %q", status, out, stderr)
		}
		if test.good != "" && get(test.good) != http.StatusOK {
			t.Errorf("%+v: the token is not taken", test)
		}
		if got := get(test.bad); got != http.StatusUnauthorized {
			t.Errorf("%+v: status %d", test, got)
		}
	}
}

// TestReloadTakesTheFilesOfTLS has handshakes made with other files, and a
// process that systemd watches answer itself over TLS.
func TestReloadTakesTheFilesOfTLS(t *testing.T) {
	s := &secured{ca: mcptest.NewAuthority(t)}
	dir := t.TempDir()
	file := filepath.Join(dir, "mcp.json")
	configure := func(name string) {
		mcptest.WritePair(t, s.ca.Issue(t, name, nil), filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
		text := fmt.Sprintf(`{"databases": {"sales": {"dsn": "sample"}}, "tls": {"cert_file": "%s.pem", "key_file": "%[1]s.key"}}`, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("first")
	s.program = start(t, "serve", "--listen", somewhere, "--config", file)
	s.url = s.await(t, &s.out, `(?s)MCP +(https://\S+)/mcp\n.*  try .*\n`)
	addr, err := net.ResolveTCPAddr("tcp", strings.TrimPrefix(s.url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	if err := answers(t.Context(), "https", addr); err != nil {
		t.Error(err)
	}
	named := func(want string) {
		t.Helper()
		_, state, err := s.begin(t, &tls.Config{}, nil)
		if err != nil || state.PeerCertificates[0].Subject.CommonName != want {
			t.Errorf("want %s: %v, %v", want, state, err)
		}
	}
	named("first")
	configure("second")
	s.await(t, &s.err, "configuration reloaded")
	named("second")
}
