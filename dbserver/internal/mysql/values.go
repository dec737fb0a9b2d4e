package mysql

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// A column is a column of a result, and how its values are told.
type column struct {
	name, typ string
	write     func(*result.Writer, driver.Value)
}

// typed is what the driver tells of columns.
type typed interface {
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypePrecisionScale
}

func describe(rows driver.Rows, zoned bool) []column {
	names, types := rows.Columns(), rows.(typed)
	columns := make([]column, len(names))
	for i, name := range names {
		columns[i] = column{name: name}
		typ := types.ColumnTypeDatabaseTypeName(i)
		if base, ok := strings.CutPrefix(typ, "UNSIGNED "); ok {
			typ = base + " UNSIGNED"
		}
		columns[i].write = writerOf(typ, zoned)
		columns[i].typ = strings.ToLower(typ)
		if typ == "DECIMAL" {
			if precision, scale, ok := types.ColumnTypePrecisionScale(i); ok && precision > 0 {
				columns[i].typ = fmt.Sprintf("decimal(%d,%d)", precision, scale)
			}
		}
	}
	return columns
}

// writerOf returns how values of a type are told. Numbers come from the driver
// as numbers, all else as bytes.
func writerOf(typ string, zoned bool) func(*result.Writer, driver.Value) {
	bytes := func(write func(*result.Writer, []byte)) func(*result.Writer, driver.Value) {
		return func(w *result.Writer, v driver.Value) {
			switch v := v.(type) {
			case nil:
				w.Null()
			case []byte:
				write(w, v)
			case string:
				write(w, []byte(v))
			default:
				number(w, v)
			}
		}
	}
	switch typ {
	case "BIT":
		return bytes(func(w *result.Writer, v []byte) {
			n := uint64(0)
			for _, b := range v {
				n = n<<8 | uint64(b)
			}
			w.Uint(n)
		})
	case "DECIMAL":
		return bytes(func(w *result.Writer, v []byte) { w.Decimal(string(v)) })
	case "JSON":
		return bytes((*result.Writer).JSON)
	case "BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB", "BINARY", "VARBINARY", "GEOMETRY", "VECTOR":
		return bytes((*result.Writer).Bytes)
	case "DATETIME":
		return bytes(func(w *result.Writer, v []byte) { w.Text(moment(v)) })
	case "TIMESTAMP":
		return bytes(func(w *result.Writer, v []byte) {
			if m := moment(v); zoned && strings.Contains(m, "T") {
				w.Text(m + "Z")
			} else {
				w.Text(m)
			}
		})
	}
	return bytes(func(w *result.Writer, v []byte) { w.Text(string(v)) })
}

// number tells what came as a number.
func number(w *result.Writer, v driver.Value) {
	switch v := v.(type) {
	case int64:
		w.Int(v)
	case uint64:
		w.Uint(v)
	case float32:
		w.Real32(v)
	case float64:
		w.Real(v)
	default:
		w.Text(fmt.Sprint(v))
	}
}

// moment writes a date with a time as RFC 3339 does. The zero date, and others
// that are none, stay as the server writes them.
func moment(v []byte) string {
	s := string(v)
	if len(s) < 19 || s[10] != ' ' || s[5:7] == "00" || s[8:10] == "00" {
		return s
	}
	return s[:10] + "T" + s[11:]
}

// bind makes values for the placeholders of a statement. Integers are bound as
// such, other numbers by their digits, which the server takes as exact ones.
func bind(params []any, places int) ([]any, error) {
	if len(params) != places {
		return nil, engine.Invalid("the statement has %d placeholders, and params has %d values; placeholders are ?", places, len(params))
	}
	values := make([]any, len(params))
	for i, p := range params {
		switch p := p.(type) {
		case nil, bool, string:
			values[i] = p
		case json.Number:
			values[i] = bound(p.String())
		default:
			return nil, engine.Invalid("params: value %d is none of null, boolean, number and text", i+1)
		}
	}
	return values, nil
}

func bound(digits string) any {
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		return n
	}
	if n, err := strconv.ParseUint(digits, 10, 64); err == nil {
		return n
	}
	if f, err := strconv.ParseFloat(digits, 64); err == nil && strings.ContainsAny(digits, "eE") && !math.IsInf(f, 0) {
		return f
	}
	return digits
}

func formatInt(n int64) string   { return strconv.FormatInt(n, 10) }
func formatUint(n uint64) string { return strconv.FormatUint(n, 10) }
