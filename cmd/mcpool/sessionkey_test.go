package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestTheKeyOfSessionsIsMadeOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "mcpool")
	t.Setenv("XDG_STATE_HOME", filepath.Dir(folder))
	keys := make([][]byte, 50)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			var err error
			if keys[i], err = sessionKey(config.Gateway{}, slog.New(slog.DiscardHandler)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, key := range keys {
		if len(key) != gateway.KeySize || !bytes.Equal(key, keys[0]) {
			t.Fatalf("of those that begin at once one has the key %x, another %x", key, keys[0])
		}
	}
	files, err := os.ReadDir(folder)
	if err != nil || len(files) != 1 || files[0].Name() != "session.key" {
		t.Errorf("the folder has %v, %v", files, err)
	}
	for path, want := range map[string]os.FileMode{folder: 0o700, filepath.Join(folder, "session.key"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want && runtime.GOOS != "windows" {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
}

func TestWhereTheKeyOfSessionsIs(t *testing.T) {
	systemd, xdg, home := t.TempDir(), t.TempDir(), t.TempDir()
	for _, test := range []struct{ systemd, xdg, want string }{
		{systemd, xdg, systemd},
		{systemd + string(filepath.ListSeparator) + home, xdg, systemd},
		{"", xdg, filepath.Join(xdg, "mcpool")},
		{"", "relative", filepath.Join(home, ".local", "state", "mcpool")},
		{"", "", filepath.Join(home, ".local", "state", "mcpool")},
	} {
		t.Setenv("STATE_DIRECTORY", test.systemd)
		t.Setenv("XDG_STATE_HOME", test.xdg)
		t.Setenv("HOME", home)
		t.Setenv("USERPROFILE", home)
		if got, err := stateFolder(); err != nil || got != test.want {
			t.Errorf("%q, %q: %s, %v, want %s", test.systemd, test.xdg, got, err, test.want)
		}
	}
}

func TestAKeyOfSessionsThatIsNoneIsRefused(t *testing.T) {
	good := strings.Repeat("0f", gateway.KeySize) + "\n"
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		says string
	}{
		"others may read it": {good, 0o604, "has mode 0604, so others may have read it\nhint: delete it"},
		"its group may":      {good, 0o640, "has mode 0640"},
		"too short":          {good[2:], 0o600, "want a key of 32 bytes in hex or base64"},
		"too long":           {strings.Repeat(good[:64], 10), 0o600, "want a key of 32 bytes"},
		"empty":              {"", 0o600, "want a key of 32 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" && test.mode != 0o600 {
				t.Skip("there are no such modes on Windows")
			}
			state := t.TempDir()
			t.Setenv("XDG_STATE_HOME", state)
			path := filepath.Join(state, "mcpool", "session.key")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			refusal{[]string{"serve", "--listen", somewhere}, 1, []string{path, test.says, "a new one is made"}}.check(t)
			if text, err := os.ReadFile(path); err != nil || string(text) != test.text {
				t.Errorf("now it is %q, %v", text, err)
			}
		})
	}
}

// TestWithoutAPlaceForTheKeyThereIsService: an account that has no home and may
// write nowhere is served, and told what that means.
func TestWithoutAPlaceForTheKeyThereIsService(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", configure(t, "a-file", ""))
	p := serve(t)
	connect(t, web(t), p.url+"/mcp")
	if !strings.Contains(p.err.String(), "there is no place to keep the key of sessions: they end with this process") {
		t.Errorf("it says %s", &p.err)
	}
}

func TestCheckMakesNoKey(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	if status, _, stderr := finish(t, "serve", "--check"); status != 0 || stderr != "" {
		t.Errorf("status %d, %s", status, stderr)
	}
	if files, err := os.ReadDir(state); err != nil || len(files) > 0 {
		t.Errorf("there is %v, %v", files, err)
	}
	refusal{[]string{"serve", "--check", "--gateway-session-key-file", configure(t, "key", "s3cret")}, 1, []string{"want a key of 32 bytes"}}.check(t)
}

// TestARestartLosesNoSession has a client go on with its session at gateways
// that it did not begin at: the same after a restart, another with the same
// key, and one with another key.
func TestARestartLosesNoSession(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	file := behind(t, upstream(t, &mcptest.Server{}))
	p := serveChild(t, "--config", file)
	c := connect(t, web(t), p.url+"/mcp")
	goesOn := func(name string, p *program, want string) {
		t.Helper()
		c.url = p.url + "/mcp"
		_, err := c.call(t.Context(), "echo", name)
		if got := fmt.Sprint(err); want == "" && err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	goesOn("the first", p, "")
	p.stop()
	p.end(t)
	goesOn("after a restart", serveChild(t, "--config", file), "")

	key, err := os.ReadFile(filepath.Join(state, "mcpool", "session.key"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	goesOn("elsewhere, the same key in a file", serve(t, "--config", file, "--gateway-session-key-file", configure(t, "key", "%s", key)), "")
	t.Setenv("MCP_POOL_GATEWAY_SESSION_KEY", strings.TrimSpace(string(key)))
	goesOn("elsewhere, the same key in the environment", serve(t, "--config", file), "")
	os.Unsetenv("MCP_POOL_GATEWAY_SESSION_KEY")
	goesOn("elsewhere, another key", serve(t, "--config", file), "status 404: ")
}
