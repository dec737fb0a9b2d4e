package interop

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// TestConformance has the client scenarios of the official suite judge a pool,
// in both of the suite's versions that are in use. The last stable one knows no
// modern servers. README.md has how many of the scenarios are passed.
//
// The suite has all its scenarios run at once, and some of them measure time:
// how much later than half a second a stream is taken up again. So the
// suites are run one after the other, and again where they fail.
func TestConformance(t *testing.T) {
	for _, suite := range []struct {
		name, dir      string
		args, required []string
	}{
		{"2025-11-25", "conformance-0.2", []string{"--requirements", "2025-11-25"}, []string{"--requirements", "2025-11-25"}},
		{"2026-07-28", "conformance-0.2", []string{"--requirements", "2026-07-28"}, []string{"--requirements", "2026-07-28"}},
		{"stable", "conformance-0.1", []string{"--suite", "all"}, []string{"--spec-version", "2025-11-25"}},
	} {
		t.Run(suite.name, func(t *testing.T) {
			node := absolute(filepath.Join(nodeModules, "node/bin/node"))
			script := absolute(filepath.Join(nodeModules, suite.dir, "dist/index.js"))
			for _, file := range []string{node, script} {
				if _, err := os.Stat(file); err != nil {
					t.Skipf("the conformance suite is not installed, for want of %s: README.md says how", file)
				}
			}
			dir := t.TempDir()
			client := filepath.Join(dir, "client")
			if out, err := exec.Command("go", "build", "-o", client, "./client").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			expected := absolute(filepath.Join("conformance", suite.name+".yml"))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			args := append([]string{script, "client", "--command", client, "--expected-failures", expected,
				"--output-dir", dir, "--verbose", "--timeout", "60000"}, suite.args...)
			var summary []byte
			var err error
			for range 3 {
				summary, err = judge(ctx, node, args)
				t.Logf("%s", summary)
				if err == nil || ctx.Err() != nil {
					break
				}
			}
			if err != nil {
				t.Errorf("not as %s says: %v", expected, err)
			}
			listed, err := exec.CommandContext(ctx, node, append([]string{script, "list", "--client"}, suite.required...)...).Output()
			if err != nil {
				t.Fatal(err)
			}
			row := figures(suite.name, summary, listed)
			if text, err := os.ReadFile("README.md"); err != nil || !bytes.Contains(text, []byte(row)) {
				t.Errorf("README.md has not these figures: %s", row)
			}
		})
	}
}

// judge runs the suite and returns its summary. It fails if the suite does.
func judge(ctx context.Context, node string, args []string) (summary []byte, err error) {
	cmd := exec.CommandContext(ctx, node, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var said, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &errs
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("%w\n%s", err, errs.Bytes()[max(0, errs.Len()-2000):])
	}
	_, summary, _ = bytes.Cut(said.Bytes(), []byte("=== SUITE SUMMARY ===\n"))
	return regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAll(summary, nil), err // without colours
}

// figures is the row of README.md for a suite: how many scenarios were passed of
// those that the revision requires, which are listed, and of the others.
func figures(suite string, summary, listed []byte) string {
	required := map[string]bool{}
	for _, name := range regexp.MustCompile(`(?m)^  - (\S+)`).FindAllSubmatch(listed, -1) {
		required[string(name[1])] = true
	}
	var ran, passed [2]int
	for _, scenario := range regexp.MustCompile(`(?m)^(✓|✗) (\S+):`).FindAllSubmatch(summary, -1) {
		kind := 1
		if required[string(scenario[2])] {
			kind = 0
		}
		ran[kind]++
		if string(scenario[1]) == "✓" {
			passed[kind]++
		}
	}
	return fmt.Sprintf("| %s | %d of %d | %d of %d |", suite, passed[0], ran[0], passed[1], ran[1])
}
