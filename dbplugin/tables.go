package dbplugin

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A TableList is the answer of ListTables.
type TableList struct {
	Answer
	Tables     []Table
	Count      int    // of the tables there are, where the server says; otherwise of Tables
	Truncated  bool   // there are more than Tables has
	NextCursor string // for ListOptions.Cursor; empty if there are no more, or no way to ask
}

// A Table is a table or view in a list.
type Table struct {
	Schema       string // empty if the server does not say, or has it in Name
	Name         string
	Type         string // such as table or view; empty if the server does not say
	Columns      int    // zero if the server does not say
	RowsEstimate *int64 // nil if not known
	Comment      string
}

// ListOptions say which tables to list. What a server cannot choose by is
// [ErrUnsupported].
type ListOptions struct {
	Pattern string // of names, as the server has it: mcpool * and ?, DBHub % and _
	Schema  string // empty for those that the server lists by itself
	Detail  string // names, summary or full, on mcpool; empty for what it does by itself
	Limit   int    // most tables; zero for as many as the server sends
	Cursor  string // NextCursor of the page before
}

// ListTables returns the tables and views of the database. Nil options list
// all that the server lists by itself. On Postgres MCP Pro it costs a call for
// each schema and kind, on DBHub one for each kind.
func (p *Plugin) ListTables(ctx context.Context, options *ListOptions) (TableList, error) {
	var o ListOptions
	if options != nil {
		o = *options
	}
	if o.Limit < 0 {
		return TableList{}, fmt.Errorf("dbplugin: Limit is %d: want a number of tables, 1 or more, or 0 for all", o.Limit)
	}
	return p.tableList(ctx, "", o)
}

// maxSchemas bounds how many schemas are asked for, one by one, where the
// server lists the tables of one at a time.
const maxSchemas = 50

func (p *Plugin) tableList(ctx context.Context, database string, o ListOptions) (TableList, error) {
	s, err := p.site(ctx, database)
	if err != nil {
		return TableList{}, err
	}
	var list TableList
	schemas := []string{o.Schema}
	if o.Schema == "" && s.ListSchemas.Name != "" {
		if schemas, list.Truncated, err = p.schemas(ctx, database); err != nil {
			return list, err
		}
	}
	for _, schema := range schemas {
		for _, kind := range s.ListTables.kinds() {
			a := arguments{"pattern": o.Pattern, "detail": o.Detail, "cursor": o.Cursor, "kind": kind}
			s.ListTables.addSchema(a, schema)
			if o.Limit > 0 {
				a["limit"] = o.Limit
			}
			answer, err := p.call(ctx, listTables, database, a)
			if err != nil {
				return list, err
			}
			if err := list.add(answer, s.ListTables.Name, kind); err != nil {
				return list, err
			}
		}
	}
	if o.Limit > 0 && len(list.Tables) > o.Limit {
		list.Tables, list.Truncated = list.Tables[:o.Limit], true
	}
	return list, nil
}

// kinds are what a tool is called with, one after the other: an empty one for
// a tool that takes none.
func (t Tool) kinds() []string {
	if t.has("kind") {
		return []string{"table", "view"}
	}
	return []string{""}
}

// addSchema adds a schema as the tool takes it.
func (t Tool) addSchema(a arguments, schema string) {
	if schema != "" && t.has("schemas") {
		a["schemas"] = []string{schema}
		return
	}
	a["schema"] = schema
}

// schemas returns the schemas that are not the engine's own, and whether there
// are more.
func (p *Plugin) schemas(ctx context.Context, database string) (names []string, more bool, err error) {
	answer, err := p.call(ctx, listSchemas, database, nil)
	if err != nil {
		return nil, false, err
	}
	tool := answer.from.site.ListSchemas.Name
	v, err := answer.value(tool)
	if err != nil {
		return nil, false, err
	}
	list, _ := v.([]any)
	for _, e := range list {
		o, _ := e.(object)
		name, _ := e.(string)
		if o != nil {
			name = o.text("schema_name", "name")
		}
		if strings.HasPrefix(strings.ToLower(o.text("schema_type")), "system") {
			continue
		}
		if name == "" {
			return nil, false, anotherForm(tool, errors.New("a schema has no name"))
		}
		if len(names) == maxSchemas {
			return names, true, nil
		}
		names = append(names, name)
	}
	return names, false, nil
}

// add adds an answer to the list.
func (l *TableList) add(answer Answer, tool, kind string) error {
	if l.Text == "" {
		l.Answer = answer
	} else {
		l.Raw, l.Text = nil, l.Text+"\n"+answer.Text
	}
	v, err := answer.value(tool)
	if err != nil {
		return err
	}
	return l.read(v, kind, tool)
}

func (l *TableList) read(v any, kind, tool string) error {
	var about object
	for {
		o, ok := v.(object)
		if !ok {
			break
		}
		about = append(o[:len(o):len(o)], about...)
		if v = o.get("tables", "results", "items", "data", "result"); v == nil {
			return anotherForm(tool, errors.New("it has no tables"))
		}
	}
	list, ok := v.([]any)
	if !ok {
		return anotherForm(tool, errors.New("it has no tables"))
	}
	for _, e := range list {
		t, err := readTable(e)
		if err != nil {
			return anotherForm(tool, err)
		}
		if t.Type == "" {
			t.Type = kind
		}
		l.Tables = append(l.Tables, t)
	}
	if n := about.integer("table_count", "total"); n != nil {
		l.Count += int(*n)
	} else {
		l.Count += len(list)
	}
	truncated, _ := about.flag("truncated")
	l.NextCursor = about.text("next_cursor")
	l.Truncated = l.Truncated || truncated || l.NextCursor != ""
	return nil
}

func readTable(v any) (Table, error) {
	if name, ok := v.(string); ok && name != "" {
		return Table{Name: name}, nil
	}
	o, _ := v.(object)
	o = o.details()
	t := Table{
		Schema:       o.text("schema", "schema_name", "table_schema"),
		Name:         o.text("name", "table_name", "object_name", ""), // "": MssqlMcp, whose column has no name
		Type:         strings.TrimPrefix(strings.ToLower(o.text("type", "object_type", "table_type")), "base "),
		RowsEstimate: o.integer("rows_estimate", "row_count", "rows"),
		Comment:      o.text("comment", "description"),
	}
	if n := o.integer("columns", "column_count"); n != nil {
		t.Columns = int(*n)
	}
	if t.Name == "" {
		return t, errors.New("a table has no name")
	}
	return t, nil
}

// details returns what MCP Toolbox says of a table: an object, or on MySQL its
// JSON, beside the names.
func (o object) details() object {
	details, _ := o.get("object_details").(object)
	if text := o.text("object_details"); text != "" {
		v, _ := readJSON(text) // one in another form says nothing
		details, _ = v.(object)
	}
	return append(o[:len(o):len(o)], details...)
}

// tsv renders the list as a model reads it with the fewest tokens.
func (l *TableList) tsv() string {
	t := newTable()
	for _, name := range []string{"name", "type", "rows_estimate", "comment"} {
		t.cell(name)
	}
	t.end()
	for _, one := range l.Tables {
		t.cell(one.qualified())
		t.cell(one.Type)
		if one.RowsEstimate == nil {
			t.cell(nil)
		} else {
			t.cell(*one.RowsEstimate)
		}
		t.cell(one.Comment)
		t.end()
	}
	if l.Truncated {
		t.notice("there are more tables")
	}
	return t.String()
}

// qualified is the name with its schema.
func (t *Table) qualified() string {
	if t.Schema == "" {
		return t.Name
	}
	return t.Schema + "." + t.Name
}
