package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// maxMessage is how long a message of the server may be, in bytes, but for rows,
// which are cut. A longer one, such as an error that quotes a value, ends the
// connection.
const maxMessage = rowMost + 8<<20

// cancelDelay is how long the server may take to end a statement that it was
// asked to end, before its connection is thrown away.
const cancelDelay = 900 * time.Millisecond

// A source makes the configuration of each connection.
type source struct {
	options *engine.Options
	dsn     string // in place of that of the options, if set
	write   bool   // for connections that may write
}

// config reads where the database is and the password for it. Its errors never
// tell either. The connection made of it sets in.
func (s *source) config(ctx context.Context, in **stream) (*pgconn.Config, error) {
	dsn := s.dsn
	if dsn == "" {
		dsn = s.options.DSN
	}
	if s.dsn == "" && s.options.Resolve != nil {
		var err error
		if dsn, err = s.options.Resolve(ctx); err != nil {
			return nil, fmt.Errorf("the address of the database cannot be read: %w", err)
		}
	}
	c, err := parse(dsn, s.options.TLS)
	if err != nil {
		return nil, err
	}
	if s.options.Password != nil && c.Password == "" {
		if c.Password, err = s.options.Password(); err != nil {
			return nil, fmt.Errorf("the password of the database cannot be read: %w", err)
		}
	}
	s.settings(c)
	c.ConnectTimeout = s.options.Pool.ConnectTimeout
	c.MaxProtocolMessageBodyLen = maxMessage
	c.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		*in = newStream(r)
		return pgproto3.NewFrontend(*in, w)
	}
	c.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxHandler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: pg, DeadlineDelay: cancelDelay}
	}
	c.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
	return c, nil
}

// settings are those that a connection starts with and goes back to whenever
// it is reset. Values have to come in forms that can be told apart.
func (s *source) settings(c *pgconn.Config) {
	if c.RuntimeParams == nil {
		c.RuntimeParams = map[string]string{}
	}
	set := c.RuntimeParams
	if !s.write {
		set["default_transaction_read_only"] = "on"
	}
	for name, d := range map[string]time.Duration{
		"statement_timeout": s.options.StatementTimeout,
		"lock_timeout":      s.options.LockTimeout,
		// A transaction is idle only for as long as this process takes to send
		// the next message.
		"idle_in_transaction_session_timeout": s.options.StatementTimeout,
	} {
		if d > 0 {
			set[name] = strconv.FormatInt(max(d.Milliseconds(), 1), 10)
		}
	}
	set["client_encoding"] = "UTF8"
	set["datestyle"] = "ISO"
	set["intervalstyle"] = "iso_8601"
	set["bytea_output"] = "hex"
	set["extra_float_digits"] = "1"
	set["standard_conforming_strings"] = "on"
	set["application_name"] = "mcpool"
}

// errDSN says no more, because what cannot be parsed may be a password.
var errDSN = errors.New("the address of the database is not a valid URL (postgres://user@host/database) or keyword string (host=… dbname=…)")

func parse(dsn string, t engine.TLS) (*pgconn.Config, error) {
	dsn, err := protect(dsn, t)
	if err != nil {
		return nil, err
	}
	c, err := pgconn.ParseConfig(dsn)
	if err != nil {
		var files interface{ Unwrap() error }
		if errors.As(err, &files) && (t.CAFile != "" || t.CertFile != "") {
			return nil, fmt.Errorf("the address of the database or the files of its certificates are not valid: %w", pathError(err))
		}
		return nil, errDSN
	}
	return c, nil
}

// pathError is the part of an error that tells of a file.
func pathError(err error) error {
	for ; err != nil; err = errors.Unwrap(err) {
		if strings.HasPrefix(err.Error(), "open ") || strings.HasPrefix(err.Error(), "unable to ") {
			return err
		}
	}
	return errDSN
}

// protect adds to an address how its connections are protected.
func protect(dsn string, t engine.TLS) (string, error) {
	parameters := [][2]string{{"sslmode", t.Mode}, {"sslrootcert", t.CAFile}, {"sslcert", t.CertFile}, {"sslkey", t.KeyFile}}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		u, err := url.Parse(dsn)
		if err != nil {
			return "", errDSN
		}
		query := u.Query()
		for _, p := range parameters {
			if p[1] != "" {
				query.Set(p[0], p[1])
			}
		}
		if t != (engine.TLS{}) {
			u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // a plus is a plus to PostgreSQL
		}
		return u.String(), nil
	}
	for _, p := range parameters { // of two of a name the last counts
		if p[1] != "" {
			dsn += " " + p[0] + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(p[1]) + "'"
		}
	}
	return dsn, nil
}

// place says where a database is, without who opens it.
func place(c *pgconn.Config) string {
	host := c.Host
	if strings.HasPrefix(host, "/") {
		return host + "/" + c.Database
	}
	return fmt.Sprintf("%s:%d/%s", host, c.Port, c.Database)
}
