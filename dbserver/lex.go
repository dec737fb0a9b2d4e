package dbserver

import "strings"

// A tokenKind is what the lexer tells apart.
type tokenKind int

const (
	tokenSpace tokenKind = iota
	tokenComment
	tokenSemicolon
	tokenWord // a name, keyword or number, or a quoted name or text
	tokenOther
)

// lex returns the kind of the token that starts at sql[i], and the index
// behind it. The rules are those of SQLite's tokenizer: quotes are doubled to
// stand for themselves, [ ] has no escape, and a quote or comment that is not
// ended reaches to the end of the text.
func lex(sql string, i int) (tokenKind, int) {
	rest := sql[i:]
	switch c := rest[0]; {
	case isSpace(c):
		return tokenSpace, i + 1
	case c == ';':
		return tokenSemicolon, i + 1
	case strings.HasPrefix(rest, "--"):
		return tokenComment, i + until(rest, "\n")
	case strings.HasPrefix(rest, "/*") && len(rest) > 2: // at the very end it is a slash and a star
		return tokenComment, i + 2 + until(rest[2:], "*/")
	case c == '[':
		return tokenWord, i + until(rest, "]")
	case c == '\'' || c == '"' || c == '`':
		n := 1
		for n < len(rest) {
			n += until(rest[n:], string(c))
			if n >= len(rest) || rest[n] != c {
				break
			}
			n++ // doubled
		}
		return tokenWord, i + n
	case isName(c):
		n := 1
		for n < len(rest) && isName(rest[n]) {
			n++
		}
		return tokenWord, i + n
	}
	return tokenOther, i + 1
}

// until returns the length of s up to and with end, or of all of it.
func until(s, end string) int {
	if i := strings.Index(s, end); i >= 0 {
		return i + len(end)
	}
	return len(s)
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r'
}

func isName(c byte) bool {
	return c == '_' || c == '$' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' || c >= 0x80
}

// statement returns the first statement of a text, without what follows its
// last token, and whether nothing but space, comments and semicolons does.
func statement(sql string) (first string, only bool) {
	end, ended := 0, false
	for i := 0; i < len(sql); {
		kind, next := lex(sql, i)
		switch {
		case kind == tokenSemicolon:
			ended = end > 0
		case kind >= tokenWord && ended:
			return sql[:end], false
		case kind >= tokenWord:
			end = next
		}
		i = next
	}
	return sql[:end], true
}

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
		kind, next := lex(create, i)
		token := create[i:next]
		i = next
		switch {
		case kind == tokenSpace:
			fresh = fresh || token == "\n"
		case kind == tokenComment:
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
