package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// maxComment is how much is told of a comment, in bytes.
const maxComment = 4 << 10

func shown(comment string) string {
	comment, _ = result.Cut(comment, maxComment)
	return comment
}

// Describe describes a table or view. A name is found as SQLite finds it,
// whatever its case.
func (d *Database) Describe(ctx context.Context, _ engine.Caller, n engine.Name, samples int) (*engine.Description, error) {
	var told *engine.Description
	err := d.withSession(ctx, 0, func(ctx context.Context, q *session) error {
		tables, err := q.tables(ctx)
		if err != nil {
			return err
		}
		var names []string
		for i := range tables {
			t := &tables[i]
			if !d.options.Policy.Readable(engine.Name{Schema: "main", Table: t.name}) {
				continue
			}
			if strings.EqualFold(t.name, n.Table) && (n.Schema == "" || strings.EqualFold(n.Schema, "main")) {
				told, err = q.describe(ctx, t)
				return err
			}
			names = append(names, t.name)
		}
		return &engine.Error{Code: engine.UnknownObject, Layer: engine.LayerInput, Message: fmt.Sprintf("no such table: %s", n),
			DidYouMean: engine.Near(n.Table, names), Next: "call list_tables for the names of tables"}
	})
	return told, d.explain(ctx, err)
}

func (q *session) describe(ctx context.Context, t *table) (*engine.Description, error) {
	estimate, err := q.estimate(ctx, t)
	if err != nil {
		return nil, err
	}
	d := &engine.Description{Name: t.name, Type: t.kind, Estimate: estimate,
		Columns: []engine.Column{}, ForeignKeys: []engine.Key{}, ReferencedBy: []engine.Key{}, Indexes: []engine.Index{}}
	for _, read := range []func(context.Context, *table, *engine.Description) error{
		q.readColumns, q.readForeignKeys, q.readReferences, q.readIndexes,
	} {
		if err := read(ctx, t, d); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (q *session) readColumns(ctx context.Context, t *table, d *engine.Description) error {
	tableComment, columnComments := comments(t.create)
	d.Comment = shown(tableComment)
	keys := 0
	// hidden is 1 for the arguments of a virtual table, 2 and 3 for generated columns.
	err := q.each(ctx, `SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?1) WHERE hidden <> 1`,
		func(row []driver.Value) error {
			c := engine.Column{Name: text(row[0]), Type: text(row[1]), Nullable: integer(row[2]) == 0,
				PrimaryKey: integer(row[4]), Generated: integer(row[5]) > 1}
			if def, ok := row[3].(string); ok {
				c.Default = &def
			}
			if c.PrimaryKey > 0 {
				keys++
			}
			c.Comment = shown(columnComments[strings.ToLower(c.Name)])
			d.Columns = append(d.Columns, c)
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

func (q *session) readForeignKeys(ctx context.Context, t *table, d *engine.Description) error {
	return q.readKeys(ctx, &d.ForeignKeys, `
		SELECT f."table", f.id, f."from", f."to", f."table"
		FROM pragma_foreign_key_list(?1) f ORDER BY f.id DESC, f.seq`, t.name)
}

func (q *session) readReferences(ctx context.Context, t *table, d *engine.Description) error {
	return q.readKeys(ctx, &d.ReferencedBy, `
		SELECT l.name, f.id, f."from", f."to", f."table"
		FROM pragma_table_list l JOIN pragma_foreign_key_list(l.name) f
		WHERE l.schema = 'main' AND f."table" = ?1 COLLATE NOCASE ORDER BY l.name, f.id DESC, f.seq`, t.name)
}

// readKeys reads foreign keys, one row per column: the other table, the key's
// number, the column, the column it refers to, and the table of that.
func (q *session) readKeys(ctx context.Context, to *[]engine.Key, statement, name string) error {
	lastTable, lastID := "", int64(-1)
	implied := map[int]string{} // keys that refer to the primary key of a table without naming it
	err := q.each(ctx, statement, func(row []driver.Value) error {
		table, id := text(row[0]), integer(row[1])
		if table != lastTable || id != lastID {
			lastTable, lastID = table, id
			*to = append(*to, engine.Key{Table: table, Columns: []string{}, Referenced: []string{}})
			if row[3] == nil {
				implied[len(*to)-1] = text(row[4])
			}
		}
		k := &(*to)[len(*to)-1]
		k.Columns = append(k.Columns, text(row[2]))
		if row[3] != nil {
			k.Referenced = append(k.Referenced, text(row[3]))
		}
		return nil
	}, name)
	if err != nil {
		return err
	}
	for i, referenced := range implied {
		k := &(*to)[i]
		err := q.each(ctx, "SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk", func(row []driver.Value) error {
			k.Referenced = append(k.Referenced, text(row[0]))
			return nil
		}, referenced)
		if err != nil {
			return err
		}
	}
	return nil
}

func (q *session) readIndexes(ctx context.Context, t *table, d *engine.Description) error {
	last := ""
	return q.each(ctx, `
		SELECT i.name, i."unique", i.partial, c.name
		FROM pragma_index_list(?1) i JOIN pragma_index_info(i.name) c ORDER BY i.name, c.seqno`,
		func(row []driver.Value) error {
			if name := text(row[0]); name != last {
				last = name
				d.Indexes = append(d.Indexes, engine.Index{Name: name, Unique: integer(row[1]) != 0, Partial: integer(row[2]) != 0})
			}
			var column *string
			if s, ok := row[3].(string); ok {
				column = &s
			}
			i := &d.Indexes[len(d.Indexes)-1]
			i.Columns = append(i.Columns, column)
			return nil
		}, t.name)
}
