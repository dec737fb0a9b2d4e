package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/config"
)

// A setting as documented, with two values other than each other to tell
// apart where it was read from.
type setting struct {
	variable string // in the environment; files and flags: see key
	get      func(config.Server) any
	byDefault,
	a, b any
	aText, bText string
	nonsense     []string
	allowed      string // what the refusal of nonsense says
}

func (s setting) key() string {
	return strings.ToLower(strings.TrimPrefix(s.variable, mcpool.EnvPrefix))
}

// sources are where a setting may be given, the weakest first.
var sources = []string{"file", "environment", "flag", "server"}

// load reads a file of one server with the setting given as the values say,
// by source.
func (s setting) load(t *testing.T, values map[string]string) (config.Server, error) {
	t.Helper()
	t.Setenv(s.variable, values["environment"])
	in := func(source string) string {
		if value, given := values[source]; given {
			return fmt.Sprintf("pool: {%s: %s}", s.key(), value)
		}
		return "pool:"
	}
	flags := make(map[string]string)
	if value, given := values["flag"]; given {
		flags[s.key()] = value
	}
	file := in("file") + "\nmcpServers:\n  x:\n    url: https://example.com/mcp\n    " + in("server")
	c, err := config.Parse([]byte(file), "mcp.yaml", flags)
	if err != nil {
		return config.Server{}, err
	}
	return c.Servers[0], nil
}

func (s setting) test(t *testing.T) {
	expect := func(want any, values map[string]string) {
		t.Helper()
		got, err := s.load(t, values)
		if err != nil {
			t.Errorf("%v: %v", values, err)
		} else if s.get(got) != want {
			t.Errorf("%v: got %v, want %v", values, s.get(got), want)
		}
	}
	expect(s.byDefault, nil)
	values := make(map[string]string)
	for _, source := range sources {
		expect(s.a, map[string]string{source: s.aText})
		values[source] = s.bText // over s.aText in all the weaker ones
		expect(s.b, values)
		values[source] = s.aText
	}
	expect(s.a, map[string]string{"file": `"` + s.aText + `"`})
	for _, wrong := range s.nonsense {
		for source, where := range map[string]string{
			"file":        "mcp.yaml:1: pool." + s.key() + `: value "` + wrong + `": `,
			"environment": "environment " + s.variable + `: value "` + wrong + `": `,
			"flag":        "flag " + s.key() + `: value "` + wrong + `": `,
			"server":      "mcp.yaml:5: mcpServers.x.pool." + s.key() + `: value "` + wrong + `": `,
		} {
			if _, err := s.load(t, map[string]string{source: wrong}); err == nil || err.Error() != where+s.allowed {
				t.Errorf("%s from %s: got %v, want %s", wrong, source, err, where+s.allowed)
			}
		}
	}
}

const (
	wantTime   = "want seconds such as 35.0 or a duration such as 35s, not negative"
	wantNumber = "want a whole number from %d to 1000000"
)

func number(variable string, byDefault, a, b, least int, get func(config.Server) any) setting {
	return setting{
		variable: variable, get: get, byDefault: byDefault,
		a: a, aText: fmt.Sprint(a), b: b, bText: fmt.Sprint(b),
		nonsense: []string{fmt.Sprint(least - 1), "2.5", "many", "1000001"}, allowed: fmt.Sprintf(wantNumber, least),
	}
}

func period(variable string, byDefault time.Duration, get func(config.Server) any) setting {
	return setting{
		variable: variable, get: get, byDefault: byDefault,
		a: 1500 * time.Millisecond, aText: "1.5", b: 2 * time.Minute, bText: "2m",
		nonsense: []string{"-1", "soon", "NaN", "5 minutes"}, allowed: wantTime,
	}
}

func TestSetting_MCP_POOL_MIN_CONNECTIONS(t *testing.T) {
	number("MCP_POOL_MIN_CONNECTIONS", 1, 0, 5, 0, func(s config.Server) any { return s.Pool.MinConnections }).test(t)
}

func TestSetting_MCP_POOL_MAX_CONNECTIONS(t *testing.T) {
	number("MCP_POOL_MAX_CONNECTIONS", 6, 1, 64, 1, func(s config.Server) any { return s.Pool.MaxConnections }).test(t)
}

func TestSetting_MCP_POOL_CONNECTION_TIMEOUT(t *testing.T) {
	period("MCP_POOL_CONNECTION_TIMEOUT", 35*time.Second, func(s config.Server) any { return s.Pool.ConnectionTimeout }).test(t)
	no := setting{variable: "MCP_POOL_CONNECTION_TIMEOUT"}
	if _, err := no.load(t, map[string]string{"environment": "0"}); err == nil || !strings.Contains(err.Error(), "want 1ms or more") {
		t.Errorf("0: got %v", err)
	}
}

func TestSetting_MCP_POOL_IDLE_TIMEOUT(t *testing.T) {
	period("MCP_POOL_IDLE_TIMEOUT", 600*time.Second, func(s config.Server) any { return s.Pool.IdleTimeout }).test(t)
}

func TestSetting_MCP_POOL_MAX_CONNECTION_AGE(t *testing.T) {
	period("MCP_POOL_MAX_CONNECTION_AGE", 7200*time.Second, func(s config.Server) any { return s.Pool.MaxConnectionAge }).test(t)
}

