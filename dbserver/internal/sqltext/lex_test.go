package sqltext

import (
	"slices"
	"strings"
	"testing"
)

var dialects = map[Dialect]string{SQLite: "SQLite", Postgres: "PostgreSQL", MySQL: "MySQL", SQLServer: "SQL Server"}

var kinds = map[Kind]string{Space: "space", Comment: "comment", Executable: "executable", Semicolon: "semicolon",
	Word: "word", Number: "number", Quoted: "quoted", String: "string", Param: "param", Other: "other"}

// tokens writes a text as its tokens but space, each with its kind.
func tokens(d Dialect, sql string) string {
	var list []string
	for i := 0; i < len(sql); {
		kind, next := d.Next(sql, i)
		if kind != Space {
			list = append(list, kinds[kind]+" "+sql[i:next])
		}
		i = next
	}
	return strings.Join(list, " | ")
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		d         Dialect
		sql, want string
	}{
		{Postgres, `a1$ "x""y" 'it''s' 1.5e3 .5 $1 $12x`, `word a1$ | quoted "x""y" | string 'it''s' | number 1.5e3 | number .5 | param $1 | param $12 | word x`},
		{Postgres, `$$a;'$$ $t$ $$ ; $u$ $t$ $1$2`, `string $$a;'$$ | string $t$ $$ ; $u$ $t$ | param $1 | param $2`},
		{Postgres, `$é$;$é$ a$b$;$b$`, `string $é$;$é$ | word a$b$ | semicolon ; | string $b$`},
		{Postgres, `1$a$;$a$`, `number 1 | string $a$;$a$`},
		{Postgres, `$open$ ; `, `string $open$ ; `},
		{Postgres, `/* a /* b */ ; */ c /*/*/**/*/ ; */ d`, `comment /* a /* b */ ; */ | word c | comment /*/*/**/*/ ; */ | word d`},
		{Postgres, "-- a\r; -- b", "comment -- a\r | semicolon ; | comment -- b"},
		{Postgres, `E'\';' e'a''\\' 'a\' b'\' n'\' x'\' U&'\' U&"\" fe'\'`,
			`string E'\';' | string e'a''\\' | string 'a\' | string b'\' | string n'\' | string x'\' | string U&'\' | quoted U&"\" | word fe | string '\'`},
		{Postgres, "E'a' -- c\n 'b\\' ; ' 'c\\'", "string E'a' -- c\n 'b\\' ; ' | string 'c\\'"},
		{Postgres, `E'a' 'b\' ;`, `string E'a' | string 'b\' | semicolon ;`},
		{Postgres, "E'a'\n;", "string E'a' | semicolon ;"},
		{Postgres, `a::int4 ? b @> "c"`, `word a | other :: | word int4 | other ? | word b | other @ | other > | quoted "c"`},
		{Postgres, "`[a;b]", "other ` | other [ | word a | semicolon ; | word b | other ]"},

		{MySQL, `'a\';' "b\";" 'c''d' "e""f"`, `string 'a\';' | string "b\";" | string 'c''d' | string "e""f"`},
		{MySQL, "`a``;\\` 'x\\\\';", "quoted `a``;\\` | string 'x\\\\' | semicolon ;"},
		{MySQL, "1 # a ; \n2 -- b ;\n3 --c;", "number 1 | comment # a ; \n | number 2 | comment -- b ;\n | number 3 | other - | other - | word c | semicolon ;"},
		{MySQL, "1 --\x01 ;\n--\x7f ;\n--", "number 1 | comment --\x01 ;\n | comment --\x7f ;\n | comment --"},
		{MySQL, `/*!50000 DROP */ /*M!100 x */ /*+ h */ /* a /* b */ c`, `executable /*!50000 DROP */ | executable /*M!100 x */ | comment /*+ h */ | comment /* a /* b */ | word c`},
		{MySQL, `/*!/`, `executable /*!/`},
		{MySQL, `n'\'' x'41' b'1' ?INTO @x:=1 $a $$`, `string n'\'' | string x'41' | string b'1' | param ? | word INTO | other @ | word x | other : | other = | number 1 | word $a | word $$`},
		{MySQL, `_utf8'a' {d '2020'}`, `word _utf8 | string 'a' | other { | word d | string '2020' | other }`},

		{SQLite, "[a;]]'[b] `c``;`", "quoted [a;] | other ] | string '[b] `c``;`"},
		{SQLite, "`c``;` \"d\"\"\" x'41' '\\' ;", "quoted `c``;` | quoted \"d\"\"\" | string x'41' | string '\\' | semicolon ;"},
		{SQLite, `?1 ?a :a @b $c #d $e::f(') g(h) @@`, `param ?1 | param ? | word a | param :a | param @b | param $c | param #d | param $e::f(') | word g | other ( | word h | other ) | other @ | other @`},
		{SQLite, "/* a /* b */ c -- d\r;\n/*/;*/ /*", "comment /* a /* b */ | word c | comment -- d\r;\n | comment /*/;*/ | other / | other *"},
		{SQLite, "$a(b ;", "param $a(b  | semicolon ;"},

		{SQLServer, `[a]];] "b"";" 'c'';' N'd;' n'e'`, `quoted [a]];] | quoted "b"";" | string 'c'';' | string N'd;' | string n'e'`},
		{SQLServer, `'a\';`, `string 'a\' | semicolon ;`},
		{SQLServer, `/* a /* b */ ; */ c -- d`, `comment /* a /* b */ ; */ | word c | comment -- d`},
		{SQLServer, `@p1 @@ROWCOUNT #t ##u a@b#c$d 0x1F $1.5 $action`,
			`param @p1 | word @@ROWCOUNT | word #t | word ##u | word a@b#c$d | number 0x1F | word $1 | number .5 | word $action`},
		{SQLServer, "`a`", "other ` | word a | other `"},
	} {
		if got := tokens(c.d, c.sql); got != c.want {
			t.Errorf("%s: %s\n got %s\nwant %s", dialects[c.d], c.sql, got, c.want)
		}
	}
}

