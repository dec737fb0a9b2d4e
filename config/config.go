// Package config reads which servers there are and how their pools behave,
// from the file that MCP clients keep already: the mcp.json of Claude Desktop,
// Claude Code, Cursor or VS Code works as it is.
//
//	{
//	  // comments and trailing commas are fine
//	  "mcpServers": {
//	    "files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/data"]},
//	    "search": {
//	      "url": "https://search.example.com/mcp",
//	      "headers": {"Authorization": "Bearer ${SEARCH_TOKEN}"},
//	      "pool": {"max_connections": 12}
//	    },
//	  },
//	  "databases": {"sales": {"dsn": "${SALES_DSN}"}},
//	  "pool": {"connection_timeout": 20},
//	  "limits": {"max_processes": 32},
//	  "gateway": {"prefix": "always", "session_key": "${MCPOOL_SESSION_KEY}"},
//	  "log": {"format": "json", "access": 0.01}
//	}
//
// The same keys make a YAML file. The end of the file's name says which of the
// two it is (.json, .jsonc, .yaml, .yml), and otherwise its first character.
//
// # Servers
//
// An entry of mcpServers, or of servers as VS Code calls it, has a url
// (streamable HTTP, or HTTP+SSE) with headers, or a command with args, env,
// envFile and cwd. Paths are relative to the folder of the file.
//
// "type" may say which is meant: http, sse or stdio. Without it, and with http,
// a server at a url that does not take streamable HTTP is tried with the older
// HTTP+SSE; with sse it is spoken to by that alone. "protocol" may be the one
// version of MCP to speak ("2025-06-18"), auto for what the server speaks.
//
// For an https url there are ca_file, and cert_file with key_file: PEM files of
// authorities to trust beside those of the system, and of a client certificate,
// which is read again when it is replaced. A url such as
// http+unix://%2Frun%2Fmcp.sock/mcp is one of a Unix socket. close_grace is how
// long a command has to exit before it is told to, and before it is killed, in
// seconds (0.3) or as a duration ("300ms"); 0 means the default.
// max_message_bytes bounds one message of the server, see [mcpool.Server].
//
// An entry with
// "disabled": true is not looked at. Keys that clients write for their own use
// are ignored, and keys that would change what a server may do are refused; both
// are listed beside the code that reads entries. Any other key is an error.
//
// The auth of a url, in place of an Authorization in its headers, has one of:
//
//	{"bearer_env": "NAME"}                 a token in the environment
//	{"bearer_file": "path"}                a token in a file, read again when it changes
//	{"client_id": "…",                     OAuth 2.1, without a person
//	 "client_secret": "…",                 or client_secret_file; neither for a public client
//	 "refresh_token_file": "path",         that of a login; it is replaced when the token is
//	 "scopes": ["…"], "issuer": "https…"}  optional
//
// See [mcpool.BearerEnv], [mcpool.BearerFile] and [mcpool.OAuth]. Paths are
// relative to the folder of the file, and what is in those files is not looked
// at before it is needed. All clients are one account at such a server.
//
// # Databases
//
// The entries of databases are served in this process, as one server whose
// tools choose among them. An entry has a dsn: a SQLite file, a URL that begins
// with postgres://, mysql://, mariadb:// or sqlserver://, or "sample", a small
// database that comes with mcpool; or a dsn_file that has it. The other keys
// are the fields of [dbserver.Database] in snake case, and password_file, which
// is read for each connection:
//
//	"databases": {
//	  "shop": {
//	    "dsn": "postgres://mcp_ro@db.internal/shop", "password_file": "/run/secrets/shop", "tls_mode": "verify-full",
//	    "description": "orders and customers", "schemas": ["public"], "deny_tables": ["*.secrets"],
//	    "masks": [{"columns": ["*.email"], "with": "partial"}, {"columns": ["users.ssn"], "with": "refuse"}],
//	    "timeout": "10s", "max_rows": 500
//	  },
//	  "notes": {"dsn": "notes.db", "mode": "write", "max_affected": 100}
//	},
//	"database_server": {
//	  "name": "db",
//	  "audit": {"file": "audit.jsonl"},
//	  "tools": {"orders_of": {
//	    "description": "Orders of one customer", "database": "shop",
//	    "statement": "SELECT * FROM orders WHERE customer_id = :id", "params": {"id": {"type": "integer"}}
//	  }}
//	}
//
// The keys of database_server are for all of them: name, "db" where not given;
// audit, see [dbserver.Audit]; tools, see [dbserver.Tool];
// max_calls_per_principal and handle_ttl, see [dbserver.Options]; and pool,
// allow, deny and max_calls, as of any server. spool_rows of a database can be
// "none".
//
// A name is made of letters, digits, '-' and '_', at most 64. Where a file has
// others, as in "My Server", each run of them becomes one '-': My-Server.
//
// # Variables
//
// In any string that is read, ${NAME} and ${env:NAME} stand for a variable of
// the environment, which must be set; ${NAME:-default} for one that need not
// be; ${userHome} for the home folder. $${ is a literal ${.
//
// # Settings
//
// The keys of pool are the names of [SettingNames], with numbers, strings or
// booleans as values; times are seconds (35.0) or durations ("35s"). A server's
// own pool beats what is here.
//
// The keys of limits bound the pools of all servers together: max_connections,
// max_processes and max_waiting, see [mcpool.Limits].
//
// Each setting of pool, limits, gateway, log, auth, tls, admin, telemetry and
// database_server has a variable and a flag of mcpool serve, which are named by
// its place: gateway.prefix is MCP_POOL_GATEWAY_PREFIX and --gateway-prefix,
// auth.jwt.issuer is MCP_POOL_AUTH_JWT_ISSUER and --auth-jwt-issuer; those of pool
// by their keys, as MCP_POOL_MAX_CONNECTIONS and --max-connections. [AllSettingNames]
// has them. A flag beats the environment, which beats the file; an empty variable
// is none. There is no flag for gateway.session_key, since everybody sees command
// lines. Lists are divided by commas, ${ is a literal ${, and paths are relative to
// the working directory.
//
// Only a file has what there is to serve, and who may call: the entries of
// mcpServers and databases with what is in them, auth.keys, auth.principals, and
// tools and pool of database_server.
//
// # Serving
//
// An entry of a server or a database may say which of its tools are served:
// allow and deny are lists of names, in which * stands for any text ("read_*").
// What deny matches is neither listed nor called, and where there is an allow,
// only what it matches is. max_calls bounds the calls under way at the server,
// those that wait for a connection included.
//
// The keys of gateway are for all servers together:
//
//	prefix                   how tools are named where several servers are at one address: auto, always or never
//	max_calls_per_principal  most calls of one principal under way
//	session_key              seals the sessions of clients: 32 bytes in hex or base64
//	session_key_file         a file that has it
//	name                     tells gateways with the same key apart; made up where not given
//
// See [gateway.Options].
// Gateways behind one balancer want the same session_key. Without one, a
// program may keep one of its own.
//
// The keys of log say what is logged, see [Log]: level is debug, info, warn or
// error, format text or json, and access off, all, or the share of requests
// over HTTP that have a line, such as 0.01.
//
// # Who may call
//
// Without auth anybody may who reaches the address. With it, a request that
// does not say who makes it is refused:
//
//	"auth": {
//	  "url": "https://mcp.example.com",
//	  "keys": [{"name": "ci", "sha256": "…", "admin": true}],
//	  "key_file": "keys",
//	  "jwt": {"issuer": "https://login.example.com", "audience": ["https://mcp.example.com/mcp"], "scopes": ["mcp"]},
//	  "client_certificates": {"ca_file": "clients.pem", "principal": "uri"},
//	  "principals": {
//	    "ci": {"allow": ["sales"], "deny_tools": ["*__write_*"], "rate": 20, "max_calls": 8},
//	    "*": {"deny": ["sales"]}
//	  }
//	},
//	"tls": {"cert_file": "server.pem", "key_file": "server.key"}
//
// The keys of auth are the fields of [auth.Options] in snake case, those of jwt of
// [auth.JWT], those of an entry of principals of [auth.Rule]. An entry is for the
// principals whose names match its own, and of several the first counts.
//
// The key of admin is token_file: a file with the token that lets whoever shows
// it see and steer the pools, or with its hash.
//
// # Telemetry
//
// The keys of telemetry say where to traces and metrics are sent as OpenTelemetry
// (OTLP over HTTP); without otlp_endpoint, here or in the environment of
// OpenTelemetry (OTEL_EXPORTER_OTLP_ENDPOINT), nothing is:
//
//	otlp_endpoint  URL of the collector, such as http://localhost:4318
//	headers_file   a file with headers for it, one on a line as "Name: value"
//	sample_ratio   share of traces that are recorded, of those that no client began; all where not given
//	service_name   what the collector is told as our name; mcpool where not given
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/auth"
	"github.com/mcpool-dev/mcpool/dbserver"
)

