package sqlserver

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

const (
	// maxComment is how much is told of a comment, in bytes.
	maxComment = 4 << 10
	// maxNames is how many names are looked at for those that are near another.
	maxNames = 5000
	// sampledRows is how many rows samples are taken from, and maxSample how
	// many characters a sample has.
	sampledRows = 100
	maxSample   = 100
)

func shown(comment string) string {
	comment, _ = result.Cut(comment, maxComment)
	return comment
}

// askTables asks for tables and views, in the order of their names, behind one.
const askTables = `
SELECT s.name, o.name, CASE WHEN t.is_external = 1 THEN 'foreign' WHEN o.type = 'U' THEN 'table'
		WHEN EXISTS (SELECT 1 FROM sys.indexes i WHERE i.object_id = o.object_id AND i.index_id = 1) THEN 'materialized_view' ELSE 'view' END,
	o.object_id,
	CASE WHEN @p4 = 1 THEN (SELECT COUNT(*) FROM sys.columns c WHERE c.object_id = o.object_id) END,
	CASE WHEN @p4 = 1 THEN (SELECT SUM(p.rows) FROM sys.partitions p WHERE p.object_id = o.object_id AND p.index_id IN (0, 1)) END,
	CASE WHEN @p4 = 1 THEN (SELECT CAST(e.value AS nvarchar(4000)) FROM sys.extended_properties e
		WHERE e.class = 1 AND e.major_id = o.object_id AND e.minor_id = 0 AND e.name = 'MS_Description') END
FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id LEFT JOIN sys.tables t ON t.object_id = o.object_id
WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 AND (@p1 = '' OR s.name = @p1)
	AND (s.name > @p2 OR s.name = @p2 AND o.name > @p3)
ORDER BY s.name, o.name`

// A found is a table as the catalog has it.
type found struct {
	engine.Table
	id int64
}

// Tables lists tables and views.
func (d *Database) Tables(ctx context.Context, who engine.Caller, f engine.Filter) (engine.Tables, error) {
	list := engine.Tables{Tables: []engine.Table{}}
	err := d.use(ctx, d.read, who, 0, func(ctx context.Context, q *session) error {
		var ids []int64
		detail := integer(0)
		if f.Detail != engine.Names {
			detail = integer(1)
		}
		err := q.each(ctx, askTables, params{text(f.Schema), text(f.After.Schema), text(f.After.Table), detail}, func(row []driver.Value) bool {
			t := readTable(row)
			if len(f.Kinds) > 0 && !slices.Contains(f.Kinds, t.Type) || !engine.Matches(f.Pattern, t.Name) ||
				!d.options.Policy.Readable(engine.Name{Schema: t.Schema, Table: t.Name}) {
				return true
			}
			if len(list.Tables) == f.Limit {
				list.More = true
				return false
			}
			list.Tables, ids = append(list.Tables, t.Table), append(ids, t.id)
			return true
		})
		if err != nil || f.Detail != engine.Full {
			return err
		}
		for i := range list.Tables {
			columns, err := q.columns(ctx, ids[i])
			if err != nil {
				return err
			}
			for _, c := range columns {
				list.Tables[i].Columns = append(list.Tables[i].Columns, c.Name+" "+c.Type)
			}
		}
		return nil
	})
	return list, err
}

func readTable(row []driver.Value) found {
	t := found{Table: engine.Table{Schema: str(row[0]), Name: str(row[1]), Type: str(row[2]), Comment: shown(str(row[6]))}, id: num(row[3])}
	if row[4] != nil {
		n := num(row[4])
		t.ColumnCount = &n
	}
	if row[5] != nil && t.Type != "view" {
		n := num(row[5])
		t.Estimate = &n
	}
	return t
}

// Describe describes a table or view. A name without a schema is looked for in
// the schema of the role first, as the server does.
func (d *Database) Describe(ctx context.Context, who engine.Caller, n engine.Name, samples int) (*engine.Description, error) {
	var told *engine.Description
	err := d.use(ctx, d.read, who, 0, func(ctx context.Context, q *session) error {
		t, err := d.find(ctx, q, n)
		if err != nil {
			return err
		}
		told, err = d.describe(ctx, q, t, samples)
		return err
	})
	if err != nil {
		return nil, err
	}
	return told, nil
}

