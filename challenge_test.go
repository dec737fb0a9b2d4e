package mcpool_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

// challenged is a ChallengeSource that notes what it is asked.
type challenged struct {
	a *authority

	mu    sync.Mutex // guards what follows
	asked []string
	fail  error
	takes time.Duration
}

func (c *challenged) Token() (*oauth2.Token, error) { return nil, c.note("any") }

func (c *challenged) TokenFor(challenge rpc.Challenge) (*oauth2.Token, error) {
	scope := challenge.Param("scope")
	if err := c.note(fmt.Sprintf("%d %s %s", challenge.Status, scope, challenge.Token)); err != nil {
		return nil, err
	}
	time.Sleep(c.takes)
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	token := "token-for-" + strings.ReplaceAll(scope, " ", "-")
	c.a.tokens[token] = given{scope: scope}
	return &oauth2.Token{AccessToken: token}, nil
}

func (c *challenged) note(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, what)
	return c.fail
}

func (c *challenged) expect(t *testing.T, want ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.asked, want) {
		t.Errorf("asked for\n%q, want\n%q", c.asked, want)
	}
	c.asked = nil
}

// TestSourceIsToldOfChallenges has a source that has no token until the server
// wants one.
func TestSourceIsToldOfChallenges(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		a.needs = map[string]string{"put": "admin", "sleep": "night"}
		source := &challenged{a: a, takes: time.Second}
		to := a.to(mcpool.OAuth{})
		to.Auth, to.Tokens = nil, func(string) rpc.TokenSource { return source }
		p, err := mcpool.New(to, nil)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for n := range 20 {
			all.Go(func() { succeed(t, p, "write", fmt.Sprint(n)) })
		}
		all.Wait()
		source.expect(t, "any", "401 base ") // once for all
		synctest.Wait()                      // connections that were begun for them, and came too late
		var came atomic.Int64
		a.server.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			// Some are refused when others have another token already.
			if n := came.Add(1); method == "tools/call" && n <= 20 {
				time.Sleep(time.Duration(n) * 300 * time.Millisecond)
			}
			return a.guard(r, method, w)
		}
		for n := range 20 {
			all.Go(func() { succeed(t, p, "put", fmt.Sprint("put ", n)) })
		}
		all.Wait()
		synctest.Wait()
		a.server.Fault = a.guard
		source.expect(t, "403 admin token-for-base")

		// Its token has lost the first scope; the failure to get another
		// leaves it the one it has.
		a.needs["write"] = "base"
		source.fail = errors.New("not now")
		_, err = call(t.Context(), p, nobody, "write", "no")
		if !errors.Is(err, source.fail) || !errors.Is(err, mcpool.ErrRefused) || !mcpool.SafeToRetry(err) || !strings.Contains(err.Error(), "HTTP 403") {
			t.Errorf("got %v", err)
		}
		source.expect(t, "403 base token-for-admin")
		succeed(t, p, "put", "still")
		source.expect(t)
		source.fail = nil

		// Two want different things at once: each gets a question of its own.
		for _, tool := range []string{"sleep", "write"} {
			all.Go(func() { succeed(t, p, tool, tool) })
		}
		all.Wait()
		if source.asked = slices.Sorted(slices.Values(source.asked)); len(source.asked) != 2 {
			t.Errorf("asked for %q", source.asked)
		}
		if stats := p.Stats(); stats.ClosedTotal() != 0 || stats.RetriesTotal() != 0 {
			t.Errorf("%+v", stats)
		}
		for id, n := range a.server.Executions() {
			if n != 1 {
				t.Errorf("%s ran %d times", id, n)
			}
		}
		closePool(t, p)
	})
}

// TestServerThatWantsNothing has a source without a token before a server
// without a guard.
func TestServerThatWantsNothing(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		a.server.Fault = nil
		p := a.pool(nil)
		for n := range 3 {
			succeed(t, p, "write", fmt.Sprint(n))
		}
		if a.times(resourcePlace) != 0 {
			t.Error("metadata was asked for")
		}
		closePool(t, p)
	})
}

