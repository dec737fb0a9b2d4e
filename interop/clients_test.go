package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A client is one that somebody else wrote, in one of the ways in which it
// runs.
type client struct {
	name     string
	needs    []string // the files that are there where it is installed
	protocol string   // what the gateway and it agree on
	// run has it do its actions with a server, and returns what came of each
	// by its name, and the protocol beside. name is its own.
	run func(t *testing.T, url, name string) map[string]string
	// cannot has the actions that it does not do, and why.
	cannot map[string]string
}

var clients = slices.Concat(nodeClients(), pythonClients(), goClients())

func nodeClients() []client {
	const inspectorCLI = "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
	sdk := func(name, pkg, era, protocol string) client {
		return client{
			name: name, protocol: protocol,
			needs: []string{filepath.Join(nodeModules, "@modelcontextprotocol", pkg)},
			run:   script(nil, "node", absolute("testdata/node/client.mjs"), era),
		}
	}
	all := []client{
		sdk("typescript-1", "sdk", "1", legacy),
		sdk("typescript-2-legacy", "client", "legacy", legacy),
		sdk("typescript-2", "client", "auto", modern),
	}
	node, cli := filepath.Join(nodeModules, "node/bin/node"), filepath.Join(nodeModules, inspectorCLI)
	for _, way := range []struct{ era, protocol string }{{"legacy", legacy}, {"auto", modern}, {"modern", modern}} {
		all = append(all, client{
			name: "inspector-" + way.era, protocol: way.protocol, needs: []string{node, cli},
			run: func(t *testing.T, url, name string) map[string]string {
				return inspect(t, absolute(node), absolute(cli), url, way.era, name)
			},
			cannot: map[string]string{
				"progress": "shows none", "cancel": "has no way to", "elicit": "has nobody to ask",
				"subscribe": "has no such method", "complete": "has no such method", "log": "shows no messages",
			},
		})
	}
	return all
}

func pythonClients() (all []client) {
	for _, it := range []struct{ name, venv, pkg, era, protocol string }{
		{"python-sdk-1", legacyPython, "mcp", "legacy", legacy},
		{"python-sdk-2-legacy", modernPython, "mcp", "legacy", legacy},
		{"python-sdk-2", modernPython, "mcp", "auto", modern},
		{"fastmcp-3", legacyPython, "fastmcp", "legacy", legacy},
		{"fastmcp-4-legacy", modernPython, "fastmcp", "legacy", legacy},
		{"fastmcp-4", modernPython, "fastmcp", "auto", modern},
	} {
		python := filepath.Join(it.venv, "bin/python")
		all = append(all, client{
			name: it.name, protocol: it.protocol, needs: []string{python},
			run: script(nil, absolute(python), "-W", "ignore::UserWarning", absolute("testdata/python/client.py"), it.pkg, it.era),
		})
	}
	return all
}

func goClients() []client {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	program := func(name, program, era, protocol string) client {
		return client{name: name, protocol: protocol, run: script([]string{programKey + "=" + program}, self, era)}
	}
	all := []client{
		program("go-sdk-legacy", "go-sdk client", "legacy", legacy),
		program("go-sdk", "go-sdk client", "auto", modern),
		program("mcp-go-legacy", "mcp-go client", "legacy", legacy),
		program("mcp-go", "mcp-go client", "auto", modern),
	}
	all[2].cannot = map[string]string{"cancel": "tells nobody over HTTP"}
	return all
}

// script runs a client that is a program: it takes a URL and a name as its last
// arguments, and prints what came of its actions in its last line. An SDK may
// print what it likes before.
func script(env []string, argv ...string) func(*testing.T, string, string) map[string]string {
	return func(t *testing.T, url, name string) map[string]string {
		t.Helper()
		var came map[string]string
		printed := bytes.TrimSpace(output(t, env, append(slices.Clip(argv), url, name)...))
		if err := json.Unmarshal(printed[bytes.LastIndexByte(printed, '\n')+1:], &came); err != nil {
			t.Fatalf("%v in %s", err, printed)
		}
		return came
	}
}

// output runs a program to its end and returns what it printed.
func output(t *testing.T, env []string, argv ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, &stdout, &stderr)
	}
	return stdout.Bytes()
}

