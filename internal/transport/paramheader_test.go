package transport

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/internal/mirror"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestCallsCarryTheirParamHeaders(t *testing.T) {
	which := []mirror.Header{{Name: "Mcp-Param-A", Path: []string{"a"}}, {Name: "Mcp-Param-B", Path: []string{"o", "b"}}}
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
			conn := open(t, inBubbleWith(t, server, HTTPOptions{ParamHeaders: func(tool string) []mirror.Header {
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
