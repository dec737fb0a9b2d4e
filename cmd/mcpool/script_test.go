package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script, in which mcpool is this command, and $URL a
// gateway whose API answers with the files of the script: GET admin/v1/pools
// with GET/pools, and with the status that GET/pools.status has. So does healthz.
//
//	mcpool ARGUMENTS     runs the command; @FILE is a file of the script, and $STDIN the one that it reads
//	gateway ARGUMENTS    starts mcpool serve, prints what it prints, and has $GATEWAY be its URL, $ADDRESS its address
//	like OUTPUT FILE     holds stdout or stderr to a file, in which … is any text, alone on a line any lines
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			server := httptest.NewServer(canned(env.WorkDir))
			env.Defer(server.Close)
			nobody := httptest.NewServer(http.NotFoundHandler())
			env.Setenv("GONE", nobody.URL)
			nobody.Close() // so that nobody listens there
			env.Setenv("URL", server.URL)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"mcpool": inScript, "gateway": gatewayOfScript, "like": likeInScript},
	})
}

// inScript runs the command.
func inScript(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, errors.New("it does not end"))
	defer cancel()
	var out, err output
	in := ""
	if file := ts.Getenv("STDIN"); file != "" {
		in = ts.ReadFile(file)
	}
	status := run(ctx, filesOfScript(ts, args), stdio{strings.NewReader(in), &out, &err})
	io.WriteString(ts.Stdout(), outOfScript(ts, &out))
	io.WriteString(ts.Stderr(), outOfScript(ts, &err))
	if ctx.Err() != nil {
		ts.Fatalf("%v: %v", args, context.Cause(ctx))
	}
	if neg != (status != 0) {
		ts.Fatalf("%v: status %d: %s", args, status, err.String())
	}
}

// filesOfScript are arguments with the paths of the files that they name.
func filesOfScript(ts *testscript.TestScript, args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		if before, file, is := strings.Cut(arg, "@"); is && (before == "" || strings.HasSuffix(before, "=")) {
			args[i] = before + ts.MkAbs(file)
		}
	}
	return args
}

// outOfScript is what the command has written, with the addresses of the script's
// gateways as $URL, $GONE and $GATEWAY.
func outOfScript(ts *testscript.TestScript, o *output) string {
	names := []string{self() + " serve", "mcpool serve", self() + " tools", "mcpool tools", ts.Getenv("WORK"), "$WORK"}
	for _, name := range []string{"URL", "GONE", "GATEWAY"} {
		if url := ts.Getenv(name); url != "" {
			names = append(names, url, "$"+name, strings.TrimPrefix(url, "http://"), "$"+name)
		}
	}
	return strings.NewReplacer(names...).Replace(o.String())
}

// gatewayOfScript starts a gateway that ends with the script.
func gatewayOfScript(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithCancel(context.Background())
	var out, err output
	ended := make(chan int, 1)
	args = append([]string{"serve", "--listen", somewhere}, filesOfScript(ts, args)...)
	go func() { ended <- run(ctx, args, stdio{strings.NewReader(""), &out, &err}) }()
	ts.Defer(func() {
		cancel()
		if status := <-ended; status != 0 {
			ts.Logf("%q ended with status %d: %s", args, status, &err)
		}
	})
	deadline := time.After(patience)
	for {
		text, more := out.read()
		if match := regexp.MustCompile(`(?s)MCP +(http://\S+)/mcp\n.*  try .*\n`).FindStringSubmatch(text); match != nil {
			ts.Setenv("GATEWAY", match[1])
			ts.Setenv("ADDRESS", strings.TrimPrefix(match[1], "http://"))
			io.WriteString(ts.Stdout(), outOfScript(ts, &out))
			return
		}
		select {
		case <-more:
		case status := <-ended:
			ended <- status
			ts.Fatalf("%q: status %d: %s", args, status, &err)
		case <-deadline:
			ts.Fatalf("%q does not serve: %s%s", args, &out, &err)
		}
	}
}

// likeInScript compares what a command has written with a file.
func likeInScript(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: like OUTPUT FILE")
	}
	if got, want := ts.ReadFile(args[0]), ts.ReadFile(args[1]); !shows(want, got) {
		ts.Fatalf("%s is\n%s\nand not\n%s", args[0], got, want)
	}
}

// shows reports whether a text is what a page or a file has of it, in which … is
// any text, alone on a line any lines, and any space any other.
func shows(want, got string) bool {
	pattern := ""
	for line := range strings.Lines(strings.TrimSpace(want) + "\n") {
		if strings.TrimSpace(line) == "…" {
			pattern += `(?s:.*)`
			continue
		}
		line = regexp.QuoteMeta(strings.TrimRight(line, "\n"))
		line = regexp.MustCompile(`[ \t]+`).ReplaceAllString(line, `[ \t]+`)
		pattern += strings.ReplaceAll(line, "…", ".*") + `\s*`
	}
	return regexp.MustCompile(`^\s*` + pattern + `$`).MatchString(got)
}

// canned answers with the files of a folder, and writes what it is asked into
// its file requests.
func canned(folder string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log, err := os.OpenFile(filepath.Join(folder, "requests"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		defer log.Close()
		asked := r.Method + " " + r.URL.RequestURI()
		for _, name := range []string{"X-Mcpool-Admin", "Authorization"} {
			if value := r.Header.Get(name); value != "" {
				asked += " " + name + ": " + value
			}
		}
		io.WriteString(log, asked+"\n")
		w.Header().Set("Date", time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC).Format(http.TimeFormat))
		path, is := strings.CutPrefix(r.URL.Path, "/admin/v1/")
		if r.URL.Path == "/healthz" {
			path, is = "healthz", true
		}
		file := filepath.Join(folder, r.Method, filepath.FromSlash(strings.ReplaceAll(path, "*", "all")))
		body, err := os.ReadFile(file)
		if !is || err != nil {
			http.NotFound(w, r)
			return
		}
		if status, err := os.ReadFile(file + ".status"); err == nil {
			n, _ := strconv.Atoi(strings.TrimSpace(string(status)))
			w.WriteHeader(n)
		}
		w.Write(body)
	})
}
