package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// sqlPool is the pool of the standard library, over a driver without a
// database.
type sqlPool struct{ *sql.DB }

func openSQL(conns, slots int) lender {
	db := sql.OpenDB(sqlDriver{})
	db.SetMaxOpenConns(conns * slots)
	db.SetMaxIdleConns(conns * slots)
	return sqlPool{db}
}

func (p sqlPool) pairs(ctx context.Context, n int, call func()) error {
	for range n {
		c, err := p.Conn(ctx)
		if err != nil {
			return err
		}
		if call != nil {
			call()
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (p sqlPool) hold(ctx context.Context) (func(), error) {
	c, err := p.Conn(ctx)
	return func() { must(c.Close()) }, err
}

func (p sqlPool) close() { must(p.Close()) }

// sqlDriver connects to nothing.
type sqlDriver struct{}

func (d sqlDriver) Open(string) (driver.Conn, error)             { return new(sqlConn), nil }
func (d sqlDriver) Connect(context.Context) (driver.Conn, error) { return new(sqlConn), nil }
func (d sqlDriver) Driver() driver.Driver                        { return d }

type sqlConn struct{ _ conn }

var errNoDatabase = errors.New("there is no database")

func (*sqlConn) Prepare(string) (driver.Stmt, error) { return nil, errNoDatabase }
func (*sqlConn) Begin() (driver.Tx, error)           { return nil, errNoDatabase }
func (*sqlConn) Close() error                        { return nil }
