package config_test

import (
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/config"
)

// entry is a file with one server.
func entry(fields string) string { return `{"mcpServers": {"x": {` + fields + `}}}` }

// Each bad file, and what its error must say. A file that begins with { is
// JSON, any other is YAML. No error may hold the word s3cret.
var bad = map[string]struct {
	data string
	want []string
}{
	"no server":          {`{}`, []string{"mcp: no server"}},
	"empty":              {``, []string{"mcp: no server"}},
	"all disabled":       {entry(`"disabled": true`), []string{"no server"}},
	"not a mapping":      {`- a`, []string{"mcp:1: want a mapping of names to values"}},
	"a scalar":           {`a`, []string{"want a mapping of names to values"}},
	"servers as a list":  {`{"mcpServers": []}`, []string{"mcp:1: mcpServers: want a mapping of names to values"}},
	"a server as a text": {`{"mcpServers": {"x": "npx"}}`, []string{"mcpServers.x: want a mapping of names to values"}},

	"JSON syntax":          {"{\n\"a\": s3cret}", []string{"mcp:2: not JSON: invalid"}},
	"JSON cut off":         {`{"a": `, []string{"not JSON", "unexpected EOF"}},
	"JSON bad escape":      {`{"a": "s3cret\x"}`, []string{"not JSON: invalid literal"}},
	"JSON twice the key":   {"{\"pool\": {},\n\"pool\": {}}", []string{"mcp:2: pool: there already, on line 1"}},
	"JSON twice a server":  {`{"servers": {"x": {"url": "https://a"}, "x": {"url": "https://b"}}}`, []string{"servers.x: there already"}},
	"JSON too deep":        {strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), []string{"nested more than"}},
	"YAML syntax":          {"a: [s3cret", []string{"mcp:1: not YAML"}},
	"YAML tab":             {"a:\n\t- s3cret", []string{"mcp:2: not YAML"}},
	"YAML twice the key":   {"pool: {}\npool: {}", []string{"mcp:2: pool: there already, on line 1"}},
	"YAML two documents":   {"a: 1\n---\nb: 2", []string{"mcp:3: a second YAML document"}},
	"YAML anchor":          {"a: &s3cret 1", []string{"mcp:1: a YAML anchor"}},
	"YAML alias":           {"a: *s3cret", []string{"mcp:1: a YAML anchor or alias"}},
	"YAML merge":           {"<<: {a: 1}", []string{"a YAML merge key"}},
	"YAML tag":             {"a: !!str s3cret", []string{"a YAML tag"}},
	"YAML key":             {"? a\n: b", []string{"a YAML key that is not plain"}},
	"YAML too deep":        {strings.Repeat("[", 100), []string{"nested more than"}},
	"YAML too deep blocks": {strings.Repeat("- ", 100) + "a", []string{"nested more than"}},

	"unknown key at the top": {`{"mcpServer": {}}`, []string{"mcp:1: mcpServer: unknown key; did you mean mcpServers?"}},
	"unknown key":            {entry("\n" + `"comand": "npx"`), []string{"mcp:2: mcpServers.x.comand: unknown key; did you mean command?"}},
	"unknown key, none near": {entry(`"zzzzzz": 1`), []string{"mcpServers.x.zzzzzz: unknown key; there are type, url,"}},
	"unknown database key":   {`{"databases": {"d": {"dns": "s3cret"}}}`, []string{"databases.d.dns: unknown key; did you mean dsn?"}},
	"another client's url":   {entry(`"httpUrl": "https://s3cret"`), []string{"mcpServers.x.httpUrl: write it as url"}},
	"choosing tools":         {entry(`"url": "https://a", "disabledTools": ["b"]`), []string{"x.disabledTools: write it as deny"}},
	"logging in by person":   {entry(`"url": "https://a", "oauth": {"clientId": "s3cret"}`), []string{"x.oauth: logging in by a person is not supported: give the credentials in auth"}},
	"program for headers":    {entry(`"url": "https://a", "headersHelper": "s3cret"`), []string{"x.headersHelper: running a program for headers is not supported: give them in headers, or in auth"}},

	"auth as a text":      {entry(`"url": "https://a", "auth": "s3cret"`), []string{"mcpServers.x.auth: want a mapping"}},
	"auth of nothing":     {entry(`"url": "https://a", "auth": {}`), []string{"mcpServers.x.auth: want one of bearer_env, bearer_file and client_id"}},
	"auth in two ways":    {entry(`"url": "https://a", "auth": {"bearer_file": "s3cret", "client_id": "b", "client_secret": "s3cret"}`), []string{"mcpServers.x.auth: want one of bearer_env"}},
	"auth of a command":   {entry(`"command": "a", "auth": {"bearer_file": "s3cret"}`), []string{"mcpServers.x.auth: goes with a url"}},
	"auth and a header":   {entry(`"url": "https://a", "headers": {"authorization": "s3cret"}, ` + "\n" + `"auth": {"bearer_file": "s3cret"}`), []string{"mcp:2: mcpServers.x.auth: beside an Authorization in headers"}},
	"auth and a user":     {entry(`"url": "https://me:s3cret@a", "auth": {"bearer_file": "s3cret"}`), []string{"mcpServers.x.auth: beside"}},
	"auth, unknown key":   {entry(`"url": "https://a", "auth": {"clientid": "s3cret"}`), []string{"mcpServers.x.auth.clientid: unknown key; did you mean client_id?"}},
	"auth, not set":       {entry(`"url": "https://a", "auth": {"bearer_env": "UNSET"}`), []string{"mcpServers.x.auth.bearer_env: environment variable UNSET is not set"}},
	"auth, no file":       {entry(`"url": "https://a", "auth": {"bearer_file": ""}`), []string{"mcpServers.x.auth: want a file as bearer_file"}},
	"auth, no client":     {entry(`"url": "https://a", "auth": {"client_secret": "s3cret"}`), []string{"mcpServers.x.auth: want a client_id"}},
	"auth, no secret":     {entry(`"url": "https://a", "auth": {"client_id": "a"}`), []string{"mcpServers.x.auth: want a client_secret, a client_secret_file or a refresh_token_file"}},
	"auth, two secrets":   {entry(`"url": "https://a", "auth": {"client_id": "a", "client_secret": "s3cret", "client_secret_file": "s3cret"}`), []string{"mcpServers.x.auth: has a client_secret and a client_secret_file"}},
	"auth, issuer":        {entry(`"url": "https://a", "auth": {"client_id": "a", "client_secret": "s3cret", "issuer": "http://s3cret"}`), []string{"mcpServers.x.auth: OAuth: Issuer: want an https URL"}},
	"auth, scopes":        {entry(`"url": "https://a", "auth": {"client_id": "a", "client_secret": "s3cret", "scopes": "b"}`), []string{"mcpServers.x.auth.scopes: want a list of strings"}},
	"auth, refresh token": {entry(`"url": "https://a", "auth": {"client_id": "a", "refresh_token": "s3cret"}`), []string{"mcpServers.x.auth.refresh_token: it is replaced by another now and then"}},

	"sse and command":  {entry(`"type": "sse", "command": "a"`), []string{"mcpServers.x: type sse wants a url, not a command"}},
	"sse and modern":   {entry(`"type": "sse", "url": "https://a/sse", "protocol": "2026-07-28"`), []string{"mcpServers.x: type sse is older than protocol 2026-07-28"}},
	"type":             {entry(`"type": "grpc", "url": "https://a"`), []string{`mcpServers.x.type: value "grpc": want stdio, http or sse`}},
	"protocol":         {entry(`"url": "https://a", "protocol": "2026"`), []string{`mcpServers.x.protocol: value "2026": want auto, 2026-07-28, 2025-11-25, `}},
	"stdio with a url": {entry(`"type": "stdio", "url": "https://a"`), []string{"mcpServers.x: type stdio wants a command"}},
	"http and command": {entry(`"type": "http", "command": "a"`), []string{"mcpServers.x: type http wants a url"}},
	"neither":          {entry(``), []string{"mcpServers.x: want a url or a command"}},
	"both":             {entry(`"url": "https://a", "command": "b"`), []string{"mcpServers.x: has a url and a command"}},
	"url with env":     {entry(`"url": "https://a", "env": {"A": "s3cret"}`), []string{"mcpServers.x: args, env, envFile, cwd and close_grace go with a command"}},
	"url with grace":   {entry(`"url": "https://a", "close_grace": 1`), []string{"mcpServers.x: args, env, envFile, cwd and close_grace go with a command"}},
	"negative grace":   {entry(`"command": "a", "close_grace": -1`), []string{`mcpServers.x.close_grace: value "-1": want seconds such as 35.0`}},
	"grace, no time":   {entry(`"command": "a", "close_grace": "soon"`), []string{`mcpServers.x.close_grace: value "soon": want seconds such as 35.0`}},
	"grace of a list":  {entry(`"command": "a", "close_grace": [1]`), []string{"mcpServers.x.close_grace: want a string"}},
	"command, headers": {entry(`"command": "a", "headers": {"A": "s3cret"}`), []string{"mcpServers.x: headers go with a url"}},
	"url":              {entry(`"url": "https://me:s3cret@ho st/"`), []string{"mcpServers.x.url: want an http or https URL"}},
	"url's scheme":     {entry(`"url": "ftp://me:s3cret@host/"`), []string{"mcpServers.x.url: want an http or https URL"}},
	"url's host":       {entry(`"url": "https:///s3cret"`), []string{"mcpServers.x.url: want an http or https URL"}},
	"url as a number":  {entry(`"url": 5`), []string{"mcpServers.x.url: want an http or https URL"}},
	"args as a text":   {entry(`"command": "a", "args": "s3cret"`), []string{"mcpServers.x.args: want a list of strings"}},
	"args in args":     {entry(`"command": "a", "args": ["b", ["s3cret"]]`), []string{"mcpServers.x.args[1]: want a string"}},
	"null in env":      {entry(`"command": "a", "env": {"A": null}`), []string{"mcpServers.x.env.A: want a string"}},
	"env name":         {entry(`"command": "a", "env": {"A=": "s3cret"}`), []string{"mcpServers.x.env.A=: cannot be an environment variable"}},
	"header name":      {entry(`"url": "https://a", "headers": {"A B": "s3cret"}`), []string{`mcpServers.x.headers."A B": not the name of a header`}},
	"header value":     {entry(`"url": "https://a", "headers": {"A": "s3cret\r\nB: c"}`), []string{"mcpServers.x.headers.A: has a line break"}},
	"header twice":     {entry(`"url": "https://a", "headers": {"a": "s3cret", "A": "b"}`), []string{"mcpServers.x.headers.A: there already"}},
	"disabled":         {entry(`"url": "https://a", "disabled": "perhaps"`), []string{"mcpServers.x.disabled: want true or false"}},
	"envFile":          {entry(`"command": "a", "envFile": "/s3cret"`), []string{"mcpServers.x.envFile: no such file"}},
	"envFile's lines":  {entry(`"command": "a", "envFile": "refuse_test.go"`), []string{"mcpServers.x.envFile: line 1: want NAME=value"}},

	"socket":            {entry(`"url": "http+unix://s3cret.sock/mcp"`), []string{"mcpServers.x.url: want an http or https URL, or one of a socket such as http+unix://%2Frun%2Fmcp.sock/mcp"}},
	"ca_file":           {entry("\n" + `"url": "https://a", "ca_file": "/s3cret"`), []string{"mcp:2: mcpServers.x.ca_file: no such file"}},
	"caFile":            {entry(`"url": "https://a", "caFile": "/s3cret"`), []string{"mcpServers.x.caFile: unknown key; did you mean ca_file?"}},
	"key_file alone":    {entry(`"url": "https://a", "key_file": "refuse_test.go"`), []string{"mcpServers.x: cert_file and key_file go together"}},
	"ca_file, http":     {entry(`"url": "http://a", "ca_file": "refuse_test.go"`), []string{"mcpServers.x: ca_file, cert_file and key_file go with an https url"}},
	"ca_file, socket":   {entry(`"url": "http+unix://%2Fa/", "ca_file": "refuse_test.go"`), []string{"mcpServers.x: ca_file, cert_file and key_file go with an https url"}},
	"ca_file, command":  {entry(`"command": "a", "ca_file": "refuse_test.go"`), []string{"mcpServers.x: ca_file, cert_file and key_file go with an https url"}},
	"max_message_bytes": {entry(`"url": "https://a", "max_message_bytes": "64MB"`), []string{`mcpServers.x.max_message_bytes: value "64MB": want a whole number from 0, which is the default, to 1073741824`}},

	"name empty":       {`{"mcpServers": {"": {"url": "https://a"}}}`, []string{`mcpServers."": its name: want 1 to 64`}},
	"name of others":   {`{"mcpServers": {"☃": {"url": "https://a"}}}`, []string{`mcpServers.☃: its name: want 1 to 64`}},
	"name too long":    {`{"mcpServers": {"` + strings.Repeat("a", 65) + `": {"url": "https://a"}}}`, []string{"its name: want 1 to 64"}},
	"names clash":      {`{"mcpServers": {"a b": {"url": "https://a"}, "a-b": {"url": "https://b"}}}`, []string{`mcpServers.a-b: its name would be a-b, which is that of mcpServers."a b"`}},
	"in both":          {`{"mcpServers": {"a": {"url": "https://a"}}, "servers": {"a": {"url": "https://b"}}}`, []string{"servers.a: its name would be a, which is that of mcpServers.a on line 1"}},
	"as a database":    {`{"mcpServers": {"db": {"url": "https://a"}}, "databases": {"a": {"dsn": "s3cret"}}}`, []string{"databases: its name would be db, which is that of mcpServers.db"}},
	"database, no dsn": {`{"databases": {"d": {}}}`, []string{"databases.d: want a dsn"}},

	"variable": {"mcpServers:\n  x:\n    url: https://a\n    headers:\n      Authorization: Bearer ${UNSET_A}${env:UNSET_B}",
		[]string{"mcp:5: mcpServers.x.headers.Authorization: environment variable UNSET_A is not set", "environment variable UNSET_B is not set"}},
	"variable in args":    {entry(`"command": "a", "args": ["${UNSET}"]`), []string{"mcpServers.x.args[0]: environment variable UNSET is not set"}},
	"variable in command": {entry(`"command": "${UNSET}"`), []string{"mcpServers.x.command: environment variable UNSET is not set"}},
	"variable in url":     {entry(`"url": "https://s3cret/${UNSET}"`), []string{"mcpServers.x.url: environment variable UNSET is not set"}},
	"variable in dsn":     {`{"databases": {"d": {"dsn": "s3cret ${UNSET}"}}}`, []string{"databases.d.dsn: environment variable UNSET is not set"}},
	"variable in pool":    {`{"pool": {"idle_timeout": "${UNSET}"}}`, []string{"pool.idle_timeout: environment variable UNSET is not set"}},
	"variable in envFile": {entry(`"command": "a", "envFile": "${UNSET}/s3cret"`), []string{"mcpServers.x.envFile: environment variable UNSET is not set"}},
	"input":               {entry(`"command": "a", "env": {"K": "${input:key}"}`), []string{"mcpServers.x.env.K: ${input:key} would have to be asked for"}},
	"workspace":           {entry(`"command": "${workspaceFolder}/a"`), []string{"mcpServers.x.command: ${workspaceFolder} means something in an editor only"}},
	"other reference":     {entry(`"command": "${config:s3cret}"`), []string{"mcpServers.x.command: a ${…} of no known kind"}},
	"reference in one":    {entry(`"command": "${A:-${s3cret}}"`), []string{"mcpServers.x.command: a ${…} of no known kind"}},
	"reference open":      {entry(`"command": "a ${s3cret"`), []string{"mcpServers.x.command: a ${ without its }"}},

	"limit that makes no sense":   {`{"limits": {"max_processes": -1}}`, []string{`limits.max_processes: value "-1": want a whole number from 0, which is no limit, to 1000000`}},
	"a pattern that is none":      {entry("\n" + `"url": "https://a", "allow": ["a*", "b["]`), []string{"mcp:2: mcpServers.x.allow[1]: want the name of a tool, in which * stands for any text"}},
	"an empty pattern":            {`{"databases": {"d": {"dsn": "a"}}, "database_server": {"deny": [""]}}`, []string{"database_server.deny[0]: want the name of a tool"}},
	"patterns as a text":          {entry(`"url": "https://a", "allow": "a"`), []string{"mcpServers.x.allow: want a list of strings"}},
	"max_calls":                   {entry(`"url": "https://a", "max_calls": -1`), []string{`mcpServers.x.max_calls: value "-1": want a whole number from 0, which is the default`}},
	"unknown telemetry key":       {"telemetry: {sample_rate: 1}", []string{"mcp:1: telemetry.sample_rate: unknown key; did you mean sample_ratio?"}},
	"telemetry without a URL":     {"telemetry: {otlp_endpoint: localhost:4318}", []string{"mcp:1: telemetry.otlp_endpoint: want a URL such as http://localhost:4318"}},
	"telemetry for nothing":       {"telemetry: {sample_ratio: 0}", []string{"mcp:1: telemetry.sample_ratio: want a number above 0, and at most 1 for all"}},
	"unknown gateway key":         {"gateway: {prefx: auto}", []string{"mcp:1: gateway.prefx: unknown key; did you mean prefix?"}},
	"prefix":                      {"gateway: {prefix: sometimes}", []string{`mcp:1: gateway.prefix: value "sometimes": want auto, always or never`}},
	"gateway name":                {"gateway: {name: a b}", []string{`gateway.name: value "a b": want 1 to 64 letters, digits, '-' and '_'`}},
	"calls of a principal":        {"gateway: {max_calls_per_principal: many}", []string{`gateway.max_calls_per_principal: value "many": want a whole number from 0`}},
	"session key":                 {"gateway: {session_key: s3cret}", []string{"mcp:1: gateway.session_key: want a key of 32 bytes in hex or base64"}},
	"session key of a variable":   {"gateway: {session_key: '${HOLDS_S3CRET}'}", []string{"gateway.session_key: want a key of 32 bytes in hex or base64"}},
	"session key that is not set": {"gateway: {session_key: '${UNSET}'}", []string{"gateway.session_key: environment variable UNSET is not set"}},
	"two session keys":            {"gateway: {session_key: " + strings.Repeat("00", 32) + ", session_key_file: a}", []string{"mcp:1: gateway.session_key_file: beside the other one of session_key and session_key_file: want one of them"}},

	"auth of nobody":           {"auth: {}", []string{"auth: nobody could call: want keys, a key file, jwt or client certificates"}},
	"auth of nothing at all":   {"auth:", []string{"mcp:1: auth: it is empty: want keys"}},
	"auth of null":             {"auth: null", []string{"mcp:1: auth: it is empty: want keys"}},
	"key in place of a hash":   {"auth: {keys: [{name: a, sha256: s3cret}]}", []string{"mcp:1: auth.keys[0].sha256: want sha256: and 64 hex digits"}},
	"key without a name":       {"auth: {keys: [{sha256: " + strings.Repeat("00", 32) + "}]}", []string{"auth.keys[0]: want a name, and the sha256 of the key"}},
	"two keys of one name":     {"auth: {keys: [{name: a, sha256: " + strings.Repeat("00", 32) + "}, {name: a, sha256: " + strings.Repeat("01", 32) + "}]}", []string{"auth: two keys have the name a"}},
	"jwt without an issuer":    {"auth: {jwt: {audience: a}}", []string{"auth.jwt: want an issuer"}},
	"jwt for anything":         {"auth: {jwt: {issuer: 'https://a'}}", []string{"auth: jwt: audience: want what tokens are for"}},
	"jwt of HS256":             {"auth: {jwt: {issuer: 'https://a', audience: a, algorithms: HS256}}", []string{"auth: jwt: algorithms: want some of RS256"}},
	"jwt of none":              {"auth: {jwt: {issuer: 'https://a', audience: a, algorithms: none}}", []string{"auth: jwt: algorithms: want some of RS256"}},
	"issuer in the clear":      {"auth: {jwt: {issuer: 'http://10.0.0.1', audience: a}}", []string{"auth: jwt: issuer: want an https URL"}},
	"certificates by serial":   {"auth: {client_certificates: {ca_file: a, principal: serial}}", []string{"auth.client_certificates.principal: want uri or common_name"}},
	"certificates of anybody":  {"auth: {client_certificates: {principal: uri}}", []string{"auth.client_certificates: want a ca_file"}},
	"certificates without TLS": {"auth: {client_certificates: {ca_file: a}}", []string{"auth.client_certificates: clients show certificates over TLS alone"}},
	"rule of a pattern":        {"auth: {key_file: a, principals: {a: {deny: ['b[']}}}", []string{"auth.principals.a.deny[0]: want the name of a tool"}},
	"rule of no tool":          {"auth: {key_file: a, principals: {a: {deny_tools: [write]}}}", []string{`auth: the rule for a: the pattern "write" of tools matches none`}},
	"rule of a rate":           {"auth: {key_file: a, principals: {a: {rate: fast}}}", []string{"auth.principals.a.rate: want requests per second from 0"}},
	"unknown auth key":         {"auth: {keyfile: a}", []string{"auth.keyfile: unknown key; did you mean key_file?"}},
	"half of TLS":              {"tls: {cert_file: a}", []string{"tls: want cert_file and key_file, or neither"}},
	"authorities of TLS":       {"tls: {client_ca_file: a}", []string{"tls.client_ca_file: write it as auth.client_certificates.ca_file"}},

	"unknown limit":         {`{"limits": {"max_procesess": 1}}`, []string{"limits.max_procesess: unknown key; did you mean max_processes?"}},
	"unknown setting":       {`{"pool": {"max_conections": 5}}`, []string{"pool.max_conections: unknown key; did you mean max_connections?"}},
	"setting as a list":     {`{"pool": {"max_connections": [5]}}`, []string{"pool.max_connections: want a string"}},
	"setting from a secret": {`{"pool": {"max_connections": "${HOLDS_S3CRET}"}}`, []string{`pool.max_connections: value "${HOLDS_S3CRET}": want a whole number`}},
	"min over max": {`{"mcpServers": {"a": {"url": "https://a"}, "b": {"url": "https://b"}, "c": {"url": "https://c", "pool": {"max_connections": 50}}}, "pool": {"min_connections": 20}}`,
		[]string{"settings of a and b: min_connections 20 is more than max_connections 6"}},
}

