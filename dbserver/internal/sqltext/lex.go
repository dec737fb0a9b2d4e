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
	case strings.HasPrefix(rest, "--"):
		// MySQL wants a space behind it (https://dev.mysql.com/doc/refman/8.4/en/comments.html).
		if d != MySQL || len(rest) == 2 || isSpace(rest[2]) || rest[2] < ' ' {
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
		for n < len(rest) && (d.isName(rest[n]) || rest[n] == '.') {
			n++
		}
		return Number, i + n
	case d.isName(c):
		return d.word(rest, i)
	case d.isParam(rest):
		n := 1
		for n < len(rest) && d.isName(rest[n]) {
			n++
		}
		return Param, i + n
	case c == ':' && strings.HasPrefix(rest, "::"):
		return Other, i + 2 // a cast of PostgreSQL's, so that its second colon names nothing
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
			n := 1 + quoted(rest[1:], '\'', true)
			for more := continued(rest[n:]); more > 0; more = continued(rest[n:]) {
				n += more
				n += quoted(rest[n:], '\'', true)
			}
			return String, i + n
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
	depth, n := 1, 2
	for n < len(rest) && depth > 0 {
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
	return Comment, i + n
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

// isParam reports whether a placeholder starts here.
func (d Dialect) isParam(rest string) bool {
	named := len(rest) > 1 && d.isName(rest[1])
	switch rest[0] {
	case '?':
		return d == SQLite || d == MySQL
	case ':':
		return named && !isDigit(rest[1])
	case '@':
		return named && (d == SQLite || d == SQLServer)
	case '$':
		return named && d == SQLite
	}
	return false
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

// continued returns how far behind a text of PostgreSQL its next part starts: a
// quote on a later line, with nothing but space and comments in between. In that
// part backslashes mean what they do in the first one
// (https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS).
// It is 0 if the text is over.
func continued(rest string) int {
	line := false
	for n := 0; n < len(rest); {
		switch c := rest[n]; {
		case c == '\'' && line:
			return n
		case strings.HasPrefix(rest[n:], "--"):
			end := strings.IndexAny(rest[n:], "\r\n")
			if end < 0 {
				return 0
			}
			n += end
		case isSpace(c):
			line = line || c == '\n' || c == '\r'
			n++
		default:
			return 0
		}
	}
	return 0
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
