package dbserver

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// TestFeaturesHaveTests holds the table of features in docs/database.md to the
// tests: each row that says that we have something names tests, and each test
// that is named is there.
func TestFeaturesHaveTests(t *testing.T) {
	page, err := os.ReadFile("../docs/database.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n## Features\n")
	if !ok {
		t.Fatal("docs/database.md has no section Features")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	tests := mcptest.Tests(t, "..")
	name := regexp.MustCompile(`\b(?:Test|Fuzz|Example)[A-Za-z0-9_]+`)
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		if len(cells) != 3 || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| feature") {
			continue
		}
		rows++
		named := name.FindAllString(cells[2], -1)
		if len(named) == 0 && !strings.HasPrefix(strings.TrimSpace(cells[1]), "no") {
			t.Errorf("no test is named for %s", cells[0])
		}
		for _, n := range named {
			if tests[n] == "" {
				t.Errorf("%s: there is no %s", cells[0], n)
			}
		}
	}
	if rows < 30 {
		t.Errorf("the table has %d rows", rows)
	}
}

// TestCodesAreDocumented holds the list of codes in the package comment to what
// package engine has.
func TestCodesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("internal/engine/errors.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`= "([A-Z_]{5,})"`).FindAllSubmatch(source, -1)
	for _, m := range codes {
		if !strings.Contains(string(doc), "//\t"+string(m[1])+" ") {
			t.Errorf("the package comment lacks %s", m[1])
		}
	}
	if len(codes) < 20 || !strings.Contains(string(source), engine.ReadOnly) {
		t.Errorf("%d codes were found", len(codes))
	}
}