func TestBadFiles(t *testing.T) {
	t.Setenv("HOLDS_S3CRET", "s3cret")
	for name, test := range bad {
		t.Run(name, func(t *testing.T) {
			c, err := config.Parse([]byte(test.data), "mcp", nil)
			if err == nil {
				t.Fatalf("no error, but %+v", c)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got  %v\nwant %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("a secret is in: %v", err)
			}
		})
	}
}

func TestAllErrorsAreReportedAtOnce(t *testing.T) {
	t.Setenv("MCP_POOL_IDLE_TIME", "1")
	_, err := config.Parse([]byte(`{
		"pool": {"max_connections": 0, "idle_timeout": "x"},
		"mcpServers": {
			"a": {"comand": "b"},
			"c": {"command": "${UNSET}", "args": 5},
		},
	}`), "mcp.json", map[string]string{"max_connection": "1", "retry_attempts": "no"})
	want := `MCP_POOL_IDLE_TIME in the environment: unknown setting; did you mean MCP_POOL_IDLE_TIMEOUT?
flag max_connection: unknown setting; did you mean max_connections?
mcp.json:2: pool.max_connections: value "0": want a whole number from 1 to 1000000
mcp.json:2: pool.idle_timeout: value "x": want seconds such as 35.0 or a duration such as 35s, not negative
flag retry_attempts: value "no": want a whole number from 1 to 1000000
mcp.json:4: mcpServers.a.comand: unknown key; did you mean command?
mcp.json:5: mcpServers.c.command: environment variable UNSET is not set
mcp.json:5: mcpServers.c.args: want a list of strings`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
