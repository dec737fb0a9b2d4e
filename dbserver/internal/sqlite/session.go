package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"reflect"
	"strings"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// A session is a connection during one call.
type session struct {
	engineConn
	handle uintptr // the sqlite3*
	guard  *guard  // of the statement that was last compiled by prepare
}

func newSession(raw any) (*session, error) {
	c, ok := raw.(engineConn)
	if !ok {
		return nil, errDriver
	}
	handle, err := handleOf(raw)
	if err != nil {
		return nil, err
	}
	return &session{engineConn: c, handle: handle, guard: new(guard)}, nil
}

// handleOf returns the sqlite3* of a connection. The driver does not export
// it, nor any other way to interrupt a running statement: of v1.61.1 a query's
// context is watched during its first step alone (stmt.go, query), so that a
// second row that takes forever could not be ended.
func handleOf(raw any) (uintptr, error) {
	v := reflect.Indirect(reflect.ValueOf(raw))
	if v.Kind() != reflect.Struct {
		return 0, errDriver
	}
	db := v.FieldByName("db")
	if db.Kind() != reflect.Uintptr || db.Uint() == 0 {
		return 0, errDriver
	}
	return uintptr(db.Uint()), nil
}

// interruptOnDone interrupts what runs on the connection once ctx is done,
// until the returned function is called; no interrupt comes after that.
func (q *session) interruptOnDone(ctx context.Context) (stop func()) {
	stopped, finished := make(chan struct{}), make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(finished)
		// SQLite forgets an interrupt that comes before a statement starts,
		// so it is repeated until the call has ended.
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for {
			lib.Xsqlite3_interrupt(nil, q.handle) // one atomic store, no thread state
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

// each runs a statement of our own and calls fn for each row.
func (q *session) each(ctx context.Context, statement string, fn func(row []driver.Value) error, args ...driver.Value) error {
	return query(ctx, q.engineConn, statement, positional(args), fn)
}

// prepare compiles a statement to learn its columns and whether it is allowed.
// It does not run.
func (q *session) prepare(ctx context.Context, statement string) ([]sqlite.ColumnInfo, error) {
	columns, err := q.compile(statement)
	if err == nil || !q.guard.denied || ctx.Err() != nil {
		return columns, err
	}
	// If the schema was changed by others, virtual tables connect anew, and
	// what they ask for then is not what the statement does.
	if err := q.RegisterAuthorizer(nil); err != nil {
		return nil, err
	}
	n, connectErr := connectVirtual(ctx, q.engineConn)
	if n == 0 || connectErr != nil {
		// The statement stays denied, and the connection guarded.
		return nil, errors.Join(err, q.RegisterAuthorizer(q.guard.authorize))
	}
	return q.compile(statement)
}

func (q *session) compile(statement string) ([]sqlite.ColumnInfo, error) {
	q.guard = new(guard)
	if err := q.RegisterAuthorizer(q.guard.authorize); err != nil {
		return nil, err
	}
	return q.ColumnInfo(statement)
}

// next reads the next row; ok is false at the end and with an error.
func next(rows driver.Rows, row []driver.Value) (ok bool, err error) {
	switch err := rows.Next(row); {
	case err == nil:
		return true, nil
	case errors.Is(err, io.EOF):
		return false, nil
	default:
		return false, err
	}
}

// positional numbers values as a statement's arguments.
func positional(values []driver.Value) []driver.NamedValue {
	args := make([]driver.NamedValue, len(values))
	for i, v := range values {
		args[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return args
}

// quoteName writes a name as an SQL identifier.
func quoteName(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// text and integer read columns whose type is known, with zero for NULL.
func text(v driver.Value) string {
	s, _ := v.(string)
	return s
}

func integer(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}
