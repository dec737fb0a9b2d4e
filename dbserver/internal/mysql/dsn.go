package mysql

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// An address is what a DSN says.
type address struct {
	network, addr  string // of net.Dial
	user, password string
	database       string
	tls            string // disable, prefer, require, verify-ca or verify-full; empty for prefer
	timeZone       string
	timeout        time.Duration // of connecting, zero for that of the pool
}

// tlsModes are the values of tls, ssl-mode and sslmode, as the driver, MySQL and
// MariaDB write them.
var tlsModes = map[string]string{
	"false": "disable", "disable": "disable", "disabled": "disable",
	"preferred": "prefer", "prefer": "prefer",
	"skip-verify": "require", "require": "require", "required": "require",
	"verify-ca": "verify-ca", "verify_ca": "verify-ca",
	"true": "verify-full", "verify-full": "verify-full", "verify_identity": "verify-full", "verify-identity": "verify-full",
}

// errDSN has none of the DSN in it, for it may hold a password.
var errDSN = errors.New("the DSN is none of mysql://user@host:3306/database, mariadb://… and user@tcp(host:3306)/database; " +
	"special characters of a password in a URL are written as %XX")

// parseDSN reads a URL or a DSN of the driver. Of its parameters only those are
// taken that cannot make a session less safe; others are refused.
func parseDSN(dsn string) (address, error) {
	scheme, _, isURL := strings.Cut(dsn, "://")
	if isURL && scheme != "mysql" && scheme != "mariadb" {
		return address{}, errDSN
	}
	var a address
	var query string
	if isURL {
		u, err := url.Parse(dsn)
		if err != nil || u.Opaque != "" || u.Fragment != "" {
			return address{}, errDSN
		}
		a.network, a.addr = "tcp", net.JoinHostPort(hostOr(u.Hostname(), "127.0.0.1"), hostOr(u.Port(), "3306"))
		a.user = u.User.Username()
		a.password, _ = u.User.Password()
		a.database = strings.TrimPrefix(u.Path, "/")
		query = u.RawQuery
	} else {
		slash := strings.LastIndexByte(dsn, '/')
		if i := strings.IndexByte(dsn[slash+1:], '?'); i >= 0 {
			dsn, query = dsn[:slash+1+i], dsn[slash+2+i:]
		}
		config, err := mysql.ParseDSN(dsn)
		if err != nil {
			return address{}, errDSN
		}
		a = address{network: config.Net, addr: config.Addr, user: config.User, password: config.Passwd, database: config.DBName}
	}
	if a.network != "tcp" && a.network != "unix" || strings.Contains(a.database, "/") {
		return address{}, errDSN
	}
	return a, a.take(query)
}

func hostOr(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// take reads the parameters of a DSN.
func (a *address) take(query string) error {
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return errDSN
	}
	for name, values := range parameters {
		value := values[len(values)-1]
		switch name {
		case "tls", "ssl-mode", "sslmode":
			mode, ok := tlsModes[strings.ToLower(value)]
			if !ok {
				return fmt.Errorf("the DSN's %s is none of disable, preferred, require, verify-ca and verify-full", name)
			}
			a.tls = mode
		case "socket":
			if !path.IsAbs(value) {
				return errors.New("the DSN's socket is not an absolute path")
			}
			a.network, a.addr = "unix", value
		case "time_zone":
			a.timeZone = strings.Trim(value, "'")
		case "timeout":
			if a.timeout, err = time.ParseDuration(value); err != nil || a.timeout < 0 {
				return errors.New("the DSN's timeout is not a duration like 5s")
			}
		case "parseTime", "loc", "charset", "collation":
			// Common in DSNs. Values are told as the server writes them, in utf8mb4.
		default:
			return fmt.Errorf("the DSN's parameter %q is not taken", name)
		}
	}
	return nil
}

// place is where the database is, without credentials.
func (a *address) place() string {
	if a.database == "" {
		return a.addr
	}
	return a.addr + "/" + a.database
}
