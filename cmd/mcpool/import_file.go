package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/tailscale/hujson"
)

// maxClientFile bounds a client's file, in bytes.
const maxClientFile = 4 << 20

const byteOrderMark = "\xef\xbb\xbf"

// gatewayName is the entry of clients that leads to the pool.
const gatewayName = "mcpool"

// A clientFile is the file of a client, as it was read.
type clientFile struct {
	client *importClient
	path   string
	text   []byte
	names  []string // of its servers, in order
	all    map[string]any
}

// readClientFile reads a file. Errors have nothing of what is in it.
func readClientFile(c *importClient, path string) (*clientFile, error) {
	text, err := readRegular(path)
	if err != nil {
		return nil, err
	}
	f := &clientFile{client: c, path: path, text: text}
	if f.all, err = f.parse(text); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	section, is := f.all[c.section].(map[string]any)
	if f.all[c.section] != nil && !is {
		return nil, fmt.Errorf("%s: %s has no names in it", path, c.section)
	}
	if c.toml {
		meta, _ := toml.Decode(string(text), new(map[string]any)) // it was parsed
		for _, key := range meta.Keys() {
			if len(key) == 2 && key[0] == c.section {
				f.names = append(f.names, key[1])
			}
		}
		return f, nil
	}
	if section != nil {
		value, _ := hujson.Parse(bytes.TrimPrefix(text, []byte(byteOrderMark))) // likewise
		for _, m := range memberOf(&value, c.section).Value.(*hujson.Object).Members {
			f.names = append(f.names, m.Name.Value.(hujson.Literal).String())
		}
	}
	return f, nil
}

// readRegular reads a file of settings. From what is none it could wait for ever.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxClientFile+1))
	if err == nil && len(text) > maxClientFile {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxClientFile>>20)
	}
	return text, err
}

// parse reads all that is in a text.
func (f *clientFile) parse(text []byte) (map[string]any, error) {
	text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	all := map[string]any{}
	if f.client.toml {
		if _, err := toml.Decode(string(text), &all); err != nil {
			if at := (toml.ParseError{}); errors.As(err, &at) {
				return nil, fmt.Errorf("it is not TOML, on line %d", at.Position.Line)
			}
			return nil, errors.New("it is not TOML")
		}
		return all, nil
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return all, nil
	}
	standard, err := hujson.Standardize(bytes.Clone(text))
	if err != nil {
		return nil, errors.New("it is not JSON, with or without comments")
	}
	decoder := json.NewDecoder(bytes.NewReader(standard))
	decoder.UseNumber()
	if err := decoder.Decode(&all); err != nil || all == nil {
		return nil, errors.New("it is not a JSON object")
	}
	return all, nil
}

// entry is a copy of one of its servers; nil for what is none.
func (f *clientFile) entry(name string) map[string]any {
	section, _ := f.all[f.client.section].(map[string]any)
	text, err := json.Marshal(section[name])
	if err != nil {
		return nil
	}
	var entry map[string]any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	_ = decoder.Decode(&entry) // it was made by us
	return entry
}

// memberOf is that of an object; nil if it has none of this name.
func memberOf(v *hujson.Value, name string) *hujson.Value {
	if object, is := v.Value.(*hujson.Object); is {
		for i := range object.Members {
			if object.Members[i].Name.Value.(hujson.Literal).String() == name {
				return &object.Members[i].Value
			}
		}
	}
	return nil
}

// rewritten is the text with one entry in place of those that moved. All else
// stays as it is, byte for byte where the format lets it.
func (f *clientFile) rewritten(moved []string, to target) ([]byte, error) {
	gone := map[string]bool{}
	for _, name := range moved {
		gone[name] = true
	}
	entry := f.client.gateway(to)
	edit := f.rewriteJSON
	if f.client.toml {
		edit = f.rewriteTOML
	}
	text, err := edit(gone, entry)
	if err != nil {
		return nil, err
	}
	// What was meant, and nothing else, must have changed.
	after, err := f.parse(text)
	if err != nil {
		return nil, f.byHand()
	}
	want, _ := f.parse(f.text)
	section, _ := want[f.client.section].(map[string]any)
	if section == nil {
		section = map[string]any{}
		want[f.client.section] = section
	}
	for name := range gone {
		delete(section, name)
	}
	section[gatewayName] = entry
	if !reflect.DeepEqual(after, want) {
		return nil, f.byHand()
	}
	return text, nil
}

func (f *clientFile) byHand() error {
	return hinted{fmt.Errorf("%s is written in a way that is not understood well enough to change it", f.path),
		"take its servers out by hand, and see docs/clients for what to write"}
}

