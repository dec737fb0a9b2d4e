package main

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "modernc.org/sqlite"
)

// driverConns are as many connections as our server has.
const driverConns = 8

// openRows has a driver run a statement.
type openRows func(statement string) (rows scanned, done func() error)

// scanned are the rows of a driver.
type scanned interface {
	Next() bool
	Scan(into ...any) error
}

// driverTrial runs a query with the driver alone: in this process, into Go's
// types, with no JSON and no protocol.
func driverTrial(d database, q dbQuery, callers int) trial {
	open, stop := d.driver()
	calls := make([]func(), callers)
	for i := range calls {
		calls[i] = q.scan(open)
	}
	return sharedTrial(driverName, calls, nil, stop)
}

func (d database) driver() (open openRows, stop func()) {
	if d.postgres != nil {
		return openPgx(d.postgres)
	}
	return openSQLite(d.file)
}

func openSQLite(file string) (openRows, func()) {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	must(err)
	db.SetMaxOpenConns(driverConns)
	db.SetMaxIdleConns(driverConns)
	return func(statement string) (scanned, func() error) {
		rows, err := db.QueryContext(context.Background(), statement)
		must(err)
		return rows, func() error {
			must(rows.Close())
			return rows.Err()
		}
	}, func() { must(db.Close()) }
}

func openPgx(p *postgres) (openRows, func()) {
	config, err := pgxpool.ParseConfig(p.url())
	must(err)
	config.MaxConns = driverConns
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	must(err)
	return func(statement string) (scanned, func() error) {
		rows, err := pool.Query(context.Background(), statement)
		must(err)
		return rows, func() error {
			rows.Close()
			return rows.Err()
		}
	}, pool.Close
}

// cursorTrial reads the first rows of a query as psql does with FETCH_COUNT:
// by a cursor, which knows nothing of the rows that are not asked for.
func cursorTrial(p *postgres, q dbQuery) trial {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, p.url())
	must(err)
	exec := func(statement string) {
		_, err := conn.Exec(ctx, statement)
		must(err)
	}
	call := q.scan(func(statement string) (scanned, func() error) {
		exec("BEGIN READ ONLY")
		exec("DECLARE first NO SCROLL CURSOR FOR " + statement)
		rows, err := conn.Query(ctx, fmt.Sprintf("FETCH %d FROM first", q.rows))
		must(err)
		return rows, func() error {
			rows.Close()
			exec("ROLLBACK")
			return rows.Err()
		}
	})
	return sharedTrial(cursorName, []func(){call}, nil, func() { must(conn.Close(ctx)) })
}

// scan returns what runs the query and reads all its rows: a number, and a text
// and another number if there are three columns.
func (q dbQuery) scan(open openRows) func() {
	var id int64
	var text string
	var real float64
	last := q.row(q.rows - 1)
	into := []any{&id, &text, &real}[:len(last)]
	return func() {
		rows, done := open(q.text)
		count := 0
		for ; rows.Next(); count++ {
			must(rows.Scan(into...))
		}
		must(done())
		mustBe(count == q.rows && float64(id) == last[0])
	}
}
