package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// Read runs a statement that only reads.
func (d *Database) Read(ctx context.Context, _ engine.Caller, s engine.Statement, out *result.Writer) error {
	params, err := bindings(s.Params)
	if err != nil {
		return err
	}
	err = d.read.with(ctx, s.Timeout, func(ctx context.Context, c *conn) error {
		return c.read(ctx, s.SQL, params, out)
	})
	return d.explain(ctx, err)
}

// bindings turns params into what the engine binds.
func bindings(params []any) ([]any, error) {
	values := make([]any, len(params))
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
	return values, nil
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
func (c *conn) read(ctx context.Context, sql string, params []any, out *result.Writer) error {
	s, err := c.compile(ctx, sql)
	if err != nil {
		return err
	}
	defer s.close()
	return s.run(ctx, params, out)
}

// run runs a statement of a caller. Rows go to out as long as it wants them;
// where it is nil they go nowhere.
func (s *stmt) run(ctx context.Context, params []any, out *result.Writer) error {
	width := s.width()
	if width > maxColumns {
		return &engine.Error{Code: engine.ResultTooLarge, Layer: engine.LayerGuard,
			Message: fmt.Sprintf("the result has %d columns, at most %d are possible", width, maxColumns),
			Next:    "select the columns that you need"}
	}
	if err := s.bind(params); err != nil {
		return err
	}
	if out != nil {
		out.SetColumns(s.masked(s.columns()))
	}
	for {
		switch ok, err := s.step(ctx); {
		case err != nil:
			return s.runError(err)
		case !ok || out != nil && !s.add(out, width):
			return nil
		}
	}
}

// only tells what is wrong with a text of which SQLite compiled a statement, if
// there is one, that ends at end.
func only(sql string, end int, found bool) error {
	if !found {
		return &engine.Error{Code: engine.SyntaxError, Layer: engine.LayerInput,
			Message: "the text has no statement", Next: "send one SELECT"}
	}
	if rest, _ := sqltext.SQLite.Statement(sql[end:]); rest != "" {
		return &engine.Error{Code: engine.MultiStatement, Layer: engine.LayerGuard,
			Message: "the text has more than one statement", Next: "send one statement a call"}
	}
	return nil
}

// compileError says why a statement was refused, while the connection can still
// tell what was denied and which names are near.
func (c *conn) compileError(ctx context.Context, sql string, err error) error {
	e := &compileError{err: err, sql: sql, denied: c.guard.denied}
	if e.denied != nil {
		return e
	}
	if m := noSuch.FindStringSubmatch(engineMessage(err)); m != nil && m[1] != "function" {
		name := m[2][strings.LastIndexByte(m[2], '.')+1:] // without its table
		if c.cover.refuses(name) && m[1] == "column" {
			return refused(name)
		}
		e.similar = c.similar(ctx, name, m[1] == "column")
	}
	return e
}

// runError says why a statement failed that compiled.
func (c *conn) runError(err error) error {
	if c.guard.denied != nil { // what a pragma function or VACUUM asks for is known when it runs
		return &compileError{err: err, denied: c.guard.denied}
	}
	return err
}
