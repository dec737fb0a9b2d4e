package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script, in which mcpool is this command, and $URL a
// gateway whose API answers with the files of the script: GET admin/v1/pools
// with GET/pools, and with the status that GET/pools.status has. So does healthz.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireUniqueNames:  true,
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
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"mcpool": inScript},
	})
}

// inScript runs the command. What it writes has the addresses of the script's
// gateways as $URL and $GONE.
func inScript(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, errors.New("it does not end"))
	defer cancel()
	var out, err output
	for i, arg := range args {
		if file, is := strings.CutPrefix(arg, "@"); is { // a file of the script
			args[i] = ts.MkAbs(file)
		}
	}
	status := run(ctx, args, stdio{strings.NewReader(""), &out, &err})
	names := strings.NewReplacer(
		ts.Getenv("URL"), "$URL", ts.Getenv("GONE"), "$GONE", strings.TrimPrefix(ts.Getenv("GONE"), "http://"), "$GONE",
		ts.Getenv("WORK"), "$WORK", self()+" serve", "mcpool serve",
	)
	io.WriteString(ts.Stdout(), names.Replace(out.String()))
	io.WriteString(ts.Stderr(), names.Replace(err.String()))
	if ctx.Err() != nil {
		ts.Fatalf("%v: %v", args, context.Cause(ctx))
	}
	if neg != (status != 0) {
		ts.Fatalf("%v: status %d: %s", args, status, err.String())
	}
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
