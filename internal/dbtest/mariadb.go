//go:build unix

package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// A MariaDBServer is a private MariaDB with one account that may do anything,
// root. It keeps nothing if the machine goes down.
type MariaDBServer struct {
	server
	User string // root
}

// mariadb is the server that the tests of a process share; guarded by shared.
var mariadb *MariaDBServer

// MariaDB returns the server that the tests of a process share. Each test makes
// databases and accounts of its own, and leaves the server as it is.
func MariaDB(t testing.TB) *MariaDBServer {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if mariadb == nil {
		mariadb = startMariaDB(t)
		shared.ends = append(shared.ends, mariadb.end)
	}
	return mariadb
}

// OwnMariaDB returns a server for one test, which may do to it what it wants,
// with more arguments for mariadbd.
func OwnMariaDB(t testing.TB, args ...string) *MariaDBServer {
	t.Helper()
	s := startMariaDB(t, args...)
	t.Cleanup(s.end)
	return s
}

// NamedMySQL returns a server that runs already, of which nothing is private:
// that of an address, with an account that may make databases and accounts.
func NamedMySQL(addr, user, password string) *MariaDBServer {
	host, port, _ := net.SplitHostPort(addr)
	return &MariaDBServer{server{Host: host, Port: port, Password: password}, user}
}

func startMariaDB(t testing.TB, args ...string) *MariaDBServer {
	t.Helper()
	s := &MariaDBServer{server{Host: "127.0.0.1", Password: rand.Text(), args: args}, "root"}
	install := program(t, "mariadb-install-db", "/usr/bin", "/usr/local/mysql/scripts")
	path := program(t, "mariadbd", "/usr/sbin", "/usr/libexec", "/usr/local/mysql/bin")
	s.home = newHome(t, "mysql")
	accounts := s.home.write(t, "accounts.sql", fmt.Sprintf("FLUSH PRIVILEGES;\n"+
		"DROP USER IF EXISTS root@'127.0.0.1', root@'::1';\n"+
		"ALTER USER root@localhost IDENTIFIED BY '%s';\n"+
		"RENAME USER root@localhost TO root@'%%';\n", s.Password))
	s.home.run(t, install, "--no-defaults", "--datadir="+s.data(), "--auth-root-authentication-method=normal",
		"--skip-name-resolve", "--skip-test-db", "--tmpdir="+s.home.dir, "--extra-file="+accounts)
	s.begin = func(more []string) (*process, error) {
		return s.home.start(syscall.SIGTERM, "ready for connections", path, append([]string{"--no-defaults", "--datadir=" + s.data(),
			"--bind-address=" + s.Host, "--port=" + s.Port, "--tmpdir=" + s.home.dir, "--socket=" + filepath.Join(s.home.dir, "socket"),
			"--skip-name-resolve", "--skip-log-bin", "--secure-file-priv=", "--innodb-flush-log-at-trx-commit=0",
			"--innodb-buffer-pool-size=64M", "--innodb-doublewrite=0", "--sync-frm=0", "--innodb-flush-method=nosync",
			"--performance-schema=off", "--character-set-server=utf8mb4", "--max-connections=100"}, more...)...)
	}
	s.listen(t)
	return s
}

// DatabaseDir is the directory in which a database has its files.
func (s *MariaDBServer) DatabaseDir(name string) string { return filepath.Join(s.data(), name) }

// WritableDir makes a directory in Dir that the server can write to.
func (s *MariaDBServer) WritableDir(t testing.TB, name string) (path string) {
	t.Helper()
	path = filepath.Join(s.home.dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	s.home.own(t, path)
	return path
}

// DSN is the address of a database for an account.
func (s *MariaDBServer) DSN(user, password, database string) string {
	return fmt.Sprintf("mariadb://%s:%s@%s/%s", user, password, net.JoinHostPort(s.Host, s.Port), database)
}

// Root is the address of a database for the account that may do anything.
func (s *MariaDBServer) Root(database string) string { return s.DSN(s.User, s.Password, database) }

// Open opens a pool of connections as root, which ends with the test.
func (s *MariaDBServer) Open(t testing.TB, database string) *sql.DB {
	t.Helper()
	config := mysql.NewConfig()
	config.User, config.Passwd, config.DBName = s.User, s.Password, database
	config.Net, config.Addr = "tcp", net.JoinHostPort(s.Host, s.Port)
	config.Logger = &mysql.NopLogger{}
	config.MaxAllowedPacket = 0 // what the server says
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

// Exec runs statements as root, those with a ; at the end of a line each by
// itself, and returns the rows of the last one, with | between values.
func (s *MariaDBServer) Exec(t testing.TB, database, statements string) string {
	t.Helper()
	db := s.Open(t, database)
	defer db.Close()
	db.SetMaxOpenConns(1) // so that statements share a session
	rows := ""
	for statement := range strings.SplitSeq(statements+"\n", ";\n") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		var err error
		if rows, err = execute(db, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return rows
}

func execute(db *sql.DB, statement string) (string, error) {
	rows, err := db.QueryContext(context.Background(), statement)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	values := make([]sql.NullString, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return "", err
		}
		for i, v := range values {
			if i > 0 {
				b.WriteByte('|')
			}
			b.WriteString(v.String)
		}
		b.WriteByte('\n')
	}
	return b.String(), rows.Err()
}

// Database makes a database for one test.
func (s *MariaDBServer) Database(t testing.TB, name string) {
	t.Helper()
	s.Exec(t, "", "CREATE DATABASE `"+name+"`")
	t.Cleanup(func() { s.Exec(t, "", "DROP DATABASE IF EXISTS `"+name+"`") })
}
