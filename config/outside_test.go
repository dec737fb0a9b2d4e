package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// entries are the keys of what there is to serve and who may call, in which each
// name is one of those and not a setting; and the settings of one server.
var entries = []string{
	"mcpServers", "servers", "databases", "auth.keys", "auth.principals", "database_server.tools",
	"database_server.pool",
}

// mappings are the keys that have keys of their own.
var mappings = map[string]keys{
	"pool": {read: SettingNames()}, "limits": limitKeys, "gateway": gatewayKeys, "log": logKeys, "admin": adminKeys,
	"auth": accessKeys, "auth.jwt": jwtKeys, "auth.client_certificates": certificatesKeys, "tls": tlsKeys,
	"telemetry": telemetryKeys, "database_server": databaseServerKeys, "database_server.audit": auditKeys,
}

// TestEachKeyIsAlsoASettingOutsideOfTheFile walks all keys that a file may have.
func TestEachKeyIsAlsoASettingOutsideOfTheFile(t *testing.T) {
	var places []string
	for _, name := range AllSettingNames() {
		places = append(places, SettingPlace(name))
	}
	var walk func(path string, k keys)
	walk = func(path string, k keys) {
		for _, key := range k.read {
			at := path + key
			if below, is := mappings[at]; is {
				walk(at+".", below)
			} else if !slices.Contains(entries, at) && !slices.Contains(places, at) {
				t.Errorf("%s can be set by no variable, and there is no reason for that", at)
			}
		}
	}
	walk("", topKeys)
}