func TestSetting_MCP_POOL_HEALTH_CHECK_INTERVAL(t *testing.T) {
	period("MCP_POOL_HEALTH_CHECK_INTERVAL", 300*time.Second, func(s config.Server) any { return s.Pool.HealthCheckInterval }).test(t)
}

func TestSetting_MCP_POOL_RETRY_ATTEMPTS(t *testing.T) {
	number("MCP_POOL_RETRY_ATTEMPTS", 2, 1, 3, 1, func(s config.Server) any { return s.Pool.RetryAttempts }).test(t)
}

func TestSetting_MCP_POOL_LAZY_INITIALIZATION(t *testing.T) {
	setting{
		variable: "MCP_POOL_LAZY_INITIALIZATION", byDefault: true,
		get: func(s config.Server) any { return s.Pool.LazyInitialization },
		a:   false, aText: "false", b: true, bText: "True",
		nonsense: []string{"maybe", "2"}, allowed: "want true or false",
	}.test(t)
}

func TestSetting_MCP_POOL_MAX_CONNECTIONS_TOTAL(t *testing.T) {
	number("MCP_POOL_MAX_CONNECTIONS_TOTAL", 0, 10, 20, 0, func(s config.Server) any { return s.Pool.MaxConnectionsTotal }).test(t)
}

func TestSetting_MCP_POOL_MAX_WAITING(t *testing.T) {
	number("MCP_POOL_MAX_WAITING", 10_000, 10, 20, 0, func(s config.Server) any { return s.Pool.MaxWaiting }).test(t)
}

func TestSetting_MCP_POOL_MAX_CONNECTIONS_PER_PRINCIPAL(t *testing.T) {
	number("MCP_POOL_MAX_CONNECTIONS_PER_PRINCIPAL", 0, 10, 20, 0, func(s config.Server) any { return s.Pool.MaxConnectionsPerPrincipal }).test(t)
}

func TestSetting_MCP_POOL_MAX_CONNECTION_CALLS(t *testing.T) {
	number("MCP_POOL_MAX_CONNECTION_CALLS", 0, 10, 20, 0, func(s config.Server) any { return s.Pool.MaxConnectionCalls }).test(t)
}

func TestSetting_MCP_POOL_MAX_WAITING_PER_PRINCIPAL(t *testing.T) {
	number("MCP_POOL_MAX_WAITING_PER_PRINCIPAL", 0, 10, 20, 0, func(s config.Server) any { return s.Pool.MaxWaitingPerPrincipal }).test(t)
}

func TestSetting_MCP_POOL_LEAK_AFTER(t *testing.T) {
	period("MCP_POOL_LEAK_AFTER", 600*time.Second, func(s config.Server) any { return s.Pool.LeakAfter }).test(t)
}

func TestSetting_MCP_POOL_CALLS_PER_CONNECTION(t *testing.T) {
	number("MCP_POOL_CALLS_PER_CONNECTION", 0, 1, 32, 0, func(s config.Server) any { return s.Pool.CallsPerConnection }).test(t)
}

func TestSetting_MCP_POOL_SHARING(t *testing.T) {
	setting{
		variable: "MCP_POOL_SHARING", byDefault: mcpool.Sharing(""),
		get: func(s config.Server) any { return s.Pool.Sharing },
		a:   mcpool.ShareAll, aText: "shared", b: mcpool.ShareSession, bText: "session",
		nonsense: []string{"nobody"}, allowed: "want shared, principal or session",
	}.test(t)
}

func TestSetting_MCP_POOL_CALL_TIMEOUT(t *testing.T) {
	get := func(s config.Server) any { return s.CallTimeout }
	period("MCP_POOL_CALL_TIMEOUT", 300*time.Second, get).test(t)
	s := period("MCP_POOL_CALL_TIMEOUT", 0, get)
	if got, err := s.load(t, map[string]string{"flag": "0"}); err != nil || got.CallTimeout != 0 {
		t.Errorf("0: got %v, %v, want no limit", got.CallTimeout, err)
	}
}

func TestEverySettingHasATest(t *testing.T) {
	want := "min_connections max_connections connection_timeout idle_timeout max_connection_age health_check_interval " +
		"retry_attempts lazy_initialization max_connections_total max_connections_per_principal max_connection_calls " +
		"max_waiting max_waiting_per_principal calls_per_connection sharing leak_after call_timeout"
	if got := strings.Join(config.SettingNames(), " "); got != want {
		t.Errorf("got %s, want %s: add a test above", got, want)
	}
}

func TestSettingsOfOneServerLeaveOthersAlone(t *testing.T) {
	c, err := config.Parse([]byte(`{"mcpServers": {
		"a": {"url": "https://a", "pool": {"max_connections": 2, "call_timeout": 1}},
		"b": {"url": "https://b"},
	}}`), "mcp.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := c.Servers[0], c.Servers[1]; a.Pool.MaxConnections != 2 || a.CallTimeout != time.Second ||
		b.Pool.MaxConnections != 6 || b.CallTimeout != config.DefaultCallTimeout {
		t.Errorf("got %+v and %+v", a, b)
	}
}

func TestMisspeltVariableIsRefused(t *testing.T) {
	t.Setenv("MCP_POOL_MAX_CONNECTION", "5")
	_, err := config.Default(nil)
	if want := "MCP_POOL_MAX_CONNECTION in the environment: unknown setting; did you mean MCP_POOL_MAX_CONNECTIONS?"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
