package mysql

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/pingcap/tidb/pkg/parser/ast"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// Classes of statements that write.
const (
	classInsert = "insert"
	classUpdate = "update"
	classDelete = "delete"
	classDDL    = "ddl"
)

// Write runs a statement that may write. These servers commit before and behind
// each change of the schema, and tables of other engines than InnoDB know no
// transactions: of such statements there is no preview, and it is Uncertain what
// they would do.
func (d *Database) Write(ctx context.Context, who engine.Caller, s engine.Statement, w engine.Write, out *result.Writer) (engine.Written, error) {
	if d.writes == nil {
		return engine.Written{}, &engine.Error{Code: engine.ReadOnly, Layer: engine.LayerPolicy,
			Message: "the database is open for reading alone", Next: "an operator can open it with mode: write"}
	}
	parsed, written, err := d.write(s.SQL, w)
	if err != nil {
		return written, err
	}
	params, err := bind(s.Params, parsed.params)
	if err != nil {
		return written, err
	}
	err = d.run(ctx, task{who: who, timeout: s.Timeout, writes: true}, parsed, func(ctx context.Context, c *conn) error {
		if err := d.permitWrite(c, parsed, written.Class); err != nil {
			return err
		}
		if written.Class == classDDL {
			written.Uncertain = !w.Commit
		} else if written.Uncertain, err = d.lasting(c, parsed.tables); err != nil {
			return err
		}
		switch {
		case written.Uncertain && !w.Commit:
			return nil
		case written.Uncertain && w.MaxRows > 0:
			return &engine.Error{Code: engine.AffectedLimit, Layer: engine.LayerPolicy,
				Message: "the statement writes to a table without transactions, on which no number of rows can be held",
				Next:    "an operator has to make it a table of InnoDB, or to allow any number of rows"}
		}
		if written.Affected, err = c.affect(marked(who)+parsed.sql, params); err != nil {
			return err
		}
		if w.MaxRows > 0 && written.Affected > w.MaxRows && written.Class != classDDL { // of which there is no way back
			return &engine.Error{Code: engine.AffectedLimit, Layer: engine.LayerPolicy,
				Message: fmt.Sprintf("the statement changes %d rows, and may change %d; it was rolled back", written.Affected, w.MaxRows),
				Next:    "narrow its WHERE, or do it in parts"}
		}
		if !w.Commit {
			return nil // reset rolls back
		}
		return c.commit()
	})
	if err == nil {
		out.SetColumns(nil)
	}
	return written, err
}