// TestSourceThatKnowsNoChallenges is asked for no other token after a 403, which
// is as good as any.
func TestSourceThatKnowsNoChallenges(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			if method == "tools/call" {
				w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="x"`)
				w.WriteHeader(http.StatusForbidden)
				return true
			}
			return i.guard(r, method, w)
		}
		p := i.pool(nil)
		_, err := call(t.Context(), p, nobody, "write", "1")
		if !errors.Is(err, mcpool.ErrRefused) || i.times("local") != 1 || s.Requests("tools/call") != 1 {
			t.Errorf("%v; asked %d times, sent %d times", err, i.times("local"), s.Requests("tools/call"))
		}
		closePool(t, p)
	})
}

// A handlerSource makes a token source of an OAuthHandler of the Go SDK, for
// the server at a URL.
type handlerSource struct {
	handler auth.OAuthHandler
	url     string
}

func (s *handlerSource) Token() (*oauth2.Token, error) {
	source, err := s.handler.TokenSource(context.Background())
	if source == nil || err != nil {
		return nil, err
	}
	return source.Token()
}

func (s *handlerSource) TokenFor(c rpc.Challenge) (*oauth2.Token, error) {
	request, err := http.NewRequest(http.MethodPost, s.url, nil)
	if err != nil {
		return nil, err
	}
	err = s.handler.Authorize(context.Background(), request, &http.Response{
		StatusCode: c.Status,
		Header:     http.Header{http.CanonicalHeaderKey("WWW-Authenticate"): c.WWWAuthenticate},
		Body:       http.NoBody,
		Request:    request,
	})
	if err != nil {
		return nil, err
	}
	return s.Token()
}

// TestHandlerOfTheSDKIsATokenSource logs in by authorization code, and once
// more for more scope.
func TestHandlerOfTheSDKIsATokenSource(t *testing.T) {
	withAuthority(t, func(t *testing.T, a *authority) {
		a.needs = map[string]string{"put": "admin"}
		a.documents[issuerPlace] = `{"issuer": "https://as.test", "token_endpoint": "https://as.test/token",
			"authorization_endpoint": "https://as.test/authorize", "code_challenge_methods_supported": ["S256"]}`
		var logins []string
		handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
			PreregisteredClient: &oauthex.ClientCredentials{ClientID: "me", ClientSecretAuth: &oauthex.ClientSecretAuth{ClientSecret: clientSecret}},
			RedirectURL:         "http://127.0.0.1/callback",
			Client:              &http.Client{Transport: &a.server.network},
			AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
				request, err := http.NewRequest(http.MethodGet, args.URL, nil)
				if err != nil {
					return nil, err
				}
				scopes := strings.Fields(request.FormValue("scope"))
				slices.Sort(scopes)
				logins = append(logins, strings.Join(scopes, " "))
				a.answers = func(_ http.ResponseWriter, r *http.Request) bool {
					_ = r.ParseForm()
					r.Form.Set("scope", strings.Join(scopes, " "))
					return false
				}
				return &auth.AuthorizationResult{Code: "code", State: request.FormValue("state")}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		to := mcpool.Server{Name: "test", URL: "https://server.test/mcp", RoundTripper: &a.server.network}
		to.Tokens = func(string) rpc.TokenSource { return &handlerSource{handler, to.URL} }
		p, err := mcpool.New(to, nil)
		if err != nil {
			t.Fatal(err)
		}
		succeed(t, p, "write", "1")
		succeed(t, p, "put", "2")
		succeed(t, p, "write", "3")
		if want := []string{"base", "admin base"}; !slices.Equal(logins, want) {
			t.Errorf("logged in for %q, want %q", logins, want)
		}
		closePool(t, p)
	})
}
