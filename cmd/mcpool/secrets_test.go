package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
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

// secrets are those that a program is fed with, by where: of each place one of its
// own, to say which it was.
type secrets map[string]string

func (s secrets) feed(place string) string {
	secret := fmt.Sprintf("hunter2-%d-s3cret", len(s))
	s[place] = secret
	return secret
}

// configuration has secrets wherever one can be.
func (s secrets) configuration(t *testing.T) string {
	t.Helper()
	told := func(w http.ResponseWriter, r *http.Request) { // servers that tell all they were told
		http.Error(w, fmt.Sprint("no: ", r.Header, r.URL), http.StatusUnauthorized)
	}
	chatty := &mcptest.Server{Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
		told(w, r)
		return true
	}}
	works := &mcptest.Server{}
	tokenFile := configure(t, "token", "%s", s.feed("the file of a token"))
	passwordFile := configure(t, "password", "%s", s.feed("the file of a password"))
	envFile := configure(t, "env", "KEY=%s\n", s.feed("the file of an environment"))
	t.Setenv("MCPOOL_TEST_SECRET", s.feed("a variable"))
	t.Setenv("MCPOOL_TEST_BEARER", s.feed("the variable of a token"))
	key := strings.Repeat("5ec2e7", 11)[:64]
	s["the key of sessions"] = key
	t.Setenv("MCP_POOL_GATEWAY_SESSION_KEY", key)
	return fmt.Sprintf(`{"mcpServers": {
		"works": {"url": "%s?key=%s", "headers": {"X-Key": "${MCPOOL_TEST_SECRET}"}},
		"chatty": {"url": "%s?key=%s", "headers": {"X-Key": "%s"}},
		"env": {"url": %q, "auth": {"bearer_env": "MCPOOL_TEST_BEARER"}},
		"file": {"url": %q, "auth": {"bearer_file": %q}},
		"login": {"url": %q, "auth": {"client_id": "a", "client_secret": %q}},
		"user": {"url": "http://me:%s@%s/"},
		"dead": {"command": %q, "args": ["--token", %q, "--header", "Authorization: Bearer %s", "-k", %q, "--header=X-Mine:%s", "-HX-Mine: %s", "-e", "MINE=%s", "%s"], "env": {"KEY": %q, "MCPTEST_CHILD": "dead"}, "envFile": %q},
		"shell": {"command": "/bin/sh", "args": ["-c", "echo $KEY >&2; echo $KEY; exit 1"], "env": {"KEY": %q}}
	}, "databases": {
		"a": {"dsn": "postgres://me:%s@%s/db?connect_timeout=1"},
		"b": {"dsn": "mysql://me@%s/db", "password_file": %q}
	}, "pool": {"connection_timeout": "300ms"}}`,
		upstream(t, works), s.feed("the query of a url"), upstream(t, chatty), s.feed("the query of a url that fails"), s.feed("a header"),
		upstream(t, chatty), upstream(t, chatty), tokenFile, upstream(t, chatty), s.feed("a client's secret"),
		s.feed("the user of a url"), freeAddr(t), testBinary(t), s.feed("an argument"), s.feed("a header in an argument"), s.feed("an argument behind -k"), s.feed("a header behind ="), s.feed("a header behind -H"),
		s.feed("a variable in an argument"), s.feed("an argument alone")+"-of-a-length", s.feed("an environment"), envFile, s.feed("what a child says"),
		s.feed("a DSN"), freeAddr(t), freeAddr(t), passwordFile)
}

// A confidant is a client that sends secrets, and notes all that it is told.
type confidant struct {
	url                             string
	argument, header, bearer, query string
	told                            strings.Builder
}

// ask makes a request.
func (c *confidant) ask(t *testing.T, verb, path, tool, body string) {
	t.Helper()
	method := "tools/call"
	if tool == "" {
		method = "tools/list"
	}
	r, err := http.NewRequestWithContext(t.Context(), verb, c.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "X-Key": c.header,
		"Authorization": "Bearer " + c.bearer, "Cookie": "a=" + c.header, "X-Request-Id": c.header + " no id",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": tool} {
		r.Header.Set(name, value)
	}
	resp, err := once.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_ = resp.Header.Write(&c.told) // to a Builder
	if _, err := io.Copy(&c.told, resp.Body); err != nil {
		t.Fatal(err)
	}
}

// askAll makes requests of each kind. path is one that nothing is served at.
func (c *confidant) askAll(t *testing.T, path string) {
	t.Helper()
	callBody := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"id":"1","text":"x","password":%q},`+
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`, c.argument)
	for _, server := range []string{"works", "chatty", "env", "file", "login", "user", "dead", "shell", "db", path} {
		c.ask(t, "POST", "/mcp/"+server+"?token="+c.query, "echo", callBody)
	}
	for _, database := range []string{"a", "b"} {
		c.ask(t, "POST", "/mcp/db", "read_data", strings.NewReplacer(`"echo"`, `"read_data"`, `"id":"1","text":"x","password"`, `"database":"`+database+`","query"`, c.argument, "SELECT '"+c.argument+"'").Replace(callBody))
	}
	c.ask(t, "POST", "/mcp", "", strings.Replace(callBody, "tools/call", "tools/list", 1))
	c.ask(t, "POST", "/mcp/works", "echo", callBody[:len(callBody)-9]) // half of one
	for _, page := range []string{"/status", "/metrics", "/readyz", "/healthz", "/admin/v1/config", "/admin/v1/servers", "/" + path, "/mcp/" + path} {
		c.ask(t, "GET", page, "", "")
	}
}

