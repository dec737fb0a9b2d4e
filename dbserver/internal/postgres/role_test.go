//go:build unix

package postgres

import (
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func TestSetupSQLMakesARoleThatOnlyReads(t *testing.T) {
	p := newDatabase(t)
	const role = `it's "a" role`
	t.Cleanup(func() {
		p.Exec(t, p.database, `DROP OWNED BY "it's ""a"" role"; DROP ROLE "it's ""a"" role"`)
	})
	p.Exec(t, p.database, `CREATE SCHEMA "More"; CREATE TABLE "More".t AS SELECT 1 AS a`)
	sql := SetupSQL(role, p.database, Setup{Schemas: []string{"public", "More"}, Limit: 5})
	p.Exec(t, p.database, strings.Replace(sql, "put a password here", "setup", 1))
	d := p.open(t, p.DSN(role, "setup", p.database))
	if got := read(t, d, `SELECT a, (SELECT count(*) FROM users) FROM "More".t`); got != "[[1,3]]" {
		t.Errorf("got %s", got)
	}
	info, err := d.Info(t.Context(), someone)
	if err != nil || info.Proof == nil || !info.Proof.Verified {
		t.Fatalf("got %+v, %v", info, err)
	}
	for _, c := range info.Proof.Role {
		if !c.OK {
			t.Errorf("not ok: %+v", c)
		}
	}
}

func TestUnsafeRolesAreRefused(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `CREATE ROLE boss NOLOGIN SUPERUSER; CREATE ROLE keeper NOLOGIN; GRANT INSERT ON users TO keeper`)
	t.Cleanup(func() { p.Exec(t, p.database, `DROP OWNED BY keeper; DROP ROLE boss, keeper`) })
	for grant, want := range map[string]string{
		"ALTER ROLE bad SUPERUSER":                                 "not a superuser: no (postgres, boss, bad)",
		"GRANT boss TO bad; ALTER ROLE bad NOINHERIT":              "not a superuser: no (boss)",
		"ALTER ROLE bad CREATEROLE":                                "creates no roles",
		"ALTER ROLE bad CREATEDB":                                  "creates no roles",
		"ALTER ROLE bad REPLICATION":                               "creates no roles",
		"GRANT pg_read_server_files TO bad":                        "reaches no files",
		"GRANT pg_signal_backend TO bad":                           "reaches no files",
		"GRANT pg_write_all_data TO bad":                           "writes to no table: no (all tables",
		"GRANT UPDATE (name) ON users TO bad":                      "writes to no table: no (users: UPDATE)",
		"GRANT DELETE ON orders TO bad":                            "writes to no table: no (orders: DELETE)",
		"GRANT TRUNCATE ON orders TO PUBLIC":                       "writes to no table: no (orders: TRUNCATE)",
		"GRANT keeper TO bad; ALTER ROLE bad NOINHERIT":            "writes to no table: no (users: INSERT)",
		"GRANT USAGE ON SEQUENCE counter TO bad":                   "writes to no table: no (counter: USAGE)",
		"CREATE TABLE mine (a int); ALTER TABLE mine OWNER TO bad": "writes to no table: no (mine: DELETE/INSERT/TRIGGER/TRUNCATE/UPDATE/owner)",
		"GRANT CREATE ON SCHEMA public TO bad":                     "writes to no table: no (schema public: CREATE)",
		`GRANT CREATE ON DATABASE "` + p.database + `" TO bad`:     "CREATE)",
	} {
		t.Run(grant, func(t *testing.T) {
			p.Exec(t, p.database, "CREATE ROLE bad LOGIN PASSWORD 'bad'; "+grant)
			defer p.Exec(t, p.database, "REVOKE TRUNCATE ON orders FROM PUBLIC; DROP OWNED BY bad; DROP ROLE bad")
			d := p.open(t, p.DSN("bad", "bad", p.database))
			defer d.Close()
			told := refused(t, d, "select 1", engine.RoleUnsafe)
			if told == nil || !strings.Contains(told.Message, want) {
				t.Errorf("got %+v, want %s", told, want)
			}
			allowed := p.open(t, p.DSN("bad", "bad", p.database), func(o *engine.Options) { o.AllowUnsafeRole = true })
			defer allowed.Close()
			if got := read(t, allowed, "select 1"); got != "[[1]]" {
				t.Errorf("got %s", got)
			}
			info, err := allowed.Info(t.Context(), someone)
			if err != nil || !strings.Contains(strings.Join(info.Proof.Warnings, "; "), want) || !info.Proof.Verified {
				t.Errorf("got the proof %+v, %v", info.Proof, err)
			}
		})
	}
}

