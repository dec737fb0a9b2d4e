//go:build unix

package main

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/goccy/go-yaml"

	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// notRun has the commands of the guide that TestGuide does not run, with the
// reason. Each has to be shown by a page.
var notRun = map[string]string{
	"go test ./...": "this is what runs the tests",
	"mcpool bench":  "it takes half a minute; TestBench runs it with shorter times",
	"npx @modelcontextprotocol/inspector@2.12.0 --cli http://127.0.0.1:7432/mcp --transport http --protocol-era modern --method tools/list": "somebody else's program; TestClients in interop runs it",
}

// awaited is what the log of the gateway says after a command.
var awaited = map[string]string{
	"kill -HUP":  `configuration reloaded`,
	"kill -USR2": `another process has taken the place of this one","pid":\d+`,
	"kill -TERM": `"msg":"stopped"(?s:.*)"msg":"stopped"`, // the old process and the new one
}

// TestGuide does what the pages of the guide say. What a fence has is
//
//	sh               commands, each on a line; `PID` is the gateway that was started last
//	console          commands behind "$ ", each with what it prints; … stands for any text, alone on a line for any lines
//	yaml, json       a configuration of mcpool, which has to be good; a client's on the pages of clients
//	go               a program, which is vetted; "go run ." runs it
//	toml             a client's configuration
//	python           a program, which has to be Python
//
// A first line that is a comment with the name of a file is that file. Commands
// run in one folder for each page. 127.0.0.1:7432 is wherever the gateway of the page
// listens, and likewise other ports. Whatever ends is to end with success, unless
// an error is shown.
func TestGuide(t *testing.T) {
	shown := map[string]bool{}
	pages, followed, ran := guidePages(t), 0, 0
	for _, name := range pages {
		t.Run(name, func(t *testing.T) {
			followed++
			g := newGuide(t, name)
			for _, b := range fences(t, name) {
				g.do(t, b)
			}
			ran += g.ran
			maps.Copy(shown, g.left)
		})
	}
	for command := range notRun {
		if !shown[command] && followed == len(pages) { // not if -run names some
			t.Errorf("no page shows %s, which is not run", command)
		}
	}
	t.Logf("%d commands were run, %d were not", ran, len(shown))
}

// guidePatience is how long a command may take; some make programs.
const guidePatience = 4 * patience

// guideRoot is the folder of the module.
const guideRoot = "../.."

// guidePages returns the pages: README.md, and those of docs.
func guidePages(t *testing.T) []string {
	t.Helper()
	pages := []string{"README.md"}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(guideRoot, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, page := range found {
			name, err := filepath.Rel(guideRoot, page)
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, filepath.ToSlash(name))
		}
	}
	return pages
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(guideRoot, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A fence is a part of a page between two lines of ```.
type fence struct {
	place    string // PAGE:LINE of what is in it
	language string
	text     string
}

func fences(t *testing.T, page string) (list []fence) {
	t.Helper()
	var open *fence
	line := 0
	for text := range strings.Lines(readPage(t, page)) {
		line++
		mark, is := strings.CutPrefix(strings.TrimSpace(text), "```")
		switch {
		case is && open == nil:
			open = &fence{place: fmt.Sprintf("%s:%d", page, line+1), language: mark}
		case is:
			list, open = append(list, *open), nil
		case open != nil:
			open.text += text
		}
	}
	if open != nil {
		t.Fatalf("%s: it is not closed", open.place)
	}
	return list
}

// file returns the name of the file that a fence is, "" for none.
func (f fence) file() string {
	match := regexp.MustCompile(`^(?:#|//) ([\w./-]+\.\w+)(?::.*)?\n`).FindStringSubmatch(f.text)
	if match == nil {
		return ""
	}
	return match[1]
}

// A guide is a page that is being followed.
type guide struct {
	page     string
	dir      string
	env      []string
	programs string            // the folder of the last program in Go, for go run .
	ports    map[string]string // that are listened on, by those that the page has
	servers  map[string]*program
	last     *program          // of those
	pid      int               // of the last
	files    map[string]string // that the page has shown, as it has them
	ran      int
	left     map[string]bool // what was not run
}

