package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tailscale/hujson"

	"github.com/mcpool-dev/mcpool/config"
)

func runImport(_ context.Context, args []string, std stdio) error {
	f := newFlags(std, "import [flags]", `Read the servers of the MCP clients of this machine into a configuration of
mcpool; with --rewrite, have the clients reach them through the pool. What would
change is shown, without secrets, and done only with --write. Of each file that
is changed a copy is kept beside it, with .bak-TIME behind its name.

The clients are `+strings.Join(clientNames(), ", ")+`.`)
	output := f.String("output", "", "`file` to write the configuration to, or - to print it (default mcpool.json in the folder of settings)")
	rewrite := f.Bool("rewrite", false, "have the clients reach their servers through the pool")
	write := f.Bool("write", false, "write the files")
	clients := f.list("clients", "clients to look at; all if not given")
	url := f.String("url", "http://"+defaultListen+"/mcp", "`URL` that clients are to reach the pool at")
	var named []string
	f.Func("from", "`CLIENT=FILE` to read in place of where the client keeps its own, such as that of a project; may be given several times", func(s string) error {
		named = append(named, s)
		return nil
	})
	if err := f.parse(args, 0); err != nil {
		return err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return err
	}
	at := place{runtime.GOOS, home, os.Getenv}
	printing := *output == "-"
	if printing && (*rewrite || *write) {
		return usagef("--output -: the configuration is printed, so there is nothing for --write and --rewrite to do")
	}
	path, err := filepath.Abs(cmp.Or(*output, filepath.Join(at.settings(), "mcpool", "mcpool.json")))
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	i := &importer{to: target{url: *url, command: self, config: path}, std: std}
	if err := i.read(at, *clients, named); err != nil {
		return err
	}
	if printing {
		text, err := i.configuration(nil)
		if err != nil {
			return err
		}
		i.tell(std.err)
		_, err = std.out.Write(text)
		return err
	}
	if err := i.plan(path, *rewrite); err != nil {
		return err
	}
	i.tell(std.out)
	if len(i.changes) == 0 {
		fmt.Fprintln(std.out, "There is nothing to change.")
		return nil
	}
	if !*write {
		for _, c := range i.changes {
			fmt.Fprintf(std.out, "\n%s", c.diff(i.secrets))
		}
		fmt.Fprintln(std.out, "\nNothing was written: --write does it.")
		return nil
	}
	return i.write(time.Now())
}

// An importer brings servers of clients into one configuration.
type importer struct {
	to      target
	std     stdio
	files   []*clientFile
	moved   [][]string // of each file, the names of its servers that are taken
	servers []imported
	told    []string
	secrets []string
	changes []change
}

// An imported is a server, as it stands in our file.
type imported struct {
	name  string
	entry map[string]any
}

// A change is a file to be written.
type change struct {
	path          string
	before, after []byte
}

// read reads the files of clients that there are.
func (i *importer) read(at place, clients, named []string) error {
	for _, name := range clients {
		if !slices.Contains(clientNames(), name) {
			return usagef("--clients: there is no %q: there are %s", name, strings.Join(clientNames(), ", "))
		}
	}
	paths := map[string][]string{}
	for _, s := range named {
		name, path, ok := strings.Cut(s, "=")
		if !ok || !slices.Contains(clientNames(), name) || path == "" {
			return usagef("--from %q: want CLIENT=FILE, with one of %s", s, strings.Join(clientNames(), ", "))
		}
		paths[name] = append(paths[name], path)
	}
	for n := range importClients {
		c := &importClients[n]
		if len(clients) > 0 && !slices.Contains(clients, c.name) || len(clients) == 0 && len(named) > 0 && paths[c.name] == nil {
			continue
		}
		given := paths[c.name]
		if given == nil {
			given = []string{c.path(at)}
		}
		for _, path := range given {
			file, err := readClientFile(c, path)
			if errors.Is(err, os.ErrNotExist) && paths[c.name] == nil {
				i.told = append(i.told, fmt.Sprintf("%s: not here (%s)", c.title, path))
				continue
			}
			if err != nil && paths[c.name] == nil && len(clients) == 0 {
				i.told = append(i.told, printable(fmt.Sprintf("%s: skipped: %v; --clients names those to look at", c.title, err)))
				continue
			}
			if err != nil {
				return hinted{err, "--clients names those to look at, and --from another file of one"}
			}
			i.take(file)
		}
	}
	return nil
}

