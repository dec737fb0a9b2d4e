package config

import (
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/mcpool-dev/mcpool"
)

// topKeys are those of a file.
var topKeys = keys{
	read: []string{"mcpServers", "servers", "databases", "database_server", "pool", "limits", "gateway", "log", "auth", "tls", "admin", "telemetry"},
	ignored: []string{
		"$schema", "_comment", "//",
		"inputs",                        // VS Code: what it asks for; an error where it is referred to
		"globalShortcut", "preferences", // Claude Desktop
	},
}

// serverKeys are those of an entry of mcpServers.
var serverKeys = keys{
	read: []string{
		"type", "url", "headers", "auth", "command", "args", "env", "envFile", "cwd", "close_grace", "disabled", "pool",
		"protocol", "ca_file", "cert_file", "key_file", "max_message_bytes", "allow", "deny", "max_calls",
	},
	ignored: []string{
		"_comment", "//",
		"description", "icon", "iconPath", // for people
		"autoApprove", "alwaysAllow", "trust", // Cline and Kiro, Roo Code, Gemini CLI: what the client asks its user
		"timeout", "initTimeout", // milliseconds in some clients, seconds in others: call_timeout and connection_timeout are ours
		"dev", "gallery", "version", // VS Code: restarts while developing, and where the entry came from
		"watchPaths", // Roo Code: what restarts the server when it changes
		"alwaysLoad", // Claude Code: when tools are shown to its model
	},
	refused: map[string]string{
		"serverUrl":         "write it as url", // Windsurf
		"httpUrl":           "write it as url", // Gemini CLI
		"transport":         "write it as type",
		"transportType":     "write it as type",
		"working_directory": "write it as cwd",

		// What authenticates a client with the server.
		"oauth":         "logging in by a person is not supported: give the credentials in auth",
		"headersHelper": "running a program for headers is not supported: give them in headers, or in auth",

		// What keeps a client or a server from something. Without it they
		// would be allowed more than the file says.
		"tools":          "write it as allow",
		"includeTools":   "write it as allow",
		"excludeTools":   "write it as deny",
		"disabledTools":  "write it as deny",
		"sandbox":        "a sandbox is not supported: name one as the command",
		"sandboxEnabled": "a sandbox is not supported: name one as the command",
	},
}

// servers reads all servers of a file.
func (r *reader) servers(root *node, common settings) []Server {
	var servers []Server
	taken := make(map[string]*node)
	for _, section := range r.mapping(root, topKeys) {
		switch section.key {
		case "databases":
			if db := r.databases(root, common, taken); db != nil {
				servers = append(servers, *db)
			}
			continue
		case "database_server":
			if root.get("databases") == nil {
				r.refuse(section, "goes with databases, and there are none")
			}
			continue
		case "pool", "limits", "gateway", "log", "auth", "tls", "admin", "telemetry":
			continue
		}
		for _, entry := range r.members(section) {
			if r.disabled(entry) {
				continue
			}
			s := Server{Pool: common.pool, CallTimeout: common.callTimeout}
			s.Name = r.serverName(entry, taken)
			r.server(entry, &s)
			servers = append(servers, s)
		}
	}
	return servers
}

// disabled says whether an entry is to be left out, before anything else of
// it is read: its variables need not be set, its keys not be known.
func (r *reader) disabled(entry *node) bool {
	n := entry.get("disabled")
	return n != nil && n.kind != null && r.truth(n)
}

// other is what a name may not have.
var other = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// serverName makes the name of a server of its key in the file.
func (r *reader) serverName(entry *node, taken map[string]*node) string {
	name := r.nameOf(entry)
	r.takeName(entry, name, taken)
	return name
}

// nameOf makes a name of an entry's key in the file.
func (r *reader) nameOf(entry *node) string {
	return strings.Trim(other.ReplaceAllString(entry.key, "-"), "-")
}

