package dbserver

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func TestParametersByName(t *testing.T) {
	s := serveSample(t, Database{})
	for _, tool := range []string{"read_data", "explain_query"} {
		a := call(t, s, tool, json.RawMessage(`{"query":"SELECT :name, ':x', :n, typeof(:n), :name -- :y","params":{"n":9007199254740993,"name":"x'; DROP TABLE sales --"}}`))
		if a.IsError {
			t.Errorf("%s: %s", tool, a.structured)
		}
		if got, want := rowsJSON(t, a), `[["x'; DROP TABLE sales --",":x","9007199254740993","integer","x'; DROP TABLE sales --"]]`; tool == "read_data" && got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for _, c := range []struct{ arguments, says string }{
		{`{"query":"SELECT :a, :b","params":{"a":1}}`, "no value for :b"},
		{`{"query":"SELECT :a","params":{"a":1,"b":2}}`, "params/b: the statement has no :b"},
		{`{"query":"SELECT :A","params":{"a":1}}`, "no :a"},
		{`{"query":"SELECT ':a'","params":{"a":1}}`, "no :a"},
		{`{"query":"SELECT :a, ?","params":{"a":1}}`, "placeholder ?"},
		{`{"query":"SELECT :a, @b","params":{"a":1}}`, "placeholder @b"},
		{`{"query":"SELECT :a","params":{}}`, "no value for :a"},
		{`{"query":"SELECT :a","params":{"a":[1]}}`, "params"},
	} {
		a := call(t, s, "read_data", json.RawMessage(c.arguments))
		wantCode(t, a, engine.InvalidArgument)
		if !strings.Contains(a.StructuredContent.Error.Message, c.says) {
			t.Errorf("%s: %q does not say %q", c.arguments, a.StructuredContent.Error.Message, c.says)
		}
	}
}

func TestNamesBecomeTheEnginesPlaceholders(t *testing.T) {
	for name, want := range map[string]struct {
		text   string
		params params
	}{
		SQLite:    {"SELECT ?1, ?2, ?1", params{"x", json.Number("12345678901234567890")}},
		Postgres:  {"SELECT $1, $2, $1", params{"x", json.Number("12345678901234567890")}},
		MySQL:     {"SELECT ?, ?, ?", params{"x", json.Number("12345678901234567890"), "x"}},
		SQLServer: {"SELECT @p1, @p2, @p1", params{"x", json.Number("12345678901234567890")}},
	} {
		r := &request{database: &database{Database: Database{Engine: name}}, args: arguments{
			Query: "SELECT :b, :a, :b", Given: json.RawMessage(`{"a":12345678901234567890,"b":"x"}`)}}
		if err := r.bindParams(); err != nil || r.args.Query != want.text || !reflect.DeepEqual(r.args.Params, want.params) {
			t.Errorf("%s: got %s with %s, %v", name, r.args.Query, fmt.Sprint(r.args.Params), err)
		}
	}
	// By position nothing is changed.
	r := &request{database: &database{}, args: arguments{Query: "SELECT :a, ?", Given: json.RawMessage(`[1,null]`)}}
	if err := r.bindParams(); err != nil || r.args.Query != "SELECT :a, ?" || !reflect.DeepEqual(r.args.Params, params{json.Number("1"), nil}) {
		t.Errorf("got %s with %v, %v", r.args.Query, r.args.Params, err)
	}
}
