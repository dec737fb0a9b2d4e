package dbserver

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// features are what database servers of this kind are compared by: each has a
// row in the table of docs/database.md, also where we have it not.
var features = []string{
	"engines", "many databases in one server", "an argument in place of tools for each database", "at most 2,500 tokens of definitions",
	"progressive search of the schema", "keys both ways, comments, indexes", "sample values", "bound parameters",
	"read-only by default", "read-only by the engine or a grammar", "read-only by the engine's session or transaction", "the role is looked at",
	"one statement a call", "row cap", "byte cap", "truncation is told, with what to do", "pages of a result",
	"statement timeout in the database", "a cancelled call ends its statement", "size, age and idleness of connections",
	"opened when needed; a database that is down hurts no other", "heals by itself", "plan", "health and locks", "index advice",
	"write safety", "hidden columns", "data fenced as untrusted", "audit", "callers over HTTP", "who calls is known to the database",
	"right annotations", "structured content with an output schema", "lossless values", "resources and prompts",
	"errors with code, layer, position, near names, what to do", "metrics and traces", "transports", "MCP 2026-07-28",
	"tests against real engines in every build",
}

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
	rows := map[string]bool{}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		if len(cells) != 3 || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| feature") {
			continue
		}
		rows[strings.TrimSpace(cells[0])] = true
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
	for _, feature := range features {
		if !rows[feature] {
			t.Errorf("the table has no row %s", feature)
		}
	}
}

// TestRealEnginesAreRunInEveryBuild holds that the build installs the servers
// of which the tests make databases, and lets none of these tests be skipped but
// where it says why.
func TestRealEnginesAreRunInEveryBuild(t *testing.T) {
	run, err := os.ReadFile("../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"missing+=(postgresql)", "missing+=(mariadb-server-core mariadb-client-core)", "go test -race", ".ci/skips"} {
		if !strings.Contains(string(run), want) {
			t.Errorf(".ci/run has no %s", want)
		}
	}
	skips, err := os.ReadFile("../.ci/skips")
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{"TestEveryToolOnEveryEngine", "TestAttacksChangeNothing", "TestCancelEndsTheStatement", "TestLostConnections"} {
		if strings.Contains(string(skips), must) {
			t.Errorf("%s may be skipped", must)
		}
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
