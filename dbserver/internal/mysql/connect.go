package mysql

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

const (
	// maxRow is how much of a row is read, and of all that is left when a
	// statement has been ended.
	maxRow = 16 << 20
	// patience is how long the server has for what takes it no time.
	patience = 2 * time.Second
)

// A connector opens connections. It is the driver.Connector of one pool.
type connector struct {
	options *engine.Options
	dsn     string // in place of that of the options, if not empty
	guarded bool   // connections are for reading: the account is looked at
	gate    *gate
	secrets *secrets
}

func (k *connector) Driver() driver.Driver { return mysql.MySQLDriver{} }

// Connect opens a connection. While the database is down it tries no more often
// than the gate lets it.
func (k *connector) Connect(ctx context.Context) (driver.Conn, error) {
	var c *conn
	err := k.gate.pass(ctx, func() error {
		ctx, cancel := within(ctx, k.options.Pool.ConnectTimeout, context.DeadlineExceeded)
		defer cancel()
		began := time.Now()
		var err error
		if c, err = k.open(ctx); err != nil {
			k.options.Log.Warn("connection not opened", "database", k.options.Name, "error", k.secrets.scrub(err.Error()))
			return err
		}
		k.options.Log.Info("connection opened", "database", k.options.Name, "elapsed", time.Since(began))
		return nil
	})
	if err != nil {
		return nil, &connectError{err}
	}
	return c, nil
}

// A connectError is a failure to get a connection.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

func (k *connector) open(ctx context.Context) (*conn, error) {
	a, err := k.address(ctx)
	if err != nil {
		return nil, err
	}
	config, w, err := k.config(&a)
	if err != nil {
		return nil, err
	}
	opener, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	raw, err := opener.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, wire: *w, place: a.place(), database: a.database, timeZone: cmp.Or(a.timeZone, utc)}
	// The driver has stopped to look at ctx.
	stop := context.AfterFunc(ctx, func() { _ = c.wire.Close() }) // who reads from it is told
	if c.link, err = linkOf(raw); err == nil {
		err = c.greet()
	}
	if err == nil && k.guarded {
		err = c.checkRole(k.options.AllowUnsafeRole)
	}
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = raw.Close() // nothing has been done on it
		return nil, err
	}
	if life := k.options.Pool.MaxLifetime; life > 0 {
		c.expires = time.Now().Add(life - rand.N(life/10+1)) // #nosec G404 -- to spread what would come together
	}
	return c, nil
}

// address returns where the database is now, with the password.
func (k *connector) address(ctx context.Context) (address, error) {
	dsn := k.dsn
	if dsn == "" {
		dsn = k.options.DSN
		if k.options.Resolve != nil {
			var err error
			if dsn, err = k.options.Resolve(ctx); err != nil {
				return address{}, err
			}
		}
	}
	k.secrets.add(dsn)
	a, err := parseDSN(dsn)
	if err != nil {
		return address{}, err
	}
	if k.options.Password != nil && a.password == "" {
		if a.password, err = k.options.Password(); err != nil {
			return address{}, err
		}
	}
	k.secrets.add(a.password)
	return a, nil
}

// config makes the driver's settings for one connection, and says where the
// wire below it will be.
func (k *connector) config(a *address) (*mysql.Config, **wire, error) {
	config := mysql.NewConfig()
	// As in other engines a row is affected that a statement finds, also where it
	// has the new values already: else a preview depends on them.
	config.ClientFoundRows = true
	config.Net, config.Addr, config.User, config.Passwd, config.DBName = a.network, a.addr, a.user, a.password, a.database
	config.Timeout = a.timeout
	config.ConnectionAttributes = "program_name:mcpool"
	config.Logger = &mysql.NopLogger{} // errors are returned
	if a.network == "tcp" || k.options.TLS.Mode != "" {
		if err := protect(config, a, k.options.TLS); err != nil {
			return nil, nil, err
		}
	}
	w := new(*wire)
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		*w = &wire{Conn: c}
		(*w).allow(maxRow)
		return *w, nil
	}
	return config, w, nil
}

// A conn is a connection to the database, of one call at a time.
type conn struct {
	driver.Conn
	wire     *wire
	link     net.Conn // what the driver writes to: the wire, or TLS over it
	server   server
	id       string // of the connection in the server
	account  string
	place    string
	database string
	timeZone string
	setRole  string         // the statement that takes the role that a new session has, empty for servers without roles
	checks   []engine.Check // of the role
	expires  time.Time      // zero for never
	used     bool           // a call has been made on it
	broken   bool           // it is not to be used again
}

