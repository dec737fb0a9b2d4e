package main

import (
	"context"
	"flag"
	"io"
	"regexp"
	"slices"
	"strings"
)

// A described is a command, as it describes itself.
type described struct {
	name  string // "db setup-sql" for one of another command
	short string // in a line; "" for one of another command
	*flags
	words []string // what its first argument may be
}

// commandLines are those of the usage that name a command.
var commandLines = regexp.MustCompile(`(?m)^  mcpool (\S+) +(.+)$`)

// describedCommands asks all commands for what they are. No command runs.
func describedCommands(ctx context.Context) []described {
	var all []described
	for _, line := range commandLines.FindAllStringSubmatch(usage, -1) {
		all = append(all, described{name: line[1], short: line[2]})
		if line[1] == "db" {
			all = append(all, described{name: "db setup-sql"}, described{name: "db verify-audit"})
		}
	}
	words := map[string][]string{
		"show": shown(), "db": {"setup-sql", "verify-audit"}, "db setup-sql": {"postgres", "mysql", "sqlserver"},
		"completion": completionShells,
	}
	for i := range all {
		d := &all[i]
		d.words = words[d.name]
		_ = command(ctx, append(strings.Fields(d.name), "--help"), stdio{strings.NewReader(""), (*described)(d), io.Discard}) // it is flag.ErrHelp
	}
	return all
}

func (d *described) describe(f *flags)           { d.flags = f }
func (d *described) Write(p []byte) (int, error) { return len(p), nil }

// A describedFlag is a flag of a command.
type describedFlag struct {
	name, usage string
	value       string // what it takes; "" for nothing
	preset      string // "" for none
}

func (d *described) all() []describedFlag {
	var list []describedFlag
	d.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		if isSwitch(f) {
			value = ""
		}
		preset := f.DefValue
		if slices.Contains([]string{"false", "0", "0s"}, preset) {
			preset = ""
		}
		list = append(list, describedFlag{f.Name, usage, value, preset})
	})
	return list
}

// takesFile reports whether its value is the name of a file, perhaps behind a
// name.
func (f describedFlag) takesFile() bool {
	return strings.HasSuffix(strings.ToLower(f.value), "file")
}
