package mysql

import (
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/pingcap/tidb/pkg/parser/ast"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// systemSchemas are those of the server itself. Where anything is forbidden they
// are, too: they have statements of others, and samples of values.
var systemSchemas = map[string]bool{"information_schema": true, "mysql": true, "performance_schema": true, "sys": true}

// othersStatements reports whether a table of the server itself has what other
// sessions run, with the values in it: the account of all callers is one, and
// the server shows an account its own sessions. SHOW PROCESSLIST is refused for
// the same reason.
func othersStatements(n engine.Name) bool {
	table := strings.ToLower(n.Table)
	switch strings.ToLower(n.Schema) {
	case "information_schema":
		return table == "processlist" || table == "innodb_trx" || table == "query_cache_info"
	case "mysql":
		return table == "general_log" || table == "slow_log"
	case "performance_schema", "sys":
		return true
	}
	return false
}

// permit returns what is sent for a statement: itself where the policy forbids
// nothing of it, with masks where there are some, or an error.
func (d *Database) permit(c *conn, s *statement) (string, error) {
	for _, t := range s.tables {
		if t.Schema == "" {
			t.Schema = c.database
		}
		if othersStatements(t) {
			return "", denied(t)
		}
	}
	if !d.options.Policy.Restricts() {
		return s.sql, nil
	}
	current, err := c.one("SELECT DATABASE()")
	if err != nil {
		return "", err
	}
	r := &resolver{d: d, c: c, current: current, seen: map[string]bool{}}
	for _, t := range s.tables {
		if err := r.table(t, false); err != nil {
			return "", err
		}
	}
	if show, ok := s.node.(*ast.ShowStmt); ok {
		if err := r.show(show); err != nil {
			return "", err
		}
	}
	if len(r.masked) == 0 {
		return s.sql, nil
	}
	return r.mask(s)
}

// A resolver finds out which tables a statement reads, those below views
// included.
type resolver struct {
	d       *Database
	c       *conn
	current string // schema
	seen    map[string]bool
	masked  map[string][]maskedColumn // of tables by schema.table in lower case
}

const maxViews = 64 // that are looked into for one statement

func (r *resolver) name(n engine.Name) engine.Name {
	if n.Schema == "" {
		n.Schema = r.current
	}
	return n
}

func denied(n engine.Name) error {
	return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy,
		Message: fmt.Sprintf("%s may not be read", n), Next: "list_tables has what may be read"}
}

// table checks one table. In a view masked columns cannot be masked.
func (r *resolver) table(n engine.Name, inView bool) error {
	n = r.name(n)
	key := strings.ToLower(n.String())
	if r.seen[key] && !inView {
		return nil
	}
	r.seen[key] = true
	if systemSchemas[strings.ToLower(n.Schema)] || !r.d.options.Policy.Readable(n) {
		return denied(n)
	}
	columns, err := r.columns(n)
	if err != nil {
		return err
	}
	masks := false
	for _, col := range columns {
		masks = masks || col.with != ""
	}
	if masks && inView {
		return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy,
			Message: fmt.Sprintf("a view of the statement reads %s, which has masked columns", n), Next: "read the tables themselves"}
	}
	definition, isView, err := r.view(n)
	if err != nil {
		return err
	}
	if isView {
		return r.within(n, definition)
	}
	if masks {
		if r.masked == nil {
			r.masked = map[string][]maskedColumn{}
		}
		r.masked[key] = columns
	}
	return nil
}

// within checks what a view reads.
func (r *resolver) within(n engine.Name, definition string) error {
	unresolved := &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy,
		Message: fmt.Sprintf("what the view %s reads cannot be found out, so that the policy cannot be applied", n),
		Next:    "read the tables themselves; an operator can grant SHOW VIEW"}
	if definition == "" || len(r.seen) > maxViews {
		return unresolved
	}
	s, err := parse(definition)
	if err != nil {
		return unresolved
	}
	g := &guard{functions: r.d.options.Policy.Functions} // a stored one reads what it wants
	if g.check(s) != nil {
		return unresolved
	}
	for _, t := range s.tables {
		if t.Schema == "" { // the server writes all of them with their schema, but for CTEs
			continue
		}
		if err := r.table(t, true); err != nil {
			return err
		}
	}
	return nil
}

// view returns the definition of a view, empty if the account may not see it.
func (r *resolver) view(n engine.Name) (definition string, isView bool, err error) {
	err = r.c.query("SELECT view_definition FROM information_schema.views WHERE table_schema = ? AND table_name = ?",
		[]any{n.Schema, n.Table}, func(row []driver.Value) error {
			definition, isView = text(row[0]), true
			return nil
		})
	return definition, isView, err
}

// columns returns the columns of a table and how they are masked.
func (r *resolver) columns(n engine.Name) ([]maskedColumn, error) {
	if !r.d.options.Policy.Masking() {
		return nil, nil
	}
	var columns []maskedColumn
	err := r.c.query(`SELECT column_name, extra, data_type FROM information_schema.columns
		WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position`, []any{n.Schema, n.Table},
		func(row []driver.Value) error {
			columns = append(columns, maskedColumn{name: text(row[0]), with: r.d.options.Policy.MaskOf(n, text(row[0])),
				invisible: strings.Contains(strings.ToUpper(text(row[1])), "INVISIBLE"), typ: text(row[2])})
			return nil
		})
	return columns, err
}

// show checks SHOW, which names schemas in its own way.
func (r *resolver) show(n *ast.ShowStmt) error {
	schema := n.DBName
	if schema == "" {
		return nil
	}
	if systemSchemas[strings.ToLower(schema)] || len(r.d.options.Policy.Schemas) > 0 && !r.d.options.Policy.Readable(engine.Name{Schema: schema, Table: "?"}) {
		return denied(engine.Name{Schema: schema, Table: "*"})
	}
	if n.Table != nil {
		return r.table(engine.Name{Schema: schema, Table: n.Table.Name.O}, false)
	}
	return nil
}

// one returns the one value of a statement of our own.
func (c *conn) one(statement string) (string, error) {
	value := ""
	err := c.query(statement, nil, func(row []driver.Value) error {
		value = text(row[0])
		return nil
	})
	return value, err
}
