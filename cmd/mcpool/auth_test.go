package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	sdkauth "github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// issueKey makes a key by the command, and returns it and its line of a key file.
func issueKey(t testing.TB, args ...string) (key, line string) {
	t.Helper()
	status, out, stderr := finish(t, append([]string{"key", "new"}, args...)...)
	key, line, ok := strings.Cut(strings.TrimSpace(out), "\n")
	if status != 0 || !ok || stderr != "" {
		t.Fatalf("status %d, %q, %q", status, out, stderr)
	}
	return key, line
}

// bearer returns an HTTP client that says who calls.
func bearer(t testing.TB, token string) *http.Client {
	h := web(t)
	h.Transport = bearing{h.Transport, token}
	return h
}

type bearing struct {
	http.RoundTripper
	token string
}

func (b bearing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(r)
}

// A closed world is a gateway that asks who calls: by the keys of ann, bob and
// the admin root, and by the tokens of an issuer, which need the scope mcp.
type closed struct {
	*program
	issuer         *mcptest.Issuer
	ann, bob, root string // keys
	keys           string // the file of them
}

// serveClosed starts one with the sample database, as the server sales. more is
// added to the file's auth, and args to the command line.
func serveClosed(t testing.TB, more string, args ...string) *closed {
	t.Helper()
	c := &closed{issuer: mcptest.NewIssuer(t), keys: filepath.Join(t.TempDir(), "keys")}
	lines := make([]string, 3)
	c.ann, lines[0] = issueKey(t, "ann")
	c.bob, lines[1] = issueKey(t, "bob")
	c.root, lines[2] = issueKey(t, "root", "--admin")
	if err := os.WriteFile(c.keys, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	c.program = serve(t, append([]string{"--listen", addr, "--config", configure(t, "mcp.json", `{
		"databases": {"sales": {"dsn": "sample"}}, "database_server": {"name": "sales"},
		"mcpServers": {"echo": {"url": %q}},
		"auth": {"url": "http://%s", "key_file": %q, "jwt": {"issuer": %q, "scopes": ["mcp"]} %s}
	}`, upstream(t, &mcptest.Server{}), addr, c.keys, c.issuer.URL, more)}, args...)...)
	return c
}

// begin sends initialize, with headers in pairs of a name and a value.
func (c *closed) begin(t testing.TB, path string, headers ...string) *http.Response {
	t.Helper()
	return sendAll(t, http.MethodPost, c.url+path, initializeBody, append([]string{"Content-Type", "application/json"}, headers...)...)
}

// sendAll is send, whose headers may be there more than once.
func sendAll(t testing.TB, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := once.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(strings.NewReader(string(text)))
	return resp
}

// TestWhoIsLetIn shows credentials of all kinds to a gateway, each over HTTP.
func TestWhoIsLetIn(t *testing.T) {
	c := serveClosed(t, "")
	type attempt struct {
		path    string // "" for /mcp
		headers []string
		status  int
		says    string // in WWW-Authenticate
	}
	attempts := map[string]attempt{
		"nobody":                 {status: 401, says: `Bearer realm="mcpool", scope="mcp", resource_metadata="` + c.url + `/.well-known/oauth-protected-resource/mcp"`},
		"nobody, at one server":  {path: "/mcp/sales", status: 401, says: `resource_metadata="` + c.url + `/.well-known/oauth-protected-resource/mcp/sales"`},
		"nobody, at no server":   {path: "/mcp/none", status: 401},
		"a key":                  {headers: []string{"Authorization", "Bearer " + c.ann}, status: 200},
		"a key, in lower case":   {headers: []string{"authorization", "bearer " + c.ann}, status: 200},
		"a key that is none":     {headers: []string{"Authorization", "Bearer " + c.ann + "x"}, status: 401, says: `error="invalid_token"`},
		"Basic":                  {headers: []string{"Authorization", "Basic " + c.ann}, status: 401},
		"two headers":            {headers: []string{"Authorization", "Bearer " + c.ann, "Authorization", "Bearer " + c.bob}, status: 400, says: `error="invalid_request"`},
		"two headers, one alike": {headers: []string{"Authorization", "Bearer " + c.ann, "Authorization", "Bearer " + c.ann}, status: 400},
		"in the URL":             {path: "/mcp?access_token=" + c.ann, status: 400, says: `error="invalid_request"`},
		"in the URL as well":     {path: "/mcp?access_token=" + c.ann, headers: []string{"Authorization", "Bearer " + c.ann}, status: 400},
		"oversized":              {headers: []string{"Authorization", "Bearer " + strings.Repeat("a", 20<<10)}, status: 431},
		"larger than headers":    {headers: []string{"Authorization", "Bearer " + strings.Repeat("a", 80<<10)}, status: 431},
	}
	for name, token := range c.issuer.Tokens(t, c.url+"/mcp") {
		attempts["token: "+name] = attempt{headers: []string{"Authorization", "Bearer " + token.Token}, status: token.Status, says: token.Says}
	}
	for name, a := range attempts {
		path := a.path
		if path == "" {
			path = "/mcp"
		}
		resp := c.begin(t, path, a.headers...)
		body, _ := io.ReadAll(resp.Body)
		challenge := resp.Header.Get("WWW-Authenticate")
		if resp.StatusCode != a.status || !strings.Contains(challenge, a.says) {
			t.Errorf("%s: status %d, %s, %s; want %d and %s", name, resp.StatusCode, challenge, body, a.status, a.says)
		}
		if said := string(body) + fmt.Sprint(resp.Header); a.status != 200 && len(a.headers) > 0 && strings.Contains(said, strings.TrimPrefix(a.headers[1], "Bearer ")) {
			t.Errorf("%s: the answer has what was sent: %s", name, said)
		}
	}
	if c.issuer.Looks() > 2 { // at the start, and once for ids that are unknown
		t.Errorf("the issuer was asked %d times for its keys", c.issuer.Looks())
	}
}

// TestNothingIsOfAnotherPrincipal takes what one principal has (a session, its
// stream, a stream of HTTP+SSE, a result's handle) and shows it as another.
func TestNothingIsOfAnotherPrincipal(t *testing.T) {
	c := serveClosed(t, "")
	ann := connect(t, bearer(t, c.ann), c.url+"/mcp")
	alice := connect(t, bearer(t, c.issuer.Token(t, c.url, nil)), c.url+"/mcp")
	for who, token := range map[string]string{"bob": c.bob, "root": c.root, "alice": c.issuer.Token(t, c.url, nil), "nobody": ""} {
		want := http.StatusNotFound
		if token == "" {
			want = http.StatusUnauthorized
		}
		for name, how := range map[string][]string{"call": {http.MethodPost}, "stream": {http.MethodGet, "Accept", "text/event-stream"}, "end": {http.MethodDelete}} {
			headers := append(how[1:len(how):len(how)], "Content-Type", "application/json", "Mcp-Session-Id", ann.session, "Mcp-Protocol-Version", "2025-11-25")
			if token != "" {
				headers = append(headers, "Authorization", "Bearer "+token)
			}
			resp := sendAll(t, how[0], c.url+"/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, headers...)
			if resp.StatusCode != want {
				t.Errorf("%s, %s: status %d, want %d", who, name, resp.StatusCode, want)
			}
		}
	}
	if _, err := ann.request(t.Context(), "tools/list", nil); err != nil {
		t.Errorf("her session has ended: %v", err)
	}
	// The same principal by a later token.
	alice.http = bearer(t, c.issuer.Token(t, c.url+"/mcp", map[string]any{"jti": "2"}))
	if _, err := alice.request(t.Context(), "tools/list", nil); err != nil {
		t.Errorf("a new token is not of the same principal: %v", err)
	}

	rows := map[string]any{"name": "sales__read_data", "arguments": map[string]any{"query": "SELECT * FROM sales", "limit": 5}}
	result, err := ann.request(t.Context(), "tools/call", rows)
	if err != nil {
		t.Fatal(err)
	}
	var page struct {
		StructuredContent struct {
			Handle string `json:"handle"`
		}
	}
	if err := json.Unmarshal(result, &page); err != nil || page.StructuredContent.Handle == "" {
		t.Fatalf("%s: %v", result, err)
	}
	next := map[string]any{"name": "sales__fetch_rows", "arguments": map[string]any{"handle": page.StructuredContent.Handle}}
	bob := connect(t, bearer(t, c.bob), c.url+"/mcp")
	if result, err := bob.request(t.Context(), "tools/call", next); err != nil || !strings.Contains(string(result), `"isError":true`) {
		t.Errorf("bob reads on with ann's handle: %s, %v", result, err)
	}
	if result, err := ann.request(t.Context(), "tools/call", next); err != nil || strings.Contains(string(result), `"isError":true`) {
		t.Errorf("ann reads on: %s, %v", result, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/sse", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := bearer(t, c.ann).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	head := make([]byte, 4<<10)
	n, err := resp.Body.Read(head)
	_, where, ok := strings.Cut(string(head[:n]), "data: ")
	if err != nil || !ok {
		t.Fatalf("%s: %v", head[:n], err)
	}
	for token, want := range map[string]int{c.bob: 404, c.ann: 202, "x": 401} {
		resp := sendAll(t, http.MethodPost, c.url+strings.TrimSpace(where), initializeBody, "Content-Type", "application/json", "Authorization", "Bearer "+token)
		if resp.StatusCode != want {
			t.Errorf("a message to her stream: status %d, want %d", resp.StatusCode, want)
		}
	}
}

// TestWhatPrincipalsMayDo has rules for principals over all transports.
func TestWhatPrincipalsMayDo(t *testing.T) {
	c := serveClosed(t, `, "principals": {
		"ann": {"allow": ["sales"], "deny_tools": ["*__read_*"]},
		"bob": {"deny": ["sales"]},
		"http*|alice": {"allow": ["none"]}
	}`)
	names := func(h *client) []string {
		t.Helper()
		result, err := h.request(t.Context(), "tools/list", map[string]any{})
		if err != nil {
			t.Fatal(err)
		}
		var list struct{ Tools []struct{ Name string } }
		if err := json.Unmarshal(result, &list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, tool := range list.Tools {
			names = append(names, tool.Name)
		}
		slices.Sort(names)
		return names
	}
	all := names(connect(t, bearer(t, c.root), c.url+"/mcp"))
	without := func(part string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return strings.Contains(name, part) })
	}
	ann, bob := connect(t, bearer(t, c.ann), c.url+"/mcp"), connect(t, bearer(t, c.bob), c.url+"/mcp")
	annWants := slices.DeleteFunc(without("echo__"), func(name string) bool { return name == "sales__read_data" })
	if got := names(ann); !slices.Equal(got, annWants) || len(all) < 8 {
		t.Errorf("ann is shown %q, want %q of %q", got, annWants, all)
	}
	if got := names(bob); !slices.Equal(got, without("sales__")) {
		t.Errorf("bob is shown %q, want %q", got, without("sales__"))
	}
	for name, call := range map[string]struct {
		who  *client
		tool string
		ok   bool
	}{
		"ann, a tool":          {ann, "sales__list_tables", true},
		"ann, a denied tool":   {ann, "sales__read_data", false},
		"ann, a denied server": {ann, "echo__echo", false},
		"bob, a tool":          {bob, "echo__echo", true},
		"bob, a denied server": {bob, "sales__list_tables", false},
	} {
		_, err := call.who.request(t.Context(), "tools/call", map[string]any{"name": call.tool, "arguments": map[string]any{"id": "1", "text": "a"}})
		if (err == nil) != call.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, test := range []struct {
		path, token string
		status      int
	}{
		{"/mcp/sales", c.ann, 200}, {"/mcp/echo", c.ann, 403}, {"/mcp/echo", c.bob, 200}, {"/mcp/sales", c.bob, 403},
		{"/mcp", c.issuer.Token(t, c.url, nil), 403}, {"/mcp/none", c.bob, 404},
	} {
		resp := c.begin(t, test.path, "Authorization", "Bearer "+test.token)
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != test.status || test.status == 404 && strings.Contains(string(body), "sales") {
			t.Errorf("%s: status %d, want %d: %s", test.path, resp.StatusCode, test.status, body)
		}
	}
	alone := connect(t, bearer(t, c.ann), c.url+"/mcp/sales")
	if got := names(alone); slices.Contains(got, "read_data") || !slices.Contains(got, "list_tables") {
		t.Errorf("at the server's own address ann is shown %q", got)
	}
	if _, err := alone.request(t.Context(), "tools/call", map[string]any{"name": "read_data", "arguments": map[string]any{"query": "select 1"}}); err == nil {
		t.Error("a denied tool is called by its own name")
	}
}

// modernCall is a call of a modern client.
func (c *closed) modernCall(t testing.TB, token, tool string) *http.Response {
	t.Helper()
	return sendAll(t, http.MethodPost, c.url+"/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":{"id":"1","text":"a"},
		"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}}}`, tool),
		"Content-Type", "application/json", "Accept", "application/json, text/event-stream", "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", tool,
		"Authorization", "Bearer "+token)
}

func TestRequestsOfAPrincipalAreBounded(t *testing.T) {
	c := serveClosed(t, `, "principals": {"ann": {"rate": 0.01, "burst": 2}}`)
	for i := range 2 {
		if resp := c.modernCall(t, c.ann, "echo__echo"); resp.StatusCode != 200 {
			body, _ := io.ReadAll(resp.Body)
			t.Fatalf("call %d: status %d: %s", i, resp.StatusCode, body)
		}
	}
	resp := c.modernCall(t, c.ann, "echo__echo")
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); resp.StatusCode != 429 || err != nil || seconds < 90 || seconds > 100 {
		t.Errorf("the third: status %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	// Legacy clients are told in the protocol, as some wait for ever otherwise.
	resp = c.begin(t, "/mcp", "Authorization", "Bearer "+c.ann)
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || !strings.Contains(string(body), `"error":{"code":-32603,"message":"too many requests of yours: the next may be made in `) {
		t.Errorf("legacy: status %d, %s", resp.StatusCode, body)
	}
	if resp := c.modernCall(t, c.bob, "echo__echo"); resp.StatusCode != 200 {
		t.Errorf("another: status %d", resp.StatusCode)
	}
}

func TestCallsOfAPrincipalUnderWayAreBounded(t *testing.T) {
	gate := newGate(t)
	_, line := issueKey(t, "x")
	ann, annLine := issueKey(t, "ann")
	bob, bobLine := issueKey(t, "bob")
	keys := configure(t, "keys", "%s\n%s\n%s\n", line, annLine, bobLine)
	p := serve(t, "--config", configure(t, "mcp.json", `{"mcpServers": {"one": {"url": %q}},
		"auth": {"key_file": %q, "principals": {"ann": {"max_calls": 1}}}}`, upstream(t, &mcptest.Server{Fault: gate.fault}), keys))
	c := &closed{program: p}
	first := make(chan int)
	go func() { first <- c.modernCall(t, ann, "echo").StatusCode }()
	gate.await(t)
	if resp := c.modernCall(t, ann, "echo"); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the second: status %d, %v", resp.StatusCode, resp.Header)
	}
	other := make(chan int)
	go func() { other <- c.modernCall(t, bob, "echo").StatusCode }()
	gate.await(t)
	gate.open()
	if a, b := <-first, <-other; a != 200 || b != 200 {
		t.Errorf("status %d and %d", a, b)
	}
}

// TestPagesBesideTheGatewayAreForAdmins: what is beside the endpoints says what
// all do.
func TestPagesBesideTheGatewayAreForAdmins(t *testing.T) {
	c := serveClosed(t, "")
	for path, want := range map[string][3]int{ // for nobody, ann and root
		"/status": {401, 403, 200}, "/metrics": {401, 403, 200}, "/": {200, 200, 200}, "/admin/v1/pools": {401, 403, 200}, "/no-such-page": {401, 403, 404}, "//status": {401, 403, 0},
		"/healthz": {200, 200, 200}, "/readyz": {200, 200, 200},
		"/.well-known/oauth-protected-resource/mcp": {200, 200, 200}, "/.well-known/oauth-protected-resource/x": {404, 404, 404},
	} {
		for i, token := range []string{"", c.ann, c.root} {
			var headers []string
			if token != "" {
				headers = []string{"Authorization", "Bearer " + token}
			}
			if want[i] == 0 {
				continue
			}
			if resp := sendAll(t, http.MethodGet, c.url+path, "", headers...); resp.StatusCode != want[i] {
				t.Errorf("%s of %q: status %d, want %d", path, token, resp.StatusCode, want[i])
			}
		}
	}
}

// TestAKeyThatIsTakenOutIsRefused edits the file of a gateway that runs.
func TestAKeyThatIsTakenOutIsRefused(t *testing.T) {
	c := serveClosed(t, "")
	is := func(token string) int { return c.begin(t, "/mcp", "Authorization", "Bearer "+token).StatusCode }
	if is(c.ann) != 200 {
		t.Fatal("the key is not taken")
	}
	text, err := os.ReadFile(c.keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.keys, []byte(strings.Replace(string(text), "ann:", "# ann:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	awaitTrue(t, "the key is still taken", func() bool { return is(c.ann) == 401 })
	if is(c.bob) != 200 {
		t.Error("another key is not taken any more")
	}
}

// TestAKeyThatIsTakenOutEndsItsStreams has all kinds of streams open by two keys,
// and one of them taken out of the file.
func TestAKeyThatIsTakenOutEndsItsStreams(t *testing.T) {
	c := serveClosed(t, "")
	kinds := []string{"session", "subscription", "HTTP+SSE", "events"}
	open := func(kind, token string) *http.Response {
		t.Helper()
		method, path, body := http.MethodGet, "/mcp", ""
		headers := []string{"Accept", "text/event-stream"}
		switch kind {
		case "session":
			headers = append(headers, "Mcp-Session-Id", connect(t, bearer(t, token), c.url+"/mcp").session, "Mcp-Protocol-Version", "2025-11-25")
		case "subscription":
			method = http.MethodPost
			body = `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},
				"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}}}`
			headers = append(headers, "Content-Type", "application/json", "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "subscriptions/listen")
		case "events":
			path = "/admin/v1/events"
		}
		r, err := http.NewRequestWithContext(t.Context(), method, c.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := bearer(t, token).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d", kind, resp.StatusCode)
		}
		return resp
	}
	stays, staying := open("subscription", c.ann), make(chan struct{})
	go func() {
		defer close(staying)
		_, _ = io.Copy(io.Discard, stays.Body)
	}()
	ended := make(chan string, len(kinds))
	for _, kind := range kinds {
		resp := open(kind, c.root)
		go func() {
			_, _ = io.Copy(io.Discard, resp.Body) // it may be broken off
			ended <- kind
		}()
	}
	text, err := os.ReadFile(c.keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.keys, []byte(strings.Replace(string(text), "root:", "# root:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	late := time.After(patience)
	for range kinds {
		select {
		case kind := <-ended:
			kinds[slices.Index(kinds, kind)] = "-"
		case <-staying:
			t.Fatal("the stream of another key has ended")
		case <-late:
			t.Fatalf("streams of a key that is taken out are open: %v", kinds)
		}
	}
	select {
	case <-staying:
		t.Error("the stream of another key has ended")
	default:
	}
}

// TestProgramsOfOursSayWhoTheyAre: tools, call, and serve --stdio that joins.
func TestProgramsOfOursSayWhoTheyAre(t *testing.T) {
	c := serveClosed(t, "")
	file := configure(t, "key", "%s\n", c.ann)
	query := []string{"call", "sales__read_data", `{"query": "select count(*) from sales"}`, "--url", c.url}
	if status, out, _ := finish(t, append(query, "--key-file", file)...); status != 0 || !strings.Contains(out, "50000") {
		t.Errorf("with a file: status %d, %s", status, out)
	}
	status, _, stderr := finish(t, query...)
	if status != 1 || !strings.Contains(stderr, "401") {
		t.Errorf("without a key: status %d, %s", status, stderr)
	}
	if status, _, stderr := finish(t, append(query, "--key-file", "no-such-file")...); status != 1 || !strings.Contains(stderr, "no such file") {
		t.Errorf("with a file that is not there: status %d, %s", status, stderr)
	}
	t.Run("environment", func(t *testing.T) {
		t.Setenv("MCPOOL_KEY", c.bob)
		if names := toolNames(t, "--url", c.url); !slices.Contains(names, "echo__echo") {
			t.Errorf("listed %q", names)
		}
	})
	addr := strings.TrimPrefix(c.url, "http://")
	d := startDesktop(t, addr, "--key-file", file)
	d.begin(t)
	d.callWell(t, "echo__echo", "1")
	d.onlyFrames(t)
	stranger := startDesktop(t, addr)
	stranger.want = 1
	stranger.await(t, &stranger.err, "the gateway asks who calls: its key is missing, or is not taken: status 401\nhint: --key-file or MCPOOL_KEY has it")
}

// TestClientsCanLogIn has the official Go client find out by itself where to log
// in, and come back with a token (RFC 9728; MCP authorization of both eras).
func TestClientsCanLogIn(t *testing.T) {
	for _, version := range versions {
		for _, path := range []string{"/mcp", "/mcp/sales"} {
			t.Run(version+path, func(t *testing.T) {
				c := serveClosed(t, "")
				h := web(t)
				logins := 0
				handler, err := sdkauth.NewAuthorizationCodeHandler(&sdkauth.AuthorizationCodeHandlerConfig{
					PreregisteredClient: &oauthex.ClientCredentials{ClientID: "test"},
					RedirectURL:         "http://127.0.0.1/back", Client: h,
					AuthorizationCodeFetcher: func(ctx context.Context, args *sdkauth.AuthorizationArgs) (*sdkauth.AuthorizationResult, error) {
						logins++
						r, err := http.NewRequestWithContext(ctx, http.MethodGet, args.URL, nil)
						if err != nil {
							return nil, err
						}
						resp, err := h.Transport.RoundTrip(r) // and does not follow
						if err != nil {
							return nil, err
						}
						resp.Body.Close()
						back, err := url.Parse(resp.Header.Get("Location"))
						if err != nil {
							return nil, err
						}
						return &sdkauth.AuthorizationResult{Code: back.Query().Get("code"), State: back.Query().Get("state")}, nil
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				transport := &mcp.StreamableClientTransport{Endpoint: c.url + path, HTTPClient: h, OAuthHandler: handler}
				session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).
					Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
				if err != nil {
					t.Fatal(err)
				}
				defer session.Close()
				list, err := session.ListTools(t.Context(), nil)
				if err != nil || len(list.Tools) == 0 || logins != 1 {
					t.Errorf("listed %v, %v, after %d logins", list, err, logins)
				}
			})
		}
	}
}

// TestCredentialsAreNotInWhatServeShows sends keys and tokens, good and bad, in
// all ways, and looks for them in all that comes out.
func TestCredentialsAreNotInWhatServeShows(t *testing.T) {
	c := serveClosed(t, "", "--log-level", "debug")
	secrets := map[string]string{"key": c.ann, "no key": "mcpool_hunter2-0f3c", "token": c.issuer.Token(t, c.url, nil), "admin": c.root}
	for name, token := range c.issuer.Tokens(t, c.url+"/mcp") {
		secrets[name] = token.Token
	}
	var said strings.Builder
	note := func(resp *http.Response) {
		_ = resp.Header.Write(&said)
		_, _ = io.Copy(&said, resp.Body)
	}
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		secret := secrets[name]
		for _, path := range []string{"/mcp", "/mcp/" + secret, "/mcp?access_token=" + secret, "/sse"} {
			note(c.begin(t, path, "Authorization", "Bearer "+secret))
			note(c.begin(t, path, "Authorization", "Bearer "+secret, "Authorization", secret))
			note(c.begin(t, path, "Authorization", secret))
			note(c.begin(t, path, "Authorization", "Bearer "+secret+"!"))
		}
		for _, page := range []string{"/status", "/metrics", "/healthz"} {
			note(sendAll(t, http.MethodGet, c.url+page, "", "Authorization", "Bearer "+secret))
		}
	}
	note(sendAll(t, http.MethodGet, c.url+"/status", "", "Authorization", "Bearer "+c.root))
	c.stop()
	c.end(t)
	said.WriteString(c.out.String() + c.err.String())
	for name, secret := range secrets {
		// The path that was asked for is told, to those alone who are let in.
		if text := strings.ReplaceAll(said.String(), "/mcp/"+secret, ""); len(secret) > 10 && strings.Contains(text, secret) {
			t.Errorf("%s is told: %s", name, text)
		}
	}
}

// awaitTrue waits until something is so.
func awaitTrue(t testing.TB, otherwise string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(otherwise)
		}
	}
}
