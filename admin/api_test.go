package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A spec is the OpenAPI file.
type spec struct {
	Paths      map[string]map[string]operation
	Components struct {
		Schemas   map[string]any
		Responses map[string]response
	}
}

type operation struct {
	Responses map[string]response
}

type response struct {
	Ref     string `json:"$ref"`
	Content map[string]struct{ Schema json.RawMessage }
}

func readSpec(t testing.TB) *spec {
	t.Helper()
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, err = yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	s := &spec{}
	if err := json.Unmarshal(text, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// schema returns a schema that can be used by itself.
func (s *spec) schema(t testing.TB, of json.RawMessage) *jsonschema.Resolved {
	t.Helper()
	text, err := json.Marshal(map[string]any{"$defs": s.Components.Schemas, "allOf": []any{of}})
	if err != nil {
		t.Fatal(err)
	}
	schema := &jsonschema.Schema{}
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), "#/components/schemas/", "#/$defs/")), schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// find returns what the file says of the answer to a request.
func (s *spec) find(t testing.TB, method, path string, status int) response {
	t.Helper()
	for template, operations := range s.Paths {
		pattern := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(regexp.QuoteMeta(template), "[^/]+")
		pattern = regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(pattern, "[^/]+")
		if !regexp.MustCompile("^" + pattern + "$").MatchString(path) {
			continue
		}
		r, known := operations[strings.ToLower(method)].Responses[fmt.Sprint(status)]
		if !known {
			t.Errorf("%s %s: the file has no status %d", method, path, status)
		}
		if name, is := strings.CutPrefix(r.Ref, "#/components/responses/"); is {
			r = s.Components.Responses[name]
		}
		return r
	}
	t.Errorf("%s %s: the file has no such path", method, path)
	return response{}
}

func TestRoutesAreThoseOfTheOpenAPIFile(t *testing.T) {
	routes, s := admin.Routes(), readSpec(t)
	for path, operations := range s.Paths {
		for method := range operations {
			if routes[path] != strings.ToUpper(method) {
				t.Errorf("the file has %s %s, which is not served", method, path)
			}
		}
	}
	for path, method := range routes {
		if _, there := s.Paths[path][strings.ToLower(method)]; !there || len(s.Paths[path]) != 1 {
			t.Errorf("%s %s is served, and the file does not have it alone", method, path)
		}
	}
}

// A plane is an admin that is served, whose every answer is held to the
// OpenAPI file.
type plane struct {
	t       testing.TB
	url     string
	spec    *spec
	headers []string
	seen    map[string]bool // "GET /admin/v1/pools 200"
}

func newPlane(t testing.TB, options admin.Options) *plane {
	t.Helper()
	a := admin.New(options)
	ctx, stop := context.WithCancel(context.Background())
	sampled := make(chan struct{})
	go func() { defer close(sampled); a.Run(ctx) }()
	server := httptest.NewServer(a)
	t.Cleanup(func() {
		stop()
		<-sampled
		server.Close()
	})
	return &plane{t, server.URL, readSpec(t), []string{"X-Mcpool-Admin", "1"}, map[string]bool{}}
}

