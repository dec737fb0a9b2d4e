package mcpool_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	resourcePlace = "server.test/.well-known/oauth-protected-resource/mcp"
	issuerPlace   = "as.test/.well-known/oauth-authorization-server"
	clientSecret  = "tops3cret of the client"
)

// An authority is an authorization server at https://as.test, and a guard of
// the MCP server at https://server.test/mcp, which takes its tokens.
type authority struct {
	t         testing.TB
	server    server
	documents map[string]string // by host and path
	challenge string            // of a 401, after Bearer
	needs     map[string]string // scope, by tool
	lifetime  time.Duration     // of a token; 0 for no end
	takes     time.Duration     // to give one
	rotates   bool              // refresh tokens

	mu sync.Mutex // guards what follows
	// answers is asked before a token is given; true if it has answered.
	answers func(w http.ResponseWriter, r *http.Request) bool
	came    map[string]int // requests, by host and path
	forms   []string       // of the token endpoint, by grant, scope and how the secret came
	tokens  map[string]given
	refresh string // the one that is taken
	reused  int    // times that another one came
	n       int
}

type given struct {
	scope string
	until time.Time
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, came: map[string]int{}, tokens: map[string]given{}, refresh: "refresh-tops3cret-0", rotates: true,
		documents: map[string]string{
			resourcePlace: `{"resource": "https://server.test/mcp", "authorization_servers": ["https://as.test"], "scopes_supported": ["all"]}`,
			issuerPlace:   `{"issuer": "https://as.test", "token_endpoint": "https://as.test/token"}`,
		},
		challenge: `resource_metadata="https://` + resourcePlace + `", scope="base"`,
	}
	a.server.network.Handler = a
	a.server.Fault = a.guard
	return a
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	place := r.Host + r.URL.EscapedPath()
	a.mu.Lock()
	a.came[place]++
	a.mu.Unlock()
	switch document, there := a.documents[place]; {
	case there:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, document)
	case place == "as.test/token", place == "server.test/token":
		a.grant(w, r)
	case place == "server.test/mcp":
		a.server.Server.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (a *authority) guard(r *http.Request, method string, w http.ResponseWriter) bool {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	m, _ := jsonrpc.Parse(body)
	need := a.needs[jsonrpc.GetString(m.Params, "name")]
	a.mu.Lock()
	defer a.mu.Unlock()
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	has, known := a.tokens[token]
	switch {
	case !known, !has.until.IsZero() && time.Now().After(has.until):
		w.Header().Set("WWW-Authenticate", "Bearer "+a.challenge)
		http.Error(w, "who is "+token, http.StatusUnauthorized)
	case need != "" && !slices.Contains(strings.Fields(has.scope), need):
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+need+`"`)
		http.Error(w, "too little: "+token, http.StatusForbidden)
	default:
		return false
	}
	return true
}

func (a *authority) grant(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	answers := a.answers
	a.mu.Unlock()
	if answers != nil && answers(w, r) {
		return
	}
	time.Sleep(a.takes)
	a.mu.Lock()
	defer a.mu.Unlock()
	user, password, basic := r.BasicAuth()
	how := "basic"
	if !basic {
		user, password, how = r.FormValue("client_id"), r.FormValue("client_secret"), "post"
	}
	if password == "" {
		how = "none"
	}
	a.forms = append(a.forms, fmt.Sprintf("%s [%s] %s %s", r.FormValue("grant_type"), r.FormValue("scope"), how, r.FormValue("resource")))
	password = strings.ReplaceAll(password, "+", " ")
	w.Header().Set("Content-Type", "application/json")
	refuse := func(code string) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error": %q, "error_description": "not %s, not %s"}`, code, password, r.FormValue("refresh_token"))
	}
	rotated := ""
	switch {
	case user != "me", password != clientSecret && password != "":
		refuse("invalid_client")
		return
	case r.FormValue("grant_type") == "refresh_token" && r.FormValue("refresh_token") != a.refresh:
		a.reused++
		refuse("invalid_grant")
		return
	case r.FormValue("grant_type") == "refresh_token" && a.rotates:
		a.refresh = fmt.Sprint("refresh-tops3cret-", a.n+1)
		rotated = fmt.Sprintf(`, "refresh_token": %q`, a.refresh)
	}
	a.n++
	token, expires := fmt.Sprint("access-tops3cret-", a.n), ""
	g := given{scope: r.FormValue("scope")}
	if a.lifetime > 0 {
		g.until = time.Now().Add(a.lifetime)
		expires = fmt.Sprintf(`, "expires_in": %d`, a.lifetime/time.Second)
	}
	a.tokens[token] = g
	fmt.Fprintf(w, `{"access_token": %q, "token_type": "bearer"%s%s}`, token, expires, rotated)
}

