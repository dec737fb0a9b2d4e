package mysql

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// ownSchemas are what the caller's schemas are not.
const ownSchemas = "('information_schema', 'mysql', 'performance_schema', 'sys')"

// types are what the servers call the kinds of tables, by what they are here.
var types = map[string][]string{"table": {"BASE TABLE", "SYSTEM VERSIONED"}, "view": {"VIEW", "SYSTEM VIEW"}}

func typeOf(s string) string {
	if strings.HasSuffix(s, "VIEW") {
		return "view"
	}
	return "table"
}

// batch is of how many tables more than their names is asked at a time, and how
// many names are asked for first if no more are wanted. Those that the policy
// forbids leave gaps; for what is behind a gap the server looks at all names
// again, so more are asked for each time, up to mostNames.
const (
	batch     = 1000
	mostNames = 32 * batch
)

// Tables lists tables and views. All names are looked at without the server
// opening a table, which takes MariaDB 0.2 ms or more for each that it has not
// open; those of the page alone are opened.
func (d *Database) Tables(ctx context.Context, who engine.Caller, f engine.Filter) (engine.Tables, error) {
	var page engine.Tables
	err := d.run(ctx, task{who: who}, nil, func(ctx context.Context, c *conn) error {
		after := f.After
		for many := max(batch, f.Limit+1); ; many = min(2*many, max(many, mostNames)) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			names, err := c.names(f, after, many)
			if err != nil {
				return err
			}
			last := len(names) < many
			if !last {
				after = names[len(names)-1]
			}
			names = slices.DeleteFunc(names, func(n engine.Name) bool { return !d.options.Policy.Readable(n) })
			for len(names) > 0 && !page.More {
				some := names[:min(len(names), f.Limit+1-len(page.Tables), batch)]
				names = names[len(some):]
				tables, err := c.tables(some, f.Detail)
				if err != nil {
					return err
				}
				page.Tables = append(page.Tables, tables...)
				if page.More = len(page.Tables) > f.Limit; page.More {
					page.Tables = page.Tables[:f.Limit]
				}
			}
			if last || page.More {
				break
			}
		}
		if len(page.Tables) == 0 {
			return d.missing(c)
		}
		if f.Detail < engine.Full {
			return nil
		}
		for i := range page.Tables {
			if err := c.columnList(&page.Tables[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return page, err
}

// names returns the first names of tables, views and sequences behind one. They are
// compared by their bytes, for there may be some that differ in case alone.
func (c *conn) names(f engine.Filter, after engine.Name, most int) ([]engine.Name, error) {
	var b strings.Builder
	var args []any
	b.WriteString("SELECT table_schema, table_name FROM information_schema.tables WHERE ")
	if f.Schema != "" {
		b.WriteString("table_schema = ?")
		args = append(args, f.Schema)
	} else {
		b.WriteString("table_schema NOT IN " + ownSchemas)
	}
	if f.Pattern != "" {
		b.WriteString(" AND LOWER(table_name) LIKE LOWER(?)")
		args = append(args, likePattern(f.Pattern))
	}
	if len(f.Kinds) > 0 { // for which the server looks into a file for each table
		var kinds []string
		for _, k := range f.Kinds {
			for _, t := range types[k] {
				kinds = append(kinds, "'"+t+"'")
			}
		}
		b.WriteString(" AND table_type IN (" + strings.Join(append(kinds, "''"), ", ") + ")")
	}
	if after != (engine.Name{}) {
		b.WriteString(" AND (CAST(table_schema AS BINARY), CAST(table_name AS BINARY)) > (CAST(? AS BINARY), CAST(? AS BINARY))")
		args = append(args, after.Schema, after.Table)
	}
	fmt.Fprintf(&b, " ORDER BY CAST(table_schema AS BINARY), CAST(table_name AS BINARY) LIMIT %d", most)
	var list []engine.Name
	err := c.query(b.String(), args, func(row []driver.Value) error {
		list = append(list, engine.Name{Schema: text(row[0]), Table: text(row[1])})
		return nil
	})
	return list, err
}

// tables tells of the tables and views that have these names, in their order.
func (c *conn) tables(names []engine.Name, detail engine.Detail) ([]engine.Table, error) {
	var b strings.Builder
	b.WriteString("SELECT table_schema, table_name, table_type")
	if detail >= engine.Summary {
		b.WriteString(", table_rows, table_comment")
	}
	b.WriteString(" FROM information_schema.tables WHERE table_type <> 'SEQUENCE' AND (CAST(table_schema AS BINARY), CAST(table_name AS BINARY)) IN (")
	args := make([]any, 0, 2*len(names))
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("(?, ?)")
		args = append(args, n.Schema, n.Table)
	}
	b.WriteString(")")
	found := make(map[engine.Name]engine.Table, len(names))
	err := c.query(b.String(), args, func(row []driver.Value) error {
		t := engine.Table{Schema: text(row[0]), Name: text(row[1]), Type: typeOf(text(row[2]))}
		if detail >= engine.Summary {
			t.Estimate, t.Comment = estimate(row[3]), comment(text(row[4]))
		}
		found[engine.Name{Schema: t.Schema, Table: t.Name}] = t
		return nil
	})
	list := make([]engine.Table, 0, len(names))
	for _, n := range names {
		if t, ok := found[n]; ok {
			list = append(list, t)
		}
	}
	return list, err
}

// likePattern turns a pattern with * and ?, or a part of a name, into one of LIKE.
func likePattern(pattern string) string {
	like := strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`, "*", "%", "?", "_").Replace(pattern)
	if strings.ContainsAny(pattern, "*?") {
		return like
	}
	return "%" + like + "%"
}

func estimate(v driver.Value) *int64 {
	if v == nil {
		return nil
	}
	n, err := strconv.ParseInt(text(v), 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// comment leaves out what the server writes in place of one for a view.
func comment(s string) string {
	if s == "VIEW" {
		return ""
	}
	return s
}

func (c *conn) columnList(t *engine.Table) error {
	err := c.query(`SELECT column_name, column_type FROM information_schema.columns
		WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position`, []any{t.Schema, t.Name},
		func(row []driver.Value) error {
			t.Columns = append(t.Columns, text(row[0])+" "+text(row[1]))
			return nil
		})
	n := int64(len(t.Columns))
	t.ColumnCount = &n
	return err
}

// maxNames is how many names are looked through for near ones.
const maxNames = 2000

// tableNames returns the names of tables in a schema that may be read.
func (d *Database) tableNames(c *conn, schema string) ([]string, error) {
	var names []string
	err := c.query(fmt.Sprintf("SELECT table_name FROM information_schema.tables WHERE table_schema = ? LIMIT %d", maxNames), []any{schema},
		func(row []driver.Value) error {
			if name := text(row[0]); d.options.Policy.Readable(engine.Name{Schema: schema, Table: name}) {
				names = append(names, name)
			}
			return nil
		})
	return names, err
}

// columnNames returns the names of the columns of tables.
func (d *Database) columnNames(c *conn, tables []engine.Name) ([]string, error) {
	var names []string
	for _, t := range tables[:min(len(tables), 16)] {
		schema, args := "DATABASE()", []any{t.Table}
		if t.Schema != "" {
			schema, args = "?", []any{t.Schema, t.Table}
		}
		err := c.query(fmt.Sprintf("SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = ? LIMIT %d",
			schema, maxNames), args, func(row []driver.Value) error {
			names = append(names, text(row[0]))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}
