package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// toolNames are the tools that mcpool tools prints.
func toolNames(t *testing.T, args ...string) []string {
	t.Helper()
	status, out, stderr := finish(t, append([]string{"tools"}, args...)...)
	if status != 0 || strings.Contains(stderr, "error") {
		t.Fatalf("tools %q: status %d, %s", args, status, stderr)
	}
	var names []string
	for line := range strings.Lines(out) {
		names = append(names, strings.Fields(line)[0])
	}
	return names
}

// TestServersOfAFileAreServed serves an HTTP server, a child process and a
// database, from both kinds of file, each at all of its names.
func TestServersOfAFileAreServed(t *testing.T) {
	web, w := &mcptest.Server{}, newWitness(t)
	url, child := upstream(t, web), w.child(mcptest.Normal)
	t.Setenv("MCPOOL_TEST_URL", url)
	for name, file := range map[string]string{
		"mcp.json": configure(t, "mcp.json", `{
			// as clients have it
			"mcpServers": {
				"web": {"url": "${MCPOOL_TEST_URL}"},
				"My Child": %s,
			},
			"databases": {"sales": {"dsn": "sample"}}, "database_server": {"name": "sales"},
		}`, child),
		"mcp.yaml": configure(t, "mcp.yaml", "mcpServers:\n  web:\n    url: ${env:MCPOOL_TEST_URL}\n"+
			"  My Child: %s\ndatabases:\n  sales:\n    dsn: sample\ndatabase_server:\n  name: sales\n", child),
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, "--config", file)
			if got, want := greeting(t, p)["servers"], "web (HTTP), My-Child (stdio), sales (the sample database, opened by the first call)"; got != want {
				t.Errorf("it serves %s, want %s", got, want)
			}
			own := map[string][]string{
				"web":      {"echo", "put", "write", "sleep", "progress", "ask"},
				"My-Child": {"echo", "put", "write", "sleep", "progress", "ask"},
				"sales":    {"list_tables", "describe_table", "read_data", "fetch_rows", "explain_query", "database_info"},
			}
			var all []string
			for _, server := range []string{"web", "My-Child", "sales"} {
				for _, tool := range own[server] {
					all = append(all, server+"__"+tool)
				}
				if got := toolNames(t, "--url", p.url, "--server", server); !slices.Equal(got, own[server]) {
					t.Errorf("%s has %q, want %q", server, got, own[server])
				}
				if got := toolNames(t, "--url", p.url+"/mcp/"+server); !slices.Equal(got, own[server]) {
					t.Errorf("/mcp/%s has %q, want %q", server, got, own[server])
				}
			}
			if got := toolNames(t, "--url", p.url); !slices.Equal(got, all) {
				t.Errorf("all have %q, want %q", got, all)
			}
			for _, call := range []struct {
				args []string
				want string
			}{
				{[]string{"web__echo", `{"text": "to the web"}`}, "to the web\n"},
				{[]string{"echo", `{"text": "to the web"}`, "--server", "web"}, "to the web\n"},
				{[]string{"--server=My-Child", "echo", `{"text": "to the child"}`}, "to the child\n"},
				{[]string{"My-Child__echo", `{"text": "to the child"}`}, "to the child\n"},
				{[]string{"read_data", `{"query": "select count(*) as n from sales"}`, "--server", "sales"}, "\nn\n50000\n"},
				{[]string{"sales__read_data", `{"query": "select count(*) as n from sales"}`}, "\nn\n50000\n"},
			} {
				status, out, stderr := finish(t, append([]string{"call", "--url", p.url}, call.args...)...)
				if status != 0 || !strings.HasSuffix(out, call.want) || strings.Contains(stderr, "error") {
					t.Errorf("call %q: status %d, %q, %q", call.args, status, out, stderr)
				}
			}
		})
	}
}

