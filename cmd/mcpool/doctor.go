package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/config"
)

// examinedAtOnce is how many servers are looked at at a time.
const examinedAtOnce = 8

// Levels of findings.
const (
	levelError   = "error"   // calls fail, or somebody may do what they must not
	levelWarning = "warning" // it will go wrong, or can
	levelAdvice  = "advice"  // it works, and could be better
)

// A finding is one thing to do something about.
type finding struct {
	Level string `json:"level"`
	What  string `json:"what"`
	Fix   string `json:"fix"`
}

// findings are what is found of one thing.
type findings struct {
	Findings []finding `json:"findings"`
}

func (f *findings) add(level, fix, format string, args ...any) {
	what := printable(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; "))
	f.Findings = append(f.Findings, finding{level, what, printable(fix)})
}

// status is the worst level that there is, or ok.
func (f *findings) status() string {
	for _, level := range []string{levelError, levelWarning, levelAdvice} {
		if slices.ContainsFunc(f.Findings, func(found finding) bool { return found.Level == level }) {
			return level
		}
	}
	return "ok"
}

// A checkup is what is found of all.
type checkup struct {
	Servers []*serverCheck `json:"servers"`
	findings
}

func runDoctor(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "doctor [SERVER...] [flags]", `Check each server of a configuration: it is opened once, its tools are listed,
and what could be better is said, with what to change. No tool is called but
database_info of databases. The gateway need not run.

The status is 1 if there is an error; warnings and advice leave it 0.`)
	file := f.String("config", "", "`file` that lists the servers, as for mcpool serve")
	asJSON := f.Bool("json", false, "print what is found as JSON")
	timeout := f.period("timeout", 20*time.Second, "how long each server may take, at most an hour")
	settings := f.settings()
	f.environment("")
	if err := f.parse(args, 1000); err != nil {
		return err
	}
	if *timeout <= 0 || *timeout > time.Hour {
		return usagef("--timeout of %v: want more than 0 and at most 1h", *timeout)
	}
	conf, _, err := configuration(*file, settings)
	if err != nil {
		return err
	}
	servers := conf.Servers
	if len(f.arguments) > 0 {
		servers = slices.DeleteFunc(slices.Clone(servers), func(s config.Server) bool { return !slices.Contains(f.arguments, s.Name) })
		for _, name := range f.arguments {
			if !slices.ContainsFunc(servers, func(s config.Server) bool { return s.Name == name }) {
				return usagef("there is no server %q in the configuration: there are %s", name, names(conf.Servers))
			}
		}
	}
	found := &checkup{}
	found.checkSettings(servers)
	_ = patiently(ctx, std, found.unfinished, func(ctx context.Context) error {
		found.examine(ctx, servers, *timeout)
		return nil // what went wrong is told of each server
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if *asJSON {
		text, err := json.Marshal(found)
		if err != nil {
			return err
		}
		fmt.Fprintln(std.out, indented(text))
	} else {
		found.print(std.out)
	}
	ill := 0
	for _, s := range found.Servers {
		if s.Status == levelError {
			ill++
		}
	}
	if ill > 0 {
		return hinted{fmt.Errorf("%d of %s: something is wrong", ill, plural(len(found.Servers), "server")), whatToDo}
	}
	if found.status() == levelError {
		return hinted{errors.New("something is wrong with the settings"), whatToDo}
	}
	return nil
}

const whatToDo = "what to change stands below each error"

// checkSettings looks at what can be seen without any server.
func (c *checkup) checkSettings(servers []config.Server) {
	c.Findings = []finding{}
	for _, s := range servers {
		c.Servers = append(c.Servers, newServerCheck(s))
	}
	if len(servers) == 0 {
		return
	}
	limits := servers[0].Pool.Limits // which all have in common
	most, processes := 0, 0
	for _, s := range servers {
		total := cmp.Or(s.Pool.MaxConnectionsTotal, max(64, s.Pool.MaxConnections))
		most += total
		if s.Command != "" {
			processes += total
		}
	}
	if limits == nil {
		return
	}
	if n := limits.MaxProcesses; n > 0 && n < processes {
		c.add(levelAdvice, "nothing, if that is meant; else raise max_processes, or lower max_connections_total of servers",
			"limits.max_processes of %d is less than the %d that the pools of commands may want: callers wait when it is reached", n, processes)
	}
	if n := limits.MaxConnections; n > 0 && n < most {
		c.add(levelAdvice, "nothing, if that is meant; else raise max_connections of limits, or lower max_connections_total of servers",
			"limits.max_connections of %d is less than the %d that all pools may want: callers wait when it is reached", n, most)
	}
}

// examine looks at all servers, some at a time, in their order. Each may take
// timeout of its own.
func (c *checkup) examine(ctx context.Context, servers []config.Server, timeout time.Duration) {
	room := make(chan struct{}, examinedAtOnce)
	var all sync.WaitGroup
	for i, s := range servers {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			within, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not within --timeout of %v", timeout))
			defer cancel()
			c.Servers[i].examine(within, s, timeout)
			c.Servers[i].Status = c.Servers[i].status()
			c.Servers[i].over.Store(true)
		})
	}
	all.Wait()
}

// unfinished names the servers that are being looked at.
func (c *checkup) unfinished() string {
	var open []string
	for _, s := range c.Servers {
		if !s.over.Load() {
			open = append(open, s.Server)
		}
	}
	return "checking " + strings.Join(open, ", ")
}

func (c *checkup) print(w io.Writer) {
	widest := 0
	for _, s := range c.Servers {
		widest = max(widest, len(s.Server))
	}
	for _, s := range c.Servers {
		fmt.Fprintf(w, "%-*s  %-7s  %s\n", widest, s.Server, s.Status, s.about())
		if line := s.Took.String(); line != "" {
			fmt.Fprintf(w, "  %s\n", line)
		}
		for _, d := range s.Databases {
			fmt.Fprintf(w, "  %s\n", d.about())
		}
		s.print(w, "  ")
	}
	if len(c.Findings) > 0 {
		fmt.Fprintln(w, "settings")
		c.findings.print(w, "  ")
	}
}

func (f *findings) print(w io.Writer, indent string) {
	for _, found := range f.Findings {
		fmt.Fprintf(w, "%s%s: %s\n", indent, found.Level, found.What)
		if found.Fix != "" {
			fmt.Fprintf(w, "%s  do: %s\n", indent, found.Fix)
		}
	}
}
