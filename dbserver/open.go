package dbserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	// openTimeout bounds one opening, with Options.Prepare.
	openTimeout = 30 * time.Second
	// acquireTimeout is how long a call waits for a connection.
	acquireTimeout = 5 * time.Second
	// idleTime is how long a connection stays open without use, and lifetime
	// how long at all: a database file that was replaced by another of its
	// name is seen after that long at the latest.
	idleTime = 4 * time.Minute
	lifetime = 30 * time.Minute
)

// Keys of log attributes.
const (
	keyDatabase = "database"
	keyFile     = "file"
	keyError    = "error"
	keyTool     = "tool"
	keyCode     = "code"
	keyElapsed  = "elapsed"
)

// errExhausted is the cause that ends waiting for a connection, errTimeout the
// one that ends a statement.
var (
	errExhausted = errors.New("no connection came free")
	errTimeout   = errors.New("the statement ran too long")
)

// A database is an opened database: its file and the connections to it.
type database struct {
	*sql.DB
	file string
}

// An opening is one attempt to open the database, shared by all who wait.
type opening struct {
	done chan struct{} // closed when the other fields are set
	db   *database
	err  error
}

// database returns the database, opening it if need be. The opening belongs to
// the server: it goes on if ctx ends, which ends only the waiting.
func (s *Server) database(ctx context.Context) (*database, error) {
	s.mu.Lock()
	if db := s.open; db != nil {
		s.mu.Unlock()
		return db, nil
	}
	o := s.opening
	if o == nil {
		o = &opening{done: make(chan struct{})}
		s.opening = o
		s.work.Go(func() { s.doOpen(o) }) // the caller is counted, so Close still waits
	}
	s.mu.Unlock()
	select {
	case <-o.done:
		return o.db, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *Server) doOpen(o *opening) {
	ctx, cancel := context.WithTimeout(s.life, openTimeout)
	defer cancel()
	start := time.Now()
	o.db, o.err = s.openDatabase(ctx)
	s.mu.Lock()
	s.open, s.opening = o.db, nil
	s.mu.Unlock()
	if o.err != nil {
		s.log.Warn("database not opened", slog.String(keyDatabase, s.options.Database), slog.Any(keyError, o.err))
	} else {
		s.log.Info("database opened", slog.String(keyDatabase, s.options.Database),
			slog.String(keyFile, o.db.file), slog.Duration(keyElapsed, time.Since(start)))
	}
	close(o.done)
}

// openDatabase opens the database and one connection, which proves that the
// file is there and is a database.
func (s *Server) openDatabase(ctx context.Context) (*database, error) {
	dsn := s.options.DSN
	if s.options.Prepare != nil {
		var err error
		if dsn, err = s.options.Prepare(ctx); err != nil {
			return nil, fmt.Errorf("prepare the database: %w", err)
		}
	}
	target, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector{target})
	db.SetMaxOpenConns(s.options.Connections)
	db.SetMaxIdleConns(s.options.Connections)
	db.SetConnMaxIdleTime(idleTime)
	db.SetConnMaxLifetime(lifetime)
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close() // it holds no connection
		return nil, err
	}
	return &database{db, target.file}, nil
}

// forget drops a database whose file cannot be opened any more, so that the
// next call opens, and if need be prepares, it anew.
func (s *Server) forget(db *database, err error) {
	s.mu.Lock()
	mine := s.open == db
	if mine {
		s.open = nil
	}
	s.mu.Unlock()
	if mine {
		s.log.Warn("database lost", slog.String(keyDatabase, s.options.Database), slog.Any(keyError, err))
		_ = db.Close() // connections in use are closed as they come back
	}
}

// opened returns the database, or nil if it is not open.
func (s *Server) opened() *database {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// withSession runs fn with a connection of its own, for no longer than a
// statement may run.
func (s *Server) withSession(ctx context.Context, fn func(context.Context, *session) error) error {
	db, err := s.database(ctx)
	if err != nil {
		return &connectError{err}
	}
	conn, err := acquire(ctx, db)
	if err != nil {
		if context.Cause(ctx) == nil && !errors.Is(err, errExhausted) {
			s.forget(db, err)
		}
		return &connectError{err}
	}
	defer conn.Close() // back to the pool; what was interrupted is thrown away there
	if err := limit(conn); err != nil {
		return &connectError{err}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.options.Timeout, errTimeout)
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
func acquire(ctx context.Context, db *database) (*sql.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, acquireTimeout, errExhausted)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return conn, err
}
