package sqlite

import (
	"context"
	"fmt"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// maxComment is how much is told of a comment, in bytes.
const maxComment = 4 << 10

func shownComment(comment string) string {
	comment, _ = result.Cut(comment, maxComment)
	return comment
}

// Describe describes a table or view. A name is found as SQLite finds it,
// whatever its case.
func (d *Database) Describe(ctx context.Context, _ engine.Caller, n engine.Name, samples int) (*engine.Description, error) {
	var told *engine.Description
	err := d.read.with(ctx, 0, func(ctx context.Context, c *conn) error {
		var t *table
		var err error
		if n.Schema == "" || strings.EqualFold(n.Schema, "main") {
			if t, err = c.find(ctx, n.Table); err != nil {
				return err
			}
		}
		if t == nil {
			return &engine.Error{Code: engine.UnknownObject, Layer: engine.LayerInput, Message: fmt.Sprintf("no such table: %s", n),
				DidYouMean: c.similar(ctx, n.Table, false), Next: "call list_tables for the names of tables"}
		}
		told, err = c.describe(ctx, t, samples)
		return err
	})
	return told, d.explain(ctx, err)
}

func (c *conn) describe(ctx context.Context, t *table, samples int) (*engine.Description, error) {
	estimate, err := c.estimate(ctx, t)
	if err != nil {
		return nil, err
	}
	d := &engine.Description{Name: t.name, Type: t.kind, Estimate: estimate, Checks: checks(t.create),
		Columns: []engine.Column{}, ForeignKeys: []engine.Key{}, ReferencedBy: []engine.Key{}, Indexes: []engine.Index{}}
	for _, read := range []func(context.Context, *table, *engine.Description) error{
		c.readColumns, c.readForeignKeys, c.readReferences, c.readIndexes,
	} {
		if err := read(ctx, t, d); err != nil {
			return nil, err
		}
	}
	if samples > 0 {
		return d, c.readSamples(ctx, t, d, samples)
	}
	return d, nil
}

func (c *conn) readColumns(ctx context.Context, t *table, d *engine.Description) error {
	tableComment, columnComments := comments(t.create)
	d.Comment = shownComment(tableComment)
	keys := 0
	// hidden is 1 for the arguments of a virtual table, 2 and 3 for generated columns.
	err := c.each(ctx, `SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1`,
		func(row *stmt) error {
			column := engine.Column{Name: row.text(0), Type: row.text(1), Nullable: row.integer(2) == 0,
				PrimaryKey: row.integer(4), Generated: row.integer(5) > 1}
			if !row.null(3) {
				def := row.text(3)
				column.Default = &def
			}
			if column.PrimaryKey > 0 {
				keys++
			}
			column.Comment = shownComment(columnComments[strings.ToLower(column.Name)])
			column.Policy = string(c.cover.with(t.name, column.Name))
			d.Columns = append(d.Columns, column)
			return nil
		}, t.name)
	for i := range d.Columns {
		// Such a column is the row number, the only key that is never NULL
		// without saying so (https://www.sqlite.org/lang_createtable.html#rowid).
		if c := &d.Columns[i]; keys == 1 && c.PrimaryKey == 1 && strings.EqualFold(c.Type, "INTEGER") {
			c.Nullable = false
		}
	}
	return err
}

func (c *conn) readForeignKeys(ctx context.Context, t *table, d *engine.Description) error {
	return c.readKeys(ctx, &d.ForeignKeys, `
		SELECT f."table", f.id, f."from", f."to", f."table"
		FROM pragma_foreign_key_list(?1, 'main') f ORDER BY f.id DESC, f.seq`, t.name)
}

func (c *conn) readReferences(ctx context.Context, t *table, d *engine.Description) error {
	return c.readKeys(ctx, &d.ReferencedBy, `
		SELECT l.name, f.id, f."from", f."to", f."table"
		FROM sqlite_schema l JOIN pragma_foreign_key_list(l.name, 'main') f
		WHERE l.type = 'table' AND l.sql LIKE '%references%' AND f."table" = ?1 COLLATE NOCASE ORDER BY l.name, f.id DESC, f.seq`, t.name)
}

// readKeys reads foreign keys, one row per column: the other table, the key's
// number, the column, the column it refers to, and the table of that.
func (c *conn) readKeys(ctx context.Context, to *[]engine.Key, statement, name string) error {
	lastTable, lastID := "", int64(-1)
	implied := map[int]string{} // keys that refer to the primary key of a table without naming it
	err := c.each(ctx, statement, func(row *stmt) error {
		table, id := row.text(0), row.integer(1)
		if !c.readable(table) {
			return nil
		}
		if table != lastTable || id != lastID {
			lastTable, lastID = table, id
			*to = append(*to, engine.Key{Table: table, Columns: []string{}, Referenced: []string{}})
			if row.null(3) {
				implied[len(*to)-1] = row.text(4)
			}
		}
		k := &(*to)[len(*to)-1]
		k.Columns = append(k.Columns, row.text(2))
		if !row.null(3) {
			k.Referenced = append(k.Referenced, row.text(3))
		}
		return nil
	}, name)
	if err != nil {
		return err
	}
	for i, referenced := range implied {
		k := &(*to)[i]
		err := c.each(ctx, "SELECT name FROM pragma_table_info(?1, 'main') WHERE pk > 0 ORDER BY pk", func(row *stmt) error {
			k.Referenced = append(k.Referenced, row.text(0))
			return nil
		}, referenced)
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) readIndexes(ctx context.Context, t *table, d *engine.Description) error {
	last := ""
	return c.each(ctx, `
		SELECT i.name, i."unique", i.partial, c.name
		FROM pragma_index_list(?1, 'main') i JOIN pragma_index_info(i.name, 'main') c ORDER BY i.name, c.seqno`,
		func(row *stmt) error {
			if name := row.text(0); name != last {
				last = name
				d.Indexes = append(d.Indexes, engine.Index{Name: name, Unique: row.integer(1) != 0, Partial: row.integer(2) != 0})
			}
			var column *string
			if !row.null(3) {
				s := row.text(3)
				column = &s
			}
			i := &d.Indexes[len(d.Indexes)-1]
			i.Columns = append(i.Columns, column)
			return nil
		}, t.name)
}
