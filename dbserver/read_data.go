package dbserver

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
)

// readData serves read_data.
func (s *Server) readData(ctx context.Context, args arguments) ([]byte, error) {
	if strings.IndexByte(args.Query, 0) >= 0 {
		return nil, invalid("query has a zero byte, at which SQLite would stop reading")
	}
	params, err := bindings(args.Params)
	if err != nil {
		return nil, err
	}
	limit, notice := s.rowLimit(args.Limit)
	result := &resultSet{maxRows: limit, maxBytes: s.options.MaxBytes}
	if notice != "" {
		result.notices = append(result.notices, notice)
	}
	start := time.Now()
	err = s.withSession(ctx, func(ctx context.Context, q *session) error {
		return q.read(ctx, args.Query, params, result)
	})
	if err != nil {
		return nil, err
	}
	return result.encode(time.Since(start)), nil
}

// rowLimit returns the limit of a call, and what to say if it is not the one
// that was asked for. The schema has found asked to be an integer above zero,
// which may be written as 1e3.
func (s *Server) rowLimit(asked json.Number) (limit int, notice string) {
	most := s.options.MaxRows
	if asked == "" {
		return min(DefaultLimit, most), ""
	}
	n, err := asked.Float64()
	if err != nil || n > float64(most) {
		return most, fmt.Sprintf("limit was lowered to %d, the server's cap", most)
	}
	return int(n), ""
}

// bindings turns the params of a call into what the engine binds. The schema
// has found them to be scalars.
func bindings(params []json.RawMessage) ([]driver.NamedValue, error) {
	values := make([]driver.Value, len(params))
	for i, raw := range params {
		var v any
		var err error
		switch raw[0] {
		case '"':
			var s string
			err = json.Unmarshal(raw, &s)
			v = s
		case 't', 'f':
			v = int64(0) // SQLite has no booleans (https://www.sqlite.org/datatype3.html)
			if raw[0] == 't' {
				v = int64(1)
			}
		case 'n':
		default:
			v, err = bindNumber(string(raw))
		}
		if err != nil {
			return nil, invalid("params/%d: %v", i, err)
		}
		values[i] = v
	}
	return positional(values), nil
}

// bindNumber keeps an integer that fits 64 bits exact and refuses one that
// does not: rounded, it would find other rows than were asked for.
func bindNumber(s string) (any, error) {
	if !strings.ContainsAny(s, ".eE") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s does not fit a 64-bit integer", s)
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, fmt.Errorf("%s does not fit a 64-bit floating-point number", s)
	}
	return f, nil
}

// read runs one statement and adds its rows to the result until that is full.
func (q *session) read(ctx context.Context, sql string, params []driver.NamedValue, result *resultSet) error {
	columns, err := q.prepare(ctx, sql)
	if err != nil {
		return q.compileError(ctx, err)
	}
	first, only := statement(sql)
	if !only {
		return &toolError{Code: codeMultiStatement, Layer: layerGuard,
			Message: "the text has more than one statement", Next: "send one statement a call"}
	}
	if first == "" {
		return &toolError{Code: codeSyntax, Layer: layerInput,
			Message: "the text has no statement", Next: "send one SELECT"}
	}
	if len(columns) > maxColumns {
		return &toolError{Code: codeTooLarge, Layer: layerGuard,
			Message: fmt.Sprintf("the result has %d columns, at most %d are possible", len(columns), maxColumns),
			Next:    "select the columns that you need"}
	}
	result.columns = columns
	rows, err := q.QueryContext(ctx, undated(first, columns), params)
	if err != nil {
		return q.runError(err)
	}
	row := make([]driver.Value, len(rows.Columns()))
	for {
		var ok bool
		if ok, err = next(rows, row); !ok {
			break
		}
		if !result.add(row) {
			break
		}
	}
	if closeErr := rows.Close(); err == nil && result.endedBy == "" {
		err = closeErr
	}
	if err != nil {
		return q.runError(err)
	}
	return nil
}

// undated returns a statement with the same rows whose columns have no
// declared type, if one is declared as a date: of such a column the driver
// would make a time of each text that reads as one, and how it was written
// would be lost. An expression has no declared type, and unary plus is one
// that changes nothing.
func undated(statement string, columns []sqlite.ColumnInfo) string {
	dated := false
	for _, c := range columns {
		switch strings.ToUpper(c.DeclType) {
		case "DATE", "DATETIME", "TIMESTAMP":
			dated = true
		}
	}
	if !dated {
		return statement
	}
	var names, values strings.Builder
	for i := range columns {
		if i > 0 {
			names.WriteByte(',')
			values.WriteByte(',')
		}
		fmt.Fprintf(&names, "c%d", i)
		fmt.Fprintf(&values, "+c%d", i)
	}
	return "WITH mcpool_result(" + names.String() + ") AS (" + statement + "\n) SELECT " + values.String() + " FROM mcpool_result"
}

// compileError says why a statement was refused, while the session can still
// tell what was denied and which names are near.
func (q *session) compileError(ctx context.Context, err error) error {
	e := &compileError{err: err}
	if q.guard.denied {
		e.denied = q.guard
	} else if m := noSuch.FindStringSubmatch(engineMessage(err)); m != nil && m[1] != "function" {
		name := m[2][strings.LastIndexByte(m[2], '.')+1:] // without its table
		e.similar = q.similar(ctx, name, m[1] == "column")
	}
	return e
}

// runError says why a statement failed that compiled. Placeholders are bound
// by the driver, whose errors about them are its own and not SQLite's.
func (q *session) runError(err error) error {
	if message := err.Error(); strings.HasPrefix(message, "missing argument with index ") ||
		strings.HasPrefix(message, "missing named argument ") {
		return invalid("params: %s; placeholders are ? or ?1, ?2, and so on", message)
	}
	if q.guard.denied { // what a pragma function or VACUUM asks for is known when it runs
		return &compileError{err: err, denied: q.guard}
	}
	return err
}
