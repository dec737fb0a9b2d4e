package transport

import (
	"net/http"
	"net/url"
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
	var pairs []string
	hide := func(secret string) {
		if len(secret) >= secretLength {
			pairs = append(pairs, secret, "***")
		}
	}
	for _, values := range header {
		for _, value := range values {
			hide(value)
			if _, credentials, ok := strings.Cut(value, " "); ok { // Bearer …, Basic …
				hide(credentials)
			}
		}
	}
	for _, u := range urls {
		if password, ok := u.User.Password(); ok {
			hide(password)
		}
		for _, values := range u.Query() {
			for _, value := range values {
				hide(value)
			}
		}
	}
	return strings.NewReplacer(pairs...)
}
