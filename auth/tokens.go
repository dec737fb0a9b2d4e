package auth

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// JWT is whose access tokens are taken, and which: JSON web tokens signed by an
// issuer (RFC 9068; OpenID Connect Core 1.0).
type JWT struct {
	// Issuer is the issuer's URL, as its tokens have it in iss. It is where its
	// keys are looked for (RFC 8414; OpenID Connect Discovery 1.0) where JWKSURL
	// is "".
	Issuer, JWKSURL string
	// Audience are what a token may be for (aud). Beside them there are, where
	// Options.URL is set: that URL, that URL with /mcp, and that with the path of
	// the endpoint that is called (RFC 8707). A token for anything else is
	// another's, and refused.
	Audience []string
	// Scopes are those that a token has to have, all of them. AdminScope is the
	// one whose tokens may use the admin API; "" for none.
	Scopes     []string
	AdminScope string
	// Algorithms are those that a token may be signed with; none for
	// [DefaultAlgorithms].
	Algorithms []string
	// PrincipalClaim is the claim that says who calls; "" for sub. Others may be
	// given to somebody else one day.
	PrincipalClaim string
}

// algorithms are those of signatures that only the issuer can make: HMACs, whose
// key we would have to share, are not among them, nor is "none" (RFC 8725, 3.1).
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// DefaultAlgorithms returns the algorithms of signatures that are taken where
// none are named, which are all that can be.
func DefaultAlgorithms() []string {
	names := make([]string, len(algorithms))
	for i, algorithm := range algorithms {
		names[i] = string(algorithm)
	}
	return names
}

const (
	// clockSkew is how far the issuer's clock may be from ours.
	clockSkew = 60 * time.Second
	// minRSA is the fewest bits of an RSA key (RFC 7518, 3.3).
	minRSA = 2048
)

// tokens takes access tokens.
type tokens struct {
	JWT
	url        string // of Options
	algorithms []jose.SignatureAlgorithm
	keys       *keySet
}

func newTokens(o JWT, gatewayURL string, log *slog.Logger) (*tokens, error) {
	if _, err := secureURL(o.Issuer); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if len(o.Issuer) > maxPrincipal {
		return nil, fmt.Errorf("issuer: want at most %d bytes", maxPrincipal)
	}
	if o.JWKSURL != "" {
		if _, err := secureURL(o.JWKSURL); err != nil {
			return nil, fmt.Errorf("jwks_url: %w", err)
		}
	}
	if len(o.Audience) == 0 && gatewayURL == "" || slices.Contains(o.Audience, "") {
		return nil, errors.New("audience: want what tokens are for, which others are not, or the url of the gateway")
	}
	for _, scope := range append(slices.Clone(o.Scopes), o.AdminScope) {
		if strings.ContainsFunc(scope, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) { // RFC 6749, 3.3
			return nil, errors.New("scopes: want names without spaces and quotes, each one by itself")
		}
	}
	if slices.Contains(o.Scopes, "") {
		return nil, errors.New("scopes: one is empty")
	}
	t := &tokens{JWT: o, url: gatewayURL, algorithms: algorithms, keys: newKeySet(o.Issuer, o.JWKSURL, log)}
	if len(o.Algorithms) > 0 {
		t.algorithms = nil
	}
	for _, name := range o.Algorithms {
		if !slices.Contains(algorithms, jose.SignatureAlgorithm(name)) {
			return nil, fmt.Errorf("algorithms: want some of %s", strings.Join(DefaultAlgorithms(), ", "))
		}
		t.algorithms = append(t.algorithms, jose.SignatureAlgorithm(name))
	}
	return t, nil
}

