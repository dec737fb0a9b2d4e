package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A table is a table or view as the catalog has it.
type table struct {
	name    string
	kind    string // table, view or virtual
	columns int64
	noRowID bool
	create  string // the statement that made it
}

// Tables lists tables and views, without those that SQLite and its virtual
// tables keep for themselves.
func (d *Database) Tables(ctx context.Context, _ engine.Caller, f engine.Filter) (engine.Tables, error) {
	list := engine.Tables{Tables: []engine.Table{}}
	if f.Schema != "" && !strings.EqualFold(f.Schema, "main") {
		return list, nil
	}
	err := d.withSession(ctx, 0, func(ctx context.Context, q *session) error {
		all, err := q.tables(ctx)
		if err != nil {
			return err
		}
		for i := range all {
			t := &all[i]
			if t.name <= f.After.Table || !fits(f, t) || !d.options.Policy.Readable(engine.Name{Schema: "main", Table: t.name}) {
				continue
			}
			if len(list.Tables) == f.Limit {
				list.More = true
				break
			}
			told, err := q.tell(ctx, t, f.Detail)
			if err != nil {
				return err
			}
			list.Tables = append(list.Tables, told)
		}
		return nil
	})
	return list, d.explain(ctx, err)
}

// fits reports whether a table is one of those that are asked for.
func fits(f engine.Filter, t *table) bool {
	if len(f.Kinds) > 0 && !slices.Contains(f.Kinds, t.kind) {
		return false
	}
	return engine.Matches(f.Pattern, t.name)
}

// tell tells as much of a table as is asked for.
func (q *session) tell(ctx context.Context, t *table, detail engine.Detail) (told engine.Table, err error) {
	told = engine.Table{Name: t.name, Type: t.kind}
	if detail == engine.Names {
		return told, nil
	}
	told.ColumnCount = &t.columns
	told.Comment, _ = comments(t.create)
	told.Comment = shown(told.Comment)
	if told.Estimate, err = q.estimate(ctx, t); err != nil || detail == engine.Summary {
		return told, err
	}
	err = q.each(ctx, "SELECT name, type FROM pragma_table_xinfo(?1) WHERE hidden <> 1", func(row []driver.Value) error {
		told.Columns = append(told.Columns, strings.TrimSpace(text(row[0])+" "+text(row[1])))
		return nil
	}, t.name)
	return told, err
}

// tables returns the tables and views of the database in the order of their
// names.
func (q *session) tables(ctx context.Context) ([]table, error) {
	var list []table
	err := q.each(ctx, `
		SELECT l.name, l.type, l.ncol, l.wr, s.sql
		FROM pragma_table_list l LEFT JOIN sqlite_schema s ON s.name = l.name AND s.type IN ('table', 'view')
		WHERE l.schema = 'main' AND l.type <> 'shadow' AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\'
		ORDER BY l.name`,
		func(row []driver.Value) error {
			list = append(list, table{name: text(row[0]), kind: text(row[1]), columns: integer(row[2]),
				noRowID: integer(row[3]) != 0, create: text(row[4])})
			return nil
		})
	return list, err
}

// countedRows is up to how many rows a table's estimate is a count, which
// takes less than a millisecond.
const countedRows = 10_000

// estimate returns how many rows a table has: counted if they are few, else
// what ANALYZE found, else the span of row numbers, which is right unless rows
// were deleted or numbered by hand. A span that the file has no room for is no
// estimate.
func (q *session) estimate(ctx context.Context, t *table) (*int64, error) {
	if t.kind != "table" {
		return nil, nil
	}
	name := quoteName(t.name)
	rows, err := q.single(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM %s LIMIT %d)", name, countedRows))
	if err != nil || *rows < countedRows {
		return rows, err
	}
	analyzed, err := q.single(ctx, "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'")
	if err != nil {
		return nil, err
	}
	if analyzed != nil {
		rows, err = q.single(ctx, "SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = ?1 COLLATE NOCASE", t.name)
		if err != nil || rows != nil {
			return rows, err
		}
	}
	if t.noRowID {
		return nil, nil
	}
	rows, err = q.single(ctx, fmt.Sprintf("SELECT (SELECT max(rowid) FROM %s) - (SELECT min(rowid) FROM %[1]s) + 1", name))
	if err != nil || rows == nil {
		return nil, err
	}
	pages, err := q.single(ctx, "PRAGMA page_count")
	if err != nil || *rows > *pages*maxRowsOfPage {
		return nil, err
	}
	return rows, nil
}

// maxRowsOfPage is more than a page of the largest size, 64 KiB, has room for.
const maxRowsOfPage = 1 << 14

// single returns the single integer of a statement, nil for none or NULL.
func (q *session) single(ctx context.Context, statement string, args ...driver.Value) (*int64, error) {
	var value *int64
	err := q.each(ctx, statement, func(row []driver.Value) error {
		if n, ok := row[0].(int64); ok {
			value = &n
		}
		return nil
	}, args...)
	return value, err
}