func TestCallSaysWhatIsWrong(t *testing.T) {
	server := &mcptest.Server{}
	p := serve(t, "--config", configure(t, "mcp.json",
		`{"mcpServers": {"web": {"url": %q}}, "databases": {"sales": {"dsn": "sample"}}, "database_server": {"name": "sales"}}`, upstream(t, server)))
	for _, test := range []struct {
		args []string
		says string
		hint string
	}{
		{[]string{"echo", "--server", "nowhere"}, "nothing is served at /mcp/nowhere: there are /mcp and /mcp/NAME, where NAME is one of web, sales", ""},
		{[]string{"nothing", "--server", "web"}, "Unknown tool: nothing", ""},
		{[]string{"web__nothing"}, "Unknown tool: nothing", ""},
		{[]string{"nowhere__echo"}, "nowhere__echo", ""},
		{[]string{"read_data", `{"query": "select * from sails"}`, "--server", "sales"}, "read_data: UNKNOWN_OBJECT: no such table: sails", "the tool says so itself"},
		{[]string{"read_data", `{"query": "delete from sales"}`, "--server", "sales"}, "read_data: ", "the tool says so itself"},
		{[]string{"read_data", `{}`, "--server", "sales"}, "query", "the tool says so itself"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel() // that no such server is there is said after a while: it may come
			status, out, stderr := finish(t, append([]string{"call", "--url", p.url}, test.args...)...)
			if status != 1 || out != "" || !strings.Contains(stderr, "mcpool: error: ") || !strings.Contains(stderr, test.says) || !strings.Contains(stderr, "\nhint: "+test.hint) {
				t.Errorf("status %d, %q, %q does not say %s", status, out, stderr, test.says)
			}
		})
	}
	for _, command := range [][]string{{"tools"}, {"call", "echo"}} {
		t.Run(fmt.Sprint("no gateway for ", command[0]), func(t *testing.T) {
			t.Parallel()
			addr := freeAddr(t)
			status, out, stderr := finish(t, append(command, "--url", "http://"+addr)...)
			if status != 1 || out != "" || !strings.Contains(stderr, "mcpool: error: gateway: ") ||
				!strings.Contains(stderr, addr) || !strings.HasSuffix(stderr, "\nhint: is it running? "+self()+" serve starts it, and --url says where it is\n") {
				t.Errorf("status %d, %q, %q", status, out, stderr)
			}
		})
	}
}

func TestASignalEndsACallThatWaits(t *testing.T) {
	gate, server := newGate(t), &mcptest.Server{}
	server.Fault = gate.fault
	p := serve(t, "--config", behind(t, upstream(t, server)))
	c := startChild(t, "call", "echo", "--url", p.url)
	gate.await(t)
	c.want = 1
	if err := c.process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	c.end(t)
	if c.out.String() != "" || !strings.HasSuffix(c.err.String(), "mcpool: error: gateway: interrupt signal received; the call may have run\n") {
		t.Errorf("it wrote %q, %q", &c.out, &c.err)
	}
}

// TestAServerThatSaysNothingHidesNoOther holds that tools and call wait for longer
// than the gateway does, say what they wait for, and wait once.
func TestAServerThatSaysNothingHidesNoOther(t *testing.T) {
	mute := &mcptest.Server{Fault: func(r *http.Request, _ string, _ http.ResponseWriter) bool {
		<-r.Context().Done()
		return true
	}}
	p := serve(t, "--config", configure(t, "mcp.json", `{"mcpServers": {"good": {"url": %q}, "mute": {"url": %q}}}`,
		upstream(t, &mcptest.Server{}), upstream(t, mute)))
	status, out, stderr := finish(t, "tools", "--url", p.url)
	if status != 0 || !strings.HasPrefix(out, "good__echo") || stderr != "mcpool: listing tools\n" {
		t.Errorf("status %d, %q, %q", status, out, stderr)
	}
	began := time.Now()
	status, out, stderr = finish(t, "call", "good__echo", `{"a": 1}`, "--url", p.url)
	if status != 0 || !strings.Contains(out, `1`) || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: status %d, %q, %q", time.Since(began), status, out, stderr)
	}
}
