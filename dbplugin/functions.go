package dbplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// A Function is a function for a language model to call.
type Function struct {
	Name        string
	Description string
	Parameters  json.RawMessage // JSON schema of the arguments, an object

	schema *jsonschema.Resolved
	call   func(ctx context.Context, a functionArguments) (Answer, error)
}

// functionArguments are those of all functions.
type functionArguments struct {
	TableName string  `json:"table_name"`
	Query     string  `json:"query"`
	Limit     float64 `json:"limit"` // an integer, which JSON may write as 1e2
}

// Functions returns the functions of the plugin: list_database_tables,
// describe_table_schema, execute_sql_query and get_database_info.
func (p *Plugin) Functions() []Function {
	return []Function{
		p.function("list_database_tables",
			"List the tables and views of the database, with comments and estimated row counts. Call this first.",
			`{}`, nil,
			func(ctx context.Context, _ functionArguments) (Answer, error) {
				return p.call(ctx, toolListTables, struct{}{})
			}),
		p.function("describe_table_schema",
			"Describe one table: its columns, keys, indexes and comments, and which tables refer to it.",
			`{"table_name": {"type": "string", "minLength": 1, "description": "Name from list_database_tables"}}`,
			[]string{"table_name"},
			func(ctx context.Context, a functionArguments) (Answer, error) {
				return p.call(ctx, toolDescribeTable, map[string]string{"table_name": a.TableName})
			}),
		p.function("execute_sql_query",
			"Run one read-only SQL statement and return its first rows. Aggregate and filter in SQL rather than reading many rows.",
			fmt.Sprintf(`{"query": {"type": "string", "minLength": 1, "description": "One SELECT statement"},
				"limit": {"type": "integer", "minimum": 1, "maximum": 1000000, "default": %d, "description": "Most rows to return"}}`, p.limit),
			[]string{"query"},
			func(ctx context.Context, a functionArguments) (Answer, error) {
				return p.call(ctx, toolReadData, p.readArguments(a.Query, int(a.Limit)))
			}),
		p.function("get_database_info",
			"Tell the database's engine, version, status and limits, and what makes it read-only.",
			`{}`, nil,
			func(ctx context.Context, _ functionArguments) (Answer, error) {
				return p.call(ctx, toolDatabaseInfo, struct{}{})
			}),
	}
}

func (p *Plugin) function(name, description, properties string, required []string, call func(context.Context, functionArguments) (Answer, error)) Function {
	schema := jsonschema.Schema{Type: "object", Required: required, AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	err := json.Unmarshal([]byte(properties), &schema.Properties)
	parameters, marshalErr := json.Marshal(&schema)
	resolved, resolveErr := schema.Resolve(nil)
	if err := errors.Join(err, marshalErr, resolveErr); err != nil {
		panic(fmt.Sprintf("BUG: parameters of %s: %v", name, err))
	}
	return Function{Name: name, Description: description, Parameters: parameters, schema: resolved, call: call}
}

// Invoke calls the function with the arguments that a model gave and returns
// the text to give back to it. Empty arguments count as {}.
//
// What the model can put right comes back as text too, with a nil error: that
// the arguments do not fit Parameters, and what the tool says of its failure,
// such as of SQL that does not compile. An error means that there was no
// answer: ctx ended, the server could not be reached, or refused the call.
func (f Function) Invoke(ctx context.Context, arguments json.RawMessage) (string, error) {
	var a functionArguments
	if err := f.readArguments(arguments, &a); err != nil {
		return fmt.Sprintf("INVALID_ARGUMENT: %s: %v\nNext: call %[1]s again with arguments that fit %s", f.Name, err, f.Parameters), nil
	}
	answer, err := f.call(ctx, a)
	var failed *ToolError
	if errors.As(err, &failed) {
		if failed.Text == "" {
			return failed.Message, nil
		}
		return failed.Text, nil
	}
	return answer.Text, err
}

func (f Function) readArguments(raw json.RawMessage, a *functionArguments) error {
	if len(raw) == 0 || string(raw) == "null" {
		raw = json.RawMessage("{}")
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return fmt.Errorf("the arguments are not JSON: %w", err)
	}
	if _, ok := value.(map[string]any); !ok {
		return errors.New("the arguments are not an object")
	}
	if err := f.schema.Validate(value); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "validating root: "))
	}
	return json.Unmarshal(raw, a)
}
