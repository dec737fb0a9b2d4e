package dbserver

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"
)

// A tableInfo is a table as list_tables tells it.
type tableInfo struct {
	Name     string `json:"name"`
	Type     string `json:"type"` // table, view or virtual
	Columns  int64  `json:"columns"`
	Estimate *int64 `json:"rows_estimate"` // nil if not known
	Comment  string `json:"comment,omitempty"`

	noRowID bool
	create  string // the statement that made it
}

type tableList struct {
	Tables    []tableInfo `json:"tables"`
	Count     int         `json:"table_count"`
	Truncated bool        `json:"truncated"`
}

// listTables serves list_tables. Of more tables than an answer may have rows,
// the first by name are told.
func (s *Server) listTables(ctx context.Context) ([]byte, error) {
	var list tableList
	err := s.withSession(ctx, func(ctx context.Context, q *session) error {
		all, err := q.tables(ctx)
		if err != nil {
			return err
		}
		list.Count = len(all)
		list.Tables = all[:min(len(all), s.options.MaxRows)]
		list.Truncated = len(list.Tables) < len(all)
		for i := range list.Tables {
			t := &list.Tables[i]
			t.Comment, _ = comments(t.create)
			t.Comment, _ = cutText(t.Comment)
			if t.Estimate, err = q.estimate(ctx, t); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString(untrusted + "name\ttype\tcolumns\trows_estimate\tcomment\n")
	for _, t := range list.Tables {
		fmt.Fprintf(&b, "%s\t%s\t%d\t%s\t%s\n", tsv(t.Name), t.Type, t.Columns, estimateText(t.Estimate), tsv(t.Comment))
	}
	if list.Truncated {
		fmt.Fprintf(&b, "Only the first %d of %d tables.\n", len(list.Tables), list.Count)
	}
	return marshalResult(b.String(), list)
}

// tables returns the tables and views of the database in the order of their
// names, without those that SQLite and its virtual tables keep for themselves.
func (q *session) tables(ctx context.Context) ([]tableInfo, error) {
	list := []tableInfo{}
	err := q.each(ctx, `
		SELECT l.name, l.type, l.ncol, l.wr, s.sql
		FROM pragma_table_list l LEFT JOIN sqlite_schema s ON s.name = l.name AND s.type IN ('table', 'view')
		WHERE l.schema = 'main' AND l.type <> 'shadow' AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\'
		ORDER BY l.name`,
		func(row []driver.Value) error {
			list = append(list, tableInfo{Name: text(row[0]), Type: text(row[1]), Columns: number(row[2]),
				noRowID: number(row[3]) != 0, create: text(row[4])})
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
func (q *session) estimate(ctx context.Context, t *tableInfo) (*int64, error) {
	if t.Type != "table" {
		return nil, nil
	}
	name := quoteName(t.Name)
	rows, err := q.integer(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM %s LIMIT %d)", name, countedRows))
	if err != nil || *rows < countedRows {
		return rows, err
	}
	analyzed, err := q.integer(ctx, "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'")
	if err != nil {
		return nil, err
	}
	if analyzed != nil {
		rows, err = q.integer(ctx, "SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = ?1 COLLATE NOCASE", t.Name)
		if err != nil || rows != nil {
			return rows, err
		}
	}
	if t.noRowID {
		return nil, nil
	}
	rows, err = q.integer(ctx, fmt.Sprintf("SELECT (SELECT max(rowid) FROM %s) - (SELECT min(rowid) FROM %[1]s) + 1", name))
	if err != nil || rows == nil {
		return nil, err
	}
	pages, err := q.integer(ctx, "PRAGMA page_count")
	if err != nil || *rows > *pages*maxRowsOfPage {
		return nil, err
	}
	return rows, nil
}

// maxRowsOfPage is more than a page of the largest size, 64 KiB, has room for.
const maxRowsOfPage = 1 << 14

// integer returns the single value of a statement, nil for none or NULL.
func (q *session) integer(ctx context.Context, statement string, args ...driver.Value) (*int64, error) {
	var value *int64
	err := q.each(ctx, statement, func(row []driver.Value) error {
		if n, ok := row[0].(int64); ok {
			value = &n
		}
		return nil
	}, args...)
	return value, err
}

func estimateText(n *int64) string {
	if n == nil {
		return `\N`
	}
	return strconv.FormatInt(*n, 10)
}

// tsv returns a text as a field of tab-separated values.
func tsv(s string) string { return tsvEscaper.Replace(s) }
