package config

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver"
)

// DefaultDatabaseServer is the name of the server of all databases of a file
// that gives it no other.
const DefaultDatabaseServer = "db"

// databaseKeys are those of an entry of databases.
var databaseKeys = keys{
	read: []string{
		"dsn", "dsn_file", "password_file", "engine", "description", "disabled",
		"tls_mode", "ca_file", "cert_file", "key_file",
		"mode", "write_dsn", "require_where", "max_affected", "allow_ddl", "allow_unsafe_role", "role", "principal_setting",
		"schemas", "deny_tables", "allow_functions", "masks",
		"max_connections", "max_idle_time", "max_lifetime", "acquire_timeout", "connect_timeout",
		"max_rows", "max_bytes", "max_cell_bytes", "spool_rows", "spool_bytes", "timeout", "lock_timeout",
	},
	ignored: []string{"_comment", "//"},
	refused: map[string]string{
		"pool":      "the connections of a database are bounded by max_connections",
		"allow":     "write it into database_server",
		"deny":      "write it into database_server",
		"max_calls": "write it into database_server",
		"password":  "write it to a file, and give that as password_file",
	},
}

var (
	databaseServerKeys = keys{
		read:    []string{"name", "tools", "audit", "max_calls_per_principal", "handle_ttl", "pool", "allow", "deny", "max_calls"},
		ignored: []string{"_comment", "//"},
	}
	maskKeys  = keys{read: []string{"columns", "with"}, ignored: []string{"_comment", "//"}}
	auditKeys = keys{read: []string{"file", "statements", "max_bytes"}, ignored: []string{"_comment", "//"}}
	toolKeys  = keys{read: []string{"description", "database", "statement", "params", "write", "max_rows"}, ignored: []string{"_comment", "//"}}
	paramKeys = keys{read: []string{"type", "description", "enum", "default", "optional"}, ignored: []string{"_comment", "//"}}
)

// Bounds of numbers that have none of their own.
const (
	mostRows  = 1_000_000
	mostBytes = 1 << 30
)

// databases reads the databases of a file and what they share, and returns the
// server that has them; nil if there are none.
func (r *reader) databases(root *node, common settings, taken map[string]*node) *Server {
	section, shared := root.get("databases"), root.get("database_server")
	options := &dbserver.Options{}
	names := make(map[string]*node)
	for _, entry := range r.members(section) {
		if !r.disabled(entry) {
			options.Databases = append(options.Databases, r.database(entry, names))
		}
	}
	if len(options.Databases) == 0 {
		return nil
	}
	s := &Server{Pool: common.pool, CallTimeout: common.callTimeout, Databases: options}
	s.Name, s.passwordFiles = DefaultDatabaseServer, r.passwordFiles
	at := section
	if shared != nil {
		if n := shared.get("name"); n != nil && n.kind != null {
			s.Name, at = r.text(n), n
		}
		for _, n := range r.mapping(shared, databaseServerKeys) {
			switch n.key {
			case "name": // which is read already
			case "tools":
				options.Tools = r.tools(n)
			case "audit":
				options.Audit = r.audit(n)
			case "max_calls_per_principal":
				options.MaxCallsPerPrincipal = r.count(n, maxLimit, "the default")
			case "handle_ttl":
				options.HandleTTL = r.period(n)
			default:
				r.shared(n, s)
			}
		}
	}
	r.takeName(at, s.Name, taken)
	return s
}

// database reads an entry of databases.
func (r *reader) database(entry *node, taken map[string]*node) dbserver.Database {
	before := len(r.errs)
	d := dbserver.Database{Name: r.serverName(entry, taken)}
	sources := 0
	for _, n := range r.mapping(entry, databaseKeys) {
		switch n.key {
		case "dsn":
			sources++
			d.DSN = r.text(n)
		case "dsn_file":
			sources++
			d.DSN = r.content(n)
		default:
			if !r.way(n, &d) && !r.rules(n, &d) {
				r.bounds(n, &d)
			}
		}
	}
	if len(r.errs) > before {
		return d
	}
	if sources != 1 || d.DSN == "" {
		r.refuse(entry, "want a dsn or a dsn_file, such as postgres://user@host/name, a SQLite file, or %q", Sample)
	}
	return d
}

// way reads a key that says what a database is and how it is reached. It reports
// false of another.
func (r *reader) way(n *node, d *dbserver.Database) bool {
	switch n.key {
	case "password_file":
		path := r.file(n)
		d.Password = PasswordFile(path)
		if r.passwordFiles == nil {
			r.passwordFiles = make(map[string]string)
		}
		r.passwordFiles[d.Name] = path
	case "engine":
		d.Engine = r.oneOf(n, dbserver.SQLite, dbserver.Postgres, dbserver.MySQL, dbserver.SQLServer)
	case "description":
		d.Description = r.text(n)
	case "tls_mode":
		d.TLSMode = r.oneOf(n, "disable", "require", "verify-ca", "verify-full")
	case "ca_file":
		d.CAFile = r.file(n)
	case "cert_file":
		d.CertFile = r.file(n)
	case "key_file":
		d.KeyFile = r.file(n)
	case "role":
		d.Role = r.text(n)
	case "principal_setting":
		d.PrincipalSetting = r.text(n)
	default:
		return false
	}
	return true
}