func (a *authority) times(place string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.came[place]
}

// expect looks at what came to the token endpoint since it was asked last.
func (a *authority) expect(want ...string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.forms, want) {
		a.t.Errorf("the token endpoint got\n%q, want\n%q", a.forms, want)
	}
	a.forms = nil
}

func (a *authority) revoke() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.tokens)
}

// login is client credentials, changed by change.
func (a *authority) login(change func(*mcpool.OAuth)) mcpool.OAuth {
	o := mcpool.OAuth{ClientID: "me", ClientSecret: clientSecret, RoundTripper: &a.server.network}
	if change != nil {
		change(&o)
	}
	return o
}

func (a *authority) to(o mcpool.OAuth) mcpool.Server {
	return mcpool.Server{Name: "test", URL: "https://server.test/mcp?key=query-tops3cret", Auth: o, RoundTripper: &a.server.network}
}

func (a *authority) pool(change func(*mcpool.OAuth)) *mcpool.Pool {
	a.t.Helper()
	p, err := mcpool.New(a.to(a.login(change)), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return p
}

// withAuthority runs a test in a bubble.
func withAuthority(t *testing.T, test func(t *testing.T, a *authority)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newAuthority(t)) })
}

func succeed(t *testing.T, p *mcpool.Pool, tool, id string) {
	t.Helper()
	if _, err := call(t.Context(), p, nobody, tool, id); err != nil {
		t.Errorf("%s: %v", id, err)
	}
}

const clientGrant = "client_credentials [base] basic https://server.test/mcp"

func TestClientCredentials(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		a.lifetime = time.Minute
		p := a.pool(nil)
		for n := range 3 {
			succeed(t, p, "write", fmt.Sprint(n))
			a.expect(clientGrant)
			time.Sleep(time.Minute)
		}
		if a.times(resourcePlace) != 1 || a.times(issuerPlace) != 1 || p.Stats().Opened != 1 || a.server.Sessions() != 1 {
			t.Errorf("metadata was read %d and %d times, for %d sessions", a.times(resourcePlace), a.times(issuerPlace), a.server.Sessions())
		}
		succeed(t, p, "write", "fresh")
		a.expect(clientGrant)
		a.revoke() // a token so young is not renewed
		_, err := call(t.Context(), p, nobody, "write", "revoked")
		if !errors.Is(err, mcpool.ErrRefused) || !mcpool.SafeToRetry(err) {
			t.Errorf("got %v", err)
		}
		a.expect()
		time.Sleep(10 * time.Second)
		succeed(t, p, "write", "renewed")
		a.expect(clientGrant)
		closePool(t, p)
	})
}

// TestManyCallersCostOneToken has 50 callers of ten principals, in a group each.
func TestManyCallersCostOneToken(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		a.lifetime, a.takes = time.Hour, time.Second
		file := filepath.Join(t.TempDir(), "refresh")
		write(t, file, "refresh-tops3cret-0\n")
		p := a.pool(func(o *mcpool.OAuth) { o.RefreshTokenFile = file })
		for round := range 3 {
			var all sync.WaitGroup
			for n := range 50 {
				all.Go(func() {
					who := rpc.Caller{Principal: fmt.Sprint(n % 10)}
					if _, err := call(t.Context(), p, who, "write", fmt.Sprint(round, n)); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			a.expect("refresh_token [] basic https://server.test/mcp")
			if round == 1 {
				time.Sleep(time.Minute)
				a.revoke() // all are refused
			} else {
				time.Sleep(time.Hour)
			}
		}
		if a.reused != 0 {
			t.Errorf("an old refresh token came %d times", a.reused)
		}
		closePool(t, p)
	})
}

// TestLateRefusalCostsNoToken has one principal be refused long after the token
// was renewed for another.
func TestLateRefusalCostsNoToken(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		p := a.pool(nil)
		use := func(principal string) {
			t.Helper()
			if _, err := call(t.Context(), p, rpc.Caller{Principal: principal}, "write", principal); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		use("ann")
		use("bob")
		a.expect(clientGrant)
		a.revoke()
		use("ann")
		a.expect(clientGrant)
		use("bob")
		a.expect()
		closePool(t, p)
	})
}

