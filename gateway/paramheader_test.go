package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/mcpool-dev/mcpool/rpc"
)

// marked lists a tool whose argument region is repeated in a header.
func marked(_ context.Context, call rpc.Call) (rpc.Answer, error) {
	if call.Method == "tools/list" {
		return rpc.Result(json.RawMessage(`{"tools":[{"name":"x","inputSchema":{"type":"object","properties":` +
			`{"region":{"type":"string","x-mcp-header":"Region"}}}},{"name":"plain","inputSchema":{"type":"object"}}]}`)), nil
	}
	return rpc.Result(json.RawMessage(`{"content":[]}`)), nil
}

func TestHeadersSayWhatArgumentsSay(t *testing.T) {
	t.Parallel()
	const with = `{"region":"Hello"}`
	for name, test := range map[string]struct {
		tool, arguments, header string
		refused                 bool
		unlisted                bool // no list has passed by
	}{
		"the same":               {"x", with, "Hello", false, false},
		"encoded":                {"x", with, "=?base64?SGVsbG8=?=", false, false},
		"another":                {"x", with, "Hallo", true, false},
		"none":                   {"x", with, "", true, false},
		"base64 as it is":        {"x", with, "SGVsbG8=", true, false},
		"badly padded":           {"x", with, "=?base64?SGVsbG8?=", true, false},
		"no base64":              {"x", with, "=?base64?SGVs!!!bG8=?=", true, false},
		"beyond ASCII":           {"x", with, "H\u00e9llo", true, false},
		"of no argument":         {"x", `{}`, "Hello", true, false},
		"of null":                {"x", `{"region":null}`, "Hello", true, false},
		"neither":                {"x", `{}`, "", false, false},
		"of a tool without":      {"plain", with, "Hallo", false, false},
		"another, not yet known": {"x", with, "Hallo", true, true},
		"the same, not known":    {"x", with, "Hello", false, true},
	} {
		g := newGateway(t, nil, Server{Name: "one", Handler: handler(marked)}, Server{Name: "two", Handler: handler(demo)})
		for _, path := range []string{"/mcp/one", "/mcp"} {
			tool := test.tool
			if path == "/mcp" {
				tool = "one__" + tool
			}
			if !test.unlisted {
				listModern(g, path)
			}
			body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":%s,%s}}`, tool, test.arguments, meta)
			r := do(g, "POST", path, body, append(modernHeaders("tools/call", tool), "Mcp-Param-Region", test.header)...)
			if refused := r.status == 400 && r.code(t) == rpc.CodeHeaderMismatch; refused != test.refused || !refused && r.status != 200 {
				t.Errorf("%s at %s: got %s", name, path, r)
			}
		}
	}
}
