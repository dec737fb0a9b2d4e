//go:build unix

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mcpool-dev/mcpool/internal/dbtest"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// heals is how long a database that is back may be taken for one that is down:
// the pause between tries has grown by then.
const heals = 20 * time.Second

// A stoppable is a server of databases that a test may stop.
type stoppable interface {
	Start(t testing.TB)
	Stop()
}

// TestADatabaseThatIsDownHeals stops a database, starts it again, and then uses
// up its connections, while another one is served beside it.
func TestADatabaseThatIsDownHeals(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) (server stoppable, b *base, use func() (end func(), err error)){
		"postgres": func(t *testing.T) (stoppable, *base, func() (func(), error)) {
			s := dbtest.OwnPostgres(t)
			b := postgresOn(t, s)
			b.exec("ALTER ROLE " + nameFor(t) + "_ro CONNECTION LIMIT -1")
			return s, b, func() (func(), error) {
				c, err := pgconn.Connect(t.Context(), strings.Replace(b.dsn, "@", ":a%3Ab%2Fc%40d%27e@", 1))
				return func() { _ = c.Close(context.Background()) }, err
			}
		},
		"mariadb": func(t *testing.T) (stoppable, *base, func() (func(), error)) {
			s := dbtest.OwnMariaDB(t, "--max-connections=12")
			b := mariaDBOn(t, s)
			b.exec("GRANT USAGE ON *.* TO '" + nameFor(t) + "_ro' WITH MAX_USER_CONNECTIONS 100")
			config := mysql.NewConfig()
			config.User, config.Passwd, config.Net, config.Addr = nameFor(t)+"_ro", password, "tcp", net.JoinHostPort(s.Host, s.Port)
			return s, b, func() (func(), error) {
				connector, err := mysql.NewConnector(config)
				if err != nil {
					return nil, err
				}
				c, err := connector.Connect(t.Context())
				return func() { _ = c.Close() }, err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, b, use := make(t)
			beside := newSQLite(t)
			p := serveDB(t, "--config", configureDatabases(t, map[string]any{
				"shop": b.entry(t, object{"max_lifetime": "200ms"}), "beside": beside.entry(t, nil)}, nil))
			s := open(t, overHTTP(t, p), versions[1], nil)
			read := object{"database": "shop", "query": "SELECT count(*) FROM orders"}
			fails := func(code string, cause func()) {
				t.Helper()
				eventually(t, patience, "it goes on", func() bool {
					cause()
					return s.call(t, "read_data", read).isError
				})
				for range 3 {
					got := s.fail(t, code, "read_data", read)
					if !got.Error.Retryable || strings.Contains(got.text, password) {
						t.Errorf("told %s", got.text)
					}
					if other := s.want(t, "read_data", object{"database": "beside", "query": "SELECT count(*) FROM orders"}); string(other.Rows) != "[[5]]" {
						t.Errorf("beside it: %s", other.raw)
					}
				}
				t.Log(s.call(t, "read_data", read).text)
				for _, d := range s.want(t, "database_info", object{}).Databases {
					if want := map[string]string{"shop": "down", "beside": "ready"}[d.Database]; d.Status != want || (d.LastError == "") == (want == "down") {
						t.Errorf("database_info of %s: %+v", d.Database, d)
					}
				}
			}
			works := func() {
				t.Helper()
				began := time.Now()
				eventually(t, heals, "it stays down", func() bool { return string(s.call(t, "read_data", read).Rows) == "[[5]]" })
				t.Logf("it was well after %v", time.Since(began))
				if info := s.want(t, "database_info", object{"database": "shop"}); info.Status != "ready" || info.LastError != "" {
					t.Errorf("then database_info is %s", info.raw)
				}
			}
			works()
			fails("DATABASE_UNREACHABLE", server.Stop)
			server.Start(t)
			works()

			var ends []func()
			fails("DATABASE_UNREACHABLE", func() { // takes those that it gives back, too
				for {
					end, err := use()
					if err != nil {
						return
					}
					ends = append(ends, end)
				}
			})
			for _, end := range ends {
				end()
			}
			works()
		})
	}
}

// TestADatabaseThatDoesNotAnswer has listeners that never do: a call waits for
// no longer than connect_timeout, and a database beside them is not waited for.
func TestADatabaseThatDoesNotAnswer(t *testing.T) {
	beside := newSQLite(t)
	databases := map[string]any{"beside": beside.entry(t, nil)}
	for _, scheme := range []string{"postgres", "mysql"} {
		listener, err := net.Listen("tcp", somewhere)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		databases[scheme] = object{"dsn": fmt.Sprintf("%s://me:%s@%s/shop", scheme, secret, listener.Addr()), "connect_timeout": "1s"}
	}
	p := serveDB(t, "--config", configureDatabases(t, databases, nil))
	s := open(t, overHTTP(t, p), versions[1], nil)
	for _, name := range []string{"postgres", "mysql"} {
		began, end := time.Now(), mcptest.Within(t, 3*time.Second)
		got := s.fail(t, "DATABASE_UNREACHABLE", "read_data", object{"database": name, "query": "SELECT 1"})
		end()
		if took := time.Since(began); took < 900*time.Millisecond || strings.Contains(got.text, secret) {
			t.Errorf("%s: after %v: %s", name, took, got.text)
		}
		t.Log(got.text)
		s.want(t, "read_data", object{"database": "beside", "query": "SELECT 1"})
	}
	end := mcptest.Within(t, 3*time.Second)
	s.want(t, "database_info", object{})
	end()
	if strings.Contains(p.err.String(), secret) {
		t.Errorf("the log says %s", &p.err)
	}
}

// mostResident is how much memory mcpool db may hold when it has served a call
// of a SQLite file and rests, in KiB.
var mostResident = 64 << 10

func TestADatabaseServerAtRestIsSmall(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: there is no /proc")
	}
	p := startChild(t, append([]string{"db", "--listen", somewhere}, newSQLite(t).args(t)...)...)
	p.url = p.await(t, &p.err, `mcp=(http://\S+)/mcp`)
	open(t, overHTTP(t, p), versions[1], nil).want(t, "read_data", object{"query": "SELECT count(*) FROM numbers"})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	resident := count(t, rest)
	t.Logf("%d KiB", resident)
	if resident > mostResident {
		t.Errorf("%d KiB are resident, want at most %d", resident, mostResident)
	}
}
