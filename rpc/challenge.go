package rpc

import (
	"strings"

	"golang.org/x/oauth2"
)

// A Challenge is how a server over HTTP has refused a request for want of
// authorization. A request that was refused so has not run.
type Challenge struct {
	// Status is 401, or 403 where the server said insufficient_scope (RFC 6750,
	// 3.1): the token is good, and something more is wanted of it.
	Status int
	// WWWAuthenticate has the values of the header of that name (RFC 9110,
	// 11.6.1), 8 KiB of them at most; there may be none.
	WWWAuthenticate []string
	// Token is the access token that was refused, "" if the request carried
	// none.
	Token string
}

// A ChallengeSource is a [TokenSource] that makes something of what the server
// says when it refuses a request: follows resource_metadata, asks for scope.
// Its Token may give nil without an error for none until then: the request
// goes without, and Token is not called again before a refusal.
type ChallengeSource interface {
	TokenSource
	// TokenFor gives the token with which a request that was refused is made
	// once more. It is called where Token would be after a refusal with 401,
	// and after one with 403, which other sources are not told of. If it gives
	// the refused token again, or fails, the refusal stands. Each request is
	// made once more for a 401 and once more for a 403, no oftener; a source
	// that asks a person, or another server, sees to it that it does not do so
	// over and over for the same.
	TokenFor(c Challenge) (*oauth2.Token, error)
}

// Param returns a parameter of the Bearer challenge, such as scope or
// resource_metadata (RFC 9728, 5.1); "" if there is none.
func (c Challenge) Param(name string) string {
	for _, rest := range c.WWWAuthenticate {
		bearer := false
		for rest != "" {
			rest = strings.TrimLeft(rest, " \t,=")
			word := rest[:tokenLength(rest)]
			if word == "" { // not what a challenge is made of
				_, rest, _ = strings.Cut(rest, ",")
				continue
			}
			rest = strings.TrimLeft(rest[len(word):], " \t")
			value, isParam := strings.CutPrefix(rest, "=")
			if !isParam {
				bearer = strings.EqualFold(word, "Bearer")
				continue
			}
			value, rest = paramValue(strings.TrimLeft(value, " \t"))
			if bearer && strings.EqualFold(word, name) {
				return value
			}
		}
	}
	return ""
}

// paramValue reads a token or a quoted string, and returns what follows it. A
// quoted string without its end is nothing.
func paramValue(text string) (value, rest string) {
	if !strings.HasPrefix(text, `"`) {
		n := tokenLength(text)
		return text[:n], text[n:]
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return b.String(), text[i+1:]
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		b.WriteByte(text[i])
	}
	return "", ""
}

// tokenLength is the length of the token that text begins with (RFC 9110,
// 5.6.2).
func tokenLength(text string) int {
	n := strings.IndexFunc(text, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c)
	})
	if n < 0 {
		return len(text)
	}
	return n
}