// rules reads a key that says what may be done with a database, and what is
// hidden in it. It reports false of another.
func (r *reader) rules(n *node, d *dbserver.Database) bool {
	switch n.key {
	case "mode":
		d.Mode = r.oneOf(n, dbserver.ReadOnly, dbserver.Write)
	case "write_dsn":
		d.WriteDSN = r.text(n)
	case "require_where":
		required := r.truth(n)
		d.RequireWhere = &required
	case "max_affected":
		d.MaxAffected = int64(r.count(n, mostRows, "the default"))
	case "allow_ddl":
		d.AllowDDL = r.truth(n)
	case "allow_unsafe_role":
		d.AllowUnsafeRole = r.truth(n)
	case "schemas":
		d.Schemas = r.texts(n)
	case "deny_tables":
		d.DenyTables = r.texts(n)
	case "allow_functions":
		d.AllowFunctions = r.texts(n)
	case "masks":
		d.Masks = r.masks(n)
	default:
		return false
	}
	return true
}

// bounds reads a key that bounds connections, time, or what an answer has.
func (r *reader) bounds(n *node, d *dbserver.Database) {
	switch n.key {
	case "max_connections":
		d.MaxConnections = r.count(n, 10_000, "the default")
	case "max_idle_time":
		d.MaxIdleTime = r.period(n)
	case "max_lifetime":
		d.MaxLifetime = r.period(n)
	case "acquire_timeout":
		d.AcquireTimeout = r.period(n)
	case "connect_timeout":
		d.ConnectTimeout = r.period(n)
	case "max_rows":
		d.MaxRows = r.count(n, mostRows, "the default")
	case "max_bytes":
		d.MaxBytes = r.count(n, mostBytes, "the default")
	case "max_cell_bytes":
		d.MaxCellBytes = r.count(n, mostBytes, "the default")
	case "spool_rows":
		if n.text == "none" {
			d.SpoolRows = -1
		} else {
			d.SpoolRows = r.count(n, mostRows, "the default")
		}
	case "spool_bytes":
		d.SpoolBytes = r.count(n, mostBytes, "the default")
	case "timeout":
		d.Timeout = r.period(n)
	case "lock_timeout":
		d.LockTimeout = r.period(n)
	}
}

// oneOf returns a word that is one of some.
func (r *reader) oneOf(n *node, words ...string) string {
	word := r.text(n)
	if !slices.Contains(words, word) {
		r.refuse(n, "value %q: want %s", n.text, or(words))
	}
	return word
}

// masks reads a list of masks. YAML takes the word null for nothing, which is
// what it says here.
func (r *reader) masks(n *node) []dbserver.Mask {
	var masks []dbserver.Mask
	for _, entry := range r.elements(n) {
		m := dbserver.Mask{With: "null"}
		for _, child := range r.mapping(entry, maskKeys) {
			switch child.key {
			case "columns":
				m.Columns = r.texts(child)
			case "with":
				m.With = r.oneOf(child, "null", "partial", "refuse")
			}
		}
		if len(m.Columns) == 0 || entry.get("with") == nil {
			r.refuse(entry, "want columns, and with: null, partial or refuse")
		}
		masks = append(masks, m)
	}
	return masks
}

// audit reads where calls are written down.
func (r *reader) audit(n *node) *dbserver.Audit {
	a := new(dbserver.Audit)
	for _, child := range r.mapping(n, auditKeys) {
		switch child.key {
		case "file":
			a.File = r.path(child)
		case "statements":
			a.Statements = r.oneOf(child, "fingerprint", "full")
		case "max_bytes":
			a.MaxBytes = int64(r.count(child, mostBytes, "the default"))
		}
	}
	if a.File == "" {
		r.refuse(n, "want a file")
	}
	return a
}

// tools reads tools of one's own, by their names.
func (r *reader) tools(n *node) []dbserver.Tool {
	var tools []dbserver.Tool
	for _, entry := range r.members(n) {
		t := dbserver.Tool{Name: entry.key}
		for _, child := range r.mapping(entry, toolKeys) {
			switch child.key {
			case "description":
				t.Description = r.text(child)
			case "database":
				t.Database = r.text(child)
			case "statement":
				t.Statement = r.literal(child)
			case "params":
				t.Params = r.params(child)
			case "write":
				t.Write = r.truth(child)
			case "max_rows":
				t.MaxRows = r.count(child, mostRows, "that of the database")
			}
		}
		tools = append(tools, t)
	}
	return tools
}

// params reads the arguments of a tool, by their names.
func (r *reader) params(n *node) []dbserver.Param {
	var params []dbserver.Param
	for _, entry := range r.members(n) {
		p := dbserver.Param{Name: entry.key}
		for _, child := range r.mapping(entry, paramKeys) {
			switch child.key {
			case "type":
				p.Type = r.oneOf(child, "string", "integer", "number", "boolean")
			case "description":
				p.Description = r.text(child)
			case "enum":
				p.Enum = r.texts(child)
			case "optional":
				p.Optional = r.truth(child)
			}
		}
		if def := entry.get("default"); def != nil && def.kind != null {
			p.Default = r.value(def, p.Type)
		}
		params = append(params, p)
	}
	return params
}

// literal returns a text in which ${ stands for itself, as in dollar quotes.
func (r *reader) literal(n *node) string {
	if n.kind != scalar {
		r.refuse(n, "want a string")
		return ""
	}
	return n.text
}

// content returns what a file has, without white space around it.
func (r *reader) content(n *node) string {
	path := r.file(n)
	if path == "" {
		return ""
	}
	data, err := os.ReadFile(path)
	if err != nil {
		r.refuse(n, "%w", withoutPath(err))
	}
	return strings.TrimSpace(string(data))
}

// PasswordFile returns what reads a password from a file, anew each time that
// it is asked for. The end of the line is no part of it; errors do not have the
// path.
func PasswordFile(path string) func() (string, error) {
	return func() (string, error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("the file with its password cannot be read: %w", withoutPath(err))
		}
		return strings.TrimRight(string(data), "\r\n"), nil
	}
}
