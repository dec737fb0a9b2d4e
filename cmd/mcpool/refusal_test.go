package main

import (
	"context"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/config"
)

// A refusal is a command line that makes no sense.
type refusal struct {
	args   []string
	status int
	says   []string // what is wrong, and what is allowed
}

// freeAddr returns an address of this machine that nobody listens on.
func freeAddr(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", somewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// A tripwire calls a func when something is written.
type tripwire struct {
	io.Writer
	trip func()
}

func (w tripwire) Write(p []byte) (int, error) {
	defer w.trip()
	return w.Writer.Write(p)
}

// check runs the command line and checks what it says. Where one of args is
// somewhere, nothing may listen there afterwards.
func (r refusal) check(t *testing.T) {
	t.Helper()
	args := slices.Clone(r.args)
	addr := freeAddr(t)
	if i := slices.Index(args, somewhere); i >= 0 {
		args[i] = addr
	}
	// Were it not refused, it would run: the first that it says ends it.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, err output
	status := run(ctx, args, stdio{strings.NewReader(""), tripwire{&out, cancel}, tripwire{&err, cancel}})
	stderr := err.String()
	if status != r.status {
		t.Errorf("%q: status %d, want %d", args, status, r.status)
	}
	if out.String() != "" {
		t.Errorf("%q: it printed %s", args, &out)
	}
	lines := slices.Collect(strings.Lines(stderr))
	for i, line := range lines {
		if want := map[bool]string{false: "mcpool: error: ", true: "hint: "}[i == len(lines)-1]; !strings.HasPrefix(line, want) {
			t.Errorf("%q: it says %s, want %s", args, line, want)
		}
	}
	if len(lines) < 2 {
		t.Errorf("%q: it says %q, without a hint", args, stderr)
	}
	for _, want := range r.says {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q: %q does not say %s", args, stderr, want)
		}
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Errorf("%q: something listens at %s", args, addr)
	}
}

// badValues are values that make no sense for a flag, with the status that they
// end the command with and what is said of them.
type badValues struct {
	values []string
	status int
	says   string
}

// bad are values that a command line cannot have.
func bad(says string, values ...string) badValues { return badValues{values, 2, says} }

// failing are values that only turn out to make no sense.
func failing(says string, values ...string) badValues { return badValues{values, 1, says} }

// badFlags has values that make no sense for each flag of each command but
// bench.
var badFlags = map[string]map[string][]badValues{
	"serve": with(settingFlags, listenFlagValues, map[string][]badValues{
		"config": {
			bad("want a file", ""),
			failing("open no-such-file.json: no such file", "no-such-file.json"),
			failing("is a directory", "."),
		},
		"key-file":    {bad("is for programs that call a gateway", "a")},
		"stdio":       {bad(`invalid boolean value "perhaps" for -stdio`, "perhaps")},
		"drain-delay": {bad(wantPeriod, "-1", "never"), bad("leaves nothing of --drain-timeout of 30s", "30")},
		"check":       {bad(`invalid boolean value "perhaps" for -check`, "perhaps")},
	}),
	"db": with(listenFlagValues, map[string][]badValues{
		"dsn": {
			bad("--dsn is missing: name a SQLite file, the URL of a database, or sample", ""),
			bad(`scheme "oracle" is not supported: want a SQLite file, or a URL that begins with postgres://`, "oracle://me@db/sales"),
			bad("would be empty: give the path of a SQLite file", ":memory:", "sqlite://", "file:"),
			bad(`parameter "mode" is not supported: mode=ro and immutable=1 are`, "file:a.db?mode=rwc"),
			bad(`parameter "_pragma" is not supported`, "file:a.db?_pragma=writable_schema(1)"),
		},
		"config":            {failing("no-such-file", "no-such-file")},
		"mode":              {bad("want read_only or write", "rw")},
		"password-file":     {failing("open no-such-file: no such file", "no-such-file")},
		"audit":             {bad("is a directory", ".")},
		"allow-unsafe-role": {bad(`invalid boolean value "perhaps" for -allow-unsafe-role`, "perhaps")},
	}),
	"key new": {"admin": {bad(`invalid boolean value "perhaps" for -admin`, "perhaps")}},
	"tools":   remoteFlagValues,
	"call":    remoteFlagValues,
	"show":    with(operatorFlagValues, map[string][]badValues{"json": badBool("json"), "watch": badBool("watch")}),
	"pause":   with(operatorFlagValues, map[string][]badValues{"all": badBool("all"), "timeout": badTimeout}),
	"resume":  with(operatorFlagValues, map[string][]badValues{"all": badBool("all")}),
	"drain":   with(operatorFlagValues, map[string][]badValues{"all": badBool("all"), "timeout": badTimeout}),
	"reset":   with(operatorFlagValues, map[string][]badValues{"all": badBool("all")}),
	"kill":    operatorFlagValues,
	"reload":  operatorFlagValues,
}

