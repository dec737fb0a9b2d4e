// Package sqlserver is the engine Microsoft SQL Server, 2016 and later, over
// microsoft/go-mssqldb.
//
// Not run: it is written from Microsoft's documentation and the driver's source,
// and no run against a server is recorded. Its tests hold what is sent, and what
// is made of answers that follow the documentation. TestOnSQLServer runs where
// MCPOOL_TEST_SQLSERVER names a server.
//
// # Read-only
//
// SQL Server has no read-only transaction, and a batch may hold any number of
// statements, with nothing between them. In the order in which they meet a
// statement, this is what stands against writing:
//
//   - Words: a text that does not begin with SELECT or WITH, or has a word that
//     no reading statement has (EXEC, INTO, OPENROWSET, WAITFOR, …) is refused
//     before anything is sent.
//   - The plan: under SET SHOWPLAN_XML ON the server compiles the text and runs
//     nothing. The plan must have one statement of type SELECT, made of
//     operators that read this server's tables, with no call of a function that
//     someone wrote, unless Policy.Functions has it, and no value drawn from a
//     sequence. What is not known is refused.
//   - It then runs in a transaction that is always rolled back, with XACT_ABORT,
//     by sp_executesql.
//   - The role is what nothing gets around. It is looked at on each new
//     connection, and one that may write is turned away ([engine.RoleUnsafe])
//     unless Options.AllowUnsafeRole lets it in. [SetupSQL] makes one that may
//     not. It needs SHOWPLAN.
//
// Where the DSN names a database, connections ask for a readable secondary
// (ApplicationIntent=ReadOnly), which a server without one ignores.
//
// # Policy
//
// What is hidden is looked for in the plan, where views and synonyms have become
// the tables that they read. So everything that a view reads has to be
// readable itself, and a table that is denied is denied through views too. Views
// and synonyms are denied by their names in the text.
//
// A statement whose plan mentions a masked column is refused with
// [engine.ColumnMasked], whatever the mask's With: that it shows the column as
// it is, and nothing else, cannot be told. A mask that names a view refuses
// statements that name that view, but not those that reach it through another
// view. Columns of history tables and persisted computed columns are columns of
// their own. Where there are masks, statements with full-text predicates,
// FOR SYSTEM_TIME or OPTION (RECOMPILE), whose plans hide what they read, are
// refused.
//
// # Values
//
// Placeholders are @p1, @p2 and so on, all of them used. A bound integer is a
// bigint or decimal, another number a decimal of its own digits, with an
// exponent a float, a text nvarchar. sql_variant values of type decimal or
// uniqueidentifier come as bytes, for the driver does not tell them apart. Of
// a value of a (max) type 1,000,000 bytes are read, which is then its length;
// xml and spatial values have no such bound and are read whole.
//
// # Time
//
// A statement that is not wanted any more is ended by an attention, and its
// connection kept; where the server does not confirm that within a second, the
// connection is cut, which ends the statement too. Nothing in a session bounds
// a statement's time, so that of a process that vanished ends when the server
// sees the connection gone.
//
// The driver marks a session for reset when it is lent again, so settings,
// temporary tables and the session context of one caller are gone before the
// first statement of the next.
package sqlserver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A Database is a database of SQL Server.
type Database struct {
	options engine.Options
	read    *connector
	write   *connector // nil where nothing may be written

	mu      sync.Mutex // guards what follows
	readers *sql.DB    // nil until the first call
	writers *sql.DB
	facts   *facts // of the newest connection for reading
}

var _ engine.Database = (*Database)(nil)

// New returns a database. It does no I/O. The error is about a DSN or options
// that cannot be.
func New(options engine.Options) (*Database, error) { return newDatabase(options, openDriver) }

