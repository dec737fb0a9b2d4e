package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/serving"
)

func runServe(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "serve [flags]", `Serve pooled MCP servers to any MCP client. Without --config it serves one
server, sales: a small sample database in this process.

With --stdio it serves one client over standard input and output, for clients
that start their servers: by the gateway that listens at --listen already, or
if there is none by becoming it. So all of them share one pool.`)
	s := &service{std: std}
	file := f.file("config", "`file` that lists the servers: an mcp.json as MCP clients have it, or YAML")
	check := f.Bool("check", false, "only check the configuration")
	overStdio := f.Bool("stdio", false, "serve one client over standard input and output, by the gateway of this machine")
	s.listen = f.listen(defaultListen, "`address` to listen on, or of the gateway to join")
	s.drainDelay = f.period("drain-delay", 0, "how long calls are still taken when the program ends, so that a balancer sees /readyz; within --drain-timeout")
	s.callerKey = f.callerKey("with --stdio, ")
	s.settings = f.settings()
	f.environment("")
	if err := f.parse(args, 0); err != nil {
		return err
	}
	s.file, s.own = *file, f.ownSettings()
	if *s.drainDelay > 0 && *s.drainDelay >= *s.listen.drainTimeout {
		return usagef("%s of %v leaves nothing of %s of %v", f.called("drain-delay"), *s.drainDelay, f.called("drain-timeout"), *s.listen.drainTimeout)
	}
	addr, err := s.listen.resolve()
	if err != nil {
		return err
	}
	if *overStdio && addr.Port == 0 {
		return usagef("%s %q: with --stdio want a port, at which other programs find the gateway", f.called("listen"), *s.listen.address)
	}
	text, err := s.load()
	if err != nil {
		return err
	}
	s.log = newLogger(std.err, s.conf.Log)
	if err := s.listen.secure(addr, s.conf.Auth, s.conf.TLS, s.log.Logger); err != nil {
		return err
	}
	if !*overStdio && s.callerKey.file != "" {
		return usagef("--key-file is for programs that call a gateway: want --stdio with it, or --auth-key-file for the keys of those who may call this one")
	}
	if *overStdio && s.listen.tls != nil {
		return usagef("--stdio joins a gateway of this machine without TLS: take tls out of the configuration, or serve it by a gateway of its own")
	}
	if !*check || s.conf.Gateway.SessionKeyFile != "" { // a check makes no key
		if s.key, err = sessionKey(s.conf.Gateway, s.log.Logger); err != nil {
			return err
		}
	}
	if s.token, err = adminToken(s.conf.Admin); err != nil {
		return err
	}
	if *check || *overStdio { // which opens what it has if it becomes the gateway
		if err := s.check(ctx); err != nil {
			return err
		}
	}
	switch {
	case *check:
		fmt.Fprintf(std.out, "configuration is good: %s\n", names(s.conf.Servers))
		return nil
	case *overStdio:
		return serveStdio(ctx, s, addr, text, std)
	}
	s.returns = true
	return s.reside(ctx, addr, text)
}

// service is what a command line says is to be served.
type service struct {
	file       string            // of the configuration, "" for none
	settings   map[string]string // by flags
	own        []admin.Setting   // that are none of a configuration
	conf       *config.Config    // that it begins with
	key        []byte            // of sessions
	callerKey  *callerKey
	token      *admin.Token // that it begins with; nil for none
	listen     *listenFlags
	drainDelay *time.Duration
	paused     []string // the servers that the process whose place this one takes had paused
	silent     bool     // it sends no telemetry
	log        *logger
	returns    bool // it is started again when it has ended
	std        stdio
}