// take takes in what there is in a file, as far as we can serve it.
func (i *importer) take(file *clientFile) {
	i.files = append(i.files, file)
	var moved []string
	for _, name := range file.names {
		entry := file.entry(name)
		i.secrets = append(i.secrets, secretsOf(entry)...)
		if entry == nil {
			i.tellOf(file, name, "stays: it is no server")
			continue
		}
		if off := file.client.off; off != nil && off(file, name) {
			i.tellOf(file, name, "stays: it is disabled")
			continue
		}
		ours, err := file.client.ours(name, entry, i.to)
		if err == nil {
			i.secrets = append(i.secrets, secretsOf(ours)...)
			err = served(map[string]any{name: ours})
		}
		if errors.Is(err, errOurs) {
			continue
		}
		if err != nil {
			why := strings.ReplaceAll(strings.ReplaceAll(err.Error(), "mcpool.json:1: mcpServers."+name+".", ""), "\n", "; ")
			i.tellOf(file, name, "stays: "+masked(why, append(stringsOf(entry), stringsOf(ours)...)))
			continue
		}
		moved = append(moved, name)
		i.tellOf(file, name, "is taken"+i.add(name, file.client.name, ours))
	}
	i.moved = append(i.moved, moved)
	if len(file.names) == 0 {
		i.told = append(i.told, fmt.Sprintf("%s: no servers (%s)", file.client.title, file.path))
	}
}

func (i *importer) tellOf(file *clientFile, name, what string) {
	i.told = append(i.told, printable(fmt.Sprintf("%s: %s %s", file.client.title, name, what)))
}

// served reports whether we can serve servers.
func served(servers map[string]any) error {
	text, err := json.Marshal(map[string]any{"mcpServers": servers})
	if err != nil {
		return err
	}
	_, err = config.Parse(text, "mcpool.json", nil)
	return err
}

// add adds a server, and returns what is to be said of that. One that two
// clients have in the same way is one.
func (i *importer) add(name, client string, entry map[string]any) string {
	clean := strings.Trim(strings.Map(func(c rune) rune {
		if notInName(c) {
			return '-'
		}
		return c
	}, name), "-")
	for _, candidate := range []string{clean, clean + "-" + client} {
		at := slices.IndexFunc(i.servers, func(s imported) bool { return s.name == candidate })
		if at < 0 {
			i.servers = append(i.servers, imported{candidate, entry})
			if candidate != name {
				return " as " + candidate
			}
			return ""
		}
		if reflect.DeepEqual(i.servers[at].entry, entry) {
			return ", as the one of before"
		}
	}
	for n := 2; ; n++ {
		if candidate := fmt.Sprintf("%s-%d", clean, n); !slices.ContainsFunc(i.servers, func(s imported) bool { return s.name == candidate }) {
			i.servers = append(i.servers, imported{candidate, entry})
			return " as " + candidate
		}
	}
}

// configuration is our file with the servers in it that were taken. What is there
// already stays as it is.
func (i *importer) configuration(before []byte) ([]byte, error) {
	if len(bytes.TrimSpace(before)) == 0 {
		before = []byte("{\n  \"mcpServers\": {}\n}\n")
	}
	value, err := hujson.Parse(bytes.Clone(before))
	if err != nil {
		return nil, fmt.Errorf("%s is not JSON", i.to.config)
	}
	section := memberOf(&value, "mcpServers")
	if section == nil {
		return nil, hinted{fmt.Errorf("%s has no mcpServers to add to", i.to.config), "--output names another file"}
	}
	object, is := section.Value.(*hujson.Object)
	if !is {
		return nil, fmt.Errorf("%s: mcpServers has no names in it", i.to.config)
	}
	for _, s := range i.servers {
		if memberOf(section, s.name) != nil {
			continue
		}
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("    ", "  ")
		if err := encoder.Encode(s.entry); err != nil {
			return nil, err
		}
		inner, err := hujson.Parse(bytes.TrimSpace(text.Bytes()))
		if err != nil {
			return nil, err
		}
		inner.BeforeExtra = hujson.Extra(" ")
		object.Members = append(object.Members, hujson.ObjectMember{Name: hujson.Value{BeforeExtra: hujson.Extra("\n    "), Value: hujson.String(s.name)}, Value: inner})
	}
	if len(object.Members) > 0 && !bytes.Contains(object.AfterExtra, []byte("\n")) {
		object.AfterExtra = append(object.AfterExtra, "\n  "...)
	}
	text := value.Pack()
	if len(i.servers) > 0 {
		if _, err := config.Parse(text, i.to.config, nil); err != nil {
			return nil, err
		}
	}
	return text, nil
}

