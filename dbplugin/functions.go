package dbplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/jsonschema-go/jsonschema"
)

// A Function is a function for a language model to call.
type Function struct {
	Name        string
	Description string
	Parameters  json.RawMessage // JSON schema of the arguments, an object

	schema *jsonschema.Resolved
	call   func(ctx context.Context, a functionArguments) (text string, err error)
}

// functionArguments are those of all functions.
type functionArguments struct {
	Database  string            `json:"database"`
	TableName string            `json:"table_name"`
	Query     string            `json:"query"`
	Params    []json.RawMessage `json:"params"`
	Limit     float64           `json:"limit"` // an integer, which JSON may write as 1e2
	Handle    string            `json:"handle"`
	Token     string            `json:"token"`
}

// params are those for a tool, nil for none.
func (a functionArguments) params() any {
	if len(a.Params) == 0 {
		return nil
	}
	return a.Params
}

// Functions returns the functions that the server has tools for, of
// list_database_tables, describe_table_schema, execute_sql_query,
// fetch_more_rows, explain_sql_query, get_database_info and, with
// Options.Write, execute_sql_write. It lists the tools if nothing has yet; the
// errors are those of that.
func (p *Plugin) Functions(ctx context.Context) ([]Function, error) {
	l, err := p.listing(ctx, nil)
	if err != nil {
		return nil, err
	}
	s, databases, err := p.forModel(l)
	if err != nil {
		return nil, err
	}
	var all []Function
	for _, d := range definitions {
		if d.write && !p.options.Write {
			continue
		}
		if t := d.of.tool(&s.Profile); t.Name != "" {
			all = append(all, p.function(d, t, databases))
		}
	}
	return all, nil
}

// forModel returns the site that definitions are made of, and the databases
// among which the model chooses, nil for none.
func (p *Plugin) forModel(l *listing) (site, []string, error) {
	if p.options.Database != "" {
		s, err := l.pick(p.options.Server, p.options.Database)
		return s, nil, err
	}
	all, err := l.of(p.options.Server)
	if err != nil {
		return site{}, nil, err
	}
	if len(all) == 1 {
		return all[0], all[0].ReadData.choices, nil
	}
	var ids []string
	for _, s := range all {
		ids = append(ids, s.id)
	}
	return all[0], ids, nil
}

// A definition is a function for one operation.
type definition struct {
	of          operation
	name        string
	description string
	parameters  []string // those that there may be
	required    []string
	write       bool
	call        func(p *Plugin, ctx context.Context, a functionArguments) (string, error)
}

var definitions = []definition{
	{of: listTables, name: "list_database_tables",
		description: "List the tables and views. Call this first.",
		parameters:  []string{"database"},
		call:        (*Plugin).listForModel},
	{of: describeTable, name: "describe_table_schema",
		description: "Describe a table: columns, keys, indexes.",
		parameters:  []string{"database", "table_name"}, required: []string{"table_name"},
		call: (*Plugin).describeForModel},
	{of: readData, name: "execute_sql_query",
		description: "Run one SQL statement that reads and return its first rows. Aggregate and filter in SQL rather than reading many rows.",
		parameters:  []string{"database", "query", "params", "limit"}, required: []string{"query"},
		call: (*Plugin).readForModel},
	{of: fetchRows, name: "fetch_more_rows",
		description: "Return the next rows of a result that had more.",
		parameters:  []string{"handle", "limit"}, required: []string{"handle"},
		call: (*Plugin).fetchForModel},
	{of: explainQuery, name: "explain_sql_query",
		description: "Tell how the database would run a statement, without running it.",
		parameters:  []string{"database", "query", "params"}, required: []string{"query"},
		call: (*Plugin).explainForModel},
	{of: databaseInfo, name: "get_database_info",
		description: "Tell the database's engine, version and state.",
		parameters:  []string{"database"},
		call:        (*Plugin).infoForModel},
	{of: writeData, name: "execute_sql_write", write: true,
		description: "Write in two steps: without token, tell how many rows the statement would affect, and a token; with that token and the same statement, do it.",
		parameters:  []string{"database", "query", "params", "token"}, required: []string{"query"},
		call: (*Plugin).writeForModel},
}

// parameter is the schema of a parameter of functions.
func (p *Plugin) parameter(name string, databases []string) string {
	switch name {
	case "database":
		choices, err := json.Marshal(databases)
		if err != nil {
			panic(fmt.Sprintf("BUG: names of databases: %v", err))
		}
		return fmt.Sprintf(`{"type": "string", "enum": %s}`, choices)
	case "table_name":
		return `{"type": "string", "minLength": 1, "description": "Name from list_database_tables"}`
	case "query":
		return `{"type": "string", "minLength": 1, "description": "One SQL statement"}`
	case "params":
		return `{"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}, "description": "Values for its placeholders"}`
	case "limit":
		return fmt.Sprintf(`{"type": "integer", "minimum": 1, "maximum": 1000000, "default": %d, "description": "Most rows to return"}`, p.options.DefaultLimit)
	case "handle":
		return `{"type": "string", "minLength": 1}`
	case "token":
		return `{"type": "string", "description": "From the first step"}`
	}
	panic("BUG: no parameter " + name)
}

// function makes a function of a definition for the tool that there is for it.
func (p *Plugin) function(d definition, t *Tool, databases []string) Function {
	properties := map[string]json.RawMessage{}
	required := d.required
	for _, name := range d.parameters {
		if name == "database" && databases == nil || name == "params" && !t.has("params") {
			continue
		}
		properties[name] = json.RawMessage(p.parameter(name, databases))
		if name == "database" {
			required = append([]string{name}, required...)
		}
	}
	if d.of.name == readData.name && t.readOnly {
		d.description = "Run one read-only SQL statement and return its first rows. Aggregate and filter in SQL rather than reading many rows."
	}
	encoded, err := json.Marshal(properties)
	schema := jsonschema.Schema{Type: "object", Required: required, AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	unmarshalErr := json.Unmarshal(encoded, &schema.Properties)
	parameters, marshalErr := json.Marshal(&schema)
	resolved, resolveErr := schema.Resolve(nil)
	if err := errors.Join(err, unmarshalErr, marshalErr, resolveErr); err != nil {
		panic(fmt.Sprintf("BUG: parameters of %s: %v", d.name, err))
	}
	return Function{Name: d.name, Description: d.description, Parameters: parameters, schema: resolved,
		call: func(ctx context.Context, a functionArguments) (string, error) { return d.call(p, ctx, a) }}
}