func TestStatement(t *testing.T) {
	for d := range dialects {
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
			{"SELECT ';', \";\"", "SELECT ';', \";\"", true},
			{"SELECT 'it''s; ok'; x", "SELECT 'it''s; ok'", false},
			{"SELECT 1 /* ; */ -- ;\n", "SELECT 1", true},
			{"SELECT 1; /* open", "SELECT 1", true},
			{"SELECT 'open; x", "SELECT 'open; x", true},
		} {
			if first, only := d.Statement(c.sql); first != c.first || only != c.only {
				t.Errorf("%s: %q: got %q, %t", dialects[d], c.sql, first, only)
			}
		}
	}
	for d := range dialects {
		for _, c := range []string{"/* open", "SELECT 1 /* /* open */"} {
			want := map[bool]string{true: c, false: strings.TrimSpace(c[:strings.Index(c, "/*")])}[d == Postgres] // whose server refuses it
			if first, only := d.Statement(c); first != want || !only {
				t.Errorf("%s: %q: got %q, %t", dialects[d], c, first, only)
			}
		}
	}
	// An executable comment is no comment: it is run.
	if first, only := MySQL.Statement("SELECT 1; /*!DROP TABLE t*/"); first != "SELECT 1" || only {
		t.Errorf("got %q, %t", first, only)
	}
}

func TestKeyword(t *testing.T) {
	for _, c := range []struct {
		d         Dialect
		sql, want string
	}{
		{SQLite, "", ""}, {SQLite, "select 1", "SELECT"}, {Postgres, "/* /* DROP */ */ -- x\n ((Select 1))", "SELECT"},
		{SQLServer, ";WITH a AS (SELECT 1) SELECT 2", "WITH"}, {MySQL, "# x\nshow tables", "SHOW"}, {MySQL, "/*!DROP*/ SELECT", ""},
		{SQLite, "'SELECT'", ""}, {SQLite, "\ufeffSELECT", "SELECT"}, {Postgres, "\ufeffSELECT", "\ufeffSELECT"}, {SQLServer, "[SELECT]", ""}, {Postgres, "?select", ""},
	} {
		if got := c.d.Keyword(c.sql); got != c.want {
			t.Errorf("%s: %q: got %q, want %q", dialects[c.d], c.sql, got, c.want)
		}
	}
}

