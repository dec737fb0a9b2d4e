package postgres

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// appendArray returns an appender of arrays as JSON arrays. What JSON cannot
// tell exactly stays a text: bounds other than from 1, and what was cut.
func appendArray(element uint32) appender {
	return func(out *result.Writer, v []byte, length int) {
		a := array{in: v, element: element}
		if length > len(v) || !a.list(0) || a.at != len(v) {
			out.Text(text(v))
			return
		}
		out.JSON(a.out)
	}
}

// An array is one in text form on its way to JSON
// (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO).
type array struct {
	in      []byte
	at      int
	element uint32
	out     []byte
	word    []byte // the element read last, without quotes
}

// deepest is how many dimensions an array can have.
const deepest = 6

// list reads { to }, and reports whether it was one.
func (a *array) list(depth int) bool {
	if !a.is('{') || depth > deepest {
		return false
	}
	a.out = append(a.out, '[')
	if a.is('}') {
		a.out = append(a.out, ']')
		return true
	}
	for {
		ok := false
		if a.at < len(a.in) && a.in[a.at] == '{' {
			ok = a.list(depth + 1)
		} else {
			ok = a.value()
		}
		switch {
		case !ok:
			return false
		case a.is(','):
			a.out = append(a.out, ',')
		case a.is('}'):
			a.out = append(a.out, ']')
			return true
		default:
			return false
		}
	}
}

func (a *array) is(c byte) bool {
	if a.at < len(a.in) && a.in[a.at] == c {
		a.at++
		return true
	}
	return false
}

// value reads one element.
func (a *array) value() bool {
	a.word = a.word[:0]
	quoted := a.is('"')
	for ; a.at < len(a.in); a.at++ {
		c := a.in[a.at]
		switch {
		case quoted && c == '"':
			a.at++
			return a.add(true)
		case c == '\\' && a.at+1 < len(a.in):
			a.at++
			c = a.in[a.at]
		case !quoted && (c == ',' || c == '}'):
			return a.add(false)
		}
		a.word = append(a.word, c)
	}
	return false
}

// add adds the element read.
func (a *array) add(quoted bool) bool {
	if !quoted && string(a.word) == "NULL" {
		a.out = append(a.out, "null"...)
		return true
	}
	switch a.element {
	case oidInt2, oidInt4, oidInt8, oidOid:
		a.out = append(a.out, a.word...)
		return json.Valid(a.word)
	case oidFloat4, oidFloat8:
		if f, err := strconv.ParseFloat(string(a.word), 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
			a.out = append(a.out, a.word...)
			return true
		}
	case oidBool:
		a.out = strconv.AppendBool(a.out, string(a.word) == "t")
		return true
	case oidTimestamp, oidTimestamptz:
		a.word = timestamp(a.word)
	}
	a.out = append(a.out, '"')
	a.out, _ = result.AppendText(a.out, string(a.word))
	a.out = append(a.out, '"')
	return true
}

// timestamp returns a time as RFC 3339 writes it, with the zone that it comes
// with. Infinities, years before Christ or of five digits and zones with seconds
// stay as they are: the standard has none of them.
func timestamp(v []byte) []byte {
	const date, withTime = len(time.DateOnly), len(time.DateTime)
	if len(v) < withTime || v[date] != ' ' || v[len(v)-1] == 'C' {
		return v
	}
	zone := withTime
	for zone < len(v) && v[zone] != '+' && v[zone] != '-' {
		zone++
	}
	t := append(make([]byte, 0, len(v)+len(":00")), v...)
	switch len(v) - zone {
	case len("+00"):
		t = append(t, ":00"...)
	case 0, len("+05:30"):
	default:
		return v
	}
	t[date] = 'T'
	return t
}
