package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// expirySoon is when a certificate is told of: automatic renewal is due a
	// month before the end, so this is one that was missed.
	expirySoon = 21 * 24 * time.Hour
	// openSlow is how long an opening takes that is worth to be told of.
	openSlow = 2 * time.Second
)

// A serverCheck is what is found of one server.
type serverCheck struct {
	Server          string          `json:"server"`
	Status          string          `json:"status"` // ok, or the worst level of the findings
	Transport       string          `json:"transport"`
	Target          string          `json:"target"`
	Era             string          `json:"era"`
	ProtocolVersion string          `json:"protocol_version"`
	ServerName      string          `json:"server_name"`
	ServerVersion   string          `json:"server_version"`
	Sharing         mcpool.Sharing  `json:"sharing"`
	Tools           int             `json:"tools"`
	SessionID       bool            `json:"session_id"` // it gave one
	Expires         *time.Time      `json:"certificate_expires"`
	Took            timings         `json:"took"`
	Databases       []databaseCheck `json:"databases,omitempty"`
	findings

	over atomic.Bool
}

// timings are the parts of the first opening, in seconds; 0 for one that there
// was not.
type timings struct {
	DNS       float64 `json:"dns_seconds"`
	TCP       float64 `json:"tcp_seconds"`
	TLS       float64 `json:"tls_seconds"`
	Handshake float64 `json:"handshake_seconds"` // the rest: initialize or server/discover, and starting a command
	Open      float64 `json:"open_seconds"`      // all of these
	ListTools float64 `json:"list_tools_seconds"`
	handshake string  // what it is
}

func (t timings) String() string {
	if t.Open == 0 {
		return ""
	}
	var parts []string
	for _, part := range []struct {
		name    string
		seconds float64
	}{{"DNS", t.DNS}, {"TCP", t.TCP}, {"TLS", t.TLS}, {t.handshake, t.Handshake}} {
		if part.seconds > 0 {
			parts = append(parts, part.name+" "+brief(part.seconds))
		}
	}
	text := fmt.Sprintf("opened in %s (%s)", brief(t.Open), strings.Join(parts, ", "))
	if t.ListTools > 0 {
		text += ", tools/list " + brief(t.ListTools)
	}
	return text
}

func newServerCheck(s config.Server) *serverCheck {
	return &serverCheck{Server: s.Name, Status: "ok", findings: findings{[]finding{}}}
}

// about says in a line what the server is.
func (c *serverCheck) about() string {
	parts := []string{c.Transport}
	if c.Target != "" {
		parts[0] += " " + printable(c.Target)
	}
	if c.Took.Open > 0 {
		if c.Era != "" && c.Era != c.Transport {
			parts = append(parts, strings.TrimSpace(c.Era+" "+c.ProtocolVersion))
		}
		parts = append(parts, strings.TrimSpace(printable(c.ServerName+" "+c.ServerVersion)), plural(c.Tools, "tool"), "sharing "+string(c.Sharing))
	}
	return strings.Join(parts, ", ")
}

