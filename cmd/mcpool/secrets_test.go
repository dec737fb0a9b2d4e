package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// secret is what no output may have.
const secret = "hunter2-0f3c"

func TestSecretsAreNotInWhatARefusalSays(t *testing.T) {
	t.Setenv("MCPOOL_TEST_SECRET", secret)
	const header = `"headers": {"Authorization": "Bearer ${MCPOOL_TEST_SECRET}"}`
	for name, config := range map[string]string{
		"an unknown key beside it": `{"mcpServers": {"a": {"url": "https://a", "nope": 1, ` + header + `}}}`,
		"headers of a command":     `{"mcpServers": {"a": {"command": "b", ` + header + `}}}`,
		"a header's line break":    `{"mcpServers": {"a": {"url": "https://a", "headers": {"X": "${MCPOOL_TEST_SECRET}\n"}}}}`,
		"a URL without a host":     `{"mcpServers": {"a": {"url": "https:///?key=${MCPOOL_TEST_SECRET}"}}}`,
		"a URL that is none":       `{"mcpServers": {"a": {"url": "https://me:${MCPOOL_TEST_SECRET}@[::/"}}}`,
		"a URL with a fragment":    `{"mcpServers": {"a": {"url": "https://a/#${MCPOOL_TEST_SECRET}", "command": "b"}}}`,
		"a database of elsewhere":  `{"databases": {"a": {"dsn": "oracle://me:${MCPOOL_TEST_SECRET}@db/a"}}}`,
		"a parameter of a DSN":     `{"databases": {"a": {"dsn": "file:a.db?_auth_pass=${MCPOOL_TEST_SECRET}"}}}`,
		"a path in a DSN":          `{"databases": {"a": {"dsn": "file:%zz${MCPOOL_TEST_SECRET}"}}}`,
		"an env file":              `{"mcpServers": {"a": {"command": "b", "envFile": "${MCPOOL_TEST_SECRET}"}}}`,
		"a setting":                `{"mcpServers": {"a": {"url": "https://a"}}, "pool": {"max_connections": "${MCPOOL_TEST_SECRET}"}}`,
		"a type":                   `{"mcpServers": {"a": {"url": "https://a", "type": "${MCPOOL_TEST_SECRET}"}}}`,
		"an auth of two ways":      `{"mcpServers": {"a": {"url": "https://a", "auth": {"bearer_file": "${MCPOOL_TEST_SECRET}", "client_id": "b", "client_secret": "${MCPOOL_TEST_SECRET}"}}}}`,
		"an auth's issuer":         `{"mcpServers": {"a": {"url": "https://a", "auth": {"client_id": "b", "client_secret": "${MCPOOL_TEST_SECRET}", "issuer": "http://${MCPOOL_TEST_SECRET}"}}}}`,
		"a variable":               `{"mcpServers": {"a": {"url": "https://a", "headers": {"X": "${MCPOOL_TEST_SECRET} ${MCPOOL_TEST_NOT_SET}"}}}}`,
		"an environment variable":  `{"mcpServers": {"a": {"command": "b", "env": {"A=B": "${MCPOOL_TEST_SECRET}"}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			status, out, stderr := finish(t, "serve", "--check", "--config", configure(t, "mcp.json", "%s", config))
			if status == 0 {
				t.Error("it was not refused")
			}
			if strings.Contains(out+stderr, secret) {
				t.Errorf("it prints %s%s", out, stderr)
			}
		})
	}
	for _, dsn := range []string{"oracle://me:" + secret + "@db/sales", "postgres://me:" + secret + "@db:x/sales",
		"mysql://me:" + secret + "@db/sales?x=1", "mysql://me:" + secret + "@db:x/sales", "sqlserver://me:" + secret + "@db?x=1", "file:a.db?key=" + secret, "file://" + secret + "/a.db"} {
		if status, out, stderr := finish(t, "db", "--dsn", dsn); status == 0 || strings.Contains(out+stderr, secret) {
			t.Errorf("%s: status %d, %s%s", dsn, status, out, stderr)
		}
	}
}

// TestSecretsAreNotInWhatServeShows has a gateway do all it can with servers
// whose configuration has a secret, working or not.
func TestSecretsAreNotInWhatServeShows(t *testing.T) {
	t.Setenv("MCPOOL_TEST_SECRET", secret)
	refuses := &mcptest.Server{Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
		http.Error(w, "go away", http.StatusUnauthorized)
		return true
	}}
	var got string
	works := &mcptest.Server{Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
		if method == "tools/call" {
			got = r.Header.Get("X-Key") + " " + r.URL.RawQuery
		}
		return false
	}}
	key := `"headers": {"X-Key": "${MCPOOL_TEST_SECRET}"}`
	query := "?key=${MCPOOL_TEST_SECRET}"
	const sessionKey, token = "5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4", "t0ken-of-the-admin"
	t.Setenv("MCP_POOL_GATEWAY_SESSION_KEY", sessionKey)
	p := serve(t, "--admin-token-file", configure(t, "token", token), "--log-level", "debug", "--connection-timeout", "200ms", "--config", configure(t, "mcp.json", `{"mcpServers": {
		"works": {"url": %q, "pool": {"connection_timeout": "30s"}, %s},
		"refuses": {"url": %q, %s},
		"down": {"url": "http://me:${MCPOOL_TEST_SECRET}@%s/%s", %s},
		"missing": {"command": "no-such-command", "args": ["${MCPOOL_TEST_SECRET}"], "env": {"KEY": "${MCPOOL_TEST_SECRET}"}},
		"dead": {"command": %q, "args": ["${MCPOOL_TEST_SECRET}"], "env": {"KEY": "${MCPOOL_TEST_SECRET}", "MCPTEST_CHILD": "dead"}}
	}}`, upstream(t, works)+query, key, upstream(t, refuses)+query, key, freeAddr(t), query, key, testBinary(t)))
	c := connect(t, web(t), p.url+"/mcp")
	for _, server := range []string{"works", "refuses", "down", "missing", "dead"} {
		_, err := c.call(t.Context(), server+"__echo", server)
		if (err == nil) != (server == "works") {
			t.Errorf("%s: %v", server, err)
		}
		if strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("%s: the client is told %v", server, err)
		}
	}
	if want := secret + " key=" + secret; got != want {
		t.Errorf("the server that works got %q, want %q", got, want)
	}
	pages := []string{"/status", "/metrics", "/readyz", "/no-such-page"}
	for _, what := range append(shown(), "history", "connections/works-1", "connections/dead-1", "no-such-page") {
		pages = append(pages, "/admin/v1/"+what)
	}
	for _, page := range pages {
		_, body := get(t, p.url+page)
		for _, text := range []string{secret, c.session, sessionKey, token} {
			if strings.Contains(body, text) {
				t.Errorf("%s shows %s: %s", page, text, body)
			}
		}
	}
	if _, body := get(t, p.url+"/admin/v1/config"); !strings.Contains(body, `"name":"gateway_session_key","value":"***"`) {
		t.Errorf("that there is a key is not shown: %s", body)
	}
	if _, body := get(t, p.url+"/admin/v1/servers"); strings.Count(body, `"error":"`) != 4 {
		t.Errorf("not all troubles are shown: %s", body)
	}
	p.stop()
	p.end(t)
	if says := p.out.String() + p.err.String(); strings.Contains(says, secret) || strings.Contains(says, sessionKey) || strings.Contains(says, token) {
		t.Errorf("it prints %s", says)
	}
}