func newGuide(t *testing.T, page string) *guide {
	t.Helper()
	g := &guide{page: page, dir: t.TempDir(), ports: map[string]string{}, servers: map[string]*program{}, files: map[string]string{}, left: map[string]bool{}}
	g.write(t, "bin/mcpool", fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", testBinary(t)))
	if err := os.Chmod(filepath.Join(g.dir, "bin", "mcpool"), 0o700); err != nil {
		t.Fatal(err)
	}
	// What readers have, and pages do not show.
	g.write(t, "mcp.json", fmt.Sprintf(`{"mcpServers": {"one": {"url": %q}}}`, upstream(t, &mcptest.Server{})))
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	paths := strings.Split(string(out), "\n")
	g.env = append(commandLine(t).Env, "PATH="+filepath.Join(g.dir, "bin")+":"+os.Getenv("PATH"), "HOME="+filepath.Join(g.dir, "home"), "GOBIN="+filepath.Join(g.dir, "home", "bin"),
		"XDG_CACHE_HOME="+cache, "GOCACHE="+paths[0], "GOMODCACHE="+paths[1], "GOPATH="+paths[2])
	return g
}

func (g *guide) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (g *guide) do(t *testing.T, f fence) {
	t.Helper()
	switch f.language {
	case "sh":
		for _, command := range commandsOf(f.text) {
			g.command(t, f.place, command, nil)
		}
	case "console":
		for _, part := range strings.Split("\n"+strings.TrimSpace(f.text), "\n$ ")[1:] {
			command, prints := part, ""
			for end := 0; ; { // lines that go on
				at := strings.Index(part[end:], "\n")
				if at < 0 {
					break
				}
				if end += at + 1; !strings.HasSuffix(part[:end-1], `\`) {
					command, prints = part[:end-1], part[end:]
					break
				}
			}
			g.command(t, f.place, command, &prints)
		}
	case "yaml", "json":
		if strings.HasPrefix(g.page, "docs/clients/") {
			var value any
			if err := yaml.Unmarshal([]byte(f.text), &value); err != nil { // JSON is YAML
				t.Errorf("%s: %v", f.place, err)
			}
			return
		}
		g.configuration(t, f)
	case "toml":
		var value any
		if _, err := toml.Decode(f.text, &value); err != nil {
			t.Errorf("%s: %v", f.place, err)
		}
	case "go":
		g.program(t, f)
	case "python":
		cmd := exec.Command("python3", "-c", "import ast, sys; compile(sys.stdin.read(), 'page', 'exec', flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)")
		if cmd.Err != nil {
			t.Logf("%s: not looked at, for want of Python", f.place)
			return
		}
		cmd.Stdin = strings.NewReader(f.text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v, %s", f.place, err, out)
		}
	default:
		t.Errorf("%s: nobody knows what to do with %q", f.place, f.language)
	}
}

// commandsOf returns the commands of lines, without comments behind them.
func commandsOf(text string) (commands []string) {
	for command := range strings.SplitSeq(strings.ReplaceAll(text, "\\\n", "\\\x00"), "\n") {
		command, _, _ = strings.Cut(command, "  #")
		if command = strings.TrimSpace(strings.ReplaceAll(command, "\x00", "\n")); command != "" && command[0] != '#' {
			commands = append(commands, command)
		}
	}
	return commands
}

var (
	guideSecret  = regexp.MustCompile(`/(?:run/secrets|etc/mcpool|var/log/mcpool)/([\w.-]+)`)
	guideAddress = regexp.MustCompile(`(127\.0\.0\.1|localhost|0\.0\.0\.0):(\d{2,})`)
	guideListen  = regexp.MustCompile(`--listen (\S+):(\d+)`)
	guideClient  = regexp.MustCompile(`\bmcpool (tools|call|show|pause|resume|drain|reset|kill|reload|health)\b`)
	guideSource  = regexp.MustCompile(`\bgo run \./cmd/mcpool\b`)
)

// here is a text of the page with addresses and paths as they are here.
func (g *guide) here(t *testing.T, text string) string {
	for _, match := range guideSecret.FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(g.dir, match[1])); err != nil && !strings.HasSuffix(match[1], ".jsonl") {
			g.write(t, match[1], "secret\n")
		}
	}
	text = guideSecret.ReplaceAllString(text, g.dir+"/$1")
	return guideAddress.ReplaceAllStringFunc(text, func(address string) string {
		at := strings.LastIndex(address, ":")
		port := g.ports[address[at+1:]]
		if port == "" {
			port = "1" // where nobody listens
		}
		return address[:at+1] + port
	})
}

// there is the reverse of here, for what is printed.
func (g *guide) there(text string) string {
	for shown, port := range g.ports {
		text = strings.ReplaceAll(text, ":"+port, ":"+shown)
	}
	return strings.ReplaceAll(strings.ReplaceAll(text, "127.0.0.1:1:", "127.0.0.1:7432:"), g.dir+"/", "")
}

// command runs one; prints is what it has to print, nil for anything.
func (g *guide) command(t *testing.T, place, command string, prints *string) {
	t.Helper()
	if notRun[command] != "" {
		g.left[command] = true
		return
	}
	for _, program := range []string{"curl", "openssl"} {
		if strings.Contains(command, program+" ") && exec.Command(program).Err != nil {
			t.Skipf("%s: %s is not there", place, program)
		}
	}
	g.ran++
	for name, text := range g.files { // ports may be known that were not
		text = g.here(t, text)
		if old, err := os.ReadFile(filepath.Join(g.dir, name)); err != nil || string(old) != text {
			g.write(t, name, text)
		}
	}
	shown := command
	command = guideSource.ReplaceAllString(command, "mcpool")
	fails := prints != nil && strings.Contains("\n"+*prints, "\nmcpool: error:")
	if guideServes(command) && !fails {
		port := "7432"
		if match := guideListen.FindStringSubmatch(command); match != nil {
			port = match[2]
		}
		command = guideListen.ReplaceAllString(command, "--listen $1:0")
		if !strings.Contains(command, "--listen") {
			command = strings.Replace(command, "mcpool serve", "mcpool serve --listen "+somewhere, 1)
		}
		if !strings.HasPrefix(command, "exec ") { // so that signals reach it
			command = "exec env " + command
		}
		if old := g.servers[port]; old != nil {
			old.stop()
			old.end(t)
		}
		p := startCommand(t, g.shell(context.Background(), t, command))
		var address string
		if strings.Contains(command, "mcpool db") {
			address = p.await(t, &p.err, `mcp=https?://(\S+)/mcp`)
		} else {
			address = p.await(t, &p.out, `(?s)MCP +https?://(\S+)/mcp\n.*  try .*\n`)
		}
		g.ports[port] = address[strings.LastIndex(address, ":")+1:]
		g.servers[port], g.last, g.pid = p, p, p.process.Pid
		if prints != nil && *prints != "" {
			g.compare(t, place, shown, *prints, p.out.String())
		}
		return
	}
	command = guideClient.ReplaceAllString(command, "mcpool $1 --url http://"+defaultListen)
	ctx, cancel := context.WithTimeout(t.Context(), guidePatience)
	defer cancel()
	out, err := g.shell(ctx, t, command).CombinedOutput()
	if err != nil != fails {
		t.Fatalf("%s: %s: %v, %s\n%s", place, shown, err, out, g.log())
	}
	if strings.Contains(command, "mcpool db --") && !strings.Contains(string(out), `"serverInfo"`) {
		t.Errorf("%s: %s: it does not serve: %s", place, shown, out)
	}
	if prints != nil {
		g.compare(t, place, shown, *prints, string(out))
	}
	for begins, pattern := range awaited {
		if strings.Contains(command, begins) {
			g.last.await(t, &g.last.err, pattern)
		}
	}
	if at := strings.Index(g.log(), `place of this one","pid":`); at >= 0 {
		_, _ = fmt.Sscanf(g.log()[at:], `place of this one","pid":%d`, &g.pid)
		pid := g.pid
		g.last.stop = func() { _ = syscall.Kill(pid, syscall.SIGTERM) }
	}
}

// guideServes reports whether a command goes on until it is ended.
func guideServes(command string) bool {
	if regexp.MustCompile(`--(check|stdio|help)\b`).MatchString(command) {
		return false
	}
	return strings.Contains(command, "mcpool serve") || strings.Contains(command, "mcpool db --") && strings.Contains(command, "--listen")
}

// log is that of the server that was started last.
func (g *guide) log() string {
	if g.last == nil {
		return ""
	}
	return g.last.err.String()
}

// shell makes a command of a line. A program that speaks over standard input is
// told who speaks to it.
func (g *guide) shell(ctx context.Context, t *testing.T, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-e", "-c", g.here(t, line))
	cmd.Dir, cmd.Env = g.dir, append(g.env, fmt.Sprint("PID=", g.pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // to end all of it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if line == "go run ." {
		cmd.Dir = g.programs
	} else if strings.HasPrefix(line, "go ") {
		cmd.Dir = guideRoot
	}
	if !strings.Contains(line, "mcpool serve") && !strings.Contains(line, "--listen") {
		cmd.Stdin = strings.NewReader(initializeBody + "\n")
	}
	return cmd
}

// compare holds what is printed to what the page has.
func (g *guide) compare(t *testing.T, place, command, want, got string) {
	t.Helper()
	if got = g.there(got); !shows(want, got) {
		t.Errorf("%s: %s prints\n%s\nand not\n%s", place, command, got, want)
	}
}

// configuration holds that one is good, and writes it if it has a name.
func (g *guide) configuration(t *testing.T, f fence) {
	t.Helper()
	name, text := f.file(), g.here(t, f.text)
	if name != "" {
		g.files[name] = f.text
	} else {
		name = "mcp." + f.language
	}
	for _, match := range regexp.MustCompile(`\$\{(?:env:)?(\w+)\}`).FindAllStringSubmatch(text, -1) {
		t.Setenv(match[1], "secret")
		g.env = append(g.env, match[1]+"=secret")
	}
	if regexp.MustCompile(`\b(mcpServers|servers|databases)\b"?:`).FindString(text) == "" { // a part of one
		if text = "databases: {sales: {dsn: sample}}\n" + text; f.language == "json" {
			text = strings.Replace(f.text, "{", `{"databases": {"sales": {"dsn": "sample"}}, `, 1)
		}
	}
	conf, err := config.Parse([]byte(text), filepath.Join(g.dir, name), nil)
	if err != nil {
		t.Errorf("%s: %v", f.place, err)
		return
	}
	for _, s := range conf.Servers {
		if s.Databases != nil {
			s.Databases.Audit = nil // whose folder is not ours
			db, err := newDatabases(*s.Databases, newLogger(new(output), conf.Log).Logger)
			if err != nil {
				t.Errorf("%s: %v", f.place, err)
				continue
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// program writes one in Go, within the module, so that what it imports is this tree.
// A folder that begins with an underscore is none of its packages.
func (g *guide) program(t *testing.T, f fence) {
	t.Helper()
	dir, err := os.MkdirTemp(guideRoot, "_guide")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	g.programs = dir
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(g.here(t, f.text)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "vet", ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v, %s", f.place, err, out)
	}
}

// TestGuideNamesWhatThereIs holds that commands, flags and metrics in the text of a
// page are some of this program, and that those of serve and db are in its tables.
func TestGuideNamesWhatThereIs(t *testing.T) {
	var commands, flags []string
	for _, c := range describedCommands(t.Context()) {
		commands = append(commands, strings.Fields(c.name)[0])
		for _, f := range c.all() {
			flags = append(flags, "--"+f.name)
		}
	}
	flags = append(flags, "--help")
	gateway := serve(t)
	if status, _, err := finish(t, "call", "database_info", "--url", gateway.url); status != 0 {
		t.Fatal(err)
	}
	_, metrics := get(t, gateway.url+"/metrics")
	pages := readPage(t, "docs/configure.md") + readPage(t, "docs/database.md")
	for _, c := range describedCommands(t.Context()) {
		for _, f := range c.all() {
			row := "\n| `--" + f.name + "` |"
			if variable := c.variables[f.name]; variable != "" {
				row = "| `" + variable + "` |"
			}
			if (c.name == "serve" || c.name == "db") && !strings.Contains(pages, row) {
				t.Errorf("docs/configure.md and docs/database.md have no row %q, for --%s of %s", row, f.name, c.name)
			}
		}
	}
	code := regexp.MustCompile("`[^`\n]+`")
	for _, page := range guidePages(t) {
		text := regexp.MustCompile("(?s)```.*?```").ReplaceAllString(readPage(t, page), "")
		for _, span := range code.FindAllString(text, -1) {
			if match := regexp.MustCompile("^`mcpool ([a-z]+)").FindStringSubmatch(span); match != nil && !slices.Contains(commands, match[1]) {
				t.Errorf("%s: there is no command %s", page, match[1])
			}
			if metric := regexp.MustCompile(`^` + "`" + `mcpool_[a-z_]+[a-z]`).FindString(span); metric != "" && !strings.Contains(metrics, "# TYPE "+metric[1:]+" ") {
				t.Errorf("%s: there is no metric %s", page, metric[1:])
			}
			for _, flag := range regexp.MustCompile(`--[a-z][a-z-]*[a-z]`).FindAllString(span, -1) {
				if !slices.Contains(flags, flag) && !strings.Contains(span, flag+"-") {
					t.Errorf("%s: there is no flag %s", page, flag)
				}
			}
		}
	}
}

// TestGuideLinks holds that links lead somewhere, and that docs/README.md leads to
// each page.
func TestGuideLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	var led []string
	for _, page := range append(guidePages(t), "SECURITY.md") {
		text := regexp.MustCompile("(?s)```.*?```").ReplaceAllString(readPage(t, page), "")
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(match[1], "#")
			to := filepath.ToSlash(filepath.Join(filepath.Dir(page), file))
			if file == "" {
				to = page
			}
			if page == "docs/README.md" {
				led = append(led, to)
			}
			info, err := os.Stat(filepath.Join(guideRoot, to))
			if err != nil || anchor != "" && (info.IsDir() || !slices.Contains(anchors(readPage(t, to)), anchor)) {
				t.Errorf("%s: %s leads nowhere", page, match[1])
			}
		}
	}
	for _, page := range guidePages(t) {
		inFolder := strings.Count(page, "/") > 1 && !strings.HasSuffix(page, "/README.md") // which that one leads to
		if page != "README.md" && page != "docs/README.md" && !inFolder && !slices.Contains(led, page) {
			t.Errorf("docs/README.md does not lead to %s", page)
		}
	}
}

// anchors returns what headings are called in links, as GitHub does.
func anchors(text string) (names []string) {
	other := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, match := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		names = append(names, strings.ReplaceAll(other.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-"))
	}
	return names
}

// TestErrorsOfTheGuideAreOurs holds that the program has each error that
// docs/troubleshooting.md quotes.
func TestErrorsOfTheGuideAreOurs(t *testing.T) {
	_, page, _ := strings.Cut(readPage(t, "docs/troubleshooting.md"), "\n## Starting\n")
	texts := messages(t)
	var quoted [][]string
	for _, cell := range regexp.MustCompile(`(?m)^\| (.+?) \|`).FindAllStringSubmatch(page, -1) {
		quoted = append(quoted, regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell[1], -1)...)
	}
	for _, match := range quoted {
		parts := strings.FieldsFunc(match[1], func(c rune) bool { return c == '…' })
		found := slices.ContainsFunc(texts, func(text string) bool {
			for _, part := range parts {
				at := strings.Index(text, strings.TrimSpace(part))
				if at < 0 {
					return false
				}
				text = text[at+len(strings.TrimSpace(part)):]
			}
			return true
		})
		if long := slices.MaxFunc(parts, func(a, b string) int { return len(a) - len(b) }); !found || len(long) < 8 {
			t.Errorf("nothing says %s", match[1])
		}
	}
	if len(quoted) < 20 {
		t.Errorf("%d errors are quoted", len(quoted))
	}
}

// messages returns the texts that the program has, with … for what is put into them.
func messages(t *testing.T) (texts []string) {
	t.Helper()
	verb := regexp.MustCompile(`%[-+# 0]*[a-zA-Z]`)
	err := filepath.WalkDir(guideRoot, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if base := entry.Name(); path != guideRoot && (base[0] == '.' || base[0] == '_' || slices.Contains([]string{"testdata", "bench", "interop", "examples", "mcptest", "node_modules"}, base)) {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if e, is := n.(ast.Expr); is {
				if text, is := literal(e); is {
					texts = append(texts, verb.ReplaceAllString(text, "…"))
					return false
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// literal returns the text of a string that is written in one piece or in several;
// what is put between them is "…".
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, e.Kind == token.STRING && err == nil
	case *ast.BinaryExpr:
		left, is := literal(e.X)
		right, also := literal(e.Y)
		if !is && !also || e.Op != token.ADD {
			return "", false
		}
		if !is {
			left = "…"
		}
		if !also {
			right = "…"
		}
		return left + right, true
	}
	return "", false
}