func (f *clientFile) rewriteJSON(gone map[string]bool, entry map[string]any) ([]byte, error) {
	text, marked := bytes.CutPrefix(f.text, []byte(byteOrderMark))
	value, err := hujson.Parse(text)
	if err != nil {
		return nil, f.byHand()
	}
	standard := value.IsStandard()
	object := memberOf(&value, f.client.section).Value.(*hujson.Object)
	var kept []hujson.ObjectMember
	var space hujson.Extra // before the first that goes
	at := -1
	for _, m := range object.Members {
		if name := m.Name.Value.(hujson.Literal).String(); gone[name] || name == gatewayName {
			if at < 0 {
				at, space = len(kept), m.Name.BeforeExtra
			}
			continue
		}
		kept = append(kept, m)
	}
	if at < 0 {
		at = len(kept)
	}
	if line := bytes.LastIndexByte(space, '\n'); line >= 0 { // without the comments of what goes
		space = space[line:]
		if bytes.Contains(f.text, []byte("\r\n")) {
			space = append([]byte("\r"), space...)
		}
	} else {
		space = nil
	}
	var made []byte
	if space == nil { // all in one line
		made, _ = json.Marshal(entry)
	} else {
		indent := strings.TrimLeft(string(space), "\r\n")
		unit := "  "
		if strings.HasPrefix(indent, "\t") {
			unit = "\t"
		}
		made, _ = json.MarshalIndent(entry, indent, unit)
		if bytes.Contains(f.text, []byte("\r\n")) {
			made = bytes.ReplaceAll(made, []byte("\n"), []byte("\r\n"))
		}
	}
	inner, err := hujson.Parse(made)
	if err != nil {
		return nil, err
	}
	inner.BeforeExtra = hujson.Extra(" ")
	name := hujson.Value{BeforeExtra: space, Value: hujson.String(gatewayName)}
	object.Members = append(kept[:at:at], append([]hujson.ObjectMember{{Name: name, Value: inner}}, kept[at:]...)...)
	if standard && !value.IsStandard() {
		value.Standardize()
	}
	out := value.Pack()
	if marked {
		out = append([]byte(byteOrderMark), out...)
	}
	return out, nil
}

// rewriteTOML takes whole tables out, with those below them.
func (f *clientFile) rewriteTOML(gone map[string]bool, entry map[string]any) ([]byte, error) {
	var made bytes.Buffer
	end := "\n"
	if bytes.Contains(f.text, []byte("\r\n")) {
		end = "\r\n"
	}
	fmt.Fprintf(&made, "[%s.%s]%s", f.client.section, gatewayName, end)
	for key, value := range entry {
		text, _ := json.Marshal(value) // a string, which TOML writes likewise
		fmt.Fprintf(&made, "%s = %s%s", key, text, end)
	}
	var kept, skipped []string
	skipping, placed := false, false
	flush := func() { // comments at the end of a table are about what comes next
		from := len(skipped)
		for from > 0 && (strings.TrimSpace(skipped[from-1]) == "" || strings.HasPrefix(strings.TrimSpace(skipped[from-1]), "#")) {
			from--
		}
		kept, skipped = append(kept, skipped[from:]...), nil
	}
	for line := range strings.Lines(string(f.text)) {
		if key := tableName(line); key != nil {
			goes := len(key) > 1 && key[0] == f.client.section && (gone[key[1]] || key[1] == gatewayName)
			if goes {
				skipped = nil // what is said before it is about it
			} else {
				flush()
			}
			skipping = goes
			if skipping && !placed {
				kept, placed = append(kept, made.String()), true
			}
		}
		if skipping {
			skipped = append(skipped, line)
		} else {
			kept = append(kept, line)
		}
	}
	flush()
	return []byte(strings.Join(kept, "")), nil
}

// tableName is the name that a line begins a table of, nil for another line.
func tableName(line string) toml.Key {
	if !strings.HasPrefix(strings.TrimSpace(line), "[") {
		return nil
	}
	meta, err := toml.Decode(line, new(map[string]any))
	if keys := meta.Keys(); err == nil && len(keys) > 0 {
		return keys[len(keys)-1]
	}
	return nil
}

