package transport

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// excerptLength bounds, in bytes, what an error or a log line quotes of what a
// server said.
const excerptLength = 200

// excerpt returns the beginning of what a server said, on one line and fit to
// be printed.
func excerpt(said []byte) string {
	// Runs of space shrink, so look a little further than is kept.
	cut := len(said) > 4*excerptLength
	if cut {
		said = said[:4*excerptLength]
	}
	text := strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(said), ""))), " ")
	if len(text) > excerptLength {
		text, cut = strings.ToValidUTF8(text[:excerptLength], ""), true
	}
	if cut {
		text += "…"
	}
	return text
}

// secretLength is the length in bytes from which a header or query value
// counts as a secret. A shorter one protects nothing, and hiding it would
// garble texts.
const secretLength = 8

// secrets returns what blots out of a text whatever must not be in an error:
// header values, and the credentials and query values of URLs, all of which a
// server may well repeat in what it says.
func secrets(header http.Header, urls ...*url.URL) *strings.Replacer {
	var hidden []string
	for _, values := range header {
		for _, value := range values {
			hidden = append(hidden, value)
			if _, credentials, ok := strings.Cut(value, " "); ok { // Bearer …, Basic …
				hidden = append(hidden, credentials)
			}
		}
	}
	for _, u := range urls {
		if password, ok := u.User.Password(); ok {
			hidden = append(hidden, password)
		}
		for _, values := range u.Query() {
			hidden = append(hidden, values...)
		}
	}
	return replacer(hidden)
}

// replacer blots out those of the texts that count as secrets.
func replacer(hidden []string) *strings.Replacer {
	hidden = slices.DeleteFunc(slices.Clone(hidden), func(s string) bool { return len(s) < secretLength })
	// Of two that begin alike the first is replaced: the end of the longer one
	// would stay.
	slices.SortFunc(hidden, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, secret := range hidden {
		pairs = append(pairs, secret, "***")
	}
	return strings.NewReplacer(pairs...)
}
