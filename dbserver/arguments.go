package dbserver

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
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