var (
	badTimeout = []badValues{bad(wantPeriod, "-1", "long"), bad("want more than 0 and at most 1h", "0", "2h")}

	operatorFlagValues = map[string][]badValues{
		"url":        {bad(wantURL, "", "127.0.0.1", "http://"), bad("want http://host or https://host", "ftp://127.0.0.1")},
		"token-file": {failing("the admin token: open no-such-file: no such file", "no-such-file"), failing("is a directory", ".")},
	}
)

func badBool(flag string) []badValues {
	return []badValues{bad(`invalid boolean value "perhaps" for -`+flag, "perhaps")}
}

const (
	wantCount  = "want a whole number from "
	wantPeriod = "want seconds such as 35.0 or a duration such as 35s, not negative"
	wantAddr   = "want HOST:PORT such as 127.0.0.1:7432"
	wantURL    = "want a URL such as http://127.0.0.1:7432"
)

var settingFlags = map[string][]badValues{
	"min-connections":       {bad(wantCount+"0 to 1000000", "-1", "many", "1.5", "", "99999999999999999999")},
	"max-connections":       {bad(wantCount+"1 to 1000000", "0", "-6", "0x6")},
	"connection-timeout":    {bad(wantPeriod, "-1", "soon", "NaN", ""), bad("want 1ms or more", "0")},
	"idle-timeout":          {bad(wantPeriod, "-1s", "10 minutes", "Inf")},
	"max-connection-age":    {bad(wantPeriod, "-1", "2h30")},
	"health-check-interval": {bad(wantPeriod, "-0.5", "1e300")},
	"retry-attempts":        {bad(wantCount+"1 to 1000000", "0", "twice")},
	"lazy-initialization":   {bad("want true or false", "perhaps", "")},
	"max-connections-total": {bad(wantCount+"0 to 1000000", "-1")},
	"max-waiting":           {bad(wantCount+"0 to 1000000", "-1", "all")},
	"max-connection-calls":  {bad(wantCount+"0 to 1000000", "-1", "few")},
	"leak-after":            {bad(wantPeriod, "-1", "late")},

	"max-connections-per-principal": {bad(wantCount+"0 to 1000000", "-1", "all")},
	"max-waiting-per-principal":     {bad(wantCount+"0 to 1000000", "-1", "all")},
	"calls-per-connection":          {bad(wantCount+"0 to 1000000", "-1")},
	"sharing":                       {bad("want shared, principal or session", "everyone", "Shared")},
	"call-timeout":                  {bad(wantPeriod, "-1", "long")},

	"gateway-name":                    {bad("want 1 to 64 letters, digits, '-' and '_'", "", "a b")},
	"gateway-prefix":                  {bad("want auto, always or never", "", "sometimes")},
	"gateway-max-calls-per-principal": {bad(wantCount+"0, which is the default, to 1000000", "-1", "all")},
	"auth-url":                        {failing("flag auth_url: auth: nobody could call: want keys, a key file, jwt or client certificates", "https://mcp.example.com")},
	"auth-key-file":                   {failing("key file no-such-file: open no-such-file: no such file", "no-such-file")},
	"tls-cert-file":                   {failing("tls: want cert_file and key_file, or neither", "no-such-file")},
	"tls-key-file":                    {failing("tls: want cert_file and key_file, or neither", "no-such-file")},
	"admin-token-file":                {bad("want a file", ""), failing("the admin token: open no-such-file: no such file", "no-such-file"), failing("is a directory", ".")},
	"telemetry-otlp-endpoint":         {bad("want a URL such as http://localhost:4318", "", "localhost:4318", "ftp://localhost"), bad("without credentials", "http://me:x@localhost:4318")},
	"telemetry-headers-file":          {bad("want a file", "")},
	"telemetry-sample-ratio":          {bad("want a number above 0", "0", "2", "all")},
	"telemetry-service-name":          {bad("want a name of 1 to 64 bytes", "")},
	"limits-max-connections":          {bad(wantCount+"0, which is no limit, to 1000000", "-1", "many")},
	"limits-max-processes":            {bad(wantCount+"0, which is no limit, to 1000000", "-1", "many")},
	"limits-max-waiting":              {bad(wantCount+"0, which is no limit, to 1000000", "-1", "many")},

	"auth-jwt-issuer":                         {failing("flag auth_jwt_issuer: auth: jwt: issuer: want an https URL", "login")},
	"auth-jwt-audience":                       withoutIssuer("auth_jwt_audience"),
	"auth-jwt-jwks-url":                       withoutIssuer("auth_jwt_jwks_url"),
	"auth-jwt-scopes":                         withoutIssuer("auth_jwt_scopes"),
	"auth-jwt-admin-scope":                    withoutIssuer("auth_jwt_admin_scope"),
	"auth-jwt-algorithms":                     withoutIssuer("auth_jwt_algorithms"),
	"auth-jwt-principal-claim":                withoutIssuer("auth_jwt_principal_claim"),
	"auth-client-certificates-ca-file":        {failing("clients show certificates over TLS alone", "no-such-file")},
	"auth-client-certificates-principal":      {failing("flag auth_client_certificates_principal: want uri or common_name", "dns")},
	"database-server-name":                    {failing("flag database_server_name: its name: want 1 to 64 letters", "")},
	"database-server-allow":                   {failing("flag database_server_allow: want the name of a tool", "", "[")},
	"database-server-deny":                    {failing("flag database_server_deny: want the name of a tool", "", ",")},
	"database-server-max-calls":               {failing("flag database_server_max_calls: value \"-1\": "+wantCount, "-1")},
	"database-server-handle-ttl":              {failing("flag database_server_handle_ttl: value \"-1\": "+wantPeriod, "-1")},
	"database-server-audit-file":              {failing("audit: . is a directory", ".")},
	"database-server-audit-statements":        {failing("flag database_server_audit_statements: value \"all\": want fingerprint or full", "all")},
	"database-server-audit-max-bytes":         {failing("flag database_server_audit_max_bytes: value \"-1\": "+wantCount, "-1")},
	"database-server-max-calls-per-principal": {failing("flag database_server_max_calls_per_principal: value \"-1\": "+wantCount, "-1")},

	"gateway-session-key-file": {bad("want a file", ""), failing("the key of sessions: open no-such-file: no such file", "no-such-file")},
}