// find finds a table by its name, whatever its case.
func (d *Database) find(ctx context.Context, q *session, n engine.Name) (found, error) {
	var fits []found
	var names []string
	err := q.each(ctx, askTables, params{text(n.Schema), text(""), text(""), integer(1)}, func(row []driver.Value) bool {
		t := readTable(row)
		if !d.options.Policy.Readable(engine.Name{Schema: t.Schema, Table: t.Name}) {
			return true
		}
		if strings.EqualFold(t.Name, n.Table) {
			fits = append(fits, t)
		} else if len(names) < maxNames {
			names = append(names, engine.Name{Schema: t.Schema, Table: t.Name}.String())
		}
		return true
	})
	if err != nil {
		return found{}, err
	}
	rank := func(t found) (rank int) {
		if strings.EqualFold(t.Schema, q.facts.one(factSchema)) {
			rank += 2
		}
		if t.Name == n.Table { // names that differ in case alone are others on some servers
			rank++
		}
		return rank
	}
	slices.SortStableFunc(fits, func(a, b found) int { return rank(b) - rank(a) })
	if len(fits) > 1 && rank(fits[0]) == rank(fits[1]) {
		e := &engine.Error{Code: engine.AmbiguousObject, Layer: engine.LayerInput, Message: fmt.Sprintf("several tables have the name %s", n), Next: "write the schema before the name"}
		for _, t := range fits {
			e.DidYouMean = append(e.DidYouMean, t.Schema+"."+t.Name)
		}
		return found{}, e
	}
	if len(fits) > 0 {
		return fits[0], nil
	}
	return found{}, &engine.Error{Code: engine.UnknownObject, Layer: engine.LayerInput, Message: fmt.Sprintf("no such table: %s", n),
		DidYouMean: engine.Near(n.String(), names), Next: "call list_tables for the names of tables"}
}

func (d *Database) describe(ctx context.Context, q *session, t found, samples int) (*engine.Description, error) {
	told := &engine.Description{Schema: t.Schema, Name: t.Name, Type: t.Type, Comment: t.Comment, Estimate: t.Estimate,
		Columns: []engine.Column{}, ForeignKeys: []engine.Key{}, ReferencedBy: []engine.Key{}, Indexes: []engine.Index{}}
	columns, err := q.columns(ctx, t.id)
	if err != nil {
		return nil, err
	}
	policy := &d.options.Policy
	for i := range columns {
		columns[i].Policy = string(policy.MaskOf(engine.Name{Schema: t.Schema, Table: t.Name}, columns[i].Name))
	}
	told.Columns = append(told.Columns, columns...)
	if err := q.keys(ctx, t, &told.ForeignKeys, "parent", "referenced", policy); err != nil {
		return nil, err
	}
	if err := q.keys(ctx, t, &told.ReferencedBy, "referenced", "parent", policy); err != nil {
		return nil, err
	}
	if err := q.indexes(ctx, t, told); err != nil {
		return nil, err
	}
	err = q.each(ctx, `SELECT definition FROM sys.check_constraints WHERE parent_object_id = @p1 ORDER BY name`, params{integer(t.id)}, func(row []driver.Value) bool {
		told.Checks = append(told.Checks, str(row[0]))
		return true
	})
	if err != nil || samples <= 0 {
		return told, err
	}
	return told, q.sample(ctx, t, told, samples)
}

// columns returns the columns of a table.
func (q *session) columns(ctx context.Context, id int64) ([]engine.Column, error) {
	var list []engine.Column
	err := q.each(ctx, `
SELECT c.name, TYPE_NAME(c.user_type_id), c.max_length, c.precision, c.scale, c.is_nullable, d.definition, c.is_computed,
	(SELECT k.key_ordinal FROM sys.index_columns k JOIN sys.indexes i ON i.object_id = k.object_id AND i.index_id = k.index_id
		WHERE i.object_id = c.object_id AND i.is_primary_key = 1 AND k.column_id = c.column_id),
	(SELECT CAST(e.value AS nvarchar(4000)) FROM sys.extended_properties e
		WHERE e.class = 1 AND e.major_id = c.object_id AND e.minor_id = c.column_id AND e.name = 'MS_Description')
FROM sys.columns c LEFT JOIN sys.default_constraints d ON d.object_id = c.default_object_id
WHERE c.object_id = @p1 ORDER BY c.column_id`, params{integer(id)}, func(row []driver.Value) bool {
		c := engine.Column{Name: str(row[0]), Type: declared(str(row[1]), num(row[2]), num(row[3]), num(row[4])), Nullable: flag(row[5]),
			Generated: flag(row[7]), PrimaryKey: num(row[8]), Comment: shown(str(row[9]))}
		if row[6] != nil {
			def := str(row[6])
			c.Default = &def
		}
		list = append(list, c)
		return true
	})
	return list, err
}

// declared is a type as it is written in CREATE TABLE, of what sys.columns says
// of it.
func declared(name string, length, precision, scale int64) string {
	switch name {
	case "nchar", "nvarchar":
		if length > 0 {
			length /= 2 // bytes
		}
		fallthrough
	case "char", "varchar", "binary", "varbinary":
		if length < 0 {
			return name + "(max)"
		}
		return fmt.Sprintf("%s(%d)", name, length)
	case "decimal", "numeric":
		return fmt.Sprintf("%s(%d,%d)", name, precision, scale)
	case "datetime2", "datetimeoffset", "time":
		return fmt.Sprintf("%s(%d)", name, scale)
	}
	return name
}

