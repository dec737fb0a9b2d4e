package sqltext

import "testing"

// A text that goes on in a later line keeps its backslashes
// (https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS).
func TestTextsOfPostgresGoOnInLaterLines(t *testing.T) {
	for sql, want := range map[string]string{
		"E'a'\n'\\'' || f()":               "E'a'\n'\\''",
		"e'a' \t\r\n  -- '; x\n 'b\\'c' d": "e'a' \t\r\n  -- '; x\n 'b\\'c'",
		"E'a'\n'b'\n'c\\'' d":              "E'a'\n'b'\n'c\\''",
		"E'a' 'b\\'' d":                    "E'a'",
		"E'a' -- ' x\n'b\\'c' d":           "E'a' -- ' x\n'b\\'c'",
		"E'a' /* x */\n'b\\'' d":           "E'a'",
		"E'a'\n x":                         "E'a'",
		"E'a'\n":                           "E'a'",
		"E'a'\n--":                         "E'a'",
	} {
		if kind, end := Postgres.Next(sql, 0); kind != String || sql[:end] != want {
			t.Errorf("%q: got %q, want %q", sql, sql[:end], want)
		}
	}
}
