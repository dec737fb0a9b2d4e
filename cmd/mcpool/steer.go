package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// A verb is a command that steers a gateway.
type verb struct {
	about  string
	done   string // what is said of a pool when it is done
	doing  string // and meanwhile
	waits  bool   // it may have to wait for calls
	counts string // what its number of connections is; "" for none
}

var poolVerbs = map[string]verb{
	"pause": {about: `Lend no connections of a server, or of all, and wait until no call is in
flight. Callers wait, for at most connection_timeout; none is lost if resume
comes before that.`, done: "paused", doing: "pausing", waits: true},
	"resume": {about: `End a pause of a server, or of all: those who wait are served in their order.`, done: "resumed", doing: "resuming"},
	"drain": {about: `Replace all connections of a server, or of all, and wait until the old ones are
closed. Calls in flight end on them, and others get new ones: none is lost.`, done: "drained", doing: "draining", waits: true, counts: "closed"},
	"reset": {about: `Replace all connections of a server, or of all, as they come free. No call is
lost.`, done: "reset", doing: "resetting", counts: "to be replaced"},
}

// runVerb runs a command that steers the pool of a server, or all.
func runVerb(ctx context.Context, name string, args []string, std stdio) error {
	verb := poolVerbs[name]
	f := newFlags(std, name+" SERVER|--all [flags]", verb.about)
	open := f.operator()
	all := f.Bool("all", false, "of all servers")
	var timeout *time.Duration
	if verb.waits {
		timeout = f.period("timeout", verbWait, "how long to wait for calls in flight, at most an hour")
	}
	if err := f.parse(args, 1); err != nil {
		return err
	}
	server := everyServer
	switch {
	case len(f.arguments) == 1 && *all:
		return usagef("%s: want a server or --all, not both", name)
	case len(f.arguments) == 1:
		server = f.arguments[0]
		if err := checkName("server", server); err != nil {
			return err
		}
	case !*all:
		return usagef("%s what? Want the name of a server, or --all", name)
	}
	path := []string{"pools", server, name}
	if verb.waits {
		if *timeout <= 0 || *timeout > time.Hour {
			return usagef("--timeout of %v: want more than 0 and at most 1h", *timeout)
		}
		path = append(path, fmt.Sprintf("?timeout_seconds=%g", timeout.Seconds()))
	}
	gateway, err := open()
	if err != nil {
		return err
	}
	if verb.waits {
		gateway.wait = *timeout
	}
	var said *answer
	err = patiently(ctx, std, func() string { return verb.doing + gateway.inFlight(ctx, server) }, func(ctx context.Context) (err error) {
		said, err = gateway.ask(ctx, "POST", path...)
		return err
	})
	if err != nil && ctx.Err() != nil && name == "pause" {
		which := server
		if *all {
			which = "--all"
		}
		return hinted{err, "what is paused stays so: " + self() + " resume " + which + " ends that"}
	}
	if err != nil {
		return err
	}
	var done struct {
		Pools []struct {
			Server      string
			Connections int
		}
	}
	if err := json.Unmarshal(said.body, &done); err != nil {
		return fmt.Errorf("the gateway's answer: %w", err)
	}
	for _, p := range done.Pools {
		fmt.Fprintf(std.out, "%s: %s", printable(p.Server), verb.done)
		if verb.counts != "" {
			fmt.Fprintf(std.out, " (%s %s)", plural(p.Connections, "connection"), verb.counts)
		}
		fmt.Fprintln(std.out)
	}
	return nil
}

// everyServer is the name that the API has for all.
const everyServer = "*"

// inFlight says how many calls are in flight at a server, or all.
func (o *operator) inFlight(ctx context.Context, server string) string {
	said, err := o.ask(ctx, "GET", "pools")
	var stand struct {
		Pools []struct {
			Server        string
			CallsInFlight int `json:"calls_in_flight"`
		}
	}
	if err != nil || json.Unmarshal(said.body, &stand) != nil {
		return ""
	}
	calls := 0
	for _, p := range stand.Pools {
		if server == everyServer || server == p.Server {
			calls += p.CallsInFlight
		}
	}
	return ": " + plural(calls, "call") + " in flight"
}

func runKill(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "kill CONNECTION [flags]", `Close a connection at once: the calls in flight on it fail, and no others.
mcpool show connections lists the connections.`)
	open := f.operator()
	if err := f.parse(args, 1); err != nil {
		return err
	}
	if len(f.arguments) == 0 {
		return usagef("kill what? mcpool show connections lists the connections")
	}
	if err := checkName("connection", f.arguments[0]); err != nil {
		return err
	}
	gateway, err := open()
	if err != nil {
		return err
	}
	var said *answer
	err = patiently(ctx, std, func() string { return "killing " + f.arguments[0] }, func(ctx context.Context) (err error) {
		said, err = gateway.ask(ctx, "POST", "connections", f.arguments[0], "kill")
		return err
	})
	if err != nil {
		return err
	}
	var done struct {
		Connection string
		Calls      int
	}
	if err := json.Unmarshal(said.body, &done); err != nil {
		return fmt.Errorf("the gateway's answer: %w", err)
	}
	fmt.Fprintf(std.out, "%s: killed (%s in flight)\n", printable(done.Connection), plural(done.Calls, "call"))
	return nil
}

func runReload(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "reload [flags]", `Have a running gateway read its configuration again. A configuration that makes
no sense changes nothing.`)
	open := f.operator()
	if err := f.parse(args, 0); err != nil {
		return err
	}
	gateway, err := open()
	if err != nil {
		return err
	}
	err = patiently(ctx, std, func() string { return "reloading" }, func(ctx context.Context) error {
		_, err := gateway.ask(ctx, "POST", "reload")
		return err
	})
	if err == nil {
		fmt.Fprintln(std.out, "reloaded")
	}
	return err
}

// patiently does something, and says on standard error how it stands once it
// takes longer than a second.
func patiently(ctx context.Context, std stdio, stands func() string, do func(context.Context) error) error {
	over := make(chan struct{})
	var saying sync.WaitGroup
	saying.Go(func() {
		bar := newProgress(std.err, false)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		before := ""
		for {
			select {
			case <-tick.C:
				if now := stands(); now != before || bar.terminal {
					bar.say("mcpool: " + now)
					before = now
				}
			case <-over:
				if before != "" {
					bar.end()
				}
				return
			}
		}
	})
	err := do(ctx)
	close(over)
	saying.Wait()
	return err
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
