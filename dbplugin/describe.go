package dbplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A TableDescription is the answer of DescribeTable.
type TableDescription struct {
	Answer
	Schema       string // empty if the server does not say
	Name         string
	Type         string // such as table or view; empty if the server does not say
	Comment      string
	RowsEstimate *int64 // nil if not known
	Columns      []ColumnDescription
	ForeignKeys  []ForeignKey
	ReferencedBy []ForeignKey // mcpool alone says
	Indexes      []Index
	Notices      []string // what the server could not find out
}

// A ColumnDescription is a column of a table.
type ColumnDescription struct {
	Name       string
	Type       string  // as declared
	Nullable   bool    // also where the server does not say
	Default    *string // an SQL expression, nil for none
	PrimaryKey int     // position in the primary key from 1, 0 if not in it, or the server does not say
	Generated  bool
	Comment    string
}

// A ForeignKey relates two tables.
type ForeignKey struct {
	Table             string // the other table; empty if the server does not say
	Columns           []string
	ReferencedColumns []string
}

// An Index is an index of a table.
type Index struct {
	Name    string
	Columns []string // empty for an expression; nil if the server does not say
	Unique  bool
	Partial bool // it has only rows that fulfil a condition
}

// DescribeTable returns the columns, keys and indexes of a table or view, as
// far as the server tells them. The name may have a schema, SCHEMA.TABLE. One
// that is not there is a [*ToolError].
func (p *Plugin) DescribeTable(ctx context.Context, name string) (TableDescription, error) {
	return p.describe(ctx, "", name)
}

// DescribeTables describes several tables: with one call where the server
// takes several names, and with one after the other elsewhere. With an error
// come those before it.
func (p *Plugin) DescribeTables(ctx context.Context, names ...string) ([]TableDescription, error) {
	s, err := p.site(ctx, "")
	if err != nil {
		return nil, err
	}
	var all []TableDescription
	if !s.DescribeTable.has("table_names") || len(names) < 2 {
		for _, name := range names {
			d, err := p.describe(ctx, "", name)
			if err != nil {
				return all, err
			}
			all = append(all, d)
		}
		return all, nil
	}
	answer, err := p.call(ctx, describeTable, "", arguments{"table_names": names})
	if err != nil {
		return nil, err
	}
	tool := answer.from.site.DescribeTable.Name
	v, err := answer.value(tool)
	if err != nil {
		return nil, err
	}
	for _, o := range descriptions(v) {
		d, err := readDescription(o)
		if err != nil {
			return all, anotherForm(tool, err)
		}
		d.Answer = answer
		all = append(all, d)
	}
	return all, nil
}

// defaultSchema is where PostgreSQL looks first: for Postgres MCP Pro, which
// alone wants a schema.
const defaultSchema = "public"

func (p *Plugin) describe(ctx context.Context, database, name string) (TableDescription, error) {
	s, err := p.site(ctx, database)
	if err != nil {
		return TableDescription{}, err
	}
	t := s.DescribeTable
	schema, bare := "", name
	if i := strings.LastIndexByte(name, '.'); i >= 0 && !t.has("table_name") {
		schema, bare = name[:i], name[i+1:]
	}
	if schema == "" && slices.Contains(t.required, "schema") {
		schema = defaultSchema
	}
	d := TableDescription{}
	for _, kind := range t.kinds() {
		a := arguments{"kind": kind}
		for _, argument := range []string{"table_name", "table"} {
			if t.has(argument) {
				a[argument] = bare
			}
		}
		if t.has("schema") || t.has("schemas") {
			t.addSchema(a, schema)
		}
		answer, err := p.call(ctx, describeTable, database, a)
		if err != nil {
			return d, err
		}
		d = TableDescription{Answer: answer}
		v, err := answer.value(t.Name)
		if err != nil {
			return d, err
		}
		all := descriptions(v)
		found, err := choose(all, schema, bare)
		if err != nil {
			return d, &ToolError{Tool: t.Name, Code: "AMBIGUOUS_OBJECT", Message: err.Error(), Text: answer.Text}
		}
		if found == nil && t.has("table_name") && len(all) == 1 {
			found = all[0] // the server knows the table by the name it was given
		}
		if found == nil {
			continue
		}
		if d, err = readDescription(found); err != nil {
			err = anotherForm(t.Name, err)
		}
		d.Answer = answer
		if d.Name == "" {
			d.Name = bare
		}
		if d.Type == "" {
			d.Type = kind
		}
		return d, err
	}
	return d, &ToolError{Tool: t.Name, Code: "UNKNOWN_OBJECT", Message: fmt.Sprintf("there is no table %s", name), Text: d.Text}
}

// descriptions returns the tables that an answer describes.
func descriptions(v any) []object {
	o, ok := v.(object)
	for ok {
		inner := o.get("data", "tables", "results", "result")
		if inner == nil {
			if len(o.list("columns")) == 0 {
				return nil
			}
			return []object{o.headed()}
		}
		v = inner
		o, ok = v.(object)
	}
	list, _ := v.([]any)
	all := objects(list)
	for i, o := range all {
		all[i] = o.details()
	}
	if len(all) > 0 && all[0].get("type", "data_type") != nil && all[0].list("columns") == nil {
		return []object{{{"columns", list}}} // reference SQLite: PRAGMA table_info
	}
	return all
}

