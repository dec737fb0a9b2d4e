package dbserver

import (
	"database/sql/driver"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxCellBytes = 4 << 10 // of text shown of one value
	maxBlobBytes = 256     // of a blob
	maxExact     = 1 << 53 // up to here every reader of JSON keeps integers
)

// A cell is what happened to a value on its way into an answer.
type cell struct {
	cut     bool // not all of it is there
	invalid bool // it was not UTF-8
}

// appendValue appends a value as JSON, by the rules of the package comment.
func appendValue(dst []byte, value driver.Value) ([]byte, cell) {
	switch v := value.(type) {
	case nil:
		return append(dst, "null"...), cell{}
	case int64:
		if v > maxExact || v < -maxExact {
			dst = append(dst, '"')
			return append(strconv.AppendInt(dst, v, 10), '"'), cell{}
		}
		return strconv.AppendInt(dst, v, 10), cell{}
	case float64:
		return appendReal(dst, v), cell{}
	case string:
		shown, cut := cutText(v)
		dst, invalid := appendText(append(dst, '"'), shown)
		if cut {
			dst = append(dst, "…"...)
		}
		return append(dst, '"'), cell{cut, invalid}
	case []byte:
		shown := v[:min(len(v), maxBlobBytes)]
		dst = strconv.AppendInt(append(dst, `{"$bytes":`...), int64(len(v)), 10)
		dst = base64.StdEncoding.AppendEncode(append(dst, `,"base64":"`...), shown)
		return append(dst, `"}`...), cell{cut: len(shown) < len(v)}
	}
	// The driver makes a time of text in a column that others turned into a
	// DATE since the statement was compiled.
	return appendValue(dst, fmt.Sprint(value))
}

// appendReal appends a floating-point number as encoding/json writes it, but
// always so that it can be told from an integer. JSON has no infinities (RFC
// 8259, section 6).
func appendReal(dst []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(dst, `"-Infinity"`...)
	}
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.AppendFloat(dst, v, 'e', -1, 64)
	}
	dst = strconv.AppendFloat(dst, v, 'f', -1, 64)
	if v == math.Trunc(v) {
		dst = append(dst, ".0"...)
	}
	return dst
}

// cutText returns the part of a text that is shown, which ends at a character.
func cutText(s string) (shown string, cut bool) {
	if len(s) <= maxCellBytes {
		return s, false
	}
	end := maxCellBytes
	for end > maxCellBytes-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end], true
}

const hexDigits = "0123456789abcdef"

// appendText appends the inside of a JSON string. It writes the bytes that
// encoding/json writes when it does not escape HTML; invalid reports whether
// some were not UTF-8 and became U+FFFD.
func appendText(dst []byte, s string) (_ []byte, invalid bool) {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			if c >= 0x20 && c != '"' && c != '\\' {
				continue
			}
			dst = append(dst, s[start:i-1]...)
			dst = appendEscape(dst, c)
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[start:i-1]...), `\ufffd`...)
			start, invalid = i, true
		case r == '\u2028' || r == '\u2029': // line ends in JavaScript
			dst = append(append(dst, s[start:i-size]...), `\u202`...)
			dst = append(dst, hexDigits[r&0xf])
			start = i
		}
	}
	return append(dst, s[start:]...), invalid
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}

// appendTSV appends a value as a field of tab-separated values.
func appendTSV(dst []byte, value driver.Value) []byte {
	switch v := value.(type) {
	case nil:
		return append(dst, `\N`...)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case float64:
		start := len(dst)
		dst = appendReal(dst, v)
		if dst[start] == '"' {
			dst = append(dst[:start], dst[start+1:len(dst)-1]...)
		}
		return dst
	case string:
		shown, cut := cutText(v)
		dst = append(dst, tsvEscaper.Replace(shown)...)
		if cut {
			dst = append(dst, "…"...)
		}
		return dst
	case []byte:
		return fmt.Appendf(dst, "<%d bytes>", len(v))
	}
	return appendTSV(dst, fmt.Sprint(value))
}

var tsvEscaper = strings.NewReplacer("\\", `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`)
