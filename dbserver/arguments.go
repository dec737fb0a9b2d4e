package dbserver

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// arguments are those of all tools.
type arguments struct {
	Database   string   `json:"database"`
	TableName  string   `json:"table_name"`
	TableNames []string `json:"table_names"`
	SampleRows integer  `json:"sample_rows"`
	Pattern    string   `json:"pattern"`
	Schema     string   `json:"schema"`
	Kinds      []string `json:"kinds"`
	Detail     string   `json:"detail"`
	Cursor     string   `json:"cursor"`
	Query      string   `json:"query"`
	Handle     string   `json:"handle"`
	Limit      integer  `json:"limit"`
	Timeout    integer  `json:"timeout_ms"`
	Shape      string   `json:"shape"`
	Token      string   `json:"token"`

	Given  json.RawMessage `json:"params"`
	Params params          `json:"-"` // those of Given, in the order of the placeholders of Query
}

// An integer is one that the schema has found to be such, which JSON may write
// as 1e3. One that is too large becomes the largest.
type integer int

func (n *integer) UnmarshalJSON(data []byte) error {
	var f float64
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	*n = integer(min(f, math.MaxInt32))
	return nil
}

// params are the values to bind, in order.
type params []any

func (p *params) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return decoder.Decode((*[]any)(p))
}

// readArguments checks the arguments of a request against the tool's schema and
// reads them.
func (t *tool) readArguments(r *request) error {
	if len(r.raw) == 0 || string(r.raw) == "null" {
		r.raw = json.RawMessage("{}")
	}
	if t.bind == nil && t.readPlain(r.raw, &r.args) {
		return nil
	}
	r.args = arguments{}
	var value any // for the schema alone, since numbers are rounded in it
	if err := json.Unmarshal(r.raw, &value); err != nil {
		return engine.Invalid("arguments are not JSON: %v", err)
	}
	if _, ok := value.(map[string]any); !ok {
		return engine.Invalid("arguments are not an object")
	}
	if err := t.input.Validate(value); err != nil {
		return engine.Invalid("arguments: %s", validationText(err))
	}
	if t.bind != nil {
		return t.bind(r)
	}
	if err := json.Unmarshal(r.raw, &r.args); err != nil {
		return engine.Invalid("arguments: %v", err)
	}
	return nil
}

// readPlain reads the arguments that nearly all calls have: a few texts and
// numbers, each as the schema has it. It reports false where it is not sure of
// one, and then the schema decides, which takes ten times as long.
func (t *tool) readPlain(raw json.RawMessage, args *arguments) bool {
	seen, plain := 0, true
	err := jsonrpc.Members(raw, func(name []byte, value json.RawMessage) {
		for i := range t.plain {
			if f := &t.plain[i]; string(name) == f.name {
				plain = plain && seen&(1<<i) == 0 && f.read(args, value)
				seen |= 1 << i
				return
			}
		}
		plain = false
	})
	return err == nil && plain && seen&t.needed == t.needed
}

// A plainField is an argument that readPlain knows.
type plainField struct {
	name string
	read func(args *arguments, value json.RawMessage) bool
}

// plainFields are those of a schema.
func plainFields(schema *jsonschema.Schema) (fields []plainField, needed int) {
	texts := map[string]func(*arguments) *string{
		"database":   func(a *arguments) *string { return &a.Database },
		"table_name": func(a *arguments) *string { return &a.TableName },
		"query":      func(a *arguments) *string { return &a.Query },
		"handle":     func(a *arguments) *string { return &a.Handle },
	}
	numbers := map[string]func(*arguments) *integer{
		"limit":      func(a *arguments) *integer { return &a.Limit },
		"timeout_ms": func(a *arguments) *integer { return &a.Timeout },
	}
	for name, property := range schema.Properties {
		if text := texts[name]; text != nil {
			fields = append(fields, plainField{name, func(args *arguments, value json.RawMessage) bool {
				return readPlainText(text(args), value, property)
			}})
		} else if number := numbers[name]; number != nil {
			fields = append(fields, plainField{name, func(args *arguments, value json.RawMessage) bool {
				return readPlainNumber(number(args), value, property)
			}})
		}
	}
	for _, name := range schema.Required {
		i := slices.IndexFunc(fields, func(f plainField) bool { return f.name == name })
		if i < 0 {
			return nil, 1 // which no arguments have
		}
		needed |= 1 << i
	}
	return fields, needed
}

// readPlainText reads a text whose bytes are its characters.
func readPlainText(to *string, value json.RawMessage, property *jsonschema.Schema) bool {
	if len(value) < 2 || value[0] != '"' {
		return false
	}
	text := value[1 : len(value)-1]
	for _, c := range text {
		if c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	if property.MinLength != nil && len(text) < *property.MinLength || property.MaxLength != nil && len(text) > *property.MaxLength {
		return false
	}
	*to = string(text)
	return property.Enum == nil || slices.Contains(property.Enum, any(*to))
}

// readPlainNumber reads a whole number of a few digits.
func readPlainNumber(to *integer, value json.RawMessage, property *jsonschema.Schema) bool {
	n, err := strconv.Atoi(string(value))
	if err != nil || len(value) > 9 || n < 0 || property.Minimum == nil || float64(n) < *property.Minimum || property.Maximum != nil {
		return false
	}
	*to = integer(n)
	return true
}

// validationText returns what is wrong, without the path of schemas that
// jsonschema puts before it.
func validationText(err error) string {
	message := err.Error()
	for {
		rest, ok := strings.CutPrefix(message, "validating ")
		if !ok {
			return message
		}
		at, what, ok := strings.Cut(rest, ": ")
		if !ok {
			return message
		}
		if strings.HasPrefix(what, "anyOf: ") { // it goes on about each schema, and these have no names
			what = "it has none of the forms that the schema allows"
		}
		if message = what; at != "root" && !strings.HasPrefix(what, "validating ") {
			return strings.TrimPrefix(strings.ReplaceAll(at, "/properties/", "/"), "/") + ": " + what
		}
	}
}
