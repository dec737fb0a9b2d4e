package dbserver

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// A pageAnswer is a page of a result on its way into an answer.
type pageAnswer struct {
	result.Page
	database          string
	shape             string
	elapsed           time.Duration
	maxBytes, maxCell int
	notices           []string
	fetched           bool          // it is none of read_data
	before            int           // rows of the result before the page
	handle            string        // of the rows behind it, empty for none
	ttl               time.Duration // how long that is good
	complete          *bool         // whether all rows behind it are kept, nil if not known yet
}

// notes returns what a reader of the page should know besides.
func (a *pageAnswer) notes() []string {
	notes := a.notices
	here := fmt.Sprintf("only the first %d rows are here", a.Count)
	if a.fetched {
		here = fmt.Sprintf("rows %d to %d are here", a.before+1, a.before+a.Count)
	}
	next := ""
	if a.handle != "" {
		next = fmt.Sprintf(", or call fetch_rows with this handle within %v", a.ttl)
	}
	switch {
	case a.fetched && a.handle == "": // the end of what was kept, of which fetch_rows tells
	case a.TruncatedBy == result.ByRows:
		notes = append(notes, here+", there are more: aggregate or filter in SQL"+next)
	case a.TruncatedBy == result.ByBytes && a.Count == 0:
		notes = append(notes, fmt.Sprintf("the first row alone has more than %d bytes: select fewer columns", a.maxBytes)+next)
	case a.TruncatedBy == result.ByBytes:
		notes = append(notes, fmt.Sprintf("%s, more would be over %d bytes: aggregate, filter or select fewer columns%s", here, a.maxBytes, next))
	}
	if a.Cut > 0 {
		notes = append(notes, fmt.Sprintf("values cut: %d, texts at %d bytes and blobs at %d; read on with substr()", a.Cut, a.maxCell, result.BlobBytes))
	}
	if a.Invalid > 0 {
		notes = append(notes, fmt.Sprintf("values not UTF-8: %d; wrong bytes are shown as U+FFFD", a.Invalid))
	}
	return notes
}

// encode returns the result of tools/call.
func (a *pageAnswer) encode() []byte {
	notes := a.notes()
	dst := make([]byte, 0, len(a.Rows)+len(a.Text)+96*len(a.Columns)+1024)
	dst = append(dst, `{"content":[{"type":"text","text":"`...)
	dst, _ = result.AppendText(dst, untrusted)
	for i, c := range a.Columns {
		if i > 0 {
			dst = append(dst, `\t`...)
		}
		dst, _ = result.AppendText(dst, result.TSV(c.Name))
	}
	dst = append(append(dst, `\n`...), a.Text...)
	for _, n := range notes {
		dst, _ = result.AppendText(dst, "Notice: "+n+"\n")
	}
	if a.handle != "" {
		dst, _ = result.AppendText(dst, "Handle: "+a.handle+"\n")
	}
	dst, _ = result.AppendText(append(dst, `"}],"structuredContent":{"database":"`...), a.database)
	dst = append(a.appendColumns(append(dst, `","columns":[`...)), `],"rows":[`...)
	dst = append(a.appendRows(dst), ']')
	dst = strconv.AppendInt(append(dst, `,"row_count":`...), int64(a.Count), 10)
	dst = strconv.AppendBool(append(dst, `,"truncated":`...), a.TruncatedBy != result.ByNone)
	dst = append(append(append(dst, `,"truncated_by":"`...), a.TruncatedBy...), '"')
	milliseconds := float64(a.elapsed.Microseconds()) / 1000
	dst = strconv.AppendFloat(append(dst, `,"elapsed_ms":`...), milliseconds, 'f', -1, 64)
	dst = append(dst, `,"notices":[`...)
	for i, n := range notes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, _ = result.AppendText(append(dst, '"'), n)
		dst = append(dst, '"')
	}
	dst = append(dst, ']')
	if a.handle != "" {
		dst = append(append(append(dst, `,"handle":"`...), a.handle...), '"')
	}
	if a.complete != nil {
		dst = strconv.AppendBool(append(dst, `,"complete":`...), *a.complete)
	}
	return append(dst, `}}`...)
}

// appendColumns appends what is told of the columns.
func (a *pageAnswer) appendColumns(dst []byte) []byte {
	for i, c := range a.Columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		if c.Type == "" {
			c.Type = "ANY"
		}
		dst, _ = result.AppendText(append(dst, `{"name":"`...), c.Name)
		dst, _ = result.AppendText(append(dst, `","type":"`...), c.Type)
		dst = append(dst, '"')
		if c.Mask != result.Unmasked {
			dst = append(dst, `,"masked":true`...)
		}
		dst = append(dst, '}')
	}
	return dst
}

// appendRows appends the rows in the shape that was asked for: arrays as they
// are, one array for each column, or objects, in which a name that comes again
// has a number behind it.
func (a *pageAnswer) appendRows(dst []byte) []byte {
	if a.shape != "columns" && a.shape != "objects" {
		return append(dst, a.Rows...)
	}
	var rows [][]json.RawMessage
	if err := json.Unmarshal(append(append([]byte{'['}, a.Rows...), ']'), &rows); err != nil {
		panic(fmt.Sprintf("BUG: rows are not JSON: %v", err))
	}
	if a.shape == "columns" {
		for i := range a.Columns {
			dst = append(separated(dst, i), '[')
			for n, row := range rows {
				dst = append(separated(dst, n), row[i]...)
			}
			dst = append(dst, ']')
		}
		return dst
	}
	names := a.uniqueNames()
	for n, row := range rows {
		dst = append(separated(dst, n), '{')
		for i, value := range row {
			dst = append(append(append(separated(dst, i), names[i]...), ':'), value...)
		}
		dst = append(dst, '}')
	}
	return dst
}

func separated(dst []byte, i int) []byte {
	if i > 0 {
		return append(dst, ',')
	}
	return dst
}

// uniqueNames are the names of the columns as JSON.
func (a *pageAnswer) uniqueNames() [][]byte {
	names := make([][]byte, len(a.Columns))
	taken := map[string]bool{}
	for i, c := range a.Columns {
		name := c.Name
		for n := 2; taken[name]; n++ {
			name = c.Name + "_" + strconv.Itoa(n)
		}
		taken[name] = true
		quoted, _ := result.AppendText([]byte{'"'}, name)
		names[i] = append(quoted, '"')
	}
	return names
}
