package dbplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// readJSON reads one JSON text as what member.value can be. Numbers keep all
// their digits.
func readJSON(text string) (any, error) {
	if !json.Valid([]byte(text)) {
		return nil, errors.New("it is no JSON")
	}
	return readLiteral(strings.ToValidUTF8(text, "\ufffd"))
}

// readLiteral reads one JSON text, or the text that repr makes of a Python
// value, as what member.value can be: some servers answer with that. It reads
// literals, and of other expressions those that database drivers make of SQL
// types; the rest stays text.
// https://docs.python.org/3/reference/expressions.html#literals.
//
// Of valid JSON it makes what encoding/json does, but that members keep their
// order and names may repeat: its decoder has these as tokens alone, at several
// times the cost.
func readLiteral(text string) (any, error) {
	p := &literal{text: text}
	v := p.value()
	if p.skip(); p.at < len(text) {
		p.fail("text behind the value")
	}
	return v, p.err
}

type literal struct {
	text  string
	at    int
	depth int
	err   error // the first; nothing is left to read then
}

func (p *literal) fail(what string) {
	if p.err == nil {
		p.err = fmt.Errorf("neither JSON nor a Python literal: %s at byte %d", what, p.at)
	}
	p.at = len(p.text)
}

func (p *literal) skip() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// peek returns the next byte that is no space, 0 at the end.
func (p *literal) peek() byte {
	if p.skip(); p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

// take takes a byte if it is the next.
func (p *literal) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.at++
	return true
}

// value reads a value and makes Go's of it.
func (p *literal) value() any {
	v := p.expression()
	if e, ok := v.(expression); ok {
		return e.value()
	}
	return v
}

// maxDepth is how deep values are read: no row is deeper, and the stack is
// bounded.
const maxDepth = 1000

func (p *literal) expression() any {
	if p.depth++; p.depth > maxDepth {
		p.fail("too deep")
	}
	defer func() { p.depth-- }()
	switch c := p.peek(); {
	case c == '[':
		return p.list('[', ']')
	case c == '(':
		return p.list('(', ')')
	case c == '{':
		return p.dictOrSet()
	case c == '\'' || c == '"':
		return p.str()
	case c == 'b' && p.at+1 < len(p.text) && strings.IndexByte(`'"`, p.text[p.at+1]) >= 0:
		p.at++
		return p.bytes()
	case c == '-' || c == '+' || c >= '0' && c <= '9':
		return p.number()
	case isLetter(c):
		return p.named()
	}
	p.fail("no value")
	return nil
}

func (p *literal) list(begin, end byte) []any {
	p.take(begin)
	list := []any{}
	for !p.take(end) {
		list = append(list, p.value())
		if !p.take(',') && p.peek() != end {
			p.fail("a list without an end")
			break
		}
	}
	return list
}

// dictOrSet reads either; a set is a list.
func (p *literal) dictOrSet() any {
	p.take('{')
	dict, set := object{}, []any{}
	for !p.take('}') {
		key := p.value()
		if p.take(':') {
			name, ok := key.(string)
			if !ok {
				name = fmt.Sprint(plain(key))
			}
			dict = append(dict, member{name, p.value()})
		} else {
			set = append(set, key)
		}
		if !p.take(',') && p.peek() != '}' {
			p.fail("a dict without an end")
			break
		}
	}
	if len(set) > 0 && len(dict) > 0 {
		p.fail("a dict without a value")
	}
	if len(set) > 0 {
		return set
	}
	return dict
}

// number reads a number, whose digits all stay.
func (p *literal) number() any {
	from := p.at
	p.at++
	if p.at < len(p.text) && isLetter(p.text[p.at]) && strings.IndexByte("+-", p.text[from]) >= 0 { // -inf
		v, ok := p.named().(string)
		if !ok || v != "Infinity" {
			p.fail("no number")
		}
		return strings.TrimPrefix(p.text[from:from+1], "+") + v
	}
	for p.at < len(p.text) && strings.IndexByte("0123456789.eE+-", p.text[p.at]) >= 0 {
		p.at++
	}
	number := strings.TrimPrefix(p.text[from:p.at], "+")
	if !isNumber(number) {
		p.at = from
		p.fail("no number")
		return nil
	}
	return json.Number(number)
}

// isNumber reports whether a text is a number of JSON.
func isNumber(s string) bool {
	return s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') && json.Valid([]byte(s))
}

// str reads a string between quotes.
func (p *literal) str() string {
	var b strings.Builder
	p.quoted(func(c rune) { b.WriteRune(c) }, func(s string) { b.WriteString(s) })
	return b.String()
}

