package sqlite

import (
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// comments reads the comments of a CREATE TABLE statement, which SQLite stores
// as it was written. A column's is the one behind its definition, on the same
// line; the table's are those before the first column. Keys are the names of
// columns in lower case.
func comments(create string) (table string, columns map[string]string) {
	columns = map[string]string{}
	var (
		depth    int
		name     string // of the definition that the line belongs to
		starting bool   // a definition may start here
		fresh    = true // the line has no token yet
	)
	for i := 0; i < len(create); {
		kind, next := sqltext.SQLite.Next(create, i)
		token := create[i:next]
		i = next
		switch {
		case kind == sqltext.Space:
			fresh = fresh || strings.Contains(token, "\n")
		case kind == sqltext.Comment:
			said := commentText(token)
			switch {
			case depth > 0 && name == "":
				table = joinWords(table, said)
			case depth > 0 && !fresh:
				columns[name] = joinWords(columns[name], said)
			}
			fresh = strings.HasSuffix(token, "\n")
		default:
			fresh = false
			switch {
			case token == "(":
				depth++
				starting = depth == 1
			case token == ")":
				depth--
			case token == "," && depth == 1:
				starting = true
			case starting:
				name, starting = strings.ToLower(unquoteName(token)), false
			}
		}
	}
	return table, columns
}

func commentText(token string) string {
	if s, ok := strings.CutPrefix(token, "--"); ok {
		return strings.TrimSpace(s)
	}
	return strings.TrimSpace(strings.TrimSuffix(token[2:], "*/"))
}

func joinWords(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " " + b
}

func unquoteName(token string) string {
	switch q := token[0]; q {
	case '[':
		return strings.TrimSuffix(token[1:], "]")
	case '"', '`', '\'':
		inner := strings.TrimSuffix(token[1:], string(q))
		return strings.ReplaceAll(inner, string([]byte{q, q}), string(q))
	}
	return token
}