// TestRefreshOutlivesItsCaller has the only caller go while the authorization
// server answers.
func TestRefreshOutlivesItsCaller(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		a.takes = 10 * time.Second
		p := a.pool(func(o *mcpool.OAuth) { o.RefreshToken = a.refresh })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := call(ctx, p, nobody, "write", "1"); !errors.Is(err, context.DeadlineExceeded) || !mcpool.SafeToRetry(err) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Minute)
		succeed(t, p, "write", "2")
		a.expect("refresh_token [] basic https://server.test/mcp")
		closePool(t, p)
	})
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func contains(t testing.TB, path, want string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if strings.TrimSpace(string(data)) != want || err != nil {
		t.Errorf("%s has %q, want %q: %v", path, data, want, err)
	}
}

// TestRefreshTokensRotate has a login outlive two pools, behind a symbolic
// link, and end.
func TestRefreshTokensRotate(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		a.lifetime = time.Minute
		folder := t.TempDir()
		file, link := filepath.Join(folder, "refresh"), filepath.Join(t.TempDir(), "link")
		write(t, file, " "+a.refresh+"\n")
		if err := os.Symlink(file, link); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			p := a.pool(func(o *mcpool.OAuth) { o.RefreshTokenFile = link })
			for n := range 3 {
				succeed(t, p, "write", fmt.Sprint(n))
				contains(t, file, a.refresh)
				time.Sleep(time.Minute)
			}
			closePool(t, p)
		}
		info, err := os.Lstat(file)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if a.reused != 0 || a.refresh == "refresh-tops3cret-0" {
			t.Errorf("an old refresh token came %d times; the last is %s", a.reused, a.refresh)
		}

		p := a.pool(func(o *mcpool.OAuth) { o.RefreshTokenFile = link })
		succeed(t, p, "write", "before the end")
		a.refresh = "of another login"
		time.Sleep(time.Minute)
		for range 3 {
			time.Sleep(10 * time.Second)
			_, err := call(t.Context(), p, nobody, "write", "at the end")
			var said *oauth2.RetrieveError
			if !errors.Is(err, mcpool.ErrCredentials) || !mcpool.SafeToRetry(err) || !errors.As(err, &said) || said.ErrorCode != "invalid_grant" ||
				!strings.Contains(err.Error(), "log in again") || strings.Contains(fmt.Sprint(err, said), "tops3cret") {
				t.Errorf("got %v", err)
			}
		}
		if a.reused != 1 || p.Stats().Connections != 1 {
			t.Errorf("a refresh token that is not taken was sent %d times", a.reused)
		}
		write(t, file, a.refresh)
		time.Sleep(time.Second)
		succeed(t, p, "write", "after another login")
		closePool(t, p)
		if left, _ := os.ReadDir(folder); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// TestRefreshTokenIsToldOf has a program keep the refresh token, and fail to.
func TestRefreshTokenIsToldOf(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		a.lifetime = time.Minute
		var kept []string
		var full error
		p := a.pool(func(o *mcpool.OAuth) {
			o.RefreshToken = a.refresh
			o.Rotated = func(token string) error { kept = append(kept, token); return full }
		})
		succeed(t, p, "write", "1")
		time.Sleep(time.Minute)
		full = errors.New("no space")
		for range 2 {
			if _, err := call(t.Context(), p, nobody, "write", "2"); !errors.Is(err, full) || !errors.Is(err, mcpool.ErrCredentials) {
				t.Errorf("got %v", err)
			}
		}
		full = nil
		time.Sleep(time.Second)
		succeed(t, p, "write", "3")
		if want := []string{"refresh-tops3cret-1", "refresh-tops3cret-2", "refresh-tops3cret-2"}; !slices.Equal(kept, want) {
			t.Errorf("told of %q, want %q", kept, want)
		}
		if a.reused != 0 || len(a.forms) != 2 {
			t.Errorf("%d tokens asked for, %d in vain; want 2", len(a.forms), a.reused)
		}
		closePool(t, p)
	})
}

