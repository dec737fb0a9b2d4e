package main

import (
	"encoding/json"
	"flag"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/config"
)

// withoutVariables are the flags that the environment does not set, by their
// commands. docs/configure.md says why.
var withoutVariables = map[string][]string{
	"serve":  {"check", "stdio", "key-file"},
	"db":     {},
	"doctor": {"json", "timeout"},
}

// TestEachFlagIsAlsoAVariable walks the flags of the commands that have settings.
func TestEachFlagIsAlsoAVariable(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join("..", "..", "docs", "configure.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, c := range describedCommands(t.Context()) {
		exempt, has := withoutVariables[c.name]
		if !has {
			if len(c.variables) > 0 {
				t.Errorf("%s has variables %v: add it above", c.name, c.variables)
			}
			continue
		}
		c.VisitAll(func(f *flag.Flag) {
			variable := c.variables[f.Name]
			switch {
			case slices.Contains(exempt, f.Name):
				if variable != "" {
					t.Errorf("--%s of %s is set by %s", f.Name, c.name, variable)
				}
				if c.name == "serve" && !strings.Contains(string(guide), "| `--"+f.Name+"`") {
					t.Errorf("docs/configure.md does not say why --%s has no variable", f.Name)
				}
			case variable == "":
				t.Errorf("--%s of %s is set by no variable, and there is no reason for that", f.Name, c.name)
			case !strings.HasSuffix(f.Usage, " ["+variable+"]"):
				t.Errorf("--%s of %s: the help does not say %s", f.Name, c.name, variable)
			}
			all[variable] = true
		})
	}
	for _, name := range append(config.ProgramSettingNames(), config.AllSettingNames()...) {
		if !all[config.Variable(name)] && name != "gateway_session_key" {
			t.Errorf("%s is a setting, and no command has a flag for it", name)
		}
	}
}

// sourcesOf are the settings of a gateway for all servers, by their names: value
// and source.
func sourcesOf(t *testing.T, p *program) map[string]string {
	t.Helper()
	status, out, stderr := finish(t, "show", "config", "--json", "--url", p.url)
	var said struct {
		Settings []struct{ Server, Name, Value, Source string }
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil || status != 0 {
		t.Fatalf("status %d, %v: %s", status, err, stderr)
	}
	all := map[string]string{}
	for _, s := range said.Settings {
		if s.Server == "" {
			all[s.Name] = s.Value + " <- " + s.Source
		}
	}
	return all
}

func TestVariablesOfTheProgramAreInForce(t *testing.T) {
	file := configure(t, "mcp.json", `{"databases": {"here": {"dsn": "sample"}}, "database_server": {"name": "here"}}`)
	for name, value := range map[string]string{
		"CONFIG": file, "LISTEN": somewhere, "LISTEN_WITHOUT_AUTHENTICATION": "true", "ALLOWED_HOSTS": "a.example, b.example",
		"ALLOWED_ORIGINS": "https://c.example", "DRAIN_TIMEOUT": "20", "DRAIN_DELAY": "1ms",
		"DB_LISTEN": "of another command", "LIMITS_MAX_WAITING": "77", "LOG_ACCESS": "all", "TELEMETRY_SERVICE_NAME": "mine",
	} {
		t.Setenv("MCP_POOL_"+name, value)
	}
	p := start(t, "serve").greeted(t)
	got := sourcesOf(t, p)
	want := map[string]string{
		"config":                        file + " <- MCP_POOL_CONFIG",
		"listen":                        strings.TrimPrefix(p.url, "http://") + " <- MCP_POOL_LISTEN",
		"listen_without_authentication": "true <- MCP_POOL_LISTEN_WITHOUT_AUTHENTICATION",
		"allowed_hosts":                 "a.example, b.example <- MCP_POOL_ALLOWED_HOSTS",
		"allowed_origins":               "https://c.example <- MCP_POOL_ALLOWED_ORIGINS",
		"drain_timeout":                 "20s <- MCP_POOL_DRAIN_TIMEOUT",
		"drain_delay":                   "1ms <- MCP_POOL_DRAIN_DELAY",
	}
	want["limits_max_waiting"] = "77 <- MCP_POOL_LIMITS_MAX_WAITING"
	want["log_access"] = "all <- MCP_POOL_LOG_ACCESS"
	want["telemetry_service_name"] = "mine <- MCP_POOL_TELEMETRY_SERVICE_NAME"
	for name := range got {
		if slices.Contains(config.ProgramSettingNames(), name) && want[name] == "" {
			t.Errorf("%s is shown", name)
		}
	}
	for name := range want {
		if want[name] != got[name] {
			t.Errorf("%s is %q, want %q", name, got[name], want[name])
		}
	}
	if servers := greeting(t, p)["servers"]; !strings.HasPrefix(servers, "here ") {
		t.Errorf("it serves %s", servers)
	}
	for host, want := range map[string]int{"b.example": 200, "d.example": 403} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		if resp, err := once.Do(r); err != nil || resp.StatusCode != want {
			t.Errorf("as %s: %v, %v, want %d", host, resp, err, want)
		} else {
			resp.Body.Close()
		}
	}
}

