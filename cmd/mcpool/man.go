package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/mcpool-dev/mcpool"
)

func runMan(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "man", `Print the manual page: mcpool man | man -l -`)
	if err := f.parse(args, 0); err != nil {
		return err
	}
	writeMan(std.out, describedCommands(ctx))
	return nil
}

// roff is text without what the formatter of manual pages takes for its own.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

// writeMan writes a page in the macros of man(7).
func writeMan(w io.Writer, commands []described) {
	about, _, _ := strings.Cut(usage, "\n")
	fmt.Fprintf(w, ".TH MCPOOL 1 \"\" \"mcpool %s\"\n.SH NAME\nmcpool \\- %s\n", roff(version()), roff(strings.TrimSuffix(strings.TrimPrefix(about, "mcpool "), ".")))
	fmt.Fprint(w, ".SH SYNOPSIS\n.B mcpool\n.I command\n[\\fIarguments\\fR] [\\fIflags\\fR]\n.SH COMMANDS\n")
	for _, c := range commands {
		if c.short != "" {
			fmt.Fprintf(w, ".TP\n.B %s\n%s\n", roff(c.name), roff(c.short))
		}
	}
	for _, c := range commands {
		fmt.Fprintf(w, ".SH \"%s\"\n.B mcpool %s\n.PP\n", roff(strings.ToUpper("mcpool "+c.name)), roff(c.usage))
		table := false // lines that stand below each other
		for line := range strings.SplitSeq(c.about, "\n") {
			if set := strings.HasPrefix(line, "  "); set != table {
				table = set
				fmt.Fprintln(w, map[bool]string{true: ".PP\n.nf", false: ".fi\n.PP"}[set])
			}
			if line == "" {
				line = ".PP"
			} else {
				line = roff(line)
			}
			fmt.Fprintln(w, line)
		}
		if table {
			fmt.Fprintln(w, ".fi")
		}
		for _, f := range c.all() {
			fmt.Fprintf(w, ".TP\n\\fB\\-\\-%s\\fR", roff(f.name))
			if f.value != "" {
				fmt.Fprintf(w, " \\fI%s\\fR", roff(f.value))
			}
			fmt.Fprintf(w, "\n%s", roff(f.usage))
			if f.preset != "" {
				fmt.Fprintf(w, " (default %s)", roff(f.preset))
			}
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintf(w, `.SH ENVIRONMENT
.TP
.B %s*
The settings, each named by its flag of
.BR "mcpool serve" :
\-\-gateway\-name is MCP_POOL_GATEWAY_NAME. Those of
.B mcpool db
are MCP_POOL_DB_*. A flag beats the environment, which beats the configuration.
.TP
.B NO_COLOR
Has
.B mcpool top
do without colour.
.SH EXIT STATUS
0 for success, 2 for a mistake on the command line, 1 for any other failure.
`, roff(mcpool.EnvPrefix))
}
