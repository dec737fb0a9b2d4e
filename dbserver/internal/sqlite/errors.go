package sqlite

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A connectError is a failure to get a connection.
type connectError struct {
	err   error
	inUse int // connections that others had
}

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// A compileError is SQLite's refusal of a statement before it ran.
type compileError struct {
	err     error
	sql     string
	denied  *denial  // what the guard denied, nil for nothing
	similar []string // names like the one that is unknown
}

func (e *compileError) Error() string { return e.err.Error() }
func (e *compileError) Unwrap() error { return e.err }

// explain turns the error of a call into what its caller is told: an
// [*engine.Error], or the cause with which ctx ended.
func (d *Database) explain(ctx context.Context, err error) error {
	var told *engine.Error
	if err == nil || errors.As(err, &told) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var unconnected *connectError
	var refused *compileError
	switch isUnconnected := errors.As(err, &unconnected); {
	case errors.Is(err, engine.ErrTimeout):
		return err
	case errors.Is(err, engine.ErrExhausted):
		return &engine.Error{Code: engine.PoolExhausted, Layer: engine.LayerPool, Retryable: true,
			Message: fmt.Sprintf("all %d connections were busy for %v", unconnected.inUse, d.options.Pool.AcquireTimeout),
			Next:    "try again in some seconds, with fewer calls at a time"}
	case isUnconnected:
		return &engine.Error{Code: engine.Unreachable, Layer: engine.LayerPool, Retryable: true, EngineCode: engineCode(err),
			Message: fmt.Sprintf("database %s cannot be opened: %s", d.options.Name, engineMessage(err)),
			Next:    "call database_info for its status, and try again later"}
	case errors.As(err, &refused):
		return refused.explain()
	}
	return explainEngine(err, engine.EngineError)
}

// explain tells why a statement was refused.
func (e *compileError) explain() *engine.Error {
	if e.denied != nil {
		return e.denied.explain(engineCode(e.err))
	}
	told := explainEngine(e.err, engine.SyntaxError)
	var f *failure
	if errors.As(e.err, &f) && f.offset >= 0 && f.offset <= len(e.sql) {
		told.Position = engine.PositionAt(e.sql, utf8.RuneCountInString(e.sql[:f.offset])+1)
	}
	if m := noSuch.FindStringSubmatch(told.Message); m != nil && told.Code == engine.SyntaxError {
		told.Code, told.DidYouMean = engine.UnknownObject, e.similar
		switch m[1] {
		case "table":
			told.Next = "call list_tables for the names of tables"
		case "column":
			told.Next = "call describe_table for the names of columns; write texts in single quotes"
		case "function":
			told.Next = "use a function of SQLite"
		}
	}
	return told
}

// noSuch matches SQLite's messages about names that it does not know. After a
// name in double quotes it asks whether a text was meant.
var noSuch = regexp.MustCompile(`^no such (table|column|function): "?(.+?)"?(?: - .*)?$`)

// explainEngine tells an error of SQLite by its result code
// (https://www.sqlite.org/rescode.html); other is the code of those that are
// about the statement and nothing else.
func explainEngine(err error, other string) *engine.Error {
	told := &engine.Error{Code: other, Layer: engine.LayerEngine, EngineCode: engineCode(err), Message: engineMessage(err)}
	code := codeOf(err)
	switch code & 0xff {
	case lib.SQLITE_READONLY, lib.SQLITE_AUTH:
		if code > 0xff { // not a statement that writes, but a file that cannot be read without writing
			told.Code, told.Retryable = engine.Unreachable, true
			told.Message = "the database was not closed well and has to be recovered"
			told.Next = "a program that may write has to open the database once"
			break
		}
		told.Code, told.Layer = engine.ReadOnly, engine.LayerGuard
		told.Next = "send one SELECT that only reads"
	case lib.SQLITE_TOOBIG:
		told.Code = engine.ResultTooLarge
		told.Message = fmt.Sprintf("a value, row or statement is too large: values and rows may have %d bytes", maxValueBytes)
		told.Next = "leave large columns out, or read length() of them"
	case lib.SQLITE_NOMEM:
		told.Code = engine.ResultTooLarge
		told.Message = "the statement needs more memory or instructions than it may use"
		told.Next = "simplify the statement; a long list can be one JSON text in params, read with json_each(?)"
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		told.Code, told.Retryable = engine.LockTimeout, true
		told.Next = "another program is using the database: try again"
	case lib.SQLITE_CANTOPEN, lib.SQLITE_NOTADB, lib.SQLITE_CORRUPT, lib.SQLITE_IOERR, lib.SQLITE_PERM, lib.SQLITE_PROTOCOL:
		told.Code, told.Retryable = engine.Unreachable, true
		told.Next = "call database_info for the status of the database"
	default:
		told.Next = "correct the statement"
	}
	return told
}

// codeOf returns SQLite's result code, zero for an error of another kind.
func codeOf(err error) int {
	var f *failure
	var opening *sqlite.Error
	switch {
	case errors.As(err, &f):
		return f.code
	case errors.As(err, &opening):
		return opening.Code()
	}
	return 0
}

func engineCode(err error) string {
	if code := codeOf(err); code != 0 {
		return strconv.Itoa(code)
	}
	return ""
}

// engineMessage returns SQLite's own message.
func engineMessage(err error) string {
	var f *failure
	if errors.As(err, &f) {
		return f.message
	}
	return err.Error()
}