// inspect has the command line of the Inspector do its actions, each of them a
// process of its own.
func inspect(t *testing.T, node, cli, url, era, name string) map[string]string {
	t.Helper()
	method := func(method string, args ...string) (result struct {
		ProtocolVersion   string
		Tools             []struct{ Name string }
		Content           []struct{ Text string }
		Resources         []struct{ URI string }
		ResourceTemplates []struct{ URITemplate string }
		Contents          []struct{ Text string }
		Prompts           []struct{ Name string }
		Messages          []struct{ Content struct{ Text string } }
	}) {
		t.Helper()
		argv := []string{node, cli, "--cli", url, "--transport", "http", "--protocol-era", era, "--method", method, "--format", "json"}
		printed := output(t, nil, append(argv, args...)...)
		into := struct{ Result any }{&result}
		if err := json.Unmarshal(printed, &into); err != nil {
			t.Fatalf("%v in %s", err, printed)
		}
		return result
	}
	var tools, notes, greetings []string
	for _, tool := range method("tools/list").Tools {
		tools = append(tools, tool.Name)
	}
	slices.Sort(tools)
	for _, resource := range method("resources/list").Resources {
		notes = append(notes, resource.URI)
	}
	for _, template := range method("resources/templates/list").ResourceTemplates {
		notes = append(notes, template.URITemplate)
	}
	for _, note := range method("resources/read", "--uri", notePrefix+name).Contents {
		notes = append(notes, strings.Replace(note.Text, name, "NAME", 1))
	}
	for _, prompt := range method("prompts/list").Prompts {
		greetings = append(greetings, prompt.Name)
	}
	for _, message := range method("prompts/get", "--prompt-name", "greet", "--prompt-args", "name=Ada").Messages {
		greetings = append(greetings, message.Content.Text)
	}
	return map[string]string{
		"protocol":  method("initialize").ProtocolVersion,
		"list":      strings.Join(tools, " "),
		"call":      fmt.Sprint(method("tools/call", "--tool-name", "echo", "--tool-arg", "text=text").Content[0].Text),
		"resources": strings.Join(notes, " "),
		"prompt":    strings.Join(greetings, " "),
	}
}

// missing is what has to be installed before the client can run, or "".
func (c *client) missing() string {
	for _, file := range c.needs {
		if _, err := os.Stat(file); err != nil {
			return file
		}
	}
	if strings.HasPrefix(c.name, "typescript") {
		if _, err := exec.LookPath("node"); err != nil {
			return "node"
		}
	}
	return ""
}

// TestClients has each client do its actions through one gateway, with a legacy
// and with a modern server behind it. It has a subtest for each client, in that
// one for each server, and in that one for each action: the cells of the second
// matrix in README.md.
func TestClients(t *testing.T) {
	ran := newCells(t, clientMatrix())
	endpoint := serveBoth(t)
	for i := range clients {
		c := &clients[i]
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if missing := c.missing(); missing != "" {
				t.Skipf("%s is not installed, for want of %s: README.md says how", c.name, missing)
			}
			for _, era := range eras {
				t.Run(era, func(t *testing.T) {
					came := c.run(t, endpoint+"/"+era, c.name+"-"+era)
					if came["protocol"] != c.protocol {
						t.Errorf("the gateway and it agreed on %s, want %s", came["protocol"], c.protocol)
					}
					for _, a := range actions {
						if c.cannot[a.name] != "" {
							continue
						}
						t.Run(a.name, func(t *testing.T) {
							ran.add(t.Name())
							if got := came[a.name]; got != a.want {
								t.Errorf("it got %q, want %q", got, a.want)
							}
						})
					}
				})
			}
		})
	}
}

// eras are what the servers behind the gateway speak, and their names.
var eras = []string{"legacy", "modern"}

// serveBoth starts the command of this repository in front of a server of each
// era, and returns the URL below which each has an endpoint.
func serveBoth(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	command := filepath.Join(dir, "mcpool")
	output(t, nil, "go", "build", "-C", "..", "-o", command, "./cmd/mcpool")
	behind := goProgram("features", server{name: "features-http-stateful", over: streamable}, server{name: "features-http-stateless", over: streamable})
	list := map[string]any{}
	for i, era := range eras {
		list[era] = map[string]string{"url": run(t, &behind[i]).endpoint()}
	}
	config, err := json.Marshal(map[string]any{"mcpServers": list})
	if err != nil {
		t.Fatal(err)
	}
	write(dir, "mcp.json", string(config))
	return run(t, &server{
		name: "mcpool", over: streamable,
		command: func(_, port string) []string {
			return []string{command, "serve", "--listen", "127.0.0.1:" + port, "--config", filepath.Join(dir, "mcp.json")}
		},
	}).endpoint()
}
