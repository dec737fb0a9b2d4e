package mcptest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// An Issuer gives access tokens: to tests at once, and to clients that log in
// with PKCE, without asking anybody (RFC 6749, 7636, 8414). Its subject is alice.
type Issuer struct {
	// URL is its identifier.
	URL string

	mu     sync.Mutex // guards what follows
	key    *rsa.PrivateKey
	id     string
	down   bool
	looks  int // at its keys
	logins map[string]url.Values
}

// NewIssuer serves an issuer until the test ends.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{logins: map[string]url.Values{}}
	i.Rotate(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/oauth-authorization-server", i.metadata)
	mux.HandleFunc("/keys", i.keys)
	mux.HandleFunc("/authorize", i.authorize)
	mux.HandleFunc("/token", i.token)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.URL = server.URL
	return i
}

// Rotate replaces the key that tokens are signed with. The old one is gone.
func (i *Issuer) Rotate(t testing.TB) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key, i.id = key, rand.Text()
}

// SetDown has it answer that it cannot, or answer again.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Looks returns how often its keys were asked for.
func (i *Issuer) Looks() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.looks
}

// Key returns the key that tokens are signed with, and its id.
func (i *Issuer) Key() (*rsa.PrivateKey, string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.key, i.id
}

// Token returns a token of alice for an audience, good for a minute. Claims are
// put over those that it has; one that is nil is left out.
func (i *Issuer) Token(t testing.TB, audience string, claims map[string]any) string {
	t.Helper()
	key, id := i.Key()
	token, err := Sign(jose.RS256, key, id, i.claims(audience, claims))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (i *Issuer) claims(audience string, more map[string]any) map[string]any {
	now := time.Now()
	all := map[string]any{
		"iss": i.URL, "sub": "alice", "aud": audience, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "scope": "mcp",
	}
	maps.Copy(all, more)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return all
}

// Sign makes a token.
func Sign(algorithm jose.SignatureAlgorithm, key any, id string, claims any) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}

func (i *Issuer) metadata(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token",
		"response_types_supported": []string{"code"}, "code_challenge_methods_supported": []string{"S256"},
		"token_endpoint_auth_methods_supported": []string{"none"},
	})
}

func (i *Issuer) keys(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	key, id, down := i.key, i.id, i.down
	i.looks++
	i.mu.Unlock()
	if down {
		http.Error(w, "not now", http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{
		map[string]string{"kty": "a kind of tomorrow", "kid": "x"},
		jose.JSONWebKey{Key: key.Public(), KeyID: id, Use: "sig"},
	}})
}

// authorize sends the client back with a code.
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()
	code := rand.Text()
	i.mu.Lock()
	i.logins[code] = asked
	i.mu.Unlock()
	http.Redirect(w, r, asked.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {asked.Get("state")}}.Encode(), http.StatusFound)
}

// token gives a token for a code, for the resource and the scopes of its login.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	asked, key, id := i.logins[r.FormValue("code")], i.key, i.id
	delete(i.logins, r.FormValue("code"))
	i.mu.Unlock()
	challenge := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if asked == nil || asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(challenge[:]) || asked.Get("resource") != r.FormValue("resource") {
		http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
		return
	}
	token, err := Sign(jose.RS256, key, id, i.claims(asked.Get("resource"), map[string]any{"scope": asked.Get("scope")}))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 60})
}
