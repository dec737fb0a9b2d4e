package result

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// AppendText appends the inside of a JSON string. It writes the bytes that
// encoding/json writes when it does not escape HTML; invalid reports whether
// some were not UTF-8 and became U+FFFD.
func AppendText(dst []byte, s string) (_ []byte, invalid bool) {
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