// Who reads with the rights of each caller must be bound by row-level security.
func TestARoleThatIsNotBoundByRowLevelSecurity(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, "CREATE ROLE free LOGIN PASSWORD 'free' BYPASSRLS")
	t.Cleanup(func() { p.Exec(t, p.database, "DROP ROLE free") })
	read(t, p.open(t, p.DSN("free", "free", p.database)), "select 1")
	d := p.open(t, p.DSN("free", "free", p.database), func(o *engine.Options) { o.Identity.Setting = "app.user" })
	if told := refused(t, d, "select 1", engine.RoleUnsafe); told == nil || !strings.Contains(told.Message, "row-level security") {
		t.Errorf("got %+v", told)
	}
}

func TestStatementsRunAsTheirCaller(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `CREATE ROLE ann; CREATE ROLE "Bob's ""role"; GRANT ann, "Bob's ""role" TO reader; GRANT SELECT ON users TO ann, "Bob's ""role";
		CREATE TABLE notes (owner text, note text); INSERT INTO notes VALUES ('ann', 'a'), ('bob', 'b'); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
		CREATE POLICY own ON notes USING (owner = current_setting('app.user')); GRANT SELECT ON notes TO reader`)
	t.Cleanup(func() { p.Exec(t, p.database, `DROP OWNED BY ann, "Bob's ""role"; DROP ROLE ann, "Bob's ""role"`) })
	asRole := p.reader(t, one, func(o *engine.Options) { o.Identity.Role = "{principal}" })
	as := func(d *Database, principal, sql string) (string, error) {
		out := newPage()
		err := d.Read(t.Context(), engine.Caller{Principal: principal}, engine.Statement{SQL: sql}, out)
		return string(out.Page().Rows), err
	}
	for _, name := range []string{"ann", `Bob's "role`, "ann"} {
		if got, err := as(asRole, name, "SELECT current_user, session_user"); err != nil || got != jsonOf([]string{name, "reader"}) {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "none", "postgres", "nobody there", "a\x00b", strings.Repeat("x", 64)} {
		if got, err := as(asRole, name, "SELECT current_user"); code(err) != engine.AccessDenied {
			t.Errorf("%q: got %s, %v", name, got, err)
		}
	}
	// The catalog is seen with the same eyes.
	if list, err := asRole.Tables(t.Context(), engine.Caller{Principal: "ann"}, engine.Filter{Limit: 100}); err != nil || len(list.Tables) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
	byRow := p.reader(t, one, func(o *engine.Options) { o.Identity.Setting = "app.user" })
	for _, name := range []string{"ann", "bob", "o' \\ ; --", ""} {
		want := map[string]string{"ann": `["a"]`, "bob": `["b"]`}[name]
		if got, err := as(byRow, name, "SELECT note FROM notes"); err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", name, got, err, want)
		}
	}
	if _, err := as(byRow, "ann", "SELECT set_config('app.user', 'bob', true), note FROM notes"); code(err) != engine.FunctionDenied {
		t.Errorf("got %v", err)
	}
}

func TestTheDatabaseKnowsForWhomItWorks(t *testing.T) {
	d := newDatabase(t).reader(t, func(o *engine.Options) { o.Policy.Functions = []string{"pg_stat_get_activity"} })
	for principal, want := range map[string]string{"ann": "mcpool read_data ann", "": "mcpool read_data", "o'; DROP TABLE users; --\n\\ä%": "mcpool read_data o?; DROP TABLE users; --????",
		strings.Repeat("x", 100): "mcpool read_data " + strings.Repeat("x", 46)} {
		out := newPage()
		err := d.Read(t.Context(), engine.Caller{Principal: principal, Tool: "read_data"},
			engine.Statement{SQL: "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"}, out)
		if got := string(out.Page().Rows); err != nil || got != jsonOf([]string{want}) {
			t.Errorf("%q: got %s, %v, want %s", principal, got, err, want)
		}
	}
}
