package postgres

import (
	"encoding/hex"
	"strconv"
	"unsafe"

	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// An appender appends a value in PostgreSQL's text form, of which it may have
// the beginning alone: length is that of all of it.
type appender func(out *result.Writer, v []byte, length int)

// OIDs of types that are part of PostgreSQL
// (https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat).
const (
	oidBool        = 16
	oidBytea       = 17
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidOid         = 26
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidNumeric     = 1700
	oidJSONB       = 3802
)

var appenders = map[uint32]appender{
	oidBool:        appendBool,
	oidBytea:       appendBytea,
	oidInt8:        appendInt,
	oidInt2:        appendInt,
	oidInt4:        appendInt,
	oidOid:         appendInt,
	oidJSON:        appendJSON,
	oidJSONB:       appendJSON,
	oidFloat4:      appendFloat4,
	oidFloat8:      appendFloat8,
	oidNumeric:     func(out *result.Writer, v []byte, _ int) { out.Decimal(text(v)) },
	oidTimestamp:   appendTimestamp,
	oidTimestamptz: appendTimestamp,
}

// text is a value as a string for as long as it is valid.
func text(v []byte) string { return unsafe.String(unsafe.SliceData(v), len(v)) } // #nosec G103 -- nobody writes to v meanwhile

func appendText(out *result.Writer, v []byte, _ int) { out.Text(text(v)) }

func appendBool(out *result.Writer, v []byte, _ int) { out.Bool(len(v) == 1 && v[0] == 't') }

// exactDigits are as many as every reader of JSON keeps.
const exactDigits = 15

func appendInt(out *result.Writer, v []byte, _ int) {
	if len(v) <= exactDigits && plain(v, false) {
		out.Digits(v, false)
		return
	}
	n, err := strconv.ParseInt(text(v), 10, 64)
	if err != nil {
		out.Text(text(v))
		return
	}
	out.Int(n)
}

// plain reports whether a number is written as JSON has it, without an exponent,
// and, if it is no real one, without a point.
func plain(v []byte, real bool) bool {
	if len(v) > 0 && v[0] == '-' {
		v = v[1:]
	}
	if len(v) > 1 && v[0] == '0' && v[1] != '.' {
		return false
	}
	point := 0 // where it is; a number does not start with it
	for i, c := range v {
		switch {
		case '0' <= c && c <= '9':
		case c == '.' && real && i > 0 && point == 0:
			point = i
		default:
			return false
		}
	}
	return len(v) > point+1 || len(v) > 0 && point == 0
}

func appendFloat4(out *result.Writer, v []byte, _ int) {
	if plain(v, true) {
		out.Digits(v, true)
		return
	}
	n, err := strconv.ParseFloat(text(v), 32)
	if err != nil {
		out.Text(text(v))
		return
	}
	out.Real32(float32(n))
}

func appendFloat8(out *result.Writer, v []byte, _ int) {
	if plain(v, true) {
		out.Digits(v, true)
		return
	}
	n, err := strconv.ParseFloat(text(v), 64)
	if err != nil {
		out.Text(text(v))
		return
	}
	out.Real(n)
}

func appendJSON(out *result.Writer, v []byte, _ int) { out.JSON(v) }

// appendBytea appends a blob, which comes as \x and two digits for each byte.
func appendBytea(out *result.Writer, v []byte, length int) {
	digits := v[min(len(v), 2):]
	digits = digits[:len(digits)&^1]
	if length > len(v) {
		out.Whole(int64(length-2) / 2)
	}
	b := make([]byte, len(digits)/2)
	_, _ = hex.Decode(b, digits)
	out.Bytes(b)
}

func appendTimestamp(out *result.Writer, v []byte, _ int) { out.Text(string(timestamp(v))) }
