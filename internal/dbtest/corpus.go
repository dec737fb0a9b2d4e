package dbtest

import (
	"os"
	"strings"
	"testing"
)

// A Case is a statement of a corpus.
type Case struct {
	SQL  string
	Want string // what is expected: the lines that start with "#:", without it
	Line int    // of the file, where the case starts
}

// Corpus reads the cases of a file. They stand between lines of three dashes.
// In front of the SQL are lines with # (a comment) or #: (what is expected).
func Corpus(t testing.TB, path string) []Case {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var (
		list []Case
		want []string
		text []string
		line = 1
	)
	end := func(next int) {
		if sql := strings.Join(text, "\n"); sql != "" {
			list = append(list, Case{SQL: sql, Want: strings.Join(want, "\n"), Line: line})
		}
		want, text, line = nil, nil, next
	}
	for i, l := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		expected, isExpected := strings.CutPrefix(l, "#:")
		switch {
		case l == "---":
			end(i + 2)
		case text == nil && isExpected:
			want = append(want, strings.TrimSpace(expected))
		case text == nil && (l == "" || strings.HasPrefix(l, "#")):
		default:
			text = append(text, l)
		}
	}
	end(0)
	return list
}
