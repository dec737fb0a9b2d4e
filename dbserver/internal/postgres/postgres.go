// Package postgres is the engine of PostgreSQL.
//
// A statement of a caller only reads because, from the outside in:
//
//  1. its role may do nothing else, which is looked at when a connection is
//     opened;
//  2. it travels by the extended protocol, where a message has one statement;
//  3. it is the query of a DECLARE CURSOR, whose grammar takes nothing but a
//     query: no SELECT INTO, no WITH that writes;
//  4. its transaction is READ ONLY;
//  5. functions that do more than compute are refused by name before it runs;
//  6. the transaction is always rolled back, and the session reset before the
//     connection is used again.
//
// The role is the boundary: what its owner has put into views, operators, casts
// and policies runs as it is.
package postgres

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A Database is a database of PostgreSQL.
type Database struct {
	options engine.Options
	reads   *pool
	writes  *pool // nil without Options.Write
	// catalog has the one connection on which names are looked up for rows that
	// are being read on another.
	catalog *pool
	names   names
	cleared cleared

	mu    sync.Mutex // guards what follows
	place string
	role  roleState
}

var _ engine.Database = (*Database)(nil)

// New returns the database that the options name. It opens nothing. Its error
// is that the address cannot be understood.
func New(o engine.Options) (engine.Database, error) {
	if o.Resolve == nil {
		if _, err := parse(o.DSN, o.TLS); err != nil {
			return nil, err
		}
	}
	d := &Database{options: o}
	reader := &source{options: &d.options}
	d.reads = newPool(o.Pool, func(ctx context.Context) (*conn, error) { return d.open(ctx, reader) })
	one := o.Pool
	one.MaxOpen = 1
	d.catalog = newPool(one, func(ctx context.Context) (*conn, error) { return d.open(ctx, reader) })
	if o.Write {
		if o.WriteDSN != "" {
			if _, err := parse(o.WriteDSN, o.TLS); err != nil {
				return nil, err
			}
		}
		writer := &source{options: &d.options, dsn: o.WriteDSN, write: true}
		d.writes = newPool(o.Pool, func(ctx context.Context) (*conn, error) { return d.open(ctx, writer) })
	}
	return d, nil
}

// Close closes the connections.
func (d *Database) Close() error {
	d.reads.close()
	d.catalog.close()
	if d.writes != nil {
		d.writes.close()
	}
	return nil
}

// open opens a connection, and refuses one whose role may do more than read.
func (d *Database) open(ctx context.Context, s *source) (*conn, error) {
	c := &conn{}
	config, err := s.config(ctx, &c.in)
	if err != nil {
		return nil, unreachable(err.Error())
	}
	if c.pg, err = pgconn.ConnectConfig(ctx, config); err != nil {
		return nil, d.explainOpening(ctx, err, config)
	}
	if !s.write {
		if err := d.checkRole(ctx, c.pg); err != nil {
			c.close()
			var told *engine.Error
			if errors.As(err, &told) {
				return nil, err
			}
			return nil, d.explainOpening(ctx, err, config)
		}
	}
	d.mu.Lock()
	d.place = place(config)
	d.mu.Unlock()
	return c, nil
}
