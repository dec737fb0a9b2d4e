//go:build unix

package sqlite

import (
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

// readerHome names the directory in which the attacks are run by somebody who
// may write to nothing there.
const readerHome = "MCPOOL_TEST_READER_HOME"

// TestAttacksChangeNothingOfAReader runs the attacks on a file that this
// process may only read, in a directory that it may not write to. Root may
// write anywhere, so under root the test starts itself again as nobody.
func TestAttacksChangeNothingOfAReader(t *testing.T) {
	if home := os.Getenv(readerHome); home != "" {
		attackAsReader(t, home)
		return
	}
	home, err := os.MkdirTemp("/tmp", "mcpool-reader-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Chmod(filepath.Join(home, "db"), 0o700)
		_ = os.RemoveAll(home)
	})
	file, _ := attacked(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for to, from := range map[string]string{"db/test.db": file, "sqlite-attack.txt": corpora + "sqlite-attack.txt", "run": program} {
		copyFile(t, filepath.Join(home, to), from)
	}
	for path, mode := range map[string]os.FileMode{"db/test.db": 0o444, "db": 0o555, ".": 0o755, "run": 0o755} {
		if err := os.Chmod(filepath.Join(home, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() != 0 {
		attackAsReader(t, home)
		return
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("skipped: root may write to any file, and there is no user nobody")
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	cmd := exec.CommandContext(t.Context(), filepath.Join(home, "run"), "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Dir = home
	cmd.Env = []string{readerHome + "=" + home, "TMPDIR=/tmp"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

func attackAsReader(t *testing.T, home string) {
	dir := filepath.Join(home, "db")
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err == nil {
		t.Fatal("the directory can be written to")
	}
	d := newEngine(t, engine.Options{DSN: filepath.Join(dir, "test.db")})
	n := dbtest.Attack(t, filepath.Join(home, "sqlite-attack.txt"), dir, attacker(t, d), func() string { return "" })
	if n < 300 {
		t.Fatalf("there are %d attacks", n)
	}
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	source, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(target, source); err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
}
