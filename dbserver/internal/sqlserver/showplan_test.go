package sqlserver

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// verdictOf is the code with which a plan is refused, empty if it is not.
func verdictOf(t *testing.T, name string, policy engine.Policy) string {
	t.Helper()
	p, err := parsePlan(document(name), "DECLARE @p1 bigint;")
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := p.reads(); err != nil {
		return code(err)
	}
	return code(p.obeys(&policy, "shop"))
}

func TestPlansAreClassified(t *testing.T) {
	other := map[string]string{
		"bad-two-selects": engine.MultiStatement, "bad-select-and-delete": engine.MultiStatement, "bad-declared-by-caller": engine.MultiStatement, "bad-select-and-declaration": engine.MultiStatement,
		"bad-function-scalar": engine.FunctionDenied, "bad-function-table": engine.FunctionDenied, "bad-function-clr": engine.FunctionDenied,
		"bad-function-method": engine.FunctionDenied, "bad-function-aggregate": engine.FunctionDenied,
	}
	files, err := filepath.Glob("testdata/showplan/*.xml")
	if err != nil || len(files) < 40 {
		t.Fatal(len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".xml")
		want := engine.ReadOnly
		if strings.HasPrefix(name, "select") {
			want = ""
		} else if w, ok := other[name]; ok {
			want = w
		}
		if got := verdictOf(t, name, engine.Policy{}); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestPoliciesAreHeldInThePlan(t *testing.T) {
	masked := func(with engine.With, columns ...string) engine.Policy {
		return engine.Policy{Masks: []engine.Mask{{Columns: columns, With: with}}}
	}
	for _, c := range []struct {
		name   string
		policy engine.Policy
		want   string
	}{
		{"bad-function-scalar", engine.Policy{Functions: []string{"dbo.touch"}}, ""},
		{"bad-function-scalar", engine.Policy{Functions: []string{"Touch"}}, ""},
		{"bad-function-scalar", engine.Policy{Functions: []string{"other.touch"}}, engine.FunctionDenied},
		{"bad-function-table", engine.Policy{Functions: []string{"dbo.*"}}, ""},
		{"select", engine.Policy{DenyTables: []string{"Users"}}, engine.AccessDenied},
		{"select", engine.Policy{DenyTables: []string{"dbo.us*"}}, engine.AccessDenied},
		{"select", engine.Policy{DenyTables: []string{"orders"}}, ""},
		{"select", engine.Policy{Schemas: []string{"sales"}}, engine.AccessDenied},
		{"select", engine.Policy{Schemas: []string{"dbo"}}, ""},
		{"select-constant", engine.Policy{Schemas: []string{"sales"}}, ""},
		{"select-json", engine.Policy{Schemas: []string{"sales"}}, ""},
		{"select-dmv", engine.Policy{Schemas: []string{"dbo"}}, engine.AccessDenied},
		{"select-dmv", engine.Policy{DenyTables: []string{"users"}}, ""},
		{"select-other-database", engine.Policy{}, ""},
		{"select-other-database", engine.Policy{DenyTables: []string{"orders"}}, engine.AccessDenied},
		{"select-other-database", masked(engine.WithNull, "ssn"), engine.AccessDenied},
		{"select-indexed-view", masked(engine.WithNull, "ssn"), engine.ColumnMasked},
		{"select-seek-email", masked(engine.WithNull, "email"), engine.ColumnMasked},
		{"select-output-email", masked(engine.WithPartial, "users.Email"), engine.ColumnMasked},
		{"select-expression-email", masked(engine.WithRefuse, "dbo.users.email"), engine.ColumnMasked},
		{"select-output-email", masked(engine.WithNull, "orders.email"), ""},
		{"select", masked(engine.WithNull, "email"), ""},
	} {
		if got := verdictOf(t, c.name, c.policy); got != c.want {
			t.Errorf("%s under %+v: got %q, want %q", c.name, c.policy, got, c.want)
		}
	}
}

// TestViewsAreDeniedByTheirNames: a plan has the tables below a view, and not
// the view.
func TestViewsAreDeniedByTheirNames(t *testing.T) {
	for _, c := range []struct {
		sql    string
		policy engine.Policy
		want   string
	}{
		{"SELECT id FROM names", engine.Policy{DenyTables: []string{"names"}}, engine.AccessDenied},
		{"SELECT id FROM [Names]", engine.Policy{DenyTables: []string{"names"}}, engine.AccessDenied},
		{"SELECT id FROM dbo . names", engine.Policy{DenyTables: []string{"dbo.names"}}, engine.AccessDenied},
		{"SELECT id FROM sales.names", engine.Policy{DenyTables: []string{"dbo.names"}}, ""},
		{"SELECT 'names' FROM users", engine.Policy{DenyTables: []string{"names"}}, ""},
		{"SELECT id FROM names", engine.Policy{Masks: []engine.Mask{{Columns: []string{"names.email"}, With: engine.WithNull}}}, engine.ColumnMasked},
		{"SELECT id FROM users", engine.Policy{Masks: []engine.Mask{{Columns: []string{"names.email"}, With: engine.WithNull}}}, ""},
		{"SELECT id FROM users", engine.Policy{Masks: []engine.Mask{{Columns: []string{"users.email"}, With: engine.WithNull}}}, ""},
		{"SELECT id FROM users", engine.Policy{Masks: []engine.Mask{{Columns: []string{"*.email"}, With: engine.WithNull}}}, ""},
		{"SELECT id FROM users FOR SYSTEM_TIME ALL", engine.Policy{Masks: []engine.Mask{{Columns: []string{"email"}}}}, engine.ColumnMasked},
		{"SELECT id FROM users WHERE CONTAINS(email, 'x')", engine.Policy{Masks: []engine.Mask{{Columns: []string{"email"}}}}, engine.ColumnMasked},
		{"SELECT id FROM users OPTION (RECOMPILE)", engine.Policy{Masks: []engine.Mask{{Columns: []string{"email"}}}}, engine.ColumnMasked},
		{"SELECT id FROM users OPTION (RECOMPILE)", engine.Policy{}, ""},
	} {
		f := &fake{run: twoRows}
		o := options()
		o.Policy = c.policy
		d := f.start(t, o)
		if err := d.Read(t.Context(), who, engine.Statement{SQL: c.sql}, newWriter()); code(err) != c.want {
			t.Errorf("%s under %+v: got %v, want %q", c.sql, c.policy, err, c.want)
		}
	}
}

func TestSplitName(t *testing.T) {
	for name, want := range map[string]string{"a": "a", "[a].[b.c]": "a|b.c", "[a]]b].c": "a]b|c", "a..b": "a||b", "[a": "[a", "": ""} {
		if got := strings.Join(splitName(name), "|"); got != want {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// FuzzParsePlan holds that no document makes the reader fall.
func FuzzParsePlan(f *testing.F) {
	for _, name := range []string{"select", "select-declared", "bad-function-scalar", "bad-cursor"} {
		f.Add(document(name))
	}
	f.Fuzz(func(t *testing.T, document string) {
		p, err := parsePlan(document, "DECLARE @p1 bigint;")
		if err == nil && p.reads() == nil && p.statements[0].kind != "SELECT" && p.statements[0].kind != "SELECT WITHOUT QUERY" {
			t.Errorf("%q is taken for a SELECT", document)
		}
	})
}
