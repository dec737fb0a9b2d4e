package interop

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the matrix into README.md")

// A matrix is a table in README.md, each cell of which names a test or says why
// there is none.
type matrix struct {
	mark string // which stands where it begins
	test string // the test whose subtests its cells are
	rows []row
	head []string // what its columns hold
}

// A row is what the cells of a row have in common.
type row struct {
	name    string // of the row, and of its tests
	is      []string
	missing func() string // what has to be installed before its tests run
	cells   []string      // why there is no test, or "" if there is
}

// serverMatrix is servers × columns.
func serverMatrix() matrix {
	m := matrix{mark: "matrix", test: "TestServers", head: []string{"server", "speaks"}}
	for _, c := range columns {
		m.head = append(m.head, c.name)
	}
	for i := range servers {
		s := &servers[i]
		r := row{name: s.name, is: []string{s.name, s.protocol}, missing: s.missing}
		for _, c := range columns {
			why := ""
			if !c.has(s) {
				why = "–"
			}
			r.cells = append(r.cells, why)
		}
		m.rows = append(m.rows, r)
	}
	return m
}

// clientMatrix is clients and servers × actions.
func clientMatrix() matrix {
	m := matrix{mark: "clients", test: "TestClients", head: []string{"client", "speaks", "server"}}
	for _, a := range actions {
		m.head = append(m.head, a.name)
	}
	for i := range clients {
		c := &clients[i]
		for _, era := range eras {
			r := row{name: c.name + "/" + era, is: []string{c.name, c.protocol, era}, missing: c.missing}
			for _, a := range actions {
				r.cells = append(r.cells, c.cannot[a.name])
			}
			m.rows = append(m.rows, r)
		}
	}
	return m
}

// text is the matrix in Markdown.
func (m matrix) text() string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(m.head)
	b.WriteString("|" + strings.Repeat("---|", len(m.head)) + "\n")
	for _, r := range m.rows {
		cells := slices.Clone(r.is)
		for i, why := range r.cells {
			if why == "" {
				why = "`" + r.name + "/" + m.head[len(r.is)+i] + "`"
			}
			cells = append(cells, why)
		}
		line(cells)
	}
	return b.String()
}

// TestServers has a subtest for each server, and in that one for each column
// that the server has: the cells of the first matrix in README.md.
func TestServers(t *testing.T) {
	ran := newCells(t, serverMatrix())
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

// cells are the names of tests of a matrix that ran.
type cells struct {
	of  matrix
	mu  sync.Mutex // guards did
	did map[string]bool
}

// newCells is told of each test that runs, and after the last of them compares
// them with README.md, if all were to run.
func newCells(t *testing.T, of matrix) *cells {
	c := &cells{of: of, did: map[string]bool{}}
	if flag.Lookup("test.run").Value.String() == "" {
		t.Cleanup(func() { c.match(t) })
	}
	return c
}

func (c *cells) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.did[name] = true
}

// match checks that each test that a cell of README.md names was there, and
// that each one that was there has its cell.
func (c *cells) match(t *testing.T) {
	_, kept, _ := readme(t, c.of.mark)
	named := map[string]bool{}
	for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(kept, -1) {
		named[c.of.test+"/"+name[1]] = true
	}
	for name := range named {
		if row := strings.TrimPrefix(name[:strings.LastIndexByte(name, '/')], c.of.test+"/"); !c.did[name] && c.of.installed(row) {
			t.Errorf("README.md names %s, which is no test", name)
		}
	}
	for name := range c.did {
		if !named[name] {
			t.Errorf("README.md does not name %s", name)
		}
	}
}

// installed reports whether the tests of a row can have run. Those that
// README.md alone knows of can.
func (m matrix) installed(name string) bool {
	i := slices.IndexFunc(m.rows, func(r row) bool { return r.name == name })
	return i < 0 || m.rows[i].missing() == ""
}

// TestMatrix prints the matrices, and checks that README.md has the same ones.
func TestMatrix(t *testing.T) {
	for _, m := range []matrix{serverMatrix(), clientMatrix()} {
		text := m.text()
		t.Logf("\n%s", text)
		before, kept, after := readme(t, m.mark)
		if *update {
			kept = text
			if err := os.WriteFile("README.md", []byte(before+kept+after), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if kept != text {
			t.Errorf("README.md has another matrix; write this one with go test -run TestMatrix -update:\n%s", text)
		}
	}
}

// readme is README.md: a matrix, and what comes before and after it.
func readme(t *testing.T, mark string) (before, matrix, after string) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+mark+" -->\n\n", "\n<!-- end -->"
	before, rest, begins := strings.Cut(string(text), begin)
	matrix, after, ends := strings.Cut(rest, end)
	if !begins || !ends {
		t.Fatalf("README.md has no place for the matrix %q", mark)
	}
	return before + begin, matrix, end + after
}