// Config is what there is to serve.
type Config struct {
	// Servers are in the order of the file, with different names.
	Servers []Server
	// Gateway is how they are served.
	Gateway Gateway
	// Log is what is logged meanwhile.
	Log Log
	// Auth says who may call, nil for anybody; and TLS how clients are spoken to.
	Auth *auth.Options
	TLS  TLS
	// Admin is who may see and steer their pools.
	Admin Admin
	// Telemetry is where to traces and metrics are sent.
	Telemetry Telemetry

	sources sources
}

// A Server is one server, and how its pool behaves.
type Server struct {
	// Server has a Name and either a URL or a Command; or, where Databases is
	// set, a Name alone, for a Handler that serves these databases.
	mcpool.Server
	// Pool is what to make its pool with. It is valid.
	Pool mcpool.Config
	// CallTimeout is how long one call may take. Default
	// [DefaultCallTimeout]; 0 for no limit.
	CallTimeout time.Duration
	// Allow and Deny are patterns of the names of its tools, and MaxCalls
	// bounds its calls under way, see [gateway.Server].
	Allow, Deny []string
	MaxCalls    int
	// Databases are those that are served in this process; nil for a server that
	// is reached by URL or Command. The DSN [Sample] stands for the database that
	// comes with mcpool.
	Databases *dbserver.Options

	passwordFiles map[string]string // of Databases, by name, to compare: they have but functions
}

