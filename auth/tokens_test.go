package auth_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mcpool-dev/mcpool/auth"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestBadTokensAreRefused(t *testing.T) {
	issuer := mcptest.NewIssuer(t)
	a := newAuth(t, auth.Options{URL: here, JWT: &auth.JWT{Issuer: issuer.URL, Scopes: []string{"mcp"}}})
	for name, test := range issuer.Tokens(t, here+"/mcp") {
		who, err := a.Authenticate(request("Bearer " + test.Token))
		if got := status(t, err); got != test.Status {
			t.Errorf("%s: status %d, %v, want %d", name, got, err, test.Status)
			continue
		}
		if err == nil {
			if who.Name != issuer.URL+"|alice" || !slices.Contains(who.Scopes, "mcp") || who.Admin {
				t.Errorf("%s: it is %+v", name, who)
			}
			continue
		}
		challenge := err.(*auth.Error).Header.Get("WWW-Authenticate")
		for _, want := range []string{`Bearer realm="mcpool", error="`, test.Says, `scope="mcp"`, `resource_metadata="` + here + `/.well-known/oauth-protected-resource/mcp/sales"`} {
			if !strings.Contains(challenge, want) {
				t.Errorf("%s: %s lacks %s", name, challenge, want)
			}
		}
		if who.Name != "" || strings.Contains(challenge+err.Error(), test.Token) {
			t.Errorf("%s: %+v, %v, %s", name, who, err, challenge)
		}
	}
}

// TestATokenIsForItsEndpoint: a token that was asked for one endpoint opens no
// other (RFC 8707), and one for the first opens all.
func TestATokenIsForItsEndpoint(t *testing.T) {
	issuer := mcptest.NewIssuer(t)
	a := newAuth(t, auth.Options{URL: here, JWT: &auth.JWT{Issuer: issuer.URL, Audience: []string{"api"}}})
	for audience, want := range map[string][]string{
		here + "/mcp/sales":      {"/mcp/sales", "/mcp/sales/"},
		here + "/mcp":            {"/mcp/sales", "/mcp/sales/", "/mcp/hr", "/mcp", "/admin/v1/pools"},
		here:                     {"/mcp/sales", "/mcp/sales/", "/mcp/hr", "/mcp", "/admin/v1/pools"},
		"api":                    {"/mcp/sales", "/mcp/sales/", "/mcp/hr", "/mcp", "/admin/v1/pools"},
		here + "/admin/v1/pools": nil,
	} {
		token := issuer.Token(t, audience, nil)
		for _, path := range []string{"/mcp/sales", "/mcp/sales/", "/mcp/hr", "/mcp", "/admin/v1/pools"} {
			r := request("Bearer " + token)
			r.URL.Path = path
			if _, err := a.Authenticate(r); (err == nil) != slices.Contains(want, path) {
				t.Errorf("%s at %s: %v", audience, path, err)
			}
		}
	}
}

func TestPrincipalsOfTokensAreStable(t *testing.T) {
	issuer := mcptest.NewIssuer(t)
	name := func(j auth.JWT, claims map[string]any) string {
		j.Issuer = issuer.URL
		who, err := newAuth(t, auth.Options{URL: here, JWT: &j}).Authenticate(request("Bearer " + issuer.Token(t, here, claims)))
		if err != nil {
			return err.Error()
		}
		return strings.TrimPrefix(who.Name, issuer.URL)
	}
	first := name(auth.JWT{}, nil)
	issuer.Rotate(t)
	if second := name(auth.JWT{}, map[string]any{"jti": "2", "scope": "more"}); first != "|alice" || second != first {
		t.Errorf("a new token by a new key is of %s, the old one of %s", second, first)
	}
	long := strings.Repeat("x", 300)
	if got := name(auth.JWT{}, map[string]any{"sub": long}); !strings.HasPrefix(got, "|sha256:") || len(got) != len("|sha256:")+64 {
		t.Errorf("a long subject is %s", got)
	}
	if got := name(auth.JWT{}, map[string]any{"sub": "a\nlevel=ERROR"}); !strings.HasPrefix(got, "|sha256:") {
		t.Errorf("a subject of two lines is %s", got)
	}
	if got := name(auth.JWT{PrincipalClaim: "email"}, map[string]any{"email": "a@b.example"}); got != "|a@b.example" {
		t.Errorf("by email it is %s", got)
	}
	for _, claims := range []map[string]any{nil, {"email": ""}, {"email": []string{"a"}}} {
		if got := name(auth.JWT{PrincipalClaim: "email"}, claims); got != "the token does not say whose it is" {
			t.Errorf("%v: %s", claims, got)
		}
	}
	if got := name(auth.JWT{Algorithms: []string{"ES256"}}, nil); !strings.Contains(got, "signature that is taken") {
		t.Errorf("RS256, which is not in the list: %s", got)
	}
}

