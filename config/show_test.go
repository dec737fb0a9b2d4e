package config_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/config"
)

// shown are the settings of a file, by server/name: value and source.
func shown(t *testing.T, file string, flags map[string]string) map[string]string {
	t.Helper()
	c, err := config.Parse([]byte(file), "mcp.yaml", flags)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, s := range c.Settings() {
		place := s.Server + "/" + s.Name
		if _, twice := all[place]; twice {
			t.Errorf("%s is shown twice", place)
		}
		all[place] = s.Value + " <- " + s.Source
	}
	return all
}

func TestSettingsSayWhereTheyComeFrom(t *testing.T) {
	t.Setenv("MCP_POOL_IDLE_TIMEOUT", "60")
	t.Setenv("MCP_POOL_RETRY_ATTEMPTS", "3")
	t.Setenv("MCP_POOL_GATEWAY_NAME", "here")
	got := shown(t, `mcpServers:
  a:
    url: https://a.example/mcp
    deny: [drop_*, x]
    pool:
      max_connections: 2
      retry_attempts: 4
  b:
    url: https://b.example/mcp
    max_calls: 7
pool:
  max_connections: 5
  leak_after: 90
  call_timeout: 20
limits:
  max_processes: 8
gateway:
  prefix: never
  name: there
databases:
  d:
    dsn: sample
database_server:
  pool: {sharing: shared}
  name: dbs
`, map[string]string{"idle_timeout": "30", "gateway_max_calls_per_principal": "9"})
	for place, want := range map[string]string{
		"/gateway_name":                    "here <- MCP_POOL_GATEWAY_NAME",
		"/gateway_prefix":                  "never <- mcp.yaml:18",
		"/gateway_max_calls_per_principal": "9 <- flag gateway_max_calls_per_principal",
		"/gateway_session_key":             " <- default",
		"/limits_max_processes":            "8 <- mcp.yaml:16",
		"/limits_max_waiting":              "0 <- default",
		"a/max_connections":                "2 <- mcp.yaml:6",
		"b/max_connections":                "5 <- mcp.yaml:12",
		"dbs/max_connections":              "5 <- mcp.yaml:12",
		"a/retry_attempts":                 "4 <- mcp.yaml:7",
		"b/retry_attempts":                 "3 <- MCP_POOL_RETRY_ATTEMPTS",
		"a/idle_timeout":                   "30s <- flag idle_timeout",
		"b/leak_after":                     "1m30s <- mcp.yaml:13",
		"b/call_timeout":                   "20s <- mcp.yaml:14",
		"a/deny":                           "drop_*, x <- mcp.yaml:4",
		"a/max_calls":                      "4096 <- default",
		"b/max_calls":                      "7 <- mcp.yaml:10",
		"b/min_connections":                "1 <- default",
		"dbs/sharing":                      "shared <- mcp.yaml:24",
		"b/sharing":                        " <- default",
	} {
		if got[place] != want {
			t.Errorf("%s is %q, want %q", place, got[place], want)
		}
	}
}

// TestEachSettingIsShown: what can be set is shown, for each server or for all.
func TestEachSettingIsShown(t *testing.T) {
	got := shown(t, "mcpServers: {a: {url: 'https://a.example/mcp'}}", nil)
	for _, name := range config.SettingNames() {
		if got["a/"+name] == "" {
			t.Errorf("%s is not shown", name)
		}
	}
	for _, name := range config.AllSettingNames() {
		if got["/"+name] == "" && got["a/"+name] == "" && !strings.HasPrefix(name, "database_server_") {
			t.Errorf("%s is not shown", name)
		}
	}
}

func TestSettingsHoldNothingSecret(t *testing.T) {
	t.Setenv("TOKEN", "s3cret")
	key := strings.Repeat("5ec4e7", 11)[:64]
	got := shown(t, `{"mcpServers": {
	  "a": {"url": "https://s3cret:s3cret@a.example/s3cret?key=s3cret", "headers": {"X-Key": "${TOKEN}"}},
	  "b": {"command": "tool", "args": ["--token", "s3cret"], "env": {"KEY": "s3cret"}},
	  "c": {"url": "https://c.example", "auth": {"client_id": "s3cret", "client_secret": "s3cret"}}},
	  "databases": {"d": {"dsn": "postgres://me:s3cret@db/sales"}},
	  "gateway": {"session_key": "`+key+`"}}`, nil)
	if text := fmt.Sprint(got); strings.Contains(text, "s3cret") || strings.Contains(text, key[:6]) {
		t.Errorf("got %s", text)
	}
	if got["/gateway_session_key"] != "*** <- mcp.yaml:6" {
		t.Errorf("the key is shown as %q", got["/gateway_session_key"])
	}
}

func TestAdminIsReadFromTheFileTheEnvironmentAndFlags(t *testing.T) {
	const file = "mcpServers: {a: {url: 'https://a.example/mcp'}}\nadmin: {token_file: from-file}"
	load := func(flags map[string]string) *config.Config {
		t.Helper()
		c, err := config.Parse([]byte(file), filepath.Join("etc", "mcp.yaml"), flags)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if got := load(nil).Admin.TokenFile; got != filepath.Join("etc", "from-file") {
		t.Errorf("of the file: %s", got)
	}
	t.Setenv("MCP_POOL_ADMIN_TOKEN_FILE", "from-environment")
	if got := load(nil).Admin.TokenFile; got != "from-environment" {
		t.Errorf("of the environment: %s", got)
	}
	if got := load(map[string]string{"admin_token_file": "from-flag"}).Admin.TokenFile; got != "from-flag" {
		t.Errorf("of the flag: %s", got)
	}
	if c, err := config.Default(nil); err != nil || c.Admin.TokenFile != "from-environment" {
		t.Errorf("without a file: %+v, %v", c, err)
	}
	t.Setenv("MCP_POOL_ADMIN_TOKEN_FILE", "")
	for bad, says := range map[string]string{
		"admin: {token_file: ''}": "mcp.yaml:2: admin.token_file: want a file",
		"admin: {token: x}":       "mcp.yaml:2: admin.token: unknown key",
		"admin: 5":                "mcp.yaml:2: admin: want a mapping",
	} {
		_, err := config.Parse([]byte("mcpServers: {a: {url: 'https://a.example/mcp'}}\n"+bad), "mcp.yaml", nil)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", bad, err, says)
		}
	}
	var a config.Admin
	if err := a.Set("admin_tokenfile", "x"); err == nil || !strings.Contains(err.Error(), "admin_token_file") {
		t.Errorf("got %v", err)
	}
	t.Setenv("MCP_POOL_ADMIN_TOKEN_FIL", "x")
	if _, err := config.Default(nil); err == nil || !strings.Contains(err.Error(), "MCP_POOL_ADMIN_TOKEN_FILE") {
		t.Errorf("got %v", err)
	}
}