// TestEachSettingIsTakenFromOutside sets each in the file, then by the
// environment, then by a flag, and looks at what is in force.
func TestEachSettingIsTakenFromOutside(t *testing.T) {
	key := strings.Repeat("ab", 32)
	// By name: a value for the file, the environment and a flag.
	values := map[string][3]string{
		"min_connections": {"2", "3", "4"}, "max_connections": {"7", "8", "9"}, "connection_timeout": {"1s", "2s", "3s"},
		"idle_timeout": {"1s", "2s", "3s"}, "max_connection_age": {"1s", "2s", "3s"}, "health_check_interval": {"1s", "2s", "3s"},
		"retry_attempts": {"1", "3", "4"}, "lazy_initialization": {"false", "true", "false"}, "max_connections_total": {"71", "72", "73"},
		"max_connections_per_principal": {"1", "2", "3"}, "max_connection_calls": {"1", "2", "3"}, "max_waiting": {"1", "2", "3"},
		"max_waiting_per_principal": {"1", "2", "3"}, "calls_per_connection": {"1", "2", "3"}, "sharing": {"shared", "principal", "session"},
		"leak_after": {"1s", "2s", "3s"}, "call_timeout": {"1s", "2s", "3s"},
		"limits_max_connections": {"1", "2", "3"}, "limits_max_processes": {"1", "2", "3"}, "limits_max_waiting": {"1", "2", "3"},
		"gateway_name": {"a", "b", "c"}, "gateway_prefix": {"always", "never", "auto"}, "gateway_max_calls_per_principal": {"1", "2", "3"},
		"gateway_session_key": {key, key, key}, "gateway_session_key_file": {"a", "b", "c"},
		"log_level": {"debug", "warn", "error"}, "log_format": {"json", "text", "json"}, "log_access": {"0.5", "all", "off"},
		"admin_token_file": {"a", "b", "c"},
		"auth_url":         {"https://a", "https://b", "https://c"}, "auth_key_file": {"a", "b", "c"},
		"auth_jwt_issuer": {"https://a", "https://b", "https://c"}, "auth_jwt_audience": {"x, y", "y, z", "z"}, "auth_jwt_jwks_url": {"https://a/k", "https://b/k", "https://c/k"},
		"auth_jwt_scopes": {"a, b", "b, c", "c"}, "auth_jwt_admin_scope": {"a", "b", "c"}, "auth_jwt_algorithms": {"ES256, RS256", "ES256", "RS256"}, "auth_jwt_principal_claim": {"a", "b", "c"},
		"auth_client_certificates_ca_file": {"a", "b", "c"}, "auth_client_certificates_principal": {"uri", "common_name", "uri"},
		"tls_cert_file": {"a", "b", "c"}, "tls_key_file": {"a", "b", "c"},
		"telemetry_otlp_endpoint": {"http://a", "http://b", "http://c"}, "telemetry_headers_file": {"a", "b", "c"}, "telemetry_sample_ratio": {"0.1", "0.2", "0.3"}, "telemetry_service_name": {"a", "b", "c"},
		"database_server_name": {"a", "b", "c"}, "database_server_max_calls_per_principal": {"1", "2", "3"}, "database_server_handle_ttl": {"1s", "2s", "3s"},
		"database_server_allow": {"read_*, list_*", "list_*", "read_*"}, "database_server_deny": {"a, b", "b", "c"}, "database_server_max_calls": {"1", "2", "3"},
		"database_server_audit_file": {"a", "b", "c"}, "database_server_audit_statements": {"full", "fingerprint", "full"}, "database_server_audit_max_bytes": {"1", "2", "3"},
	}
	// What a setting needs beside it, in the file.
	beside := map[string]string{
		"auth":                      "key_file: k",
		"auth.jwt":                  "issuer: https://i, audience: x",
		"auth.client_certificates":  "ca_file: c",
		"tls":                       "cert_file: c, key_file: k",
		"database_server.audit":     "file: f",
		"pool min_connections":      "max_connections: 9",
		"auth.client_certificates ": "tls: {cert_file: c, key_file: k}",
	}
	for _, name := range AllSettingNames() {
		t.Run(name, func(t *testing.T) {
			value, there := values[name]
			if !there {
				t.Fatal("add values for it above")
			}
			place := SettingPlace(name)
			dot := strings.LastIndex(place, ".")
			path, own := place[:dot], place[dot+1:]
			inside := []string{}
			for _, one := range strings.Split(beside[path], ", ") {
				if one != "" && !strings.HasPrefix(one, own+":") {
					inside = append(inside, one)
				}
			}
			if more := beside[path+" "+own]; more != "" {
				inside = append(inside, more)
			}
			file := func(with string) string {
				text := strings.Join(append(slices.Clone(inside), with), ", ")
				for _, key := range slices.Backward(strings.Split(path, ".")) {
					text = key + ": {" + strings.TrimSuffix(text, ", ") + "}"
				}
				return "databases: {d: {dsn: sample}}\n" + text + "\n" + beside[path+" "]
			}
			expect := func(text string, flags map[string]string, value, source string) {
				t.Helper()
				c, err := Parse([]byte(text), filepath.Join("etc", "mcp.yaml"), flags)
				if err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				if name == "gateway_session_key" {
					value = "***"
				}
				for _, s := range c.Settings() {
					if s.Source == source && s.Value == value && (s.Name == name || "database_server_"+s.Name == name) {
						return
					}
				}
				t.Errorf("%s is not %q by %s, but %+v", name, value, source, c.Settings())
			}
			written := value[0]
			if slices.Contains(lists, name) {
				written = `["` + strings.ReplaceAll(value[0], ", ", `", "`) + `"]`
			} else if strings.Contains(written, ":") {
				written = fmt.Sprintf("%q", written)
			}
			inFile := value[0]
			if strings.HasSuffix(name, "_file") {
				inFile = filepath.Join("etc", inFile)
			}
			text := file(own + ": " + written)
			expect(text, nil, inFile, filepath.Join("etc", "mcp.yaml")+":2")
			t.Setenv(Variable(name), strings.ReplaceAll(value[1], ", ", ","))
			expect(text, nil, value[1], Variable(name))
			expect(file(""), nil, value[1], Variable(name)) // where the file says nothing
			expect(text, map[string]string{name: value[2]}, value[2], "flag "+name)
		})
	}
}

// TestWhatIsOutsideIsTakenAsItIs: only a file has references and paths that are
// relative to its folder.
func TestWhatIsOutsideIsTakenAsItIs(t *testing.T) {
	t.Setenv("MCP_POOL_ADMIN_TOKEN_FILE", "${HOME}/token")
	c, err := Parse([]byte("databases: {d: {dsn: sample}}\n"), filepath.Join("etc", "mcp.yaml"), nil)
	if err != nil || c.Admin.TokenFile != "${HOME}/token" {
		t.Errorf("got %+v, %v", c, err)
	}
}

// TestASectionThatIsThereByTheEnvironmentAlone: a file may say nothing of it, and
// what is missing is told of the variable.
func TestASectionThatIsThereByTheEnvironmentAlone(t *testing.T) {
	t.Setenv("MCP_POOL_AUTH_JWT_AUDIENCE", "https://a,https://b")
	_, err := Default(nil)
	if want := "environment MCP_POOL_AUTH_JWT_AUDIENCE: want an issuer"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	c, err := Default(map[string]string{"auth_jwt_issuer": "https://i"})
	if err != nil || c.Auth == nil || c.Auth.JWT == nil || !slices.Equal(c.Auth.JWT.Audience, []string{"https://a", "https://b"}) {
		t.Errorf("got %+v, %v", c, err)
	}
}
