// Package jsonrpc finds and splices named members in JSON kept as bytes, and
// reads and writes JSON-RPC 2.0 frames that way. Nothing is decoded: what is
// not named stays, to the byte, what it was. Integers above 2^53, members
// unknown to us and the order of members all survive.
//
// The scanner is strict about structure (RFC 8259), so a frame that was cut
// anywhere is an error and never a shorter valid frame.
package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// maxDepth bounds nesting, as encoding/json does, so that hostile input
// cannot exhaust the stack.
const maxDepth = 10000

var (
	errEnd   = errors.New("unexpected end of JSON")
	errDepth = errors.New("JSON nested too deeply")
)

func errByte(data []byte, i int) error {
	if i >= len(data) {
		return errEnd
	}
	return fmt.Errorf("unexpected byte %q at offset %d of JSON", data[i], i)
}

// Valid reports whether data is exactly one JSON value.
func Valid(data []byte) error {
	end, err := skipValue(data, skipSpace(data, 0), 0)
	if err != nil {
		return err
	}
	if end = skipSpace(data, end); end != len(data) {
		return errByte(data, end)
	}
	return nil
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the offset behind the value that starts at i.
func skipValue(data []byte, i, depth int) (int, error) {
	if i >= len(data) {
		return i, errEnd
	}
	switch c := data[i]; {
	case c == '"':
		return skipString(data, i)
	case c == '{':
		return walkObject(data, i, depth, nil)
	case c == '[':
		return walkArray(data, i, depth, nil)
	case c == 't':
		return skipWord(data, i, "true")
	case c == 'f':
		return skipWord(data, i, "false")
	case c == 'n':
		return skipWord(data, i, "null")
	case c == '-' || '0' <= c && c <= '9':
		return skipNumber(data, i)
	}
	return i, errByte(data, i)
}

func skipWord(data []byte, i int, word string) (int, error) {
	if bytes.HasPrefix(data[i:], []byte(word)) {
		return i + len(word), nil
	}
	if bytes.HasPrefix([]byte(word), data[i:]) {
		return i, errEnd
	}
	return i, errByte(data, i)
}

func skipDigits(data []byte, i int) (int, error) {
	start := i
	for i < len(data) && '0' <= data[i] && data[i] <= '9' {
		i++
	}
	if i == start {
		return i, errByte(data, i)
	}
	return i, nil
}

func skipNumber(data []byte, i int) (int, error) {
	if data[i] == '-' {
		i++
	}
	var err error
	if i < len(data) && data[i] == '0' {
		i++
	} else if i, err = skipDigits(data, i); err != nil {
		return i, err
	}
	if i < len(data) && data[i] == '.' {
		if i, err = skipDigits(data, i+1); err != nil {
			return i, err
		}
	}
	if i < len(data) && (data[i] == 'e' || data[i] == 'E') {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		if i, err = skipDigits(data, i); err != nil {
			return i, err
		}
	}
	return i, nil
}

// skipString returns the offset behind the string whose opening quote is at i.
func skipString(data []byte, i int) (int, error) {
	for i++; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			return i + 1, nil
		case c < 0x20:
			return i, errByte(data, i)
		case c == '\\':
			i++
			if i >= len(data) {
				return i, errEnd
			}
			switch data[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					i++
					if i >= len(data) {
						return i, errEnd
					}
					if c := data[i] | 0x20; !('0' <= data[i] && data[i] <= '9' || 'a' <= c && c <= 'f') {
						return i, errByte(data, i)
					}
				}
			default:
				return i, errByte(data, i)
			}
		}
	}
	return i, errEnd
}

// member is where one member of an object lies: key with its quotes, value
// without surrounding space.
type member struct{ keyStart, keyEnd, valueStart, valueEnd int }

// name is the member's key. It may be written with escapes; whoever reads the
// object after us will resolve them, so do we. One that cannot be is "".
func (m member) name(data []byte) []byte {
	key := data[m.keyStart+1 : m.keyEnd-1]
	if bytes.IndexByte(key, '\\') < 0 {
		return key
	}
	var s string
	_ = json.Unmarshal(data[m.keyStart:m.keyEnd], &s)
	return []byte(s)
}

// named reports whether the member's key is name.
func (m member) named(data []byte, name string) bool { return string(m.name(data)) == name }

// walkObject calls visit, if any, for each member of the object at i and
// returns the offset behind it.
func walkObject(data []byte, i, depth int, visit func(member)) (int, error) {
	if depth >= maxDepth {
		return i, errDepth
	}
	if i = skipSpace(data, i+1); i < len(data) && data[i] == '}' {
		return i + 1, nil
	}
	for {
		var m member
		var err error
		if i >= len(data) || data[i] != '"' {
			return i, errByte(data, i)
		}
		m.keyStart = i
		if i, err = skipString(data, i); err != nil {
			return i, err
		}
		m.keyEnd = i
		if i = skipSpace(data, i); i >= len(data) || data[i] != ':' {
			return i, errByte(data, i)
		}
		m.valueStart = skipSpace(data, i+1)
		if i, err = skipValue(data, m.valueStart, depth+1); err != nil {
			return i, err
		}
		m.valueEnd = i
		if visit != nil {
			visit(m)
		}
		if i = skipSpace(data, i); i >= len(data) {
			return i, errEnd
		}
		switch data[i] {
		case '}':
			return i + 1, nil
		case ',':
			i = skipSpace(data, i+1)
		default:
			return i, errByte(data, i)
		}
	}
}

// walkArray calls visit, if any, with the bounds of each element of the array
// at i and returns the offset behind it.
func walkArray(data []byte, i, depth int, visit func(start, end int)) (int, error) {
	if depth >= maxDepth {
		return i, errDepth
	}
	if i = skipSpace(data, i+1); i < len(data) && data[i] == ']' {
		return i + 1, nil
	}
	for {
		start := i
		end, err := skipValue(data, start, depth+1)
		if err != nil {
			return end, err
		}
		if visit != nil {
			visit(start, end)
		}
		if i = skipSpace(data, end); i >= len(data) {
			return i, errEnd
		}
		switch data[i] {
		case ']':
			return i + 1, nil
		case ',':
			i = skipSpace(data, i+1)
		default:
			return i, errByte(data, i)
		}
	}
}
