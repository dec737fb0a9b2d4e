package dbserver

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A tableDescription is what describe_table tells.
type tableDescription struct {
	Name         string       `json:"name"`
	Type         string       `json:"type"`
	Comment      string       `json:"comment,omitempty"`
	Estimate     *int64       `json:"rows_estimate"`
	Columns      []columnInfo `json:"columns"`
	ForeignKeys  []keyInfo    `json:"foreign_keys"`
	ReferencedBy []keyInfo    `json:"referenced_by"`
	Indexes      []indexInfo  `json:"indexes"`
}

type columnInfo struct {
	Name       string  `json:"name"`
	Type       string  `json:"type"`
	Nullable   bool    `json:"nullable"`
	Default    *string `json:"default"` // an SQL expression
	PrimaryKey int64   `json:"primary_key"`
	Generated  bool    `json:"generated,omitempty"`
	Comment    string  `json:"comment,omitempty"`
}

// A keyInfo is a foreign key, seen from either side.
type keyInfo struct {
	Table      string   `json:"table"` // the other table
	Columns    []string `json:"columns"`
	Referenced []string `json:"referenced_columns"`
}

type indexInfo struct {
	Name    string    `json:"name"`
	Columns []*string `json:"columns"` // nil for an expression
	Unique  bool      `json:"unique"`
	Partial bool      `json:"partial,omitempty"`
}

// describeTable serves describe_table. A name is found as SQLite finds it,
// whatever its case.
func (s *Server) describeTable(ctx context.Context, name string) ([]byte, error) {
	var d *tableDescription
	err := s.withSession(ctx, func(ctx context.Context, q *session) error {
		tables, err := q.tables(ctx)
		if err != nil {
			return err
		}
		var names []string
		for i := range tables {
			if strings.EqualFold(tables[i].Name, name) {
				d, err = q.describe(ctx, &tables[i])
				return err
			}
			names = append(names, tables[i].Name)
		}
		return &toolError{Code: codeUnknownObject, Layer: layerInput, Message: fmt.Sprintf("no such table: %s", name),
			DidYouMean: engine.Near(name, names), Next: "call list_tables for the names of tables"}
	})
	if err != nil {
		return nil, err
	}
	return marshalResult(d.text(), d)
}

