package transport

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestParamHeaders(t *testing.T) {
	many := ""
	for i := range maxParamHeaders + 1 {
		many += fmt.Sprintf(`,"a%d":{"type":"string","x-mcp-header":"H%d"}`, i, i)
	}
	for name, test := range map[string]struct {
		properties string
		want       string // of Name=path, or "!" and a part of the error
	}{
		"none":          {`"a":{"type":"string"}`, ""},
		"types":         {`"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"integer","x-mcp-header":"B-b"},"c":{"type":"boolean","x-mcp-header":"c"}`, "Mcp-Param-A=a Mcp-Param-B-b=b Mcp-Param-c=c"},
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
		got, err := ParamHeaders(json.RawMessage(`{"type":"object","properties":{` + test.properties + `}}`))
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
		if got, err := ParamHeaders(json.RawMessage(schema)); len(got) != 0 || err != nil {
			t.Errorf("%.20q: %v, %v", schema, got, err)
		}
	}
}

// A call of a modern server repeats in headers what its arguments say; one of
// a legacy server does not.
func TestCallsCarryTheirParamHeaders(t *testing.T) {
	which := []ParamHeader{{"Mcp-Param-A", []string{"a"}}, {"Mcp-Param-B", []string{"o", "b"}}}
	for arguments, want := range map[string][]string{
		`{"a":"x y","o":{"b":7}}`:               {"x y", "7"},
		`{"a":"Größe","o":{"b":true}}`:          {"=?base64?R3LDtsOfZQ==?=", "true"},
		`{"a":" x","o":{"b":false}}`:            {"=?base64?IHg=?=", "false"},
		`{"a":"","o":{"b":-9007199254740991}}`:  {"", "-9007199254740991"},
		`{"a":null,"o":{"b":9007199254740992}}`: nil,
		`{"a":["x"],"o":{"b":1.5}}`:             nil,
		`{"a":{"b":"x"},"o":7}`:                 nil,
		`{"o":{"b":7.0}}`:                       {"7"},
		`{}`:                                    nil,
		`null`:                                  nil,
	} {
		for _, modern := range []bool{true, false} {
			var got []string
			server := &mcptest.Server{Modern: modern}
			server.Fault = func(r *http.Request, method string, _ http.ResponseWriter) bool {
				for _, h := range which {
					got = append(got, r.Header.Values(h.Name)...)
				}
				return false
			}
			conn := open(t, inBubbleWith(t, server, HTTPOptions{ParamHeaders: func(tool string) []ParamHeader {
				if tool != "echo" {
					t.Errorf("asked for %q", tool)
				}
				return which
			}}), Unknown)
			_, _ = conn.Call(t.Context(), rpc.Call{Method: "tools/call", Params: json.RawMessage(`{"name":"echo","arguments":` + arguments + `}`)}, nil)
			if !modern {
				want = nil
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: headers %q, want %q", arguments, got, want)
			}
		}
	}
}
