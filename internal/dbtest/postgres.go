//go:build unix

package dbtest

import (
	"crypto/rand"
	"net/url"
	"path/filepath"
	"syscall"
	"testing"
)

// A PostgresServer is a private PostgreSQL with one superuser, postgres. It
// listens on loopback, where it asks for passwords, and on a socket in its
// directory, where it does not. It keeps nothing if the machine goes down.
type PostgresServer struct {
	server
	bin string // directory of its programs
}

// postgres is the server that the tests of a process share; guarded by shared.
var postgres *PostgresServer

// Postgres returns the server that the tests of a process share. Each test
// makes databases and roles of its own, and leaves the server as it is.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if postgres == nil {
		postgres = startPostgres(t)
		shared.ends = append(shared.ends, postgres.end)
	}
	return postgres
}

// OwnPostgres returns a server for one test, which may do to it what it wants.
func OwnPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	s := startPostgres(t)
	t.Cleanup(s.end)
	return s
}

func startPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	s := &PostgresServer{server: server{Host: "127.0.0.1", Password: rand.Text()}}
	initdb := program(t, "initdb", "/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin")
	s.bin = filepath.Dir(initdb)
	for _, p := range []string{"postgres", "psql"} {
		program(t, p, s.bin)
	}
	s.home = newHome(t, "postgres")
	password := s.home.write(t, "password", s.Password)
	s.home.run(t, initdb, "--pgdata", s.data(), "--username", "postgres", "--pwfile", password, "--encoding", "UTF8",
		"--locale", "C.UTF-8", "--auth-host", "scram-sha-256", "--auth-local", "trust", "--no-sync", "--no-instructions")
	s.begin = func(more []string) (*process, error) {
		args := []string{"-D", s.data(), "-p", s.Port, "-h", s.Host, "-k", s.home.dir}
		for _, setting := range []string{"fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=64MB",
			"max_connections=60", "autovacuum=off", "logging_collector=off"} {
			args = append(args, "-c", setting)
		}
		return s.home.start(syscall.SIGINT, "ready to accept connections", filepath.Join(s.bin, "postgres"), append(args, more...)...)
	}
	s.listen(t)
	return s
}

// DSN is the address of a database for a role.
func (s *PostgresServer) DSN(role, password, database string) string {
	return (&url.URL{Scheme: "postgres", Host: s.Host + ":" + s.Port, User: url.UserPassword(role, password), Path: "/" + database}).String()
}

// Superuser is the address of a database for the superuser.
func (s *PostgresServer) Superuser(database string) string {
	return s.DSN("postgres", s.Password, database)
}

// Exec runs statements as the superuser, each in a transaction of its own, and
// returns the rows, with | between values.
func (s *PostgresServer) Exec(t testing.TB, database, statements string) string {
	t.Helper()
	script := s.home.write(t, rand.Text()+".sql", statements)
	return s.home.run(t, filepath.Join(s.bin, "psql"), "-h", s.home.dir, "-p", s.Port, "-U", "postgres", "-d", database,
		"-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", script)
}

// Database makes a database for one test.
func (s *PostgresServer) Database(t testing.TB, name string) {
	t.Helper()
	s.Exec(t, "postgres", `CREATE DATABASE "`+name+`"`)
	t.Cleanup(func() { s.Exec(t, "postgres", `DROP DATABASE "`+name+`" WITH (FORCE)`) })
}
