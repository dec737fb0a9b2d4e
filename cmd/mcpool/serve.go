package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/gateway"
)

func runServe(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "serve [flags]", `Serve pooled MCP servers to any MCP client. Without --config it serves one
server, sales: a small sample database in this process.`)
	file := ""
	f.Func("config", "`file` that lists the servers: an mcp.json as MCP clients have it, or YAML", func(s string) error {
		if file = s; file == "" { // not the same as none: a variable of a script may be unset
			return errors.New("want a file")
		}
		return nil
	})
	check := f.Bool("check", false, "only check the configuration")
	listen := f.listen(defaultListen, "`address` to listen on")
	settings := f.settings()
	log := f.logger(std)
	if err := f.parse(args, 0); err != nil {
		return err
	}
	addr, err := listen.resolve()
	if err != nil {
		return err
	}
	conf, err := load(file, settings)
	if err != nil {
		return err
	}
	for i := range conf.Servers {
		s := &conf.Servers[i]
		s.Pool.LazyInitialization = s.Pool.LazyInitialization || *check // a check opens nothing
	}
	var key []byte
	if !*check || conf.Gateway.SessionKeyFile != "" { // a check makes no key
		if key, err = sessionKey(conf.Gateway, log); err != nil {
			return err
		}
	}
	a, err := assemble(conf.Servers, log)
	if err != nil {
		return err
	}
	g, err := gateway.New(a.fronts, &gateway.Options{
		Version: version(), AllowedHosts: *listen.allowedHosts, AllowedOrigins: *listen.allowedOrigins, Log: log,
		Key: key, Name: conf.Gateway.Name, Prefix: conf.Gateway.Prefix, MaxCallsPerPrincipal: conf.Gateway.MaxCallsPerPrincipal,
	})
	if err != nil {
		a.close(ctx)
		return err
	}
	if *check {
		fmt.Fprintf(std.out, "configuration is good: %s\n", names(conf.Servers))
		return a.close(ctx)
	}
	listener, err := listenOn(addr)
	if err != nil {
		a.close(ctx)
		return err
	}
	var draining atomic.Bool
	status := admin.New(admin.Options{
		Version: version(), Pools: a.pools, Ready: func() bool { return !draining.Load() },
	})
	mux := http.NewServeMux()
	mux.Handle("/mcp", g)
	mux.Handle("/mcp/", g)
	mux.Handle("/", gateway.Guard(status, *listen.allowedHosts, *listen.allowedOrigins))
	greet(std.out, listener.Addr(), conf.Servers)
	return serveUntil(ctx, listener, mux, listen, log, func(ctx context.Context) error {
		draining.Store(true)
		return g.Close(ctx)
	}, a.close)
}

func load(file string, settings map[string]string) (*config.Config, error) {
	if file == "" {
		return config.Default(settings)
	}
	return config.Load(file, settings)
}

// greet says what is where, and one thing to try.
func greet(w io.Writer, addr net.Addr, servers []config.Server) {
	base := "http://" + addr.String()
	tryWhat := "tools"
	if len(servers) == 1 && servers[0].Database == config.Sample {
		tryWhat = `call read_data '{"query": "select count(*) from sales"}'`
	}
	if addr.String() != defaultListen {
		tryWhat += " --url " + base
	}
	fmt.Fprintf(w, "mcpool %s\n", version())
	fmt.Fprintf(w, "  MCP      %s/mcp\n", base)
	fmt.Fprintf(w, "  status   %s/status\n", base)
	fmt.Fprintf(w, "  servers  %s\n", names(servers))
	fmt.Fprintf(w, "  try      %s %s\n", self(), tryWhat)
}

// names lists servers with how they are reached, without what may be secret.
func names(servers []config.Server) string {
	var list []string
	for _, s := range servers {
		kind := "HTTP"
		switch {
		case s.Database == config.Sample:
			kind = "the sample database, opened by the first call"
		case s.Database != "":
			kind = "database"
		case s.Command != "":
			kind = "stdio"
		}
		list = append(list, fmt.Sprintf("%s (%s)", s.Name, kind))
	}
	return strings.Join(list, ", ")
}
