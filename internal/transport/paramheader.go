package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

const (
	// maxParamHeaders bounds how many arguments of a tool go into headers.
	maxParamHeaders = 64
	// maxSafeInteger is the largest integer that a header may carry: the
	// largest that JavaScript has.
	maxSafeInteger = 1<<53 - 1
)

// A ParamHeader is an argument of a tool that is repeated in a header of its
// call, for whoever routes it (MCP 2026-07-28, streamable HTTP, "Custom
// Headers from Tool Parameters").
type ParamHeader struct {
	Name string   // of the header
	Path []string // to the argument
}

// ParamHeaders reads from the inputSchema of a tool which headers its calls
// carry. A tool for which that is an error must not be offered to anybody.
func ParamHeaders(inputSchema json.RawMessage) ([]ParamHeader, error) {
	var found []ParamHeader
	taken := make(map[string]bool)
	if err := paramHeaders(inputSchema, nil, taken, &found); err != nil {
		return nil, err
	}
	return found, nil
}

func paramHeaders(schema json.RawMessage, path []string, taken map[string]bool, found *[]ParamHeader) error {
	members, _ := jsonrpc.Get(schema, "properties")
	var properties map[string]json.RawMessage
	if len(path) > maxParamHeaders || json.Unmarshal(members, &properties) != nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		property, at := properties[name], append(slices.Clone(path), name)
		if raw, marked := jsonrpc.Get(property, "x-mcp-header"); marked {
			var header string
			err := json.Unmarshal(raw, &header)
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
				*found = append(*found, ParamHeader{headerParam + header, at})
			}
			if err != nil {
				return fmt.Errorf("argument %.100q: %w", strings.Join(at, "."), err)
			}
		}
		if err := paramHeaders(property, at, taken, found); err != nil {
			return err
		}
	}
	return nil
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
	raw, _ := jsonrpc.Get(schema, "type")
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return one == "string" || one == "integer" || one == "boolean"
	}
	var several []string
	if json.Unmarshal(raw, &several) != nil {
		return false
	}
	several = slices.DeleteFunc(several, func(t string) bool { return t == "null" })
	return len(several) == 1 && slices.Contains([]string{"string", "integer", "boolean"}, several[0])
}

// setParamHeaders sets the headers of a call with these params. What is not
// there, null, or not of its type is left out: the server knows what to say.
func setParamHeaders(header http.Header, params json.RawMessage, which []ParamHeader) {
	if len(which) == 0 {
		return
	}
	arguments, _ := jsonrpc.Get(params, "arguments")
	for _, h := range which {
		raw, _ := jsonrpc.Get(arguments, h.Path...)
		if value, ok := primitive(raw); ok {
			header.Set(h.Name, headerValue(value))
		}
	}
}

// primitive is a string, a boolean or an integer as a header has it.
func primitive(raw json.RawMessage) (string, bool) {
	var text string
	switch {
	case len(raw) == 0:
		return "", false
	case raw[0] == '"':
		err := json.Unmarshal(raw, &text)
		return text, err == nil
	case string(raw) == "true", string(raw) == "false":
		return string(raw), true
	}
	n, ok := readID(raw) // by value: 7.0 is an integer to JSON Schema
	return strconv.FormatInt(n, 10), ok && -maxSafeInteger <= n && n <= maxSafeInteger
}