// ask makes a request and returns what it is answered, if that has the status.
func (p *plane) ask(method, path string, status int, headers ...string) map[string]any {
	p.t.Helper()
	r, err := http.NewRequest(method, p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	headers = append(p.headers, headers...)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if answer.StatusCode != status {
		p.t.Errorf("%s %s: status %d, want %d: %s", method, path, answer.StatusCode, status, body)
	}
	path, _, _ = strings.Cut(path, "?")
	p.seen[fmt.Sprint(method, " ", path, " ", answer.StatusCode)] = true
	var value map[string]any
	if kind := answer.Header.Get("Content-Type"); kind == "application/json" {
		p.hold(p.spec.find(p.t, method, path, answer.StatusCode).Content[kind].Schema, body)
		_ = json.Unmarshal(body, &value)
	}
	return value
}

// hold checks a value against a schema.
func (p *plane) hold(schema json.RawMessage, body []byte) {
	p.t.Helper()
	if schema == nil {
		p.t.Errorf("the file has no schema for %s", body)
		return
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		p.t.Errorf("%v: %s", err, body)
	}
	if err := p.spec.schema(p.t, schema).Validate(value); err != nil {
		p.t.Errorf("%v: %s", err, body)
	}
}

// refused checks that an answer says why, and what to do.
func (p *plane) refused(method, path string, status int, says string, headers ...string) {
	p.t.Helper()
	e, _ := p.ask(method, path, status, headers...)["error"].(map[string]any)
	if !strings.Contains(fmt.Sprint(e["message"]), says) || e["hint"] == "" {
		p.t.Errorf("%s %s: got %v, want %q and a hint", method, path, e, says)
	}
}

// TestEveryAnswerIsAsTheOpenAPIFileSays makes each request of the API, of a
// gateway with all that it can show.
func TestEveryAnswerIsAsTheOpenAPIFileSays(t *testing.T) {
	busy, unused := busyPool(t), newPool(t, "unused", make(server))
	gone := errors.New("https://a.example: connection refused")
	away := newPool(t, "away", away{gone})
	away.Do(t.Context(), rpc.Call{Method: "x"})
	arrived := &lister{arrived: make(chan struct{}), free: make(chan struct{})}
	g, err := gateway.New([]gateway.Server{{Name: "up", Handler: arrived}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := g.NewClient(t.Context(), "me")
	var reload error
	p := newPlane(t, admin.Options{
		Version: "v1", Pools: func() []*mcpool.Pool { return []*mcpool.Pool{busy, unused, away} }, Gateway: g, Local: true,
		Settings: func() []admin.Setting { return []admin.Setting{{"busy", "max_connections", "6", "default"}} },
		Reload:   func(context.Context) error { return reload },
	})

	p.ask("GET", "/admin/v1/pools", 200)
	p.ask("GET", "/admin/v1/connections", 200)
	p.ask("GET", "/admin/v1/connections?server=*", 200)
	if got := p.ask("GET", "/admin/v1/connections?server=unused", 200)["connections"]; len(got.([]any)) != 0 {
		t.Errorf("got %v", got)
	}
	p.refused("GET", "/admin/v1/connections?server=nobody", 404, `there is no server "nobody"`)
	story := p.ask("GET", "/admin/v1/connections/busy-1", 200)
	if len(story["story"].([]any)) < 3 || story["calls"] != 3.0 || story["server"] != "busy" {
		t.Errorf("got %v", story)
	}
	p.refused("GET", "/admin/v1/connections/busy-9", 404, `there is no connection "busy-9"`)
	if got := p.ask("GET", "/admin/v1/clients", 200)["clients"].([]any); len(got) != 1 || got[0].(map[string]any)["principal"] != "me" {
		t.Errorf("got %v", got)
	}
	p.ask("GET", "/admin/v1/servers", 200)
	p.ask("GET", "/admin/v1/stats", 200)
	p.ask("GET", "/admin/v1/config", 200)
	p.ask("GET", "/admin/v1/waits", 200)
	p.ask("GET", "/admin/v1/history", 200)
	p.ask("GET", "/admin/v1/history?server=busy&seconds=60", 200)
	p.refused("GET", "/admin/v1/history?seconds=ever", 400, `seconds is "ever"`)
	p.refused("GET", "/admin/v1/history?seconds=3601", 400, `seconds is "3601"`)
	p.refused("GET", "/admin/v1/history?server=nobody", 404, `there is no server "nobody"`)
	p.ask("GET", "/admin/v1/openapi.yaml", 200)
	p.events()

	for _, verb := range []string{"pause", "resume", "reset", "drain"} {
		done := p.ask("POST", "/admin/v1/pools/unused/"+verb, 200)
		if pools := done["pools"].([]any); len(pools) != 1 || pools[0].(map[string]any)["paused"] != (verb == "pause") {
			t.Errorf("%s: %v", verb, done)
		}
		p.refused("POST", "/admin/v1/pools/nobody/"+verb, 404, `there is no server "nobody"`)
	}
	p.refused("POST", "/admin/v1/pools/busy/pause?timeout_seconds=0.05", 504, "calls are still in flight")
	if done := p.ask("POST", "/admin/v1/pools/*/resume", 200); len(done["pools"].([]any)) != 3 || busy.Stats().Paused {
		t.Errorf("got %v", done)
	}
	p.refused("POST", "/admin/v1/pools/busy/drain?timeout_seconds=50ms", 504, "draining pool busy")
	for _, timeout := range []string{"0", "-1", "3601", "long"} {
		p.refused("POST", "/admin/v1/pools/busy/pause?timeout_seconds="+timeout, 400, "timeout_seconds is")
		p.refused("POST", "/admin/v1/pools/busy/drain?timeout_seconds="+timeout, 400, "timeout_seconds is")
	}
	paused := make(chan struct{})
	go func() {
		defer close(paused)
		p.refused("POST", "/admin/v1/pools/busy/pause", 409, "resumed")
	}()
	for !busy.Stats().Paused {
		select {
		case <-paused:
			t.Fatal("it is not paused")
		default:
		}
	}
	busy.Resume()
	<-paused
	p.refused("POST", "/admin/v1/connections/busy-9/kill", 404, `there is no connection "busy-9"`)
	if got := p.ask("POST", "/admin/v1/connections/busy-1/kill", 200); got["calls"] != 1.0 {
		t.Errorf("got %v", got)
	}
	if got := p.ask("POST", "/admin/v1/reload", 200); got["ok"] != true {
		t.Errorf("got %v", got)
	}
	reload = errors.New("mcp.json:3: no")
	p.refused("POST", "/admin/v1/reload", 422, "mcp.json:3: no")

	for path, method := range admin.Routes() {
		path = strings.NewReplacer("{id}", "busy-1", "{server}", "unused").Replace(path)
		if !p.seen[method+" "+path+" 200"] {
			t.Errorf("%s %s was not tried", method, path)
		}
	}
	client.Close()
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// away is a server that is not there.
type away struct{ error }

func (a away) Do(context.Context, rpc.Call) (rpc.Answer, error) { return rpc.Answer{}, a.error }

// events holds the first event to the file.
func (p *plane) events() {
	p.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	r, _ := http.NewRequestWithContext(ctx, "GET", p.url+"/admin/v1/events", nil)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	if kind := answer.Header.Get("Content-Type"); kind != "text/event-stream" || answer.StatusCode != 200 {
		p.t.Fatalf("%d %s", answer.StatusCode, kind)
	}
	lines := bufio.NewReader(answer.Body)
	event, _ := lines.ReadString('\n')
	data, _ := lines.ReadString('\n')
	end, _ := lines.ReadString('\n')
	data, is := strings.CutPrefix(data, "data: ")
	if event != "event: state\n" || !is || end != "\n" {
		p.t.Fatalf("got %q %q %q", event, data, end)
	}
	p.hold(json.RawMessage(`{"$ref":"#/components/schemas/State"}`), []byte(data))
	p.seen["GET /admin/v1/events 200"] = true
}

func TestWhatThereIsNotIsRefused(t *testing.T) {
	a := admin.New(admin.Options{Local: true})
	for _, test := range []struct {
		method, path string
		status       int
		allow, says  string
	}{
		{"GET", "/admin/v1/", 404, "", "there is nothing at /admin/v1/"},
		{"GET", "/admin/v1/pools/x", 404, "", "there is nothing at"},
		{"GET", "/admin/v1/nonsense", 404, "", "there is nothing at"},
		{"POST", "/admin/v1/pools", 405, "GET", "POST is not served at"},
		{"DELETE", "/admin/v1/connections/x-1", 405, "GET", "DELETE is not served at"},
		{"GET", "/admin/v1/pools/x/pause", 405, "POST", "GET is not served at"},
		{"GET", "/admin/v1/reload", 405, "POST", "GET is not served at"},
		{"PUT", "/admin/v1/connections/x-1/kill", 405, "POST", "PUT is not served at"},
		{"POST", "/admin/v1/reload", 501, "", "this gateway cannot reload its configuration"},
		{"HEAD", "/admin/v1/pools", 200, "", ""},
		{"HEAD", "/admin/v1/events", 200, "", ""},
	} {
		w := access(a, test.method, test.path, "X-Mcpool-Admin", "1")
		if w.Code != test.status || w.Header().Get("Allow") != test.allow || !strings.Contains(w.Body.String(), test.says) {
			t.Errorf("%s %s: %d %s %s, want %d %s %s", test.method, test.path, w.Code, w.Header().Get("Allow"), w.Body, test.status, test.allow, test.says)
		}
		if w.Code >= 400 && !strings.Contains(w.Body.String(), `"hint":"`) {
			t.Errorf("%s %s: no hint in %s", test.method, test.path, w.Body)
		}
	}
}

// access makes a request from this machine. headers are pairs, of which Host and
// Peer are what they say.
func access(h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Host, r.RemoteAddr = "127.0.0.1:7432", "127.0.0.1:50000"
	for i := 0; i < len(headers); i += 2 {
		switch name, value := headers[i], headers[i+1]; name {
		case "Host":
			r.Host = value
		case "Peer":
			r.RemoteAddr = value
		default:
			r.Header.Add(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