// examine opens one connection to the server and looks at what comes.
func (c *serverCheck) examine(ctx context.Context, s config.Server, timeout time.Duration) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var seen *httpTrace
	if s.URL != "" {
		c.checkAddress(s)
		var err error
		if seen, err = traceHTTP(&s.Server); err != nil {
			c.add(levelError, "name files that are there and that belong together", "the certificates: %v", err)
			return
		}
		defer seen.close()
	}
	c.checkFiles(s)
	if !c.checkCommand(s) {
		return
	}
	wait := s.Pool.ConnectionTimeout
	s.Pool.ConnectionTimeout = min(cmp.Or(wait, timeout), timeout)
	s.Pool.LazyInitialization, s.Pool.MinConnections, s.Pool.RetryAttempts = true, 0, 1

	opened := &firstOpening{failed: cancel} // waiting longer shows no other reason
	s.Pool.Hooks = mcpool.Hooks{OpenEnd: opened.note}
	a, err := assemble([]config.Server{s}, nil, newKey(), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		c.add(levelError, "", "%v", err)
		return
	}
	pool := a.units[0].pool
	defer func() {
		end, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer done()
		_ = closeUnits(end, a.units) // of what is not needed any more
	}()
	discovered, err := call(ctx, pool, "server/discover", nil)
	var tools []mcpool.Tool
	var list time.Duration
	if err == nil {
		began := time.Now()
		tools, err = pool.ListTools(ctx)
		list = time.Since(began)
	}
	about := pool.About()
	c.Transport, c.Target, c.Era, c.ProtocolVersion, c.Sharing = about.Transport, about.Target, about.Era, about.ProtocolVersion, about.Sharing
	end := opened.get()
	if seen != nil {
		c.SessionID, c.Expires = seen.session(), seen.expires()
		c.checkCertificate(s, time.Now())
	}
	if err != nil {
		err = cmp.Or(end.Err, err)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, mcpool.ErrAcquireTimeout) || end.Err == nil && ctx.Err() != nil {
			err = fmt.Errorf("it did not answer within %v", s.Pool.ConnectionTimeout)
		}
		c.explain(s, seen, err)
		return
	}
	c.Tools = len(tools)
	for _, conn := range pool.Conns() {
		c.ServerName, c.ServerVersion = conn.ServerName(), conn.ServerVersion()
	}
	c.measure(s, seen, end.Took, list)
	if s.Databases != nil {
		c.checkDatabases(ctx, pool, s)
		return
	}
	c.checkTime(wait)
	c.checkSharing(s, discovered, tools)
	if len(tools) == 0 {
		c.add(levelAdvice, "nothing, if it has resources or prompts alone", "it lists no tools")
	}
}

// A firstOpening is how a server was opened, or not, the first time.
type firstOpening struct {
	failed func(error) // is told why not

	mu    sync.Mutex // guards what follows
	known bool
	end   mcpool.OpenEnd
}

// note is a hook of the pool.
func (o *firstOpening) note(_ context.Context, e mcpool.OpenEnd) {
	o.mu.Lock()
	first := !o.known
	if first {
		o.known, o.end = true, e
	}
	o.mu.Unlock()
	if first && e.Err != nil {
		o.failed(e.Err)
	}
}

// get returns the end of it; the zero value for none.
func (o *firstOpening) get() mcpool.OpenEnd {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.end
}

// checkCommand reports whether the command of a server is there.
func (c *serverCheck) checkCommand(s config.Server) bool {
	if s.Command == "" {
		return true
	}
	path := s.Command
	if strings.ContainsRune(path, '/') && !strings.HasPrefix(path, "/") && s.Dir != "" {
		path = s.Dir + "/" + path
	}
	if _, err := exec.LookPath(path); err != nil && !errors.Is(err, exec.ErrDot) {
		c.Transport = "stdio"
		c.add(levelError, "install it, or write the whole path as command", "%v", err)
		return false
	}
	return true
}

// measure notes how long opening a server and listing its tools took, and what
// opening consisted of.
func (c *serverCheck) measure(s config.Server, seen *httpTrace, open, list time.Duration) {
	c.Took = timings{Open: open.Seconds(), Handshake: open.Seconds(), ListTools: list.Seconds(), handshake: "initialize"}
	switch {
	case c.Era == "modern":
		c.Took.handshake = "server/discover"
	case s.Command != "":
		c.Took.handshake = "start and initialize"
	case s.Databases != nil:
		c.Took.handshake = "in process"
	}
	if seen != nil {
		c.Took.DNS, c.Took.TCP, c.Took.TLS = seen.parts()
		c.Took.Handshake = max(0, c.Took.Open-c.Took.DNS-c.Took.TCP-c.Took.TLS)
		c.checkRates(seen)
	}
}

func newKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // which never fails
	return key
}