// plan finds out what is to be written.
func (i *importer) plan(path string, rewrite bool) error {
	before, err := readRegular(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, f := range i.files {
		if f.path == path {
			return usagef("--output %s: that is the file of %s: the pool would start itself", path, f.client.title)
		}
	}
	if len(i.servers) == 0 {
		return nil
	}
	after, err := i.configuration(before)
	if err != nil {
		return err
	}
	if !bytes.Equal(before, after) {
		i.changes = append(i.changes, change{path, before, after})
	}
	if !rewrite {
		return nil
	}
	for n, f := range i.files {
		if len(i.moved[n]) == 0 {
			continue
		}
		text, err := f.rewritten(i.moved[n], i.to)
		if err != nil {
			return err
		}
		i.changes = append(i.changes, change{f.path, f.text, text})
		settings, _ := f.all["mcp"].(map[string]any)
		if allowed, is := settings["allowed"].([]any); is && !slices.Contains(allowed, any(gatewayName)) { // of Gemini CLI
			i.told = append(i.told, fmt.Sprintf("%s: add %q to mcp.allowed of %s, or it will not use it", f.client.title, gatewayName, f.path))
		}
	}
	return nil
}

func (i *importer) tell(w io.Writer) {
	for _, line := range i.told {
		fmt.Fprintln(w, line)
	}
}

// write makes the changes: our own file first, so that no client is led to what
// is not there.
func (i *importer) write(now time.Time) error {
	if err := os.MkdirAll(filepath.Dir(i.to.config), 0o700); err != nil {
		return err
	}
	for _, c := range i.changes {
		backup, err := replaceFile(c.path, c.before, c.after, now)
		if err != nil {
			return err
		}
		fmt.Fprintf(i.std.out, "wrote %s", c.path)
		if backup != "" {
			fmt.Fprintf(i.std.out, "; what was there is %s", backup)
		}
		fmt.Fprintln(i.std.out)
	}
	fmt.Fprintf(i.std.out, "%s serve --config %s serves them\n", self(), i.to.config)
	return nil
}

// diff is a change for people, line by line, without secrets.
func (c change) diff(secrets []string) string {
	before, after := strings.Split(masked(string(c.before), secrets), "\n"), strings.Split(masked(string(c.after), secrets), "\n")
	if len(c.before) == 0 {
		before = nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", c.path, c.path)
	marked := diffLines(before, after)
	const around = 3
	shown := false
	for n, line := range marked {
		near := slices.ContainsFunc(marked[max(0, n-around):min(len(marked), n+around+1)], func(l string) bool { return l[0] != ' ' })
		if near {
			fmt.Fprintln(&b, printable(strings.ReplaceAll(strings.TrimRight(line, "\r"), "\t", "    ")))
		} else if shown {
			fmt.Fprintln(&b, "  …")
		}
		shown = near
	}
	return b.String()
}

// mostCells bounds the table of a comparison.
const mostCells = 4 << 20

// diffLines marks lines that went with -, that came with + and others with a
// space, by a longest common subsequence.
func diffLines(a, b []string) []string {
	var head, tail []string
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head, a, b = append(head, " "+a[0]), a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, " "+a[len(a)-1])
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	slices.Reverse(tail)
	out := head
	if len(a)*len(b) > mostCells {
		for _, line := range a {
			out = append(out, "-"+line)
		}
		for _, line := range b {
			out = append(out, "+"+line)
		}
		return append(out, tail...)
	}
	longest := make([][]int, len(a)+1)
	for n := range longest {
		longest[n] = make([]int, len(b)+1)
	}
	for x := len(a) - 1; x >= 0; x-- {
		for y := len(b) - 1; y >= 0; y-- {
			if a[x] == b[y] {
				longest[x][y] = longest[x+1][y+1] + 1
			} else {
				longest[x][y] = max(longest[x+1][y], longest[x][y+1])
			}
		}
	}
	for x, y := 0, 0; x < len(a) || y < len(b); {
		switch {
		case x < len(a) && y < len(b) && a[x] == b[y]:
			out = append(out, " "+a[x])
			x, y = x+1, y+1
		case y == len(b) || x < len(a) && longest[x+1][y] >= longest[x][y+1]:
			out = append(out, "-"+a[x])
			x++
		default:
			out = append(out, "+"+b[y])
			y++
		}
	}
	return append(out, tail...)
}
