package sqlite

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

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// Read runs a statement that only reads.
func (d *Database) Read(ctx context.Context, _ engine.Caller, s engine.Statement, out *result.Writer) error {
	if strings.IndexByte(s.SQL, 0) >= 0 {
		return engine.Invalid("query has a zero byte, at which SQLite would stop reading")
	}
	params, err := bindings(s.Params)
	if err != nil {
		return err
	}
	err = d.withSession(ctx, s.Timeout, func(ctx context.Context, q *session) error {
		return q.read(ctx, s.SQL, params, out)
	})
	return d.explain(ctx, err)
}

// bindings turns params into what the engine binds.
func bindings(params []any) ([]driver.NamedValue, error) {
	values := make([]driver.Value, len(params))
	for i, param := range params {
		switch v := param.(type) {
		case bool:
			values[i] = int64(0) // SQLite has no booleans (https://www.sqlite.org/datatype3.html)
			if v {
				values[i] = int64(1)
			}
		case json.Number:
			n, err := number(v.String())
			if err != nil {
				return nil, engine.Invalid("params/%d: %v", i, err)
			}
			values[i] = n
		default:
			values[i] = v
		}
	}
	return positional(values), nil
}

// number keeps an integer that fits 64 bits exact and refuses one that does
// not: rounded, it would find other rows than were asked for.
func number(s string) (any, error) {
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

// read runs one statement and hands its rows to out until that is full.
func (q *session) read(ctx context.Context, sql string, params []driver.NamedValue, out *result.Writer) error {
	columns, err := q.prepare(ctx, sql)
	if err != nil {
		return q.compileError(ctx, err)
	}
	first, err := onlyStatement(sql)
	if err != nil {
		return err
	}
	if len(columns) > maxColumns {
		return &engine.Error{Code: engine.ResultTooLarge, Layer: engine.LayerGuard,
			Message: fmt.Sprintf("the result has %d columns, at most %d are possible", len(columns), maxColumns),
			Next:    "select the columns that you need"}
	}
	out.SetColumns(resultColumns(columns))
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
		if !add(out, row) {
			break
		}
	}
	if closeErr := rows.Close(); err == nil && out.Wants() {
		err = closeErr
	}
	if err != nil {
		return q.runError(err)
	}
	return nil
}

// onlyStatement returns the one statement of a text.
func onlyStatement(sql string) (string, error) {
	first, only := sqltext.SQLite.Statement(sql)
	if !only {
		return "", &engine.Error{Code: engine.MultiStatement, Layer: engine.LayerGuard,
			Message: "the text has more than one statement", Next: "send one statement a call"}
	}
	if first == "" {
		return "", &engine.Error{Code: engine.SyntaxError, Layer: engine.LayerInput,
			Message: "the text has no statement", Next: "send one SELECT"}
	}
	return first, nil
}

// resultColumns are the columns of a result as a Writer wants them.
func resultColumns(columns []sqlite.ColumnInfo) []result.Column {
	list := make([]result.Column, len(columns))
	for i, c := range columns {
		list[i] = result.Column{Name: c.Name, Type: c.DeclType}
		if c.OriginName != "" {
			list[i].Origin = c.TableName + "." + c.OriginName
		}
	}
	return list
}

// add adds a row and reports whether another is wanted.
func add(out *result.Writer, row []driver.Value) bool {
	for _, value := range row {
		switch v := value.(type) {
		case nil:
			out.Null()
		case int64:
			out.Int(v)
		case float64:
			out.Real(v)
		case string:
			out.Text(v)
		case []byte:
			out.Bytes(v)
		case time.Time:
			// The driver makes one of text in a column that others turned into
			// a DATE since the statement was compiled.
			out.Text(v.Format(time.RFC3339Nano))
		default:
			out.Text(fmt.Sprint(v))
		}
	}
	return out.EndRow()
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
		return engine.Invalid("params: %s; placeholders are ? or ?1, ?2, and so on", message)
	}
	if q.guard.denied { // what a pragma function or VACUUM asks for is known when it runs
		return &compileError{err: err, denied: q.guard}
	}
	return err
}
