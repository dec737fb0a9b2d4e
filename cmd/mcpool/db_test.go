package main

import (
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestDBOverStdioEndsWithItsInputAndOnSignals(t *testing.T) {
	for name, end := range map[string]func(*program) error{
		"the end of its input": func(p *program) error { return p.in.Close() },
		"SIGTERM":              func(p *program) error { return p.process.Signal(syscall.SIGTERM) },
		"SIGINT":               func(p *program) error { return p.process.Signal(syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			p := startChild(t, "db", "--dsn", "sample")
			if _, err := io.WriteString(p.in, initializeBody+"\n"); err != nil {
				t.Fatal(err)
			}
			p.await(t, &p.out, "\n") // it runs
			if err := end(p); err != nil {
				t.Fatal(err)
			}
			p.end(t)
			if p.err.String() != "" || !strings.HasPrefix(p.out.String(), `{"jsonrpc":"2.0","id":1,"result":`) || strings.Count(p.out.String(), "\n") != 1 {
				t.Errorf("it wrote %q and %q", &p.out, &p.err)
			}
		})
	}
}

func TestDBOverHTTPStopsOnSignals(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := startChild(t, "db", "--dsn", "sample", "--listen", somewhere)
		p.await(t, &p.err, `mcp=http`)
		if err := p.process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		p.end(t)
	}
}

func TestDBSaysThatItsFileIsNotThereWhenItIsAsked(t *testing.T) {
	p := serveDB(t, "--dsn", filepath.Join(t.TempDir(), "no-such-file.db"))
	status, out, stderr := finish(t, "call", "list_tables", "--url", p.url)
	if status != 1 || out != "" || !strings.HasPrefix(stderr, "mcpool: error: list_tables: ") || !strings.Contains(stderr, "no-such-file.db") {
		t.Errorf("status %d, %q, %q", status, out, stderr)
	}
}