func (q *session) describe(ctx context.Context, t *tableInfo) (*tableDescription, error) {
	estimate, err := q.estimate(ctx, t)
	if err != nil {
		return nil, err
	}
	d := &tableDescription{Name: t.Name, Type: t.Type, Estimate: estimate,
		Columns: []columnInfo{}, ForeignKeys: []keyInfo{}, ReferencedBy: []keyInfo{}, Indexes: []indexInfo{}}
	for _, read := range []func(context.Context, *tableInfo, *tableDescription) error{
		q.readColumns, q.readForeignKeys, q.readReferences, q.readIndexes,
	} {
		if err := read(ctx, t, d); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (q *session) readColumns(ctx context.Context, t *tableInfo, d *tableDescription) error {
	tableComment, columnComments := comments(t.create)
	d.Comment, _ = cutText(tableComment)
	keys := 0
	// hidden is 1 for the arguments of a virtual table, 2 and 3 for generated columns.
	err := q.each(ctx, `SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?1) WHERE hidden <> 1`,
		func(row []driver.Value) error {
			c := columnInfo{Name: text(row[0]), Type: text(row[1]), Nullable: number(row[2]) == 0,
				PrimaryKey: number(row[4]), Generated: number(row[5]) > 1}
			if def, ok := row[3].(string); ok {
				c.Default = &def
			}
			if c.PrimaryKey > 0 {
				keys++
			}
			c.Comment, _ = cutText(columnComments[strings.ToLower(c.Name)])
			d.Columns = append(d.Columns, c)
			return nil
		}, t.Name)
	for i := range d.Columns {
		// Such a column is the row number, the only key that is never NULL
		// without saying so (https://www.sqlite.org/lang_createtable.html#rowid).
		if c := &d.Columns[i]; keys == 1 && c.PrimaryKey == 1 && strings.EqualFold(c.Type, "INTEGER") {
			c.Nullable = false
		}
	}
	return err
}

func (q *session) readForeignKeys(ctx context.Context, t *tableInfo, d *tableDescription) error {
	return q.readKeys(ctx, &d.ForeignKeys, `
		SELECT f."table", f.id, f."from", f."to", f."table"
		FROM pragma_foreign_key_list(?1) f ORDER BY f.id DESC, f.seq`, t.Name)
}

func (q *session) readReferences(ctx context.Context, t *tableInfo, d *tableDescription) error {
	return q.readKeys(ctx, &d.ReferencedBy, `
		SELECT l.name, f.id, f."from", f."to", f."table"
		FROM pragma_table_list l JOIN pragma_foreign_key_list(l.name) f
		WHERE l.schema = 'main' AND f."table" = ?1 COLLATE NOCASE ORDER BY l.name, f.id DESC, f.seq`, t.Name)
}

// readKeys reads foreign keys, one row per column: the other table, the key's
// number, the column, the column it refers to, and the table of that.
func (q *session) readKeys(ctx context.Context, to *[]keyInfo, statement, name string) error {
	lastTable, lastID := "", int64(-1)
	implied := map[int]string{} // keys that refer to the primary key of a table without naming it
	err := q.each(ctx, statement, func(row []driver.Value) error {
		table, id := text(row[0]), number(row[1])
		if table != lastTable || id != lastID {
			lastTable, lastID = table, id
			*to = append(*to, keyInfo{Table: table, Columns: []string{}, Referenced: []string{}})
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

func (q *session) readIndexes(ctx context.Context, t *tableInfo, d *tableDescription) error {
	last := ""
	return q.each(ctx, `
		SELECT i.name, i."unique", i.partial, c.name
		FROM pragma_index_list(?1) i JOIN pragma_index_info(i.name) c ORDER BY i.name, c.seqno`,
		func(row []driver.Value) error {
			if name := text(row[0]); name != last {
				last = name
				d.Indexes = append(d.Indexes, indexInfo{Name: name, Unique: number(row[1]) != 0, Partial: number(row[2]) != 0})
			}
			var column *string
			if s, ok := row[3].(string); ok {
				column = &s
			}
			i := &d.Indexes[len(d.Indexes)-1]
			i.Columns = append(i.Columns, column)
			return nil
		}, t.Name)
}

// text returns the description for a reader of text.
func (d *tableDescription) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s %s", untrusted, d.Type, tsv(d.Name))
	if d.Estimate != nil {
		fmt.Fprintf(&b, ", about %d rows", *d.Estimate)
	}
	if d.Comment != "" {
		b.WriteString(": " + tsv(d.Comment))
	}
	b.WriteString("\ncolumn\ttype\tnullable\tdefault\tprimary_key\tcomment\n")
	for _, c := range d.Columns {
		def := `\N`
		if c.Default != nil {
			def = tsv(*c.Default)
		}
		fmt.Fprintf(&b, "%s\t%s\t%t\t%s\t%d\t%s\n", tsv(c.Name), tsv(c.Type), c.Nullable, def, c.PrimaryKey, tsv(c.Comment))
	}
	for _, k := range d.ForeignKeys {
		fmt.Fprintf(&b, "foreign key (%s) references %s (%s)\n", list(k.Columns), tsv(k.Table), list(k.Referenced))
	}
	for _, k := range d.ReferencedBy {
		fmt.Fprintf(&b, "referenced by %s (%s) on (%s)\n", tsv(k.Table), list(k.Columns), list(k.Referenced))
	}
	for _, i := range d.Indexes {
		columns := make([]string, len(i.Columns))
		for n, c := range i.Columns {
			if columns[n] = "an expression"; c != nil {
				columns[n] = *c
			}
		}
		unique := ""
		if i.Unique {
			unique = "unique "
		}
		fmt.Fprintf(&b, "%sindex %s (%s)\n", unique, tsv(i.Name), list(columns))
	}
	return b.String()
}

func list(names []string) string { return tsv(strings.Join(names, ", ")) }
