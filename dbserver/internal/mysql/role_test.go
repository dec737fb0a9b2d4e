//go:build unix

package mysql

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

func TestGrantsAreJudged(t *testing.T) {
	for _, test := range []struct {
		grant            string
		dangers, warning bool
	}{
		{grant: "GRANT USAGE ON *.* TO `ro`@`%` IDENTIFIED BY PASSWORD '*x'"},
		{grant: "GRANT SELECT, SHOW VIEW ON `db\\_1`.* TO `ro`@`%`"},
		{grant: "GRANT SELECT (`insert`, `delete`), SHOW VIEW ON `db`.`t` TO `ro`@`%`"},
		{grant: "SET DEFAULT ROLE `r` FOR `ro`@`%`"},
		{grant: "GRANT PROCESS ON *.* TO `ro`@`%`", warning: true},
		{grant: "GRANT EXECUTE ON `db`.* TO `ro`@`%`", warning: true},
		{grant: "GRANT SELECT, INSERT ON `db`.* TO `ro`@`%`", dangers: true},
		{grant: "GRANT INSERT (a), SELECT ON `db`.`t` TO `ro`@`%`", dangers: true},
		{grant: "GRANT FILE ON *.* TO `ro`@`%`", dangers: true},
		{grant: "GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION", dangers: true},
		{grant: "GRANT SELECT ON `db`.* TO `ro`@`%` WITH GRANT OPTION", dangers: true},
		{grant: "GRANT SELECT ON *.* TO `ro`@`%` WITH MAX_QUERIES_PER_HOUR 5 GRANT OPTION", dangers: true},
		{grant: "GRANT SYSTEM_VARIABLES_ADMIN,ROLE_ADMIN ON *.* TO `ro`@`%`", dangers: true},
		{grant: "GRANT PROXY ON ``@`%` TO `root`@`%`", dangers: true},
		{grant: "GRANT SOMETHING NEW ON *.* TO `ro`@`%`", dangers: true},
		{grant: "something else", dangers: true},
	} {
		dangers, warnings := judge(test.grant)
		if (len(dangers) > 0) != test.dangers || (len(warnings) > 0) != test.warning {
			t.Errorf("%s: got %q and %q", test.grant, dangers, warnings)
		}
	}
}

// TestSetupSQL holds that the account that it makes is let in, and may read the
// database and nothing else; sample makes its account by it.
func TestSetupSQL(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "set_up")
	s.Database(t, "setXup") // which set_up is a pattern of
	s.Exec(t, "setXup", "CREATE TABLE t (a INT)")
	d := open(t, options(reader))
	mustRead(t, d, "SELECT * FROM customers")
	if _, err := read(t, d, "SELECT * FROM setXup.t"); codeOf(err) != engine.AccessDenied {
		t.Errorf("another database: %v", err)
	}
	info, err := d.Info(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	if p := info.Proof; info.Status != "ready" || info.Engine != "mariadb" || !strings.HasPrefix(info.Version, "10.") || info.Size == 0 || info.MaxConnections < 10 ||
		!strings.HasSuffix(info.Place, "/set_up") || p == nil || !p.Verified || len(p.Warnings) > 0 || len(p.Role) != 1 || !p.Role[0].OK || len(info.Findings) > 0 {
		t.Errorf("got %+v, proof %+v", info, p)
	}
}

func TestAccountsThatMayWriteAreRefused(t *testing.T) {
	s := dbtest.MariaDB(t)
	_, root := sample(t, s, "unsafe")
	s.Exec(t, "", `
CREATE ROLE writers;
GRANT INSERT ON unsafe.* TO writers;
CREATE USER inserter IDENTIFIED BY 'pw1';
GRANT SELECT, INSERT ON unsafe.* TO inserter;
CREATE USER by_role IDENTIFIED BY 'pw1';
GRANT SELECT ON unsafe.* TO by_role;
CREATE ROLE outer_role;
GRANT writers TO outer_role;
GRANT outer_role TO by_role;
CREATE USER filer IDENTIFIED BY 'pw1';
GRANT FILE ON *.* TO filer;
GRANT SELECT ON unsafe.* TO filer`)
	t.Cleanup(func() { s.Exec(t, "", "DROP USER inserter, by_role, filer;\nDROP ROLE outer_role, writers") })
	for _, dsn := range []string{root, s.DSN("inserter", "pw1", "unsafe"), s.DSN("by_role", "pw1", "unsafe"), s.DSN("filer", "pw1", "unsafe")} {
		d := open(t, options(dsn))
		_, err := read(t, d, "SELECT 1")
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != engine.RoleUnsafe || e.Retryable || e.Next == "" {
			t.Errorf("%s: got %v", dsn, err)
		}
		if info, err := d.Info(t.Context(), who); err != nil || info.Status != "down" || !strings.Contains(info.LastError, engine.RoleUnsafe) {
			t.Errorf("%s: got %+v, %v", dsn, info, err)
		}
		o := options(dsn)
		o.AllowUnsafeRole = true
		d = open(t, o)
		mustRead(t, d, "SELECT 1")
		info, err := d.Info(t.Context(), who)
		if err != nil || info.Proof == nil || !info.Proof.Verified || len(info.Proof.Warnings) == 0 || len(info.Findings) == 0 {
			t.Errorf("%s, let in: %+v, proof %+v, %v", dsn, info, info.Proof, err)
		}
	}
}

