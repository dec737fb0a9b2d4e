package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/mcpool-dev/mcpool/auth"
)

// A Token is what a caller of the API may show instead of being of this machine:
// its SHA-256, so that the token itself is not kept.
type Token [sha256.Size]byte

// hashed is what the hash of a token begins with in a file.
const hashed = "sha256:"

// ParseToken reads what a file of a token has: one line, which is the token, of
// 16 characters or more, or "sha256:" and the token's SHA-256 in hex. The error
// does not have what was read.
func ParseToken(file []byte) (*Token, error) {
	text := string(bytes.TrimSpace(file))
	if hash, is := strings.CutPrefix(text, hashed); is {
		sum, err := hex.DecodeString(hash)
		if err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("want %s and 64 hex digits", hashed)
		}
		return (*Token)(sum), nil
	}
	if len(text) < 16 || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return nil, errors.New("want one line with a token of 16 or more letters, digits and signs, or " + hashed + " and its hash")
	}
	sum := Token(sha256.Sum256([]byte(text)))
	return &sum, nil
}

// matches reports whether a token is t; nothing is nil.
func (t *Token) matches(token string) bool {
	if t == nil {
		return false
	}
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(t[:], sum[:]) == 1
}

// headerAdmin has to be in a request that changes something, unless a token is:
// no form or link of a web page sends it.
const headerAdmin = "X-Mcpool-Admin"

// admit says who makes a request, if Authorize does, and why it may not use the
// API; nil if it may. What the caller needs to do better is in the header of w then.
func (a *Admin) admit(w http.ResponseWriter, r *http.Request) (principal string, _ *apiError) {
	if foreign(r) {
		return principal, &apiError{http.StatusForbidden, "a web page of another origin may not use this", "open the page of this gateway itself"}
	}
	bearer, shown := bearerOf(r)
	switch {
	case shown && a.Token().matches(bearer):
		return "", nil
	case a.Authorize != nil:
		var err error
		if principal, err = a.Authorize(r); err != nil {
			return principal, unauthorized(w, err)
		}
	case shown:
		return principal, &apiError{http.StatusUnauthorized, "this is not the gateway's admin token", "see admin.token_file in its configuration"}
	case !a.Local:
		return principal, &apiError{http.StatusUnauthorized, "this wants a token", "show the token of the gateway's admin.token_file; mcpool does with --token-file"}
	case !local(r):
		return principal, &apiError{http.StatusForbidden, "without a token this is for programs on the gateway's machine alone", "give the gateway an admin.token_file, and show that token"}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !shown && r.Header.Get(headerAdmin) != "1" {
		return principal, &apiError{http.StatusForbidden, "a request that changes something wants the header " + headerAdmin, "send " + headerAdmin + ": 1"}
	}
	return principal, nil
}

// unauthorized makes an error of Options.Authorize that of a request.
func unauthorized(w http.ResponseWriter, err error) *apiError {
	status := http.StatusUnauthorized
	if says := (*auth.Error)(nil); errors.As(err, &says) {
		status = says.Status
		maps.Copy(w.Header(), says.Header)
	}
	return &apiError{status, err.Error(), "show the gateway's admin token, or credentials that may use this"}
}

// bearerOf returns the token that a request shows (RFC 6750, 2.1).
func bearerOf(r *http.Request) (token string, shown bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimSpace(token), true
}

// foreign reports whether a request was made by a web page of another origin
// than the one that it was made to.
func foreign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") { // W3C, Fetch Metadata
	case "", "same-origin", "none":
	default:
		return true
	}
	for _, origin := range r.Header.Values("Origin") {
		if u, err := url.Parse(origin); err != nil || u.Host != r.Host {
			return true
		}
	}
	return false
}

// local reports whether a request comes from this machine, and not through a
// proxy on it: its Host is a name of loopback, which a page under another name
// that resolves here does not send.
func local(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback() && loopbackHost(r.Host)
}

func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}