// affect runs a statement that returns no rows.
func (c *conn) affect(statement string, params []any) (int64, error) {
	c.wire.allow(maxRow)
	s, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(context.Background(), statement)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	values := make([]driver.NamedValue, len(params))
	for i, v := range params {
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	done, err := s.(driver.StmtExecContext).ExecContext(context.Background(), values)
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// errMaybeKept says that nobody knows what has become of a change.
var errMaybeKept = &engine.Error{Code: engine.Unreachable, Layer: engine.LayerPool,
	Message: "the connection was lost while the change was being kept: it may have been",
	Next:    "read whether it is there before you try again"}

// commit keeps the change. The server's own errors say that it is not kept.
func (c *conn) commit() error {
	err := c.exec("COMMIT")
	if err != nil && numberOf(err) == 0 {
		return errMaybeKept
	}
	return err
}

// write returns the statement of a text and its class, if it may be run.
func (d *Database) write(sql string, w engine.Write) (*statement, engine.Written, error) {
	s, err := parse(sql)
	if err != nil {
		return nil, engine.Written{}, err
	}
	g := &guard{functions: d.options.Policy.Functions, writes: true}
	written := engine.Written{}
	switch n := s.node.(type) {
	case *ast.InsertStmt:
		written.Class = classInsert
	case *ast.UpdateStmt:
		written.Class = classUpdate
		err = where(w, "UPDATE", n.Where)
	case *ast.DeleteStmt:
		written.Class = classDelete
		err = where(w, "DELETE", n.Where)
	case *ast.CreateTableStmt, *ast.AlterTableStmt, *ast.DropTableStmt, *ast.RenameTableStmt, *ast.TruncateTableStmt,
		*ast.CreateIndexStmt, *ast.DropIndexStmt, *ast.CreateViewStmt:
		written.Class = classDDL
		g.ddl(n)
		if !w.DDL {
			err = &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy,
				Message: "the statement changes the schema, which is not allowed", Next: "an operator can allow it"}
		}
	default:
		err = &engine.Error{Code: engine.ReadOnly, Layer: engine.LayerGuard,
			Message: "the statement is not one that may write: " + orUnknown(sqltext.MySQL.Keyword(s.sql)),
			Next:    "send one INSERT, REPLACE, UPDATE or DELETE, or read with read_data"}
	}
	if err != nil {
		return nil, written, err
	}
	if err := g.check(s); err != nil {
		return nil, written, err
	}
	for _, t := range s.tables { // a view over them would tell who may only read
		if systemSchemas[strings.ToLower(t.Schema)] {
			return nil, written, denied(t)
		}
	}
	return s, written, nil
}

// where holds that a statement says which rows. A condition without a column,
// such as 1 = 1, says nothing.
func where(w engine.Write, what string, condition ast.ExprNode) error {
	if !w.RequireWhere {
		return nil
	}
	if condition != nil {
		f := &finder{}
		if safely(func() { condition.Accept(f) }) == nil && f.found {
			return nil
		}
	}
	return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy,
		Message: what + " without a WHERE that says which rows is not allowed", Next: "add a WHERE with a column"}
}

// A finder finds out whether an expression has a column.
type finder struct{ found bool }

func (f *finder) Enter(n ast.Node) (ast.Node, bool) {
	_, column := n.(*ast.ColumnNameExpr)
	f.found = f.found || column
	return n, f.found
}

func (f *finder) Leave(n ast.Node) (ast.Node, bool) { return n, true }

// tableOptions are those that stay within the database: others name files,
// directories, other servers and storage engines that are those.
var tableOptions = map[ast.TableOptionType]bool{
	ast.TableOptionAutoIncrement: true, ast.TableOptionCharset: true, ast.TableOptionCollate: true, ast.TableOptionComment: true,
	ast.TableOptionRowFormat: true, ast.TableOptionAvgRowLength: true, ast.TableOptionMaxRows: true, ast.TableOptionMinRows: true,
	ast.TableOptionCompression: true, ast.TableOptionKeyBlockSize: true,
}

// ddl looks at what of a change of the schema is not in nodes that are visited.
func (g *guard) ddl(n ast.Node) {
	options := func(all []*ast.TableOption) {
		for _, o := range all {
			if !tableOptions[o.Tp] && !(o.Tp == ast.TableOptionEngine && strings.EqualFold(o.StrValue, "InnoDB")) {
				g.deny(refused("an option of a table that is not known to stay within the database"))
			}
		}
	}
	switch n := n.(type) {
	case *ast.CreateTableStmt:
		options(n.Options)
		if n.Partition != nil {
			g.deny(refused("partitions"))
		}
	case *ast.AlterTableStmt:
		for _, spec := range n.Specs {
			options(spec.Options)
			if !alterations[spec.Tp] {
				g.deny(refused("a kind of ALTER TABLE that is not known to stay within the database"))
			}
		}
	case *ast.CreateViewStmt:
		if n.Definer != nil && !n.Definer.CurrentUser {
			g.deny(refused("DEFINER"))
		}
	}
}

var alterations = map[ast.AlterTableType]bool{
	ast.AlterTableOption: true, ast.AlterTableAddColumns: true, ast.AlterTableAddConstraint: true, ast.AlterTableDropColumn: true,
	ast.AlterTableDropPrimaryKey: true, ast.AlterTableDropIndex: true, ast.AlterTableDropForeignKey: true,
	ast.AlterTableModifyColumn: true, ast.AlterTableChangeColumn: true, ast.AlterTableRenameColumn: true,
	ast.AlterTableRenameTable: true, ast.AlterTableAlterColumn: true, ast.AlterTableRenameIndex: true, ast.AlterTableDropCheck: true,
}

