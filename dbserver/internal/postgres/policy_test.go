//go:build unix

package postgres

import (
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// masked hides columns of users and parts.
func masked(with engine.With) func(*engine.Options) {
	return func(o *engine.Options) {
		o.Policy.Masks = []engine.Mask{{Columns: []string{"users.ssn", "parts.secret"}, With: with}}
	}
}

func TestMasksHideColumnsInResults(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, "CREATE INDEX by_ssn ON users (ssn); CREATE VIEW people AS SELECT id, name, ssn AS number FROM users; GRANT SELECT ON people TO reader")
	null, partial := p.reader(t, masked(engine.WithNull)), p.reader(t, masked(engine.WithPartial))
	for _, c := range []struct{ sql, null, partial string }{
		{"SELECT id, ssn FROM users WHERE id = 1", `[[1,null]]`, `[[1,"1***"]]`},
		{"SELECT ssn AS x, name, ssn FROM users u WHERE name = 'Ann'", `[[null,"Ann",null]]`, `[["1***","Ann","1***"]]`},
		{"SELECT * FROM (SELECT id, ssn FROM users) x ORDER BY id LIMIT 1", `[[1,null]]`, `[[1,"1***"]]`},
		{"SELECT id, number FROM people WHERE id = 2", `[[2,null]]`, `[[2,"2***"]]`},
		{"TABLE parts_eu", `[[1,"eu",null]]`, `[[1,"eu","s***"]]`},
		{"SELECT secret FROM parts WHERE id = 1", `[[null]]`, `[["s***"]]`},
		{"SELECT name FROM users ORDER BY id", `[["Ann"],["Bob"],["Käthe"]]`, `[["Ann"],["Bob"],["Käthe"]]`},
		{"SELECT count(*) FROM users", `[[3]]`, `[[3]]`},
		{"SELECT name, count(*) FROM users JOIN orders ON user_id = users.id GROUP BY name ORDER BY name LIMIT 1", `[["Ann",100]]`, `[["Ann",100]]`},
		{"SELECT u.ssn, o.total FROM users u JOIN orders o ON o.user_id = u.id ORDER BY o.id LIMIT 1", `[[null,"1.50"]]`, `[["2***","1.50"]]`},
		{"SELECT sum(n) FROM generate_series(1, 3) n", `[[6]]`, `[[6]]`},
		{"SELECT upper(name), id + 1 FROM users WHERE id = $1", `[["ANN",2]]`, `[["ANN",2]]`},
	} {
		var params []any
		if c.sql[len(c.sql)-1] == '1' && c.sql[len(c.sql)-2] == '$' {
			params = []any{"1"}
		}
		if got := read(t, null, c.sql, params...); got != c.null {
			t.Errorf("%s: got %s, want %s", c.sql, got, c.null)
		}
		if got := read(t, partial, c.sql, params...); got != c.partial {
			t.Errorf("%s: got %s, want %s", c.sql, got, c.partial)
		}
	}
}

