package dbplugin

import (
	"fmt"
	"slices"
	"strings"
)

// A Profile says which tools a database server has and how they are called.
// A zero Tool is one that it has not.
type Profile struct {
	Name string // of the server, for errors

	ListTables, DescribeTable, ReadData, FetchRows, ExplainQuery, DatabaseInfo, WriteData Tool
	// ListSchemas is called first where ListTables wants a schema and none is
	// given.
	ListSchemas Tool

	// RowBlocks says that each text block of an answer is a row, or another
	// item of a list, as JSON. Otherwise an answer is structuredContent, or text
	// that is JSON or a Python literal.
	RowBlocks bool

	// told says that the server writes the text of its answers for models.
	told bool
}

// A Tool is a tool of a server.
type Tool struct {
	Name string
	// Arguments are the arguments that it takes, by what they are here:
	//
	//	query        one SQL statement
	//	params       what is bound to its placeholders
	//	limit        most rows
	//	table_name   a table, with its schema if the caller gave it
	//	table        a table without its schema
	//	table_names  several tables, a list
	//	schema       a schema
	//	schemas      a list of one schema
	//	kind         "table" or "view": called with each
	//	pattern, detail, cursor   of a list of tables, as mcpool has them
	//	handle       of a result that has more rows
	//	token        of a write that was previewed
	//	database     a database of several
	//
	// A server that takes no limit sends everything; what else it does not take
	// is ErrUnsupported when a caller gives it.
	Arguments map[string]string
	// Fixed are arguments that are always sent.
	Fixed map[string]any

	required []string // of Arguments, by what they are here
	readOnly bool     // the server says that it only reads
	choices  []string // what it can have as database, if the server says
}

// argumentNames are what Arguments can have.
var argumentNames = []string{"query", "params", "limit", "table_name", "table", "table_names", "schema", "schemas",
	"kind", "pattern", "detail", "cursor", "handle", "token", "database"}

// has reports whether a tool takes an argument.
func (t Tool) has(argument string) bool { return t.Arguments[argument] != "" }

// An operation is what a server is asked to do.
type operation struct {
	name  string // in errors: the server has no tool to …
	tool  func(*Profile) *Tool
	needs []string // arguments without which a tool is none for it; a|b is either
}

var (
	listTables    = operation{"list tables", func(p *Profile) *Tool { return &p.ListTables }, nil}
	listSchemas   = operation{"list schemas", func(p *Profile) *Tool { return &p.ListSchemas }, nil}
	describeTable = operation{"describe a table", func(p *Profile) *Tool { return &p.DescribeTable }, []string{"table_name|table|schemas"}}
	readData      = operation{"read data", func(p *Profile) *Tool { return &p.ReadData }, []string{"query"}}
	fetchRows     = operation{"fetch more rows", func(p *Profile) *Tool { return &p.FetchRows }, []string{"handle"}}
	explainQuery  = operation{"explain a query", func(p *Profile) *Tool { return &p.ExplainQuery }, []string{"query"}}
	databaseInfo  = operation{"tell about the database", func(p *Profile) *Tool { return &p.DatabaseInfo }, nil}
	writeData     = operation{"write data after a preview", func(p *Profile) *Tool { return &p.WriteData }, []string{"query", "token"}}

	operations = []operation{listTables, listSchemas, describeTable, readData, fetchRows, explainQuery, databaseInfo, writeData}
)

// served reports whether a tool has the arguments that an operation needs.
func (o operation) served(t *Tool) bool {
	return !slices.ContainsFunc(o.needs, func(need string) bool {
		return !slices.ContainsFunc(strings.Split(need, "|"), t.has)
	})
}

// check refuses a profile that cannot work.
func (p *Profile) check() error {
	for _, o := range operations {
		t := o.tool(p)
		if t.Name == "" {
			continue
		}
		for name := range t.Arguments {
			if !slices.Contains(argumentNames, name) {
				return fmt.Errorf("dbplugin: profile %s: tool %s: unknown argument %q: want one of %s", p.Name, t.Name, name, strings.Join(argumentNames, ", "))
			}
		}
		if !o.served(t) {
			return fmt.Errorf("dbplugin: profile %s: tool %s: to %s needs the argument %s", p.Name, t.Name, o.name, strings.Join(o.needs, " and "))
		}
	}
	if p.ReadData.Name == "" && p.ListTables.Name == "" && p.DescribeTable.Name == "" {
		return fmt.Errorf("dbplugin: profile %q has no tool", p.Name)
	}
	return nil
}

