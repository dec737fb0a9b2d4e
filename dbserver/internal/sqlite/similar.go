package sqlite

import (
	"context"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// maxNames and maxColumnTables are among how many tables near names are looked
// for, those of tables and those of columns.
const (
	maxNames        = 10_000
	maxColumnTables = 1_000
)

// similar returns names of tables, or of columns, that are like name. It helps
// with an error, so an error of its own is none.
func (c *conn) similar(ctx context.Context, name string, columns bool) []string {
	most := int64(maxNames)
	statement := "SELECT name, name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' LIMIT ?1"
	if columns {
		most = maxColumnTables
		statement = `SELECT DISTINCT s.name, x.name FROM (SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' LIMIT ?1) s
			JOIN pragma_table_xinfo(s.name, 'main') x LIMIT 10 * ?1`
	}
	var names []string
	seen := map[string]bool{}
	_ = c.each(ctx, statement, func(row *stmt) error {
		if n := row.text(1); !seen[n] && c.readable(row.text(0)) {
			seen[n] = true
			names = append(names, n)
		}
		return nil
	}, most)
	return engine.Near(name, names)
}

// readable reports whether the policy lets a table be read.
func (c *conn) readable(table string) bool {
	return c.options.Policy.Readable(engine.Name{Schema: "main", Table: table})
}
