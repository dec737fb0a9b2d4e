package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"modernc.org/libc"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// limits are what a statement may use. SQLite advises such limits for SQL from
// strangers (https://www.sqlite.org/security.html, "Untrusted SQL Inputs").
// They belong to a connection and cannot be raised by SQL.
var limits = []struct{ id, value int32 }{
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
	{lib.SQLITE_LIMIT_VDBE_OP, maxInstructions},
}

const (
	maxValueBytes   = 1_000_000
	maxInstructions = 25_000
	// ownInstructions is that for statements of our own: SQLite compiles what a
	// pragma tells into the statement, eight instructions for each column.
	ownInstructions = 10_000_000
)

// maxColumns is the most columns of a result: with maxValueBytes, it bounds
// what one row takes up.
const maxColumns = 256

// A connector opens connections of one kind: such that can only read, or those
// of Write.
type connector struct {
	target  target
	writing bool
	options *engine.Options
}

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
	opened, err := c.Driver().Open(c.target.uri(c.writing))
	if err != nil {
		return nil, err
	}
	conn, err := newConn(opened, c)
	if err == nil {
		err = conn.protect(ctx)
	}
	if err != nil {
		_ = opened.Close() // nothing has been done on it
		return nil, err
	}
	return conn, nil
}

// A conn is a connection. It is opened and closed, guarded and pooled by the
// driver; statements are compiled and run on SQLite itself, see [stmt].
type conn struct {
	driver.Conn
	db      uintptr // the sqlite3*
	tls     *libc.TLS
	scratch uintptr // two pointers that prepare fills in
	guard   *guard
	options *engine.Options
	writing bool
	cover   *cover // what the policy hides, nil for nothing
	lost    bool   // not to be used again
}

// newConn takes the handle of SQLite's out of a connection of the driver. The
// driver exports neither it nor any way to interrupt a running statement: of
// v1.61.1 a query's context is watched during its first step alone (stmt.go,
// query), so that a second row that takes forever could not be ended. It also
// compiles a statement again to tell its columns, and copies each value.
func newConn(opened driver.Conn, from connector) (*conn, error) {
	v := reflect.Indirect(reflect.ValueOf(opened))
	if v.Kind() != reflect.Struct {
		return nil, errDriver
	}
	db, tls := v.FieldByName("db"), v.FieldByName("tls")
	if db.Kind() != reflect.Uintptr || db.Uint() == 0 || !tls.IsValid() || tls.Type() != reflect.TypeFor[*libc.TLS]() || tls.IsNil() {
		return nil, errDriver
	}
	return &conn{Conn: opened, db: uintptr(db.Uint()), tls: (*libc.TLS)(tls.UnsafePointer()),
		guard: &guard{writing: from.writing}, options: from.options, writing: from.writing}, nil
}

// errDriver says that the driver is not the one that this code was written
// for. No connection is handed out then.
var errDriver = errors.New("the SQLite driver has changed: its connections cannot be guarded or interrupted")

// protect makes a new connection one that does what it is for and no more.
func (c *conn) protect(ctx context.Context) error {
	registerer, ok := c.Conn.(sqlite.AuthorizerRegisterer)
	if !ok {
		return errDriver
	}
	if c.scratch = libc.Xmalloc(c.tls, 16); c.scratch == 0 {
		return errors.New("out of memory")
	}
	for _, l := range limits {
		lib.Xsqlite3_limit(c.tls, c.db, l.id, l.value)
	}
	settings := []string{"PRAGMA trusted_schema=OFF", "PRAGMA cell_size_check=ON"}
	if c.writing {
		settings = append(settings, "PRAGMA foreign_keys=ON")
	}
	for _, setting := range settings {
		if err := c.each(ctx, setting, nil); err != nil {
			return err
		}
	}
	// Reads the schema, so a file that is no database is found out here.
	if _, err := c.connectVirtual(ctx); err != nil {
		return err
	}
	if c.options.Policy.Restricts() {
		if err := c.protectColumns(ctx); err != nil {
			return err
		}
	}
	if !c.writing {
		if err := c.each(ctx, "PRAGMA query_only=ON", nil); err != nil {
			return err
		}
	}
	return registerer.RegisterAuthorizer(c.guard.authorize)
}

// Close closes the connection.
func (c *conn) Close() error {
	libc.Xfree(c.tls, c.scratch)
	return c.Conn.Close()
}

// IsValid reports whether the connection can be used by another call. One that
// was interrupted cannot.
func (c *conn) IsValid() bool {
	v, ok := c.Conn.(driver.Validator)
	return ok && !c.lost && v.IsValid()
}

// interruptOnDone interrupts what runs on the connection once ctx is done,
// until the returned function is called; no interrupt comes after that.
func (c *conn) interruptOnDone(ctx context.Context) (stop func()) {
	stopped, finished := make(chan struct{}), make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(finished)
		// SQLite forgets an interrupt that comes before a statement starts,
		// so it is repeated until the call has ended.
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for {
			lib.Xsqlite3_interrupt(nil, c.db) // one atomic store, no thread state
			select {
			case <-again.C:
			case <-stopped:
				return
			}
		}
	})
	return func() {
		if !unwatch() {
			close(stopped)
			<-finished
		}
	}
}

