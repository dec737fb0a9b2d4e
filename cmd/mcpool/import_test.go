package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/tailscale/hujson"

	"github.com/mcpool-dev/mcpool/config"
)

// importSecrets are in the files of testdata/import.
var importSecrets = []string{"ghp_very-secret", "search-secret", "docs-secret", "arg-secret"}

// machine makes the home folder of somebody who has all clients, and returns where
// the file of each is.
func machine(t *testing.T) (home string, files map[string]string) {
	t.Helper()
	home = t.TempDir()
	for _, name := range []string{"HOME", "USERPROFILE"} {
		t.Setenv(name, home)
	}
	t.Setenv("APPDATA", filepath.Join(home, "AppData", "Roaming"))
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("CODEX_HOME", "")
	t.Setenv("GEMINI_CLI_HOME", "")
	t.Setenv("CODEX_TOKEN", "of-codex")
	at := place{runtime.GOOS, home, os.Getenv}
	files = map[string]string{}
	for _, c := range importClients {
		source := "testdata/import/" + c.name + ".json"
		if c.toml {
			source = "testdata/import/" + c.name + ".toml"
		}
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		path := c.path(at)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o640); err != nil {
			t.Fatal(err)
		}
		files[c.name] = path
	}
	return home, files
}

// snapshot is what all files below a folder hold.
func snapshot(t *testing.T, folder string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImportIsADryRun(t *testing.T) {
	home, files := machine(t)
	before := snapshot(t, home)
	status, out, stderr := finish(t, "import", "--rewrite")
	if status != 0 || !strings.Contains(out, "Nothing was written") {
		t.Errorf("status %d: %s%s", status, out, stderr)
	}
	if !reflect.DeepEqual(snapshot(t, home), before) {
		t.Error("files were changed")
	}
	for _, secret := range importSecrets {
		if strings.Contains(out+stderr, secret) {
			t.Errorf("%s is shown", secret)
		}
	}
	for _, path := range files {
		if !strings.Contains(out, "--- "+path+"\n") {
			t.Errorf("no difference of %s in\n%s", path, out)
		}
	}
	golden(t, "import/dry-run.txt", strings.ReplaceAll(strings.ReplaceAll(out, home, "HOME"), testBinary(t), "/usr/bin/mcpool"))
}

func TestImportWrites(t *testing.T) {
	home, files := machine(t)
	before := snapshot(t, home)
	ours := filepath.Join(home, "pool", "mcpool.json")
	status, out, stderr := finish(t, "import", "--rewrite", "--write", "--output", ours)
	if status != 0 {
		t.Fatalf("status %d: %s%s", status, out, stderr)
	}
	conf, err := config.Load(ours, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range conf.Servers {
		names = append(names, s.Name)
		switch s.Name {
		case "filesystem":
			if got := s.Args[2]; got != "/home/me/${literal}" { // Claude Desktop expands nothing
				t.Errorf("its argument became %q", got)
			}
		case "remote":
			home, _ := os.LookupEnv("HOME")
			if s.Header.Get("X-Token") != home || !slices.Equal(s.Allow, []string{"read_all", `read_\*`}) || !slices.Equal(s.Deny, []string{"read_all"}) || s.CallTimeout != 5500*time.Millisecond {
				t.Errorf("of Gemini CLI came %v, %q, %q, %v", s.Header, s.Allow, s.Deny, s.CallTimeout)
			}
		case "older", "Newer":
			if s.SSE != (s.Name == "older") {
				t.Errorf("of Gemini CLI came %s with SSE %v", s.Name, s.SSE)
			}
		case "remote-codex":
			if s.Auth == nil || s.CallTimeout.Seconds() != 45 || !slices.Equal(s.Allow, []string{"look"}) || s.Header.Get("X-Home") != os.Getenv("HOME") {
				t.Errorf("of Codex came %v, %v, %q, %v", s.Auth, s.CallTimeout, s.Allow, s.Header)
			}
		case "docs":
			if !slices.Equal(s.Env, []string{"DOCS_KEY=docs-secret"}) {
				t.Errorf("of Codex came %q", s.Env)
			}
		}
	}
	if want := []string{"filesystem", "My-GitHub", "search", "filesystem-cursor", "played", "remote", "older", "Newer", "docs", "remote-codex"}; !slices.Equal(names, want) {
		t.Errorf("servers %q, want %q", names, want)
	}
	if info, err := os.Stat(ours); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	after := snapshot(t, home)
	for name, path := range files {
		golden(t, "import/rewritten/"+filepath.Base(name)+".txt", strings.ReplaceAll(strings.ReplaceAll(after[path], testBinary(t), "/usr/bin/mcpool"), ours, "/home/me/mcpool.json"))
		backups := 0
		for other, text := range after {
			if strings.HasPrefix(other, path+".bak-") {
				backups++
				if text != before[path] {
					t.Errorf("%s is not what was there", other)
				}
			}
		}
		if backups != 1 {
			t.Errorf("%d copies of %s", backups, path)
		}
		if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	// Again there is nothing to do.
	if status, out, _ := finish(t, "import", "--rewrite", "--write", "--output", ours); status != 0 || !strings.Contains(out, "There is nothing to change.") {
		t.Errorf("again: status %d: %s", status, out)
	}
	if !reflect.DeepEqual(snapshot(t, home), after) {
		t.Error("the second time has changed something")
	}
}

// TestImportWritesWhatClientsWant holds the entries that are written to what
// docs/clients says, which has them from the documentation of each client.
func TestImportWritesWhatClientsWant(t *testing.T) {
	to := target{"http://127.0.0.1:7432/mcp", "/usr/local/bin/mcpool", "/home/me/mcp.json"}
	block := regexp.MustCompile("(?s)```(json|toml)\n(.*?)```")
	for _, c := range importClients {
		text, err := os.ReadFile("../../docs/clients/" + c.name + ".md")
		if err != nil {
			t.Error(err)
			continue
		}
		found := block.FindSubmatch(text)
		if found == nil {
			t.Errorf("%s: no configuration in its page", c.name)
			continue
		}
		want := map[string]any{}
		if string(found[1]) == "toml" {
			_, err = toml.Decode(string(found[2]), &want)
		} else {
			err = json.Unmarshal(found[2], &want)
		}
		if got := map[string]any{c.section: map[string]any{"mcpool": c.gateway(to)}}; err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: written is %v, its page says %v (%v)", c.name, got, want, err)
		}
	}
}

// TestImportLeavesWhatIsSwitchedOff holds that a server that Gemini CLI has been
// told not to use is not taken, as far as the files say so.
func TestImportLeavesWhatIsSwitchedOff(t *testing.T) {
	_, files := machine(t)
	switched := filepath.Join(filepath.Dir(files["gemini-cli"]), "mcp-server-enablement.json")
	for text, off := range map[string]bool{
		`{"remote": {"enabled": false}}`:  true,
		`{" REMOTE": {"enabled": false}}`: true,
		`{"remote": {"enabled": true}}`:   false,
		`{"remote": {}}`:                  false,
		`{"other": {"enabled": false}}`:   false,
		`not JSON`:                        false,
	} {
		if err := os.WriteFile(switched, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		status, out, stderr := finish(t, "import", "--clients", "gemini-cli")
		if status != 0 || strings.Contains(out, "remote stays: it is disabled") != off || strings.Contains(out, "remote is taken") == off {
			t.Errorf("%s: status %d: %s%s", text, status, out, stderr)
		}
	}
}

func TestImportPrints(t *testing.T) {
	home, _ := machine(t)
	before := snapshot(t, home)
	status, out, stderr := finish(t, "import", "--output", "-", "--clients", "codex")
	if status != 0 {
		t.Fatal(stderr)
	}
	conf, err := config.Parse([]byte(out), "mcpool.json", nil)
	if err != nil || len(conf.Servers) != 2 {
		t.Errorf("%v: %s", err, out)
	}
	if !reflect.DeepEqual(snapshot(t, home), before) {
		t.Error("files were changed")
	}
}

// TestImportKeepsWhatIsThere holds that a configuration that is there is added to:
// with its comments, and without a change of what it says.
func TestImportKeepsWhatIsThere(t *testing.T) {
	machine(t)
	ours := configure(t, "mcp.json", `{
  // mine
  "mcpServers": {
    "search": {"url": "https://mine.example.com/mcp"}, // stays
  },
  "pool": {"max_connections": 3},
}
`)
	if status, _, stderr := finish(t, "import", "--write", "--output", ours); status != 0 {
		t.Fatal(stderr)
	}
	text, _ := os.ReadFile(ours)
	conf, err := config.Load(ours, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !strings.Contains(string(text), "// mine") || !strings.Contains(string(text), "// stays") || conf.Servers[0].URL != "https://mine.example.com/mcp" || conf.Servers[1].Pool.MaxConnections != 3 {
		t.Errorf("it became\n%s", text)
	}
}

// TestImportSkipsWhatItCannotRead holds that the file of one client keeps none of
// the others from being read.
func TestImportSkipsWhatItCannotRead(t *testing.T) {
	_, files := machine(t)
	if err := os.WriteFile(files["cursor"], []byte(`{"mcpServers": {"one": {"env": {"TOKEN": "a-secret`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files["codex"]); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(files["codex"], 0o700); err != nil {
		t.Fatal(err)
	}
	status, out, stderr := finish(t, "import")
	for _, want := range []string{
		"Cursor: skipped: " + files["cursor"] + ": it is not JSON, with or without comments; --clients names those to look at\n",
		"Codex: skipped: " + files["codex"] + " is no regular file; --clients", "VS Code: search is taken\n",
	} {
		if status != 0 || !strings.Contains(out, want) || strings.Contains(out, "a-secret") {
			t.Errorf("status %d: %s%s, want %s", status, out, stderr, want)
		}
	}
	if status, _, stderr = finish(t, "import", "--clients", "codex"); status != 1 || !strings.Contains(stderr, "is no regular file\nhint: --clients names") {
		t.Errorf("of one that was asked for: status %d: %s", status, stderr)
	}
}

func TestImportRefuses(t *testing.T) {
	home, files := machine(t)
	inline := configure(t, "config.toml", "mcp_servers = {docs = {command = \"docs\"}}\n")
	broken := configure(t, "broken.json", `{"mcpServers": {"one": {"env": {"TOKEN": "a-secret`)
	before := snapshot(t, home)
	for name, test := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"a client that is none":  {[]string{"--clients", "emacs"}, 2, `there is no "emacs"`},
		"a file that is not":     {[]string{"--from", "cursor=/no/such.json"}, 1, "/no/such.json"},
		"a file without client":  {[]string{"--from", "x.json"}, 2, "want CLIENT=FILE"},
		"what is not JSON":       {[]string{"--from", "cursor=" + broken}, 1, "it is not JSON"},
		"its own file":           {[]string{"--output", files["cursor"]}, 2, "would start itself"},
		"what it cannot rewrite": {[]string{"--from", "codex=" + inline, "--rewrite", "--write"}, 1, "by hand"},
		"to write to -":          {[]string{"--output", "-", "--write"}, 2, "is printed"},
	} {
		status, out, stderr := finish(t, append([]string{"import"}, test.args...)...)
		if status != test.status || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: status %d: %s", name, status, stderr)
		}
		if strings.Contains(out+stderr, "a-secret") {
			t.Errorf("%s: a secret is told", name)
		}
	}
	if !reflect.DeepEqual(snapshot(t, home), before) {
		t.Error("files were changed")
	}
}

// TestReplaceFile holds that a file that somebody else has written
// meanwhile is left alone, and that a link stays one.
func TestReplaceFile(t *testing.T) {
	path := configure(t, "a.json", "old")
	if _, err := replaceFile(path, []byte("older"), []byte("new"), topStart); err == nil {
		t.Error("a file that has changed is replaced")
	}
	if text, _ := os.ReadFile(path); string(text) != "old" {
		t.Errorf("it is %q", text)
	}
	if runtime.GOOS == "windows" {
		return
	}
	link := filepath.Join(t.TempDir(), "link.json")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	backup, err := replaceFile(link, []byte("old"), []byte("new"), topStart)
	if info, statErr := os.Lstat(link); err != nil || statErr != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("%v, %v", err, info)
	}
	old, _ := os.ReadFile(backup)
	text, _ := os.ReadFile(path)
	if string(old) != "old" || string(text) != "new" || !strings.HasSuffix(backup, "a.json.bak-20260304T120000Z") {
		t.Errorf("%q, %s: %q", text, backup, old)
	}
}

func TestImportPathsOfSystems(t *testing.T) {
	none := func(string) string { return "" }
	for _, test := range []struct {
		at   place
		want map[string]string
	}{
		{place{"linux", "/home/me", none}, map[string]string{
			"claude-desktop": "/home/me/.config/Claude/claude_desktop_config.json", "cursor": "/home/me/.cursor/mcp.json",
			"vs-code": "/home/me/.config/Code/User/mcp.json", "gemini-cli": "/home/me/.gemini/settings.json", "codex": "/home/me/.codex/config.toml"}},
		{place{"darwin", "/Users/me", none}, map[string]string{
			"claude-desktop": "/Users/me/Library/Application Support/Claude/claude_desktop_config.json", "cursor": "/Users/me/.cursor/mcp.json",
			"vs-code": "/Users/me/Library/Application Support/Code/User/mcp.json", "gemini-cli": "/Users/me/.gemini/settings.json", "codex": "/Users/me/.codex/config.toml"}},
		{place{"windows", `C:\Users\me`, func(name string) string { return map[string]string{"APPDATA": `C:\Users\me\AppData\Roaming`}[name] }}, map[string]string{
			"claude-desktop": `C:\Users\me\AppData\Roaming\Claude\claude_desktop_config.json`, "cursor": `C:\Users\me\.cursor\mcp.json`,
			"vs-code": `C:\Users\me\AppData\Roaming\Code\User\mcp.json`, "gemini-cli": `C:\Users\me\.gemini\settings.json`, "codex": `C:\Users\me\.codex\config.toml`}},
	} {
		for _, c := range importClients {
			if got := c.path(test.at); got != test.want[c.name] {
				t.Errorf("%s on %s: %s, want %s", c.name, test.at.os, got, test.want[c.name])
			}
		}
	}
}

// FuzzRewrite holds that of a file of JSON nothing changes but what was meant, or
// that it is refused.
func FuzzRewrite(f *testing.F) {
	for _, name := range []string{"claude-desktop", "cursor", "vs-code"} {
		text, err := os.ReadFile("testdata/import/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("{\"mcpServers\":{\"a\":{\"command\":\"x\"},},}"))
	f.Add([]byte("{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": {\"command\": \"x\"}\r\n\t}\r\n}"))
	c := &importClients[1]
	f.Fuzz(func(t *testing.T, text []byte) {
		file := &clientFile{client: c, path: "mcp.json", text: text}
		var err error
		if file.all, err = file.parse(text); err != nil {
			return
		}
		section, is := file.all[c.section].(map[string]any)
		if !is {
			return
		}
		var names []string
		for name := range section {
			names = append(names, name)
		}
		slices.Sort(names)
		out, err := file.rewritten(names[:(len(names)+1)/2], target{url: "http://127.0.0.1:7432/mcp"})
		if err != nil {
			return
		}
		before, _ := hujson.Parse(text)
		after, err := hujson.Parse(out)
		if err != nil || before.IsStandard() && !after.IsStandard() {
			t.Errorf("%q became %q (%v)", text, out, err)
		}
	})
}
