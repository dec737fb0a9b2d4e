// Package mirror is what requests of MCP 2026-07-28 over streamable HTTP repeat
// in headers, for those who route them without reading them: how a value is
// written, and which arguments of a tool are repeated ("Value Encoding", "Custom
// Headers from Tool Parameters").
package mirror

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxParamHeaders bounds how many arguments of a tool go into headers.
	maxParamHeaders = 64
	// maxSafeInteger is the largest integer that a header may carry: the
	// largest that JavaScript has.
	maxSafeInteger = 1<<53 - 1
	// prefix is what the headers of arguments begin with.
	prefix = "Mcp-Param-"
	// before and after enclose a value that is encoded.
	before, after = "=?base64?", "?="
)

// A Header is an argument of a tool that is repeated in a header of its call.
type Header struct {
	Name string   // of the header, as net/http writes it
	Path []string // to the argument
}

// Of reads from the inputSchema of a tool which headers its calls carry. A tool
// for which that is an error must not be offered to anybody.
func Of(inputSchema json.RawMessage) ([]Header, error) {
	var found []Header
	taken := make(map[string]bool)
	if err := read(inputSchema, nil, taken, &found); err != nil {
		return nil, err
	}
	return found, nil
}

func read(schema json.RawMessage, path []string, taken map[string]bool, found *[]Header) error {
	var properties map[string]json.RawMessage
	if len(path) > maxParamHeaders || json.Unmarshal(member(schema, "properties"), &properties) != nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		property, at := properties[name], append(slices.Clone(path), name)
		if marked := member(property, "x-mcp-header"); marked != nil {
			var header string
			err := json.Unmarshal(marked, &header)
			switch lower := strings.ToLower(header); {
			case err != nil || !isHeaderToken(header):
				err = errors.New("its x-mcp-header is not part of a header's name")
			case taken[lower]:
				err = fmt.Errorf("x-mcp-header %.40q is there twice", header)
			case !isPrimitive(property):
				err = errors.New("x-mcp-header goes with a string, an integer or a boolean")
			case len(*found) >= maxParamHeaders:
				err = fmt.Errorf("more than %d arguments in headers", maxParamHeaders)
			default:
				taken[lower] = true
				*found = append(*found, Header{http.CanonicalHeaderKey(prefix + header), at})
			}
			if err != nil {
				return fmt.Errorf("argument %.100q: %w", strings.Join(at, "."), err)
			}
		}
		if err := read(property, at, taken, found); err != nil {
			return err
		}
	}
	return nil
}

// member is a member of an object, nil if there is none.
func member(object json.RawMessage, name string) json.RawMessage {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(object, &members) // what is no object has no members
	return members[name]
}

// isHeaderToken reports whether name is a token (RFC 9110, 5.6.2).
func isHeaderToken(name string) bool {
	return name != "" && len(name) <= 100 && !strings.ContainsFunc(name, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c)
	})
}

// isPrimitive reports whether a schema is of one of the types that go into a
// header, null besides.
func isPrimitive(schema json.RawMessage) bool {
	kind := member(schema, "type")
	var one string
	if json.Unmarshal(kind, &one) == nil {
		return one == "string" || one == "integer" || one == "boolean"
	}
	var several []string
	if json.Unmarshal(kind, &several) != nil {
		return false
	}
	several = slices.DeleteFunc(several, func(t string) bool { return t == "null" })
	return len(several) == 1 && slices.Contains([]string{"string", "integer", "boolean"}, several[0])
}

// Value is a string, a boolean or an integer as a header says it, before it is
// encoded; it reports false for anything else, which goes into no header.
func Value(raw json.RawMessage) (string, bool) {
	switch {
	case len(raw) == 0:
		return "", false
	case raw[0] == '"':
		var text string
		err := json.Unmarshal(raw, &text)
		return text, err == nil
	case string(raw) == "true", string(raw) == "false":
		return string(raw), true
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(string(raw), 64) // 7.0 is an integer to JSON Schema
		n = int64(f)
		if ferr != nil || float64(n) != f {
			return "", false
		}
	}
	return strconv.FormatInt(n, 10), -maxSafeInteger <= n && n <= maxSafeInteger
}

// Encode writes a value so that it passes as a header.
func Encode(value string) string {
	plain := strings.Trim(value, " \t") == value &&
		!(strings.HasPrefix(value, before) && strings.HasSuffix(value, after))
	for i := 0; i < len(value) && plain; i++ {
		plain = ' ' <= value[i] && value[i] <= '~'
	}
	if plain {
		return value
	}
	return before + base64.StdEncoding.EncodeToString([]byte(value)) + after
}

// Decode returns the value that a header has. The error says what keeps it from
// having any.
func Decode(header string) (string, error) {
	for _, c := range []byte(header) {
		if c != '\t' && (c < ' ' || c > '~') {
			return "", errors.New("it has characters beyond plain ASCII")
		}
	}
	encoded, begins := strings.CutPrefix(header, before)
	encoded, ends := strings.CutSuffix(encoded, after)
	if !begins || !ends {
		return header, nil
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", errors.New("its base64 is not valid")
	}
	return string(decoded), nil
}
