//go:build unix

package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestErrorsSayWhatToDo(t *testing.T) {
	d := newDatabase(t).reader(t)
	for _, c := range []struct {
		sql, code, engineCode, near, next string
		line, column                      int
	}{
		{"SELEC 1", engine.SyntaxError, "42601", "", "correct", 1, 1},
		{"SELECT 'ä',\n  FROM users", engine.SyntaxError, "42601", "", "correct", 2, 3},
		{"SELECT 1 /* open", engine.SyntaxError, "42601", "", "correct", 1, 10},
		{"SELECT * FROM users WHERE id = ?", engine.SyntaxError, "42601", "", "$1, $2", 1, 33},
		{"SELECT * FROM users WHERE id = :id", engine.SyntaxError, "42601", "", "$1, $2", 1, 32},
		{"SELECT * FROM users WHERE id = %s", engine.SyntaxError, "42601", "", "$1, $2", 1, 32},
		{"SELECT * FROM WHERE name ? '?:a' AND id = $1", engine.SyntaxError, "42601", "", "correct", 1, 15},
		{"SELECT * FROM usres", engine.UnknownObject, "42P01", "users", "list_tables", 1, 15},
		{"SELECT * FROM public.oders", engine.UnknownObject, "42P01", "orders", "list_tables", 1, 15},
		{"SELECT id, emial FROM users", engine.UnknownObject, "42703", "email", "", 1, 12},
		{"SELECT u.nam FROM users u", engine.UnknownObject, "42703", "name", "", 1, 8},
		{"SELECT nofunc(1)", engine.UnknownObject, "42883", "", "", 1, 8},
		{"SELECT id FROM users u JOIN orders o ON true", engine.AmbiguousObject, "42702", "", "", 1, 8},
		{"SELECT 1/0", engine.EngineError, "22012", "", "correct", 0, 0},
		{"SELECT 'x'::int", engine.EngineError, "22P02", "", "correct", 1, 8},
		{"SELECT $1::int", engine.InvalidArgument, "08P01", "", "params", 0, 0},
		{"SELECT $1", engine.InvalidArgument, "08P01", "", "params", 0, 0},
		{"SELECT * FROM pg_authid", engine.AccessDenied, "42501", "", "role", 0, 0},
		{"SELECT * FROM nowhere.users", engine.UnknownObject, "42P01", "users", "", 1, 15},
		{"SHOW nothing", engine.UnknownObject, "42704", "", "", 0, 0},
		{"", engine.InvalidArgument, "", "", "", 0, 0},
		{" ; -- nothing", engine.InvalidArgument, "", "", "", 0, 0},
		{"SELECT '\x00'", engine.InvalidArgument, "", "", "", 0, 0},
	} {
		told := refused(t, d, c.sql, c.code)
		if told == nil {
			continue
		}
		if told.EngineCode != c.engineCode || !strings.Contains(strings.Join(told.DidYouMean, " "), c.near) || !strings.Contains(told.Next, c.next) || told.Next == "" {
			t.Errorf("%s: got %+v", c.sql, told)
		}
		if c.line > 0 && (told.Position == nil || *told.Position != engine.Position{Line: c.line, Column: c.column}) {
			t.Errorf("%s: got the position %+v, want %d:%d", c.sql, told.Position, c.line, c.column)
		}
	}
	if told := refused(t, d, "SELECT $2::text", engine.InvalidArgument, "x"); told == nil {
		t.Error("a parameter too few was bound")
	}
	if told := refused(t, d, "SELECT 1", engine.InvalidArgument, "x"); told == nil {
		t.Error("a parameter too many was bound")
	}
	if told := refused(t, d, "SELECT $1", engine.InvalidArgument, []int{1}); told == nil {
		t.Error("a list was bound")
	}
}

func TestWhatIsDeniedIsNotSuggested(t *testing.T) {
	d := newDatabase(t).reader(t, func(o *engine.Options) { o.Policy.DenyTables = []string{"users"} })
	told := refused(t, d, "SELECT * FROM usres", engine.UnknownObject)
	if told != nil && strings.Contains(strings.Join(told.DidYouMean, " "), "users") {
		t.Errorf("got %+v", told)
	}
}

func TestOpeningThatFails(t *testing.T) {
	p := newDatabase(t)
	for dsn, want := range map[string]string{
		p.DSN("reader", "wrong-password", p.database):                    engine.AuthFailed,
		p.DSN("nobody", "wrong-password", p.database):                    engine.AuthFailed,
		p.DSN("reader", readerPassword, readerPassword):                  engine.Unreachable, // so that the server's message has it
		p.DSN("reader", readerPassword, "nowhere"):                       engine.Unreachable,
		"postgres://reader:wrong-password@127.0.0.1:1/x":                 engine.Unreachable,
		p.DSN("reader", readerPassword, p.database) + "?sslmode=require": engine.TLSFailed,
	} {
		told := refused(t, p.open(t, dsn), "select 1", want)
		if told == nil || strings.Contains(told.Message, "wrong-password") || strings.Contains(told.Message, readerPassword) || told.Next == "" {
			t.Errorf("%s: got %+v", want, told)
		}
	}
}