// run runs commands on a configuration with secrets, and where no gateway is any
// more.
func (c *confidant) run(t *testing.T, fed secrets, file, text string) {
	t.Helper()
	// Of a client there may be more: what is refused, what is written in other
	// ways, and what stands beside it.
	client := configure(t, "client.json", `{
		"apiKey": "%s", // "token": "%s"
		"mcpServers": {"slashed": {"url": "https://a", "headers": {"X": "\/%s"}}, %s`,
		fed.feed("a key beside the servers"), fed.feed("a comment"), fed.feed("an escape"), strings.TrimPrefix(text, `{"mcpServers": {`))
	_, dry, stderr := finish(t, "import", "--rewrite", "--from", "cursor="+client)
	if !strings.Contains(dry, "Nothing was written") || !strings.Contains(dry, "Cursor: dead is taken") {
		t.Errorf("the import says\n%s%s", dry, stderr)
	}
	c.told.WriteString(dry + stderr)
	client = configure(t, "client.json", `{"mcpServers": {"typed": {"url": "https://a", "type": %q}}}`, fed.feed("a type"))
	if _, dry, stderr = finish(t, "import", "--from", "cursor="+client); !strings.Contains(dry, `Cursor: typed stays: type: value "***"`) {
		t.Errorf("the import says\n%s%s", dry, stderr)
	}
	c.told.WriteString(dry + stderr)
	_, stdout, stderr := finish(t, "doctor", "--config", file, "--timeout", "5s")
	if !strings.Contains(stdout, "chatty") || !strings.Contains(stdout, "database a") {
		t.Errorf("doctor says\n%s%s", stdout, stderr)
	}
	c.told.WriteString(stdout + stderr)
	for _, args := range [][]string{{"serve", "--check", "--config", file}, {"call", "echo", fmt.Sprintf(`{"a": %q}`, c.argument), "--url", c.url}} {
		_, stdout, stderr := finish(t, args...)
		c.told.WriteString(stdout + stderr)
	}
}

// TestSecretsAreInNothingThatComesOut feeds secrets wherever there is a place for
// one, has all of it work and fail, be reloaded and be refused, and looks for them
// in all that comes out.
func TestSecretsAreInNothingThatComesOut(t *testing.T) {
	fed := secrets{}
	text := fed.configuration(t)
	file := configure(t, "mcp.json", "%s", text)
	p := serve(t, "--log-level", "debug", "--log-access", "all", "--log-format", "json", "--config", file)
	c := &confidant{url: p.url, argument: fed.feed("an argument of a tool"), header: fed.feed("a client's header"),
		bearer: fed.feed("a client's token"), query: fed.feed("the query of a client")}
	const ownPath = "a path" // which its client is told again, and nobody else
	c.askAll(t, fed.feed(ownPath))
	// Reloaded, first wrongly and then with other secrets.
	for _, next := range []string{
		strings.Replace(text, `"pool": {"connection_timeout": "300ms"}`, fmt.Sprintf(`"pool": {"connection_timeout": "${MCPOOL_TEST_SECRET}"}, %q: 1`, "x"), 1),
		strings.Replace(text, "dead", "dead2", 1),
	} {
		if err := os.WriteFile(file, []byte(next), 0o600); err != nil {
			t.Fatal(err)
		}
		p.await(t, &p.err, map[bool]string{true: "nothing has changed", false: "configuration reloaded"}[strings.Contains(next, `"x": 1`)])
	}
	c.ask(t, "GET", "/status", "", "")
	for _, what := range shown() {
		_, stdout, stderr := finish(t, "show", what, "--url", c.url)
		c.told.WriteString(stdout + stderr)
	}
	p.stop()
	p.end(t)
	c.run(t, fed, file, text)
	logged, told := p.out.String()+p.err.String(), c.told.String()
	for place, secret := range fed {
		if strings.Contains(logged, secret) {
			t.Errorf("%s is in the log", place)
			for line := range strings.Lines(logged) {
				if strings.Contains(line, secret) {
					t.Logf("%.400s", line)
				}
			}
		}
		if at := strings.Index(told, secret); at >= 0 && place != ownPath {
			t.Errorf("%s is told: …%s…", place, told[max(0, at-200):min(len(told), at+60)])
		}
	}
	for _, want := range []string{"nothing is served", "request_id", "DATABASE_UNREACHABLE", `"tools":[`} { // the test does what it says
		if !strings.Contains(told+logged, want) {
			t.Errorf("nothing says %s", want)
		}
	}
}