// Sample is the DSN of the small database that comes with mcpool.
const Sample = "sample"

// Default is the configuration without a file: the sample database, as the
// server "sales". The environment and flags apply as in [Load].
func Default(flags map[string]string) (*Config, error) {
	root := &node{kind: mapping}
	root.mappingAt("databases.sales", byDefault).put("dsn", &node{kind: scalar, text: Sample, outside: byDefault})
	root.mappingAt("database_server", byDefault).put("name", &node{kind: scalar, text: "sales", outside: byDefault})
	return new(reader).config(root, flags)
}

// Load reads the file at path. Flags are settings given on the command line,
// by name. The error is of the file system, or has everything that is wrong
// with the file, the environment and the flags, each with its place, and no
// secrets.
func Load(path string, flags map[string]string) (*Config, error) {
	data, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(data, path, flags)
}

// Read returns what the file at path has, for [Parse], which refuses one that is
// too large.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// Parse is [Load] for a file's content. The name stands for the file in
// errors, says by its end what the file is written in, and by its folder what
// relative paths are relative to.
func Parse(data []byte, name string, flags map[string]string) (*Config, error) {
	root, err := parse(data, name)
	if err != nil {
		return nil, fileError(name, err)
	}
	r := &reader{name: name, folder: filepath.Dir(name)}
	r.duplicates(root)
	return r.config(root, flags)
}

// fileError puts the file, and the line if it is known, before err.
func fileError(name string, err error) error {
	var at *lineError
	if errors.As(err, &at) && at.line > 0 {
		return fmt.Errorf("%s:%d: %w", name, at.line, at.err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// config makes a configuration of a tree and what is outside of it, or returns all
// that is wrong with them.
func (r *reader) config(root *node, flags map[string]string) (*Config, error) {
	r.outside(root, flags)
	common := r.common(root.get("pool"))
	common.pool.Limits = r.limits(root.get("limits"))
	conf := &Config{Gateway: r.gateway(root.get("gateway"))}
	conf.Servers = r.servers(root, common)
	if len(conf.Servers) == 0 && len(r.errs) == 0 {
		r.errs = append(r.errs, fmt.Errorf("%s: no server: want at least one, not disabled, in mcpServers, servers or databases", r.name))
	}
	conf.Log = r.log(root.get("log"))
	conf.Admin = r.admin(root.get("admin"))
	conf.Telemetry = r.telemetry(root.get("telemetry"))
	conf.Auth, conf.TLS = r.access(root.get("auth"), root.get("tls"))
	if len(r.errs) == 0 {
		r.errs = validate(conf.Servers)
	}
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	conf.sources = r.sources
	return conf, nil
}