// takeName refuses the name of a server that is none, or that another has.
func (r *reader) takeName(n *node, name string, taken map[string]*node) {
	if name == "" || len(name) > 64 || other.MatchString(name) {
		r.refuse(n, "its name: want 1 to 64 letters, digits, '-' and '_'")
		return
	}
	if there, is := taken[name]; is && there.place() != n.place() {
		r.refuse(n, "its name would be %s, which is that of %s on line %d: rename one", name, there.place(), there.line)
	}
	taken[name] = n
}

// server reads an entry of mcpServers.
func (r *reader) server(entry *node, s *Server) {
	before := len(r.errs)
	var kind string
	var ownEnv, fileEnv []string
	var auth *node
	for _, n := range r.mapping(entry, serverKeys) {
		switch n.key {
		case "type":
			kind = r.transport(n)
		case "url":
			s.URL = r.url(n)
		case "headers":
			s.Header = r.header(n)
		case "auth":
			auth = n
		case "command":
			s.Command = r.text(n)
		case "args":
			s.Args = r.texts(n)
		case "env":
			ownEnv = r.env(n)
		case "envFile":
			fileEnv = r.envFile(n)
		case "cwd":
			s.Dir = r.path(n)
		case "protocol":
			s.Protocol = r.protocol(n)
		case "ca_file":
			s.CAFile = r.file(n)
		case "cert_file":
			s.CertFile = r.file(n)
		case "key_file":
			s.KeyFile = r.file(n)
		case "max_message_bytes":
			s.MaxMessageBytes = r.count(n, mostMessageBytes, "the default")
		case "close_grace":
			s.CloseGrace = r.period(n)
		default:
			r.shared(n, s)
		}
	}
	s.Env = append(fileEnv, ownEnv...) // of two values the last counts
	if len(r.errs) > before {
		return // what follows would be about what is left
	}
	s.SSE = kind == "sse"
	if complaint := mismatch(s, kind); complaint != "" {
		r.refuse(entry, "%s", complaint)
	}
	if auth == nil {
		return
	}
	if u, err := url.Parse(s.URL); s.Header["Authorization"] != nil || err == nil && u.User != nil {
		r.refuse(auth, "beside an Authorization in headers or a user in the url: want one of them")
	}
	s.Auth = r.auth(auth, s)
}

// mostMessageBytes is the most that MaxMessageBytes of [mcpool.Server] takes.
const mostMessageBytes = 1 << 30

// mismatch says what of an entry does not go together. A client leaves the
// keys of the other kind empty rather than out, so empty ones are no mistake.
func mismatch(s *Server, kind string) string {
	switch {
	case s.URL != "" && s.Command != "":
		return "has a url and a command: want one of them"
	case s.URL == "" && s.Command == "":
		return "want a url or a command"
	case kind == "stdio" && s.URL != "":
		return "type stdio wants a command, not a url"
	case (kind == "http" || kind == "sse") && s.Command != "":
		return "type " + kind + " wants a url, not a command"
	case kind == "sse" && s.Protocol == mcpool.Protocols()[0]:
		return "type sse is older than protocol " + s.Protocol + ": want another of them"
	case s.URL != "" && (len(s.Args) > 0 || len(s.Env) > 0 || s.Dir != "" || s.CloseGrace != 0):
		return "args, env, envFile, cwd and close_grace go with a command, not with a url"
	case s.Command != "" && len(s.Header) > 0:
		return "headers go with a url, not with a command"
	case (s.CAFile != "" || s.CertFile != "" || s.KeyFile != "") && !strings.HasPrefix(strings.ToLower(s.URL), "https://"):
		return "ca_file, cert_file and key_file go with an https url"
	case (s.CertFile != "") != (s.KeyFile != ""):
		return "cert_file and key_file go together: want both or neither"
	}
	return ""
}

// transport returns stdio, http or sse.
func (r *reader) transport(n *node) string {
	switch kind := r.text(n); kind {
	case "stdio":
		return "stdio"
	case "http", "streamable-http", "streamableHttp":
		return "http"
	case "sse":
		return "sse"
	default:
		r.refuse(n, "value %q: want stdio, http or sse", n.text)
	}
	return ""
}

