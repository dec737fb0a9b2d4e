package engine

import "strings"

// A Name is the name of a table or view.
type Name struct {
	Schema string // empty for where the engine looks first
	Table  string
}

func (n Name) String() string {
	if n.Schema == "" {
		return n.Table
	}
	return n.Schema + "." + n.Table
}

// A Filter says which tables to list.
type Filter struct {
	Pattern string   // of names, with * and ?, or a part of the name; any case
	Schema  string   // empty for all but those of the engine itself
	Kinds   []string // table, view, materialized_view, virtual, foreign; empty for all
	Detail  Detail
	After   Name // tables behind this one; the zero Name for all
	Limit   int  // most tables
}

// Detail is how much a list tells.
type Detail int

const (
	Names   Detail = iota // schema, name and type alone
	Summary               // with comments and estimates
	Full                  // with columns
)

// Tables is a page of a list.
type Tables struct {
	Tables []Table
	More   bool // there are tables behind the last one
}

// A Table is a table or view in a list.
type Table struct {
	Schema      string   `json:"schema,omitempty"` // empty where an engine has none
	Name        string   `json:"name"`
	Type        string   `json:"type"`
	ColumnCount *int64   `json:"columns,omitempty"`
	Estimate    *int64   `json:"rows_estimate,omitempty"` // nil if not known
	Comment     string   `json:"comment,omitempty"`
	Columns     []string `json:"column_list,omitempty"` // "name type", with Full
}

// A Description is what is known of a table or view.
type Description struct {
	Schema       string   `json:"schema,omitempty"`
	Name         string   `json:"name"`
	Type         string   `json:"type"`
	Comment      string   `json:"comment,omitempty"`
	Estimate     *int64   `json:"rows_estimate"`
	Columns      []Column `json:"columns"`
	ForeignKeys  []Key    `json:"foreign_keys"`
	ReferencedBy []Key    `json:"referenced_by"`
	Indexes      []Index  `json:"indexes"`
	Checks       []string `json:"checks,omitempty"`  // SQL expressions
	Notices      []string `json:"notices,omitempty"` // what could not be found out
}

// A Column is a column of a table or view.
type Column struct {
	Name       string   `json:"name"`
	Type       string   `json:"type"`
	Nullable   bool     `json:"nullable"`
	Default    *string  `json:"default"`     // an SQL expression
	PrimaryKey int64    `json:"primary_key"` // position in it from 1, 0 if not in it
	Generated  bool     `json:"generated,omitempty"`
	Comment    string   `json:"comment,omitempty"`
	Values     []string `json:"values,omitempty"`  // all that there can be, of an enumeration
	Samples    []string `json:"samples,omitempty"` // some that there are
	Policy     string   `json:"policy,omitempty"`  // null, partial or refuse, if there is one for it
}

// A Key is a foreign key, seen from either side.
type Key struct {
	Table      string   `json:"table"` // the other table, with its schema where that differs
	Columns    []string `json:"columns"`
	Referenced []string `json:"referenced_columns"`
}

// An Index is an index of a table.
type Index struct {
	Name    string    `json:"name"`
	Columns []*string `json:"columns"` // nil for an expression
	Unique  bool      `json:"unique"`
	Partial bool      `json:"partial,omitempty"`
}

// Matches reports whether a name is what a [Filter].Pattern asks for: like the
// pattern if that has * or ?, else one that contains it; an empty pattern is
// that of any name.
func Matches(pattern, name string) bool {
	if strings.ContainsAny(pattern, "*?") {
		return Like(pattern, name)
	}
	return strings.Contains(strings.ToLower(name), strings.ToLower(pattern))
}