func withoutIssuer(name string) []badValues {
	return []badValues{failing("flag "+name+": want an issuer", "a")}
}

var listenFlagValues = map[string][]badValues{
	"listen": {
		bad(wantAddr, "7432", "127.0.0.1", "127.0.0.1:99999", "http://127.0.0.1:7432"),
		bad("is beyond loopback, and there is no authentication", ":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0"),
		bad("or say --listen-without-authentication", ":0"),
	},
	"listen-without-authentication": {bad(`invalid boolean value "perhaps" for -listen-without-authentication`, "perhaps")},
	"allowed-hosts":                 {bad("want names divided by commas", "", "a,,b"), failing(`allowed host "http://a": want a name or an address`, "http://a")},
	"allowed-origins":               {bad("want names divided by commas", "", ","), failing("want scheme://host or scheme://host:port", "app.example.com", "https://*.example.com")},
	"drain-timeout":                 {bad(wantPeriod, "-1", "never")},
	"log-level":                     {bad("want debug, info, warn or error", "loud", "")},
	"log-format":                    {bad("want text or json", "xml", "")},
	"log-access":                    {bad("want off, all, or the share of requests to log such as 0.01", "1.5", "-1", "some", "")},
}

var remoteFlagValues = map[string][]badValues{
	"url":      {bad(wantURL, "", "127.0.0.1", "http://"), bad("want http://host or https://host", "ftp://127.0.0.1")},
	"key-file": {failing("open no-such-file: no such file", "no-such-file")},
	"server":   {bad("want the name of a server, of letters, digits, '-' and '_'", "no/such", "..", "a?b")},
}