func TestFlagsBeatVariablesOfTheProgram(t *testing.T) {
	t.Setenv("MCP_POOL_LISTEN", "of no use")
	t.Setenv("MCP_POOL_DRAIN_TIMEOUT", "20")
	t.Setenv("MCP_POOL_ALLOWED_HOSTS", "a.example")
	got := sourcesOf(t, serve(t, "--drain-timeout", "10", "--allowed-hosts", "b.example"))
	for name, want := range map[string]string{
		"drain_timeout": "10s <- flag drain_timeout", "allowed_hosts": "b.example <- flag allowed_hosts", "drain_delay": "0s <- default",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if !strings.HasSuffix(got["listen"], " <- flag listen") {
		t.Errorf("listen is %s", got["listen"])
	}
}

func TestVariablesOfTheDatabaseServerAreInForce(t *testing.T) {
	for name, value := range map[string]string{
		"DSN": filepath.Join(t.TempDir(), "new.db"), "MODE": "write", "LISTEN": somewhere, "AUDIT": filepath.Join(t.TempDir(), "audit"),
	} {
		t.Setenv("MCP_POOL_DB_"+name, value)
	}
	p := start(t, "db")
	p.url = p.await(t, &p.err, `mcp=(http://\S+)/mcp`)
	if got := toolNames(t, "--url", p.url); !slices.Contains(got, "write_data") {
		t.Errorf("it has %q", got)
	}
	if _, err := os.Stat(os.Getenv("MCP_POOL_DB_AUDIT")); err != nil {
		t.Error(err)
	}
}

// TestNoVariableOfTheDatabaseServerIsDropped: a file says by itself whether there
// is an audit, and a variable that names one is not to be taken for that.
func TestNoVariableOfTheDatabaseServerIsDropped(t *testing.T) {
	for name, value := range map[string]string{"AUDIT": "audit", "MODE": "read_only", "PASSWORD_FILE": "p", "ALLOW_UNSAFE_ROLE": "true"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("MCP_POOL_DB_"+name, value)
			code, _, stderr := finish(t, "db", "--config", configure(t, "mcp.json", `{"databases": {"sales": {"dsn": "sample"}}}`))
			if code != 2 || !strings.Contains(stderr, "environment MCP_POOL_DB_"+name+": with --config") {
				t.Errorf("code %d, %s", code, stderr)
			}
		})
	}
}

// TestVariablesThatMakeNoSenseAreRefused has one for each variable of the program,
// so each is looked at; the error says where the value is from.
func TestVariablesThatMakeNoSenseAreRefused(t *testing.T) {
	type bad struct {
		value, says string
		status      int
	}
	perhaps := bad{"perhaps", `: value "perhaps": want true or false`, 1}
	listens := map[string]bad{
		"listen": {"7432", ` "7432": want HOST:PORT`, 2}, "listen_without_authentication": perhaps,
		"allowed_hosts": {"a,,b", `: value "a,,b": want names`, 1}, "allowed_origins": {",", `: value ",": want names`, 1},
		"drain_timeout": {"never", `: value "never": ` + wantPeriod, 1},
	}
	commands := map[string]map[string]bad{"serve": maps.Clone(listens), "db": maps.Clone(listens)}
	maps.Copy(commands["serve"], map[string]bad{
		"config":      {"no-such-file.json", "open no-such-file.json: no such file", 1},
		"drain_delay": {"1h", " of 1h0m0s leaves nothing of --drain-timeout of 30s", 2},
	})
	maps.Copy(commands["db"], map[string]bad{
		"config": {"no-such-file.json", "open no-such-file.json: no such file", 1}, "dsn": {"oracle://a", `scheme "oracle" is not supported`, 2},
		"mode": {"rw", ` "rw": want read_only or write`, 2}, "password_file": {"no-such-file", "open no-such-file: no such file", 1},
		"audit": {".", "audit: . is a directory", 2}, "allow_unsafe_role": perhaps,
	})
	tried := map[string]bool{}
	for command, all := range commands {
		for name, bad := range all {
			setting, args := name, []string{command}
			if command == "db" {
				if setting = "db_" + name; name != "config" && name != "dsn" {
					args = append(args, "--dsn", "sample")
				}
				if name != "listen" {
					args = append(args, "--listen", somewhere)
				}
			} else if name != "listen" {
				args = append(args, "--listen", somewhere)
			}
			tried[setting] = true
			t.Run(setting, func(t *testing.T) {
				variable := config.Variable(setting)
				t.Setenv(variable, bad.value)
				says := []string{bad.says}
				if strings.HasPrefix(bad.says, " ") || strings.HasPrefix(bad.says, ":") {
					says[0] = "environment " + variable + bad.says
				}
				refusal{args, bad.status, says}.check(t)
			})
		}
	}
	for _, name := range config.ProgramSettingNames() {
		if !tried[name] {
			t.Errorf("%s is not tried", name)
		}
	}
}

// TestADSNOnTheCommandLineIsWhatIsServed: that the environment names a file is no
// reason to refuse it.
func TestADSNOnTheCommandLineIsWhatIsServed(t *testing.T) {
	t.Setenv("MCP_POOL_DB_CONFIG", "no-such-file")
	p := serveDB(t, "--dsn", "sample")
	if got := toolNames(t, "--url", p.url); !slices.Contains(got, "read_data") {
		t.Errorf("it has %q", got)
	}
}

// TestHowAProgramIsToldWhereToListenMakesNoOtherConfiguration: programs join one
// gateway, one by a flag and the other by the environment.
func TestHowAProgramIsToldWhereToListenMakesNoOtherConfiguration(t *testing.T) {
	s := &service{file: "mcp.json", key: make([]byte, 32)}
	by := s.fingerprint(nil)
	t.Setenv("MCP_POOL_LISTEN", "127.0.0.1:7433")
	t.Setenv("MCP_POOL_CONFIG", "mcp.json")
	if s.fingerprint(nil) != by {
		t.Error("where it listens makes another configuration")
	}
	t.Setenv("MCP_POOL_MAX_WAITING", "7")
	if s.fingerprint(nil) == by {
		t.Error("a setting makes no other configuration")
	}
}
