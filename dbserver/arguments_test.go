package dbserver

import (
	"encoding/json"
	"maps"
	"reflect"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

// FuzzPlainArguments holds the short way of reading arguments to the long one:
// what it takes fits the schema, and is read as the same.
func FuzzPlainArguments(f *testing.F) {
	for _, raw := range []string{
		`{"query":"SELECT 1"}`, `{"query":"SELECT 1","limit":100}`, `{"limit":0,"query":"x"}`, `{"query":""}`, `{"query":"é"}`, `{"query":"a\n"}`,
		`{"query":"x","query":"y"}`, `{"database":"a","query":"x"}`, `{"database":"c","query":"x"}`, `{"query":null}`, `{"query":"x","limit":1e2}`,
		`{"query":"x","limit":99999999999}`, `{"query":"x","limit":-1}`, `{"query":"x","limit":007}`, `{"query":"x","timeout_ms":5}`, `{"query":"x","shape":"rows"}`,
		`{"handle":"x"}`, `{"table_name":"x"}`, `{"x":1}`, `[]`, `{}`, `{"query":"x"} x`, `{"\u0071uery":"x"}`, "{\"query\":\"\xff\"}", "{\"query\":\"\x00\"}", `{"query":"x","limit":+1}`,
	} {
		f.Add(raw)
	}
	several := newToolset([]*database{{Database: Database{Name: "a"}}, {Database: Database{Name: "b"}}}).tools
	tools := maps.Clone(newToolset([]*database{{}}).tools)
	for name, tool := range several {
		tools[name+" of several"] = tool
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for name, tool := range tools {
			var plain, whole arguments
			if !tool.readPlain(json.RawMessage(raw), &plain) {
				continue
			}
			var value any
			if err := json.Unmarshal([]byte(raw), &value); err != nil {
				t.Fatalf("%s takes %q: %v", name, raw, err)
			}
			if err := tool.input.Validate(value); err != nil {
				t.Fatalf("%s takes %q: %v", name, raw, err)
			}
			if err := json.Unmarshal([]byte(raw), &whole); err != nil || !reflect.DeepEqual(plain, whole) {
				t.Fatalf("%s reads %q as %+v, want %+v, %v", name, raw, plain, whole, err)
			}
		}
	})
}

func TestPlainArgumentsAreTaken(t *testing.T) {
	tools := newToolset([]*database{{}}).tools
	for name, raw := range map[string]string{
		"read_data": `{"query": "SELECT 1", "limit": 100}`, "describe_table": `{"table_name":"x"}`, "database_info": `{}`,
		"list_tables": `{}`, "fetch_rows": `{"handle":"abc"}`,
	} {
		if !tools[name].readPlain(json.RawMessage(raw), new(arguments)) {
			t.Errorf("%s %s takes the long way", name, raw)
		}
	}
}

// TestBriefSchemas holds that what models are told of arguments is true: what
// fits the whole schema fits the brief one.
func TestBriefSchemas(t *testing.T) {
	brief := map[string]*jsonschema.Resolved{}
	for _, d := range allTools().definitions {
		resolved, err := d.InputSchema.Resolve(nil)
		if err != nil {
			t.Fatal(err)
		}
		brief[d.Name] = resolved
	}
	for name, list := range map[string][]any{
		"read_data": {object{"query": "x", "params": []any{1.0, "a", nil, true}, "limit": 1.0, "timeout_ms": 100.0, "shape": "rows"},
			object{"query": "x", "params": object{"a": 1.0}}},
		"describe_table": {object{"table_name": "x", "sample_rows": 5.0}, object{"table_names": []any{"x", "y"}}},
		"list_tables":    {object{"pattern": "x", "schema": "y", "kinds": []any{"view"}, "detail": "full", "limit": 1.0, "cursor": "z"}},
		"write_data":     {object{"query": "x", "params": []any{}, "token": "t"}},
	} {
		for _, value := range list {
			if err := brief[name].Validate(value); err != nil {
				t.Errorf("%s %v: %v", name, value, err)
			}
			if err := allTools().tools[name].input.Validate(value); err != nil {
				t.Errorf("%s %v: the whole schema: %v", name, value, err)
			}
		}
		if err := brief[name].Validate(object{"nonsense": 1.0}); err == nil {
			t.Errorf("%s takes an argument that it does not have", name)
		}
	}
}
