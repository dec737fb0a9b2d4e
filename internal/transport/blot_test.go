package transport

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestBlotter(t *testing.T) {
	b := newBlotter(
		[]string{"KEY=of-the-env-1", "SHORT=abc", "LONGER=of-the-env-1-and-more", "PEM=-- BEGIN --\nline-one-of-it\r\n\nline-two-of-it\n",
			"SPACED=two  words\there", "EMPTY=", "DSN=postgres://me:in-a-url@db/x"},
		[]string{"--port=8080", "--api-key=of-an-argument", "-e", "TOKEN=of-docker-run", "--header", "Authorization: Bearer of-a-header",
			"--Client-Secret", "after-a-flag", "--directory", "/not/secret", "postgres://me:p%40ss-word-1@db/y", "plain-argument"},
	)
	for said, want := range map[string]string{
		"key of-the-env-1.":            "key ***.",
		"of-the-env-1-and-more of-the": "*** of-the",
		"abc 8080 /not/secret":         "abc 8080 /not/secret",
		"line-one-of-it":               "***",
		"x line-two-of-it":             "x ***",
		"two words here":               "***",
		"a=of-an-argument":             "a=***",
		"a=of-docker-run":              "a=***",
		"Bearer of-a-header":           "Bearer ***",
		"after-a-flag":                 "***",
		"p%40ss-word-1 p@ss-word-1":    "*** ***",
		"in-a-url":                     "***",
		"plain-argument":               "plain-argument",
		// What was cut.
		"key of-the-e…":             "key ***…",
		"of-the-env-1 of-the-en…":   "*** ***…",
		"key of-…, and of-the-env…": "key of-…, and ***…",
		"of-the-env":                "of-the-env", // nothing was cut here
	} {
		if got := b.text(said); got != want {
			t.Errorf("%q became %q, want %q", said, got, want)
		}
	}
	cause := errors.New("of-the-env-1 is wrong")
	if err := b.error(cause); err.Error() != "*** is wrong" || !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if harmless := errors.New("harmless"); b.error(harmless) != harmless || b.error(nil) != nil {
		t.Error("what has no secrets is another error")
	}
}

func TestBlottedLog(t *testing.T) {
	var log logbook
	l := newBlotter([]string{"KEY=of-the-env-1"}, nil).logger(log.logger()).With("server", "one")
	l.Warn("said", "line", "it is of-the-env-1", "error", fmt.Errorf("bad: %w", errors.New("of-the-env-1")), "n", 7)
	if !log.has(`msg=said server=one line="it is ***" error="bad: ***" n=7`) || log.has("of-the-env") {
		t.Errorf("the log is %s", log.buf.String())
	}
}

// Wherever a child may repeat its secret, cut anywhere, it is not seen.
func TestSecretsOfChildrenStayOut(t *testing.T) {
	const secret = "hunter2-0f3c-hunter2"
	for name, script := range map[string]string{
		"stderr, and exit":        `echo "bad key $KEY" >&2; exit 1`,
		"a long line on stderr":   `printf '%02040d%s\n' 0 $KEY >&2; exit 1`,
		"a line that is cut":      `printf '%0200d%s\n' 0 $KEY >&2; printf '%0480d%s\n' 0 $KEY >&2; exit 1`,
		"a line on stdout":        `echo "{\"key\":\"$KEY\"}"; printf '%0190d%s\n' 0 $KEY; exit 1`,
		"initialize is refused":   `read line; echo '{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"bad key '$KEY'"}}'`,
		"no answer to initialize": `read line; echo '{"jsonrpc":"2.0","id":1,"result":{"key":"'$KEY'"}}'`,
		"half an answer":          `read line; echo '{"jsonrpc":"2.0","id":1,"result":{"key":"'$KEY'"},"error":{}}'`,
		"an answer that is no JSON": `read line; echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25"}}'; read line
			read line; echo '{"jsonrpc":"2.0","id":2,"result":{},"error":{"message":"bad key '$KEY'"}}'; read line`,
	} {
		t.Run(name, func(t *testing.T) {
			var log logbook
			endpoint := stdioWith(t, func(c *Command) {
				c.Path, c.Args = "/bin/sh", []string{"-c", script}
				c.Env = []string{"KEY=" + secret}
				c.Log = log.logger()
			}, mcptest.Normal)
			conn, err := endpoint.Open(t.Context(), knownAs(Legacy), rpc.Capabilities{}, nil)
			if err == nil {
				_, err = call(t.Context(), conn, "echo", args{})
				conn.Close(t.Context())
			}
			if err == nil {
				t.Fatal("it has answered")
			}
			endpoint.Close()
			if seen := err.Error() + log.buf.String(); strings.Contains(seen, secret[:4]) {
				t.Errorf("it is seen in %s", seen)
			}
		})
	}
}
