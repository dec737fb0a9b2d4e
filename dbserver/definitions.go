package dbserver

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"
)

//go:embed tools.json
var toolsJSON []byte

// A toolset is the tools of a server, and the result of tools/list.
type toolset struct {
	tools       map[string]*tool
	definitions []definition
	list        json.RawMessage // the result of tools/list
}

// A tool is one tool: what is told of it, and what it does.
type tool struct {
	input    *jsonschema.Resolved
	plain    []plainField // of input, and which of them are needed
	needed   int
	database *database              // that it is for; nil if the caller chooses
	bind     func(r *request) error // makes r.args of the arguments; nil if they are those of our tools
	serve    func(r *request, ctx context.Context) ([]byte, error)
	// anyDatabase is that database may be left out though there are several.
	anyDatabase bool
}

// A definition is a tool as tools/list tells it.
type definition struct {
	Name         string             `json:"name"`
	Title        string             `json:"title"`
	Description  string             `json:"description"`
	InputSchema  *jsonschema.Schema `json:"inputSchema"`
	OutputSchema json.RawMessage    `json:"outputSchema"`
	Annotations  json.RawMessage    `json:"annotations"`
}

// builtIn are the definitions of tools.json, which are the same for all servers.
var builtIn = sync.OnceValue(func() []definition {
	var file struct{ Tools []definition }
	if err := json.Unmarshal(toolsJSON, &file); err != nil {
		panic(fmt.Sprintf("BUG: tools.json: %v", err))
	}
	return file.Tools
})

// serves is what the tools of tools.json do.
var serves = map[string]func(r *request, ctx context.Context) ([]byte, error){
	"list_tables":    (*request).listTables,
	"describe_table": (*request).describeTable,
	"read_data":      (*request).readData,
	"fetch_rows":     (*request).fetchRows,
	"explain_query":  (*request).explainQuery,
	"write_data":     (*request).writeData,
	"database_info":  (*request).databaseInfo,
}

// newToolset returns the tools for some databases.
func newToolset(databases []*database) *toolset {
	t := &toolset{tools: map[string]*tool{}}
	var writable []*database
	for _, d := range databases {
		if d.Mode == Write {
			writable = append(writable, d)
		}
	}
	for _, d := range builtIn() {
		handled := d.Name == "fetch_rows" // its handle says which database
		one, these := &tool{serve: serves[d.Name], anyDatabase: handled || d.Name == "database_info"}, databases
		if d.Name == "write_data" {
			these = writable
		}
		if len(these) == 0 || handled && !keeping(databases) {
			continue
		}
		if len(databases) > 1 && !handled {
			d.InputSchema = choosing(d.InputSchema, these, one.anyDatabase)
		}
		t.add(d, one)
	}
	return t
}

// keeping reports whether rows of any database are kept for fetch_rows.
func keeping(databases []*database) bool {
	return slices.ContainsFunc(databases, func(d *database) bool { return d.SpoolRows >= 0 })
}

func (t *toolset) add(d definition, one *tool) {
	var err error
	if one.input, err = d.InputSchema.Resolve(nil); err != nil || one.serve == nil {
		panic(fmt.Sprintf("BUG: tool %s is not complete: %v", d.Name, err))
	}
	if one.bind == nil {
		one.plain, one.needed = plainFields(d.InputSchema)
		d.InputSchema = brief(d.InputSchema)
	}
	t.tools[d.Name] = one
	t.definitions = append(t.definitions, d)
}

// seal makes the result of tools/list of the tools that there are.
func (t *toolset) seal() {
	t.list = mustMarshal(map[string]any{"tools": t.definitions})
}

// Annotations of tools that read, and of those that write.
var (
	readAnnotations  = json.RawMessage(`{"readOnlyHint":true,"destructiveHint":false,"idempotentHint":true,"openWorldHint":false}`)
	writeAnnotations = json.RawMessage(`{"readOnlyHint":false,"destructiveHint":true,"idempotentHint":false,"openWorldHint":false}`)
)

// brief returns what models are told of a schema. Bounds are left out: each
// costs tokens in every conversation, and who goes beyond one is told so.
func brief(schema *jsonschema.Schema) *jsonschema.Schema {
	s := schema.CloneSchemas()
	for name, p := range s.Properties {
		one := *p
		one.MinLength, one.MaxLength, one.Minimum, one.Maximum, one.MaxItems, one.Default = nil, nil, nil, nil, nil, nil
		if one.AnyOf != nil { // params: an array or an object
			// No list of types: a client that reads one alone misses which
			// arguments are headers.
			one.AnyOf = []*jsonschema.Schema{{Type: "array", Items: &jsonschema.Schema{Title: "value"}}, {Type: "object"}}
		} else if one.Items != nil {
			one.Items = &jsonschema.Schema{Type: "string"} // which some models cannot do without
		}
		s.Properties[name] = &one
	}
	return s
}

// choosing returns the schema with the argument that chooses a database. Over
// HTTP it is a header, too, by which what stands between can route (MCP
// 2026-07-28, x-mcp-header).
func choosing(schema *jsonschema.Schema, databases []*database, optional bool) *jsonschema.Schema {
	chosen := &jsonschema.Schema{Type: "string", Extra: map[string]any{"x-mcp-header": "Database"}}
	for _, d := range databases {
		chosen.Enum = append(chosen.Enum, d.Name)
	}
	s := schema.CloneSchemas()
	s.Properties = maps.Clone(schema.Properties)
	if s.Properties == nil {
		s.Properties = map[string]*jsonschema.Schema{}
	}
	s.Properties["database"] = chosen
	s.PropertyOrder = append([]string{"database"}, schema.PropertyOrder...)
	if !optional {
		s.Required = append([]string{"database"}, schema.Required...)
	}
	return s
}

func mustMarshal(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
	return raw
}
