//go:build unix

package mysql

import (
	"strings"
	"testing"
	"time"
)

func TestDSN(t *testing.T) {
	for _, test := range []struct {
		dsn  string
		want address
	}{
		{"mysql://ada@db.example.com/sales", address{network: "tcp", addr: "db.example.com:3306", user: "ada", database: "sales"}},
		{"mariadb://ada:p%40ss%2Fw@[::1]:3307/sales?tls=verify-full&timeout=2s",
			address{network: "tcp", addr: "[::1]:3307", user: "ada", password: "p@ss/w", database: "sales", tls: "verify-full", timeout: 2 * time.Second}},
		{"mysql://ada@/sales?socket=/run/mysqld.sock", address{network: "unix", addr: "/run/mysqld.sock", user: "ada", database: "sales"}},
		{"mysql://ada@h?sslmode=REQUIRED&time_zone=SYSTEM", address{network: "tcp", addr: "h:3306", user: "ada", tls: "require", timeZone: "SYSTEM"}},
		{"ada:p@ss/w@tcp(10.0.0.1:3307)/sales?parseTime=true&charset=utf8mb4&loc=Local",
			address{network: "tcp", addr: "10.0.0.1:3307", user: "ada", password: "p@ss/w", database: "sales"}},
		{"ada@unix(/tmp/mysql.sock)/sales?tls=skip-verify", address{network: "unix", addr: "/tmp/mysql.sock", user: "ada", database: "sales", tls: "require"}},
		{"ada@/", address{network: "tcp", addr: "127.0.0.1:3306", user: "ada"}},
	} {
		got, err := parseDSN(test.dsn)
		if err != nil || got != test.want {
			t.Errorf("%s: got %+v, %v, want %+v", test.dsn, got, err, test.want)
		}
	}
}

func TestDSNsThatAreRefused(t *testing.T) {
	for _, dsn := range []string{
		"mysql://ada:s3cret@h/db?multiStatements=true", "mysql://ada:s3cret@h/db?allowAllFiles=true", "ada:s3cret@tcp(h)/db?multiStatements=true",
		"ada:s3cret@tcp(h)/db?interpolateParams=true", "ada:s3cret@tcp(h)/db?sql_mode=ANSI_QUOTES", "ada:s3cret@tcp(h)/db?init_connect=x",
		"ada:s3cret@tcp(h)/db?allowCleartextPasswords=1", "ada:s3cret@tcp(h)/db?tx_read_only=0", "mysql://ada:s3cret@h/db?tls=maybe",
		"mysql://ada:s3cret@h/db?timeout=soon", "mysql://ada:s3cret@h/db?socket=relative", "mysql://ada:s3/cret@h:x/db", "postgres://ada:s3cret@h/db",
		"ada:s3cret@pipe(x)/db", "ada:s3cret", "mysql://ada:s3cret@h/db/more", "mysql://ada:s3cret@h/db?%zz",
	} {
		_, err := parseDSN(dsn)
		if err == nil {
			t.Errorf("%s is taken", dsn)
		} else if strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: the error has the password: %v", dsn, err)
		}
	}
}

func TestServerVersions(t *testing.T) {
	for _, test := range []struct {
		version, engine, readOnly string
		numbers                   [3]int
	}{
		{"10.11.19-MariaDB-0+deb12u1", "mariadb", "tx_read_only", [3]int{10, 11, 19}},
		{"5.5.5-10.6.4-MariaDB-log", "mariadb", "tx_read_only", [3]int{10, 6, 4}},
		{"8.4.0", "mysql", "transaction_read_only", [3]int{8, 4, 0}},
		{"8.0.36-0ubuntu0.22.04.1", "mysql", "transaction_read_only", [3]int{8, 0, 36}},
		{"5.7.19-log", "mysql", "tx_read_only", [3]int{5, 7, 19}},
		{"9.1", "mysql", "transaction_read_only", [3]int{9, 1, 0}},
	} {
		s := parseServer(test.version)
		if s.engine() != test.engine || s.readOnly() != test.readOnly || s.numbers != test.numbers {
			t.Errorf("%s: got %+v, %s, %s", test.version, s, s.engine(), s.readOnly())
		}
	}
}

func TestStatementsAreMarkedWithoutAWayOut(t *testing.T) {
	got := marked(caller("ada*/ DROP TABLE x; /*!", "read_data\n"))
	if want := "/* mcpool principal=ada___DROP_TABLE_x_____ tool=read_data_ */ "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if long := marked(caller(strings.Repeat("é", 300), "")); len(long) > 200 {
		t.Errorf("a mark of %d bytes", len(long))
	}
}