// lasting reports whether a change of one of the tables might stay though it is
// rolled back: it is of an engine without transactions, or a view, or has
// triggers in a schema that has such tables.
func (d *Database) lasting(c *conn, tables []engine.Name) (bool, error) {
	for _, t := range tables {
		schema, args := "DATABASE()", []any{t.Table}
		if t.Schema != "" {
			schema, args = "?", []any{t.Schema, t.Table}
		}
		lasts := false // of a table that is not there, the statement itself tells
		err := c.query(`SELECT COALESCE(e.transactions, 'NO') = 'NO'
				OR EXISTS (SELECT 1 FROM information_schema.triggers g WHERE g.event_object_schema = t.table_schema AND g.event_object_table = t.table_name)
					AND EXISTS (SELECT 1 FROM information_schema.tables o LEFT JOIN information_schema.engines x ON x.engine = o.engine
						WHERE o.table_schema = t.table_schema AND o.table_type = 'BASE TABLE' AND COALESCE(x.transactions, 'NO') = 'NO')
			FROM information_schema.tables t LEFT JOIN information_schema.engines e ON e.engine = t.engine
			WHERE t.table_schema = `+schema+` AND t.table_name = ?`, args, func(row []driver.Value) error {
			lasts = lasts || text(row[0]) == "1"
			return nil
		})
		if err != nil || lasts {
			return lasts, err
		}
	}
	return false, nil
}

// permitWrite applies the policy to a statement that writes: what may not be
// read may not be written, the value of a masked column may decide nothing, and
// it stays in a table and column of its name.
func (d *Database) permitWrite(c *conn, s *statement, class string) error {
	if !d.options.Policy.Restricts() {
		return nil
	}
	current, err := c.one("SELECT DATABASE()")
	if err != nil {
		return err
	}
	r := &resolver{d: d, c: c, current: current, seen: map[string]bool{}}
	for _, t := range s.tables {
		if err := r.table(t, false); err != nil {
			return err
		}
	}
	if len(r.masked) == 0 {
		return nil
	}
	if class == classDDL {
		return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy,
			Message: "the statement changes the schema of a table that has masked columns, or uses one for that", Next: "leave the table out"}
	}
	u := &user{masked: map[string]bool{}}
	for _, columns := range r.masked {
		for _, col := range columns {
			if col.with != "" {
				u.masked[strings.ToLower(col.name)] = true
			}
		}
	}
	if err := safely(func() { s.node.Accept(u) }); err != nil {
		return err
	}
	if u.uses != "" {
		return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy,
			Message: fmt.Sprintf("the statement uses %s, whose values may not be read", u.uses),
			Next:    "write such columns from values alone, and choose rows by others"}
	}
	return nil
}

// A user finds uses of the values of masked columns.
type user struct {
	masked map[string]bool
	uses   string
}

func (u *user) Enter(n ast.Node) (ast.Node, bool) {
	switch n := n.(type) {
	case *ast.ColumnNameExpr:
		u.name(n.Name)
	case *ast.SelectField: // the wildcard in it is not visited
		if n.WildCard != nil {
			u.uses = "*, which has masked columns"
		}
	case *ast.MatchAgainst:
		for _, c := range n.ColumnNames {
			u.name(c)
		}
	case *ast.Join:
		if n.NaturalJoin {
			u.uses = "NATURAL JOIN over masked columns"
		}
		for _, c := range n.Using {
			u.name(c)
		}
	}
	return n, u.uses != ""
}

func (u *user) name(n *ast.ColumnName) {
	if u.masked[n.Name.L] {
		u.uses = n.Name.O
	}
}

func (u *user) Leave(n ast.Node) (ast.Node, bool) { return n, u.uses == "" }
