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
	for _, it := range []struct {
		name, dir      string
		args, required []string
	}{
		{"2025-11-25", "conformance-0.2", []string{"--requirements", "2025-11-25"}, []string{"--requirements", "2025-11-25"}},
		{"2026-07-28", "conformance-0.2", []string{"--requirements", "2026-07-28"}, []string{"--requirements", "2026-07-28"}},
		{"stable", "conformance-0.1", []string{"--suite", "all"}, []string{"--spec-version", "2025-11-25"}},
	} {
		t.Run(it.name, func(t *testing.T) {
			suite := official(t, it.dir)
			dir := t.TempDir()
			client := filepath.Join(dir, "client")
			build(t, ".", client, "./client")
			expected := absolute(filepath.Join("conformance", it.name+".yml"))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			args := append([]string{"client", "--command", client, "--expected-failures", expected,
				"--output-dir", dir, "--verbose", "--timeout", "60000"}, it.args...)
			var summary []byte
			var err error
			for range 3 {
				var said, errs []byte
				said, errs, err = suite.run(ctx, args...)
				_, summary, _ = bytes.Cut(said, []byte("=== SUITE SUMMARY ===\n"))
				summary = regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAll(summary, nil) // colours
				t.Logf("%s%s", summary, errs[max(0, len(errs)-2000):])
				if err == nil || ctx.Err() != nil {
					break
				}
			}
			if err != nil {
				t.Errorf("not as %s says: %v", expected, err)
			}
			listed, _, err := suite.run(ctx, append([]string{"list", "--client"}, it.required...)...)
			if err != nil {
				t.Fatal(err)
			}
			row := figures(it.name, summary, listed)
			if text, err := os.ReadFile("README.md"); err != nil || !bytes.Contains(text, []byte(row)) {
				t.Errorf("README.md has not these figures: %s", row)
			}
		})
	}
}

// A suite is the official suite in one of its versions: its program.
type suite struct{ node, script string }

// official skips the test where the suite of a folder is not installed.
func official(t *testing.T, dir string) suite {
	t.Helper()
	s := suite{absolute(filepath.Join(nodeModules, "node/bin/node")), absolute(filepath.Join(nodeModules, dir, "dist/index.js"))}
	for _, file := range []string{s.node, s.script} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("the conformance suite is not installed, for want of %s: README.md says how", file)
		}
	}
	return s
}

// run runs a command of the suite, which is killed with all it has started when
// ctx ends.
func (s suite) run(ctx context.Context, args ...string) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, s.node, append([]string{s.script}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var said, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &errs
	err = cmd.Run()
	return said.Bytes(), errs.Bytes(), err
}

// build builds a program of the module that dir is in.
func build(t *testing.T, dir, program, pkg string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", program, pkg)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
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