// TestRefreshTokenThatCouldNotBeKept is not used in the first place.
func TestRefreshTokenThatCouldNotBeKept(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		for name, file := range map[string]string{
			"no file":   filepath.Join(t.TempDir(), "none"),
			"no folder": "/proc/version", // a file where none can be made
		} {
			p := a.pool(func(o *mcpool.OAuth) { o.RefreshTokenFile = file })
			_, err := call(t.Context(), p, nobody, "write", "1")
			if !errors.Is(err, mcpool.ErrCredentials) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "Linux") {
				t.Errorf("%s: %v", name, err)
			}
			closePool(t, p)
		}
		a.expect()
	})
}

// TestDiscovery has metadata in all the places where it may be, and wrong
// metadata in them.
func TestDiscovery(t *testing.T) {
	resource := func(more string) string {
		return `{"resource": "https://server.test/mcp", "authorization_servers": ["https://as.test"]` + more + `}`
	}
	issuer := func(issuer string) string {
		return `{"issuer": "` + issuer + `", "token_endpoint": "https://as.test/token"}`
	}
	as := func(form string) string { return "client_credentials " + form + " https://server.test/mcp" }
	for name, test := range map[string]struct {
		challenge string
		documents map[string]string
		change    func(*mcpool.OAuth)
		want      string // form; "" for an error
		says      string // the error
	}{
		"where the challenge says":  {`resource_metadata="https://server.test/elsewhere"`, map[string]string{"server.test/elsewhere": resource(""), resourcePlace: "not read", issuerPlace: issuer("https://as.test")}, nil, as("[] basic"), ""},
		"at its path":               {``, map[string]string{resourcePlace: resource(""), issuerPlace: issuer("https://as.test")}, nil, as("[] basic"), ""},
		"at the root":               {``, map[string]string{"server.test/.well-known/oauth-protected-resource": `{"resource": "https://server.test/", "authorization_servers": ["https://as.test"]}`, issuerPlace: issuer("https://as.test")}, nil, "client_credentials [] basic https://server.test/", ""},
		"at the root, of the path":  {``, map[string]string{"server.test/.well-known/oauth-protected-resource": resource(""), issuerPlace: issuer("https://as.test")}, nil, as("[] basic"), ""},
		"not where it was said":     {`resource_metadata="https://server.test/elsewhere"`, map[string]string{resourcePlace: resource(""), issuerPlace: issuer("https://as.test")}, nil, as("[] basic"), ""},
		"OpenID":                    {``, map[string]string{resourcePlace: resource(""), "as.test/.well-known/openid-configuration": issuer("https://as.test/")}, nil, as("[] basic"), ""},
		"issuer with a path":        {``, map[string]string{resourcePlace: strings.Replace(resource(""), "as.test", "as.test/tenant", 1), "as.test/.well-known/oauth-authorization-server/tenant": issuer("https://as.test/tenant")}, nil, as("[] basic"), ""},
		"issuer with an escape":     {``, map[string]string{resourcePlace: strings.Replace(resource(""), "as.test", "as.test/a%2Fb", 1), "as.test/.well-known/oauth-authorization-server/a%2Fb": issuer("https://as.test/a%2Fb")}, nil, as("[] basic"), ""},
		"issuer with dots":          {``, map[string]string{resourcePlace: strings.Replace(resource(""), "as.test", "as.test/../../private", 1), "as.test/private": issuer("https://as.test/../../private")}, nil, "", "has no metadata"},
		"OpenID, path inserted":     {``, map[string]string{resourcePlace: strings.Replace(resource(""), "as.test", "as.test/tenant", 1), "as.test/.well-known/openid-configuration/tenant": issuer("https://as.test/tenant")}, nil, as("[] basic"), ""},
		"OpenID, path before":       {``, map[string]string{resourcePlace: strings.Replace(resource(""), "as.test", "as.test/tenant", 1), "as.test/tenant/.well-known/openid-configuration": issuer("https://as.test/tenant")}, nil, as("[] basic"), ""},
		"2025-03-26":                {``, map[string]string{"server.test/.well-known/oauth-authorization-server": issuer("https://server.test")}, nil, as("[] basic"), ""},
		"2025-03-26, no metadata":   {``, nil, nil, as("[] basic"), ""},
		"issuer without metadata":   {``, map[string]string{resourcePlace: resource("")}, nil, "", `authorization server "https://as.test" has no metadata`},
		"issuer as configured":      {``, map[string]string{resourcePlace: `{"resource": "https://server.test/mcp", "authorization_servers": ["https://other.test", "https://as.test"]}`, issuerPlace: issuer("https://as.test")}, func(o *mcpool.OAuth) { o.Issuer = "https://as.test" }, as("[] basic"), ""},
		"issuer, server says none":  {``, map[string]string{issuerPlace: issuer("https://as.test")}, func(o *mcpool.OAuth) { o.Issuer = "https://as.test" }, as("[] basic"), ""},
		"another issuer":            {``, map[string]string{resourcePlace: resource(""), issuerPlace: issuer("https://as.test")}, func(o *mcpool.OAuth) { o.Issuer = "https://mine.test" }, "", "the credentials are those of https://mine.test"},
		"issuer of another":         {``, map[string]string{resourcePlace: resource(""), issuerPlace: issuer("https://honest.test")}, nil, "", `is that of "https://honest.test"`},
		"resource of another":       {``, map[string]string{resourcePlace: strings.Replace(resource(""), "server.test", "honest.test", 1), issuerPlace: issuer("https://as.test")}, nil, "", `about "https://honest.test/mcp"`},
		"resource of another there": {`resource_metadata="https://evil.test/m"`, map[string]string{"evil.test/m": strings.Replace(resource(""), "server.test", "honest.test", 1)}, nil, "", `about "https://honest.test/mcp"`},
		"origin beside its path":    {``, map[string]string{resourcePlace: strings.Replace(resource(""), "/mcp", "", 1), issuerPlace: issuer("https://as.test")}, nil, "", `about "https://server.test"`},
		"resource as configured":    {``, map[string]string{"server.test/.well-known/oauth-protected-resource": `{"resource": "https://server.test", "authorization_servers": ["https://as.test"]}`, issuerPlace: issuer("https://as.test")}, func(o *mcpool.OAuth) { o.Resource = "https://server.test" }, "client_credentials [] basic https://server.test", ""},
		"no authorization server":   {``, map[string]string{resourcePlace: `{"resource": "https://server.test/mcp"}`}, nil, "", "names no authorization server"},
		"no JSON":                   {``, map[string]string{resourcePlace: "<html>tops3cret"}, nil, "", "is not what it should be"},
		"without end":               {``, map[string]string{resourcePlace: strings.Repeat(" ", 1<<20)}, nil, "", "is larger than 256 KiB"},
		"metadata in the clear":     {`resource_metadata="http://server.test/m"`, nil, nil, "", "want an https URL"},
		"issuer in the clear":       {``, map[string]string{resourcePlace: strings.Replace(resource(""), "https://as", "http://as", 1)}, nil, "", "want an https URL"},
		"tokens in the clear":       {``, map[string]string{resourcePlace: resource(""), issuerPlace: strings.Replace(issuer("https://as.test"), "https://as.test/token", "http://as.test/token", 1)}, nil, "", "want an https URL"},
		"no token endpoint":         {``, map[string]string{resourcePlace: resource(""), issuerPlace: `{"issuer": "https://as.test"}`}, nil, "", "token endpoint"},
		"post":                      {``, map[string]string{resourcePlace: resource(""), issuerPlace: strings.Replace(issuer("https://as.test"), "}", `, "token_endpoint_auth_methods_supported": ["none", "client_secret_post"]}`, 1)}, nil, as("[] post"), ""},
		"basic before post":         {``, map[string]string{resourcePlace: resource(""), issuerPlace: strings.Replace(issuer("https://as.test"), "}", `, "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"]}`, 1)}, nil, as("[] basic"), ""},
		"no secret is taken":        {``, map[string]string{resourcePlace: resource(""), issuerPlace: strings.Replace(issuer("https://as.test"), "}", `, "token_endpoint_auth_methods_supported": ["private_key_jwt"]}`, 1)}, nil, "", "takes no client secret"},
		"public client":             {``, map[string]string{resourcePlace: resource(""), issuerPlace: issuer("https://as.test")}, func(o *mcpool.OAuth) { o.ClientSecret, o.RefreshToken = "", "refresh-tops3cret-0" }, "refresh_token [] none https://server.test/mcp", ""},
		"scope of the challenge":    {`scope="a b"`, map[string]string{resourcePlace: resource(`, "scopes_supported": ["c"]`), issuerPlace: issuer("https://as.test")}, nil, as("[a b] basic"), ""},
		"scope of the server":       {``, map[string]string{resourcePlace: resource(`, "scopes_supported": ["c", "d"]`), issuerPlace: issuer("https://as.test")}, nil, as("[c d] basic"), ""},
		"scope as configured":       {`scope="a"`, map[string]string{resourcePlace: resource(`, "scopes_supported": ["c"]`), issuerPlace: issuer("https://as.test")}, func(o *mcpool.OAuth) { o.Scopes = []string{"mine"} }, as("[mine a] basic"), ""},
		"scope of the login":        {`scope="a"`, map[string]string{resourcePlace: resource(""), issuerPlace: issuer("https://as.test")}, func(o *mcpool.OAuth) { o.RefreshToken = "refresh-tops3cret-0" }, "refresh_token [] basic https://server.test/mcp", ""},
	} {
		t.Run(name, func(t *testing.T) {
			withAuthority(t, func(t *testing.T, a *authority) {
				a.challenge, a.documents = test.challenge, test.documents
				p := a.pool(test.change)
				defer closePool(t, p)
				_, err := call(t.Context(), p, nobody, "write", "1")
				if test.want != "" {
					if err != nil {
						t.Error(err)
					}
					a.expect(test.want)
					return
				}
				if err == nil || !strings.Contains(err.Error(), test.says) || !mcpool.SafeToRetry(err) || strings.Contains(err.Error(), "tops3cret") {
					t.Errorf("got %v, want %s", err, test.says)
				}
				a.expect()
			})
		})
	}
}