// An address is tried with TLS and without, by IPv6 and IPv4.
func TestAFailedOpeningIsToldOnce(t *testing.T) {
	p := &testDatabase{}
	for _, dsn := range []string{"postgres://u:p@localhost:1/x", "postgres://u:p@127.0.0.1:1/x", "postgres://u:p@127.0.0.1:1/x?sslmode=disable"} {
		told := refused(t, p.open(t, dsn), "select 1", engine.Unreachable)
		if told == nil || strings.Count(told.Message, "dial tcp 127.0.0.1:1: connect: connection refused") != 1 {
			t.Errorf("%s: got %+v", dsn, told)
		}
	}
}

func TestAddressesThatAreNoneAreNotTold(t *testing.T) {
	for _, dsn := range []string{"postgres://u:hunter2@host:port/x", "host=x port=y password=hunter2", "hunter2", "postgres://u:hunter2@[/x", "host='x password=hunter2"} {
		o := options()
		o.DSN = dsn
		_, err := New(o)
		if err == nil {
			t.Errorf("%s was taken", dsn)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s was told: %v", dsn, err)
		}
	}
}

func TestWaysToNameADatabase(t *testing.T) {
	p := newDatabase(t)
	keywords := "host=127.0.0.1 port=" + p.Port + " user=reader dbname=" + p.database
	quoted := ` password='reader\'s \\ pass%word'`
	asked := 0
	ask := func(o *engine.Options) { o.Password = func() (string, error) { asked++; return readerPassword, nil } }
	for name, d := range map[string]*Database{
		"keywords":           p.open(t, keywords+quoted),
		"password asked for": p.open(t, keywords, ask),
		"resolved": p.open(t, "", func(o *engine.Options) {
			o.Resolve = func(context.Context) (string, error) { return keywords + quoted, nil }
		}),
		"socket": p.open(t, "host="+p.Dir()+" port="+p.Port+" user=reader dbname="+p.database),
	} {
		if got := read(t, d, "SELECT current_user, current_database()"); got != `[["reader","`+p.database+`"]]` {
			t.Errorf("%s: got %s", name, got)
		}
	}
	if asked != 1 {
		t.Errorf("the password was asked for %d times", asked)
	}
	d := p.open(t, keywords, func(o *engine.Options) {
		o.Password = func() (string, error) { return "", errors.New("the file is gone") }
	})
	if told := refused(t, d, "select 1", engine.Unreachable); told == nil || !strings.Contains(told.Message, "the file is gone") {
		t.Errorf("got %+v", told)
	}
}

func TestTLS(t *testing.T) {
	s := dbtest.OwnPostgres(t)
	authority, other := mcptest.NewAuthority(t), mcptest.NewAuthority(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	mcptest.WritePair(t, authority.Issue(t, "a database", func(c *x509.Certificate) { c.IPAddresses = nil }), certFile, keyFile)
	content := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	s.Exec(t, "postgres", "ALTER SYSTEM SET ssl_cert_file = '"+s.WriteFile(t, "cert.pem", content(certFile))+"'; ALTER SYSTEM SET ssl_key_file = '"+
		s.WriteFile(t, "key.pem", content(keyFile))+"'; ALTER SYSTEM SET ssl = on")
	s.Restart(t)
	p := &testDatabase{s, "postgres"}
	ca, wrong := authority.CAFile(t), other.CAFile(t)
	keywords := "host=127.0.0.1 port=" + s.Port + " user=postgres dbname=postgres password=" + s.Password
	for _, c := range []struct {
		tls  engine.TLS
		want string
	}{
		{engine.TLS{Mode: "disable"}, `[[false]]`},
		{engine.TLS{Mode: "require"}, `[[true]]`},
		{engine.TLS{Mode: "verify-ca", CAFile: ca}, `[[true]]`},
		{engine.TLS{Mode: "verify-ca", CAFile: wrong}, engine.TLSFailed},
		{engine.TLS{Mode: "verify-full", CAFile: ca}, engine.TLSFailed}, // the certificate is of another name
	} {
		for _, dsn := range []string{s.Superuser("postgres"), s.Superuser("postgres") + "?sslmode=disable", keywords} {
			d := p.open(t, dsn, func(o *engine.Options) { o.TLS, o.AllowUnsafeRole = c.tls, true })
			page, err := tryRead(t.Context(), d, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
			if got := "[" + string(page.Rows) + "]"; code(err) != c.want && (err != nil || got != c.want) {
				t.Errorf("%+v: got %s, %v, want %s", c.tls, got, err, c.want)
			}
			d.Close()
		}
	}
	d := p.open(t, keywords, func(o *engine.Options) { o.TLS, o.AllowUnsafeRole = engine.TLS{Mode: "require"}, true })
	refused(t, d, "select pg_sleep(1)", engine.FunctionDenied)
	o := options()
	o.DSN, o.TLS = keywords, engine.TLS{Mode: "verify-full", CAFile: "/nowhere/ca.pem"}
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "/nowhere/ca.pem") || strings.Contains(err.Error(), s.Password) {
		t.Errorf("got %v", err)
	}
}
