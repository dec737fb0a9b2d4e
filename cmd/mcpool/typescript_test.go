package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// nodeModules in the environment is a folder with the official TypeScript
// SDK, where it is not that of testdata/typescript.
const nodeModules = "MCPOOL_TEST_NODE_MODULES"

// A typescript is a program that is a client of the official TypeScript SDK.
type typescript struct{ node, script string }

// newTypescript skips the test where the SDK is not installed.
func newTypescript(t *testing.T) *typescript {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Node is not installed: it is needed for the official TypeScript client")
	}
	const source = "testdata/typescript"
	modules := os.Getenv(nodeModules)
	if modules == "" {
		modules = filepath.Join(source, "node_modules")
	}
	if modules, err = filepath.Abs(modules); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(modules, "@modelcontextprotocol", "sdk")); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the official TypeScript client is not installed: run npm install --no-save --no-package-lock in cmd/mcpool/%s, or name its node_modules in %s", source, nodeModules)
	} else if err != nil {
		t.Fatal(err)
	}
	// Node looks for packages beside the script.
	dir := t.TempDir()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(filepath.Join(source, "client.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "client.mjs")
	if err := os.WriteFile(path, script, 0o600); err != nil {
		t.Fatal(err)
	}
	return &typescript{node, path}
}

// A job is what the program is to do, see client.mjs.
type job struct {
	Clients int  `json:"clients"`
	Calls   int  `json:"calls"`
	List    bool `json:"list"`
	Stay    bool `json:"stay"`
}

// seen is what one client saw.
type seen struct {
	Server, Session string
	Tools           []string
	Answers         []struct {
		Asked, ID, Text, Session string
		Content                  []struct{ Text string }
	}
}

// run runs the program to its end and checks that each call was answered with
// its own answer.
func (ts *typescript) run(t *testing.T, p *program, do job) []seen {
	t.Helper()
	return ts.start(t, p, do)()
}

// start starts the program, and returns what waits for its end.
func (ts *typescript) start(t *testing.T, p *program, do job) (wait func() []seen) {
	t.Helper()
	arguments, err := json.Marshal(do)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(ts.node, ts.script, p.url+"/mcp", string(arguments))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	expire := time.AfterFunc(4*patience, func() { _ = cmd.Process.Kill() })
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() []seen {
		t.Helper()
		err := <-ended
		expire.Stop()
		if err != nil {
			t.Fatalf("the client ended with %v: %s", err, &stderr)
		}
		var all []seen
		if err := json.Unmarshal(stdout.Bytes(), &all); err != nil {
			t.Fatalf("%v in %s", err, &stdout)
		}
		if len(all) != do.Clients {
			t.Errorf("%d clients ran, want %d", len(all), do.Clients)
		}
		for _, s := range all {
			if s.Server != "mcpool" || s.Session == "" || len(s.Answers) != do.Calls {
				t.Errorf("a client saw %+v", s)
			}
			for _, a := range s.Answers {
				if text := "the text of " + a.Asked; a.ID != a.Asked || a.Text != text || len(a.Content) != 1 || a.Content[0].Text != text {
					t.Errorf("a client got %+v", a)
				}
			}
		}
		return all
	}
}

// connections are the connections to the server that answers came from, each
// once.
func connections(all []seen) []string {
	var list []string
	for _, s := range all {
		for _, a := range s.Answers {
			list = append(list, a.Session)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// metrics are the metrics of the server one, by name and other labels.
func (p *program) metrics(t *testing.T) map[string]string {
	t.Helper()
	status, page := get(t, p.url+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, page)
	}
	mine := strings.NewReplacer(`{server="one"}`, "", `,server="one"`, "", `server="one",`, "")
	all := map[string]string{}
	for line := range strings.Lines(page) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[mine.Replace(name)] = value
	}
	return all
}

// TestTypeScriptClient has the official TypeScript client do what the checks of
// those names did in the system that this one is built from, with a legacy
// server that counts its sessions behind the gateway.
func TestTypeScriptClient(t *testing.T) {
	ts := newTypescript(t)
	begin := func(t *testing.T, server *mcptest.Server, args ...string) *program {
		t.Helper()
		return serve(t, append(args, "--config", behind(t, upstream(t, server)))...)
	}

	t.Run("LazyInitialization", func(t *testing.T) {
		server := &mcptest.Server{}
		p := begin(t, server)
		if s := p.pool(t, "one").Stats; s.Opened != 0 || s.Opening != 0 || server.Sessions() != 0 {
			t.Errorf("opened %d connections, %d sessions, without a client", s.Opened, server.Sessions())
		}
		ts.run(t, p, job{Clients: 2}) // a client that begins is told what the server can do
		if s := p.pool(t, "one").Stats; s.Opened != 1 || s.Calls != 0 || server.Sessions() != 1 {
			t.Errorf("opened %d connections, %d sessions, for %d calls, by the first clients", s.Opened, server.Sessions(), s.Calls)
		}
		ts.run(t, p, job{Clients: 1, Calls: 1})
		if s := p.pool(t, "one").Stats; s.Opened != 1 || server.Sessions() != 1 {
			t.Errorf("opened %d connections, %d sessions, by the first call", s.Opened, server.Sessions())
		}
	})

	t.Run("FirstConnection", func(t *testing.T) {
		server := &mcptest.Server{Name: "upstream", OpenDelay: 50 * time.Millisecond}
		p := begin(t, server)
		all := ts.run(t, p, job{Clients: 1, Calls: 1, List: true})
		if want := []string{"echo", "put", "write", "sleep", "progress", "ask"}; !slices.Equal(all[0].Tools, want) {
			t.Errorf("listed %q, want %q", all[0].Tools, want)
		}
		conns := p.pool(t, "one").Connections
		if len(conns) != 1 {
			t.Fatalf("%d connections", len(conns))
		}
		if c := conns[0]; c.ID != "one-1" || c.State != "ready" || c.Era != "legacy" || c.ProtocolVersion != "2025-11-25" ||
			c.ServerName != "upstream" || c.Calls != 2 || c.OpenTook < server.OpenDelay.Seconds() {
			t.Errorf("the connection is %+v", c)
		}
	})

	t.Run("ConnectionReuse", func(t *testing.T) {
		server := &mcptest.Server{}
		p := begin(t, server)
		first := ts.run(t, p, job{Clients: 1, Calls: 10})
		second := ts.run(t, p, job{Clients: 1, Calls: 10}) // another process, another session
		if used := connections(append(first, second...)); len(used) != 1 || server.Sessions() != 1 {
			t.Errorf("used connections %q, %d sessions", used, server.Sessions())
		}
		if s := p.pool(t, "one").Stats; s.Calls != 20 || s.ReuseRatio != 0.95 {
			t.Errorf("%d calls with a reuse ratio of %v, want 20 with 0.95", s.Calls, s.ReuseRatio)
		}
	})

	t.Run("ConcurrentOperations", func(t *testing.T) {
		gate, server := newGate(t), &mcptest.Server{}
		server.Fault = gate.fault
		p := begin(t, server, "--calls-per-connection", "2")
		wait := ts.start(t, p, job{Clients: 20, Calls: 3})
		for range 12 {
			gate.await(t) // none is answered before twelve are at the server
		}
		gate.open()
		if used := connections(wait()); len(used) != 6 || server.Sessions() != 6 {
			t.Errorf("used connections %q, %d sessions, want 6", used, server.Sessions())
		}
		if n := server.MaxConcurrent(); n > 2 {
			t.Errorf("%d calls at once on a connection, want at most 2", n)
		}
		if n := len(server.Executions()); n != 60 {
			t.Errorf("%d calls ran, want 60", n)
		}
	})

	t.Run("PoolMetrics", func(t *testing.T) {
		p := begin(t, &mcptest.Server{})
		ts.run(t, p, job{Clients: 1, Calls: 4})
		got := p.metrics(t)
		for name, want := range map[string]string{
			"mcpool_opened_total":                    "1",
			"mcpool_calls_total":                     "4",
			"mcpool_errors_total":                    "0",
			`mcpool_acquires_total{result="ok"}`:     "6", // one to ask what the server can do, one to listen on
			"mcpool_released_total":                  "6",
			"mcpool_waiting":                         "0",
			"mcpool_calls_in_flight":                 "0",
			"mcpool_reuse_ratio":                     "0.75",
			"mcpool_call_seconds_count":              "4",
			"mcpool_open_seconds_count":              "1",
			`mcpool_connections{state="idle"}`:       "1",
			`mcpool_connections{state="in_use"}`:     "0",
			`mcpool_closed_total{reason="shutdown"}`: "0",
		} {
			if got[name] != want {
				t.Errorf("%s is %q, want %s", name, got[name], want)
			}
		}
		if s := p.pool(t, "one").Stats; s.Opened != 1 || s.Calls != 4 || s.Errors != 0 {
			t.Errorf("status says %+v", s)
		}
	})

	t.Run("GracefulShutdown", func(t *testing.T) {
		gate, server := newGate(t), &mcptest.Server{}
		server.Fault = gate.fault
		p := serveChild(t, "--config", behind(t, upstream(t, server)))
		wait := ts.start(t, p, job{Clients: 4, Calls: 1, Stay: true})
		for range 4 {
			gate.await(t)
		}
		if err := p.process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.unready(t)
		gate.open()
		wait() // all four are answered
		p.end(t)
		if server.Open() != 0 || server.Sessions() == 0 {
			t.Errorf("%d of %d sessions stay open", server.Open(), server.Sessions())
		}
	})
}