// TestCredentialsStayWithTheirIssuer has a server name another authorization
// server later on.
func TestCredentialsStayWithTheirIssuer(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		p := a.pool(nil)
		succeed(t, p, "write", "1")
		a.documents["evil.test/.well-known/oauth-authorization-server"] = `{"issuer": "https://evil.test", "token_endpoint": "https://evil.test/token"}`
		a.documents[resourcePlace] = `{"resource": "https://server.test/mcp", "authorization_servers": ["https://evil.test"]}`
		time.Sleep(time.Minute)
		a.revoke()
		_, err := call(t.Context(), p, nobody, "write", "2")
		if !errors.Is(err, mcpool.ErrRefused) || !strings.Contains(err.Error(), "the credentials are those of https://as.test") {
			t.Errorf("got %v", err)
		}
		if a.times("evil.test/token") != 0 {
			t.Error("the credentials went to another")
		}
		closePool(t, p)
	})
}

func TestStepUp(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		a.needs = map[string]string{"put": "admin", "sleep": "night"}
		a.lifetime = time.Minute
		p := a.pool(nil)
		succeed(t, p, "write", "1")
		a.expect(clientGrant)

		// Two kinds at once, while others need no more than they have.
		a.takes = time.Second
		var all sync.WaitGroup
		for n := range 30 {
			all.Go(func() {
				tool := []string{"put", "sleep", "write"}[n%3]
				began := time.Now()
				succeed(t, p, tool, fmt.Sprint(tool, n))
				if took := time.Since(began); tool == "write" && took != 0 {
					t.Errorf("a call that needs no step-up waited %v for one", took)
				}
			})
		}
		all.Wait()
		if len(a.forms) != 2 || strings.Count(a.forms[1], "admin") != 1 || strings.Count(a.forms[1], "night") != 1 || !strings.Contains(a.forms[1], "[base ") {
			t.Errorf("asked for %q, want two step-ups, the second for all", a.forms)
		}
		a.forms = nil
		for id, n := range a.server.Executions() {
			if n != 1 {
				t.Errorf("%s ran %d times", id, n)
			}
		}
		time.Sleep(time.Minute) // and so it stays
		succeed(t, p, "put", "later")
		if len(a.forms) != 1 || !strings.Contains(a.forms[0], "admin") {
			t.Errorf("renewed with %q", a.forms)
		}
		if stats := p.Stats(); stats.ClosedTotal() != 0 || stats.RetriesTotal() != 0 || stats.Errors != 0 {
			t.Errorf("%+v", stats)
		}
		closePool(t, p)
	})
}

