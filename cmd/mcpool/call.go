package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// gatewayTimeout is for how long a gateway that cannot be connected to is
	// tried: it may be just beginning.
	gatewayTimeout = 3 * time.Second
	// beginTimeout is how long one may take to begin with a client. It waits for
	// servers that say nothing, for up to 5 s.
	beginTimeout = 15 * time.Second
)

// A remoteFunc opens a gateway. giveUp is called with the reason when it cannot
// be connected to.
type remoteFunc func(giveUp func(error)) (*mcpool.Pool, error)

// remote adds the flags that say which gateway to call, and returns what opens it.
func (f *flags) remote() remoteFunc {
	at := f.gateway()
	server := f.String("server", "", "`name` of one server; all if not given")
	key := f.callerKey("")
	return func(giveUp func(error)) (*mcpool.Pool, error) {
		base, err := at()
		if err != nil {
			return nil, err
		}
		if base.Path == "" || base.Path == "/" {
			base.Path = "/mcp"
		}
		if *server != "" {
			if strings.ContainsFunc(*server, notInName) {
				return nil, usagef("--server %q: want the name of a server, of letters, digits, '-' and '_'", *server)
			}
			base.URL = base.JoinPath(*server) // #nosec G125 -- it was checked to have neither slashes nor dots
		}
		terms := mcpool.DefaultConfig()
		terms.ConnectionTimeout = beginTimeout
		began := time.Now()
		terms.Hooks.OpenEnd = func(_ context.Context, e mcpool.OpenEnd) {
			if e.Err != nil && time.Since(began) > gatewayTimeout {
				giveUp(e.Err)
			}
		}
		pool, err := mcpool.New(mcpool.Server{Name: "gateway", URL: base.whole(), Auth: key.auth()}, &terms)
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
		return hinted{usagef("which tool?"), "mcpool tools lists them"}
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
	return remotely(ctx, std, "calling "+printable(f.arguments[0]), open, func(ctx context.Context, pool *mcpool.Pool) error {
		result, err := pool.CallTool(ctx, f.arguments[0], arguments)
		if err != nil {
			return err
		}
		if result.IsError {
			return hinted{fmt.Errorf("%s: %s", f.arguments[0], cmp.Or(result.Text(), string(result.Raw))), "the tool says so itself: see what it was given"}
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
	return remotely(ctx, std, "listing tools", open, func(ctx context.Context, pool *mcpool.Pool) error {
		tools, err := pool.ListTools(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
		for _, t := range tools {
			about, _, _ := strings.Cut(t.Description, "\n")
			fmt.Fprintf(w, "%s\t%s\n", printable(t.Name), printable(about))
		}
		return w.Flush()
	})
}

// remotely does something with a gateway and lets go of it again. doing is what
// is said if it takes long.
func remotely(ctx context.Context, std stdio, doing string, open remoteFunc, do func(context.Context, *mcpool.Pool) error) error {
	within, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	pool, err := open(giveUp)
	if err != nil {
		return err
	}
	err = patiently(within, std, func() string { return doing }, func(ctx context.Context) error { return do(ctx, pool) })
	if err != nil && ctx.Err() == nil {
		if within.Err() != nil { // how the pool stands is nobody's affair
			err = fmt.Errorf("gateway: %w", context.Cause(within))
		}
		err = advised(err)
	}
	return errors.Join(err, pool.Close(context.WithoutCancel(ctx)))
}

// advised is an error of a call with what to do about it.
func advised(err error) error {
	var has hinted
	var answered *rpc.Error
	var status interface{ Refused() bool }
	switch {
	case errors.As(err, &has):
		return err
	case errors.Is(err, syscall.ECONNREFUSED):
		return hinted{err, notRunning()}
	case errors.Is(err, mcpool.ErrCredentials), errors.As(err, &status) && status.Refused():
		return hinted{err, "--key-file or " + keyVariable + " has the key to call with, and auth of the gateway says what it may do"}
	case errors.As(err, &answered):
		return hinted{err, "mcpool tools lists the tools, and mcpool show servers how their servers are"}
	}
	return hinted{err, "mcpool show servers tells how the servers are, and the log of the gateway more"}
}