func with(sets ...map[string][]badValues) map[string][]badValues {
	all := map[string][]badValues{}
	for _, set := range sets {
		maps.Copy(all, set)
	}
	return all
}

func TestFlagsThatMakeNoSenseAreRefused(t *testing.T) {
	// What each command needs besides to run: without the bad flag it would.
	runs := map[string][]string{
		"serve":   {"serve", "--listen", somewhere},
		"db":      {"db", "--dsn", "sample", "--listen", somewhere},
		"key new": {"key", "new", "a"},
		"tools":   {"tools"},
		"call":    {"call", "read_data"},
		"show":    {"show", "pools"}, "pause": {"pause", "a"}, "resume": {"resume", "a"}, "drain": {"drain", "a"}, "reset": {"reset", "a"},
		"kill": {"kill", "a-1"}, "reload": {"reload"},
	}
	for command, flags := range badFlags {
		t.Run(command, func(t *testing.T) {
			for flag, all := range flags {
				for _, bad := range all {
					for _, value := range bad.values {
						args := append(slices.Clone(runs[command]), "--"+flag+"="+value)
						if command == "db" && (flag == "dsn" || flag == "config") { // of which there is one
							args = append([]string{"db"}, args[3:]...)
						}
						refusal{args, bad.status, []string{bad.says}}.check(t)
					}
				}
			}
		})
	}
}

// TestEachFlagHasValuesThatAreRefused keeps badFlags complete.
func TestEachFlagHasValuesThatAreRefused(t *testing.T) {
	for command, flags := range badFlags {
		status, out, _ := finish(t, append(strings.Fields(command), "--help")...)
		if status != 0 || !strings.HasPrefix(out, "Usage: mcpool "+command+" ") {
			t.Errorf("%s --help: status %d, %s", command, status, out)
		}
		for _, m := range regexp.MustCompile(`(?m)^  -(\S+)`).FindAllStringSubmatch(out, -1) {
			if len(flags[m[1]]) == 0 {
				t.Errorf("%s --%s is not tried with a value that makes no sense", command, m[1])
			}
		}
	}
	for _, name := range config.AllSettingNames() {
		if name == "gateway_session_key" {
			continue
		}
		if flag := strings.ReplaceAll(name, "_", "-"); badFlags["serve"][flag] == nil {
			t.Errorf("setting %s has no flag", name)
		}
	}
}

