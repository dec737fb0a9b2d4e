package auth

import (
	"net/http"
	"net/url"
	"strings"
)

// maxToken bounds a token, in bytes. Access tokens with many claims have some
// 4 KiB, and proxies in front of us take 8 KiB of headers.
const maxToken = 16 << 10

// bearer returns the token of a request, "" if it has none. What could be read
// in more ways than one is refused: a proxy before us may have read it in
// another.
func bearer(r *http.Request) (string, *Error) {
	malformed := func(text string) *Error {
		return &Error{Status: http.StatusBadRequest, text: text, code: "invalid_request"}
	}
	// Only where it may be there: most requests have no query.
	if r.URL.RawQuery != "" && hasToken(r.URL.RawQuery) {
		return "", malformed("a token is in the URL, where logs would keep it: send it in the header Authorization")
	}
	values := r.Header.Values("Authorization")
	switch len(values) {
	case 0:
		return "", nil
	case 1:
	default:
		return "", malformed("there are two headers Authorization")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") { // RFC 9110, 11.1
		return "", &Error{Status: http.StatusUnauthorized, text: "want the header Authorization: Bearer TOKEN"}
	}
	token = strings.Trim(token, " ")
	switch {
	case len(token) > maxToken:
		return "", &Error{Status: http.StatusRequestHeaderFieldsTooLarge, text: "the token is too long", code: "invalid_request"}
	case !isToken(token):
		return "", malformed("what follows Bearer is no token")
	}
	return token, nil
}

// hasToken reports whether a query has the parameter of a token (RFC 6750,
// 2.3), also where its value or the rest of the query cannot be read: it was
// sent where logs keep it.
func hasToken(query string) bool {
	for pair := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err == nil && name == "access_token" {
			return true
		}
	}
	return false
}

// isToken reports whether a text is a b64token (RFC 6750, 2.1).
func isToken(text string) bool {
	text = strings.TrimRight(text, "=")
	for _, c := range []byte(text) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~+/", c) >= 0) {
			return false
		}
	}
	return text != ""
}
