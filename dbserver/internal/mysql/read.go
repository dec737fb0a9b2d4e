package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"strings"

	"github.com/pingcap/tidb/pkg/parser/ast"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// Read runs a statement that only reads.
func (d *Database) Read(ctx context.Context, who engine.Caller, s engine.Statement, out *result.Writer) error {
	parsed, err := d.read(s.SQL)
	if err != nil {
		return err
	}
	params, err := bind(s.Params, parsed.params)
	if err != nil {
		return err
	}
	t := task{who: who, timeout: s.Timeout, rows: s.MaxRows}
	if d.options.Policy.Restricts() {
		t.rows = 0 // for what permit asks, all rows are wanted
	}
	return d.run(ctx, t, parsed, func(ctx context.Context, c *conn) error {
		sql, err := d.permit(c, parsed)
		if err == nil && s.MaxRows > t.rows {
			err = c.exec("SET SESSION " + selectLimit + "=" + formatInt(int64(s.MaxRows)))
		}
		if err != nil {
			return err
		}
		return d.rows(ctx, c, marked(who)+sql, params, prepared(parsed), out)
	})
}

// prepared reports whether a statement is one for the prepared protocol. SHOW
// and EXPLAIN have no values that text would round, and older servers do not
// prepare all of them.
func prepared(s *statement) bool {
	switch s.node.(type) {
	case *ast.ShowStmt, *ast.ExplainStmt:
		return s.params > 0
	}
	return true
}

// marked is a comment that tells whoever watches the server on whose behalf a
// statement runs.
func marked(who engine.Caller) string {
	plain := func(s string) string {
		s = strings.Map(func(r rune) rune {
			if r < 0x80 && (r == '.' || r == '-' || r == '_' || r == '@' || r == ':' || '0' <= r && r <= '9' || 'a' <= r|0x20 && r|0x20 <= 'z') {
				return r
			}
			return '_'
		}, s)
		return s[:min(len(s), 64)]
	}
	return "/* mcpool principal=" + plain(who.Principal) + " tool=" + plain(who.Tool) + " */ "
}

// rows runs a statement and hands its rows to out.
func (d *Database) rows(ctx context.Context, c *conn, sql string, params []any, prepared bool, out *result.Writer) error {
	c.wire.allow(maxRow)
	rows, close, err := c.start(sql, params, prepared)
	if err != nil {
		return c.whole(err)
	}
	defer close()
	columns := describe(rows, c.timeZone == utc)
	head := make([]result.Column, len(columns))
	for i, col := range columns {
		head[i] = result.Column{Name: col.name, Type: col.typ}
	}
	out.SetColumns(head)
	row := make([]driver.Value, len(columns))
	for {
		c.wire.allow(maxRow)
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return c.whole(err)
		case ctx.Err() != nil: // what is on the way is left to close
			return context.Cause(ctx)
		}
		for i, v := range row {
			columns[i].write(out, v)
		}
		if !out.EndRow() {
			// close would read all that is left, so that is made to be little.
			if d.kill(c) != nil {
				c.broken = true
				return c.wire.Close()
			}
			c.wire.allow(maxRow)
			return nil
		}
	}
}

// whole returns what the end of a connection means, if it was for a row that is
// too large.
func (c *conn) whole(err error) error {
	if !c.wire.over.Load() {
		return err
	}
	c.broken = true
	return &engine.Error{Code: engine.ResultTooLarge, Layer: engine.LayerGuard,
		Message: "a row is larger than 16 MiB",
		Next:    "leave large columns out, or read LENGTH(column) or LEFT(column, 1000) of them"}
}
