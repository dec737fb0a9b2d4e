package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// limits are what a statement may use. SQLite advises such limits for SQL from
// strangers (https://www.sqlite.org/security.html, "Untrusted SQL Inputs").
// They belong to a connection and cannot be raised by SQL.
var limits = []struct{ id, value int }{
	// Of ATTACH and of VACUUM INTO, which attaches its target.
	{lib.SQLITE_LIMIT_ATTACHED, 0},
	// Bytes of a value or row. One call of one function cannot be interrupted:
	// over values of 16 MB instr() alone would take half an hour.
	{lib.SQLITE_LIMIT_LENGTH, maxValueBytes},
	{lib.SQLITE_LIMIT_SQL_LENGTH, 100_000},
	{lib.SQLITE_LIMIT_EXPR_DEPTH, 200},
	// Bytes of a pattern: LIKE takes time in proportion to value times pattern.
	{lib.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 500},
	// Instructions of a compiled statement, which bounds how many values of
	// maximal length it can hold at once.
	{lib.SQLITE_LIMIT_VDBE_OP, 25_000},
}

const maxValueBytes = 1_000_000

// maxColumns is the most columns of a result: with maxValueBytes, it bounds
// what one row takes up.
const maxColumns = 256

// limit sets the limits. It is done each time that a connection is taken, for
// which the driver has a function on a pooled connection alone; it takes less
// than a microsecond.
func limit(conn *sql.Conn) error {
	for _, l := range limits {
		if _, err := sqlite.Limit(conn, l.id, l.value); err != nil {
			return err
		}
	}
	return nil
}

// A connector opens connections that can only read.
type connector struct{ target target }

// Driver returns a driver of our own: functions, hooks and collations that
// other code of the process registers are not in it.
func (c connector) Driver() driver.Driver { return &sqlite.Driver{} }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.target.check(); err != nil {
		return nil, err
	}
	conn, err := c.Driver().Open(c.target.uri())
	if err != nil {
		return nil, err
	}
	if err := protect(ctx, conn); err != nil {
		_ = conn.Close() // nothing has been done on it
		return nil, err
	}
	return conn, nil
}

// An engineConn is what the driver's connections can do.
type engineConn interface {
	driver.QueryerContext
	driver.ExecerContext
	sqlite.AuthorizerRegisterer
	ColumnInfo(query string) ([]sqlite.ColumnInfo, error)
}

// protect makes a new connection one that can only read.
func protect(ctx context.Context, conn driver.Conn) error {
	c, ok := conn.(engineConn)
	if !ok {
		return errDriver
	}
	if _, err := handleOf(conn); err != nil {
		return err
	}
	_, err := c.ExecContext(ctx, "PRAGMA query_only=ON; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON", nil)
	if err != nil {
		return err
	}
	// Reads the schema, so a file that is no database is found out here.
	if _, err := connectVirtual(ctx, c); err != nil {
		return err
	}
	return c.RegisterAuthorizer(new(guard).authorize)
}

// connectVirtual connects the virtual tables of the database and returns how
// many there are. Some (R*Tree) prepare statements that write when they are
// first used on a connection, which the authorizer would deny, so this is done
// while there is none.
func connectVirtual(ctx context.Context, c engineConn) (int, error) {
	var names []string
	err := query(ctx, c, "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = 0", nil,
		func(row []driver.Value) error {
			names = append(names, text(row[0]))
			return nil
		})
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		// Compiling a statement connects. One that cannot be connected, such
		// as for lack of its module, fails again when it is asked for.
		_, _ = c.ColumnInfo("SELECT * FROM " + quoteName(name))
	}
	return len(names), nil
}

// query runs a statement of our own and calls fn for each row, which is valid
// during the call.
func query(ctx context.Context, c engineConn, statement string, args []driver.NamedValue, fn func(row []driver.Value) error) (err error) {
	rows, err := c.QueryContext(ctx, statement, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		if ok, err := next(rows, row); !ok {
			return err
		}
		if err := fn(row); err != nil {
			return err
		}
	}
}

// errDriver says that the driver is not the one that this code was written
// for. No connection is handed out then.
var errDriver = errors.New("the SQLite driver has changed: its connections cannot be guarded or interrupted")