func TestAdminsByScope(t *testing.T) {
	issuer := mcptest.NewIssuer(t)
	a := newAuth(t, auth.Options{URL: here, JWT: &auth.JWT{Issuer: issuer.URL, AdminScope: "mcp:admin"}})
	if who, err := a.Admin(request("Bearer " + issuer.Token(t, here, map[string]any{"scope": "mcp mcp:admin"}))); err != nil || !who.Admin {
		t.Errorf("got %+v, %v", who, err)
	}
	_, err := a.Admin(request("Bearer " + issuer.Token(t, here, nil)))
	if status(t, err) != 403 || !strings.Contains(err.(*auth.Error).Header.Get("WWW-Authenticate"), `error="insufficient_scope", error_description="this is for admins", scope="mcp:admin"`) {
		t.Errorf("got %v, %v", err, err.(*auth.Error).Header)
	}
	if _, err = a.Admin(request()); status(t, err) != 401 {
		t.Errorf("nobody: %v", err)
	}
}

// TestKeysOfIssuersAreRotated: a new key is looked for when it is first used, and
// made-up ids cost one look in 30 s.
func TestKeysOfIssuersAreRotated(t *testing.T) {
	issuer := mcptest.NewIssuer(t)
	now := time.Now()
	a := newAuth(t, auth.Options{URL: here, JWT: &auth.JWT{Issuer: issuer.URL, JWKSURL: issuer.URL + "/keys"}})
	auth.SetClock(a, func() time.Time { return now })
	call := func(when string, token string, want, looks int) {
		t.Helper()
		_, err := a.Authenticate(request("Bearer " + token))
		if got := status(t, err); got != want || issuer.Looks() != looks {
			t.Errorf("%s: status %d after %d looks, want %d after %d: %v", when, got, issuer.Looks(), want, looks, err)
		}
	}
	token := func() string { return issuer.Token(t, here, map[string]any{"exp": now.Add(100 * time.Hour).Unix()}) }
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	madeUp := func() string {
		bad, err := mcptest.Sign(jose.RS256, other, time.Now().String(), map[string]any{"iss": issuer.URL, "aud": here, "sub": "eve", "exp": now.Add(time.Hour).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		return bad
	}
	old := token()
	call("the first", old, 200, 1)
	for range 20 {
		now = now.Add(time.Second)
		call("a made-up id", madeUp(), 401, 1)
	}
	issuer.Rotate(t)
	call("the next, too soon", token(), 401, 1)
	now = now.Add(11 * time.Second)
	call("the next", token(), 200, 2)
	call("the old one", old, 401, 2)
	for range 20 {
		call("a made-up id", madeUp(), 401, 2)
	}
	issuer.SetDown(true)
	now = now.Add(2 * time.Hour)
	call("down, two hours later", token(), 200, 3)
	call("down, and not asked again", token(), 200, 3)
	now = now.Add(6 * time.Second)
	call("down, and asked again", token(), 200, 4)
	now = now.Add(23 * time.Hour)
	call("down for a day", token(), 503, 5)
	call("down for a day, at once", token(), 503, 5)
	issuer.SetDown(false)
	now = now.Add(6 * time.Second)
	call("up again", token(), 200, 6)
}

func TestIssuersThatAreNotWhatTheyShouldBe(t *testing.T) {
	issuer := mcptest.NewIssuer(t)
	var elsewhere int
	victim := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { elsewhere++ }))
	defer victim.Close()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	var says map[string]any // by path; a string is where it redirects to
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch answer := says[r.URL.Path].(type) {
		case nil:
			http.NotFound(w, r)
		case string:
			http.Redirect(w, r, answer, http.StatusFound)
		default:
			_ = json.NewEncoder(w).Encode(answer)
		}
	}))
	defer server.Close()
	key, id := issuer.Key()
	const place = "/.well-known/openid-configuration"
	good := map[string]any{
		place:   map[string]string{"issuer": server.URL, "jwks_uri": server.URL + "/keys"},
		"/keys": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: id}}},
	}
	for name, test := range map[string]struct {
		says   map[string]any // over what is good
		key    *rsa.PrivateKey
		status int
	}{
		"good":                {nil, key, 200},
		"no metadata":         {map[string]any{place: nil}, key, 503},
		"that of another":     {map[string]any{place: map[string]string{"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys"}}, key, 503},
		"named in the clear":  {map[string]any{place: map[string]string{"issuer": server.URL, "jwks_uri": "http://10.0.0.1/keys"}}, key, 503},
		"a file is named":     {map[string]any{place: map[string]string{"issuer": server.URL, "jwks_uri": "file:///etc/passwd"}}, key, 503},
		"a redirection":       {map[string]any{place: victim.URL}, key, 503},
		"keys are redirected": {map[string]any{"/keys": victim.URL}, key, 503},
		"no keys":             {map[string]any{"/keys": map[string]any{}}, key, 503},
		"a symmetric key":     {map[string]any{"/keys": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: []byte("secret"), KeyID: id}}}}, key, 503},
		"a private key":       {map[string]any{"/keys": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, KeyID: id}}}}, key, 503},
		"keys of encryption":  {map[string]any{"/keys": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: id, Use: "enc"}}}}, key, 503},
		"a key of RS512":      {map[string]any{"/keys": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: id, Algorithm: "RS512"}}}}, key, 401},
		"a weak key":          {map[string]any{"/keys": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: weak.Public(), KeyID: id}}}}, weak, 401},
		"too many keys":       {map[string]any{"/keys": map[string]any{"keys": slices.Repeat([]any{map[string]any{}}, 101)}}, key, 503},
		"too much":            {map[string]any{"/keys": map[string]any{"keys": []any{}, "x": strings.Repeat("x", 600<<10)}}, key, 503},
	} {
		says = maps.Clone(good)
		maps.Copy(says, test.says)
		var log bytes.Buffer
		a := newAuth(t, auth.Options{URL: here, JWT: &auth.JWT{Issuer: server.URL}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		token := signed(t, test.key, id, map[string]any{"iss": server.URL, "sub": "a", "aud": here, "exp": time.Now().Add(time.Minute).Unix()})
		_, err := a.Authenticate(request("Bearer " + token))
		if strings.Contains(name, "named") && !strings.Contains(log.String(), "want an https URL") { // and not that it was asked in vain
			t.Errorf("%s: %s", name, log.String())
		}
		if status(t, err) != test.status {
			t.Errorf("%s: %v, want status %d", name, err, test.status)
		} else if e, ok := err.(*auth.Error); ok && e.Status == 503 && (e.Header.Get("Retry-After") == "" || e.Header.Get("WWW-Authenticate") != "") {
			t.Errorf("%s: %v", name, e.Header)
		}
	}
	if elsewhere != 0 {
		t.Errorf("%d requests were sent where an answer pointed", elsewhere)
	}
}

// signed is a token signed as RS256 has it, by a key of any size: the library
// signs with none that is too weak.
func signed(t *testing.T, key *rsa.PrivateKey, id string, claims map[string]any) string {
	t.Helper()
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	encoding := base64.RawURLEncoding
	text := encoding.EncodeToString([]byte(`{"alg":"RS256","kid":"`+id+`"}`)) + "." + encoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + encoding.EncodeToString(signature)
}

func TestMetadata(t *testing.T) {
	a := newAuth(t, auth.Options{URL: here, JWT: &auth.JWT{Issuer: "https://login.example.com", Scopes: []string{"mcp"}}})
	ask := func(a *auth.Authenticator, method, path string) (int, string) {
		w := httptest.NewRecorder()
		a.Metadata(w, httptest.NewRequest(method, here+path, nil))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	for suffix, resource := range map[string]string{"": "", "/": "", "/mcp": "/mcp", "/mcp/sales": "/mcp/sales", "/sse": "/sse"} {
		code, got := ask(a, "GET", "/.well-known/oauth-protected-resource"+suffix)
		want := `{"resource":"` + here + resource + `","authorization_servers":["https://login.example.com"],"scopes_supported":["mcp"],"bearer_methods_supported":["header"],"resource_name":"mcpool"}`
		if code != 200 || got != want {
			t.Errorf("%s: %d %s, want %s", suffix, code, got, want)
		}
	}
	_, kept, _ := auth.NewKey("ci")
	for name, code := range map[string]int{
		"a path that is none": func() int { c, _ := ask(a, "GET", "/.well-known/oauth-protected-resource/mcp/<script>"); return c }(),
		"without an issuer": func() int {
			c, _ := ask(newAuth(t, auth.Options{URL: here, Keys: []auth.Key{kept}}), "GET", "/.well-known/oauth-protected-resource")
			return c
		}(),
		"without a URL": func() int {
			c, _ := ask(newAuth(t, auth.Options{JWT: &auth.JWT{Issuer: "https://a", Audience: []string{"a"}}}), "GET", "/.well-known/oauth-protected-resource")
			return c
		}(),
	} {
		if code != 404 {
			t.Errorf("%s: status %d", name, code)
		}
	}
	if code, _ := ask(a, "POST", "/.well-known/oauth-protected-resource"); code != 405 {
		t.Errorf("POST: status %d", code)
	}
}
