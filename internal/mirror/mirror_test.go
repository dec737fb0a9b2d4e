package mirror

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestHeadersOfASchema(t *testing.T) {
	many := ""
	for i := range maxParamHeaders + 1 {
		many += fmt.Sprintf(`,"a%d":{"type":"string","x-mcp-header":"H%d"}`, i, i)
	}
	for name, test := range map[string]struct {
		properties string
		want       string // of Name=path, or "!" and a part of the error
	}{
		"none":          {`"a":{"type":"string"}`, ""},
		"types":         {`"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"integer","x-mcp-header":"B-b"},"c":{"type":"boolean","x-mcp-header":"c"}`, "Mcp-Param-A=a Mcp-Param-B-B=b Mcp-Param-C=c"},
		"nested":        {`"o":{"type":"object","properties":{"p":{"properties":{"q":{"type":"string","x-mcp-header":"Q"}}}}}`, "Mcp-Param-Q=o.p.q"},
		"or null":       {`"a":{"type":["null","string"],"x-mcp-header":"A"}`, "Mcp-Param-A=a"},
		"number":        {`"a":{"type":"number","x-mcp-header":"A"}`, "!argument \"a\": x-mcp-header goes with"},
		"object":        {`"a":{"type":"object","x-mcp-header":"A"}`, "!goes with"},
		"no type":       {`"a":{"x-mcp-header":"A"}`, "!goes with"},
		"two types":     {`"a":{"type":["integer","string"],"x-mcp-header":"A"}`, "!goes with"},
		"empty":         {`"a":{"type":"string","x-mcp-header":""}`, "!not part of a header's name"},
		"space":         {`"a":{"type":"string","x-mcp-header":"A B"}`, "!not part of a header's name"},
		"colon":         {`"a":{"type":"string","x-mcp-header":"A:"}`, "!not part of a header's name"},
		"line":          {`"a":{"type":"string","x-mcp-header":"A\r\nB"}`, "!not part of a header's name"},
		"not ASCII":     {`"a":{"type":"string","x-mcp-header":"Größe"}`, "!not part of a header's name"},
		"no text":       {`"a":{"type":"string","x-mcp-header":7}`, "!not part of a header's name"},
		"twice":         {`"a":{"type":"string","x-mcp-header":"Ab"},"b":{"properties":{"c":{"type":"string","x-mcp-header":"aB"}}}`, "!\"b.c\": x-mcp-header \"aB\" is there twice"},
		"no properties": {`"a":7`, ""},
		"many":          {many[1:], "!more than 64"},
	} {
		got, err := Of(json.RawMessage(`{"type":"object","properties":{` + test.properties + `}}`))
		if text, bad := strings.CutPrefix(test.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: got %v, want %q", name, err, text)
			}
			continue
		}
		var all []string
		for _, h := range got {
			all = append(all, h.Name+"="+strings.Join(h.Path, "."))
		}
		if err != nil || strings.Join(all, " ") != test.want {
			t.Errorf("%s: got %q, %v, want %q", name, all, err, test.want)
		}
	}
	for _, schema := range []string{"", "null", "[]", `{"properties":[]}`, strings.Repeat(`{"properties":{"a":`, 500)} {
		if got, err := Of(json.RawMessage(schema)); len(got) != 0 || err != nil {
			t.Errorf("%.20q: %v, %v", schema, got, err)
		}
	}
}

// A call of a modern server repeats in headers what its arguments say; one of
// a legacy server does not.
func TestValuesInHeaders(t *testing.T) {
	for value, want := range map[string]string{
		"":                   "",
		"us-west1":           "us-west1",
		"a b":                "a b",
		"Hello, 世界":          "=?base64?SGVsbG8sIOS4lueVjA==?=",
		" padded ":           "=?base64?IHBhZGRlZCA=?=",
		"line1\nline2":       "=?base64?bGluZTEKbGluZTI=?=",
		"\tx":                "=?base64?CXg=?=",
		"a\tb":               "=?base64?YQli?=",
		"=?base64?literal?=": "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
		"=?base64?open":      "=?base64?open",
	} {
		if got := Encode(value); got != want {
			t.Errorf("%q became %q, want %q", value, got, want)
		}
		if got, err := Decode(want); got != value || err != nil {
			t.Errorf("%q is read as %q, %v, want %q", want, got, err, value)
		}
	}
}
