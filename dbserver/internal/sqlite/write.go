package sqlite

import (
	"context"
	"fmt"
	"strings"

	lib "modernc.org/sqlite/lib"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// Write runs a statement that may write, in a transaction that takes SQLite's
// one right to write from the start. Out may be nil.
//
// Affected is the rows that the statement itself changed. The cap counts those
// that triggers and foreign keys changed, too: a DELETE of one row that takes a
// million with it is one of a million. DDL can be rolled back, so a preview of
// it is certain.
//
// RequireWhere is about the text: DELETE FROM t WHERE 1=1 has a WHERE. It is
// against leaving it out, the cap is against all rows.
func (d *Database) Write(ctx context.Context, _ engine.Caller, s engine.Statement, w engine.Write, out *result.Writer) (engine.Written, error) {
	var written engine.Written
	if !d.options.Write {
		return written, &engine.Error{Code: engine.ReadOnly, Layer: engine.LayerPolicy,
			Message: "the database is opened for reading", Next: "read"}
	}
	params, err := bindings(s.Params)
	if err != nil {
		return written, err
	}
	if w.RequireWhere && !changesSchema(s.SQL) && everyRow(s.SQL) { // what a trigger will do is another matter
		return written, &engine.Error{Code: engine.ReadOnly, Layer: engine.LayerPolicy,
			Message: "UPDATE and DELETE need a WHERE here", Next: "say which rows with WHERE"}
	}
	err = d.write.with(ctx, s.Timeout, func(ctx context.Context, c *conn) error {
		written, err = c.write(ctx, s.SQL, params, w, out)
		return err
	})
	return written, d.explain(ctx, err)
}

// write runs a statement in the transaction that has begun.
func (c *conn) write(ctx context.Context, sql string, params []any, w engine.Write, out *result.Writer) (written engine.Written, err error) {
	c.guard.ddl = w.DDL && changesSchema(sql)
	defer func() { c.guard.ddl = false }()
	s, err := c.compile(ctx, sql)
	if err != nil {
		return written, err
	}
	defer s.close()
	before := lib.Xsqlite3_total_changes64(c.tls, c.db)
	if err := s.runAll(ctx, params, out); err != nil {
		return written, err
	}
	changed := lib.Xsqlite3_total_changes64(c.tls, c.db) - before
	if written.Class = c.guard.does; written.Class == "" {
		written.Class = "other"
	}
	if written.Class != "ddl" && written.Class != "other" {
		written.Affected, written.Counted = lib.Xsqlite3_changes64(c.tls, c.db), changed
		if w.MaxRows > 0 && changed > w.MaxRows {
			return written, &engine.Error{Code: engine.AffectedLimit, Layer: engine.LayerPolicy,
				Message: fmt.Sprintf("the statement would change %d rows, with those of triggers and foreign keys; at most %d are possible. It was rolled back", changed, w.MaxRows),
				Next:    "narrow the WHERE, or change the rows in several statements"}
		}
	}
	s.close() // a statement that returned rows holds the transaction open
	end := "ROLLBACK"
	if w.Commit {
		end = "COMMIT"
	}
	return written, c.each(ctx, end, nil)
}

// runAll runs a statement to its end, also where out wants no more rows: what
// it changes is not to depend on how many rows are shown.
func (s *stmt) runAll(ctx context.Context, params []any, out *result.Writer) error {
	if err := s.run(ctx, params, out); err != nil {
		return err
	}
	for out != nil && !out.Wants() {
		if ok, err := s.step(ctx); !ok {
			if err != nil {
				return s.runError(err)
			}
			return nil
		}
	}
	return nil
}

// changesSchema reports whether a statement is of the kind that changes the
// schema. Without that, UPDATE sqlite_schema would be told from what CREATE
// does by the defensive mode alone.
func changesSchema(sql string) bool {
	switch sqltext.SQLite.Keyword(sql) {
	case "CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE":
		return true
	}
	return false
}

// everyRow reports whether a statement is an UPDATE or DELETE without a WHERE of
// its own: those of subqueries stand in parentheses.
func everyRow(sql string) bool {
	depth, changing := 0, false
	for i := 0; i < len(sql); {
		kind, next := sqltext.SQLite.Next(sql, i)
		token := sql[i:next]
		i = next
		switch {
		case token == "(":
			depth++
		case token == ")":
			depth--
		case kind != sqltext.Word || depth > 0:
		case changing && strings.EqualFold(token, "WHERE"):
			return false
		case changing:
		case strings.EqualFold(token, "INTO"), strings.EqualFold(token, "SELECT"): // REPLACE without INTO is a name
			return false
		case strings.EqualFold(token, "UPDATE"), strings.EqualFold(token, "DELETE"):
			changing = true
		}
	}
	return changing
}
