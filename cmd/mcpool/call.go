package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/config"
)

// beginTimeout is how long a gateway may take to begin with a client. It waits
// for servers that say nothing, for up to 5 s.
const beginTimeout = 15 * time.Second

// remote adds the flags that say which gateway to call, and returns a func
// that opens it.
func (f *flags) remote() func() (*mcpool.Pool, error) {
	base := f.String("url", gatewayURL(), "`URL` of the gateway, where "+config.Variable("listen")+" has it listen if not given")
	server := f.String("server", "", "`name` of one server; all if not given")
	key := f.callerKey("")
	return func() (*mcpool.Pool, error) {
		u, err := url.Parse(*base)
		if err != nil || u.Host == "" {
			return nil, usagef("--url %q: want a URL such as http://%s", *base, defaultListen)
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/mcp"
		}
		if *server != "" {
			if strings.ContainsFunc(*server, notInName) {
				return nil, usagef("--server %q: want the name of a server, of letters, digits, '-' and '_'", *server)
			}
			u = u.JoinPath(*server) // #nosec G125 -- it was checked to have neither slashes nor dots
		}
		terms := mcpool.DefaultConfig()
		terms.ConnectionTimeout = beginTimeout
		pool, err := mcpool.New(mcpool.Server{Name: "gateway", URL: u.String(), Auth: key.auth()}, &terms)
		if err != nil {
			return nil, usagef("--url: %w", err)
		}
		return pool, nil
	}
}

// notInName reports whether a character cannot be in the name of a server, and
// could make another path of it.
func notInName(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_')
}

func runCall(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "call TOOL [ARGUMENTS] [flags]", `Call a tool of a running gateway. ARGUMENTS is a JSON object.`)
	open := f.remote()
	if err := f.parse(args, 2); err != nil {
		return err
	}
	if len(f.arguments) == 0 {
		return usagef("which tool? mcpool tools lists them")
	}
	arguments := json.RawMessage("{}")
	if len(f.arguments) == 2 {
		arguments = json.RawMessage(f.arguments[1])
		var object map[string]json.RawMessage
		if err := json.Unmarshal(arguments, &object); err != nil || object == nil {
			return usagef("arguments %q: want a JSON object such as '{\"query\": \"select 1\"}': %w",
				f.arguments[1], cmp.Or(err, errors.New("it is null")))
		}
	}
	return remotely(ctx, open, func(pool *mcpool.Pool) error {
		result, err := pool.CallTool(ctx, f.arguments[0], arguments)
		if err != nil {
			return err
		}
		if result.IsError {
			return fmt.Errorf("%s: %s", f.arguments[0], cmp.Or(result.Text(), string(result.Raw)))
		}
		fmt.Fprintln(std.out, strings.TrimRight(cmp.Or(result.Text(), string(result.Raw)), "\n"))
		return nil
	})
}

func runTools(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "tools [flags]", `List the tools of a running gateway.`)
	open := f.remote()
	if err := f.parse(args, 0); err != nil {
		return err
	}
	return remotely(ctx, open, func(pool *mcpool.Pool) error {
		tools, err := pool.ListTools(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
		for _, t := range tools {
			about, _, _ := strings.Cut(t.Description, "\n")
			fmt.Fprintf(w, "%s\t%s\n", t.Name, about)
		}
		return w.Flush()
	})
}

// remotely does something with a gateway and lets go of it again.
func remotely(ctx context.Context, open func() (*mcpool.Pool, error), do func(*mcpool.Pool) error) error {
	pool, err := open()
	if err != nil {
		return err
	}
	err = do(pool)
	if errors.Is(err, syscall.ECONNREFUSED) {
		err = fmt.Errorf("%w; is the gateway running? %s serve starts it", err, self())
	}
	return errors.Join(err, pool.Close(context.WithoutCancel(ctx)))
}