// call makes a call and returns its result.
func call(ctx context.Context, pool *mcpool.Pool, method string, params any) (json.RawMessage, error) {
	c := rpc.Call{Method: method}
	if params != nil {
		c.Params, _ = json.Marshal(params) // of our own
	}
	answer, err := pool.Do(ctx, c)
	if err != nil {
		return nil, err
	}
	defer answer.Free()
	return bytes.Clone(answer.Bytes()), nil
}

// explain says why a server cannot be used, and what to do.
func (c *serverCheck) explain(s config.Server, seen *httpTrace, err error) {
	fix := "see that it runs, and that url and headers are right"
	if s.Command != "" {
		fix = "run the command in a terminal and see what it says"
	}
	var unresolved *net.DNSError
	status := 0
	if seen != nil {
		status = seen.refusal()
	}
	switch {
	case errors.As(err, &unresolved):
		fix = "correct the host in url, or the DNS"
	case status == http.StatusUnauthorized && s.Auth == nil && s.Header.Get("Authorization") == "":
		fix = `it wants credentials and has none: give auth, such as {"bearer_env": "TOKEN"}, or an Authorization in headers`
	case status == http.StatusUnauthorized:
		fix = "it does not take these credentials: renew them, and check that they are for this server"
	case status == http.StatusForbidden:
		fix = "the credentials are known and may not do this: ask for more rights or scopes"
	case status == http.StatusTooManyRequests:
		fix = "it limits its callers: try later, and lower max_connections and max_calls"
	case errors.Is(err, mcpool.ErrCredentials):
		fix = "correct what auth names: the variable, the file, or the login"
	case status == http.StatusNotFound:
		fix = "nothing is at this path: most servers are at /mcp or /sse"
	case strings.Contains(err.Error(), "certificate"):
		fix = "renew the certificate of the server, or name its authority as ca_file"
	}
	c.add(levelError, fix, "%v", err)
}

// checkAddress looks at how credentials go over the wire.
func (c *serverCheck) checkAddress(s config.Server) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "http" {
		return
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip.IsLoopback() {
		return
	}
	if s.Auth != nil || s.Header.Get("Authorization") != "" || u.User != nil {
		c.add(levelError, "write https in url", "its credentials go over http, for all on the way to read")
	} else {
		c.add(levelWarning, "write https in url if it is served", "calls go over http, for all on the way to read and to change")
	}
}

// checkFiles looks at who may read files with secrets.
func (c *serverCheck) checkFiles(s config.Server) {
	files := map[string]string{"key_file": s.KeyFile}
	switch auth := s.Auth.(type) {
	case mcpool.BearerFile:
		files["bearer_file"] = string(auth)
	case mcpool.OAuth:
		files["client_secret_file"] = auth.ClientSecretFile
	}
	for what, path := range files {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			c.add(levelError, "make the file, or correct its path", "%s %s is not there", what, path)
		case err != nil:
			c.add(levelError, "let mcpool read it", "%s: %v", what, err)
		case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
			c.add(levelWarning, "chmod 600 "+path, "%s %s can be read by others of this machine", what, path)
		}
	}
}

// checkCertificate looks at when the server's certificate ends.
func (c *serverCheck) checkCertificate(s config.Server, now time.Time) {
	if c.Expires == nil {
		return
	}
	if left := c.Expires.Sub(now); left < expirySoon {
		c.add(levelWarning, "renew it", "the certificate of the server ends on %s, in %s", c.Expires.Format(time.DateOnly), plural(int(max(0, left.Hours()/24)), "day"))
	}
}

// checkRates looks at what the server has said of limits.
func (c *serverCheck) checkRates(seen *httpTrace) {
	if header := seen.limit(); header != "" {
		c.add(levelAdvice, "keep max_calls below it, so that callers wait here and are not refused there", "the server limits its callers: %s", header)
	}
}

