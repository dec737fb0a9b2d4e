package mcpool_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool"
)

// TestGuaranteesNameTests holds that ARCHITECTURE.md promises nothing that no
// test shows.
func TestGuaranteesNameTests(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := allTests(t)
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

// allTests returns, by the name of each test of the module, the file it is in.
func allTests(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(".", func(file string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		source, err := os.ReadFile(file)
		for _, test := range regexp.MustCompile(`(?m)^func (Test\w+)`).FindAllSubmatch(source, -1) {
			all[string(test[1])] = string(source)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestREADMEProgramCompiles keeps the first program people copy true.
func TestREADMEProgramCompiles(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	program := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(text)
	if program == nil {
		t.Fatal("README.md has no program")
	}
	// Inside the module, so that the import is this tree; a folder beginning
	// with an underscore is none of its packages.
	dir, err := os.MkdirTemp(".", "_readme")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "main.go"), program[1], 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", "./"+dir).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestREADMENamesEverySetting keeps the table of settings whole.
func TestREADMENamesEverySetting(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(mcpool.SettingNames(), "call_timeout") {
		if row := "| `" + name + "` | `MCP_POOL_" + strings.ToUpper(name) + "` |"; !strings.Contains(string(text), row) {
			t.Errorf("README.md has no row %q", row)
		}
	}
}
