package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/config"
)

// parse reads a configuration that is in a folder.
func parse(t *testing.T, folder, text string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(text), filepath.Join(folder, "mcp.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSameDatabases has one of two databases differ, or what is for both.
func TestSameDatabases(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"p1", "p2"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("one"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const a, b = "a: {dsn: a.db, password_file: p1, masks: [{columns: [x], with: refuse}]}", "b: {dsn: b.db, mode: write, require_where: true}"
	old := parse(t, folder, "databases: {"+a+", "+b+"}\nmcpServers: {web: {url: https://a}}")
	for next, want := range map[string]string{
		"databases: {" + a + ", " + b + "}":                                                   "a b",
		"databases: {" + b + ", " + a + ", c: {dsn: b.db}}":                                   "b a",
		"databases: {" + a + "}\ndatabase_server: {handle_ttl: 7}":                            "a",
		"databases: {" + a + ", " + strings.Replace(b, "true", "false", 1) + "}":              "a",
		"databases: {" + strings.Replace(a, "p1", "p2", 1) + ", " + b + "}":                   "b",
		"databases: {" + strings.Replace(a, "a:", "b:", 1) + "}":                              "",
		"databases: {" + a + ", " + b + "}\ndatabase_server: {max_calls_per_principal: 7}":    "",
		"databases: {" + a + ", b: {dsn: b.db}}\nmcpServers: {web: {url: https://a}}":         "a",
		"databases: {" + strings.Replace(a, "refuse", "partial", 1) + ", b: {dsn: other.db}}": "",
	} {
		server := &parse(t, folder, next).Servers[0] // which has the databases
		if got := strings.Join(server.SameDatabases(&old.Servers[0]), " "); got != want {
			t.Errorf("%s: the same are %q, want %q", next, got, want)
		}
		if got := server.SameDatabases(&old.Servers[1]); got != nil {
			t.Errorf("%s: as in a server without databases: %v", next, got)
		}
	}
}

// TestChangedFrom has each part of an entry differ.
func TestChangedFrom(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"p1": "one", "p2": "one", "env": "A=1\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(text string) *config.Config { return parse(t, folder, text) }
	const web = "mcpServers: {a: {url: https://a, auth: {client_id: b, client_secret: c}, headers: {X: y}"
	const child = "mcpServers: {a: {command: b, env: {A: b}"
	const base = "databases: {a: {dsn: a.db, password_file: p1}}\n"
	for name, test := range map[string]struct {
		old, next string
		want      config.Change
	}{
		"nothing":             {web + "}}", web + "}}", config.Unchanged},
		"a comment":           {web + "}}", "# so\n" + web + ", _comment: x}}", config.Unchanged},
		"a setting":           {web + "}}", web + ", pool: {max_connections: 7}}}", config.Settled},
		"a setting of all":    {web + "}}", web + "}}\npool: {idle_timeout: 7}", config.Settled},
		"call_timeout":        {web + "}}", web + "}}\npool: {call_timeout: 7}", config.Settled},
		"what is allowed":     {web + "}}", web + ", allow: [x]}}", config.Settled},
		"what is denied":      {web + "}}", web + ", deny: [x]}}", config.Settled},
		"max_calls":           {web + "}}", web + ", max_calls: 7}}", config.Settled},
		"the url":             {web + "}}", "mcpServers: {a: {url: https://b, headers: {X: y}}}", config.Replaced},
		"a header":            {web + "}}", "mcpServers: {a: {url: https://a, headers: {X: z}}}", config.Replaced},
		"the login":           {web + "}}", "mcpServers: {a: {url: https://a, auth: {client_id: b, client_secret: d}, headers: {X: y}}}", config.Replaced},
		"a child":             {child + "}}", child + "}}", config.Unchanged},
		"its arguments":       {child + "}}", child + ", args: [x]}}", config.Replaced},
		"its environment":     {child + "}}", child + ", envFile: env}}", config.Replaced},
		"a url for a command": {child + "}}", web + "}}", config.Replaced},
		"a database":          {base, base, config.Unchanged},
		"its bounds":          {base, "databases: {a: {dsn: a.db, password_file: p1, max_rows: 7}}", config.Replaced},
		"its password":        {base, "databases: {a: {dsn: a.db, password_file: p2}}", config.Replaced},
		"one more":            {base, "databases: {a: {dsn: a.db, password_file: p1}, b: {dsn: b.db}}", config.Replaced},
		"its pool":            {base, base + "database_server: {pool: {max_waiting: 7}}", config.Settled},
		"the same limits":     {web + "}}\nlimits: {max_connections: 7}", web + "}}\nlimits: {max_connections: 7}", config.Unchanged},
		"other limits":        {web + "}}\nlimits: {max_connections: 7}", web + "}}\nlimits: {max_connections: 8}", config.Replaced},
		"limits":              {web + "}}", web + "}}\nlimits: {max_connections: 8}", config.Replaced},
	} {
		old, next := read(test.old), read(test.next)
		next.KeepLimits(old)
		if got := next.Servers[0].ChangedFrom(&old.Servers[0]); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
		if same := next.Servers[0].Pool.Limits == old.Servers[0].Pool.Limits; same != (test.want != config.Replaced || old.Servers[0].Pool.Limits == nil && next.Servers[0].Pool.Limits == nil) {
			t.Errorf("%s: pools are bounded together with those before: %v", name, same)
		}
	}
}
