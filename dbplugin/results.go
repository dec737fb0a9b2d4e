package dbplugin

import (
	"bytes"
	"encoding/json"
	"errors"
)

// A TableList is the answer of ListTables.
type TableList struct {
	Answer
	Tables    []Table `json:"tables"`
	Count     int     `json:"table_count"` // of the tables there are
	Truncated bool    `json:"truncated"`   // there are more than Tables has
}

// UnmarshalJSON also reads a plain array of tables, which servers send that
// answer with text.
func (l *TableList) UnmarshalJSON(data []byte) error {
	if data = bytes.TrimSpace(data); len(data) > 0 && data[0] == '[' {
		err := json.Unmarshal(data, &l.Tables)
		l.Count = len(l.Tables)
		return err
	}
	type plain TableList
	return json.Unmarshal(data, (*plain)(l))
}

// A Table is a table or view in a list.
type Table struct {
	Name         string `json:"name"`
	Type         string `json:"type"` // such as table or view
	Columns      int    `json:"columns"`
	RowsEstimate *int64 `json:"rows_estimate"` // nil if not known
	Comment      string `json:"comment"`
}

// UnmarshalJSON also reads a name alone.
func (t *Table) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &t.Name)
	}
	type plain Table
	err := json.Unmarshal(data, (*plain)(t))
	if err == nil && t.Name == "" {
		err = errors.New("a table has no name")
	}
	return err
}

// A TableDescription is the answer of DescribeTable.
type TableDescription struct {
	Answer
	Name         string              `json:"name"`
	Type         string              `json:"type"`
	Comment      string              `json:"comment"`
	RowsEstimate *int64              `json:"rows_estimate"` // nil if not known
	Columns      []ColumnDescription `json:"columns"`
	ForeignKeys  []ForeignKey        `json:"foreign_keys"`
	ReferencedBy []ForeignKey        `json:"referenced_by"`
	Indexes      []Index             `json:"indexes"`
}

// A ColumnDescription is a column of a table.
type ColumnDescription struct {
	Name       string  `json:"name"`
	Type       string  `json:"type"` // as declared
	Nullable   bool    `json:"nullable"`
	Default    *string `json:"default"`     // an SQL expression, nil for none
	PrimaryKey int     `json:"primary_key"` // position in the primary key from 1, 0 if not in it
	Generated  bool    `json:"generated"`
	Comment    string  `json:"comment"`
}

// A ForeignKey relates two tables.
type ForeignKey struct {
	Table             string   `json:"table"` // the other table
	Columns           []string `json:"columns"`
	ReferencedColumns []string `json:"referenced_columns"`
}

// An Index is an index of a table.
type Index struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"` // empty for an expression
	Unique  bool     `json:"unique"`
	Partial bool     `json:"partial"` // it has only rows that fulfil a condition
}

// A ResultSet is the answer of ReadData.
type ResultSet struct {
	Answer
	Columns []Column `json:"columns"`
	// Rows have a value for each column: nil, bool, string, [json.Number], or
	// what a server sends for other types, such as a map for a blob.
	Rows        [][]any  `json:"rows"`
	RowCount    int      `json:"row_count"`
	Truncated   bool     `json:"truncated"`    // something was left out
	TruncatedBy string   `json:"truncated_by"` // rows, bytes, cell or none
	ElapsedMS   float64  `json:"elapsed_ms"`
	Notices     []string `json:"notices"` // what else a reader should know
}

// A Column is a column of a ResultSet.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Info is the answer of DatabaseInfo.
type Info struct {
	Answer
	Database  string           `json:"database"`
	Engine    string           `json:"engine"`
	Version   string           `json:"version"`
	File      string           `json:"file"`
	SizeBytes int64            `json:"size_bytes"`
	Mode      string           `json:"mode"`   // such as read_only
	Status    string           `json:"status"` // such as ready or down
	LastError string           `json:"last_error"`
	ReadOnly  ReadOnly         `json:"read_only"`
	Limits    map[string]int64 `json:"limits"`
	Pool      map[string]int64 `json:"pool"`
}

// ReadOnly is what makes a database read-only.
type ReadOnly struct {
	Verified   bool     `json:"verified"` // a statement that writes was tried and denied
	EnforcedBy []string `json:"enforced_by"`
}
