package dbserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// Codes of errors; the package comment says when.
const (
	codeInvalidArgument = "INVALID_ARGUMENT"
	codeSyntax          = "SYNTAX_ERROR"
	codeUnknownObject   = "UNKNOWN_OBJECT"
	codeReadOnly        = "READ_ONLY_VIOLATION"
	codeFunctionDenied  = "FUNCTION_DENIED"
	codeMultiStatement  = "MULTI_STATEMENT"
	codeTimeout         = "STATEMENT_TIMEOUT"
	codeTooLarge        = "RESULT_TOO_LARGE"
	codeEngine          = "ENGINE_ERROR"
	codeExhausted       = "POOL_EXHAUSTED"
	codeUnreachable     = "DATABASE_UNREACHABLE"
	codeCancelled       = "CANCELLED"
)

// Layers at which a call can fail: its arguments, the rules of this server,
// the connections, the engine.
const (
	layerInput  = "input"
	layerGuard  = "guard"
	layerPool   = "pool"
	layerEngine = "engine"
)

// A toolError is a failure that the caller of a tool can act on: a result with
// isError. Its members are those of the "error" object.
type toolError struct {
	Code       string   `json:"code"`
	Layer      string   `json:"layer"`
	Message    string   `json:"message"`
	EngineCode string   `json:"engine_code,omitempty"`
	DidYouMean []string `json:"did_you_mean,omitempty"`
	Retryable  bool     `json:"retryable"`
	Next       string   `json:"next"`
}

func (e *toolError) Error() string { return e.Code + ": " + e.Message }

// result returns the result of tools/call that says the error.
func (e *toolError) result() ([]byte, error) {
	said := e.Error()
	if len(e.DidYouMean) > 0 {
		said += "\nDid you mean: " + strings.Join(e.DidYouMean, ", ")
	}
	if e.Next != "" {
		said += "\nNext: " + e.Next
	}
	structured, err := json.Marshal(map[string]any{"error": e})
	if err != nil {
		return nil, err
	}
	return toolResult([]byte(said), structured, true), nil
}

// A connectError is a failure to get a connection.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// A compileError is SQLite's refusal of a statement before it ran.
type compileError struct {
	err     error
	denied  *guard   // what the guard denied, nil for nothing
	similar []string // names like the one that is unknown
}

func (e *compileError) Error() string { return e.err.Error() }
func (e *compileError) Unwrap() error { return e.err }

// explain turns the error of a call into what its caller is told. The error is
// returned as it is if the caller's own ctx ended: then nobody reads an answer.
func (s *Server) explain(ctx context.Context, err error) (*toolError, error) {
	var told *toolError
	if errors.As(err, &told) {
		return told, nil
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrClosed):
		return &toolError{Code: codeCancelled, Layer: layerPool, Retryable: true,
			Message: "the database server was stopped before the call ended", Next: "try again"}, nil
	case cause != nil:
		return nil, cause
	case errors.Is(err, errTimeout):
		return &toolError{Code: codeTimeout, Layer: layerEngine,
			Message: fmt.Sprintf("the statement ran longer than %v and was ended", s.options.Timeout),
			Next:    "read less: filter, join on keys and indexed columns, or aggregate over fewer rows"}, nil
	case errors.Is(err, errExhausted):
		return &toolError{Code: codeExhausted, Layer: layerPool, Retryable: true,
			Message: fmt.Sprintf("all %d connections were busy for %v", s.options.Connections, acquireTimeout),
			Next:    "try again in some seconds, with fewer calls at a time"}, nil
	}
	var unconnected *connectError
	if errors.As(err, &unconnected) {
		return &toolError{Code: codeUnreachable, Layer: layerPool, Retryable: true, EngineCode: engineCode(err),
			Message: fmt.Sprintf("database %s cannot be opened: %s", s.options.Database, engineMessage(err)),
			Next:    "call database_info for its status, and try again later"}, nil
	}
	var refused *compileError
	if errors.As(err, &refused) {
		return refused.explain(), nil
	}
	return explainEngine(err, codeEngine), nil
}

// explain tells why a statement was refused.
func (e *compileError) explain() *toolError {
	if g := e.denied; g != nil {
		told := &toolError{Code: codeReadOnly, Layer: layerGuard, EngineCode: engineCode(e.err),
			Message: fmt.Sprintf("the database is read-only, and the statement asks for %s", g),
			Next:    "send one SELECT (also WITH, VALUES, EXPLAIN) that only reads"}
		if g.action == sqlite.AuthFunction {
			told.Code = codeFunctionDenied
			told.Message = fmt.Sprintf("%s is not allowed", g)
			told.Next = "leave it out of the statement"
		}
		return told
	}
	told := explainEngine(e.err, codeSyntax)
	if m := noSuch.FindStringSubmatch(told.Message); m != nil && told.Code == codeSyntax {
		told.Code, told.DidYouMean = codeUnknownObject, e.similar
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
func explainEngine(err error, other string) *toolError {
	told := &toolError{Code: other, Layer: layerEngine, EngineCode: engineCode(err), Message: engineMessage(err)}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		told.Next = "correct the statement"
		return told
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_READONLY, lib.SQLITE_AUTH:
		if e.Code() > 0xff { // not a statement that writes, but a file that cannot be read without writing
			told.Code, told.Retryable = codeUnreachable, true
			told.Message = "the database was not closed well and has to be recovered"
			told.Next = "a program that may write has to open the database once"
			break
		}
		told.Code, told.Layer = codeReadOnly, layerGuard
		told.Next = "send one SELECT that only reads"
	case lib.SQLITE_TOOBIG:
		told.Code = codeTooLarge
		told.Message = fmt.Sprintf("a value, row or statement is too large: values and rows may have %d bytes", maxValueBytes)
		told.Next = "leave large columns out, or read length() of them"
	case lib.SQLITE_NOMEM:
		told.Code = codeTooLarge
		told.Message = "the statement needs more memory or instructions than it may use"
		told.Next = "simplify the statement; a long list can be one JSON text in params, read with json_each(?)"
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		told.Code, told.Retryable = codeUnreachable, true
		told.Next = "another program is writing to the database: try again"
	case lib.SQLITE_CANTOPEN, lib.SQLITE_NOTADB, lib.SQLITE_CORRUPT, lib.SQLITE_IOERR, lib.SQLITE_PERM, lib.SQLITE_PROTOCOL:
		told.Code, told.Retryable = codeUnreachable, true
		told.Next = "call database_info for the status of the database"
	default:
		told.Next = "correct the statement"
	}
	return told
}

func engineCode(err error) string {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return strconv.Itoa(e.Code())
	}
	return ""
}

// engineMessage returns SQLite's own message, without the words of its result
// code around it.
func engineMessage(err error) string {
	message := err.Error()
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return message
	}
	message = e.Error()
	if i := strings.LastIndex(message, " ("); i > 0 {
		message = message[:i]
	}
	return strings.TrimPrefix(message, "SQL logic error: ")
}
