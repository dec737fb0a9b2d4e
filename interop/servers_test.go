package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool"
)

// A transport is how a pool reaches a server.
type transport string

const (
	stdio      transport = "stdio"
	streamable transport = "HTTP"
	sse        transport = "SSE" // the HTTP+SSE of MCP 2024-11-05
)

// A server is one that somebody else wrote, in one of the ways in which it
// runs.
type server struct {
	name     string
	over     transport
	needs    string // the file that is there where it is installed; "" if it needs none
	protocol string // what the pool and it agree on
	held     bool   // the pool is told of the protocol; it would speak a newer one
	told     bool   // the pool is told that it speaks HTTP+SSE, and need not find out
	sessions bool   // it names sessions, and knows which of them have ended
	// command is how it is started, in a folder of its own and, but for stdio,
	// on a port.
	command func(dir, port string) []string
	env     func(port string) []string
	// ask is a call that has an answer of its own for each i.
	ask func(dir string, i int) call
	// slow is a call that takes 300 ms; zero if it has none.
	slow  call
	watch watching // zero if it tells nothing of its changes
}

// A watching is what is watched of a server, and what it tells.
type watching struct {
	filter mcpool.Filter
	heeded string // how it acknowledges that
	change call   // which it tells of
	news   string // in these words
}

// A call is one of a tool, which may be repeated, and what its answer has in
// it.
type call struct {
	tool      string
	arguments any
	answer    string
}

// What is not installed by go.mod is by .ci/run, in these folders.
const (
	nodeModules   = "testdata/node/node_modules"
	modernPython  = "testdata/python/modern/venv"
	legacyPython  = "testdata/python/legacy/venv"
	modern        = "2026-07-28"
	legacy        = "2025-11-25"
	concurrently  = 64 // calls at once
	filesToRead   = concurrently
	memoryEntries = concurrently
)

var servers = slices.Concat(npmServers(), pythonServers(), goSDKServers(), mcpGoServers())

func npmServers() []server {
	everything := func(name string, over transport, how string) server {
		s := npm("server-everything", name, over, func(string) []string { return []string{how} })
		s.ask = func(_ string, i int) call {
			text := fmt.Sprint("text ", i)
			return call{"echo", map[string]any{"message": text}, "Echo: " + text}
		}
		s.slow = call{"trigger-long-running-operation", map[string]any{"duration": 0.3, "steps": 3}, "completed"}
		s.watch = watching{
			filter: mcpool.Filter{URIs: []string{"demo://resource/dynamic/text/1"}},
			heeded: `{"notifications":{"resourceSubscriptions":["demo://resource/dynamic/text/1"]}}`,
			change: call{"toggle-subscriber-updates", map[string]any{}, "Started"},
			news:   `notifications/resources/updated {"uri":"demo://resource/dynamic/text/1"}`,
		}
		s.env = func(port string) []string { return []string{"PORT=" + port} }
		return s
	}
	filesystem := npm("server-filesystem", "filesystem-stdio", stdio, func(dir string) []string {
		for i := range filesToRead {
			write(dir, strconv.Itoa(i), fmt.Sprint("text ", i))
		}
		return []string{dir}
	})
	filesystem.ask = func(dir string, i int) call {
		i %= filesToRead
		return call{"read_text_file", map[string]any{"path": filepath.Join(dir, strconv.Itoa(i))}, fmt.Sprint("text ", i)}
	}
	memory := npm("server-memory", "memory-stdio", stdio, func(dir string) []string {
		var entries strings.Builder
		for i := range memoryEntries {
			fmt.Fprintf(&entries, `{"type":"entity","name":"entry %d","entityType":"thing","observations":["text %d"]}`+"\n", i, i)
		}
		write(dir, "memory.jsonl", entries.String())
		return nil
	})
	memory.ask = func(_ string, i int) call {
		i %= memoryEntries
		return call{"open_nodes", map[string]any{"names": []string{fmt.Sprint("entry ", i)}}, fmt.Sprintf(`"text %d"`, i)}
	}
	all := []server{
		everything("everything-stdio", stdio, "stdio"),
		everything("everything-http", streamable, "streamableHttp"),
		everything("everything-sse", sse, "sse"),
		everything("everything-sse-told", sse, "sse"),
		filesystem, memory,
	}
	all[1].sessions = true
	all[3].told = true
	return all
}

