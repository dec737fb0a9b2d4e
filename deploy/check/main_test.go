package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// deploy is the folder that is checked.
const deploy = ".."

// program is mcpool as it is shipped.
var program string

func TestMain(m *testing.M) {
	os.Exit(build(m))
}

func build(m *testing.M) int {
	folder, err := os.MkdirTemp("", "mcpool")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	program = filepath.Join(folder, "mcpool")
	cmd := exec.Command("go", "build", "-trimpath", "-tags=grpcnotrace", "-ldflags=-s -w", "-o", program, "./cmd/mcpool")
	cmd.Dir = filepath.Join(deploy, "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n%s", cmd, err, out)
		return 1
	}
	return m.Run()
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{deploy}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t *testing.T, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A deployment is how the program is started somewhere.
type deployment struct {
	args        []string
	environment map[string]string
	files       map[string]string // what is at the paths it is told
	key         string            // of somebody who may call; "" where anybody may
	health      []string          // what asks for its health; nil for nothing
}

const sessionKey = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// newKey makes a key of somebody who may call, and its line of a file of keys.
func newKey(t *testing.T) (key, line string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, "key", "new", "somebody").Output()
	key, line, ok := strings.Cut(string(out), "\n")
	if err != nil || !ok {
		t.Fatalf("%v: %s", err, out)
	}
	return key, line
}

// command returns the command that starts the program, with files that are here.
// It listens at addr, if there is one.
func (d deployment) command(t *testing.T, addr string, more ...string) *exec.Cmd {
	t.Helper()
	here := func(text string) string {
		for path, content := range d.files {
			if strings.Contains(text, path) {
				text = strings.ReplaceAll(text, path, write(t, filepath.Base(path), content))
			}
		}
		return text
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	for name, value := range d.environment {
		cmd.Env = append(cmd.Env, name+"="+here(value))
	}
	if addr != "" {
		cmd.Env = append(cmd.Env, "MCP_POOL_LISTEN="+addr)
	}
	for _, arg := range d.args {
		if addr != "" && strings.HasPrefix(arg, "--listen=") {
			arg = "--listen=" + addr
		}
		cmd.Args = append(cmd.Args, here(arg))
	}
	cmd.Args = append(cmd.Args, more...)
	return cmd
}

// check has the program check its command line and configuration.
func (d deployment) check(t *testing.T) {
	t.Helper()
	cmd := d.command(t, "", "--check")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "configuration is good") {
		t.Errorf("%s: %v\n%s", cmd, err, out)
	}
}
