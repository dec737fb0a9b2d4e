package sqlite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseDSN(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dsn, want := range map[string]target{
		"/a/b.db":                            {file: "/a/b.db"},
		"b.db":                               {file: filepath.Join(here, "b.db")},
		"/a/b?mode=rwc&_pragma=x(1)#c%41.db": {file: "/a/b?mode=rwc&_pragma=x(1)#c%41.db"},
		"sqlite:///a/b.db":                   {file: "/a/b.db"},
		"sqlite://b.db":                      {file: filepath.Join(here, "b.db")},
		"file:/a/b.db":                       {file: "/a/b.db"},
		"file:///a/b%20c.db":                 {file: "/a/b c.db"},
		"file://localhost/a/b.db":            {file: "/a/b.db"},
		"FILE:/a/b.db?mode=ro&immutable=1#x": {file: "/a/b.db", immutable: true},
	} {
		if got, err := parseDSN(dsn); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", dsn, got, err)
		}
	}
}

func TestParseDSNRefuses(t *testing.T) {
	for dsn, says := range map[string]string{
		"":                                    "memory",
		":memory:":                            "memory",
		"file::memory:":                       "memory",
		"postgres://u:secret@host/db":         `"postgres" is not supported`,
		"mysql://u:secret@host/db":            "sqlite://path",
		"file://host/x.db":                    "host",
		"file:/x.db?mode=rwc":                 `"mode"`,
		"file:/x.db?mode=ro&mode=rwc":         `"mode"`,
		"file:/x.db?mode=memory&cache=shared": "not supported",
		"file:/x.db?_pragma=query_only(0)":    `"_pragma"`,
		"file:/x.db?vfs=unix-none":            `"vfs"`,
		"file:/x.db?_defensive=0":             `"_defensive"`,
		"sqlite:///x.db?_pragma=x;DELETE":     "parameters",
		"file:/x%zz.db":                       "path",
		"/x\x00.db":                           "zero byte",
		"file:/x%00.db":                       "zero byte",
	} {
		_, err := parseDSN(dsn)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want %q", dsn, err, says)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error shows the password: %v", dsn, err)
		}
	}
}