// connectVirtual connects the virtual tables of the database and returns how
// many there are. Some (R*Tree) prepare statements that write when they are
// first used on a connection, which the guard would deny, so it lets
// everything be compiled meanwhile. Nothing runs but the catalog is read.
func (c *conn) connectVirtual(ctx context.Context) (int, error) {
	var names []string
	err := c.each(ctx, "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = 0", func(row *stmt) error {
		names = append(names, row.text(0))
		return nil
	})
	if err != nil {
		return 0, err
	}
	defer c.as(connecting)()
	for _, name := range names {
		// Compiling a statement connects. One that cannot be connected, such
		// as for lack of its module, fails again when it is asked for.
		if s, _, err := c.prepare(ctx, "SELECT * FROM "+quoteName(name)); err == nil {
			s.close()
		}
	}
	return len(names), nil
}

// as sets whose statements are compiled until the returned function is called.
func (c *conn) as(m mode) (back func()) {
	before := c.guard.mode
	c.guard.mode = m
	if before != callers {
		return func() { c.guard.mode = before }
	}
	lib.Xsqlite3_limit(c.tls, c.db, lib.SQLITE_LIMIT_VDBE_OP, ownInstructions)
	return func() {
		c.guard.mode = before
		lib.Xsqlite3_limit(c.tls, c.db, lib.SQLITE_LIMIT_VDBE_OP, maxInstructions)
	}
}

// compile compiles a statement of a caller, to be closed.
func (c *conn) compile(ctx context.Context, sql string) (*stmt, error) {
	if strings.IndexByte(sql, 0) >= 0 { // prepare would not come to the end of it
		return nil, engine.Invalid("query has a zero byte, at which SQLite would stop reading")
	}
	if err := c.cover.check(sql, c.writing); err != nil {
		return nil, err
	}
	c.guard.reset()
	s, tail, err := c.prepare(ctx, sql)
	if err != nil && c.guard.denied != nil && ctx.Err() == nil {
		// If the schema was changed by others, virtual tables connect anew, and
		// what they ask for then is not what the statement does.
		if n, connectErr := c.connectVirtual(ctx); n > 0 && connectErr == nil {
			c.guard.reset()
			s, tail, err = c.prepare(ctx, sql)
		}
	}
	if err != nil {
		return nil, c.compileError(ctx, sql, err)
	}
	if err := only(sql, tail, s.handle != 0); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// each runs a statement of our own and calls fn, which may be nil, for each
// row.
func (c *conn) each(ctx context.Context, sql string, fn func(row *stmt) error, params ...any) error {
	defer c.as(own)()
	s, _, err := c.prepare(ctx, sql)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.bind(params); err != nil {
		return err
	}
	for {
		ok, err := s.step(ctx)
		if !ok {
			return err
		}
		if fn == nil {
			continue
		}
		if err := fn(s); err != nil {
			return err
		}
	}
}

// single returns the single integer of a statement of our own, nil for none or
// NULL.
func (c *conn) single(ctx context.Context, sql string, params ...any) (*int64, error) {
	var value *int64
	err := c.each(ctx, sql, func(row *stmt) error {
		if !row.null(0) {
			n := row.integer(0)
			value = &n
		}
		return nil
	}, params...)
	return value, err
}

// longestPause is how long a statement waits at most before it tries again to
// get a lock.
const longestPause = 50 * time.Millisecond

// patiently does what may find the database locked by another program, again
// and again for as long as a statement may wait for a lock. SQLite's own way
// of waiting does not end when ctx does.
func (c *conn) patiently(ctx context.Context, do func() int32) int32 {
	rc := do()
	if rc&0xff != lib.SQLITE_BUSY {
		return rc
	}
	start, pause := time.Now(), time.Millisecond
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return lib.SQLITE_INTERRUPT
		case <-timer.C:
		}
		if rc = do(); rc&0xff != lib.SQLITE_BUSY || time.Since(start) >= c.options.LockTimeout {
			return rc
		}
		pause = min(2*pause, longestPause)
		timer.Reset(pause)
	}
}

// A failure is an error as SQLite tells it.
type failure struct {
	code    int // extended, see https://www.sqlite.org/rescode.html
	message string
	offset  int // in the statement, in bytes; -1 if it is about no place
}

func (f *failure) Error() string { return fmt.Sprintf("%s (%d)", f.message, f.code) }

// failure is the error of the last call, which returned rc.
func (c *conn) failure(rc int32) error {
	f := &failure{code: int(rc), offset: -1}
	if rc&0xff == lib.SQLITE_INTERRUPT || lib.Xsqlite3_extended_errcode(c.tls, c.db)&0xff != rc&0xff {
		f.message = libc.GoString(lib.Xsqlite3_errstr(c.tls, rc))
		return f
	}
	f.message = libc.GoString(lib.Xsqlite3_errmsg(c.tls, c.db))
	f.offset = int(lib.Xsqlite3_error_offset(c.tls, c.db))
	return f
}
