// Package sqlite is the engine SQLite, in process (modernc.org/sqlite).
//
// That only reading happens is enforced by SQLite, not by looking at the text
// of a statement. The first line is its authorizer
// (https://www.sqlite.org/c3ref/set_authorizer.html), which is asked about
// everything a statement would do while it is compiled: an allow-list of
// reading, pure functions and introspecting pragmas; all else is denied. Behind
// it stand a connection opened with mode=ro, PRAGMA query_only, the defensive
// mode, and a limit of no attached databases.
//
// Values and rows are limited to 1,000,000 bytes, as SQLite advises for SQL
// from strangers (https://www.sqlite.org/security.html), and results to 256
// columns: one step of SQLite's machine can be one call of a function, which
// nothing interrupts. What remains, measured on values of that size: instr()
// and replace() can take 6 s, json_patch() 20 s, and trim() with a set of as
// many characters half an hour. Large sorts go to temporary files, whose size
// the statement's time alone limits.
//
// # Hidden columns and tables
//
// What a statement yields does not depend on a masked value, whatever it does
// with the column: expressions, WHERE, ORDER BY, GROUP BY, joins of any kind,
// subqueries, CTEs, views of the database. It sees NULL, or the first
// character and ***; a column with refuse is not there, also not in *. The
// column of a result that is a masked one by name is marked, and masked as a
// whole, also below a UNION. Generated columns of such a table are NULL.
//
// A table that may not be read is neither listed nor described nor read, also
// not through a view. Keys of other tables do not tell it, errors do not name
// it. Where there is one, the schema (sqlite_schema) and PRAGMA table_list are
// denied to callers.
//
// Where anything is hidden, names may not begin with main., SQLite's
// statistics, dbstat and sqlite_dbpage are denied, and so are virtual tables
// with a column of the name of a masked one (a full-text index over it), their
// shadow tables, views that write main., and rowid of a masked table. If an
// index has a masked column in it, no index of that table is used but its
// INTEGER PRIMARY KEY, for rows that are read by an index come in its order.
//
// What can still be learnt: whether a value is NULL and its first character,
// with partial; the order of the values of a masked primary key, in which rows
// lie; names and definitions of columns; and, by a statement that writes,
// whether a value is there that a UNIQUE constraint forbids twice. Copies in
// other columns are other columns.
//
// A statement that writes may set a masked column and not read it, not even by
// a trigger, may not join with USING or NATURAL, and may not change the schema:
// it could give a column another name.
//
// Policy.Functions has no meaning here: all functions that there are compute,
// but for those that are denied. Policy.Schemas has, if main is not in it, the
// meaning that nothing may be read.
package sqlite

import (
	"context"
	"errors"
	"sync"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A Database is a SQLite file.
type Database struct {
	options engine.Options

	life context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup // openings under way

	read, write access
}

var _ engine.Database = (*Database)(nil)

// New returns a database. It does no I/O: the file is opened by the first call
// that needs it, once for all that wait, and again by the next call if that
// failed. It is never created. The error is about a DSN that is none, or what a
// file has not got: roles, settings and connections to be encrypted.
func New(options engine.Options) (*Database, error) {
	if options.Identity != (engine.Identity{}) {
		return nil, errors.New("a SQLite file knows no roles and no settings of callers: leave the role and the principal's setting out")
	}
	if options.TLS != (engine.TLS{}) {
		return nil, errors.New("a SQLite file is not reached over a network: leave the TLS mode and the certificates out")
	}
	if options.Resolve == nil {
		if _, err := parseDSN(options.DSN); err != nil {
			return nil, err
		}
	}
	if options.WriteDSN != "" {
		if _, err := parseDSN(options.WriteDSN); err != nil {
			return nil, err
		}
	}
	d := &Database{options: options}
	d.read.Database, d.write.Database, d.write.writing = d, d, true
	d.life, d.end = context.WithCancel(context.Background())
	return d, nil
}

// Close closes the file.
func (d *Database) Close() error {
	d.end()
	d.work.Wait()
	return errors.Join(d.read.close(), d.write.close())
}
