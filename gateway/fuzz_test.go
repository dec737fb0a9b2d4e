package gateway

import (
	"bytes"
	"context"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/seal"
	"github.com/mcpool-dev/mcpool/rpc"
)

// FuzzHTTP sends anything, with any method and headers: the gateway never
// panics, and what it answers is JSON-RPC, or nothing with a status that says
// so.
func FuzzHTTP(f *testing.F) {
	asks := handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		asking, cancel := context.WithCancel(ctx)
		cancel() // nobody is there to answer
		_, _ = call.Events.Ask(asking, "elicitation/create", nil)
		return demo(ctx, call)
	})
	one := newGateway(f, nil, Server{Name: "one", Handler: asks, Allow: []string{"e*"}})
	two := newGateway(f, nil, Server{Name: "one", Handler: asks}, Server{Name: "two", Handler: notifies(1)})
	f.Cleanup(func() {
		for _, g := range []*Gateway{one, two} {
			if err := g.Close(context.Background()); err != nil {
				f.Error(err)
			}
		}
	})
	session := initialize(f, two, "/mcp")
	// A stream that can be come back to.
	w := open(f, two, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":1},"name":"two__a"}}`, "Mcp-Session-Id", session)
	event, _ := w.next()
	w.rest()
	const both = "application/json, text/event-stream"
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + meta + `}}`,
		`{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"one__echo","arguments":{"a":[1,2]},` + canElicit("1") + `}}`,
		`{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"one__echo","requestState":"mcpool.x","inputResponses":{"1":{}},` + canElicit("1") + `}}`,
		`{"jsonrpc":"2.0","id":1e5,"method":"tools/call","params":{"_meta":{"progressToken":1},"name":"two__\u0061"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{"url":{}}}}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"one+x:y"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"one__p"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{},"_meta":{ }}}`,
		`{"jsonrpc":"2.0","id":"a-1","result":{}}`,
		`[{}]`, `{`, ``,
	} {
		for _, version := range []string{"", "2025-11-25", "2026-07-28", "v9"} {
			f.Add("POST", body, "/mcp", version, "tools/call", "one__echo", session, both, "")
		}
		f.Add("POST", body, "/mcp/two", "2026-07-28", "tools/list", "=?base64?eA==?=", "x", "text/event-stream", "")
	}
	for _, last := range []string{"", event, event + "9", "x-1", event[:len(event)-1] + "9223372036854775807"} {
		f.Add("GET", "", "/mcp", "2025-11-25", "", "", session, "text/event-stream", last)
	}
	f.Add("GET", "", "/sse", "", "", "", "", "text/event-stream", "")
	f.Add("POST", `{}`, "/mcp?sessionId=x", "", "", "", "", both, "")
	f.Add("DELETE", "", "/mcp", "", "", "", "x", both, "")
	f.Add("OPTIONS", "", "/mcp", "", "", "", "", "", "")
	statuses := []int{200, 202, 204, 400, 401, 403, 404, 405, 406, 413, 415}
	f.Fuzz(func(t *testing.T, method, body, target, version, mcpMethod, name, session, accept, last string) {
		if u, err := url.ParseRequestURI(target); err != nil || !strings.HasPrefix(target, "/") || u.Host != "" || strings.ContainsAny(target, " \r\n") {
			target = "/mcp"
		}
		if !slices.Contains([]string{"GET", "POST", "DELETE", "PUT", "OPTIONS", "HEAD"}, method) {
			method = "POST"
		}
		for _, g := range []*Gateway{one, two} {
			w := open(t, g, method, target, body, "MCP-Protocol-Version", version, "Mcp-Method", mcpMethod, "Mcp-Name", name,
				"Mcp-Session-Id", session, "Accept", accept, "Last-Event-ID", last)
			<-w.begun
			time.AfterFunc(100*time.Millisecond, w.leave) // some streams would not end
			var events []string
			for event := range w.events {
				events = append(events, event)
			}
			r := w.body()
			if r.status == 0 {
				continue // the client left
			}
			if !slices.Contains(statuses, r.status) {
				t.Fatalf("got %s", r)
			}
			if r.header.Get("Content-Type") == "text/event-stream" {
				for i, event := range events {
					at := strings.Index(event, "data: ")
					if at < 0 || strings.HasPrefix(event, "event: endpoint\n") {
						continue
					}
					msg, err := jsonrpc.Parse([]byte(event[at+len("data: "):]))
					if err != nil || method == "POST" && w.whole && msg.IsResponse() != (i == len(events)-1) {
						t.Fatalf("event %q: %v", event, err)
					}
				}
				continue
			}
			if r.body == "" {
				if r.status != 202 && r.status != 204 {
					t.Fatalf("got %s", r)
				}
				continue
			}
			if msg, err := jsonrpc.Parse([]byte(r.body)); err != nil || !msg.IsResponse() {
				t.Fatalf("got %s: %v", r, err)
			}
		}
	})
}