// protocol returns the one version of MCP to speak, "" for whichever.
func (r *reader) protocol(n *node) string {
	version := r.text(n)
	if version == "auto" {
		return ""
	}
	if version != "" && !slices.Contains(mcpool.Protocols(), version) {
		r.refuse(n, "value %q: want auto, %s", version, strings.Join(mcpool.Protocols(), ", "))
	}
	return version
}

// url returns the address of an endpoint. Errors leave it out: it may hold a
// password or a token.
func (r *reader) url(n *node) string {
	before := len(r.errs)
	text := r.text(n)
	if text == "" || len(r.errs) > before {
		return ""
	}
	if socketURL.MatchString(text) {
		return text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		r.refuse(n, "want an http or https URL, or one of a socket such as http+unix://%%2Frun%%2Fmcp.sock/mcp")
	}
	return text
}

// socketURL is the URL of a server at a Unix socket, whose host is a path.
var socketURL = regexp.MustCompile(`^http\+unix://%2[Ff][^/?#@]+([/?#]|$)`)

// header returns headers, nil if there are none.
func (r *reader) header(n *node) http.Header {
	if n.kind == mapping && len(n.children) == 0 {
		return nil
	}
	header := make(http.Header)
	for _, child := range r.members(n) {
		value := r.text(child)
		name := http.CanonicalHeaderKey(child.key)
		switch {
		case !isToken(child.key):
			r.refuse(child, "not the name of a header")
		case strings.ContainsFunc(value, func(c rune) bool { return c != '\t' && unicode.IsControl(c) }):
			r.refuse(child, "has a line break or another control character, which a header cannot")
		case header[name] != nil:
			r.refuse(child, "there already: the case of a header's name does not matter")
		default:
			header[name] = []string{value}
		}
	}
	return header
}

// isToken reports whether name may be that of a header (RFC 9110, 5.6.2).
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c)
	})
}

// env returns variables as NAME=value.
func (r *reader) env(n *node) []string {
	var env []string
	for _, child := range r.members(n) {
		value := r.text(child)
		if child.key == "" || strings.ContainsAny(child.key, "=\x00") || strings.Contains(value, "\x00") {
			r.refuse(child, "cannot be an environment variable")
			continue
		}
		env = append(env, child.key+"="+value)
	}
	return env
}

// path returns a path, relative to the file's folder.
func (r *reader) path(n *node) string {
	path := r.text(n)
	if path == "" || filepath.IsAbs(path) || n.outside != "" {
		return path
	}
	return filepath.Join(r.folder, path)
}

// file returns the path of a file that is there.
func (r *reader) file(n *node) string {
	before := len(r.errs)
	path := r.path(n)
	if path == "" || len(r.errs) > before {
		return ""
	}
	if _, err := os.Stat(path); err != nil {
		r.refuse(n, "%w", withoutPath(err))
	}
	return path
}

// withoutPath returns what is wrong with a file without its path, which may
// come from a variable.
func withoutPath(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// period returns a time.
func (r *reader) period(n *node) time.Duration {
	before := len(r.errs)
	text := r.text(n)
	if len(r.errs) > before {
		return 0
	}
	d, err := mcpool.ParseDuration(text)
	if err != nil {
		r.refuse(n, "value %q: %w", n.text, err)
	}
	return d
}

// shared reads a key that entries of mcpServers and the server of databases have.
func (r *reader) shared(n *node, s *Server) {
	switch n.key {
	case "pool":
		r.ownPool(n, s)
		return
	case "allow":
		s.Allow = r.patterns(n)
	case "deny":
		s.Deny = r.patterns(n)
	case "max_calls":
		s.MaxCalls = r.count(n, maxLimit, "the default")
	default:
		return
	}
	r.from(s.Name, n.key, r.at(n))
}

// ownPool applies a server's own settings.
func (r *reader) ownPool(n *node, s *Server) {
	own := settings{s.Pool, s.CallTimeout}
	r.pool(n, s.Name, &own)
	s.Pool, s.CallTimeout = own.pool, own.callTimeout
}
