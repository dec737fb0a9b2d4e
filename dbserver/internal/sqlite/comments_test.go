package sqlite

import (
	"database/sql/driver"
	"reflect"
	"strings"
	"testing"

	"modernc.org/sqlite"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

func TestStatement(t *testing.T) {
	for _, c := range []struct {
		sql, first string
		only       bool
	}{
		{"", "", true},
		{" ; \n", "", true},
		{"-- x", "", true},
		{"SELECT 1", "SELECT 1", true},
		{" ;SELECT 1 ; -- x\n/* y */;", " ;SELECT 1", true},
		{"SELECT 1;SELECT 2", "SELECT 1", false},
		{"SELECT ';' || \";\" || `;` || [;]", "SELECT ';' || \";\" || `;` || [;]", true},
		{"SELECT 'it''s; ok'; x", "SELECT 'it''s; ok'", false},
		{"SELECT 1 /* ; */ -- ;\n", "SELECT 1", true},
		{"SELECT 1; /*", "SELECT 1", false}, // a slash and a star, SQLite finds
		{"SELECT 1; /* open", "SELECT 1", true},
		{"SELECT 'open; x", "SELECT 'open; x", true},
		{"SELECT 1 - -1; --", "SELECT 1 - -1", true},
	} {
		if first, only := sqltext.SQLite.Statement(c.sql); first != c.first || only != c.only {
			t.Errorf("%q: got %q, %t", c.sql, first, only)
		}
	}
}

// FuzzStatement holds the lexer to SQLite's: of a text that it takes for one
// statement, SQLite runs one. How many SQLite runs is counted by an authorizer,
// which is asked about each SELECT 1.
func FuzzStatement(f *testing.F) {
	for _, sql := range []string{";", "--", "/*", "*/", "''", "'", "\"", "`", "[", "]", "\n", " ", "\\", "x'", "/", "-"} {
		f.Add(sql, ";")
	}
	conn, err := (&sqlite.Driver{}).Open(":memory:")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	selects := 0
	err = conn.(sqlite.AuthorizerRegisterer).RegisterAuthorizer(
		func(action sqlite.AuthorizerActionCode, _, _, _, _ string) sqlite.AuthorizerReturnCode {
			if action != sqlite.AuthSelect {
				return sqlite.AuthorizerDeny
			}
			selects++
			return sqlite.AuthorizerOK
		})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, 0) || strings.ContainsAny(strings.ToLower(a+b), "abcdefghijklmnopqrstuvwxyz()") {
			return // only what is between statements is of interest
		}
		sql := "SELECT 1" + a + "SELECT 1" + b + "SELECT 1"
		_, only := sqltext.SQLite.Statement(sql)
		selects = 0
		if _, err := conn.(driver.ExecerContext).ExecContext(t.Context(), sql, nil); err != nil {
			return // the statements are refused, and with them the text
		}
		if ran := selects; only && ran > 2 { // the driver compiles the first of several twice
			t.Errorf("%q is taken for one statement, SQLite compiled %d", sql, ran)
		}
	})
}

func TestComments(t *testing.T) {
	table, columns := comments("CREATE TABLE \"a (\" -- not inside\n" +
		"( -- the table\n  -- in two lines\n" +
		"  id INTEGER PRIMARY KEY, -- the key, with (parens) and ; and '\n" +
		"  [Two Words] DECIMAL(10, 2) DEFAULT (1 + 2), /* a block */ \"qu\"\"ote\" TEXT CHECK (x <> '--'), -- after two\n" +
		"  -- alone on its line\n" +
		"  last TEXT -- without a comma\n, FOREIGN KEY (id) REFERENCES b (id) -- of a constraint\n)")
	if table != "the table in two lines" {
		t.Errorf("table: %q", table)
	}
	want := map[string]string{
		"id":        "the key, with (parens) and ; and '",
		"two words": "a block",
		`qu"ote`:    "after two",
		"last":      "without a comma",
		"foreign":   "of a constraint",
	}
	if !reflect.DeepEqual(columns, want) {
		t.Errorf("columns: %q", columns)
	}
}

func TestNear(t *testing.T) {
	names := []string{"customers", "products", "calendar", "stores", "sales", "monthly_revenue"}
	for name, want := range map[string]string{
		"customer": "customers", "Costumers": "customers", "sale": "sales", "store": "stores", "revenue": "monthly_revenue", "xyz": "", "saels": "sales",
	} {
		if got := strings.Join(engine.Near(name, names), " "); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
