package mysql

import (
	"cmp"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/pingcap/tidb/pkg/parser/ast"
	"github.com/pingcap/tidb/pkg/parser/format"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A maskedColumn is a column of a table that has masks.
type maskedColumn struct {
	name, typ string
	with      engine.With // empty for not at all
	invisible bool        // not in *
}

// mask returns a statement in which each table with masks is a derived table of
// the same name, with what may be read of it. So a condition on a masked column
// compares with what its mask is, too. The result is looked at by the guard
// again.
func (r *resolver) mask(s *statement) (string, error) {
	again, err := parse(s.sql) // its own nodes, which are changed
	if err != nil {
		return "", err
	}
	m := &masker{r: r}
	if err := safely(func() { again.node.Accept(m) }); err != nil || m.err != nil {
		return "", cmp.Or(m.err, err)
	}
	var b strings.Builder
	flags := format.DefaultRestoreFlags | format.RestoreStringEscapeBackslash | format.RestoreStringWithoutDefaultCharset |
		format.RestoreSpacesAroundBinaryOperation
	var restoreErr error
	err = safely(func() { restoreErr = again.node.Restore(format.NewRestoreCtx(flags, &b)) })
	if err != nil || restoreErr != nil {
		return "", unmaskable("the statement")
	}
	masked, err := r.d.read(b.String())
	if err != nil {
		return "", err
	}
	if masked.params != s.params {
		return "", unmaskable("the statement")
	}
	return masked.sql, nil
}

func unmaskable(what string) error {
	return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy,
		Message: what + " cannot be read with its columns masked",
		Next:    "name the table in FROM with an alias, and its columns as alias.column"}
}

// A masker replaces tables by what may be read of them.
type masker struct {
	r   *resolver
	err error
}

func (m *masker) columns(n engine.Name) ([]maskedColumn, bool) {
	columns, ok := m.r.masked[strings.ToLower(m.r.name(n).String())]
	return columns, ok
}

// Enter refuses what a derived table cannot stand for.
func (m *masker) Enter(n ast.Node) (_ ast.Node, skipChildren bool) {
	switch n := n.(type) {
	case *ast.CommonTableExpression:
		if _, ok := m.columns(engine.Name{Table: n.Name.O}); ok {
			m.err = unmaskable("a table that a CTE has the name of, " + n.Name.O + ",")
		}
	case *ast.ColumnName:
		m.qualified(n.Schema.O, n.Table.O)
	case *ast.SelectField: // the wildcard in it is not visited
		if w := n.WildCard; w != nil {
			m.qualified(w.Schema.O, w.Table.O)
		}
	case *ast.SelectStmt:
		if n.Kind == ast.SelectStmtKindTable {
			n.Kind, n.SelectStmtOpts = ast.SelectStmtKindSelect, &ast.SelectStmtOpts{SQLCache: true} // TABLE takes no derived one
		}
	}
	return n, m.err != nil
}

func (m *masker) qualified(schema, table string) {
	if schema == "" {
		return
	}
	if _, ok := m.columns(engine.Name{Schema: schema, Table: table}); ok {
		m.err = unmaskable(schema + "." + table)
	}
}

// Leave replaces a table in FROM.
func (m *masker) Leave(n ast.Node) (ast.Node, bool) {
	source, ok := n.(*ast.TableSource)
	if !ok || m.err != nil {
		return n, m.err == nil
	}
	table, ok := source.Source.(*ast.TableName)
	if !ok {
		return n, true
	}
	name := engine.Name{Schema: table.Schema.O, Table: table.Name.O}
	columns, ok := m.columns(name)
	if !ok {
		return n, true
	}
	derived, err := m.derived(m.r.name(name), columns)
	if err != nil {
		m.err = err
		return n, false
	}
	if len(table.IndexHints) > 0 || len(table.PartitionNames) > 0 {
		m.err = unmaskable("a part of " + name.String())
		return n, false
	}
	if source.AsName.L == "" {
		source.AsName = table.Name
	}
	source.Source = derived
	return source, true
}

func (m *masker) derived(n engine.Name, columns []maskedColumn) (ast.ResultSetNode, error) {
	var fields []string
	for _, c := range columns {
		if !c.invisible && c.with != engine.WithRefuse {
			fields = append(fields, c.field())
		}
	}
	if len(fields) == 0 {
		return nil, unmaskable(n.String())
	}
	s, err := parse(fmt.Sprintf("SELECT %s FROM %s.%s", strings.Join(fields, ", "), quoteName(n.Schema), quoteName(n.Table)))
	if err != nil {
		return nil, unmaskable(n.String())
	}
	return s.node.(*ast.SelectStmt), nil
}

func (c *maskedColumn) field() string {
	name := quoteName(c.name)
	switch {
	case c.with == "":
		return name
	case c.with == engine.WithPartial && !strings.HasSuffix(c.typ, "blob") && !strings.HasSuffix(c.typ, "binary"):
		return fmt.Sprintf("CONCAT(LEFT(%s, 1), '***') AS %s", name, name)
	}
	return "NULL AS " + name
}

// hidden reports whether a column that the server does not know is one that the
// policy leaves out of a table of the statement.
func (d *Database) hidden(c *conn, s *statement, column string) bool {
	if !d.options.Policy.Masking() {
		return false
	}
	current, err := c.one("SELECT DATABASE()")
	if err != nil {
		return false
	}
	for _, t := range s.tables {
		if t.Schema == "" {
			t.Schema = current
		}
		if d.options.Policy.MaskOf(t, column) != engine.WithRefuse {
			continue
		}
		there := false
		err := c.query("SELECT 1 FROM information_schema.columns WHERE table_schema = ? AND table_name = ? AND column_name = ?",
			[]any{t.Schema, t.Table, column}, func([]driver.Value) error { there = true; return nil })
		if err == nil && there {
			return true
		}
	}
	return false
}