// attacksOnMasks would tell something of users.ssn.
var attacksOnMasks = []string{
	"SELECT name FROM users WHERE ssn = '111-11-1111'",
	"SELECT name FROM users WHERE ssn LIKE '1%'",
	"SELECT upper(ssn) FROM users",
	"SELECT ssn || '' FROM users",
	"SELECT (ssn) || name FROM users",
	"SELECT ssn::varchar(20) FROM users",
	"SELECT length(ssn) FROM users",
	"SELECT max(ssn) FROM users",
	"SELECT array_agg(ssn) FROM users",
	"SELECT count(ssn) FROM users",
	"SELECT count(DISTINCT ssn) FROM users",
	"SELECT string_agg(ssn, ',') FROM users",
	"SELECT ssn FROM users GROUP BY ssn",
	"SELECT DISTINCT ssn FROM users",
	"SELECT DISTINCT ON (ssn) name FROM users",
	"SELECT name FROM users ORDER BY ssn",
	"SELECT name FROM users ORDER BY ssn LIMIT 1",
	"SELECT ssn FROM users ORDER BY ssn",
	"SELECT id, ssn FROM users ORDER BY ssn DESC",
	"SELECT id, ssn FROM users ORDER BY lower(ssn)",
	"SELECT id, ssn FROM users ORDER BY mood, ssn LIMIT 2",
	"SELECT u FROM users u",
	"SELECT u.*::text FROM users u",
	"SELECT row_to_json(u) FROM users u",
	"SELECT to_jsonb(users) FROM users",
	"SELECT (u.*)::text FROM users u",
	"SELECT (u).ssn || '' FROM users u",
	"SELECT ROW(ssn) FROM users",
	"SELECT (SELECT ssn FROM users LIMIT 1)",
	"SELECT (SELECT ssn FROM users u WHERE u.id = o.user_id) FROM orders o",
	"SELECT EXISTS (SELECT FROM users WHERE ssn = '111-11-1111')",
	"WITH x AS MATERIALIZED (SELECT ssn AS y FROM users) SELECT y FROM x",
	"WITH x AS (SELECT ssn AS y FROM users) SELECT upper(y) FROM x",
	"WITH RECURSIVE x(y, n) AS (SELECT ssn, 1 FROM users UNION ALL SELECT y, n + 1 FROM x WHERE n < 2) SELECT y FROM x",
	"SELECT y FROM (SELECT ssn AS y FROM users OFFSET 0) x WHERE y > '2'",
	"SELECT a.name FROM users a JOIN users b ON a.ssn = b.ssn",
	"SELECT name FROM users NATURAL JOIN (SELECT '111-11-1111' AS ssn) x",
	"SELECT name FROM users JOIN (VALUES ('111-11-1111')) v(s) ON ssn = s",
	"SELECT ssn FROM users UNION SELECT 'x'",
	"SELECT ssn FROM users EXCEPT SELECT '111-11-1111'",
	"SELECT ssn FROM users INTERSECT SELECT '111-11-1111'",
	"SELECT row_number() OVER (ORDER BY ssn), name FROM users",
	"SELECT rank() OVER (PARTITION BY ssn ORDER BY id), name FROM users",
	"SELECT lag(ssn) OVER (ORDER BY id) FROM users",
	"SELECT first_value(ssn) OVER () FROM users",
	"SELECT CASE WHEN ssn > '2' THEN 1 END FROM users",
	"SELECT coalesce(ssn, '') FROM users",
	"SELECT nullif(ssn, 'x') FROM users",
	"SELECT ARRAY[ssn] FROM users",
	"SELECT json_build_object('a', ssn) FROM users",
	"SELECT jsonb_agg(u) FROM users u",
	"SELECT x.* FROM users u, LATERAL (SELECT u.ssn || '' AS y) x",
	"SELECT x FROM users u, LATERAL unnest(ARRAY[u.ssn]) x",
	"SELECT x FROM users u, LATERAL regexp_split_to_table(u.ssn, '-') x",
	"SELECT name FROM users TABLESAMPLE SYSTEM (100) WHERE ssn IS NOT NULL",
	"SELECT number FROM people WHERE number = '111-11-1111'",
	"SELECT upper(number) FROM people",
	"SELECT max(number) FROM people",
	"SELECT name FROM users GROUP BY name HAVING max(ssn) > '2'",
	"SELECT name FROM users WHERE users IS NOT DISTINCT FROM ROW(1, 'Ann', 'a', '111-11-1111', 'ok', now())::users",
	"SELECT most_common_vals FROM pg_stats WHERE tablename = 'users'",
	"SELECT * FROM pg_stats",
	"SELECT name FROM users WHERE ssn = 'x' AND false",
	"SELECT secret || '' FROM parts",
	"SELECT secret || '' FROM parts_eu",
	"SELECT id FROM parts ORDER BY secret",
	"SELECT id FROM parts WHERE secret = 's1'",
	"SELECT max(secret) FROM parts",
	"SELECT id FROM parts UNION ALL SELECT length(secret) FROM parts",
	"SELECT ranked.name FROM (SELECT name, row_number() OVER (ORDER BY ssn) FROM users) ranked",
	"SELECT width_bucket(ssn::text, ARRAY['2']) FROM users",
	"SELECT format('%s', users.*) FROM users",
	"SELECT hashtext(ssn) FROM users",
	"EXPLAIN SELECT name FROM users WHERE ssn = '111-11-1111'",
	"EXPLAIN (FORMAT JSON) SELECT * FROM pg_stats",
	"SELECT tell(1)",
	"SELECT name FROM users WHERE name_of(ssn)",
}

