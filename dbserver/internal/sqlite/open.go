package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

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
func (d *Database) connect(ctx context.Context) (*handle, error) {
	d.mu.Lock()
	if db := d.open; db != nil {
		d.mu.Unlock()
		return db, nil
	}
	o := d.opening
	if o == nil {
		o = &opening{done: make(chan struct{})}
		d.opening = o
		d.work.Go(func() { d.doOpen(o) }) // the caller is under way, so Close still waits
	}
	d.mu.Unlock()
	select {
	case <-o.done:
		return o.db, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (d *Database) doOpen(o *opening) {
	ctx, cancel := context.WithTimeout(d.life, openTimeout)
	defer cancel()
	start := time.Now()
	o.db, o.err = d.openDatabase(ctx)
	d.mu.Lock()
	d.open, d.opening, d.opened = o.db, nil, true
	d.mu.Unlock()
	if o.err != nil {
		d.options.Log.Warn("database not opened", slog.String(keyDatabase, d.options.Name), slog.Any(keyError, o.err))
	} else {
		d.options.Log.Info("database opened", slog.String(keyDatabase, d.options.Name),
			slog.String(keyFile, o.db.file), slog.Duration(keyElapsed, time.Since(start)))
	}
	close(o.done)
}

// openDatabase opens the database and one connection, which proves that the
// file is there and is a database.
func (d *Database) openDatabase(ctx context.Context) (*handle, error) {
	dsn := d.options.DSN
	if d.options.Resolve != nil {
		var err error
		if dsn, err = d.options.Resolve(ctx); err != nil {
			return nil, fmt.Errorf("prepare the database: %w", err)
		}
	}
	target, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector{target})
	db.SetMaxOpenConns(d.options.Pool.MaxOpen)
	db.SetMaxIdleConns(d.options.Pool.MaxOpen)
	db.SetConnMaxIdleTime(d.options.Pool.MaxIdleTime)
	// A file that was replaced by another of its name is seen after that long at
	// the latest.
	db.SetConnMaxLifetime(d.options.Pool.MaxLifetime)
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close() // it holds no connection
		return nil, err
	}
	return &handle{db, target.file}, nil
}

// forget drops a database whose file cannot be opened any more, so that the
// next call opens, and if need be prepares, it anew.
func (d *Database) forget(db *handle, err error) {
	d.mu.Lock()
	mine := d.open == db
	if mine {
		d.open = nil
	}
	d.mu.Unlock()
	if mine {
		d.options.Log.Warn("database lost", slog.String(keyDatabase, d.options.Name), slog.Any(keyError, err))
		_ = db.Close() // connections in use are closed as they come back
	}
}

// current returns the opened database, nil if it is not open.
func (d *Database) current() *handle {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// withSession runs fn with a connection of its own, for no longer than timeout
// once it has one; zero is the most that a statement may take.
func (d *Database) withSession(ctx context.Context, timeout time.Duration, fn func(context.Context, *session) error) error {
	db, err := d.connect(ctx)
	if err != nil {
		return &connectError{err}
	}
	conn, err := d.acquire(ctx, db)
	if err != nil {
		if context.Cause(ctx) == nil && !errors.Is(err, engine.ErrExhausted) {
			d.forget(db, err)
		}
		return &connectError{err}
	}
	defer conn.Close() // back to the pool; what was interrupted is thrown away there
	if timeout == 0 {
		timeout = d.options.StatementTimeout
	}
	if err := limit(conn); err != nil {
		return &connectError{err}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, engine.ErrTimeout)
	defer cancel()
	err = conn.Raw(func(raw any) error {
		q, err := newSession(raw)
		if err != nil {
			return err
		}
		stop := q.interruptOnDone(ctx)
		defer stop()
		return fn(ctx, q)
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// acquire takes a connection from the pool or opens one.
func (d *Database) acquire(ctx context.Context, db *handle) (*sql.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.options.Pool.AcquireTimeout, engine.ErrExhausted)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return conn, err
}