func newDatabase(options engine.Options, open opener) (*Database, error) {
	if options.Identity.Role != "" {
		return nil, errors.New("SQL Server has no role for a statement alone: use a setting (sp_set_session_context)")
	}
	if options.TLS.CertFile != "" || options.TLS.KeyFile != "" {
		return nil, errors.New("SQL Server takes no client certificates")
	}
	d := &Database{options: options}
	d.read = &connector{options: options, open: open, dsn: options.DSN, resolve: options.Resolve, admitted: d.admitted}
	if options.Write {
		d.write = &connector{options: options, open: open, dsn: options.DSN, resolve: options.Resolve, writes: true, admitted: func(*facts) {}}
		if options.WriteDSN != "" {
			d.write.dsn, d.write.resolve = options.WriteDSN, nil
		}
	}
	for _, c := range []*connector{d.read, d.write} {
		if c != nil && c.resolve == nil {
			if _, err := configure(c.dsn, options.TLS); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// admitted keeps what was found on a new connection for reading.
func (d *Database) admitted(f *facts) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.facts = f
}

// pool returns the connections of a connector, which is not opened by that.
func (d *Database) pool(c *connector) *sql.DB {
	d.mu.Lock()
	defer d.mu.Unlock()
	db := &d.readers
	if c == d.write {
		db = &d.writers
	}
	if *db == nil {
		p := d.options.Pool
		*db = sql.OpenDB(c)
		(*db).SetMaxOpenConns(p.MaxOpen)
		(*db).SetMaxIdleConns(p.MaxOpen)
		(*db).SetConnMaxIdleTime(p.MaxIdleTime)
		(*db).SetConnMaxLifetime(p.MaxLifetime)
	}
	return *db
}

// Close closes the connections.
func (d *Database) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var failed error
	for _, db := range []*sql.DB{d.readers, d.writers} {
		if db != nil {
			failed = errors.Join(failed, db.Close())
		}
	}
	return failed
}

// use runs fn with a session of its own, for no longer than timeout once it has
// one; zero is the most that a statement may take. A connection that turns out
// to have died in the pool is replaced by another.
func (d *Database) use(ctx context.Context, c *connector, who engine.Caller, timeout time.Duration, fn func(context.Context, *session) error) error {
	if timeout <= 0 || timeout > d.options.StatementTimeout {
		timeout = d.options.StatementTimeout
	}
	for dead := 0; ; dead++ {
		began, err := d.useOne(ctx, c, who, timeout, fn)
		if began || err == nil || told(err) || ctx.Err() != nil || errors.Is(err, engine.ErrTimeout) {
			return err
		}
		if dead > d.options.Pool.MaxOpen {
			return d.explainConnect(err)
		}
	}
}

// useOne runs fn with one connection. began reports whether the session was
// ready for fn, so that it may have run.
func (d *Database) useOne(ctx context.Context, c *connector, who engine.Caller, timeout time.Duration, fn func(context.Context, *session) error) (began bool, err error) {
	conn, err := d.acquire(ctx, c)
	if err != nil {
		return true, err
	}
	defer conn.Close() // back to the pool, or thrown away there
	running, cancel := context.WithTimeoutCause(ctx, timeout, engine.ErrTimeout)
	defer cancel()
	var failed error
	err = conn.Raw(func(raw any) error {
		s := &session{connection: raw.(*connection), options: &d.options}
		stop := s.cutAfter(running)
		defer stop()
		if failed = s.begin(running, who); failed == nil {
			began = true
			failed = fn(running, s)
		} else if s.IsValid() {
			began = true // it was the server that refused
		}
		if s.broken {
			return driver.ErrBadConn
		}
		return nil
	})
	switch {
	case failed != nil && running.Err() != nil && !told(failed):
		return began, context.Cause(running)
	case failed != nil && began:
		return true, d.explain(failed)
	case failed != nil:
		return false, failed
	case !began:
		return false, err
	}
	return true, nil // whatever became of the connection
}

// told reports whether an error is one that its caller can act on.
func told(err error) bool {
	var e *engine.Error
	return errors.As(err, &e)
}

// acquire takes a connection from the pool or opens one.
func (d *Database) acquire(ctx context.Context, c *connector) (*sql.Conn, error) {
	db := d.pool(c)
	waiting, cancel := context.WithTimeoutCause(ctx, d.options.Pool.AcquireTimeout, engine.ErrExhausted)
	defer cancel()
	conn, err := db.Conn(waiting)
	if err == nil {
		return conn, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	var unconnected *connectError
	if !errors.As(err, &unconnected) && errors.Is(context.Cause(waiting), engine.ErrExhausted) {
		stats := db.Stats()
		return nil, &engine.Error{Code: engine.PoolExhausted, Layer: engine.LayerPool, Retryable: true,
			Message: fmt.Sprintf("no connection came free for %v: %d of %d in use, %d waits so far", d.options.Pool.AcquireTimeout,
				stats.InUse, stats.MaxOpenConnections, stats.WaitCount),
			Next: "try again in some seconds, with fewer calls at a time"}
	}
	return nil, d.explainConnect(err)
}