// open makes the pools and the gateway. text is what the file of the
// configuration had.
func (s *service) open(text []byte) (*opened, error) {
	who, err := authenticator(s.conf.Auth, s.log.Logger)
	if err != nil {
		return nil, err
	}
	record, err := s.record()
	if err != nil {
		return nil, err
	}
	a, err := assemble(s.conf.Servers, s.paused, s.key, record, s.log.Logger)
	if err != nil {
		closeTelemetry(context.Background(), record)
		return nil, err
	}
	o := &opened{service: s, asked: s.conf.Auth, tried: text}
	o.who.Store(who)
	o.token.Store(s.token)
	o.conf.Store(s.conf)
	o.shows(s.conf.Settings(), nil)
	o.now.Store(a)
	o.life, o.end = context.WithCancelCause(context.Background())
	options := &gateway.Options{
		Hooks:   hooks(record),
		Version: version(), AllowedHosts: *s.listen.allowedHosts, AllowedOrigins: *s.listen.allowedOrigins, Log: s.log.Logger, Access: s.log.request,
		Key: s.key, Name: s.conf.Gateway.Name, Prefix: s.conf.Gateway.Prefix,
		MaxCallsPerPrincipal: s.conf.Gateway.MaxCallsPerPrincipal, JoinHeader: s.joined(text),
	}
	if who != nil {
		authenticate(options, o.who.Load)
	}
	if o.gateway, err = gateway.New(a.fronts(), options); err != nil {
		return nil, errors.Join(err, o.close(context.Background()))
	}
	return o, nil
}

// check makes sure that open will not fail, and opens no connection.
func (s *service) check(ctx context.Context) error {
	lazy, conf := *s, *s.conf
	lazy.conf, lazy.silent = &conf, true
	conf.Servers = slices.Clone(conf.Servers)
	for i := range conf.Servers {
		conf.Servers[i].Pool.LazyInitialization = true
	}
	opened, err := lazy.open(nil)
	if err != nil {
		return err
	}
	return opened.close(ctx)
}

// serve serves a listener until ctx ends, and closes all. leave is called when
// new clients have been told to go elsewhere, and before calls are refused.
func (s *service) serve(ctx context.Context, o *opened, listener net.Listener, leave func(context.Context, *serving.Server)) error {
	var draining atomic.Bool
	var authorize func(*http.Request) (string, error)
	if o.who.Load() != nil {
		authorize = func(r *http.Request) (string, error) {
			principal, err := o.who.Load().Admin(r)
			return principal.Name, err
		}
	}
	requests := admin.NewRequests()
	status := admin.New(admin.Options{
		Databases: o.databases, Requests: requests,
		Version: version(), Pools: o.pools, Gateway: o.gateway, Ready: func() bool { return !draining.Load() },
		Settings: o.settings, Reload: o.reload,
		Local: isLoopback(listener.Addr()), Token: o.token.Load, Authorize: authorize, Log: s.log.Logger,
	})
	s.shownAs("listen", func(one *admin.Setting) { one.Value = listener.Addr().String() })
	var sampling sync.WaitGroup
	defer sampling.Wait()
	until, stop := context.WithCancel(ctx)
	defer stop()
	sampling.Go(func() { status.Run(until) })
	serving.CollectLess()
	if limit := serving.LimitMemory(); limit > 0 {
		s.log.Info("memory is limited by the control group", "bytes", limit)
	}
	guarded := gateway.Guard(beside(status, o.who.Load), *s.listen.allowedHosts, *s.listen.allowedOrigins)
	rest := requests.Count("admin", gateway.Record(guarded, servesBeside, s.log.request))
	clients := requests.Count("mcp", o.gateway)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gateway.Serves(r.URL.Path) {
			clients.ServeHTTP(w, r)
		} else {
			rest.ServeHTTP(w, r)
		}
	})
	return serveUntil(ctx, listener, handler, s.listen, s.log.Logger, func(ctx context.Context, server *serving.Server) error {
		draining.Store(true)
		leave(ctx, server)
		o.turnAway()
		// The listener stays: a client that answers what a server asks during a
		// call, or comes back to a stream, may do it on a new connection.
		return o.gateway.Close(ctx)
	}, o.close)
}