// replaceFile puts text in the place of a file, all at once, and returns where
// the file that was there is kept; "" if there was none. It changes nothing if
// the file is not what it was.
func replaceFile(path string, before, text []byte, now time.Time) (backup string, err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a link stays one
	}
	mode := os.FileMode(0o600) // there are secrets in it
	info, err := os.Stat(path)
	switch {
	case err == nil:
		mode = info.Mode().Perm()
		there, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(there, before) {
			return "", fmt.Errorf("%s has been changed meanwhile, and is left as it is", path)
		}
		backup = path + ".bak-" + now.UTC().Format("20060102T150405Z")
		if err := writeNew(backup, before, mode); err != nil {
			return "", err
		}
	case before != nil || !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	made, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	defer os.Remove(made.Name())
	_, err = made.Write(text)
	if err = errors.Join(err, made.Chmod(mode), made.Sync(), made.Close()); err != nil {
		return "", err
	}
	return backup, os.Rename(made.Name(), path)
}

// writeNew writes a file that must not be there.
func writeNew(path string, text []byte, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}

// secretKeys are those of an entry whose strings are not for a screen.
var secretKeys = map[string]bool{"env": true, "headers": true, "http_headers": true, "auth": true}

// secretWords are parts of the names of what is secret.
const secretWords = `(?:token|secret|passw|key|auth|credential)`

var (
	secretArg = regexp.MustCompile(`(?i)` + secretWords + `.*[=:]`)
	// secretFlag has a secret behind it, and secretFlagged in it: a header, a
	// variable or a user.
	secretFlag    = regexp.MustCompile(`(?i)^-.*` + secretWords + `[^=:]*$|^(?:-[Hkpu]|--headers?|--user)$`)
	secretFlagged = regexp.MustCompile(`^(?:-[Hkpu].|--headers?=|--user=)`)
	// opaque is what no name is, and what tokens are.
	opaque = regexp.MustCompile(`[A-Za-z0-9_-]{20,}`)
	// secretMember is a member whose name says that it is secret, wherever it
	// stands, in a comment also.
	secretMember = regexp.MustCompile(`(?i)(["']?[\w.-]*` + secretWords + `[\w.-]*["']?\s*[:=]\s*)(?:"(?:[^"\\\n]|\\.)+"|'[^'\n]+')`)
	userOfURL    = regexp.MustCompile(`://[^/\s"']*@`)
	// written is a string as JSON and TOML write it.
	written = regexp.MustCompile(`"(?:[^"\\\n]|\\.)*"`)
)

// isOpaque reports whether a text has what looks like a token.
func isOpaque(text string) bool {
	return slices.ContainsFunc(opaque.FindAllString(text, -1), func(part string) bool { return strings.ContainsAny(part, "0123456789") })
}

// secretsOf collects what an entry has that may be secret.
func secretsOf(entry map[string]any) (secrets []string) {
	for key := range secretKeys {
		secrets = append(secrets, stringsOf(entry[key])...)
	}
	args, _ := entry["args"].([]any)
	for i, arg := range args {
		text, _ := arg.(string)
		before := ""
		if i > 0 {
			before, _ = args[i-1].(string)
		}
		inURL := strings.Contains(text, "://") && strings.ContainsAny(text, "@?")
		variable := (before == "-e" || before == "--env") && strings.Contains(text, "=") || strings.HasPrefix(text, "--env=")
		if inURL || variable || isOpaque(text) || secretArg.MatchString(text) || secretFlag.MatchString(before) || secretFlagged.MatchString(text) {
			secrets = append(secrets, text)
		}
	}
	for _, key := range []string{"url", "httpUrl"} {
		if url, _ := entry[key].(string); strings.ContainsAny(url, "@?") || isOpaque(url) {
			secrets = append(secrets, url)
		}
	}
	return secrets
}

// stringsOf are all strings in a value.
func stringsOf(value any) (list []string) {
	switch v := value.(type) {
	case string:
		list = append(list, v)
	case []any:
		for _, inner := range v {
			list = append(list, stringsOf(inner)...)
		}
	case map[string]any:
		for _, inner := range v {
			list = append(list, stringsOf(inner)...)
		}
	}
	return list
}

// masked is a text without secrets, each written as *** in the quotes that it
// has in JSON or TOML.
func masked(text string, secrets []string) string {
	text = written.ReplaceAllStringFunc(text, func(quoted string) string { // some write / as \/, or letters by their numbers
		var plain string
		if json.Unmarshal([]byte(quoted), &plain) == nil && plain != "" && slices.Contains(secrets, plain) {
			return `"***"`
		}
		return quoted
	})
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		text = strings.ReplaceAll(text, `"`+secret+`"`, `"***"`)
		text = strings.ReplaceAll(text, `'`+secret+`'`, `'***'`)
	}
	return userOfURL.ReplaceAllString(secretMember.ReplaceAllString(text, `$1"***"`), "://***@")
}
