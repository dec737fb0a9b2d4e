// Package sqltext takes SQL apart into tokens, by the rules of four dialects.
// It tells where one statement ends and which words stand outside of quotes and
// comments; what a statement does is for the engine to say.
package sqltext

import "strings"

// A Dialect is how an engine writes SQL.
type Dialect int

const (
	SQLite Dialect = iota
	Postgres
	MySQL // and MariaDB, with backslashes as escapes and without ANSI_QUOTES
	SQLServer
)

// A Kind is what a token is.
type Kind int

const (
	Space Kind = iota
	Comment
	// Executable is a comment that MySQL or MariaDB runs: /*! and /*M!.
	Executable
	Semicolon
	Word   // a name or keyword
	Number // digits and what hangs on them
	Quoted // a name in quotes
	String // a text in quotes
	Param  // a placeholder with its name or number
	Other  // one character of anything else
)

// Next returns the kind of the token that starts at sql[i], and the index
// behind it. What is not ended reaches to the end of the text.
func (d Dialect) Next(sql string, i int) (Kind, int) {
	rest := sql[i:]
	switch c := rest[0]; {
	case isSpace(c):
		n := 1
		for n < len(rest) && isSpace(rest[n]) {
			n++
		}
		return Space, i + n
	case c == ';':
		return Semicolon, i + 1
	case d == SQLite && strings.HasPrefix(rest, "\ufeff"):
		return Space, i + len("\ufeff") // a byte-order mark, wherever it stands
	case strings.HasPrefix(rest, "--"):
		// MySQL wants a space or control character behind it (https://dev.mysql.com/doc/refman/8.4/en/comments.html).
		if d != MySQL || len(rest) == 2 || rest[2] <= ' ' || rest[2] == 0x7f {
			return Comment, i + d.line(rest)
		}
	case c == '#' && d == MySQL:
		return Comment, i + d.line(rest)
	case strings.HasPrefix(rest, "/*"):
		return d.comment(rest, i)
	case c == '\'':
		return String, i + quoted(rest, '\'', d == MySQL)
	case c == '"' && d == MySQL:
		return String, i + quoted(rest, '"', true)
	case c == '"':
		return Quoted, i + quoted(rest, '"', false)
	case c == '`' && (d == MySQL || d == SQLite):
		return Quoted, i + quoted(rest, '`', false)
	case c == '[' && d == SQLServer:
		return Quoted, i + quoted(rest, ']', false)
	case c == '[' && d == SQLite:
		return Quoted, i + until(rest, "]")
	case c == '$' && d == Postgres:
		return d.dollar(rest, i)
	case isDigit(c), c == '.' && len(rest) > 1 && isDigit(rest[1]):
		n := 1
		for n < len(rest) && (d.isName(rest[n]) || rest[n] == '.') && (d != Postgres || rest[n] != '$') {
			n++ // in PostgreSQL a text in dollar quotes may follow at once
		}
		return Number, i + n
	case c == ':' && d != SQLite && strings.HasPrefix(rest, "::"):
		return Other, i + 2 // a cast of PostgreSQL's, so that its second colon names nothing
	case c == ':' && d != SQLite && i > 0 && (d.isName(sql[i-1]) || sql[i-1] == ']' || sql[i-1] == ')'):
		return Other, i + 1 // a slice of PostgreSQL's: a[lower:upper]
	}
	if n := d.param(rest); n > 0 {
		return Param, i + n
	}
	if d.isName(rest[0]) {
		return d.word(rest, i)
	}
	return Other, i + 1
}

func (d Dialect) word(rest string, i int) (Kind, int) {
	n := 1
	for n < len(rest) && d.isName(rest[n]) {
		n++
	}
	if n == 1 && len(rest) > 1 && rest[1] == '\'' {
		switch c := rest[0] | 0x20; {
		case d == Postgres && c == 'e':
			return String, i + 1 + escaped(rest[1:])
		case d == Postgres && (c == 'b' || c == 'x' || c == 'n'), d == SQLServer && c == 'n', d == SQLite && c == 'x',
			d == MySQL && (c == 'n' || c == 'b' || c == 'x'):
			return String, i + 1 + quoted(rest[1:], '\'', d == MySQL)
		}
	}
	if d == Postgres && n == 1 && len(rest) > 2 && rest[0]|0x20 == 'u' && rest[1] == '&' && (rest[2] == '\'' || rest[2] == '"') {
		if rest[2] == '"' {
			return Quoted, i + 2 + quoted(rest[2:], '"', false)
		}
		return String, i + 2 + quoted(rest[2:], '\'', false)
	}
	return Word, i + n
}