// greet asks the server what it is.
func (c *conn) greet() error {
	err := c.query("SELECT VERSION(), CONNECTION_ID(), CURRENT_USER()", nil, func(row []driver.Value) error {
		c.server, c.id, c.account = parseServer(text(row[0])), text(row[1]), text(row[2])
		return nil
	})
	switch {
	case err != nil:
	case !c.server.maria && c.server.atLeast(8, 0, 0):
		c.setRole = "SET ROLE DEFAULT"
	case c.server.maria: // which has no DEFAULT there
		var role string
		role, err = c.one("SELECT CURRENT_ROLE()")
		if c.setRole = "SET ROLE NONE"; role != "" {
			c.setRole = "SET ROLE " + quoteName(role)
		}
	}
	return err
}

// IsValid reports whether the connection may be used again. It is asked when a
// call gives it back.
func (c *conn) IsValid() bool {
	return !c.broken && (c.expires.IsZero() || time.Now().Before(c.expires))
}

// Close ends the connection. That its server was gone before is no failure.
func (c *conn) Close() error {
	_ = c.Conn.Close()
	return nil
}

// exec runs a statement of our own. No context goes to the driver: it would
// close the connection and leave the statement running.
func (c *conn) exec(statement string) error {
	c.wire.allow(maxRow)
	_, err := c.Conn.(driver.ExecerContext).ExecContext(context.Background(), statement, nil)
	return err
}

// query runs a statement of our own and calls fn for each row, which is valid
// during the call.
func (c *conn) query(statement string, args []any, fn func(row []driver.Value) error) error {
	c.wire.allow(maxRow)
	rows, close, err := c.start(statement, args, len(args) > 0)
	if err != nil {
		return err
	}
	defer close()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		c.wire.allow(maxRow)
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := fn(row); err != nil {
			return err
		}
	}
}

// queryWithin runs SELECT and what is behind it for no longer than most, and
// reports whether that was enough for all of it.
func (c *conn) queryWithin(most time.Duration, behind string, args []any, fn func(row []driver.Value) error) (all bool, err error) {
	begin := fmt.Sprintf("SELECT /*+ MAX_EXECUTION_TIME(%d) */ ", most.Milliseconds())
	if c.server.maria {
		begin = fmt.Sprintf("SET STATEMENT max_statement_time=%.3f FOR SELECT ", most.Seconds())
	}
	began := time.Now()
	err = c.query(begin+behind, args, fn)
	if maxTime[numberOf(err)] {
		return false, nil
	}
	// MariaDB tells no error if its time ended while it looked at tables for the
	// information_schema, but what it has found by then.
	return err == nil && time.Since(began) < most, err
}

// start starts a statement: as it is, or prepared. In the prepared protocol
// values come in binary, which is exact: as text a FLOAT has six digits.
func (c *conn) start(statement string, args []any, prepared bool) (driver.Rows, func(), error) {
	if !prepared {
		rows, err := c.Conn.(driver.QueryerContext).QueryContext(context.Background(), statement, nil)
		if err != nil {
			return nil, nil, err
		}
		return rows, func() { c.broken = rows.Close() != nil && c.dead() || c.broken }, nil
	}
	s, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(context.Background(), statement)
	if err != nil {
		return nil, nil, err
	}
	values := make([]driver.NamedValue, len(args))
	for i, v := range args {
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	rows, err := s.(driver.StmtQueryContext).QueryContext(context.Background(), values)
	if err != nil {
		_ = s.Close() // it ends with the session, too
		return nil, nil, err
	}
	return rows, func() {
		c.broken = rows.Close() != nil && c.dead() || c.broken
		_ = s.Close()
	}, nil
}

// dead reports whether the driver has given the connection up.
func (c *conn) dead() bool {
	v, ok := c.Conn.(driver.Validator)
	return !ok || !v.IsValid()
}

// text reads a value that is a text or a number, with "" for NULL.
func text(v driver.Value) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []byte:
		return string(v)
	case string:
		return v
	case int64:
		return formatInt(v)
	case uint64:
		return formatUint(v)
	}
	return ""
}