func TestNothingTellsWhatIsMasked(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `CREATE INDEX by_ssn ON users (ssn); CREATE INDEX ON users (mood, ssn); CREATE INDEX ON users (lower(ssn));
		CREATE VIEW people AS SELECT id, name, ssn AS number FROM users; GRANT SELECT ON people TO reader;
		CREATE FUNCTION tell(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM users WHERE id = $1';
		CREATE FUNCTION name_of(text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 LIKE ''1%'''; ANALYZE`)
	for _, with := range []engine.With{engine.WithNull, engine.WithPartial, engine.WithRefuse} {
		// A planner that does not sort or scan shows less of what is done.
		for _, settings := range []string{"", "?enable_sort=off", "?enable_seqscan=off", "?enable_hashagg=off"} {
			dsn := p.DSN(readerRole, readerPassword, p.database) + settings
			d := p.open(t, dsn, masked(with))
			for _, sql := range attacksOnMasks {
				page, err := tryRead(t.Context(), d, sql)
				switch code(err) {
				case engine.ColumnMasked, engine.AccessDenied, engine.FunctionDenied, engine.AmbiguousObject:
				default:
					t.Errorf("%s, %s: %s\n\tgot %s, %v", with, settings, sql, page.Rows, err)
				}
			}
			d.Close()
		}
	}
}

func TestRefusedColumns(t *testing.T) {
	d := newDatabase(t).reader(t, masked(engine.WithRefuse))
	for sql, want := range map[string]string{
		"SELECT ssn FROM users":      engine.ColumnMasked,
		"SELECT * FROM users":        engine.ColumnMasked,
		"TABLE parts_us":             engine.ColumnMasked,
		"SELECT id, name FROM users": "",
		"SELECT count(*) FROM users": "",
		"SELECT total FROM orders":   "",
		"SELECT u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id": "",
	} {
		if _, err := tryRead(t.Context(), d, sql); code(err) != want {
			t.Errorf("%s: got %v, want %q", sql, err, want)
		}
	}
	about, err := d.Describe(t.Context(), someone, engine.Name{Table: "users"}, 3)
	if err != nil || about.Columns[3].Policy != "refuse" || about.Columns[3].Samples != nil || about.Columns[1].Samples == nil {
		t.Errorf("got %s, %v", jsonOf(about), err)
	}
}

func TestTablesThatAreDenied(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `CREATE SCHEMA vault; CREATE TABLE vault.keys AS SELECT 'k' AS key; CREATE VIEW keys AS SELECT * FROM vault.keys;
		GRANT USAGE ON SCHEMA vault TO reader; GRANT SELECT ON vault.keys, keys TO reader`)
	denied := p.reader(t, func(o *engine.Options) { o.Policy.DenyTables = []string{"orders", "vault.*", "parts"} })
	for sql, want := range map[string]string{
		"SELECT * FROM orders":            engine.AccessDenied,
		"SELECT count(*) FROM \"orders\"": engine.AccessDenied,
		"SELECT name FROM users WHERE EXISTS (SELECT FROM orders WHERE user_id = users.id)": engine.AccessDenied,
		"SELECT * FROM vault.keys":                      engine.AccessDenied,
		"SELECT * FROM keys":                            engine.AccessDenied,
		"SELECT * FROM parts_eu":                        engine.AccessDenied,
		"SELECT * FROM orders WHERE false":              engine.AccessDenied,
		"EXPLAIN SELECT * FROM orders":                  engine.AccessDenied,
		"SELECT most_common_vals FROM pg_stats":         engine.AccessDenied,
		"SELECT double(1)":                              engine.FunctionDenied,
		"SELECT table_to_xml('orders', true, true, '')": engine.FunctionDenied,
		"SELECT name FROM users":                        "",
		"SELECT relname FROM pg_class":                  "",
		"SHOW work_mem":                                 "",
	} {
		if _, err := tryRead(t.Context(), denied, sql); code(err) != want {
			t.Errorf("%s: got %v, want %q", sql, err, want)
		}
	}
	if _, err := denied.Explain(t.Context(), someone, engine.Statement{SQL: "SELECT * FROM orders"}); code(err) != engine.AccessDenied {
		t.Errorf("its plan is told: %v", err)
	}
	schemas := p.reader(t, func(o *engine.Options) { o.Policy.Schemas = []string{"public"} })
	for sql, want := range map[string]string{
		"SELECT * FROM vault.keys":     engine.AccessDenied,
		"SELECT * FROM keys":           engine.AccessDenied,
		"SELECT relname FROM pg_class": engine.AccessDenied,
		"SELECT count(*) FROM orders":  "",
		"SELECT 1":                     "",
	} {
		if _, err := tryRead(t.Context(), schemas, sql); code(err) != want {
			t.Errorf("%s: got %v, want %q", sql, err, want)
		}
	}
	allowed := p.reader(t, func(o *engine.Options) {
		o.Policy.DenyTables, o.Policy.Functions = []string{"orders"}, []string{"public.dou*"}
	})
	if got := read(t, allowed, "SELECT double(21)"); got != "[[42]]" {
		t.Errorf("got %s", got)
	}
}

