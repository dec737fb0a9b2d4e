package sqlserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// An entry is a statement of a corpus.
type entry struct {
	sql  string
	code string // of the error that is expected, empty for none
	by   string // plan or role, empty where the words tell
}

func corpus(t testing.TB, name string) []entry {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "testdata", "corpus", name))
	if err != nil {
		t.Fatal(err)
	}
	var list []entry
	for part := range strings.SplitSeq(string(content), "\n---\n") {
		var e entry
		var lines []string
		for line := range strings.Lines(part) {
			if expected, ok := strings.CutPrefix(line, "#:"); ok {
				e.code, e.by, _ = strings.Cut(strings.TrimSpace(expected), " ")
			} else if !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
		e.sql = strings.TrimSuffix(strings.Join(lines, ""), "\n")
		list = append(list, e)
	}
	return list
}

func TestWordsOfAttacksAreRefused(t *testing.T) {
	list := corpus(t, "sqlserver-attack.txt")
	if len(list) < 80 {
		t.Fatalf("%d attacks", len(list))
	}
	for _, e := range list {
		stmt, err := scan(e.sql, 0)
		if err == nil {
			err = stmt.reads(&engine.Policy{})
		}
		want := e.code
		if e.by != "" {
			want = ""
		}
		if code(err) != want {
			t.Errorf("%q: got %v, want %q", e.sql, err, want)
		}
	}
}

func TestWordsOfReadsPass(t *testing.T) {
	list := corpus(t, "sqlserver-allow.txt")
	if len(list) < 40 {
		t.Fatalf("%d reads", len(list))
	}
	for _, e := range list {
		stmt, err := scan(e.sql, 0)
		if err == nil {
			err = stmt.reads(&engine.Policy{})
		}
		if err != nil {
			t.Errorf("%q: %v", e.sql, err)
		}
	}
}

// FuzzScan holds that a statement that passes is read in one way only: where
// INTO stands in it, it is in quotes, in a comment, or part of a name.
func FuzzScan(f *testing.F) {
	for _, s := range []string{" ", "\n", "1", "/**/", "--\n", "'a'", "[a]", `"a"`, "$", "@p1", "0x", "1e", ".", "\u00a0", "\r", "]", "N'", "/*/*"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, before, behind string) {
		stmt, err := scan("SELECT "+before+"INTO"+behind+" x", 0)
		if err != nil || stmt.reads(&engine.Policy{}) != nil {
			return
		}
		for _, token := range stmt.tokens {
			upper := strings.ToUpper(token.text)
			switch {
			case token.kind == sqltext.String || token.kind == sqltext.Quoted || !strings.Contains(upper, "INTO"):
			case token.kind == sqltext.Word && upper != "INTO" && upper[0] != '$':
			case token.kind == sqltext.Param:
			default:
				t.Errorf("%q passes with the token %q", stmt.sql, token.text)
			}
		}
	})
}
