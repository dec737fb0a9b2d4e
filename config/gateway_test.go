package config_test

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/gateway"
)

func TestServersSayWhichToolsAreServed(t *testing.T) {
	c, err := config.Parse([]byte(`
mcpServers: {a: {url: https://a, allow: ["read_*", list], deny: [read_all], max_calls: 7}}
databases: {b: {dsn: sample}}
database_server: {deny: ["*_all"]}`), "mcp.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b := c.Servers[0], c.Servers[1]
	if !reflect.DeepEqual(a.Allow, []string{"read_*", "list"}) || !reflect.DeepEqual(a.Deny, []string{"read_all"}) || a.MaxCalls != 7 ||
		b.Allow != nil || !reflect.DeepEqual(b.Deny, []string{"*_all"}) || b.MaxCalls != 0 {
		t.Errorf("got %+v and %+v", a, b)
	}
}

// key is a session key made of one character, in hex.
func key(digit string) string { return strings.Repeat(digit, 2*gateway.KeySize) }

func TestGatewaySettings(t *testing.T) {
	const servers = "databases: {a: {dsn: sample}}\n"
	bytes := func(digit string) []byte {
		b, err := gateway.ParseKey(key(digit))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, test := range map[string]struct {
		file        string
		environment map[string]string
		flags       map[string]string
		want        config.Gateway
	}{
		"nothing": {},
		"the file": {
			file: "gateway: {name: g-1, prefix: never, max_calls_per_principal: 5, session_key: " + key("a") + "}",
			want: config.Gateway{Name: "g-1", Prefix: gateway.PrefixNever, MaxCallsPerPrincipal: 5, SessionKey: bytes("a")},
		},
		"the environment beats it": {
			file:        "gateway: {name: g-1, prefix: never, session_key: " + key("a") + "}",
			environment: map[string]string{"PREFIX": "always", "SESSION_KEY": key("b")},
			want:        config.Gateway{Name: "g-1", Prefix: gateway.PrefixAlways, SessionKey: bytes("b")},
		},
		"flags beat both": {
			file:        "gateway: {prefix: never, session_key: " + key("a") + ", max_calls_per_principal: 5}",
			environment: map[string]string{"PREFIX": "always", "SESSION_KEY": key("b"), "MAX_CALLS_PER_PRINCIPAL": "6"},
			flags:       map[string]string{"gateway_prefix": "auto", "gateway_session_key_file": "c", "gateway_max_calls_per_principal": "7"},
			want:        config.Gateway{Prefix: gateway.PrefixAuto, SessionKeyFile: "c", MaxCallsPerPrincipal: 7},
		},
		"a file of a key": {
			file: "gateway: {session_key_file: keys/one}",
			want: config.Gateway{SessionKeyFile: filepath.Join("etc", "keys", "one")},
		},
		"a key beats a file of one": {
			file:        "gateway: {session_key_file: keys/one}",
			environment: map[string]string{"SESSION_KEY": key("b")},
			want:        config.Gateway{SessionKey: bytes("b")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range test.environment {
				t.Setenv("MCP_POOL_GATEWAY_"+variable, value)
			}
			c, err := config.Parse([]byte(servers+test.file), filepath.Join("etc", "mcp.yaml"), test.flags)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(c.Gateway, test.want) {
				t.Errorf("got %+v, want %+v", c.Gateway, test.want)
			}
			if test.file == "" {
				if c, err = config.Default(test.flags); err != nil || !reflect.DeepEqual(c.Gateway, test.want) {
					t.Errorf("without a file: got %+v, %v", c, err)
				}
			}
		})
	}
}

func TestGatewaySettingsFromOutsideAreChecked(t *testing.T) {
	t.Setenv("MCP_POOL_GATEWAY_SESSION_KEY", "s3cret")
	t.Setenv("MCP_POOL_GATEWAY_SESSION_KEY_FILE", "a")
	t.Setenv("MCP_POOL_GATEWAY_PREFX", "auto")
	_, err := config.Default(map[string]string{"gateway_name": "a b", "gateway_prefx": "auto"})
	want := `MCP_POOL_GATEWAY_PREFX in the environment: unknown setting; did you mean MCP_POOL_GATEWAY_PREFIX?
flag gateway_prefx: unknown setting; did you mean gateway_prefix?
environment MCP_POOL_GATEWAY_SESSION_KEY: want a key of 32 bytes in hex or base64, as of openssl rand -hex 32
environment MCP_POOL_GATEWAY_SESSION_KEY_FILE: beside the other one of session_key and session_key_file: want one of them
flag gateway_name: value "a b": want 1 to 64 letters, digits, '-' and '_'`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