// npm is a server that is a package of npm.
func npm(pkg, name string, over transport, args func(dir string) []string) server {
	script := filepath.Join(nodeModules, "@modelcontextprotocol", pkg, "dist/index.js")
	return server{
		name: name, over: over, needs: script, protocol: legacy,
		command: func(dir, _ string) []string { return append([]string{"node", absolute(script)}, args(dir)...) },
	}
}

func pythonServers() (all []server) {
	for _, it := range []struct {
		name, venv, script, protocol string
		announces                    string // the protocol in which it tells of changes
	}{
		{"python-sdk-2", modernPython, "mcp_server.py", modern, modern},
		{"python-sdk-1", legacyPython, "mcp_server.py", legacy, ""},
		{"fastmcp-4", modernPython, "fastmcp_server.py", modern, legacy},
		{"fastmcp-3", legacyPython, "fastmcp_server.py", legacy, legacy},
	} {
		ways := []server{
			{name: it.name + "-stdio", over: stdio, protocol: it.protocol},
			{name: it.name + "-http", over: streamable, protocol: it.protocol, sessions: it.protocol == legacy},
			{name: it.name + "-http-stateless", over: streamable, protocol: it.protocol},
			{name: it.name + "-sse", over: sse, protocol: legacy},
		}
		if it.protocol == modern {
			ways = append(ways,
				server{name: it.name + "-stdio-held", over: stdio, protocol: legacy, held: true},
				server{name: it.name + "-http-held", over: streamable, protocol: legacy, held: true, sessions: true},
				server{name: it.name + "-http-stateless-held", over: streamable, protocol: legacy, held: true},
			)
		}
		for _, s := range ways {
			python := filepath.Join(it.venv, "bin/python")
			args := []string{absolute(python), absolute("testdata/python/" + it.script), strings.ToLower(string(s.over))}
			stateless := strings.Contains(s.name, "-stateless")
			if stateless {
				args = append(args, "--stateless")
			}
			if it.announces == s.protocol && (s.protocol == modern || !stateless) {
				s.watch = ofTools
			}
			s.needs = python
			all = append(all, ours(s, args))
		}
	}
	return all
}

func goSDKServers() []server {
	return goProgram("go-sdk",
		server{name: "go-sdk-stdio", over: stdio, protocol: modern, watch: ofTools},
		server{name: "go-sdk-stdio-legacy", over: stdio, protocol: legacy, watch: ofTools},
		server{name: "go-sdk-http-stateful", over: streamable, protocol: legacy, sessions: true, watch: ofTools},
		server{name: "go-sdk-http-stateful-json", over: streamable, protocol: legacy, sessions: true, watch: ofTools},
		server{name: "go-sdk-http-stateless", over: streamable, protocol: modern, watch: ofTools},
		server{name: "go-sdk-http-stateless-json", over: streamable, protocol: modern, watch: ofTools},
		server{name: "go-sdk-http-stateless-legacy", over: streamable, protocol: legacy},
		server{name: "go-sdk-sse", over: sse, protocol: legacy, watch: ofTools},
	)
}

func mcpGoServers() []server {
	return goProgram("mcp-go",
		server{name: "mcp-go-stdio", over: stdio, protocol: modern, watch: ofTools},
		server{name: "mcp-go-stdio-legacy", over: stdio, protocol: legacy, watch: ofTools},
		server{name: "mcp-go-http", over: streamable, protocol: modern, watch: ofTools},
		server{name: "mcp-go-http-legacy", over: streamable, protocol: legacy, watch: ofTools},
		server{name: "mcp-go-http-stateful-legacy", over: streamable, protocol: legacy, sessions: true, watch: ofTools},
		server{name: "mcp-go-http-stateless-legacy", over: streamable, protocol: legacy, watch: ofTools},
		server{name: "mcp-go-sse", over: sse, protocol: legacy, watch: ofTools},
	)
}

