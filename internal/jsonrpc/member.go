package jsonrpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// object calls visit for each member of data, which must be exactly one
// object.
func object(data []byte, visit func(member)) error {
	i := skipSpace(data, 0)
	if i >= len(data) || data[i] != '{' {
		return fmt.Errorf("want a JSON object: %w", errByte(data, i))
	}
	end, err := walkObject(data, i, 0, visit)
	if err != nil {
		return err
	}
	if end = skipSpace(data, end); end != len(data) {
		return errByte(data, end)
	}
	return nil
}

// ValidObject reports whether data is exactly one JSON object.
func ValidObject(data []byte) error { return object(data, nil) }

// Members calls visit for each member of an object, with slices of data that
// hold its name, without quotes, and its value. The error says why data is not
// exactly one object.
func Members(data []byte, visit func(name []byte, value json.RawMessage)) error {
	return object(data, func(m member) { visit(m.name(data), data[m.valueStart:m.valueEnd:m.valueEnd]) })
}

// find returns the last member of data with that name: of duplicates, other
// readers of JSON take the last too.
func find(data []byte, name string) (found member, ok bool) {
	if len(data) == 0 { // as where there is no _meta
		return member{}, false
	}
	err := object(data, func(m member) {
		if m.named(data, name) {
			found, ok = m, true
		}
	})
	return found, ok && err == nil
}

// Get returns the value at a path of member names, as a slice of data. It
// reports false if there is none, or if data is not an object all the way.
func Get(data []byte, path ...string) (json.RawMessage, bool) {
	for _, name := range path {
		m, ok := find(data, name)
		if !ok {
			return nil, false
		}
		data = data[m.valueStart:m.valueEnd:m.valueEnd]
	}
	return data, len(path) > 0
}

// GetEach looks for members of data by their names, all of them in one go, and
// sets the values that belong to them; nil for what is not there. Nothing is
// there if data is no object.
func GetEach(data []byte, names []string, values []json.RawMessage) {
	clear(values)
	if len(data) == 0 {
		return
	}
	err := object(data, func(m member) {
		found := m.name(data)
		for i, name := range names {
			if string(found) == name {
				values[i] = data[m.valueStart:m.valueEnd:m.valueEnd]
			}
		}
	})
	if err != nil {
		clear(values)
	}
}

// String returns the string that a value of Get or GetEach is, or "" if it is
// none.
func String(value json.RawMessage) string {
	if len(value) == 0 || value[0] != '"' {
		return ""
	}
	return unquoted(value)
}

// GetString returns the string at a path, or "" where there is no string.
func GetString(data []byte, path ...string) string {
	v, _ := Get(data, path...)
	return String(v)
}

// unquoted is what a string that the scanner has found valid says.
func unquoted(v []byte) string {
	if text := v[1 : len(v)-1]; bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) {
		return string(text)
	}
	var s string
	_ = json.Unmarshal(v, &s)
	return s
}

// Set returns a copy of the object data in which the value at path is value;
// objects on the way that do not exist are made. Empty data counts as {}.
func Set(data []byte, value []byte, path ...string) (json.RawMessage, error) {
	if len(skipped(data)) == 0 {
		data = []byte("{}")
	}
	if len(path) > 1 {
		inner, _ := Get(data, path[0])
		if string(inner) == "null" {
			inner = nil
		}
		value, err := Set(inner, value, path[1:]...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path[0], err)
		}
		return Set(data, value, path[0])
	}
	var last, named member
	any, found := false, false
	err := object(data, func(m member) {
		last, any = m, true
		if m.named(data, path[0]) {
			named, found = m, true
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(data)+len(value)+len(path[0])+8)
	if found {
		out = append(out, data[:named.valueStart]...)
		out = append(out, value...)
		return append(out, data[named.valueEnd:]...), nil
	}
	at := last.valueEnd
	if !any {
		at = skipSpace(data, 0) + 1
	}
	out = append(out, data[:at]...)
	if any {
		out = append(out, ',')
	}
	out = appendString(out, path[0])
	out = append(out, ':')
	out = append(out, value...)
	return append(out, data[at:]...), nil
}

// Delete returns data without the member at path; data itself if there is
// none.
func Delete(data []byte, path ...string) json.RawMessage {
	if len(path) > 1 {
		inner, ok := Get(data, path[0])
		if !ok {
			return data
		}
		if without := Delete(inner, path[1:]...); len(without) != len(inner) {
			out, err := Set(data, without, path[0])
			if err == nil {
				return out
			}
		}
		return data
	}
	out := data
	for {
		m, ok := find(out, path[0])
		if !ok {
			return out
		}
		start, end := m.keyStart, skipSpace(out, m.valueEnd)
		if out[end] == ',' {
			end = skipSpace(out, end+1)
		} else { // the last member: the comma before it goes too
			end = m.valueEnd
			for start--; out[start] != ',' && out[start] != '{'; start-- {
			}
			if out[start] == '{' {
				start++
			}
		}
		out = append(append(make([]byte, 0, len(out)), out[:start]...), out[end:]...)
	}
}

// Elements returns the elements of an array, as slices of data.
func Elements(data []byte) ([]json.RawMessage, error) {
	i := skipSpace(data, 0)
	if i >= len(data) || data[i] != '[' {
		return nil, fmt.Errorf("want a JSON array: %w", errByte(data, i))
	}
	var list []json.RawMessage
	end, err := walkArray(data, i, 0, func(start, end int) {
		list = append(list, data[start:end:end])
	})
	if err != nil {
		return nil, err
	}
	if end = skipSpace(data, end); end != len(data) {
		return nil, errByte(data, end)
	}
	return list, nil
}

func skipped(data []byte) []byte { return data[skipSpace(data, 0):] }

func appendString(dst []byte, s string) []byte {
	if isPlain(s) {
		return append(append(append(dst, '"'), s...), '"')
	}
	quoted, _ := json.Marshal(s) // a string always marshals
	return append(dst, quoted...)
}

// isPlain reports whether a string needs nothing but quotes in JSON.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}
