package dbserver

import (
	"database/sql/driver"
	"fmt"
	"strconv"
	"time"

	"modernc.org/sqlite"
)

// Reasons for which a result is not all there is.
const (
	byRows  = "rows"
	byBytes = "bytes"
	byCell  = "cell"
	byNone  = "none"
)

// A resultSet is the answer of read_data as it grows. Its rows are bytes from
// the start: each value is appended once as JSON and once as text.
type resultSet struct {
	maxRows  int
	maxBytes int // of rows with its brackets

	columns []sqlite.ColumnInfo
	classes []string // of the first value of each column that is not NULL
	rows    []byte   // JSON arrays with commas between them
	text    []byte   // the same as tab-separated lines
	count   int
	endedBy string // byRows or byBytes if there are more rows
	cut     int    // values of which a part is there
	invalid int    // values that were not UTF-8
	notices []string
}

// add adds a row and reports whether there may be room for another. A row for
// which there is no room leaves no trace.
func (r *resultSet) add(row []driver.Value) bool {
	if r.count == r.maxRows {
		r.endedBy = byRows
		return false
	}
	rows, text, cut, invalid := len(r.rows), len(r.text), 0, 0
	if r.classes == nil {
		r.classes = make([]string, len(row))
	}
	if r.count > 0 {
		r.rows = append(r.rows, ',')
	}
	r.rows = append(r.rows, '[')
	for i, v := range row {
		if i > 0 {
			r.rows = append(r.rows, ',')
			r.text = append(r.text, '\t')
		}
		var c cell
		r.rows, c = appendValue(r.rows, v)
		r.text = appendTSV(r.text, v)
		if c.cut {
			cut++
		}
		if c.invalid {
			invalid++
		}
	}
	r.rows = append(r.rows, ']')
	r.text = append(r.text, '\n')
	if len(r.rows)+len("[]") > r.maxBytes {
		r.rows, r.text = r.rows[:rows], r.text[:text]
		r.endedBy = byBytes
		return false
	}
	for i, v := range row {
		if r.classes[i] == "" {
			r.classes[i] = class(v)
		}
	}
	r.count++
	r.cut += cut
	r.invalid += invalid
	return true
}

// class returns the storage class of a value, empty for NULL.
func class(v driver.Value) string {
	switch v.(type) {
	case nil:
		return ""
	case int64:
		return "INTEGER"
	case float64:
		return "REAL"
	case []byte:
		return "BLOB"
	}
	return "TEXT"
}

// columnType returns the type that an answer tells for a column.
func (r *resultSet) columnType(i int) string {
	if declared := r.columns[i].DeclType; declared != "" {
		return declared
	}
	if r.classes != nil && r.classes[i] != "" {
		return r.classes[i]
	}
	return "ANY"
}

// truncatedBy returns why the result is not all there is.
func (r *resultSet) truncatedBy() string {
	switch {
	case r.endedBy != "":
		return r.endedBy
	case r.cut > 0:
		return byCell
	}
	return byNone
}

// notes returns what a reader of the result should know besides.
func (r *resultSet) notes() []string {
	notes := r.notices
	switch {
	case r.endedBy == byRows:
		notes = append(notes, fmt.Sprintf("only the first %d rows are here, there are more: aggregate or filter in SQL", r.count))
	case r.endedBy == byBytes && r.count == 0:
		notes = append(notes, fmt.Sprintf("the first row alone has more than %d bytes: select fewer columns", r.maxBytes))
	case r.endedBy == byBytes:
		notes = append(notes, fmt.Sprintf("only the first %d rows are here, more would be over %d bytes: aggregate, filter or select fewer columns", r.count, r.maxBytes))
	}
	if r.cut > 0 {
		notes = append(notes, fmt.Sprintf("values cut: %d, texts at %d bytes and blobs at %d; read on with substr()", r.cut, maxCellBytes, maxBlobBytes))
	}
	if r.invalid > 0 {
		notes = append(notes, fmt.Sprintf("values not UTF-8: %d; wrong bytes are shown as U+FFFD", r.invalid))
	}
	return notes
}

// encode returns the result of tools/call.
func (r *resultSet) encode(elapsed time.Duration) []byte {
	notes := r.notes()
	text := make([]byte, 0, len(untrusted)+len(r.text)+len(r.text)/8+256)
	text = append(text, untrusted...)
	for i, c := range r.columns {
		if i > 0 {
			text = append(text, '\t')
		}
		text = append(text, tsv(c.Name)...)
	}
	text = append(append(text, '\n'), r.text...)
	for _, n := range notes {
		text = append(append(append(text, "Notice: "...), n...), '\n')
	}

	dst := make([]byte, 0, len(r.rows)+64*len(r.columns)+512)
	dst = append(dst, `{"columns":[`...)
	for i, c := range r.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, _ = appendText(append(dst, `{"name":"`...), c.Name)
		dst, _ = appendText(append(dst, `","type":"`...), r.columnType(i))
		dst = append(dst, `"}`...)
	}
	dst = append(append(append(dst, `],"rows":[`...), r.rows...), ']')
	dst = strconv.AppendInt(append(dst, `,"row_count":`...), int64(r.count), 10)
	by := r.truncatedBy()
	dst = strconv.AppendBool(append(dst, `,"truncated":`...), by != byNone)
	dst = append(append(append(dst, `,"truncated_by":"`...), by...), '"')
	milliseconds := float64(elapsed.Microseconds()) / 1000
	dst = strconv.AppendFloat(append(dst, `,"elapsed_ms":`...), milliseconds, 'f', -1, 64)
	dst = append(dst, `,"notices":[`...)
	for i, n := range notes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, _ = appendText(append(dst, '"'), n)
		dst = append(dst, '"')
	}
	return toolResult(text, append(dst, `]}`...), false)
}
