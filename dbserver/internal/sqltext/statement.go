package sqltext

import (
	"strconv"
	"strings"
)

// Statement returns the first statement of a text, without what follows its
// last token, and whether nothing but space, comments and semicolons does. A
// comment that has no end is of the statement in PostgreSQL, which refuses it.
func (d Dialect) Statement(sql string) (first string, only bool) {
	end, ended := 0, false
	for i := 0; i < len(sql); {
		kind, next := d.Next(sql, i)
		switch {
		case kind == Semicolon:
			ended = end > 0
		case kind == Space || kind == Comment && (ended || !d.unended(sql[i:next])):
		case ended:
			return sql[:end], false
		default:
			end = next
		}
		i = next
	}
	return sql[:end], true
}

// unended reports whether a comment has no end, which PostgreSQL wants.
func (d Dialect) unended(comment string) bool {
	if d != Postgres || comment[0] != '/' {
		return false
	}
	_, ends := nested(comment)
	return !ends
}

// Keyword returns the first word of a statement in upper case, behind comments,
// semicolons and opening parentheses; empty if it starts with something else.
func (d Dialect) Keyword(sql string) string {
	for i := 0; i < len(sql); {
		kind, next := d.Next(sql, i)
		switch {
		case kind == Word:
			return strings.ToUpper(sql[i:next])
		case kind != Space && kind != Comment && kind != Semicolon && sql[i] != '(':
			return ""
		}
		i = next
	}
	return ""
}

// Named turns placeholders of the form :name into those of the dialect, which
// count from 1, and returns the names in the order in which they are to be
// bound; a name is there once for each of its places where placeholders have no
// numbers. Other placeholders stay as they are.
func (d Dialect) Named(sql string) (text string, names []string) {
	var b strings.Builder
	numbers := map[string]int{}
	for i := 0; i < len(sql); {
		kind, next := d.Next(sql, i)
		if token := sql[i:next]; kind == Param && token[0] == ':' {
			b.WriteString(d.placeholder(token[1:], numbers, &names))
		} else {
			b.WriteString(token)
		}
		i = next
	}
	return b.String(), names
}

func (d Dialect) placeholder(name string, numbers map[string]int, names *[]string) string {
	if d == MySQL {
		*names = append(*names, name)
		return "?"
	}
	n, known := numbers[name]
	if !known {
		*names = append(*names, name)
		n = len(*names)
		numbers[name] = n
	}
	switch d {
	case Postgres:
		return "$" + strconv.Itoa(n)
	case SQLServer:
		return "@p" + strconv.Itoa(n)
	}
	return "?" + strconv.Itoa(n)
}
