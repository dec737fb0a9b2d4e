package interop

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the matrix into README.md")

// TestServers has a subtest for each server, and in that one for each column
// that the server has: the cells of the matrix in README.md.
func TestServers(t *testing.T) {
	ran := &cells{did: map[string]bool{}}
	if flag.Lookup("test.run").Value.String() == "" { // then all of them do
		t.Cleanup(func() { ran.match(t) })
	}
	for i := range servers {
		t.Run(servers[i].name, func(t *testing.T) {
			t.Parallel()
			at := settle(t, &servers[i])
			for _, c := range columns {
				if c.has(at.server) {
					t.Run(c.name, func(t *testing.T) {
						ran.add(t.Name())
						c.test(t, at)
					})
				}
			}
		})
	}
}

// cells are the names of tests that ran.
type cells struct {
	mu  sync.Mutex // guards did
	did map[string]bool
}

func (c *cells) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.did[name] = true
}

// match checks that each test that a cell of README.md names was there, and
// that each one that was there has its cell.
func (c *cells) match(t *testing.T) {
	_, kept, _ := readme(t)
	named := map[string]bool{}
	for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(kept, -1) {
		named["TestServers/"+name[1]] = true
	}
	for name := range named {
		if row := strings.TrimPrefix(name[:strings.LastIndexByte(name, '/')], "TestServers/"); !c.did[name] && installed(row) {
			t.Errorf("README.md names %s, which is no test", name)
		}
	}
	for name := range c.did {
		if !named[name] {
			t.Errorf("README.md does not name %s", name)
		}
	}
}

// installed reports whether a server can have run. One that README.md alone
// knows of can.
func installed(row string) bool {
	for i := range servers {
		if servers[i].name == row {
			return servers[i].missing() == ""
		}
	}
	return true
}

// TestMatrix prints the matrix, and checks that README.md has the same one.
func TestMatrix(t *testing.T) {
	matrix := matrix()
	t.Logf("\n%s", matrix)
	before, kept, after := readme(t)
	if *update {
		kept = matrix
		if err := os.WriteFile("README.md", []byte(before+kept+after), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if kept != matrix {
		t.Errorf("README.md has another matrix; write this one with go test -run TestMatrix -update:\n%s", kept)
	}
}

// matrix is servers × columns, in Markdown.
func matrix() string {
	var b strings.Builder
	b.WriteString("| server | speaks |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.name)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for i := range servers {
		s := &servers[i]
		fmt.Fprintf(&b, "| %s | %s |", s.name, s.protocol)
		for _, c := range columns {
			if c.has(s) {
				fmt.Fprintf(&b, " `%s/%s` |", s.name, c.name)
			} else {
				b.WriteString(" – |")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// readme is README.md: the matrix, and what comes before and after it.
func readme(t *testing.T) (before, matrix, after string) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- matrix -->\n\n", "\n<!-- end -->"
	before, rest, begins := strings.Cut(string(text), begin)
	matrix, after, ends := strings.Cut(rest, end)
	if !begins || !ends {
		t.Fatal("README.md has no place for the matrix")
	}
	return before + begin, matrix, end + after
}
