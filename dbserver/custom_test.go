package dbserver

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func serveTool(t *testing.T, tools ...Tool) *Server {
	t.Helper()
	path, err := samplePath()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Databases: []Database{{DSN: path}}, Tools: tools})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestToolOfOnesOwn(t *testing.T) {
	s := serveTool(t, Tool{
		Name: "stores_like", Description: "Stores whose name is like a pattern.",
		Statement: "SELECT store_id, :region AS region, :region AS again, :flag, :big FROM stores WHERE store_id <= :most ORDER BY 1",
		Params: []Param{
			{Name: "most", Type: "integer", Description: "Highest id"},
			{Name: "region", Default: "North"},
			{Name: "flag", Type: "boolean", Optional: true},
			{Name: "big", Type: "number", Default: json.Number("9007199254740993")},
		},
		MaxRows: 3,
	})
	a := call(t, s, "stores_like", object{"most": 2})
	if got, want := rowsJSON(t, a), `[[1,"North","North",null,"9007199254740993"],[2,"North","North",null,"9007199254740993"]]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	a = call(t, s, "stores_like", object{"most": 20, "region": "x'; DROP TABLE stores --", "flag": true, "limit": 1})
	if got, want := rowsJSON(t, a), `[[1,"x'; DROP TABLE stores --","x'; DROP TABLE stores --",1,"9007199254740993"]]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if a = call(t, s, "stores_like", object{"most": 20, "limit": 100}); a.StructuredContent.RowCount != 3 {
		t.Errorf("got %d rows", a.StructuredContent.RowCount)
	}
	for _, args := range []object{{}, {"most": "2"}, {"most": 2, "query": "SELECT 1"}, {"most": 2.5}} {
		wantCode(t, call(t, s, "stores_like", args), engine.InvalidArgument)
	}
	if !strings.Contains(string(s.tools.list), `"name":"stores_like"`) {
		t.Error("the tool is not listed")
	}
}

// TestToolOfOnesOwnOnlyReads is that a statement of the configuration has no
// more rights than one of a model.
func TestToolOfOnesOwnOnlyReads(t *testing.T) {
	s := serveTool(t, Tool{Name: "purge", Description: "Purges.", Statement: "DELETE FROM sales"})
	wantCode(t, call(t, s, "purge", object{}), engine.ReadOnly)
}

func TestToolOfOnesOwnThatWrites(t *testing.T) {
	l := &ledger{rows: 1, class: "update"}
	s := serveLedger(t, l, Options{
		Databases: []Database{{DSN: "x.db", Mode: Write, MaxAffected: 5}},
		Tools: []Tool{{Name: "rename", Description: "Renames.", Write: true, Statement: "UPDATE t SET name = :name WHERE id = :id",
			Params: []Param{{Name: "id", Type: "integer"}, {Name: "name"}}}},
	})
	if w := call(t, s, "rename", object{"id": 7, "name": "x"}).written(t); !w.Committed || w.Affected != 1 {
		t.Errorf("%+v", w)
	}
	if len(l.ran) != 1 || l.ran[0] != "UPDATE t SET name = ?1 WHERE id = ?2 [x 7] commit=true where=true ddl=false" {
		t.Errorf("ran %q", l.ran)
	}
	l.rows = 6
	wantCode(t, call(t, s, "rename", object{"id": 7, "name": "x"}), engine.AffectedLimit)
	if !strings.Contains(string(mustMarshal(s.tools.definitions)), `{"readOnlyHint":false,"destructiveHint":true,"idempotentHint":false,"openWorldHint":false}`) {
		t.Error("the tool does not say that it writes")
	}
}

func TestToolsThatMakeNoSense(t *testing.T) {
	for says, tool := range map[string]Tool{
		"its name":              {Name: "1x", Description: "x", Statement: "SELECT 1"},
		"another tool":          {Name: "read_data", Description: "x", Statement: "SELECT 1"},
		"description":           {Name: "x", Statement: "SELECT 1"},
		"no database":           {Name: "x", Description: "x", Statement: "SELECT 1", Database: "y"},
		"mode read_only":        {Name: "x", Description: "x", Statement: "DELETE FROM t", Write: true},
		"one statement":         {Name: "x", Description: "x", Statement: "SELECT 1; SELECT 2"},
		"want one statement":    {Name: "x", Description: "x"},
		"not in the statement":  {Name: "x", Description: "x", Statement: "SELECT ':a'", Params: []Param{{Name: "a"}}},
		"none of its params":    {Name: "x", Description: "x", Statement: "SELECT :a"},
		"want string":           {Name: "x", Description: "x", Statement: "SELECT :a", Params: []Param{{Name: "a", Type: "date"}}},
		"not of its type":       {Name: "x", Description: "x", Statement: "SELECT :a", Params: []Param{{Name: "a", Type: "integer", Default: "x"}}},
		`param "limit"`:         {Name: "x", Description: "x", Statement: "SELECT :limit", Params: []Param{{Name: "limit"}}},
		"MaxRows":               {Name: "x", Description: "x", Statement: "SELECT 1", MaxRows: -1},
		`param "a": want a nam`: {Name: "x", Description: "x", Statement: "SELECT :a", Params: []Param{{Name: "a"}, {Name: "a"}}},
	} {
		_, err := New(Options{Databases: []Database{{DSN: "x.db"}}, Tools: []Tool{tool}})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: got %v, want %q", tool, err, says)
		}
	}
}
