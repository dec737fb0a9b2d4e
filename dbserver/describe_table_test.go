package dbserver

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func FuzzNames(f *testing.F) {
	f.Add("public", "users")
	f.Add("", "a.b")
	f.Add("a.b", "c.d")
	f.Add("", `"`)
	f.Add("s", `a"".".b`)
	f.Fuzz(func(t *testing.T, schema, table string) {
		if table == "" {
			return
		}
		n := engine.Name{Schema: schema, Table: table}
		if got := namesOf(nameText(n)); got[0] != n || len(got) > maxNames+1 {
			t.Errorf("%+v is written %s, which is read as %+v", n, nameText(n), got)
		}
	})
}

// unusual are names of tables that are not only letters; each holds its number.
var unusual = []string{"plain", "with.dot", "two.dots.here", ".dot before", "dot behind.", "a space", `quote"inside`, `"quoted"`, `"half`, `"a"."b"`}

// describesAll lists the tables of a database that has those of unusual, and
// asks for each by what list_tables tells of it.
func describesAll(t *testing.T, s *Server, schema string) {
	t.Helper()
	all := call(t, s, "list_tables", object{"detail": "names"})
	var list tableList
	if err := json.Unmarshal(all.structured, &list); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(all.text()), "\n")
	lines = lines[len(lines)-len(list.Tables):]
	if len(lines) != len(unusual) {
		t.Fatalf("got %q", lines)
	}
	for i, told := range list.Tables {
		text, _, _ := strings.Cut(lines[i], "\t")
		ways := []string{text, told.Name}
		if schema != "" {
			ways = append(ways, schema+"."+told.Name)
		}
		for _, way := range ways {
			got := call(t, s, "describe_table", object{"table_name": way})
			var about engine.Description
			if err := json.Unmarshal(got.structured, &about); err != nil || got.IsError || about.Name != told.Name {
				t.Errorf("%s as %s: got %s", told.Name, way, got.text())
			}
		}
	}
	if got := call(t, s, "describe_table", object{"table_name": "with.dots"}); !got.IsError || !strings.Contains(got.text(), "with.dot") {
		t.Errorf("no near name: %s", got.text())
	}
}

func TestListedNamesAreDescribed(t *testing.T) {
	sql := ""
	for _, name := range unusual {
		sql += `CREATE TABLE "` + strings.ReplaceAll(name, `"`, `""`) + `"(a);`
	}
	describesAll(t, serve(t, Database{DSN: newDatabase(t, sql)}), "")
}
