package sqlite

import (
	"context"
	"database/sql/driver"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// similar returns names of tables, or of all columns, that are like name. It
// helps with an error, so an error of its own is none.
func (q *session) similar(ctx context.Context, name string, columns bool) []string {
	statement := "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow'"
	if columns {
		statement = `SELECT DISTINCT c.name FROM pragma_table_list l JOIN pragma_table_xinfo(l.name) c
			WHERE l.schema = 'main' AND l.type <> 'shadow'`
	}
	var names []string
	_ = q.each(ctx, statement, func(row []driver.Value) error {
		names = append(names, text(row[0]))
		return nil
	})
	return engine.Near(name, names)
}
