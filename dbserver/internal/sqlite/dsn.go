package sqlite

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// A target is the database file that a DSN names.
type target struct {
	file      string // absolute path
	immutable bool   // the file cannot change: no locks are taken
}

// parseDSN reads a DSN: a path, sqlite://path or a file: URL. Its text is not
// passed on to the driver, whose own parameters can run any SQL (_pragma) and
// which drops mode=ro from a name that does not start with file:. Errors do
// not repeat the DSN, which may hold a password.
func parseDSN(dsn string) (target, error) {
	path, isURL := dsn, false
	switch scheme, rest, ok := strings.Cut(dsn, ":"); {
	case ok && strings.EqualFold(scheme, "sqlite") && strings.HasPrefix(rest, "//"):
		path, isURL = rest[2:], true
	case ok && strings.EqualFold(scheme, "file"):
		path, isURL = rest, true
		if host, ok := strings.CutPrefix(rest, "//"); ok {
			// https://www.sqlite.org/uri.html: the authority is empty or localhost
			path = strings.TrimPrefix(host, "localhost")
			if !strings.HasPrefix(path, "/") {
				return target{}, errors.New("the file: URL has a host: write file:/path or file:///path")
			}
		}
	case ok && strings.HasPrefix(rest, "//"):
		return target{}, fmt.Errorf("scheme %q is not supported: give the path of a SQLite file, sqlite://path or a file: URL", scheme)
	}
	var t target
	if isURL {
		var err error
		if path, err = t.parameters(path); err != nil {
			return target{}, err
		}
	}
	if path == "" || path == ":memory:" {
		return target{}, errors.New("a database in memory would be empty: give the path of a SQLite file")
	}
	if strings.IndexByte(path, 0) >= 0 {
		return target{}, errors.New("the path has a zero byte")
	}
	file, err := filepath.Abs(path)
	if err != nil {
		return target{}, err
	}
	t.file = file
	return t, nil
}

// parameters takes the query off a URL's path and decodes the path.
func (t *target) parameters(path string) (string, error) {
	path, _, _ = strings.Cut(path, "#")
	path, query, _ := strings.Cut(path, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", errors.New("the URL's parameters are not well formed")
	}
	for name, v := range values {
		switch {
		case name == "mode" && len(v) == 1 && (v[0] == "ro" || v[0] == "rw"): // which of both is not for the DSN to say
		case name == "immutable" && len(v) == 1 && (v[0] == "0" || v[0] == "1"):
			t.immutable = v[0] == "1"
		default:
			return "", fmt.Errorf("parameter %q is not supported: mode=ro and immutable=1 are", name)
		}
	}
	path, err = url.PathUnescape(path)
	if err != nil {
		return "", errors.New("the URL's path is not well formed")
	}
	return path, nil
}

// uri returns the name to open the file by, to read or to write; it is never
// created. It starts with file:, without which the mode has no effect. _dqs=0
// makes "name" an identifier always, so a misspelt column is an error and not a
// text.
func (t target) uri(writing bool) string {
	mode := "ro"
	if writing {
		mode = "rw"
	}
	uri := "file:" + (&url.URL{Path: t.file}).EscapedPath() + "?mode=" + mode + "&_defensive=1&_dqs=0"
	if t.immutable {
		uri += "&immutable=1"
	}
	return uri
}

// check says why the file cannot be opened, better than SQLite does.
func (t target) check() error {
	info, err := os.Stat(t.file)
	if err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory", t.file)
	}
	return err
}
