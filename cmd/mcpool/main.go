// Command mcpool serves pooled MCP servers to any MCP client. See mcpool help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/mcpool-dev/mcpool"
)

const usage = `mcpool keeps connections to MCP servers open and shares them.

  mcpool serve      serve pooled servers to any MCP client (no configuration needed)
  mcpool tools      list the tools of a running gateway
  mcpool call       call a tool of a running gateway: mcpool call TOOL [ARGUMENTS]
  mcpool top        watch it on a live screen, and steer it
  mcpool show       show its pools, connections, clients, servers, stats, config or waits
  mcpool pause      lend no connections of a server, until mcpool resume
  mcpool resume     lend them again
  mcpool drain      replace the connections of a server, and wait for that
  mcpool reset      replace the connections of a server as they come free
  mcpool kill       close one connection under its calls
  mcpool reload     have the gateway read its configuration again
  mcpool health     ask whether it is there: status 0 if it answers, else 1
  mcpool doctor     check the servers of a configuration, and say what to change
  mcpool import     take over the servers of the MCP clients of this machine
  mcpool db         the database server alone, over stdio or HTTP
  mcpool key        make a key for somebody who may call: mcpool key new NAME
  mcpool bench      measure what a pool saves, side by side
  mcpool completion print what completes command lines: bash, zsh or fish
  mcpool man        print the manual page
  mcpool version    print the version

mcpool COMMAND --help tells more.
`

// stdio is what a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

func main() {
	mcpool.Supervise()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal is the command's, or ends the process
	os.Exit(run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// run runs a command and returns the status to exit with: 0 for success, 2
// for a mistake on the command line, 1 for any other failure.
func run(ctx context.Context, args []string, std stdio) int {
	err := command(ctx, args, std)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	general := "" // an end that was asked for needs no advice
	if ctx.Err() == nil {
		general = generalHint(args)
	}
	report(std.err, err, general)
	if mistake := (usageError{}); errors.As(err, &mistake) {
		return 2
	}
	return 1
}

func command(ctx context.Context, args []string, std stdio) error {
	if len(args) == 0 {
		fmt.Fprint(std.err, usage)
		return usagef("no command given")
	}
	name, args := args[0], args[1:]
	switch name {
	case "serve":
		return runServe(ctx, args, std)
	case "tools":
		return runTools(ctx, args, std)
	case "call":
		return runCall(ctx, args, std)
	case "top":
		return runTop(ctx, args, std)
	case "show":
		return runShow(ctx, args, std)
	case "pause", "resume", "drain", "reset":
		return runVerb(ctx, name, args, std)
	case "kill":
		return runKill(ctx, args, std)
	case "reload":
		return runReload(ctx, args, std)
	case "health":
		return runHealth(ctx, args, std)
	case "doctor":
		return runDoctor(ctx, args, std)
	case "import":
		return runImport(ctx, args, std)
	case "db":
		return runDB(ctx, args, std)
	case "key":
		return runKey(args, std)
	case "bench":
		return runBench(ctx, args, std.out, std.err)
	case "completion":
		return runCompletion(ctx, args, std)
	case "man":
		return runMan(ctx, args, std)
	case "version":
		if err := newFlags(std, "version", "Print the version.").parse(args, 0); err != nil {
			return err
		}
		fmt.Fprintln(std.out, "mcpool", version())
		return nil
	case "help", "-h", "-help", "--help":
		fmt.Fprint(std.out, usage)
		return nil
	}
	return hinted{usagef("unknown command %q", name), helpListsCommands}
}

const helpListsCommands = "mcpool help lists the commands"

// generalHint is what to do about an error of a command that has no hint of its
// own.
func generalHint(args []string) string {
	if len(args) == 0 {
		return helpListsCommands
	}
	name := args[0]
	if len(args) > 1 && (name == "db" && !strings.HasPrefix(args[1], "-") || name == "key" && args[1] == "new") {
		name += " " + args[1]
	}
	return "mcpool " + name + " --help tells more"
}

// report prints an error, one line for each mistake it holds, and what to do
// about it: general, if the error has nothing better. "" is none.
func report(w io.Writer, err error, general string) {
	var text strings.Builder
	for line := range strings.Lines(strings.TrimSpace(err.Error())) {
		fmt.Fprintf(&text, "mcpool: error: %s\n", printable(strings.TrimRight(line, "\n")))
	}
	if advised := (hinted{}); errors.As(err, &advised) && advised.hint != "" {
		general = advised.hint
	}
	if general != "" {
		fmt.Fprintf(&text, "hint: %s\n", general)
	}
	_, _ = io.WriteString(w, text.String()) // there is nobody else to tell
}

// version is that of the module this program was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

// self is how this program can be called again, for what we tell people to
// type.
func self() string {
	if path, err := os.Executable(); err == nil && strings.Contains(path, "go-build") {
		return "go run ./cmd/mcpool"
	}
	return "mcpool"
}
