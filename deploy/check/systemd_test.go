package check

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxExposure is what `systemd-analyze security` may find, in tenths of 10.
const maxExposure = "20"

func analyze(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not here")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	} else if args[0] == "verify" && len(bytes.TrimSpace(out)) > 0 { // it warns of unknown keys, and succeeds
		t.Errorf("%s", out)
	}
}

func TestSystemd(t *testing.T) {
	const installed = "/usr/bin/mcpool"
	service := string(read(t, "systemd", "mcpool.service"))
	_, line, _ := strings.Cut(service, "\nExecStart=")
	line, _, _ = strings.Cut(line, "\n")
	words := strings.Fields(line)
	if len(words) == 0 || words[0] != installed {
		t.Fatalf("ExecStart=%s: want %s", line, installed)
	}
	deployment{
		args:  words[1:],
		files: map[string]string{"/etc/mcpool/mcpool.yaml": string(read(t, "systemd", "mcpool.yaml"))},
	}.check(t)

	folder := t.TempDir() // verify looks for the program
	var units []string
	for name, text := range map[string]string{
		"mcpool.service": strings.ReplaceAll(service, installed, program),
		"mcpool.socket":  string(read(t, "systemd", "mcpool.socket")),
	} {
		unit := filepath.Join(folder, name)
		if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	t.Run("verify", func(t *testing.T) { analyze(t, append([]string{"verify", "--man=no"}, units...)...) })
	t.Run("security", func(t *testing.T) {
		analyze(t, "security", "--offline=true", "--no-pager", "--threshold="+maxExposure, filepath.Join(folder, "mcpool.service"))
	})
}
