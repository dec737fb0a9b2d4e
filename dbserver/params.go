package dbserver

import (
	"encoding/json"
	"slices"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// dialect is how the database's engine writes SQL.
func (d *Database) dialect() sqltext.Dialect {
	switch d.Engine {
	case Postgres:
		return sqltext.Postgres
	case MySQL:
		return sqltext.MySQL
	case SQLServer:
		return sqltext.SQLServer
	}
	return sqltext.SQLite
}

// bindParams makes of the params of the request those that its statement is run
// with. Values by name are put in order, and the names in the statement become
// placeholders of the engine.
func (r *request) bindParams() error {
	given := r.args.Given
	if len(given) == 0 || string(given) == "null" {
		return nil
	}
	if given[0] != '{' {
		if err := json.Unmarshal(given, &r.args.Params); err != nil {
			return engine.Invalid("params: %v", err)
		}
		return nil
	}
	dialect := r.dialect()
	if other := otherPlaceholder(dialect, r.args.Query); other != "" {
		return engine.Invalid("params has names, and the statement has the placeholder %s: write all as :name, or send params as an array", other)
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(given, &values); err != nil {
		return engine.Invalid("params: %v", err)
	}
	text, names := dialect.Named(r.args.Query)
	for name := range values {
		if !slices.Contains(names, name) {
			return engine.Invalid("params/%s: the statement has no :%[1]s", name)
		}
	}
	ordered := make([]json.RawMessage, len(names))
	for i, name := range names {
		value, ok := values[name]
		if !ok {
			return engine.Invalid("params has no value for :%s", name)
		}
		ordered[i] = value
	}
	if err := json.Unmarshal(mustMarshal(ordered), &r.args.Params); err != nil {
		return engine.Invalid("params: %v", err)
	}
	r.args.Query = text
	return nil
}

// otherPlaceholder returns the first placeholder that is none of the form :name.
func otherPlaceholder(dialect sqltext.Dialect, sql string) string {
	for i := 0; i < len(sql); {
		kind, next := dialect.Next(sql, i)
		if token := sql[i:next]; kind == sqltext.Param && token[0] != ':' {
			return token
		}
		i = next
	}
	return ""
}
