package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	lib "modernc.org/sqlite/lib"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// openTimeout bounds one opening, with Options.Resolve.
const openTimeout = 30 * time.Second

// Keys of log attributes.
const (
	keyDatabase = "database"
	keyFile     = "file"
	keyError    = "error"
	keyElapsed  = "elapsed"
)

// An access is one way to the database, with connections of its own: to read,
// or to write.
type access struct {
	*Database
	writing bool

	mu      sync.Mutex // guards what follows; nothing waits under it
	open    *handle    // nil until opened
	opening *opening   // nil while nobody opens
}

// A handle is an opened database: its file and the connections to it.
type handle struct {
	*sql.DB
	file string
}

// An opening is one attempt to open the database, shared by all who wait.
type opening struct {
	done chan struct{} // closed when the other fields are set
	db   *handle
	err  error
}

// connect returns the opened database, opening it if need be. The opening
// belongs to the database: it goes on if ctx ends, which ends only the waiting.
func (a *access) connect(ctx context.Context) (*handle, error) {
	a.mu.Lock()
	if db := a.open; db != nil {
		a.mu.Unlock()
		return db, nil
	}
	o := a.opening
	if o == nil {
		o = &opening{done: make(chan struct{})}
		a.opening = o
		a.work.Go(func() { a.doOpen(o) }) // the caller is under way, so Close still waits
	}
	a.mu.Unlock()
	select {
	case <-o.done:
		return o.db, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (a *access) doOpen(o *opening) {
	ctx, cancel := context.WithTimeout(a.life, openTimeout)
	defer cancel()
	start := time.Now()
	o.db, o.err = a.openDatabase(ctx)
	a.mu.Lock()
	a.open, a.opening = o.db, nil
	a.mu.Unlock()
	if o.err != nil {
		a.options.Log.Warn("database not opened", slog.String(keyDatabase, a.options.Name), slog.Any(keyError, o.err))
	} else {
		a.options.Log.Info("database opened", slog.String(keyDatabase, a.options.Name),
			slog.String(keyFile, o.db.file), slog.Duration(keyElapsed, time.Since(start)))
	}
	close(o.done)
}

// openDatabase opens the database and one connection, which proves that the
// file is there and is a database.
func (a *access) openDatabase(ctx context.Context) (*handle, error) {
	dsn := a.options.DSN
	if a.writing && a.options.WriteDSN != "" {
		dsn = a.options.WriteDSN
	} else if a.options.Resolve != nil {
		var err error
		if dsn, err = a.options.Resolve(ctx); err != nil {
			return nil, fmt.Errorf("prepare the database: %w", err)
		}
	}
	target, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector{target, a.writing, &a.options})
	most := a.options.Pool.MaxOpen
	if a.writing {
		most = 1 // SQLite has one writer at a time
	}
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	db.SetConnMaxIdleTime(a.options.Pool.MaxIdleTime)
	// A file that was replaced by another of its name is seen after that long at
	// the latest.
	db.SetConnMaxLifetime(a.options.Pool.MaxLifetime)
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close() // it holds no connection
		return nil, err
	}
	return &handle{db, target.file}, nil
}

// forget drops a database whose file cannot be opened any more, so that the
// next call opens, and if need be prepares, it anew.
func (a *access) forget(db *handle, err error) {
	a.mu.Lock()
	mine := a.open == db
	if mine {
		a.open = nil
	}
	a.mu.Unlock()
	if mine {
		a.options.Log.Warn("database lost", slog.String(keyDatabase, a.options.Name), slog.Any(keyError, err))
		_ = db.Close() // connections in use are closed as they come back
	}
}

// current returns the opened database, nil if it is not open.
func (a *access) current() *handle {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
}

// close closes the connections. No call is under way.
func (a *access) close() error {
	if a.open == nil {
		return nil
	}
	return a.open.Close()
}

// with runs fn with a connection of its own, for no longer than timeout once it
// has one; zero is the most that a statement may take. What fn leaves of a
// transaction is rolled back.
func (a *access) with(ctx context.Context, timeout time.Duration, fn func(context.Context, *conn) error) error {
	if timeout == 0 || timeout > a.options.StatementTimeout {
		timeout = a.options.StatementTimeout
	}
	for tries := 0; ; tries++ {
		err := a.try(ctx, timeout, fn)
		if !errors.Is(err, errSchemaChanged) || tries == 3 {
			return err
		}
	}
}

func (a *access) try(ctx context.Context, timeout time.Duration, fn func(context.Context, *conn) error) error {
	db, err := a.connect(ctx)
	if err != nil {
		return &connectError{err: err}
	}
	sc, err := a.acquire(ctx, db)
	if err != nil {
		if context.Cause(ctx) == nil && !errors.Is(err, engine.ErrExhausted) {
			a.forget(db, err)
		}
		return &connectError{err, db.Stats().InUse}
	}
	defer sc.Close() // back to the pool; what was interrupted is thrown away there
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, engine.ErrTimeout)
	defer cancel()
	err = sc.Raw(func(raw any) error {
		c, ok := raw.(*conn)
		if !ok {
			return errDriver
		}
		defer c.clean()
		stop := c.interruptOnDone(ctx)
		defer stop()
		if err := c.begin(ctx); err != nil {
			return err
		}
		return fn(ctx, c)
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// clean ends a transaction that is left open. A connection that it cannot be
// ended on is not used again.
func (c *conn) clean() {
	if lib.Xsqlite3_get_autocommit(c.tls, c.db) != 0 {
		return
	}
	if err := c.each(context.Background(), "ROLLBACK", nil); err != nil {
		c.lost = true
	}
}

// acquire takes a connection from the pool or opens one.
func (a *access) acquire(ctx context.Context, db *handle) (*sql.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.options.Pool.AcquireTimeout, engine.ErrExhausted)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return conn, err
}
