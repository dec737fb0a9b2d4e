package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A table is a table or view as the schema has it.
type table struct {
	name   string
	kind   string // table, view or virtual
	create string // the statement that made it
}

// Tables lists tables and views, without those that SQLite and its virtual
// tables keep for themselves.
func (d *Database) Tables(ctx context.Context, _ engine.Caller, f engine.Filter) (engine.Tables, error) {
	list := engine.Tables{Tables: []engine.Table{}}
	if f.Schema != "" && !strings.EqualFold(f.Schema, "main") {
		return list, nil
	}
	err := d.read.with(ctx, 0, func(ctx context.Context, c *conn) error {
		names, err := c.names(ctx, f)
		if err != nil {
			return err
		}
		if list.More = len(names) > f.Limit; list.More {
			names = names[:f.Limit]
		}
		page, err := c.tables(ctx, names)
		if err != nil {
			return err
		}
		list.Tables = make([]engine.Table, len(page))
		for i := range page {
			if list.Tables[i], err = c.tell(ctx, &page[i], f.Detail); err != nil {
				return err
			}
		}
		return nil
	})
	return list, d.explain(ctx, err)
}

// kindOf is the expression for the kind of an entry of the schema. A virtual
// table has no pages of its own.
const kindOf = "CASE WHEN type = 'table' AND rootpage = 0 THEN 'virtual' ELSE type END"

// names returns the first names that a filter lets through, and one more than
// its limit if there is one, in order.
func (c *conn) names(ctx context.Context, f engine.Filter) ([]string, error) {
	var list, virtual []string
	err := c.each(ctx, "SELECT name, "+kindOf+" FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
		func(row *stmt) error {
			name, kind := row.view(0), row.view(1)
			if kind == "virtual" {
				virtual = append(virtual, strings.ToLower(name))
			}
			if name > f.After.Table && (len(f.Kinds) == 0 || slices.Contains(f.Kinds, kind)) &&
				(f.Pattern == "" || engine.Matches(f.Pattern, name)) && c.readable(name) {
				list = append(list, row.text(0))
			}
			return nil
		})
	if err != nil {
		return nil, err
	}
	slices.Sort(list)
	page := list[:0]
	for _, name := range list {
		if shadow, err := c.shadows(ctx, virtual, name); err != nil {
			return nil, err
		} else if shadow {
			continue
		}
		if page = append(page, name); len(page) > f.Limit {
			break
		}
	}
	return page, nil
}

// shadows reports whether a table is one in which a virtual table keeps what it
// holds. Its name begins with that of the virtual table then
// (https://www.sqlite.org/vtab.html#xshadowname).
func (c *conn) shadows(ctx context.Context, virtual []string, name string) (bool, error) {
	may := slices.ContainsFunc(virtual, func(v string) bool { return strings.HasPrefix(strings.ToLower(name), v+"_") })
	if !may {
		return false, nil
	}
	found, err := c.single(ctx, "SELECT 1 FROM pragma_table_list(?1) WHERE schema = 'main' AND type = 'shadow'", name)
	return found != nil, err
}

// tables returns tables by their names, which are in order.
func (c *conn) tables(ctx context.Context, names []string) ([]table, error) {
	wanted, err := json.Marshal(names)
	if err != nil {
		return nil, err
	}
	list := make([]table, 0, len(names))
	err = c.each(ctx, "SELECT name, "+kindOf+", sql FROM sqlite_schema WHERE type IN ('table', 'view') AND name IN (SELECT value FROM json_each(?1)) ORDER BY name",
		func(row *stmt) error {
			list = append(list, table{row.text(0), row.text(1), row.text(2)})
			return nil
		}, string(wanted))
	return list, err
}

// find returns the table of a name, whatever its case; nil if there is none.
func (c *conn) find(ctx context.Context, name string) (t *table, err error) {
	if !c.readable(name) {
		return nil, nil
	}
	err = c.each(ctx, "SELECT name, "+kindOf+", sql FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE",
		func(row *stmt) error {
			t = &table{row.text(0), row.text(1), row.text(2)}
			return nil
		}, name)
	return t, err
}

// tell tells as much of a table as is asked for.
func (c *conn) tell(ctx context.Context, t *table, detail engine.Detail) (told engine.Table, err error) {
	told = engine.Table{Name: t.name, Type: t.kind}
	if detail == engine.Names {
		return told, nil
	}
	told.Comment, _ = comments(t.create)
	told.Comment = shownComment(told.Comment)
	var columns []string
	err = c.each(ctx, "SELECT name, type FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1", func(row *stmt) error {
		columns = append(columns, strings.TrimSpace(row.text(0)+" "+row.text(1)))
		return nil
	}, t.name)
	if err != nil && t.kind == "table" {
		return told, err
	} else if err == nil { // a view may read what is not there any more
		n := int64(len(columns))
		told.ColumnCount = &n
	}
	if told.Estimate, err = c.estimate(ctx, t); detail == engine.Full {
		told.Columns = columns
	}
	return told, err
}

// countedRows is up to how many rows a table's estimate is a count, which
// takes less than a millisecond.
const countedRows = 10_000

// estimate returns how many rows a table has: counted if they are few, else
// what ANALYZE found, else the span of row numbers, which is right unless rows
// were deleted or numbered by hand. A span that the file has no room for is no
// estimate.
func (c *conn) estimate(ctx context.Context, t *table) (*int64, error) {
	if t.kind != "table" {
		return nil, nil
	}
	name := "main." + quoteName(t.name)
	rows, err := c.single(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM %s LIMIT %d)", name, countedRows))
	if err != nil || *rows < countedRows {
		return rows, err
	}
	analyzed, err := c.single(ctx, "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'")
	if err != nil {
		return nil, err
	}
	if analyzed != nil {
		rows, err = c.single(ctx, "SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = ?1 COLLATE NOCASE", t.name)
		if err != nil || rows != nil {
			return rows, err
		}
	}
	keyed, err := c.single(ctx, "SELECT 1 FROM pragma_table_list(?1) WHERE schema = 'main' AND wr <> 0", t.name)
	if err != nil || keyed != nil { // without row numbers
		return nil, err
	}
	rows, err = c.single(ctx, fmt.Sprintf("SELECT (SELECT max(rowid) FROM %s) - (SELECT min(rowid) FROM %[1]s) + 1", name))
	if err != nil || rows == nil {
		return nil, err
	}
	pages, err := c.single(ctx, "PRAGMA page_count")
	if err != nil || *rows > *pages*maxRowsOfPage {
		return nil, err
	}
	return rows, nil
}

// maxRowsOfPage is more than a page of the largest size, 64 KiB, has room for.
const maxRowsOfPage = 1 << 14

// quoteName writes a name as an SQL identifier.
func quoteName(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
