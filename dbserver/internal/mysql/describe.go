package mysql

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// Describe describes one table or view.
func (d *Database) Describe(ctx context.Context, who engine.Caller, n engine.Name, samples int) (*engine.Description, error) {
	var found *engine.Description
	err := d.run(ctx, task{who: who}, nil, func(ctx context.Context, c *conn) error {
		t, err := d.find(c, n)
		if err != nil {
			return err
		}
		for _, read := range []func(*conn, *engine.Description) error{d.readColumns, d.readKeys, readIndexes, readChecks} {
			if err := read(c, t); err != nil {
				return err
			}
		}
		if samples > 0 {
			if err := d.readSamples(ctx, c, t, samples); err != nil {
				return err
			}
		}
		found = t
		return nil
	})
	return found, err
}

// find returns the table of that name.
func (d *Database) find(c *conn, n engine.Name) (*engine.Description, error) {
	if n.Schema == "" {
		var err error
		if n.Schema, err = c.one("SELECT DATABASE()"); err != nil {
			return nil, err
		}
		if n.Schema == "" {
			return nil, engine.Invalid("the connection is to no database: write the table as schema.%s", n.Table)
		}
	}
	var t *engine.Description
	if d.options.Policy.Readable(n) {
		err := c.query(`SELECT table_schema, table_name, table_type, table_rows, table_comment FROM information_schema.tables
			WHERE table_schema = ? AND table_name = ? AND table_type <> 'SEQUENCE'`, []any{n.Schema, n.Table},
			func(row []driver.Value) error {
				t = &engine.Description{Schema: text(row[0]), Name: text(row[1]), Type: typeOf(text(row[2])),
					Estimate: estimate(row[3]), Comment: comment(text(row[4])),
					Columns: []engine.Column{}, ForeignKeys: []engine.Key{}, ReferencedBy: []engine.Key{}, Indexes: []engine.Index{}}
				return nil
			})
		if err != nil {
			return nil, err
		}
	}
	if t != nil && d.options.Policy.Readable(engine.Name{Schema: t.Schema, Table: t.Name}) {
		return t, nil
	}
	names, err := d.tableNames(c, n.Schema)
	if err == nil && len(names) == 0 {
		err = d.missing(c)
	}
	if err != nil {
		return nil, err
	}
	return nil, &engine.Error{Code: engine.UnknownObject, Layer: engine.LayerInput, Message: fmt.Sprintf("no such table: %s", n),
		DidYouMean: engine.Near(n.Table, names), Next: "call list_tables for the names of tables"}
}

func (d *Database) readColumns(c *conn, t *engine.Description) error {
	name := engine.Name{Schema: t.Schema, Table: t.Name}
	return c.query(`SELECT c.column_name, c.column_type, c.is_nullable, c.column_default, COALESCE(s.seq_in_index, 0), c.extra,
			c.column_comment, c.data_type
		FROM information_schema.columns c
		LEFT JOIN information_schema.statistics s ON s.table_schema = ? AND s.table_name = ?
			AND s.index_name = 'PRIMARY' AND s.column_name = c.column_name
		WHERE c.table_schema = ? AND c.table_name = ? ORDER BY c.ordinal_position`, []any{t.Schema, t.Name, t.Schema, t.Name},
		func(row []driver.Value) error {
			col := engine.Column{Name: text(row[0]), Type: text(row[1]), Nullable: text(row[2]) == "YES", Comment: text(row[6])}
			extra := strings.ToUpper(text(row[5]))
			if row[3] != nil && !(c.server.maria && text(row[3]) == "NULL") {
				def := text(row[3])
				// MariaDB tells an SQL expression, MySQL a text as it is.
				if !c.server.maria && !strings.Contains(extra, "DEFAULT_GENERATED") {
					def = "'" + strings.ReplaceAll(def, "'", "''") + "'"
				}
				col.Default = &def
			}
			if n := estimate(row[4]); n != nil {
				col.PrimaryKey = *n
			}
			col.Generated = strings.Contains(strings.ReplaceAll(extra, "DEFAULT_GENERATED", ""), "GENERATED")
			if strings.EqualFold(text(row[7]), "enum") {
				col.Values = enumValues(col.Type)
			}
			col.Policy = string(d.options.Policy.MaskOf(name, col.Name))
			t.Columns = append(t.Columns, col)
			return nil
		})
}

// enumValues reads the values in enum('a','b').
func enumValues(typ string) []string {
	_, rest, ok := strings.Cut(typ, "(")
	if !ok {
		return nil
	}
	var values []string
	for i := 0; i < len(rest) && rest[i] == '\''; {
		var value strings.Builder
		for i++; i < len(rest); i++ {
			if rest[i] == '\'' {
				if i++; i >= len(rest) || rest[i] != '\'' {
					break
				}
			}
			value.WriteByte(rest[i])
		}
		values = append(values, value.String())
		if i < len(rest) && rest[i] == ',' {
			i++
		}
	}
	return values
}

