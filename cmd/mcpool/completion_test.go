package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCommandsDescribeThemselves(t *testing.T) {
	all := describedCommands(t.Context())
	for _, c := range all {
		if c.flags == nil {
			t.Errorf("%s does not describe itself", c.name)
		}
	}
	for _, name := range []string{"serve", "top", "show", "drain", "health", "doctor", "import", "db", "db setup-sql", "bench", "completion", "man"} {
		if !slices.ContainsFunc(all, func(c described) bool { return c.name == name }) {
			t.Errorf("%s is missing", name)
		}
	}
}

// script writes what a command prints into a file.
func script(t *testing.T, args ...string) string {
	t.Helper()
	status, out, stderr := finish(t, args...)
	if status != 0 || stderr != "" {
		t.Fatalf("%q: status %d: %s", args, status, stderr)
	}
	path := filepath.Join(t.TempDir(), "mcpool")
	if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// lookedFor returns a program, and skips the test where it is not.
func lookedFor(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(err)
	}
	return path
}

func TestCompletionsParse(t *testing.T) {
	for _, shell := range completionShells {
		t.Run(shell, func(t *testing.T) {
			path := script(t, "completion", shell)
			if said, err := exec.Command(lookedFor(t, shell), "-n", path).CombinedOutput(); err != nil || len(said) > 0 {
				t.Errorf("%v: %s", err, said)
			}
		})
	}
	if status, _, stderr := finish(t, "completion", "tcsh"); status != 2 || !strings.Contains(stderr, "which shell?") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestBashCompletes(t *testing.T) {
	bash, path := lookedFor(t, "bash"), script(t, "completion", "bash")
	for line, want := range map[string]string{
		"mcpool dr":                      "drain",
		"mcpool serve --std":             "--stdio",
		"mcpool show po":                 "pools",
		"mcpool doctor --js":             "--json",
		"mcpool db setup":                "setup-sql",
		"mcpool db setup-sql post":       "postgres",
		"mcpool db setup-sql --max":      "--max-connections",
		"mcpool top --url ":              "",
		"mcpool serve --max-connections": "--max-connections --max-connections-per-principal --max-connections-total",
		"mcpool completion z":            "zsh",
		"mcpool serve --config " + filepath.Dir(path) + "/mcp": path,
	} {
		words := strings.Split(line, " ")
		program := `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mcpool; echo "${COMPREPLY[*]}"`
		said, err := exec.Command(bash, append([]string{"--norc", "-c", program, "bash", path}, words...)...).CombinedOutput()
		if got := strings.TrimSpace(string(said)); err != nil || got != want {
			t.Errorf("%q is completed by %q, want %q (%v)", line, got, want, err)
		}
	}
}

// TestManual holds that the page has all flags, and that man has nothing to say
// against it.
func TestManual(t *testing.T) {
	path := script(t, "man")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range describedCommands(t.Context()) {
		for _, f := range c.all() {
			if !strings.Contains(string(text), `\fB\-\-`+roff(f.name)+`\fR`) {
				t.Errorf("--%s of %s is missing", f.name, c.name)
			}
		}
	}
	cmd := exec.Command(lookedFor(t, "man"), "--warnings=w", "-l", path)
	cmd.Env = append(os.Environ(), "MANPAGER=cat", "LC_ALL=C.UTF-8", "MANWIDTH=80")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	page, err := cmd.Output()
	if err != nil || stderr.String() != "" {
		t.Errorf("%v: %s", err, &stderr)
	}
	if !strings.Contains(string(page), "--drain-timeout") || !strings.Contains(string(page), "EXIT STATUS") {
		t.Errorf("the page is\n%s", page)
	}
}