func (p *literal) bytes() []byte {
	b := []byte{}
	p.quoted(func(c rune) {
		if c < 0 || c > 0xff {
			p.fail("a character among bytes")
			return
		}
		b = append(b, byte(c))
	}, func(s string) { b = append(b, s...) })
	return b
}

// quoted hands on what is between quotes: escapes by their number, and all
// else as it is.
func (p *literal) quoted(escaped func(rune), literal func(string)) {
	quote := p.text[p.at]
	p.at++
	for {
		n := strings.IndexAny(p.text[p.at:], string([]byte{quote, '\\'}))
		if n < 0 || p.at+n+1 >= len(p.text) && p.text[p.at+n] == '\\' {
			p.fail("a string without an end")
			return
		}
		literal(p.text[p.at : p.at+n])
		p.at += n + 1
		if p.text[p.at-1] == quote {
			return
		}
		c := p.text[p.at]
		p.at++
		switch c {
		case 'n':
			escaped('\n')
		case 'r':
			escaped('\r')
		case 't':
			escaped('\t')
		case 'b':
			escaped('\b')
		case 'f':
			escaped('\f')
		case '\\', '\'', '"', '/':
			escaped(rune(c))
		case 'x':
			escaped(p.hex(2))
		case 'u':
			escaped(p.unit())
		case 'U':
			escaped(p.hex(8))
		default: // repr makes no others
			p.fail("an unknown escape")
		}
	}
}

// hex reads a character by its number.
func (p *literal) hex(digits int) rune {
	if p.at+digits > len(p.text) {
		p.fail("an escape without an end")
		return 0
	}
	n, err := strconv.ParseUint(p.text[p.at:p.at+digits], 16, 32)
	if err != nil || n > unicode.MaxRune {
		p.fail("an escape that is no number of a character")
		return 0
	}
	p.at += digits
	return rune(n)
}

// unit reads a character that is one unit of UTF-16, or a pair of them. Half a
// pair becomes U+FFFD where it is written.
func (p *literal) unit() rune {
	c := p.hex(4)
	if rest := p.text[p.at:]; utf16.IsSurrogate(c) && strings.HasPrefix(rest, `\u`) {
		at := p.at
		p.at += 2
		if pair := utf16.DecodeRune(c, p.hex(4)); pair != '\ufffd' || p.err != nil {
			return pair
		}
		p.at = at
	}
	return c
}

func isLetter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// named reads what begins with a name.
func (p *literal) named() any {
	from := p.at
	for p.at < len(p.text) && (isLetter(p.text[p.at]) || p.text[p.at] >= '0' && p.text[p.at] <= '9' || p.text[p.at] == '.') {
		p.at++
	}
	e := expression{name: p.text[from:p.at]}
	switch e.name {
	case "None", "null":
		return nil
	case "True", "true":
		return true
	case "False", "false":
		return false
	case "nan":
		return "NaN"
	case "inf":
		return "Infinity"
	}
	if p.at < len(p.text) && p.text[p.at] == '(' {
		p.at++
		for !p.take(')') {
			p.argument(&e)
			if !p.take(',') && p.peek() != ')' {
				p.fail("a call without an end")
				break
			}
		}
	} else if !strings.Contains(e.name, ".") { // words of a text, not an attribute
		p.at = from
		p.fail("no value")
		return nil
	}
	e.source = p.text[from:p.at]
	return e
}

// argument reads an argument of a call, NAME=VALUE or VALUE.
func (p *literal) argument(e *expression) {
	p.skip()
	n := p.at
	for n < len(p.text) && isLetter(p.text[n]) {
		n++
	}
	if n == p.at || n >= len(p.text) || p.text[n] != '=' {
		e.values = append(e.values, p.expression())
		return
	}
	if e.named == nil {
		e.named = map[string]any{}
	}
	name := p.text[p.at:n]
	p.at = n + 1
	e.named[name] = p.expression()
}

// An expression is a call, or a name with a dot in it.
type expression struct {
	name   string
	values []any
	named  map[string]any
	source string
}

// value returns what an expression stands for; its own text if that is not
// known.
func (e expression) value() any {
	first, _ := e.first().(string)
	switch kind := e.name[strings.LastIndexByte(e.name, '.')+1:]; kind {
	case "Decimal":
		if isNumber(first) {
			return json.Number(first)
		}
		if first != "" {
			return first // NaN, Infinity
		}
	case "UUID", "IPv4Address", "IPv6Address", "IPv4Network", "IPv6Network", "IPv4Interface", "IPv6Interface":
		if first != "" {
			return first
		}
	case "date", "datetime", "time":
		if text, ok := e.time(kind); ok {
			return text
		}
	}
	return e.source
}

// first is the one argument of a call that has one; nil otherwise.
func (e expression) first() any {
	if len(e.values) != 1 || e.named != nil {
		return nil
	}
	return e.values[0]
}