// TestStepUpThatDoesNotHelp has a server that is never content.
func TestStepUpThatDoesNotHelp(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		a.needs = map[string]string{"put": "admin"}
		p := a.pool(nil)
		succeed(t, p, "write", "1")
		a.forms = nil
		refused := func(name string, asked, sent int) {
			t.Helper()
			before := a.server.Requests("tools/call")
			_, err := call(t.Context(), p, nobody, "put", name)
			if !errors.Is(err, mcpool.ErrRefused) || !mcpool.SafeToRetry(err) || !strings.Contains(err.Error(), "HTTP 403") || strings.Contains(err.Error(), "tops3cret") {
				t.Errorf("%s: %v", name, err)
			}
			if n := a.server.Requests("tools/call") - before; len(a.forms) != asked || n != sent {
				t.Errorf("%s: asked for %q, sent %d times; want %d and %d", name, a.forms, n, asked, sent)
			}
			a.forms = nil
		}
		a.answers = func(w http.ResponseWriter, r *http.Request) bool {
			a.mu.Lock()
			a.forms = append(a.forms, r.FormValue("scope"))
			a.mu.Unlock()
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error": "invalid_scope"}`)
			return true
		}
		refused("not given", 1, 1)
		refused("not asked for again", 0, 1)
		succeed(t, p, "write", "2") // with the old token
		a.answers = nil
		guard := a.server.Fault
		a.server.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if bytes.Contains(body, []byte(`"put"`)) {
				w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="more"`)
				w.WriteHeader(http.StatusForbidden)
				return true
			}
			return guard(r, method, w)
		}
		refused("given, and not enough", 1, 2)
		refused("and again", 0, 1)

		q := a.pool(func(o *mcpool.OAuth) { o.RefreshToken = a.refresh })
		if _, err := call(t.Context(), q, nobody, "put", "of a login whose scope nobody knows"); !errors.Is(err, mcpool.ErrRefused) {
			t.Errorf("got %v", err)
		}
		if len(a.forms) != 1 || !strings.HasPrefix(a.forms[0], "refresh_token []") {
			t.Errorf("asked for %q", a.forms)
		}
		closePool(t, p)
		closePool(t, q)
	})
}

// TestAuthorizationServerInTrouble fails in all ways, and tells nobody's
// secrets.
func TestAuthorizationServerInTrouble(t *testing.T) {
	for name, test := range map[string]struct {
		answers func(w http.ResponseWriter, r *http.Request) bool
		says    string
	}{
		"500": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, "dump of "+r.FormValue("client_secret"), 500)
			return true
		}, "answered HTTP 500"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "https://evil.test/token", http.StatusTemporaryRedirect)
			return true
		}, "answered HTTP 307"},
		"reset": {func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, "reset"},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }, "has not answered"},
		"garbage": {func(w http.ResponseWriter, r *http.Request) bool {
			fmt.Fprint(w, "tops3cret")
			return true
		}, "cannot parse"},
		"no token": {func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"refresh_token": "tops3cret"}`)
			return true
		}, "missing access_token"},
		"another type": {func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"access_token": "tops3cret", "token_type": "DPoP"}`)
			return true
		}, `"DPoP", want Bearer`},
		"says what it got": {func(w http.ResponseWriter, r *http.Request) bool {
			_, secret, _ := r.BasicAuth()
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"error": "invalid_client", "error_description": "not %s"}`, strings.ReplaceAll(secret, "+", " "))
			return true
		}, `"invalid_client", "not ***"`},
	} {
		t.Run(name, func(t *testing.T) {
			withAuthority(t, func(t *testing.T, a *authority) {
				a.answers = test.answers
				var log bytes.Buffer
				config := mcpool.DefaultConfig()
				config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				p, err := mcpool.New(a.to(a.login(nil)), &config)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err = call(ctx, p, nobody, "write", "1")
				if err == nil || !mcpool.SafeToRetry(err) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("got %v, want %s", err, test.says)
				}
				if n := a.times("as.test/token"); n != 1 {
					t.Errorf("asked %d times", n)
				}
				a.mu.Lock()
				a.answers = nil
				a.mu.Unlock()
				time.Sleep(time.Minute)
				succeed(t, p, "write", "2")
				closePool(t, p)
				if says := fmt.Sprint(err) + log.String(); strings.Contains(says, "tops3cret") || a.times("evil.test/token") != 0 {
					t.Errorf("tells: %s", says)
				}
			})
		})
	}
}

