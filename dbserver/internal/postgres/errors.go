package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// A statementError is an error about a statement of a caller, whose text the
// server was sent behind so many characters.
type statementError struct {
	err    error
	sql    string
	prefix int
}

func (e *statementError) Error() string { return e.err.Error() }
func (e *statementError) Unwrap() error { return e.err }

// explain turns an error of a call into that for its caller.
func (d *Database) explain(ctx context.Context, err error) error {
	var told *engine.Error
	var pg *pgconn.PgError
	var long *pgproto3.ExceededMaxBodyLenErr
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case cause != nil:
		return cause
	case errors.As(err, &told), errors.Is(err, engine.ErrTimeout):
		return err
	case errors.As(err, &long):
		return &engine.Error{Code: engine.ResultTooLarge, Layer: engine.LayerEngine, Message: "the database's answer is too long: " + long.Error(),
			Next: "leave out what makes it so long"}
	case !errors.As(err, &pg):
		return unreachable("the connection to the database was lost: " + lastOf(err))
	}
	if pg.Code == "57014" && strings.Contains(pg.Message, "statement timeout") {
		return engine.ErrTimeout
	}
	if d.options.Policy.Restricts() { // rows in it are whole, and of any table
		bare := *pg
		bare.Detail = ""
		pg = &bare
	}
	told = tell(pg)
	var statement *statementError
	var start *startError
	switch {
	case errors.As(err, &start):
		if told.Layer != engine.LayerPool {
			told.Code, told.Layer = engine.AccessDenied, engine.LayerPolicy
			told.Next = "ask whoever runs the server which callers the database knows"
		}
	case errors.As(err, &statement):
		at := int(pg.Position) - statement.prefix
		told.Position = engine.PositionAt(statement.sql, at)
		if word := wordAt(statement.sql, at); told.Code == engine.SyntaxError && writes[word] && dialect.Keyword(statement.sql) == "WITH" {
			told = readOnly("the database is read-only, and the statement is WITH … " + word)
		}
		if told.Code == engine.SyntaxError && otherPlaceholder(statement.sql) {
			told.Next = "write placeholders as $1, $2, …, or as :name with params that have names"
		}
		d.suggest(ctx, told, pg, statement.sql)
	}
	return told
}

// otherPlaceholder reports whether a statement has a placeholder as others write
// them, and none of PostgreSQL's.
func otherPlaceholder(sql string) bool {
	other := false
	for i := 0; i < len(sql); {
		kind, next := dialect.Next(sql, i)
		switch {
		case kind == sqltext.Param && sql[i] == '$':
			return false
		case kind == sqltext.Param, kind == sqltext.Other && (sql[i] == '?' || sql[i] == '%'):
			other = true
		}
		i = next
	}
	return other
}

// wordAt returns the word with that offset, in characters from 1, in upper case.
func wordAt(sql string, offset int) string {
	for i := range sql {
		if offset--; offset == 0 {
			return dialect.Keyword(sql[i:])
		}
	}
	return ""
}

