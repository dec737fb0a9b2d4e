package config_test

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// server makes what a server with the default settings is read as.
func server(change func(*config.Server)) config.Server {
	s := config.Server{Pool: mcpool.DefaultConfig(), CallTimeout: config.DefaultCallTimeout}
	change(&s)
	return s
}

func TestLoad(t *testing.T) {
	t.Setenv("TEST_TOKEN", "s3cret")
	t.Setenv("TEST_DSN", "postgres://me:s3cret@db/sales")
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]config.Server{
		"claude_desktop_config.json": {
			server(func(s *config.Server) {
				s.Name, s.Command = "filesystem", "npx"
				s.Args = []string{"-y", "@modelcontextprotocol/server-filesystem", "/home/me/Desktop", home + "/Downloads"}
			}),
			server(func(s *config.Server) {
				s.Name, s.Command = "My-GitHub", "docker"
				s.Args = []string{"run", "-i", "--rm", "-e", "GITHUB_TOKEN", "ghcr.io/github/github-mcp-server"}
				s.Env = []string{"GITHUB_TOKEN=s3cret"}
			}),
		},
		"cursor.json": {
			server(func(s *config.Server) {
				s.Name, s.Command, s.Args = "postgres", "uvx", []string{"postgres-mcp"}
				s.Env = []string{"PGSSLMODE=require", `PGAPPNAME=agent "one"`, "DATABASE_URI=overridden", "EMPTY=",
					"DATABASE_URI=postgres://me:s3cret@db/sales"}
			}),
			server(func(s *config.Server) {
				s.Name, s.URL = "linear", "https://mcp.linear.app/mcp"
				s.Header = http.Header{"Authorization": {"Bearer s3cret"}}
			}),
		},
		"vscode.jsonc": {
			server(func(s *config.Server) { s.Name, s.URL = "github", "https://api.githubcopilot.com/mcp/" }),
			server(func(s *config.Server) {
				s.Name, s.Command, s.Args = "playwright", "npx", []string{"-y", "@microsoft/mcp-server-playwright"}
				s.Dir = filepath.Join("testdata", "work")
			}),
		},
		"mcpool.yaml": ours(),
	} {
		t.Run(file, func(t *testing.T) {
			c, err := config.Load(filepath.Join("testdata", file), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Servers) != len(want) {
				t.Fatalf("got %d servers, want %d", len(c.Servers), len(want))
			}
			for i := range want {
				if !reflect.DeepEqual(c.Servers[i], want[i]) {
					t.Errorf("server %d:\ngot  %+v\nwant %+v", i, c.Servers[i], want[i])
				}
				usable(t, c.Servers[i])
			}
		})
	}
}