// shownAs changes how a setting of the program is shown.
func (s *service) shownAs(name string, change func(*admin.Setting)) {
	for i := range s.own {
		if s.own[i].Name == name {
			change(&s.own[i])
		}
	}
}

// load reads the configuration, and returns what its file has.
func (s *service) load() (text []byte, err error) {
	s.conf, text, err = configuration(s.file, s.settings)
	return text, err
}

// configuration reads one, "" for that without a file, and returns what its file
// has.
func configuration(file string, settings map[string]string) (conf *config.Config, text []byte, err error) {
	if file == "" {
		conf, err = config.Default(settings)
	} else {
		if text, err = config.Read(file); err != nil {
			return nil, nil, hinted{err, "--config wants a file that is there and can be read"}
		}
		conf, err = config.Parse(text, file, settings)
	}
	if err != nil {
		return nil, nil, hinted{err, "mcpool serve --check tries a configuration out, and docs/configure.md has each key, variable and flag"}
	}
	return conf, text, nil
}

// fingerprint tells one command line's configuration from another's: by the
// file, and by the settings of flags and the environment, but for those of the
// log and the program, which are each one's own. The key keeps what is in it from those who see
// the fingerprint.
func (s *service) fingerprint(text []byte) string {
	sum := hmac.New(sha256.New, s.key)
	if s.file != "" {
		path, _ := filepath.Abs(s.file)
		fmt.Fprintf(sum, "%s\x00%s\x00", path, text)
	}
	apart := slices.Concat(config.LogSettingNames(), config.ProgramSettingNames())
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		if !slices.Contains(apart, name) {
			fmt.Fprintf(sum, "%s=%s\x00", name, s.settings[name])
		}
	}
	environment := os.Environ()
	slices.Sort(environment)
	for _, variable := range environment {
		name, _, _ := strings.Cut(variable, "=")
		if setting, is := strings.CutPrefix(name, mcpool.EnvPrefix); is && !slices.Contains(apart, strings.ToLower(setting)) {
			fmt.Fprintf(sum, "%s\x00", variable)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// greet says what is where, and one thing to try.
func greet(w io.Writer, scheme string, addr net.Addr, conf *config.Config) {
	servers, base := conf.Servers, scheme+"://"+addr.String()
	tryWhat := "tools"
	if len(servers) == 1 && isSample(servers[0]) {
		tryWhat = `call read_data '{"query": "select count(*) from sales"}'`
	}
	if addr.Network() == "unix" {
		base = socketURL(addr.String())
	}
	if addr.String() != defaultListen || scheme != "http" {
		tryWhat += " --url " + base
	}
	fmt.Fprintf(w, "mcpool %s\n", version())
	fmt.Fprintf(w, "  MCP      %s/mcp\n", base)
	if addr.Network() != "unix" { // where no browser gets
		fmt.Fprintf(w, "  page     %s/\n", base)
	}
	fmt.Fprintf(w, "  status   %s/status\n", base)
	fmt.Fprintf(w, "  servers  %s\n", names(servers))
	if conf.Auth != nil {
		tryWhat += " --key-file FILE"
	}
	fmt.Fprintf(w, "  try      %s %s\n", self(), tryWhat)
}

// isSample reports whether a server has the sample and nothing else.
func isSample(s config.Server) bool {
	return s.Databases != nil && len(s.Databases.Databases) == 1 && s.Databases.Databases[0].DSN == config.Sample
}

// names lists servers with how they are reached, without what may be secret.
func names(servers []config.Server) string {
	var list []string
	for _, s := range servers {
		kind := "HTTP"
		switch {
		case isSample(s):
			kind = "the sample database, opened by the first call"
		case s.Databases != nil:
			kind = "database"
			if n := len(s.Databases.Databases); n > 1 {
				kind = fmt.Sprintf("%d databases", n)
			}
		case s.Command != "":
			kind = "stdio"
		}
		list = append(list, fmt.Sprintf("%s (%s)", s.Name, kind))
	}
	return strings.Join(list, ", ")
}