// ofTools is the watching of servers whose programs are in this folder.
var ofTools = watching{
	filter: mcpool.Filter{Tools: true},
	heeded: `{"notifications":{"toolsListChanged":true}}`,
	change: call{"change", map[string]any{}, "changed"},
	news:   "notifications/tools/list_changed",
}

// goProgram are servers that this program is, one way each, which their names
// end with.
func goProgram(program string, ways ...server) []server {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	for i, s := range ways {
		args := []string{self}
		for _, way := range []string{"stateful", "stateless", "legacy", "json", "sse"} {
			if slices.Contains(strings.Split(s.name, "-"), way) {
				args = append(args, "--"+way)
			}
		}
		ways[i] = ours(s, args)
		ways[i].env = func(string) []string { return []string{programKey + "=" + program} }
	}
	return ways
}

// ours completes a server whose program is in this folder: it has the tools
// echo, sleep and change, and takes its port by --port.
func ours(s server, argv []string) server {
	s.command = func(_, port string) []string {
		if port == "" {
			return argv
		}
		return append(slices.Clip(argv), "--port", port)
	}
	s.ask = func(_ string, i int) call {
		text := fmt.Sprint("text ", i)
		return call{"echo", map[string]any{"text": text}, text}
	}
	s.slow = call{"sleep", map[string]any{"ms": 300}, "slept"}
	return s
}

// A site is a server of a test: where it runs and, but for stdio, its process.
type site struct {
	*server
	t       *testing.T // which the process lives as long as
	dir     string
	argv    []string
	process *process
	pool    *mcpool.Pool // for what changes none of its connections on purpose, or all
}

// missing is what has to be installed before the server can run, or "".
func (s *server) missing() string {
	if _, err := os.Stat(s.needs); s.needs != "" && err != nil {
		return s.needs
	}
	if strings.HasPrefix(s.needs, nodeModules) {
		if _, err := exec.LookPath("node"); err != nil {
			return "node"
		}
	}
	return ""
}

// settle skips the test where the server is not installed, and starts it
// unless pools do.
func settle(t *testing.T, s *server) *site {
	t.Helper()
	if missing := s.missing(); missing != "" {
		t.Skipf("%s is not installed, for want of %s: README.md says how", s.name, missing)
	}
	at := run(t, s)
	at.pool = at.open(t, at.reach(t.Name()))
	return at
}

// run starts a server, unless pools do, for as long as the test lives.
func run(t *testing.T, s *server) *site {
	t.Helper()
	at := &site{server: s, t: t, dir: t.TempDir()}
	port := ""
	if s.over != stdio {
		port = freePort(t)
	}
	at.argv = s.command(at.dir, port)
	if s.over != stdio {
		at.start(t, port)
	}
	return at
}

// variables are what the server has in its environment besides ours.
func (at *site) variables(port string) []string {
	all := []string{"MEMORY_FILE_PATH=" + filepath.Join(at.dir, "memory.jsonl")}
	if at.env != nil {
		all = append(all, at.env(port)...)
	}
	return all
}

// endpoint is the URL of a server that has one.
func (at *site) endpoint() string {
	path := "/mcp"
	if at.over == sse {
		path = "/sse"
	}
	return "http://127.0.0.1:" + at.process.port + path
}

// reach is the server as a pool is told of it. cell marks the processes that
// the pool starts.
func (at *site) reach(cell string) mcpool.Server {
	s := mcpool.Server{Name: at.name, SSE: at.told}
	if at.held {
		s.Protocol = at.protocol
	}
	if at.over == stdio {
		s.Command, s.Args, s.Dir = at.argv[0], at.argv[1:], at.dir
		s.Env = append(at.variables(""), cellKey+"="+cell)
	} else {
		s.URL = at.endpoint()
	}
	return s
}

func absolute(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return path
}

func write(dir, name, text string) {
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		panic(err)
	}
}
