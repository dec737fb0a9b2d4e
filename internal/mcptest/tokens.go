package mcptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A TestToken is an access token, good or bad, and what becomes of who shows it.
type TestToken struct {
	Token  string
	Status int
	Says   string // in WWW-Authenticate
}

// Tokens returns tokens, most of them bad, by what they are, for a resource that
// requires the scope mcp.
func (i *Issuer) Tokens(t testing.TB, resource string) map[string]TestToken {
	t.Helper()
	key, id := i.Key()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(algorithm jose.SignatureAlgorithm, key any, id string) string {
		t.Helper()
		token, err := Sign(algorithm, key, id, map[string]any{
			"iss": i.URL, "sub": "alice", "aud": resource, "scope": "mcp", "exp": time.Now().Add(time.Minute).Unix(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good := i.Token(t, resource, nil)
	parts := strings.Split(good, ".")
	with := func(claims map[string]any) string { return i.Token(t, resource, claims) }
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"`+id+`"}`)) + "." + parts[1] + "."
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	return map[string]TestToken{
		"good":                            {good, 200, ""},
		"good, of a list":                 {with(map[string]any{"aud": []string{"x", resource}}), 200, ""},
		"good, the clock is 50 s off":     {with(map[string]any{"exp": ago(50 * time.Second), "nbf": ago(-50 * time.Second)}), 200, ""},
		"good, scp":                       {with(map[string]any{"scope": nil, "scp": []string{"a", "mcp"}}), 200, ""},
		"good, RS512":                     {sign(jose.RS512, key, id), 200, ""},
		"expired":                         {with(map[string]any{"exp": ago(61 * time.Second)}), 401, "invalid_token"},
		"without an end":                  {with(map[string]any{"exp": nil}), 401, "no end"},
		"not yet valid":                   {with(map[string]any{"nbf": ago(-62 * time.Second)}), 401, "not valid yet"},
		"of the future":                   {with(map[string]any{"iat": ago(-62 * time.Second)}), 401, "not valid yet"},
		"wrong audience":                  {i.Token(t, "https://other.example/mcp", nil), 401, "another audience"},
		"audience that begins alike":      {i.Token(t, resource+".evil.example", nil), 401, "another audience"},
		"no audience":                     {with(map[string]any{"aud": nil}), 401, "another audience"},
		"wrong issuer":                    {with(map[string]any{"iss": "https://evil.example"}), 401, "another issuer"},
		"no issuer":                       {with(map[string]any{"iss": nil}), 401, "another issuer"},
		"no subject":                      {with(map[string]any{"sub": nil}), 401, "whose it is"},
		"no scope":                        {with(map[string]any{"scope": nil}), 403, "insufficient_scope"},
		"another scope":                   {with(map[string]any{"scope": "mcp2 xmcp"}), 403, "insufficient_scope"},
		"alg none":                        {unsigned, 401, "invalid_token"},
		"alg none, by its old signature":  {unsigned + parts[2], 401, "invalid_token"},
		"HS256 by the public key, PEM":    {sign(jose.HS256, public, id), 401, "invalid_token"},
		"HS256 by the public key, DER":    {sign(jose.HS256, der, id), 401, "invalid_token"},
		"HS256 by the modulus":            {sign(jose.HS256, key.N.Bytes(), id), 401, "invalid_token"},
		"another RSA key, by the same id": {sign(jose.RS256, other, id), 401, "not signed by its issuer"},
		"ES256, by the same id":           {sign(jose.ES256, curve, id), 401, "not signed by its issuer"},
		"unknown kid":                     {sign(jose.RS256, other, "unknown"), 401, "not signed by its issuer"},
		"tampered claims":                 {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root"}`)) + "." + parts[2], 401, "invalid_token"},
		"tampered signature":              {good[:len(good)-8] + "AAAAAAAA", 401, "invalid_token"},
		"no signature":                    {parts[0] + "." + parts[1] + ".", 401, "invalid_token"},
		"five parts":                      {good + ".a.b", 401, "invalid_token"},
		"none at all":                     {"....", 401, "invalid_token"},
		"not JSON":                        {"YQ.YQ.YQ", 401, "invalid_token"},
	}
}
