package mcpool_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// TestGuaranteesNameTests holds that ARCHITECTURE.md promises nothing that no
// test shows.
func TestGuaranteesNameTests(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := mcptest.Tests(t, ".")
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(text, -1)
	if len(named) < 15 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, name := range named {
		if exists[string(name[1])] == "" {
			t.Errorf("ARCHITECTURE.md names %s, which does not exist", name[1])
		}
	}
}

// TestThreatsNameTests holds that each threat of SECURITY.md has a test, and that
// there is each that is named.
func TestThreatsNameTests(t *testing.T) {
	text, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Threats\n")
	if !ok {
		t.Fatal("SECURITY.md has no section Threats")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	exists, name, rows := mcptest.Tests(t, "."), regexp.MustCompile("`((?:Test|Fuzz)\\w+)`"), 0
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		if len(cells) != 3 || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| threat") {
			continue
		}
		rows++
		named := name.FindAllStringSubmatch(cells[2], -1)
		if len(named) == 0 {
			t.Errorf("no test is named for %s", cells[0])
		}
		for _, n := range named {
			if exists[n[1]] == "" {
				t.Errorf("SECURITY.md names %s, which does not exist", n[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("the table has %d rows", rows)
	}
}