// keys reads foreign keys: those in which the table is on one side, with the
// table on the other.
func (q *session) keys(ctx context.Context, t found, to *[]engine.Key, side, other string, policy *engine.Policy) error {
	last, shown := int64(0), false
	return q.each(ctx, fmt.Sprintf(`
SELECT k.object_id, OBJECT_SCHEMA_NAME(k.%[2]s_object_id), OBJECT_NAME(k.%[2]s_object_id),
	COL_NAME(c.parent_object_id, c.parent_column_id), COL_NAME(c.referenced_object_id, c.referenced_column_id)
FROM sys.foreign_keys k JOIN sys.foreign_key_columns c ON c.constraint_object_id = k.object_id
WHERE k.%[1]s_object_id = @p1 ORDER BY k.name, k.object_id, c.constraint_column_id`, side, other), params{integer(t.id)}, func(row []driver.Value) bool {
		if id := num(row[0]); id != last {
			last = id
			table := engine.Name{Schema: str(row[1]), Table: str(row[2])}
			if shown = policy.Readable(table); !shown {
				return true
			}
			if table.Schema == t.Schema {
				table.Schema = ""
			}
			*to = append(*to, engine.Key{Table: table.String(), Columns: []string{}, Referenced: []string{}})
		} else if !shown {
			return true
		}
		k := &(*to)[len(*to)-1]
		k.Columns, k.Referenced = append(k.Columns, str(row[3])), append(k.Referenced, str(row[4]))
		return true
	})
}

func (q *session) indexes(ctx context.Context, t found, to *engine.Description) error {
	last := ""
	return q.each(ctx, `
SELECT i.name, i.is_unique, i.has_filter, COL_NAME(k.object_id, k.column_id)
FROM sys.indexes i JOIN sys.index_columns k ON k.object_id = i.object_id AND k.index_id = i.index_id
WHERE i.object_id = @p1 AND i.index_id > 0 AND k.is_included_column = 0 ORDER BY i.name, k.key_ordinal`, params{integer(t.id)}, func(row []driver.Value) bool {
		if name := str(row[0]); name != last {
			last = name
			to.Indexes = append(to.Indexes, engine.Index{Name: name, Unique: flag(row[1]), Partial: flag(row[2])})
		}
		column := str(row[3])
		i := &to.Indexes[len(to.Indexes)-1]
		i.Columns = append(i.Columns, &column)
		return true
	})
}

// unsampled are types whose values are large or no text.
var unsampled = wordSet(`BINARY GEOGRAPHY GEOMETRY HIERARCHYID IMAGE NTEXT ROWVERSION SQL_VARIANT TEXT TIMESTAMP VARBINARY XML`)

// sample adds some values to the columns that nothing hides.
func (q *session) sample(ctx context.Context, t found, to *engine.Description, most int) error {
	var list []string
	var columns []*engine.Column
	for i := range to.Columns {
		c := &to.Columns[i]
		base, _, _ := strings.Cut(c.Type, "(")
		if c.Policy == "" && !unsampled[strings.ToUpper(base)] {
			list = append(list, fmt.Sprintf("CAST(%s AS nvarchar(%d))", quoteName(c.Name), maxSample))
			columns = append(columns, c)
		}
	}
	if len(list) == 0 {
		return nil
	}
	sql := fmt.Sprintf("SELECT TOP (%d) %s FROM %s.%s", sampledRows, strings.Join(list, ", "), quoteName(t.Schema), quoteName(t.Name))
	return q.each(ctx, sql, nil, func(row []driver.Value) bool {
		for i, c := range columns {
			if v := str(row[i]); v != "" && len(c.Samples) < most && !slices.Contains(c.Samples, v) {
				c.Samples = append(c.Samples, v)
			}
		}
		return true
	})
}

// near returns the names that a caller may have meant: those of columns of the
// tables that a statement names, or of tables.
func (d *Database) near(ctx context.Context, q *session, stmt *statement, column bool) ([]string, error) {
	sql := `SELECT s.name, o.name, CAST(NULL AS sysname) FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id`
	if column {
		sql = `SELECT s.name, o.name, c.name FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id JOIN sys.columns c ON c.object_id = o.object_id`
	}
	named := map[string]bool{}
	for _, n := range stmt.chains() {
		named[strings.ToUpper(n.Table)] = true
	}
	var names []string
	err := q.each(ctx, sql+` WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0`, nil, func(row []driver.Value) bool {
		n := engine.Name{Schema: str(row[0]), Table: str(row[1])}
		switch {
		case !d.options.Policy.Readable(n):
		case !column:
			names = append(names, n.Table)
		case named[strings.ToUpper(n.Table)]:
			names = append(names, str(row[2]))
		}
		return len(names) < maxNames
	})
	return slices.Compact(slices.Sorted(slices.Values(names))), err
}