// TestOAuthThatIsRefused checks what New says.
func TestOAuthThatIsRefused(t *testing.T) {
	a := newAuthority(t)
	for want, change := range map[string]func(*mcpool.OAuth){
		"ClientID":               func(o *mcpool.OAuth) { o.ClientID = "" },
		"either ClientSecret":    func(o *mcpool.OAuth) { o.ClientSecretFile = "f" },
		"either RefreshToken":    func(o *mcpool.OAuth) { o.RefreshToken, o.RefreshTokenFile = "r", "f" },
		"needs no Rotated":       func(o *mcpool.OAuth) { o.RefreshTokenFile, o.Rotated = "f", func(string) error { return nil } },
		"or the client's secret": func(o *mcpool.OAuth) { o.ClientSecret = "" },
		"Issuer: want an https":  func(o *mcpool.OAuth) { o.Issuer = "http://as.test" },
		"not absolute":           func(o *mcpool.OAuth) { o.Resource = "/mcp" },
	} {
		if _, err := mcpool.New(a.to(a.login(change)), nil); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "tops3cret") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	to := a.to(a.login(nil))
	to.Tokens = func(string) rpc.TokenSource { return nil }
	if _, err := mcpool.New(to, nil); err == nil || !strings.Contains(err.Error(), "one of Tokens, Auth") {
		t.Errorf("got %v", err)
	}
}