// checkTime compares how long an opening took with how long it may take.
func (c *serverCheck) checkTime(wait time.Duration) {
	took := time.Duration(c.Took.Open * float64(time.Second))
	switch {
	case wait > 0 && took > wait/2:
		c.add(levelWarning, fmt.Sprintf("raise connection_timeout to %v or more", (4*took).Round(time.Second)),
			"opening took %v, and connection_timeout is %v: callers will time out on a bad day", took.Round(time.Millisecond), wait)
	case took > openSlow:
		c.add(levelAdvice, "set lazy_initialization to false, or raise idle_timeout, so that no caller waits for it",
			"opening took %v, which the first caller waits for", took.Round(time.Millisecond))
	}
}

// keeping are words in the names of tools that change what later calls meet.
var keeping = regexp.MustCompile(`(?i)(^|[_./-])(session|login|logout|connect|disconnect|begin|commit|rollback|transaction|use|select_database|cd|chdir|set_cwd|navigate|navigate_back|open|close|click|attach|detach|checkout|remember)($|[_./-])`)

// checkSharing says who should share connections, by what was seen.
func (c *serverCheck) checkSharing(s config.Server, discovered json.RawMessage, tools []mcpool.Tool) {
	var said struct {
		Capabilities struct {
			Resources struct{ Subscribe bool }
			Logging   *struct{}
		}
	}
	_ = json.Unmarshal(discovered, &said) // one without capabilities has none
	var why []string
	reading := 0
	for _, tool := range tools {
		if keeping.MatchString(tool.Name) {
			why = append(why, fmt.Sprintf("the tool %s", tool.Name))
		}
		var hints struct{ ReadOnlyHint bool }
		_ = json.Unmarshal(tool.Annotations, &hints) // one without has none
		if hints.ReadOnlyHint {
			reading++
		}
	}
	if said.Capabilities.Resources.Subscribe && c.Era == "legacy" {
		why = append(why, "subscriptions")
	}
	if len(why) > 3 {
		why = append(why[:3], "more")
	}
	onlyReads := len(tools) > 0 && reading == len(tools)
	own := s.Auth == nil && s.Tokens == nil // no account of its own that others would act as
	switch {
	case c.Era == "modern":
		return // nothing is kept between its calls
	case c.Sharing == mcpool.ShareAll && len(why) > 0:
		c.add(levelWarning, "set sharing of its pool to session, or to principal, unless you know that it keeps nothing",
			"all callers share its connections, and it may keep state in them: %s", strings.Join(why, ", "))
	case s.Command != "" && c.Sharing == mcpool.ShareSession && len(why) == 0 && onlyReads:
		c.add(levelAdvice, `"pool": {"sharing": "shared"} of this server has all clients share its processes`,
			"each client has a process of its own, and all tools say that they only read")
	case s.Command != "" && c.Sharing == mcpool.ShareSession && len(why) == 0:
		c.add(levelAdvice, `if it keeps nothing between calls, "pool": {"sharing": "shared"} of this server has all clients share its processes`,
			"each client has a process of its own, and nothing was seen that needs it")
	case s.URL != "" && !c.SessionID && c.Sharing == mcpool.ShareSession:
		c.add(levelAdvice, "set sharing of its pool to principal", "each client has connections of its own, and the server gives no session id to keep state by")
	case s.URL != "" && c.SessionID && c.Sharing == mcpool.SharePrincipal && len(why) > 0 && own:
		c.add(levelAdvice, "if clients of one principal must not meet, set sharing of its pool to session",
			"it gives session ids and may keep state: %s", strings.Join(why, ", "))
	}
}