// FuzzStdio sends any lines: each that comes back is JSON-RPC, and it ends.
func FuzzStdio(f *testing.F) {
	for _, lines := range []string{
		stdioInitialize + "\n" + `{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n" + legacyCall,
		stdioInitialize + "\r\n\n" + `{"jsonrpc":"2.0","id":0,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo",` + canElicit("1") + `}}` + "\n" + `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
		`{"jsonrpc":"2.0","id":"l","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},` + meta + `}}`,
		`{"jsonrpc":"2.0","id":"a-1","result":{}}` + "\n[]\n{\nnull\n" + strings.Repeat("x", 5000),
		"\xff\x00\n",
	} {
		f.Add([]byte(lines))
	}
	f.Fuzz(func(t *testing.T, lines []byte) {
		g := newGateway(t, &Options{MaxBody: 4096}, Server{Name: "one", Handler: handler(demo)}, Server{Name: "two", Handler: notifies(2)})
		var out bytes.Buffer
		if err := g.ServeStdio(t.Context(), bytes.NewReader(lines), &out); err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(out.Bytes()) {
			if _, err := jsonrpc.Parse(line); err != nil || line[len(line)-1] != '\n' {
				t.Fatalf("line %q: %v", line, err)
			}
		}
		if n := bytes.Count(out.Bytes(), []byte(`"error"`)) + bytes.Count(out.Bytes(), []byte(`"result"`)); n > bytes.Count(lines, []byte("\n"))+1 {
			t.Fatalf("%d answers to %q: %s", n, lines, out.Bytes())
		}
		closed(t, g)
	})
}

// FuzzSealed opens any text: what was not sealed here is not read.
func FuzzSealed(f *testing.F) {
	s := seal.New(bytes.Repeat([]byte("k"), KeySize))
	until := time.Now().Add(24 * time.Hour)
	mine := s.Seal(until, "b", "a", "b", "c\x00d")
	f.Add(mine, "b", 3)
	f.Add(mine, "c", 3)
	f.Add(mine+"A", "b", 3)
	f.Add("", "", 0)
	f.Fuzz(func(t *testing.T, text, bound string, fields int) {
		said, _, ok := s.Open(text, bound, min(max(fields, 1), 10))
		if !ok {
			return
		}
		if bound != "b" || !slices.Equal(said, strings.SplitN("a\x00b\x00c\x00d", "\x00", len(said))) {
			t.Fatalf("%q opens for %q: it says %q", text, bound, said)
		}
	})
}

// FuzzEventID reads any event id, and serves a stream from there.
func FuzzEventID(f *testing.F) {
	for _, id := range []string{"", "s-0", "s-3", "s-9223372036854775807", "s--1", "s-+1", "-", "s-99999999999999999999", "s-1-2"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, event string) {
		stream, n := readEventID(event)
		if n < 0 || n+1 < 0 || stream != "" && !strings.HasPrefix(event, stream+"-") {
			t.Fatalf("%q is event %d of %q", event, n, stream)
		}
		s := newStream("s")
		for range 3 {
			s.send([]byte("{}"))
		}
		s.end()
		w := httptest.NewRecorder()
		if err := s.serve(t.Context(), w, n+1); err != nil || strings.Count(w.Body.String(), "data: ") != max(0, 3-(n+1)) {
			t.Fatalf("%q: %v, %s", event, err, w.Body)
		}
	})
}