// tell tells an error by its SQLSTATE
// (https://www.postgresql.org/docs/current/errcodes-appendix.html).
func tell(pg *pgconn.PgError) *engine.Error {
	told := &engine.Error{Code: engine.EngineError, Layer: engine.LayerEngine, EngineCode: pg.Code, Message: short(pg.Message),
		Next: "correct the statement"}
	if pg.Detail != "" {
		told.Message += " (" + short(pg.Detail) + ")"
	}
	class := pg.Code[:min(2, len(pg.Code))]
	switch {
	case strings.Contains(pg.Message, "multiple commands"):
		told.Code, told.Layer, told.Next = engine.MultiStatement, engine.LayerGuard, "send one statement at a time"
	case pg.Code == "25006" || pg.Code == "0A000" && strings.Contains(pg.Message, "data-modifying") ||
		pg.Code == "42601" && strings.Contains(pg.Message, "INTO"):
		again := readOnly(told.Message)
		told.Code, told.Layer, told.Next = again.Code, again.Layer, again.Next
	case pg.Code == "42601":
		told.Code = engine.SyntaxError
	case pg.Code == "42P01" || pg.Code == "3F000" || pg.Code == "42704":
		told.Code, told.Next = engine.UnknownObject, "call list_tables for the names of tables"
	case pg.Code == "42703":
		told.Code, told.Next = engine.UnknownObject, "call describe_table for the names of columns; write texts in single quotes"
	case pg.Code == "42883":
		told.Code, told.Next = engine.UnknownObject, "use a function or operator that there is, or cast its arguments"
	case pg.Code == "42702" || pg.Code == "42725" || pg.Code == "42P09":
		told.Code, told.Next = engine.AmbiguousObject, "write the table or schema in front of the name, or cast the arguments"
	case pg.Code == "42P02" || pg.Code == "08P01":
		told.Code, told.Layer, told.Next = engine.InvalidArgument, engine.LayerInput, "give one value in params for each of $1, $2, …"
	case pg.Code == "42P18":
		told.Code, told.Layer, told.Next = engine.InvalidArgument, engine.LayerInput, "say the type of the parameter, such as $1::text"
	case pg.Code == "42501":
		told.Code, told.Next = engine.AccessDenied, "the database's role may not do that: leave it out"
	case pg.Code == "55P03":
		told.Code, told.Retryable, told.Next = engine.LockTimeout, true, "somebody else holds a lock: try again in some seconds"
	case pg.Code == "57014":
		told.Code, told.Retryable, told.Next = engine.Cancelled, true, "somebody ended the statement in the database: try again"
	case pg.Code == "3D000":
		told.Code, told.Layer, told.Next = engine.Unreachable, engine.LayerPool, "ask whoever runs the server: the database does not exist"
	case class == "28":
		told.Code, told.Layer, told.Next = engine.AuthFailed, engine.LayerPool, "ask whoever runs the server: the database refuses its credentials"
	case class == "53" && pg.Code != "53300", class == "54":
		told.Code, told.Next = engine.ResultTooLarge, "read less: filter, aggregate, or sort fewer rows"
	case class == "08" || pg.Code == "53300" || class == "57":
		told.Code, told.Layer, told.Retryable = engine.Unreachable, engine.LayerPool, true
		told.Next = "call database_info for its status, and try again later"
	case class == "40":
		told.Retryable, told.Next = true, "try again"
	case class == "22":
		told.Next = "correct the values, or the types to which they are cast"
	}
	if pg.Hint != "" && told.Code != engine.ReadOnly {
		told.Next = short(pg.Hint)
	}
	return told
}

// short cuts a message, which may quote a value of any length.
func short(s string) string {
	const most = 500
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// lastOf is the innermost of an error, which says what happened without what
// was tried around it. Of several, for a connection is tried in several ways,
// each is told once.
func lastOf(err error) string {
	var told []string
	var tell func(error)
	tell = func(err error) {
		if several, ok := err.(interface{ Unwrap() []error }); ok {
			for _, err := range several.Unwrap() {
				tell(err)
			}
			return
		}
		inner := errors.Unwrap(err)
		if opening, ok := err.(*net.OpError); inner != nil && !(ok && opening.Op == "dial") { // which has the address
			tell(inner)
		} else if message := err.Error(); !slices.Contains(told, message) {
			told = append(told, message)
		}
	}
	tell(err)
	return short(strings.Join(told, "; "))
}

func unreachable(message string) *engine.Error {
	return &engine.Error{Code: engine.Unreachable, Layer: engine.LayerPool, Retryable: true, Message: message,
		Next: "call database_info for its status, and try again later"}
}

// protected reports whether a connection has to be.
func protected(c *pgconn.Config) bool {
	return c.TLSConfig != nil && !slices.ContainsFunc(c.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.TLSConfig == nil })
}

// explainOpening tells why a connection could not be opened.
func (d *Database) explainOpening(ctx context.Context, err error, c *pgconn.Config) *engine.Error {
	var told *engine.Error
	var pg *pgconn.PgError
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	switch {
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		told = unreachable(place(c) + " does not answer in time")
	case errors.As(err, &pg):
		told = tell(pg)
		if pg.Code == "42501" { // no CONNECT on the database
			told.Code, told.Layer = engine.AuthFailed, engine.LayerPool
		}
	case protected(c) && (errors.As(err, &certificate) || errors.As(err, &authority) || strings.Contains(err.Error(), "tls error")):
		told = &engine.Error{Code: engine.TLSFailed, Layer: engine.LayerPool,
			Message: "no protected connection to " + place(c) + ": " + lastOf(err),
			Next:    "ask whoever runs the server to check its TLS settings"}
	default:
		told = unreachable(fmt.Sprintf("%s cannot be reached: %s", place(c), lastOf(err)))
	}
	if len(c.Password) > 2 {
		told.Message = strings.ReplaceAll(told.Message, c.Password, "***")
	}
	return told
}