func TestFunctionsThatAreAllowed(t *testing.T) {
	p := newDatabase(t)
	d := p.superuser(t, func(o *engine.Options) { o.Policy.Functions = []string{"pg_ls_dir", "public.of_*"} })
	for sql, want := range map[string]string{
		"SELECT count(*) > 0 FROM pg_ls_dir('.')": "",
		"SELECT u.of_user FROM users u":           "",
		"SELECT pg_read_file('PG_VERSION')":       engine.FunctionDenied,
		"SELECT touch()":                          engine.FunctionDenied,
	} {
		if _, err := tryRead(t.Context(), d, sql); code(err) != want {
			t.Errorf("%s: got %v, want %q", sql, err, want)
		}
	}
	p.Exec(t, p.database, "CREATE FUNCTION sometimes() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO orders (user_id) VALUES (1); SELECT 1'")
	e := p.superuser(t, func(o *engine.Options) { o.Policy.Functions = []string{"sometimes"} })
	refused(t, e, "SELECT sometimes()", engine.ReadOnly)
}

// What a materialized view was made of is no part of a plan that reads it.
func TestCopiesOfWhatIsHidden(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `CREATE VIEW people AS SELECT id, ssn AS number FROM users;
		CREATE MATERIALIZED VIEW m1 AS SELECT id, ssn AS number FROM users;
		CREATE MATERIALIZED VIEW m2 AS SELECT id, upper(number) AS n FROM people;
		CREATE MATERIALIZED VIEW m3 AS SELECT n FROM m2;
		CREATE MATERIALIZED VIEW m4 AS SELECT id, to_jsonb(u) AS j FROM users u;
		CREATE MATERIALIZED VIEW m5 AS SELECT j FROM (SELECT x::text AS j FROM (SELECT * FROM users) x) y;
		CREATE MATERIALIZED VIEW m6 AS SELECT secret FROM parts;
		CREATE MATERIALIZED VIEW m7 AS SELECT secret FROM parts_eu;
		CREATE MATERIALIZED VIEW m8 AS SELECT id, name, mood FROM users;
		CREATE MATERIALIZED VIEW m9 AS SELECT count(*) AS n FROM orders;
		CREATE VIEW v1 AS SELECT number FROM m1;
		CREATE SCHEMA other; CREATE MATERIALIZED VIEW other.m AS SELECT n FROM m3;
		GRANT USAGE ON SCHEMA other TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA public, other TO reader`)
	leaf := func(o *engine.Options) {
		o.Policy.Masks = []engine.Mask{{Columns: []string{"parts_eu.secret"}, With: engine.WithPartial}}
	}
	deny := func(o *engine.Options) { o.Policy.DenyTables = []string{"orders"} }
	const denied = engine.AccessDenied
	for _, c := range []struct {
		name   string
		policy func(*engine.Options)
		want   map[string]string
	}{
		{"masks", masked(engine.WithPartial), map[string]string{"m1": denied, "m2": denied, "m3": denied, "m4": denied, "m5": denied, "m6": denied, "m7": denied,
			"m8": "", "m9": "", "v1": denied, "other.m": denied}},
		{"masks of a part", leaf, map[string]string{"m1": "", "m6": denied, "m7": denied, "m8": ""}},
		{"tables", deny, map[string]string{"m8": "", "m9": denied}},
		{"nothing", func(*engine.Options) {}, map[string]string{"m1": "", "m9": ""}},
	} {
		d := p.reader(t, c.policy)
		for table, want := range c.want {
			if page, err := tryRead(t.Context(), d, "SELECT * FROM "+table); code(err) != want {
				t.Errorf("%s, %s: got %s, %v, want %q", c.name, table, page.Rows, err, want)
			}
			schema, name, ok := strings.Cut(table, ".")
			if !ok {
				schema, name = "", table
			}
			about, err := d.Describe(t.Context(), someone, engine.Name{Schema: schema, Table: name}, 2)
			if err != nil || (about.Columns[0].Samples == nil) != (want != "") {
				t.Errorf("%s, %s: got %s, %v", c.name, table, jsonOf(about), err)
			}
		}
	}
	about, err := p.reader(t, masked(engine.WithNull)).Describe(t.Context(), someone, engine.Name{Table: "people"}, 2)
	if err != nil || len(about.Columns[0].Samples) != 2 || about.Columns[1].Samples != nil {
		t.Errorf("got %s, %v", jsonOf(about), err)
	}
}