// usable checks that a pool can be made for a server.
func usable(t *testing.T, s config.Server) {
	t.Helper()
	if s.Databases != nil {
		return // its Handler is for the program to make
	}
	s.Pool.LazyInitialization = true
	p, err := mcpool.New(s.Server, &s.Pool)
	if err != nil {
		t.Errorf("%s: %v", s.Name, err)
		return
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// ours is what mcpool.yaml is read as.
func ours() []config.Server {
	servers := []config.Server{
		server(func(s *config.Server) {
			s.Name, s.URL = "search", "https://search.example.com/mcp"
			s.Header = http.Header{"Authorization": {"Bearer s3cret"}, "X-Team": {"none"}}
			s.Pool.MaxConnections, s.Pool.Sharing = 12, mcpool.ShareAll
		}),
		server(func(s *config.Server) {
			s.Name, s.Command, s.Args = "shell", "sh", []string{"-c", `echo "${HOME}"`}
			s.Env = []string{"PORT=8080", "DEBUG=true", "RATIO=1.10"}
			s.CloseGrace = 1500 * time.Millisecond
		}),
		server(func(s *config.Server) {
			s.Name = "data"
			s.Databases = &dbserver.Options{Databases: []dbserver.Database{
				{Name: "sales", DSN: "postgres://me:s3cret@db/sales", Description: "orders and customers"},
				{Name: "try-it", DSN: config.Sample},
			}}
		}),
	}
	for i := range servers {
		s := &servers[i]
		s.Pool.ConnectionTimeout, s.Pool.LazyInitialization, s.CallTimeout = 20*time.Second, false, time.Minute
	}
	servers[2].CallTimeout = 0
	return servers
}

func TestDefault(t *testing.T) {
	t.Setenv("MCP_POOL_MAX_CONNECTIONS", "3")
	c, err := config.Default(map[string]string{"retry_attempts": "1"})
	if err != nil {
		t.Fatal(err)
	}
	want := server(func(s *config.Server) {
		s.Name, s.Databases = "sales", &dbserver.Options{Databases: []dbserver.Database{{Name: "sales", DSN: config.Sample}}}
		s.Pool.MaxConnections, s.Pool.RetryAttempts = 3, 1
	})
	if len(c.Servers) != 1 || !reflect.DeepEqual(c.Servers[0], want) {
		t.Errorf("got %+v, want %+v", c.Servers, want)
	}
}

func TestFormatFollowsNameThenContent(t *testing.T) {
	const asJSON, asYAML = `{"databases": {"a": {"dsn": "sample"}}, /* c */}`, "databases:\n  a:\n    dsn: sample\n"
	for _, file := range []struct{ name, data string }{
		{"a.json", asJSON}, {"a.jsonc", asJSON}, {"a", " \n" + asJSON}, {"a.conf", "\uFEFF" + asJSON},
		{"a.yaml", asYAML}, {"a.YML", asYAML}, {"a", asYAML}, {"a.yaml", `{databases: {a: {dsn: sample}}}`},
	} {
		c, err := config.Parse([]byte(file.data), file.name, nil)
		if err != nil || len(c.Servers) != 1 || c.Servers[0].Databases.Databases[0].DSN != config.Sample {
			t.Errorf("%s %q: %+v, %v", file.name, file.data, c, err)
		}
	}
}

func TestServersOfBothSectionsKeepTheirOrder(t *testing.T) {
	c, err := config.Parse([]byte(`{
		"servers": {"z": {"url": "https://z"}},
		"databases": {"m": {"dsn": "sample"}},
		"mcpServers": {"b": {"url": "https://b"}, "a": {"url": "https://a"}},
	}`), "mcp.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range c.Servers {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "z db b a" {
		t.Errorf("got %s", got)
	}
}

func TestEmptyKeysOfTheOtherKindAreNoMistake(t *testing.T) {
	c, err := config.Parse([]byte(`{"mcpServers": {
		"a": {"type": "http", "url": "https://a", "command": "", "args": [], "env": {}, "cwd": null, "envFile": ""},
		"b": {"type": "stdio", "command": "b", "url": "", "headers": {}},
	}}`), "mcp.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Servers {
		usable(t, s)
	}
}

func TestProtocol(t *testing.T) {
	c, err := config.Parse([]byte(`{"mcpServers": {
		"a": {"url": "https://a", "protocol": "2025-06-18"},
		"b": {"command": "b", "protocol": "auto"},
	}}`), "mcp.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := c.Servers[0].Protocol, c.Servers[1].Protocol; a != "2025-06-18" || b != "" {
		t.Errorf("got %q and %q", a, b)
	}
	for _, s := range c.Servers {
		usable(t, s)
	}
}

func TestHowAServerIsReached(t *testing.T) {
	dir := t.TempDir()
	authority := mcptest.NewAuthority(t)
	mcptest.WritePair(t, authority.Issue(t, "client", nil), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	ca := authority.CAFile(t)
	c, err := config.Parse([]byte(`{"mcpServers": {
		"a": {"url": "HTTPS://a/mcp", "ca_file": "`+ca+`", "cert_file": "cert.pem", "key_file": "./key.pem",
			"auth": {"client_id": "i", "client_secret": "s"}},
		"b": {"url": "http+unix://%2Frun%2Fb.sock/mcp", "ca_file": "", "max_message_bytes": 1000000},
		"c": {"command": "c", "max_message_bytes": "2000000"},
	}}`), filepath.Join(dir, "mcp.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b, command := c.Servers[0], c.Servers[1], c.Servers[2]
	if a.CAFile != ca || a.CertFile != filepath.Join(dir, "cert.pem") || a.KeyFile != filepath.Join(dir, "key.pem") ||
		b.URL != "http+unix://%2Frun%2Fb.sock/mcp" || b.MaxMessageBytes != 1000000 || command.MaxMessageBytes != 2000000 {
		t.Errorf("got %+v", c.Servers)
	}
	if login, ok := a.Auth.(mcpool.OAuth); !ok || login.CAFile != ca {
		t.Errorf("the login is %+v, want it to trust whom the server's entry trusts", a.Auth)
	}
	for _, s := range c.Servers {
		usable(t, s)
	}
}

func TestAuth(t *testing.T) {
	t.Setenv("MCPOOL_TEST_TOKEN", "s3cret")
	for text, want := range map[string]mcpool.Auth{
		`{"bearer_env": "MCPOOL_TEST_TOKEN"}`:                         mcpool.BearerEnv("MCPOOL_TEST_TOKEN"),
		`{"bearer_file": "tokens/a"}`:                                 mcpool.BearerFile("/etc/tokens/a"),
		`{"bearer_file": "/run/a", "//": "mounted"}`:                  mcpool.BearerFile("/run/a"),
		`{"client_id": "a", "client_secret": "${MCPOOL_TEST_TOKEN}"}`: mcpool.OAuth{ClientID: "a", ClientSecret: "s3cret"},
		`{"client_id": "a", "client_secret_file": "b", "refresh_token_file": "c", "scopes": ["d", "e"], "issuer": "https://f"}`: mcpool.OAuth{
			ClientID: "a", ClientSecretFile: "/etc/b", RefreshTokenFile: "/etc/c", Scopes: []string{"d", "e"}, Issuer: "https://f"},
		`null`: nil,
	} {
		c, err := config.Parse([]byte(`{"mcpServers": {"x": {"url": "https://a", "auth": `+text+`}}}`), "/etc/mcp.json", nil)
		if err != nil || !reflect.DeepEqual(c.Servers[0].Auth, want) {
			t.Errorf("%s: %+v, %v", text, c, err)
			continue
		}
		usable(t, c.Servers[0])
	}
}

func TestTransports(t *testing.T) {
	c, err := config.Parse([]byte(`{"mcpServers": {
		"a": {"url": "https://a/sse", "type": "sse"},
		"b": {"url": "https://b/sse", "type": "http"},
		"c": {"url": "https://c/sse"},
	}}`), "mcp.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, false} {
		if c.Servers[i].SSE != want {
			t.Errorf("%s is set to HTTP+SSE: %v", c.Servers[i].Name, c.Servers[i].SSE)
		}
		usable(t, c.Servers[i])
	}
}

func TestNamesBecomeSafe(t *testing.T) {
	for key, want := range map[string]string{
		"My Server":                  "My-Server",
		"io.github.upstash/context7": "io-github-upstash-context7",
		" [weather] ":                "weather",
		"snake_case-1":               "snake_case-1",
		"größe":                      "gr-e",
	} {
		c, err := config.Parse([]byte(`{"servers": {"`+key+`": {"url": "https://a"}}}`), "", nil)
		if err != nil || c.Servers[0].Name != want {
			t.Errorf("%q: %+v, %v, want %s", key, c, err, want)
		}
	}
}

func TestLoadOfAMissingFile(t *testing.T) {
	if _, err := config.Load(filepath.Join(t.TempDir(), "mcp.json"), nil); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
}

func TestLoadIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mcp.json")
	if err := os.WriteFile(path, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path, nil); err == nil || !strings.Contains(err.Error(), "larger than 1024 KiB") {
		t.Errorf("got %v", err)
	}
}

func TestLimitsAreThoseOfAllServers(t *testing.T) {
	c, err := config.Parse([]byte(`{"mcpServers": {"a": {"url": "https://a"}, "b": {"url": "https://b"}},
		"limits": {"max_connections": 200, "max_processes": "32", "max_waiting": 0}}`), "mcp.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b := c.Servers[0].Pool.Limits, c.Servers[1].Pool.Limits
	if a == nil || a != b || a.MaxConnections != 200 || a.MaxProcesses != 32 || a.MaxWaiting != 0 {
		t.Errorf("got %+v and %+v", a, b)
	}
}