func TestNamed(t *testing.T) {
	for _, c := range []struct {
		d         Dialect
		sql, want string
		names     []string
	}{
		{SQLite, "SELECT :a, :b, :a", "SELECT ?1, ?2, ?1", []string{"a", "b"}},
		{Postgres, "SELECT :a, :b, :a", "SELECT $1, $2, $1", []string{"a", "b"}},
		{MySQL, "SELECT :a, :b, :a", "SELECT ?, ?, ?", []string{"a", "b", "a"}},
		{SQLServer, "SELECT :a, :b, :a", "SELECT @p1, @p2, @p1", []string{"a", "b"}},
		{Postgres, "SELECT x::int, :a::text, ':b', \":c\", $$:d$$ -- :e\n/* :f */", "SELECT x::int, $1::text, ':b', \":c\", $$:d$$ -- :e\n/* :f */", []string{"a"}},
		{Postgres, "SELECT a[1:2], a[lo:hi], a[f(x):hi], a[b[1]:hi], a[:n]", "SELECT a[1:2], a[lo:hi], a[f(x):hi], a[b[1]:hi], a[$1]", []string{"n"}},
		{Postgres, "SELECT f(x := :a), :a1, :é", "SELECT f(x := $1), $2, $3", []string{"a", "a1", "é"}},
		{MySQL, "SELECT @x := :a, \":b\" # :c", "SELECT @x := ?, \":b\" # :c", []string{"a"}},
		{SQLServer, "SELECT geography::Point(:lat, 1, 2), [:b], @p9", "SELECT geography::Point(@p1, 1, 2), [:b], @p9", []string{"lat"}},
		{SQLite, "SELECT ?, @b, $c", "SELECT ?, @b, $c", nil},
	} {
		if got, names := c.d.Named(c.sql); got != c.want || !slices.Equal(names, c.names) {
			t.Errorf("%s: %q: got %q, %q", dialects[c.d], c.sql, got, names)
		}
	}
}

// FuzzNext holds that tokens cover a text without gaps, that quotes end where
// their dialect ends them, and that the first statement of a text is one.
func FuzzNext(f *testing.F) {
	for _, sql := range []string{"", "SELECT 1; x", `E'\''`, "E'a'\n'b\\'", "$a$;$a$", "/* /* */", "/*!1*/", "-- \n", "#\n", "[a]]", "`a``", "$x::y(z", "a::b :c", "1.5e3", `\`, "\x80", "x'41'"} {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		for d, name := range dialects {
			for i := 0; i < len(sql); {
				kind, next := d.Next(sql, i)
				if next <= i || next > len(sql) || kinds[kind] == "" {
					t.Fatalf("%s: %q: token %v of %d ends at %d", name, sql, kind, i, next)
				}
				i = next
			}
			text := strings.ReplaceAll(sql, "'", "''")
			if d == MySQL {
				text = strings.ReplaceAll(text, `\`, `\\`)
			}
			text = "'" + text + "'"
			if kind, next := d.Next(text+" '", 0); kind != String || next != len(text) {
				t.Errorf("%s: %q is %s that ends at %d", name, text, kinds[kind], next)
			}
			first, _ := d.Statement(sql)
			if _, one := d.Statement(first); !one || !strings.HasPrefix(sql, first) {
				t.Errorf("%s: the first statement of %q is %q", name, sql, first)
			}
			if named, names := d.Named(sql); len(names) == 0 && named != sql {
				t.Errorf("%s: %q without names became %q", name, sql, named)
			}
		}
	})
}