// A databaseCheck is what is found of one database.
type databaseCheck struct {
	Database  string `json:"database"`
	Engine    string `json:"engine"`
	Version   string `json:"version"`
	Mode      string `json:"mode"`
	Status    string `json:"status"`
	LastError string `json:"last_error,omitempty"`
	ReadOnly  *struct {
		Verified   bool     `json:"verified"`
		EnforcedBy []string `json:"enforced_by"`
		Role       []struct {
			Name   string `json:"name"`
			OK     bool   `json:"ok"`
			Detail string `json:"detail,omitempty"`
		} `json:"role,omitempty"`
		Warnings []string `json:"warnings,omitempty"`
	} `json:"read_only,omitempty"`
	Findings []struct{ Severity, Message, Fix string } `json:"-"`
}

func (d *databaseCheck) about() string {
	text := fmt.Sprintf("%s: %s, %s, %s", d.Database, strings.TrimSpace(d.Engine+" "+d.Version), d.Mode, d.Status)
	if d.ReadOnly != nil {
		proof := "not proven"
		if d.ReadOnly.Verified {
			proof = "proven by a write that was refused"
		}
		text += ", reading only: " + proof
	}
	return printable(text)
}

// checkDatabases asks for the proof that databases are read-only, and how they
// are.
func (c *serverCheck) checkDatabases(ctx context.Context, pool *mcpool.Pool, s config.Server) {
	for _, d := range s.Databases.Databases {
		arguments := map[string]any{}
		if len(s.Databases.Databases) > 1 {
			arguments["database"] = d.Name
		}
		c.checkDatabase(ctx, pool, d.Name, d.AllowUnsafeRole, arguments)
	}
}

func (c *serverCheck) checkDatabase(ctx context.Context, pool *mcpool.Pool, name string, unsafe bool, arguments map[string]any) {
	// The first call opens it and tells why it cannot.
	probe, err := pool.CallTool(ctx, "list_tables", arguments)
	if err != nil {
		c.add(levelError, "see that it runs, and that dsn is right", "database %s: %v", name, err)
		return
	}
	result, err := pool.CallTool(ctx, "database_info", arguments)
	if err != nil || result.IsError {
		c.add(levelError, "see that it runs, and that dsn is right", "database %s: %v", name, cmp.Or(err, errors.New(resultText(result))))
		return
	}
	d := databaseCheck{}
	var more struct {
		Findings []struct{ Severity, Message, Fix string }
	}
	if err := errors.Join(json.Unmarshal(result.StructuredContent, &d), json.Unmarshal(result.StructuredContent, &more)); err != nil {
		c.add(levelError, "", "database %s: %v", name, err)
		return
	}
	c.Databases = append(c.Databases, d)
	switch {
	case probe.IsError:
		c.add(levelError, "see that it runs, that dsn and password are right, and that the role may read", "database %s: %s", name, resultText(probe))
	case d.Status == "down":
		c.add(levelError, "see that it runs, and that dsn is right", "database %s is down: %s", name, d.LastError)
	case d.ReadOnly != nil && !d.ReadOnly.Verified:
		c.add(levelWarning, "mcpool db setup-sql prints the SQL of a role that can only read", "database %s: it is not proven that it is read-only", name)
	}
	if d.ReadOnly != nil {
		for _, check := range d.ReadOnly.Role {
			if !check.OK {
				c.add(levelWarning, "mcpool db setup-sql prints the SQL of a role that can only read", "database %s: the role: %s %s", name, check.Name, check.Detail)
			}
		}
		for _, warning := range d.ReadOnly.Warnings {
			c.add(levelWarning, "", "database %s: %s", name, warning)
		}
	}
	if unsafe {
		c.add(levelWarning, "give it a role that can only read, and take allow_unsafe_role out", "database %s: allow_unsafe_role lets its role do more than read", name)
	}
	for _, found := range more.Findings {
		level := map[string]string{"error": levelError, "warning": levelWarning}[found.Severity]
		c.add(cmp.Or(level, levelAdvice), found.Fix, "database %s: %s", name, found.Message)
	}
}

func resultText(result *mcpool.ToolResult) string {
	if result == nil {
		return ""
	}
	text := []rune(cmp.Or(result.Text(), string(result.Raw)))
	return string(text[:min(len(text), 400)])
}
