package config_test

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/auth"
	"github.com/mcpool-dev/mcpool/config"
)

const sampleServer = "databases: {a: {dsn: sample}}\n"

func TestWhoMayCallIsRead(t *testing.T) {
	t.Setenv("MCPOOL_TEST_HASH", strings.Repeat("ab", 32))
	c, err := config.Parse([]byte(sampleServer+`
auth:
  url: https://mcp.example.com/
  keys: [{name: ci, sha256: "sha256:${MCPOOL_TEST_HASH}"}, {name: ops, sha256: `+strings.Repeat("cd", 32)+`, admin: true}]
  key_file: keys
  jwt: {issuer: https://login.example.com, audience: api, jwks_url: https://login.example.com/keys, scopes: [a, b], admin_scope: c, algorithms: [ES256], principal_claim: email}
  client_certificates: {ca_file: clients.pem, principal: common_name}
  principals:
    ci: {allow: [a], deny: [b], allow_tools: ["a__*"], deny_tools: ["*__x"], rate: 2.5, burst: 7, max_calls: 3}
    "*": {deny: ["*"]}
tls: {cert_file: cert.pem, key_file: /etc/key.pem}
`), filepath.Join("etc", "mcp.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	hash := func(digits string) (h [32]byte) {
		h, err := auth.ParseHash(strings.Repeat(digits, 32))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	want := &auth.Options{
		URL:     "https://mcp.example.com",
		Keys:    []auth.Key{{Name: "ci", Hash: hash("ab")}, {Name: "ops", Hash: hash("cd"), Admin: true}},
		KeyFile: filepath.Join("etc", "keys"),
		JWT: &auth.JWT{
			Issuer: "https://login.example.com", Audience: []string{"api"}, JWKSURL: "https://login.example.com/keys",
			Scopes: []string{"a", "b"}, AdminScope: "c", Algorithms: []string{"ES256"}, PrincipalClaim: "email",
		},
		Certificates: auth.CertificateCommonName,
		Rules: []auth.Rule{
			{Principals: "ci", Allow: []string{"a"}, Deny: []string{"b"}, AllowTools: []string{"a__*"}, DenyTools: []string{"*__x"}, Rate: 2.5, Burst: 7, MaxCalls: 3},
			{Principals: "*", Deny: []string{"*"}},
		},
	}
	if !reflect.DeepEqual(c.Auth, want) {
		t.Errorf("got %+v, want %+v", c.Auth, want)
	}
	if want := (config.TLS{CertFile: filepath.Join("etc", "cert.pem"), KeyFile: "/etc/key.pem", ClientCAFile: filepath.Join("etc", "clients.pem")}); c.TLS != want {
		t.Errorf("got %+v, want %+v", c.TLS, want)
	}
	if c, err = config.Parse([]byte(sampleServer), "mcp.yaml", nil); err != nil || c.Auth != nil || c.TLS != (config.TLS{}) {
		t.Errorf("of nothing: %+v, %v", c, err)
	}
}

func TestWhoMayCallFromOutsideOfTheFile(t *testing.T) {
	const file = sampleServer + "auth: {url: 'https://file', key_file: file}\ntls: {cert_file: file, key_file: file}\n"
	all := map[string]string{"auth_url": "https://%s", "auth_key_file": "%s", "tls_cert_file": "%s", "tls_key_file": "%s"}
	flags := map[string]string{}
	got := func() [4]string {
		t.Helper()
		c, err := config.Parse([]byte(file), "mcp.yaml", flags)
		if err != nil {
			t.Fatal(err)
		}
		return [4]string{c.Auth.URL, c.Auth.KeyFile, c.TLS.CertFile, c.TLS.KeyFile}
	}
	want := func(source string) [4]string { return [4]string{"https://" + source, source, source, source} }
	if got() != want("file") {
		t.Errorf("the file: %q", got())
	}
	for name, format := range all {
		t.Setenv("MCP_POOL_"+strings.ToUpper(name), strings.Replace(format, "%s", "environment", 1))
	}
	if got() != want("environment") {
		t.Errorf("the environment: %q", got())
	}
	for name, format := range all {
		flags[name] = strings.Replace(format, "%s", "flag", 1)
	}
	if got() != want("flag") {
		t.Errorf("flags: %q", got())
	}
	if c, err := config.Default(map[string]string{"auth_key_file": "keys"}); err != nil || c.Auth == nil || c.Auth.KeyFile != "keys" {
		t.Errorf("without a file: %+v, %v", c, err)
	}
}