// headed returns a description with the members of what stands at its head in
// the answers of Postgres MCP Pro and MssqlMcp (.NET).
func (o object) headed() object {
	head, _ := o.get("basic", "table").(object)
	return append(head[:len(head):len(head)], o...)
}

// choose returns the description of a table, nil if there is none. A server
// that looks for a pattern, or sends all tables, describes others, too.
func choose(all []object, schema, bare string) (object, error) {
	var found []object
	var names []string
	for _, o := range all {
		t, err := readTable(o)
		switch {
		case err != nil && len(all) == 1: // it says no name
			return o, nil
		case t.Name == bare, schema == "" && strings.HasSuffix(t.Name, "."+bare),
			schema != "" && t.qualified() == schema+"."+bare, strings.EqualFold(t.Name, bare) && len(all) == 1:
		default:
			continue
		}
		if schema != "" && t.Schema != "" && t.Schema != schema {
			continue
		}
		found, names = append(found, o), append(names, t.qualified())
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("there are several: %s", strings.Join(names, ", "))
}

func readDescription(o object) (TableDescription, error) {
	about, err := readTable(o)
	if err != nil {
		about = Table{} // where it is known which table was asked for
	}
	d := TableDescription{Schema: about.Schema, Name: about.Name, Type: about.Type, Comment: about.Comment, RowsEstimate: about.RowsEstimate,
		Notices: o.texts("notices")}
	for _, c := range objects(o.list("columns")) {
		column := readColumn(c)
		if column.Name == "" {
			return d, errors.New("a column has no name")
		}
		if is, _ := c.flag("is_primary_key"); is {
			column.PrimaryKey = 1
			for _, before := range d.Columns {
				column.PrimaryKey += min(before.PrimaryKey, 1)
			}
		}
		d.Columns = append(d.Columns, column)
	}
	d.primaryKey(o.texts("primary_keys"))
	for _, k := range objects(o.list("foreign_keys", "foreign_key_constraints", "foreignKeys")) {
		d.ForeignKeys = append(d.ForeignKeys, readForeignKey(k))
	}
	for _, k := range objects(o.list("referenced_by")) {
		d.ReferencedBy = append(d.ReferencedBy, readForeignKey(k))
	}
	for _, i := range objects(o.list("indexes")) {
		index := Index{Name: i.text("name", "index_name"), Columns: i.texts("columns", "index_columns", "keys")}
		index.Unique, _ = i.flag("unique", "is_unique")
		index.Unique = index.Unique || strings.HasPrefix(i.text("definition"), "CREATE UNIQUE ") || strings.Contains(" "+i.text("type")+" ", " UNIQUE ")
		index.Partial, _ = i.flag("partial")
		d.Indexes = append(d.Indexes, index)
		if is, _ := i.flag("primary", "is_primary"); is {
			d.primaryKey(index.Columns)
		}
	}
	for _, c := range objects(o.list("constraints")) {
		columns := c.texts("constraint_columns", "columns", "keys")
		switch kind := c.text("constraint_type", "type"); {
		case strings.HasPrefix(kind, "PRIMARY"):
			d.primaryKey(columns)
		case kind == "FOREIGN KEY":
			d.ForeignKeys = append(d.ForeignKeys, ForeignKey{c.text("foreign_key_referenced_table"), columns, c.texts("foreign_key_referenced_columns")})
		}
	}
	return d, nil
}

// primaryKey says which columns the primary key has, unless that is known.
func (d *TableDescription) primaryKey(columns []string) {
	if slices.ContainsFunc(d.Columns, func(c ColumnDescription) bool { return c.PrimaryKey > 0 }) {
		return
	}
	for i := range d.Columns {
		d.Columns[i].PrimaryKey = slices.Index(columns, d.Columns[i].Name) + 1
	}
}

func readColumn(o object) ColumnDescription {
	c := ColumnDescription{
		Name:     o.text("name", "column_name", "column"),
		Type:     o.text("type", "data_type"),
		Nullable: true,
		Comment:  o.text("comment", "column_comment", "description"),
	}
	options := o.texts("options") // Supabase
	if is, told := o.flag("nullable", "is_nullable"); told {
		c.Nullable = is
	} else if not, told := o.flag("notnull", "is_not_nullable"); told {
		c.Nullable = !not
	} else if o.get("options") != nil {
		c.Nullable = slices.Contains(options, "nullable")
	}
	switch v := o.get("default", "column_default", "dflt_value", "default_value").(type) {
	case string:
		c.Default = &v
	case json.Number:
		text := v.String()
		c.Default = &text
	}
	if n := o.integer("primary_key", "pk"); n != nil {
		c.PrimaryKey = int(*n)
	}
	c.Generated, _ = o.flag("generated")
	c.Generated = c.Generated || slices.Contains(options, "generated")
	return c
}

func readForeignKey(o object) ForeignKey {
	return ForeignKey{
		Table:             o.text("table", "target_table", "referenced_table"),
		Columns:           o.texts("columns", "source_columns", "column_name"),
		ReferencedColumns: o.texts("referenced_columns", "target_columns", "referenced_column"),
	}
}