func TestWhatOthersRunIsNotTold(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `CREATE FUNCTION pg_stat_statements(showtext bool) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'x'$$;
		CREATE VIEW pg_stat_statements AS SELECT pg_stat_statements(true) AS query; GRANT SELECT ON pg_stat_statements TO reader`)
	d := p.reader(t)
	refused(t, d, "SELECT query FROM pg_stat_statements", engine.FunctionDenied)
	refused(t, d, "SELECT pg_stat_statements(true)", engine.FunctionDenied)
	allowed := p.reader(t, func(o *engine.Options) { o.Policy.Functions = []string{"pg_stat_get_activity", "pg_stat_statements"} })
	for _, sql := range []string{"SELECT query FROM pg_stat_statements", "SELECT count(*) > 0 FROM pg_stat_activity"} {
		if _, err := tryRead(t.Context(), allowed, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestWritesKeepToThePolicy(t *testing.T) {
	p := newDatabase(t)
	d := p.writer(t, masked(engine.WithNull), func(o *engine.Options) { o.Policy.DenyTables = []string{"orders"} })
	w := newWatch(t, p)
	before := w.state(t)
	all := engine.Write{Commit: true, DDL: true}
	for _, sql := range []string{
		"UPDATE users SET name = ssn WHERE id = 1",
		"UPDATE users SET name = 'x' WHERE ssn LIKE '1%'",
		"DELETE FROM users WHERE id = 3 RETURNING ssn",
		"INSERT INTO parts SELECT id, 'eu', ssn FROM users",
		"DELETE FROM orders WHERE id = 1",
		"UPDATE users SET name = 'x' FROM orders WHERE user_id = users.id",
		"ALTER TABLE users RENAME COLUMN ssn TO number",
		"ALTER TABLE users RENAME TO persons",
		"DROP TABLE orders",
		"CREATE TABLE copy AS SELECT * FROM contacts",
		"CREATE TABLE copy (LIKE users)",
		"CREATE VIEW copy AS TABLE users",
	} {
		switch _, err := write(t, d, all, sql); code(err) {
		case engine.ColumnMasked, engine.AccessDenied:
		default:
			t.Errorf("%s: got %v", sql, err)
		}
		if after := w.state(t); after != before {
			t.Fatalf("%s: changed the database to %s", sql, after)
		}
	}
	if got, err := write(t, d, engine.Write{}, "UPDATE users SET name = 'x' WHERE id = 1 RETURNING name"); err != nil || got != `update 1 [["x"]]` {
		t.Errorf("got %s, %v", got, err)
	}
}
