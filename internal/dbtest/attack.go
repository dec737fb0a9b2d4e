package dbtest

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Files are the contents of the files of a directory, by their names.
func Files(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

// Attack runs the attacks of a corpus on a database whose files are in a
// directory, which is {dir} in them, and returns how many they are. Each has to
// end with the code that it wants, and to leave the files as they are and what
// the next caller sees. run returns the code, and all that was said.
func Attack(t testing.TB, corpus, dir string, run func(sql string) (code, said string), next func() string) (attacks int) {
	t.Helper()
	cases := Corpus(t, corpus)
	clean, before := next(), Files(t, dir)
	for _, c := range cases {
		sql := strings.ReplaceAll(c.SQL, "{dir}", dir)
		if code, said := run(sql); code != c.Want {
			t.Errorf("line %d: %s: got %s, want %s", c.Line, sql, said, c.Want)
		}
		if !maps.Equal(before, Files(t, dir)) {
			t.Fatalf("line %d: %s changed the files", c.Line, sql)
		}
		if got := next(); got != clean {
			t.Fatalf("after line %d, %s, the next caller sees %s", c.Line, sql, got)
		}
	}
	return len(cases)
}

// Allow runs the statements of a corpus, as Attack does. Each has to be let
// through, to yield the rows that it wants, if it wants some, and to leave the
// files as they are. run returns the rows, and why there are none.
func Allow(t testing.TB, corpus, dir string, run func(sql string) (rows, refused string)) {
	t.Helper()
	before := Files(t, dir)
	for _, c := range Corpus(t, corpus) {
		sql := strings.ReplaceAll(c.SQL, "{dir}", dir)
		if rows, refused := run(sql); refused != "" || c.Want != "" && rows != c.Want {
			t.Errorf("line %d: %s: got %s%s, want %s", c.Line, sql, rows, refused, c.Want)
		}
	}
	if !maps.Equal(before, Files(t, dir)) {
		t.Error("reading changed the files")
	}
}