func TestCommandLinesThatMakeNoSenseAreRefused(t *testing.T) {
	for _, r := range []refusal{
		{[]string{"start"}, 2, []string{`unknown command "start"`, "hint: mcpool help lists the commands"}},
		{[]string{""}, 2, []string{`unknown command ""`, "hint: mcpool help lists the commands"}},
		{[]string{"--listen", somewhere}, 2, []string{`unknown command "--listen"`}},
		{[]string{"serve", "--listen", somewhere, "now"}, 2, []string{`unexpected argument "now"`}},
		{[]string{"serve", "--listen", somewhere, "--", "--check"}, 2, []string{`unexpected argument "--check"`}},
		{[]string{"serve", "--listen", somewhere, "--port", "1"}, 2, []string{"not defined: -port", "hint: mcpool serve --help tells more"}},
		{[]string{"serve", "--listen"}, 2, []string{"flag needs an argument: -listen", "hint: mcpool serve --help tells more"}},
		{[]string{"serve", "--listen", somewhere, "--min-connections", "9"}, 1, []string{"min_connections 9 is more than max_connections 6"}},
		{[]string{"serve", "--listen", somewhere, "--max-connections-total", "5"}, 1, []string{"max_connections_total 5 is less than max_connections 6"}},
		{[]string{"serve", "--stdio", "--listen", "localhost:0"}, 2, []string{"with --stdio want a port, at which other programs find the gateway"}},
		{[]string{"db"}, 2, []string{"--dsn is missing: name a SQLite file, the URL of a database, or sample"}},
		{[]string{"db", "--dsn", "a.db", "--dsn", "b=b.db"}, 2, []string{"with several databases each is written NAME=DSN"}},
		{[]string{"db", "--dsn", "a.db", "--config", "b"}, 2, []string{"--config and --dsn: want one of them"}},
		{[]string{"db", "--config", "b", "--audit", "a"}, 2, []string{"--audit: with --config the file says so"}},
		{[]string{"db", "--config", "b", "--mode", "read_only", "--password-file", "p", "--allow-unsafe-role"}, 2, []string{"--mode, --password-file, --allow-unsafe-role: with --config"}},
		{[]string{"db", "setup-sql"}, 2, []string{"which engine? postgres, mysql or sqlserver", "hint: mcpool db setup-sql --help tells more"}},
		{[]string{"db", "setup-sql", "oracle", "--database", "a"}, 2, []string{`engine "oracle": want postgres, mysql or sqlserver`}},
		{[]string{"db", "setup-sql", "sqlite", "--database", "a"}, 2, []string{"a SQLite file has no roles"}},
		{[]string{"db", "setup-sql", "postgres"}, 2, []string{"which database?"}},
		{[]string{"db", "verify-audit"}, 2, []string{"name the files of the audit"}},
		{[]string{"db", "verify-audit", "no-such-file"}, 1, []string{"no-such-file"}},
		{[]string{"db", "sample", "--listen", somewhere}, 2, []string{`unexpected argument "sample"`}},
		{[]string{"db", "--listen", somewhere}, 2, []string{"--dsn is missing"}},
		{[]string{"tools", "all"}, 2, []string{`unexpected argument "all"`}},
		{[]string{"call"}, 2, []string{"which tool?", "hint: mcpool tools lists them"}},
		{[]string{"call", "a", "{}", "b"}, 2, []string{`unexpected argument "b"`}},
		{[]string{"call", "a", "b"}, 2, []string{`arguments "b": want a JSON object such as`}},
		{[]string{"call", "a", "{}{}"}, 2, []string{`arguments "{}{}": want a JSON object such as`}},
		{[]string{"call", "a", "null"}, 2, []string{`arguments "null": want a JSON object such as`}},
		{[]string{"call", "a", "[1]"}, 2, []string{`arguments "[1]": want a JSON object such as`}},
		{[]string{"call", "a", ""}, 2, []string{`arguments "": want a JSON object such as`}},
		{[]string{"key"}, 2, []string{"whose key? mcpool key new NAME", "hint: mcpool key --help tells more"}},
		{[]string{"key", "old"}, 2, []string{"mcpool key old: there is mcpool key new NAME"}},
		{[]string{"key", "new", "a b"}, 2, []string{"the name of a key: want 1 to 64 letters"}},
		{[]string{"key", "new", "a", "b"}, 2, []string{`unexpected argument "b"`}},
		{[]string{"version", "now"}, 2, []string{`unexpected argument "now"`}},
	} {
		r.check(t)
	}
}