// tool makes a Tool of pairs of arguments: ours=theirs, where theirs can be one
// of several, a|b, or one name for both.
func tool(name string, pairs ...string) Tool {
	t := Tool{Name: name, Arguments: map[string]string{}}
	for _, pair := range pairs {
		ours, theirs, ok := strings.Cut(pair, "=")
		if !ok {
			theirs = ours
		}
		t.Arguments[ours] = theirs
	}
	return t
}

// fixed has an argument always sent.
func (t Tool) fixed(name string, value any) Tool {
	t.Fixed = map[string]any{name: value}
	return t
}

// profiles are those that are tried, in order: the first whose mark and
// ReadData the server has.
var profiles = []struct {
	mark   string // a tool that tells the server from others
	suffix bool   // tools may end with _ID, one set for each database
	Profile
}{
	{mark: "list_tables", Profile: Profile{
		// Also what other servers with these names have of it.
		Name: "mcpool", told: true,
		ListTables:    tool("list_tables", "database", "pattern", "schema", "detail", "limit", "cursor"),
		DescribeTable: tool("describe_table", "database", "table_name", "table_names"),
		ReadData:      tool("read_data", "database", "query", "params", "limit"),
		FetchRows:     tool("fetch_rows", "handle", "limit"),
		ExplainQuery:  tool("explain_query", "database", "query", "params"),
		DatabaseInfo:  tool("database_info", "database"),
		WriteData:     tool("write_data", "database", "query", "params", "token"),
	}},
	{mark: "list_table", Profile: Profile{
		Name:          "MssqlMcp (Node)",
		ListTables:    tool("list_table"),
		DescribeTable: tool("describe_table", "table=tableName"),
		ReadData:      tool("read_data", "query"),
	}},
	{mark: "list_tables", Profile: Profile{
		Name:          "MssqlMcp (.NET)",
		ListTables:    tool("list_tables"),
		DescribeTable: tool("describe_table", "table_name=name"),
		ReadData:      tool("read_data", "query=sql"),
	}},
	{mark: "search_objects", suffix: true, Profile: Profile{
		Name:          "DBHub",
		ListTables:    tool("search_objects", "kind=object_type", "schema", "pattern", "limit").fixed("detail_level", "summary"),
		DescribeTable: tool("search_objects", "kind=object_type", "schema", "table=pattern").fixed("detail_level", "full"),
		ReadData:      tool("execute_sql", "query=sql"),
		ExplainQuery:  tool("explain_sql", "query=sql"),
	}},
	{mark: "list_objects", Profile: Profile{
		Name:          "Postgres MCP Pro",
		ListTables:    tool("list_objects", "schema=schema_name", "kind=object_type"),
		ListSchemas:   tool("list_schemas"),
		DescribeTable: tool("get_object_details", "schema=schema_name", "table=object_name", "kind=object_type"),
		ReadData:      tool("execute_sql", "query=sql"),
		ExplainQuery:  tool("explain_query", "query=sql"),
	}},
	{mark: "list_tables", Profile: Profile{
		Name:          "Supabase",
		ListTables:    tool("list_tables", "database=project_id", "schemas"),
		DescribeTable: tool("list_tables", "database=project_id", "schemas").fixed("verbose", true),
		ReadData:      tool("execute_sql", "database=project_id", "query"),
	}},
	{mark: "list_tables", Profile: Profile{
		Name: "MCP Toolbox", RowBlocks: true,
		ListTables:    tool("list_tables").fixed("output_format", "simple"),
		DescribeTable: tool("list_tables", "table=table_names").fixed("output_format", "detailed"),
		ReadData:      tool("execute_sql", "query=sql"),
		ExplainQuery:  tool("get_query_plan", "query=query|sql_statement"), // PostgreSQL and MySQL
		DatabaseInfo:  tool("database_overview"),
	}},
	{mark: "read_query", Profile: Profile{
		Name:          "reference SQLite",
		ListTables:    tool("list_tables"),
		DescribeTable: tool("describe_table", "table_name"),
		ReadData:      tool("read_query", "query"),
	}},
	{mark: "query", Profile: Profile{
		Name:     "reference PostgreSQL",
		ReadData: tool("query", "query=sql"),
	}},
}