// line returns the length of a comment that ends with its line.
func (d Dialect) line(rest string) int {
	if d == Postgres { // a carriage return ends it, too
		if n := strings.IndexAny(rest, "\r\n"); n >= 0 {
			return n + 1
		}
		return len(rest)
	}
	return until(rest, "\n")
}

// comment reads one in /* and */, which nest in PostgreSQL and SQL Server.
func (d Dialect) comment(rest string, i int) (Kind, int) {
	switch {
	case len(rest) == 2 && d == SQLite:
		return Other, i + 1 // at the very end it is a slash and a star
	case d == MySQL && (strings.HasPrefix(rest, "/*!") || strings.HasPrefix(rest, "/*M!")):
		return Executable, i + 2 + until(rest[2:], "*/")
	case d == MySQL || d == SQLite:
		return Comment, i + 2 + until(rest[2:], "*/")
	}
	n, _ := nested(rest)
	return Comment, i + n
}

// nested returns the length of a comment with others in it, and whether it ends.
func nested(rest string) (n int, ends bool) {
	depth := 1
	for n = 2; n < len(rest) && depth > 0; {
		switch {
		case strings.HasPrefix(rest[n:], "/*"):
			depth++
			n += 2
		case strings.HasPrefix(rest[n:], "*/"):
			depth--
			n += 2
		default:
			n++
		}
	}
	return n, depth == 0
}

// dollar reads a placeholder or a text in dollar quotes.
func (d Dialect) dollar(rest string, i int) (Kind, int) {
	n := 1
	for n < len(rest) && d.isName(rest[n]) && rest[n] != '$' {
		n++
	}
	if n < len(rest) && rest[n] == '$' && (n == 1 || !isDigit(rest[1])) {
		tag := rest[:n+1]
		return String, i + len(tag) + until(rest[len(tag):], tag)
	}
	if n > 1 && isDigit(rest[1]) {
		n = 1
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
		return Param, i + n
	}
	return Other, i + 1
}

// param returns the length of the placeholder that starts here, 0 for none.
func (d Dialect) param(rest string) int {
	n := 1
	switch c := rest[0]; {
	case c == '?' && d == MySQL:
		return 1
	case c == '?' && d == SQLite:
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
		return n
	case d == SQLite && (c == ':' || c == '@' || c == '$' || c == '#'):
		return variable(rest)
	case c == ':' && len(rest) > 1 && !isDigit(rest[1]), c == '@' && d == SQLServer && len(rest) > 1 && rest[1] != '@':
		for n < len(rest) && d.isName(rest[n]) {
			n++
		}
	}
	if n == 1 {
		return 0
	}
	return n
}

// variable returns the length of a variable of SQLite's, which may be one of
// Tcl's: $space::array(index). 0 is for none.
func variable(rest string) int {
	named := false
	for n := 1; n < len(rest); n++ {
		switch c := rest[n]; {
		case SQLite.isName(c):
			named = true
		case c == '(' && named:
			for n++; n < len(rest) && !isSpace(rest[n]) && rest[n] != ')'; n++ {
			}
			return min(n+1, len(rest))
		case strings.HasPrefix(rest[n:], "::"):
			n++
		case named:
			return n
		default:
			return 0
		}
	}
	if !named {
		return 0
	}
	return len(rest)
}

// quoted returns the length of what is in quotes, the quotes included. A quote
// is doubled to stand for itself, and where escapes is set a backslash takes
// away the meaning of what follows.
func quoted(rest string, quote byte, escapes bool) int {
	for n := 1; n < len(rest); n++ {
		switch {
		case escapes && rest[n] == '\\':
			n++
		case rest[n] == quote:
			if n+1 == len(rest) || rest[n+1] != quote {
				return n + 1
			}
			n++
		}
	}
	return len(rest)
}

// escaped returns the length of a text with escapes of PostgreSQL's. One that
// goes on behind the end of a line still has them
// (https://www.postgresql.org/docs/current/sql-syntax-lexical.html).
func escaped(rest string) int {
	n := quoted(rest, '\'', true)
	for next, ended := n, false; next < len(rest); {
		switch c := rest[next]; {
		case isSpace(c):
			ended = ended || c == '\n' || c == '\r'
			next++
		case strings.HasPrefix(rest[next:], "--"):
			ended = true
			next += Postgres.line(rest[next:])
		case c == '\'' && ended:
			n = next + quoted(rest[next:], '\'', true)
			next, ended = n, false
		default:
			return n
		}
	}
	return n
}

// until returns the length of s up to and with end, or of all of it.
func until(s, end string) int {
	if i := strings.Index(s, end); i >= 0 {
		return i + len(end)
	}
	return len(s)
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (d Dialect) isName(c byte) bool {
	return c == '_' || isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z' || c >= 0x80 ||
		c == '$' || c == '#' && d == SQLServer || c == '@' && d == SQLServer
}
