package sqlserver

import (
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// Layouts of times. SQL Server keeps up to seven digits of a second, and a zone
// in datetimeoffset alone.
const (
	layoutDate     = "2006-01-02"
	layoutTime     = "15:04:05.9999999"
	layoutDateTime = "2006-01-02T15:04:05.9999999"
	layoutOffset   = "2006-01-02T15:04:05.9999999Z07:00"
)

// columnsOf returns the columns of a result, and the driver's names of their
// types.
func columnsOf(rows driver.Rows) (columns []result.Column, types []string) {
	names := rows.Columns()
	columns, types = make([]result.Column, len(names)), make([]string, len(names))
	for i, name := range names {
		types[i] = typeName(rows, i)
		columns[i] = result.Column{Name: name, Type: fullType(rows, i, types[i])}
	}
	return columns, types
}

// typeName returns the driver's name of a column's type, empty for a type
// that it has no name for, where it panics.
func typeName(rows driver.Rows, i int) (name string) {
	defer func() {
		if recover() != nil {
			name = ""
		}
	}()
	if r, ok := rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return r.ColumnTypeDatabaseTypeName(i)
	}
	return ""
}

// fullType is the type as it would be declared.
func fullType(rows driver.Rows, i int, name string) string {
	lower := strings.ToLower(name)
	switch name {
	case "CHAR", "VARCHAR", "NCHAR", "NVARCHAR", "BINARY", "VARBINARY":
		if r, ok := rows.(driver.RowsColumnTypeLength); ok {
			if n, ok := r.ColumnTypeLength(i); ok && n > 8000 {
				return lower + "(max)"
			} else if ok {
				return fmt.Sprintf("%s(%d)", lower, n)
			}
		}
	case "DECIMAL":
		if r, ok := rows.(driver.RowsColumnTypePrecisionScale); ok {
			if precision, scale, ok := r.ColumnTypePrecisionScale(i); ok {
				return fmt.Sprintf("%s(%d,%d)", lower, precision, scale)
			}
		}
	}
	return lower
}

// add adds a row and reports whether another is wanted.
func add(out *result.Writer, row []driver.Value, types []string) bool {
	for i, value := range row {
		addValue(out, value, types[i])
	}
	return out.EndRow()
}

func addValue(out *result.Writer, value driver.Value, typ string) {
	switch v := value.(type) {
	case nil:
		out.Null()
	case int64:
		out.Int(v)
	case bool:
		out.Bool(v)
	case float64:
		if typ == "REAL" {
			out.Real32(float32(v))
		} else {
			out.Real(v)
		}
	case string:
		if typ == "JSON" {
			out.JSON([]byte(v))
		} else {
			out.Text(v)
		}
	case []byte:
		switch typ {
		case "DECIMAL", "MONEY", "SMALLMONEY":
			out.Decimal(string(v))
		case "UNIQUEIDENTIFIER":
			out.Text(guid(v))
		default:
			out.Bytes(v)
		}
	case time.Time:
		out.Text(v.Format(layout(v, typ)))
	default:
		out.Text(fmt.Sprint(v))
	}
}

func layout(v time.Time, typ string) string {
	switch typ {
	case "DATE":
		return layoutDate
	case "TIME":
		return layoutTime
	case "DATETIMEOFFSET":
		return layoutOffset
	case "DATETIME", "DATETIME2", "SMALLDATETIME":
		return layoutDateTime
	}
	if v.Location() == time.UTC { // which the driver gives those without a zone, in a sql_variant
		return layoutDateTime
	}
	return layoutOffset
}

// guid writes a uniqueidentifier as SQL Server does: the first three groups
// are stored with their lowest byte first.
func guid(b []byte) string {
	if len(b) != 16 {
		return hex.EncodeToString(b)
	}
	return strings.ToUpper(fmt.Sprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%x-%x", b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8:10], b[10:]))
}

// str, num and flag read values of our own statements.
func str(v driver.Value) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case int64:
		return fmt.Sprint(v)
	}
	return ""
}

func num(v driver.Value) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case float64:
		if !math.IsNaN(v) && math.Abs(v) < math.MaxInt64 {
			return int64(v)
		}
	case bool:
		if v {
			return 1
		}
	}
	return 0
}

func flag(v driver.Value) bool { return num(v) != 0 }