// verify returns who a token is of. path is that of the endpoint that it is
// shown to.
func (t *tokens) verify(ctx context.Context, token, path string) (Principal, *Error) {
	// What the header says of where its key could be had (jku, x5u, jwk) is not
	// looked at: keys are those of the issuer.
	parsed, err := jwt.ParseSigned(token, t.algorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return Principal{}, invalid("the token is no key that is known, and no access token with a signature that is taken")
	}
	header := parsed.Headers[0]
	keys, err := t.keys.get(ctx, header.KeyID)
	if err != nil {
		return Principal{}, &Error{Status: http.StatusServiceUnavailable, text: "the keys of the issuer cannot be had at present"}
	}
	var claims jwt.Claims
	var more map[string]any
	err = errors.New("no key")
	for _, key := range keys {
		if fits(key, header.Algorithm) {
			if err = parsed.Claims(key.Key, &claims, &more); err == nil {
				break
			}
		}
	}
	if err != nil {
		return Principal{}, invalid("the token is not signed by its issuer")
	}
	audience := t.Audience
	if t.url != "" {
		audience = append(slices.Clone(audience), t.url, t.url+"/mcp", t.url+path)
	}
	if text := unfit(claims, jwt.Expected{Issuer: t.Issuer, AnyAudience: audience, Time: time.Now()}); text != "" {
		return Principal{}, invalid(text)
	}
	subject := claims.Subject
	if t.PrincipalClaim != "" {
		subject, _ = more[t.PrincipalClaim].(string)
	}
	name, ok := t.name(subject)
	if !ok {
		return Principal{}, invalid("the token does not say whose it is")
	}
	who := Principal{Name: name, Scopes: scopesOf(more)}
	for _, scope := range t.Scopes {
		if !slices.Contains(who.Scopes, scope) {
			return Principal{}, &Error{Status: http.StatusForbidden, text: "the token lacks a scope", code: "insufficient_scope"}
		}
	}
	who.Admin = t.AdminScope != "" && slices.Contains(who.Scopes, t.AdminScope)
	return who, nil
}

// fits reports whether a key may have made a signature of that algorithm.
func fits(key jose.JSONWebKey, algorithm string) bool {
	if key.Algorithm != "" && key.Algorithm != algorithm {
		return false
	}
	if public, ok := key.Key.(*rsa.PublicKey); ok {
		return public.N.BitLen() >= minRSA
	}
	return true
}

// unfit says what is wrong with the claims of a token, "" for nothing.
func unfit(claims jwt.Claims, want jwt.Expected) string {
	err := claims.ValidateWithLeeway(want, clockSkew)
	switch {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return "the token is of another issuer"
	case errors.Is(err, jwt.ErrInvalidAudience):
		return "the token is for another audience"
	case errors.Is(err, jwt.ErrExpired):
		return "the token has expired"
	case err != nil:
		return "the token is not valid yet"
	case claims.Expiry == nil:
		return "the token has no end (exp)"
	}
	return ""
}

// name is what the principal of a subject is called. A subject that is too long
// to be shown, or cannot be, is told by its digest.
func (t *tokens) name(subject string) (string, bool) {
	if subject == "" {
		return "", false
	}
	if !isName(subject) {
		sum := sha256.Sum256([]byte(subject))
		subject = hashPrefix + hex.EncodeToString(sum[:])
	}
	return t.Issuer + "|" + subject, true
}

// scopesOf returns the scopes of a token: scope (RFC 9068, 2.2.3), or scp as
// large providers have it, a text or a list.
func scopesOf(claims map[string]any) []string {
	for _, claim := range [...]string{"scope", "scp"} {
		switch value := claims[claim].(type) {
		case string:
			return strings.Fields(value)
		case []any:
			var scopes []string
			for _, one := range value {
				if scope, ok := one.(string); ok {
					scopes = append(scopes, scope)
				}
			}
			return scopes
		}
	}
	return nil
}

// readKeys returns the keys of a set that signatures are checked with. What
// else it has is left out, and so is what cannot be read: an issuer may begin to
// use a kind of key that is not known here (RFC 7517, 5).
func readKeys(document []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil || set.Keys == nil {
		return nil, errors.New("it is no set of keys")
	}
	if len(set.Keys) > maxSetKeys {
		return nil, fmt.Errorf("it has %d keys: want at most %d", len(set.Keys), maxSetKeys)
	}
	var keys []jose.JSONWebKey
	for _, text := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) == nil && key.IsPublic() && key.Valid() && (key.Use == "" || key.Use == "sig") {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no key that signatures are checked with")
	}
	return keys, nil
}