func TestNoCommandIsToldWhatThereIs(t *testing.T) {
	status, out, stderr := finish(t)
	if status != 2 || out != "" || !strings.HasPrefix(stderr, usage) || !strings.HasSuffix(stderr, "\nmcpool: error: no command given\nhint: mcpool help lists the commands\n") {
		t.Errorf("status %d, %q, %q", status, out, stderr)
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"--help"}, {"-h"}, {"serve", "--help"}, {"call", "-h"}, {"tools", "-help"}, {"db", "--help"}, {"version", "--help"}} {
		status, out, stderr := finish(t, args...)
		if status != 0 || !strings.Contains(out, "mcpool "+strings.TrimLeft(args[0], "-")) && out != usage || stderr != "" {
			t.Errorf("%q: status %d, %q, %q", args, status, out, stderr)
		}
	}
}

func TestSettingsInTheEnvironmentThatMakeNoSenseAreRefused(t *testing.T) {
	for variable, test := range map[string]struct{ value, says string }{
		"MCP_POOL_MIN_CONNECTIONS":       {"7", "settings of sales: min_connections 7 is more than max_connections 6"},
		"MCP_POOL_MAX_CONNECTIONS":       {"six", `environment MCP_POOL_MAX_CONNECTIONS: value "six": ` + wantCount + "1 to 1000000"},
		"MCP_POOL_CONNECTION_TIMEOUT":    {"-35.0", `environment MCP_POOL_CONNECTION_TIMEOUT: value "-35.0": ` + wantPeriod},
		"MCP_POOL_IDLE_TIMEOUT":          {"ten", `environment MCP_POOL_IDLE_TIMEOUT: value "ten": ` + wantPeriod},
		"MCP_POOL_MAX_CONNECTION_AGE":    {"2 h", `environment MCP_POOL_MAX_CONNECTION_AGE: value "2 h": ` + wantPeriod},
		"MCP_POOL_HEALTH_CHECK_INTERVAL": {"x", `environment MCP_POOL_HEALTH_CHECK_INTERVAL: value "x": ` + wantPeriod},
		"MCP_POOL_RETRY_ATTEMPTS":        {"0", `environment MCP_POOL_RETRY_ATTEMPTS: value "0": ` + wantCount + "1 to 1000000"},
		"MCP_POOL_LAZY_INITIALIZATION":   {"lazy", `environment MCP_POOL_LAZY_INITIALIZATION: value "lazy": want true or false`},
		"MCP_POOL_CALL_TIMEOUT":          {"-1", `environment MCP_POOL_CALL_TIMEOUT: value "-1": ` + wantPeriod},
		"MCP_POOL_MAX_CONECTIONS":        {"6", "MCP_POOL_MAX_CONECTIONS in the environment: unknown setting; did you mean MCP_POOL_MAX_CONNECTIONS?"},
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, test.value)
			refusal{[]string{"serve", "--listen", somewhere}, 1, []string{test.says}}.check(t)
		})
	}
}

func TestConfigurationsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ file, text, says string }{
		"nothing":              {"mcp.json", "", "mcp.json:1: "},
		"no server":            {"mcp.json", "{}", "want at least one, not disabled, in mcpServers, servers or databases"},
		"not JSON":             {"mcp.json", "{\n\"mcpServers\": {\n", "mcp.json:3: "},
		"not YAML":             {"mcp.yaml", "mcpServers:\n\ta: {}\n", "mcp.yaml:2: "},
		"a key of the file":    {"mcp.json", `{"mcpservers": {}}`, "mcpservers: unknown key; did you mean mcpServers?"},
		"a key of a server":    {"mcp.json", `{"mcpServers": {"a": {"comand": "b"}}}`, "mcpServers.a.comand: unknown key; did you mean command?"},
		"two ways":             {"mcp.json", `{"mcpServers": {"a": {"url": "http://a", "command": "b"}}}`, "mcpServers.a: has a url and a command: want one of them"},
		"no way":               {"mcp.json", `{"mcpServers": {"a": {}}}`, "mcpServers.a: want a url or a command"},
		"a URL":                {"mcp.json", `{"mcpServers": {"a": {"url": "a"}}}`, "mcpServers.a.url: want an http or https URL"},
		"the old transport":    {"mcp.json", `{"mcpServers": {"a": {"type": "sse", "command": "a"}}}`, "mcpServers.a: type sse wants a url, not a command"},
		"a setting":            {"mcp.json", `{"databases": {"a": {"dsn": "sample"}}, "pool": {"max_connections": 0}}`, `pool.max_connections: value "0": ` + wantCount},
		"a setting of one":     {"mcp.yaml", "databases:\n  a: {dsn: sample}\ndatabase_server: {pool: {idle_timeout: never}}\n", `mcp.yaml:3: database_server.pool.idle_timeout: value "never": ` + wantPeriod},
		"a database":           {"mcp.json", `{"databases": {"a": {"dsn": "oracle://db/a"}}}`, `dbserver: database a: scheme "oracle" is not supported: want a SQLite file`},
		"a variable not set":   {"mcp.json", `{"mcpServers": {"a": {"url": "https://a", "headers": {"X": "${MCPOOL_TEST_NOT_SET}"}}}}`, "mcpServers.a.headers.X: environment variable MCPOOL_TEST_NOT_SET is not set"},
		"a variable, in YAML":  {"mcp.yaml", "databases:\n  a: {dsn: '${MCPOOL_TEST_NOT_SET}'}\n", "mcp.yaml:2: databases.a.dsn: environment variable MCPOOL_TEST_NOT_SET is not set"},
		"an env file not here": {"mcp.json", `{"mcpServers": {"a": {"command": "b", "envFile": "no-such-file"}}}`, "mcpServers.a.envFile: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			file := configure(t, test.file, "%s", test.text)
			refusal{[]string{"serve", "--listen", somewhere, "--config", file}, 1, []string{test.says}}.check(t)
			refusal{[]string{"serve", "--check", "--config", file}, 1, []string{test.says}}.check(t)
		})
	}
}

func TestAConfigurationThatCannotBeReadIsRefused(t *testing.T) {
	unreadable := configure(t, "mcp.json", "{}")
	if err := os.Chmod(unreadable, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(unreadable); err == nil {
		t.Skip("no file is unreadable to this user")
	}
	refusal{[]string{"serve", "--listen", somewhere, "--config", unreadable}, 1, []string{"permission denied", filepath.Base(unreadable)}}.check(t)
}

// TestEachCommandThatFailsSaysWhatToDo holds that behind each error there is a
// hint, and that it has a better one than the help where there is one.
func TestEachCommandThatFailsSaysWhatToDo(t *testing.T) {
	for _, c := range describedCommands(t.Context()) {
		status, _, stderr := finish(t, append(strings.Fields(c.name), "--no-such-flag")...)
		if status != 2 || !strings.HasSuffix(stderr, "\nhint: mcpool "+c.name+" --help tells more\n") {
			t.Errorf("%s: status %d, %q", c.name, status, stderr)
		}
	}
	gone := "http://" + freeAddr(t)
	nobody := configure(t, "mcp.json", `{"mcpServers": {"one": {"command": "no-such-command-here"}}}`)
	for _, test := range []struct {
		args []string
		hint string
	}{
		{[]string{"serve", "--config", "no-such-file"}, "--config wants a file that is there and can be read"},
		{[]string{"serve", "--config", configure(t, "mcp.json", "{}")}, "mcpool serve --check tries a configuration out"},
		{[]string{"serve", "--listen", "0.0.0.0:0"}, "configure auth"},
		{[]string{"doctor", "--config", nobody}, whatToDo},
		{[]string{"show", "pools", "--url", gone}, "is it running?"},
		{[]string{"health", "--url", gone}, "is it running?"},
		{[]string{"top", "--url", gone}, "mcpool show pools --watch prints the same"},
		{[]string{"db", "verify-audit", "no-such-file"}, "mcpool db verify-audit --help tells more"},
	} {
		status, _, stderr := finish(t, test.args...)
		if status == 0 || !strings.Contains(stderr, "\nhint: "+test.hint) {
			t.Errorf("%q: status %d, %q", test.args, status, stderr)
		}
	}
}