// TestReloadOfTheSameAuth makes the same settings twice, as a program does that
// reads its file again.
func TestReloadOfTheSameAuth(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		p := a.pool(func(o *mcpool.OAuth) { o.Scopes = []string{"x", "y"} })
		succeed(t, p, "write", "1")
		reload := func(auth mcpool.Auth) {
			t.Helper()
			to := a.to(mcpool.OAuth{})
			to.Auth = auth
			if err := p.Reload(to, nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		reload(a.login(func(o *mcpool.OAuth) { o.Scopes = []string{"x", "y"} }))
		succeed(t, p, "write", "2")
		if p.Stats().Opened != 1 || len(a.forms) != 1 {
			t.Errorf("the same login cost %d connections and %d tokens", p.Stats().Opened, len(a.forms))
		}
		for n, auth := range []mcpool.Auth{
			a.login(func(o *mcpool.OAuth) { o.Scopes = []string{"x"} }),
			a.login(func(o *mcpool.OAuth) { o.Scopes, o.RoundTripper = []string{"x"}, headerTripper{&a.server.network} }),
			mcpool.BearerFile("f"),
		} {
			reload(auth)
			if stats := p.Stats(); stats.ClosedTotal() != uint64(n+1) {
				t.Errorf("login %d closed %d connections", n, stats.ClosedTotal())
			}
			if _, isOAuth := auth.(mcpool.OAuth); isOAuth {
				succeed(t, p, "write", fmt.Sprint("login ", n))
			}
		}
		closePool(t, p)
	})
}

// An authorization server may have its certificate from an authority that the
// system does not know, as the server may.
func TestLoginTrustsAnAuthority(t *testing.T) {
	private := mcptest.NewAuthority(t)
	s := &mcptest.Server{}
	var url string
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/.well-known/oauth-protected-resource/mcp":
			fmt.Fprintf(w, `{"resource": "%s/mcp", "authorization_servers": [%q]}`, url, url)
		case "/.well-known/oauth-authorization-server":
			fmt.Fprintf(w, `{"issuer": %q, "token_endpoint": "%s/token"}`, url, url)
		case "/token":
			fmt.Fprint(w, `{"access_token": "t1", "token_type": "Bearer"}`)
		case "/mcp":
			if r.Header.Get("Authorization") != "Bearer t1" {
				w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+url+`/.well-known/oauth-protected-resource/mcp"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			s.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	web.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	web.TLS = &tls.Config{Certificates: []tls.Certificate{*private.Issue(t, "server", nil)}}
	web.StartTLS()
	defer web.Close()
	url = web.URL
	ca := private.CAFile(t)
	for _, test := range []struct {
		caFile string
		fails  string
	}{{ca, ""}, {"", "unknown authority"}} {
		p, err := mcpool.New(mcpool.Server{Name: "test", URL: url + "/mcp", CAFile: ca,
			Auth: mcpool.OAuth{ClientID: "c", ClientSecret: clientSecret, CAFile: test.caFile}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = call(t.Context(), p, nobody, "echo", "1")
		switch {
		case test.fails == "" && err != nil:
			t.Error(err)
		case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)):
			t.Errorf("without it: %v", err)
		}
		closePool(t, p)
	}
	if _, err := mcpool.New(mcpool.Server{Name: "test", URL: url, Auth: mcpool.OAuth{ClientID: "c", ClientSecret: clientSecret, CAFile: "nowhere"}}, nil); err == nil {
		t.Error("a file that is not there is taken")
	}
}