// readKeys reads the foreign keys of a table, and those that refer to it.
func (d *Database) readKeys(c *conn, t *engine.Description) error {
	read := func(to *[]engine.Key, where, other string) error {
		last, shown := "", false
		all, err := c.queryWithin(keysTime, `table_schema, table_name, constraint_name, column_name, referenced_table_schema, referenced_table_name,
				referenced_column_name
			FROM information_schema.key_column_usage
			WHERE `+where+` AND referenced_table_name IS NOT NULL ORDER BY table_schema, table_name, constraint_name, ordinal_position`,
			[]any{t.Schema, t.Name}, func(row []driver.Value) error {
				n := engine.Name{Schema: text(row[0]), Table: text(row[1])}
				if key := n.String() + "." + text(row[2]); key != last {
					last = key
					if other == "referenced" {
						n = engine.Name{Schema: text(row[4]), Table: text(row[5])}
					}
					if shown = d.options.Policy.Readable(n); shown {
						if n.Schema == t.Schema {
							n.Schema = ""
						}
						*to = append(*to, engine.Key{Table: n.String(), Columns: []string{}, Referenced: []string{}})
					}
				}
				if !shown {
					return nil
				}
				k := &(*to)[len(*to)-1]
				k.Columns, k.Referenced = append(k.Columns, text(row[3])), append(k.Referenced, text(row[6]))
				return nil
			})
		if err == nil && !all {
			t.Notices = append(t.Notices, fmt.Sprintf("there may be more %s tables: the database could not tell all in %v", other, keysTime))
		}
		return err
	}
	if err := read(&t.ForeignKeys, "table_schema = ? AND table_name = ?", "referenced"); err != nil {
		return err
	}
	return read(&t.ReferencedBy, "referenced_table_schema = ? AND referenced_table_name = ?", "referring")
}

// keysTime is how long foreign keys are looked for. To find those that refer to
// a table MariaDB opens all tables that there are.
const keysTime = 2 * time.Second

func readIndexes(c *conn, t *engine.Description) error {
	return c.query(`SELECT index_name, non_unique, column_name, sub_part FROM information_schema.statistics
		WHERE table_schema = ? AND table_name = ? ORDER BY index_name, seq_in_index`, []any{t.Schema, t.Name},
		func(row []driver.Value) error {
			if name := text(row[0]); len(t.Indexes) == 0 || t.Indexes[len(t.Indexes)-1].Name != name {
				t.Indexes = append(t.Indexes, engine.Index{Name: name, Unique: text(row[1]) == "0"})
			}
			var column *string
			if row[2] != nil {
				s := text(row[2])
				column = &s
			}
			i := &t.Indexes[len(t.Indexes)-1]
			i.Columns = append(i.Columns, column)
			return nil
		})
}

func readChecks(c *conn, t *engine.Description) error {
	statement := `SELECT check_clause FROM information_schema.check_constraints
		WHERE constraint_schema = ? AND table_name = ? ORDER BY constraint_name`
	if !c.server.maria {
		if !c.server.atLeast(8, 0, 16) {
			return nil
		}
		statement = `SELECT k.check_clause FROM information_schema.check_constraints k
			JOIN information_schema.table_constraints t ON t.constraint_schema = k.constraint_schema AND t.constraint_name = k.constraint_name
			WHERE t.table_schema = ? AND t.table_name = ? ORDER BY k.constraint_name`
	}
	return c.query(statement, []any{t.Schema, t.Name}, func(row []driver.Value) error {
		t.Checks = append(t.Checks, text(row[0]))
		return nil
	})
}

const (
	sampleRows  = 1000 // rows among which samples are looked for
	sampleBytes = 100  // characters of a sample
)

// readSamples reads some values of each column that is not masked and not
// binary.
func (d *Database) readSamples(ctx context.Context, c *conn, t *engine.Description, samples int) error {
	if t.Type == "view" && d.options.Policy.Restricts() || systemSchemas[strings.ToLower(t.Schema)] {
		return nil // what it reads may not be for everybody
	}
	for i := range t.Columns {
		col := &t.Columns[i]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if col.Policy != "" || strings.Contains(col.Type, "blob") || strings.Contains(col.Type, "binary") || col.Values != nil {
			continue
		}
		name := quoteName(col.Name)
		err := c.query(fmt.Sprintf("SELECT DISTINCT LEFT(v, %d) FROM (SELECT CAST(%s AS CHAR) AS v FROM %s.%s LIMIT %d) AS s WHERE v IS NOT NULL LIMIT %d",
			sampleBytes, name, quoteName(t.Schema), quoteName(t.Name), sampleRows, samples), nil, func(row []driver.Value) error {
			col.Samples = append(col.Samples, text(row[0]))
			return nil
		})
		if number := numberOf(err); err != nil && (number == 0 || ctx.Err() != nil || c.dead()) {
			return err // else of this type, such as a geometry, there are none
		}
	}
	return nil
}
