package engine

import (
	"errors"
	"fmt"
)

// Codes of errors. They are part of what the server answers.
const (
	InvalidArgument  = "INVALID_ARGUMENT"     // arguments that do not fit the schema or the placeholders
	UnknownDatabase  = "UNKNOWN_DATABASE"     // no database of that name is configured
	UnknownObject    = "UNKNOWN_OBJECT"       // no such table, column or function
	AmbiguousObject  = "AMBIGUOUS_OBJECT"     // a bare name that several schemas have
	SyntaxError      = "SYNTAX_ERROR"         // the statement does not compile
	ReadOnly         = "READ_ONLY_VIOLATION"  // the statement would do more than read
	MultiStatement   = "MULTI_STATEMENT"      // the text has more than one statement
	FunctionDenied   = "FUNCTION_DENIED"      // a function that is not allowed
	AccessDenied     = "ACCESS_DENIED"        // the role, or the policy, does not let it be read
	ColumnMasked     = "COLUMN_MASKED"        // a use of a masked column that cannot be masked
	RoleUnsafe       = "ROLE_UNSAFE"          // the database's role may do more than read
	StatementTimeout = "STATEMENT_TIMEOUT"    // it ran too long
	LockTimeout      = "LOCK_TIMEOUT"         // it waited too long for a lock
	ResultTooLarge   = "RESULT_TOO_LARGE"     // a value, a row or what it needs is too large
	EngineError      = "ENGINE_ERROR"         // it failed while it ran
	PoolExhausted    = "POOL_EXHAUSTED"       // no connection came free in time
	ClientLimit      = "CLIENT_LIMIT"         // the principal has too many calls at once
	Unreachable      = "DATABASE_UNREACHABLE" // the database cannot be reached now
	AuthFailed       = "AUTH_FAILED"          // the database refused the credentials
	TLSFailed        = "TLS_FAILED"           // no protected connection could be made
	Cancelled        = "CANCELLED"            // the server was closed, or someone ended the statement
	HandleExpired    = "HANDLE_EXPIRED"       // a result is not kept any more, or not here
	Confirmation     = "CONFIRMATION_REQUIRED"
	AffectedLimit    = "AFFECTED_LIMIT" // it would change more rows than it may
)

// Layers at which a call can fail.
const (
	LayerInput  = "input"  // its arguments
	LayerPolicy = "policy" // what the configuration allows
	LayerGuard  = "guard"  // read-only
	LayerPool   = "pool"   // connections
	LayerEngine = "engine" // the database
)

// ErrTimeout is the cause with which a statement's time ends, ErrExhausted that
// with which waiting for a connection does.
var (
	ErrTimeout   = errors.New("the statement ran too long")
	ErrExhausted = errors.New("no connection came free")
)

// An Error is a failure that the caller of a tool can act on. Its members are
// those of the "error" object in a result.
type Error struct {
	Code       string    `json:"code"`
	Layer      string    `json:"layer"`
	Message    string    `json:"message"` // the engine's own, where it said it
	EngineCode string    `json:"engine_code,omitempty"`
	Position   *Position `json:"position,omitempty"`
	DidYouMean []string  `json:"did_you_mean,omitempty"`
	Retryable  bool      `json:"retryable"`
	RetryAfter int64     `json:"retry_after_ms,omitempty"`
	Next       string    `json:"next"` // what to do
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// A Position is a place in a statement. Both count characters from 1.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// PositionAt is the position of the character with that offset, in characters
// from 1, which is how engines tell it. The end of the text has one, too, right
// behind its last character; it is nil for any other offset.
func PositionAt(sql string, offset int) *Position {
	if offset < 1 {
		return nil
	}
	p := Position{Line: 1, Column: 1}
	for _, c := range sql {
		if offset == 1 {
			return &p
		}
		offset--
		if p.Column++; c == '\n' {
			p = Position{Line: p.Line + 1, Column: 1}
		}
	}
	if offset > 1 {
		return nil
	}
	return &p
}

// Invalid is an error about the arguments of a call.
func Invalid(format string, args ...any) *Error {
	return &Error{Code: InvalidArgument, Layer: LayerInput, Message: fmt.Sprintf(format, args...),
		Next: "correct the arguments; the tool's input schema says which it takes"}
}
