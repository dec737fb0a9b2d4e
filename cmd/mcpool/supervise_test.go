package main

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// wrapped is the entry of mcpServers for a child behind a shell script, which is what
// npx and uvx are like.
func (w *witness) wrapped(t testing.TB, mode, script string) string {
	t.Helper()
	var entry struct {
		Command string            `json:"command"`
		Args    []string          `json:"args"`
		Env     map[string]string `json:"env"`
	}
	if err := json.Unmarshal([]byte(w.child(mode)), &entry); err != nil {
		t.Fatal(err)
	}
	entry.Command, entry.Args = "/bin/sh", []string{"-c", script, entry.Command}
	text, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The server ignores the end of its input, SIGTERM and SIGHUP, and the shells
// before it pass nothing on.
func TestNothingIsLeftOfAKilledServe(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	for name, script := range map[string]string{
		"no wrapper":   `exec "$0"`,
		"a wrapper":    `"$0"; true`,
		"two wrappers": `sh -c '"$0"; true' "$0"; true`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWitness(t)
			p := serveChild(t, "--config", configure(t, "mcp.json", `{"mcpServers": {"one": %s, "two": %[1]s}}`, w.wrapped(t, mcptest.Stubborn, script)))
			for _, server := range []string{"one", "two"} {
				if status, _, err := finish(t, "call", "echo", "--server", server, "--url", p.url); status != 0 {
					t.Fatal(err)
				}
				w.awaitStart(t)
			}
			p.want = -1 // killed
			if err := p.process.Kill(); err != nil {
				t.Fatal(err)
			}
			w.awaitEnd(t)
			w.awaitEnd(t)
		})
	}
}

// What a child says reaches the log with the server's name: all of it at level
// debug, and its last words when it ends by itself at level warn. So does what
// it writes to stdout that is no message. Its own secrets do not.
func TestWhatChildrenSayIsLogged(t *testing.T) {
	const server = `"command": "/bin/sh", "close_grace": "50ms", "env": {"KEY": "hunter2-0f3c", "PEM": "-- BEGIN --\nline-of-a-key\n"},
		"args": ["-c", "echo starting with $KEY and $2 >&2; echo stray $KEY; echo line-of-a-key >&2; read line; echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocolVersion\":\"2025-11-25\",\"supportedVersions\":[]}}'; read line; echo '{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"protocolVersion\":\"2025-11-25\"}}'; read line; read line; echo dying of $KEY >&2; exit 7", "sh", "--token", "swordfish-77"]`
	for _, level := range []string{"debug", "info"} {
		t.Run(level, func(t *testing.T) {
			p := serve(t, "--log-level", level, "--config", configure(t, "mcp.json", `{"mcpServers": {"one": {%s}}}`, server))
			if status, _, _ := finish(t, "call", "echo", "--url", p.url); status == 0 {
				t.Error("a server that exits has answered")
			}
			p.await(t, &p.err, `level=WARN msg="the child has ended by itself" server=one error="sh has ended \(exit status 7\)" "last words"="starting with \*\*\* and \*\*\*\\n\*\*\*\\ndying of \*\*\*"`)
			p.stop()
			p.end(t)
			says := p.err.String()
			for text, want := range map[string]bool{
				`level=WARN msg="the server has sent what is no message" server=one text="stray ***"`: true,
				`level=DEBUG msg="the child wrote to stderr" server=one line="dying of ***"`:          level == "debug",
				"hunter2":       false,
				"swordfish":     false,
				"line-of-a-key": false,
			} {
				if strings.Contains(says, text) != want {
					t.Errorf("%q is there: %v; the log is\n%s", text, !want, says)
				}
			}
			if n := strings.Count(says, "has ended by itself"); n != 1 {
				t.Errorf("that it has ended is said %d times", n)
			}
		})
	}
}