// The proof is of a statement that the server refuses: where nothing protects,
// it says so.
func TestProofFails(t *testing.T) {
	s := dbtest.MariaDB(t)
	_, root := sample(t, s, "unproven")
	o := options(root)
	o.AllowUnsafeRole, o.Write = true, true
	d := open(t, o)
	err := d.do(t.Context(), d.writes, task{who: who, writes: true}, func(_ ctx, c *conn) error {
		if p := d.prove(c); p.Verified || len(p.Warnings) == 0 {
			t.Errorf("got %+v", p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPassword(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "secretive")
	password := "wrong-" + "w0rd"
	o := options(strings.Replace(reader, ":pw-secretive@", "@", 1))
	o.Password = func() (string, error) { return password, nil }
	_, err := read(t, open(t, o), "SELECT 1")
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.AuthFailed || e.EngineCode != "1045" || strings.Contains(err.Error(), password) {
		t.Errorf("got %v", err)
	}
	password = "pw-secretive"
	d := open(t, o)
	mustRead(t, d, "SELECT 1")
	if _, err := read(t, d, "SELECT * FROM `pw-secretive`"); err == nil || strings.Contains(fmt.Sprint(err), password) {
		t.Errorf("the message has the password: %v", err)
	}
	o.Password = func() (string, error) { return "", errors.New("no such file") }
	if _, err := read(t, open(t, o), "SELECT 1"); codeOf(err) != engine.Unreachable {
		t.Errorf("got %v", err)
	}
	o = options("")
	o.Resolve = func(ctx) (string, error) { return reader, nil }
	mustRead(t, open(t, o), "SELECT 1")
}

func TestIdentity(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "identified")
	s.Exec(t, "identified", `
CREATE TABLE notes (owner VARCHAR(50), note TEXT);
INSERT INTO notes VALUES ('ada', 'of ada'), ('it''s \\me', 'of me');
CREATE ROLE role_ada;
CREATE ROLE role_eve;
GRANT role_ada TO identified_ro;
GRANT role_eve TO identified_ro;
CREATE FUNCTION me() RETURNS VARCHAR(50) NO SQL RETURN @`+"`app.user`"+`;
CREATE VIEW mine AS SELECT note FROM notes WHERE owner = me()`)
	t.Cleanup(func() { s.Exec(t, "", "DROP ROLE role_ada, role_eve") })
	o := options(reader)
	o.Pool.MaxOpen = 1
	o.Identity = engine.Identity{Role: "role_{principal}", Setting: "app.user"}
	d := open(t, o)
	if got := mustRead(t, d, "SELECT note, CURRENT_ROLE() FROM mine"); got != `[["of ada","role_ada"]]` {
		t.Errorf("got %s", got)
	}
	other := engine.Caller{Principal: "eve", Tool: "read_data"}
	out := all()
	if err := d.Read(t.Context(), other, engine.Statement{SQL: "SELECT CURRENT_ROLE(), @`app.user`, (SELECT COUNT(*) FROM mine)"}, out); err != nil {
		t.Fatal(err)
	}
	if got := string(out.Page().Rows); got != `["role_eve","eve",0]` {
		t.Errorf("got %s", got)
	}
	if err := d.Read(t.Context(), engine.Caller{Principal: "nobody"}, engine.Statement{SQL: "SELECT 1"}, all()); codeOf(err) != engine.AccessDenied {
		t.Errorf("a role that the account has not got: %v", err)
	}
	// Names that stand for no role of their own.
	s.Exec(t, "identified", "CREATE ROLE eve;\nGRANT eve TO identified_ro")
	t.Cleanup(func() { s.Exec(t, "", "DROP ROLE eve") })
	o.Identity.Role = "{principal}"
	d = open(t, o)
	if err := d.Read(t.Context(), other, engine.Statement{SQL: "SELECT 1"}, all()); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "none", "None", "NONE ", "none\x00", "eve ", "eve\x00", "EVE", "bob"} {
		out := all()
		if err := d.Read(t.Context(), engine.Caller{Principal: name}, engine.Statement{SQL: "SELECT CURRENT_ROLE()"}, out); codeOf(err) != engine.AccessDenied {
			t.Errorf("%q runs as %s, %v", name, out.Page().Rows, err)
		}
	}
	o.Identity.Role = ""
	d = open(t, o)
	if err := d.Read(t.Context(), engine.Caller{Principal: `it's \me`}, engine.Statement{SQL: "SELECT note FROM mine"}, out); err != nil || !strings.HasSuffix(string(out.Page().Rows), `["of me"]`) {
		t.Errorf("got %s, %v", out.Page().Rows, err)
	}
	o.Identity.Setting = "app user"
	if _, err := New(o); err == nil {
		t.Error("a setting that is no name is taken")
	}
}
