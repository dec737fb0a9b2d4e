//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

// principalHeader says to the gateway of a test who makes a request.
const principalHeader = "X-Principal"

// as adds that header.
type as struct {
	http.RoundTripper
	principal string
}

func (a as) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(principalHeader, a.principal)
	return a.RoundTripper.RoundTrip(r)
}

// serveFor serves a database to principals, and returns what connects one.
func serveFor(t *testing.T, options dbserver.Options) func(principal, version string) *session {
	t.Helper()
	db, err := dbserver.New(options)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New([]gateway.Server{{Name: "db", Handler: db}}, &gateway.Options{Principal: func(r *http.Request) (string, error) {
		if who := r.Header.Get(principalHeader); who != "" {
			return who, nil
		}
		return "", errors.New("nobody")
	}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(g)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		if err := errors.Join(g.Close(context.Background()), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return func(principal, version string) *session {
		h := web(t)
		h.Transport = as{h.Transport, principal}
		return open(t, &mcp.StreamableClientTransport{Endpoint: server.URL + "/mcp", HTTPClient: h}, version, nil)
	}
}

// TestPrincipalsDoNotHaveEachOthersResults has one principal use what another
// was given: handles, resources of results, tokens.
func TestPrincipalsDoNotHaveEachOthersResults(t *testing.T) {
	b := newSQLite(t)
	connect := serveFor(t, dbserver.Options{Databases: []dbserver.Database{{DSN: b.dsn, Mode: dbserver.Write}}})
	for _, version := range versions {
		ada, bob := connect("ada", version), connect("bob", version)
		page := ada.want(t, "read_data", object{"query": "SELECT n FROM numbers ORDER BY n", "limit": 10})
		uri := "db://main/results/" + page.Handle
		bob.fail(t, "HANDLE_EXPIRED", "fetch_rows", object{"handle": page.Handle})
		if got, err := bob.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri}); err == nil {
			t.Errorf("%s: bob has read %+v", version, got)
		}
		if rest := ada.want(t, "fetch_rows", object{"handle": page.Handle, "limit": 10}); !strings.HasPrefix(string(rest.Rows), "[[11]") {
			t.Errorf("%s: ada has read %s", version, rest.Rows)
		}
		if got, err := ada.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri}); err != nil || !strings.Contains(got.Contents[0].Text, "[11]") {
			t.Errorf("%s: ada has read %+v, %v", version, got, err)
		}
		write := object{"query": raise}
		write["token"] = ada.want(t, "write_data", write).Token
		bob.fail(t, "CONFIRMATION_REQUIRED", "write_data", write)
		ada.want(t, "write_data", write)
	}
}

// TestEachPrincipalSeesItsRows has callers of several principals share eight
// connections to PostgreSQL, whose row-level security tells them apart: by role
// and by a setting.
func TestEachPrincipalSeesItsRows(t *testing.T) {
	s := dbtest.Postgres(t)
	b := postgresOn(t, s)
	name, role := nameFor(t), nameFor(t)+"_ro"
	principals := []string{"Ada", "bob@example.org", "cyd's"}
	roles := ""
	for _, p := range principals {
		roles += fmt.Sprintf("CREATE ROLE %[1]s; GRANT %[1]s TO %[2]s; GRANT SELECT ON notes TO %[1]s;\nINSERT INTO notes SELECT %[3]s, n FROM numbers;\n",
			quoted(name+p), role, "'"+strings.ReplaceAll(p, "'", "''")+"'")
	}
	b.exec(`CREATE TABLE notes (owner text NOT NULL, n int NOT NULL);
		ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
		GRANT SELECT ON notes TO ` + role + `;
		CREATE POLICY mine ON notes USING (owner = current_setting('app.user', true) OR '` + name + `' || owner = current_user);
		` + roles)
	t.Cleanup(func() {
		for _, p := range principals {
			s.Exec(t, name, "DROP OWNED BY "+quoted(name+p)+"; DROP ROLE "+quoted(name+p))
		}
	})
	for how, database := range map[string]dbserver.Database{
		"setting": {PrincipalSetting: "app.user"},
		"role":    {Role: name + "{principal}"},
	} {
		t.Run(how, func(t *testing.T) {
			database.DSN, database.MaxConnections = b.dsn, 8
			database.Password = func() (string, error) { return password, nil }
			connect := serveFor(t, dbserver.Options{Databases: []dbserver.Database{database}, MaxCallsPerPrincipal: 8})
			var all sync.WaitGroup
			for i, principal := range append(principals, principals...) {
				client := connect(principal, versions[i%2])
				for range 4 {
					all.Go(func() {
						for n := range 9 {
							if err := ownRows(t.Context(), client, principal, n); err != nil {
								t.Errorf("%s: %v", principal, err)
							}
						}
					})
				}
			}
			all.Wait()
			stranger := connect("stranger", versions[0])
			if how == "role" {
				if got := stranger.call(t, "read_data", object{"query": "SELECT * FROM notes"}); !got.isError {
					t.Errorf("somebody without a role has read %s", got.Rows)
				}
			} else if got := stranger.want(t, "read_data", object{"query": "SELECT * FROM notes"}); got.RowCount != 0 {
				t.Errorf("a stranger has read %s", got.Rows)
			}
		})
	}
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// ownRows makes a call, one of several kinds, that tells whose rows there are.
func ownRows(ctx context.Context, s *session, principal string, kind int) error {
	query := "SELECT owner, count(*) FROM notes GROUP BY owner"
	want := fmt.Sprintf("[[%q,1000]]", principal)
	switch kind % 3 {
	case 1:
		query, want = "SELECT DISTINCT owner FROM (SELECT * FROM notes ORDER BY n LIMIT 500) AS part", fmt.Sprintf("[[%q]]", principal)
	case 2: // an error in the midst
		a, err := s.try(ctx, "read_data", object{"query": "SELECT sum(1 / (n - 500)) FROM notes"})
		if err == nil && (!a.isError || a.Error.Code != "ENGINE_ERROR") {
			err = fmt.Errorf("want an error, got %.200s", a.text)
		}
		return err
	}
	a, err := s.try(ctx, "read_data", object{"query": query})
	if err == nil && (a.isError || string(a.Rows) != want) {
		err = fmt.Errorf("want %s, got %.200s", want, a.text)
	}
	return err
}
