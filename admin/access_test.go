package admin_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/auth"
)

func TestWhoMayUseTheAPI(t *testing.T) {
	const secret = "correct-horse-battery"
	token, err := admin.ParseToken([]byte(secret + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	who := func(r *http.Request) (string, error) {
		if r.Header.Get("Authorization") == "Bearer alice" {
			return "alice", nil
		}
		return "", errors.New("nobody that is known")
	}
	open, closed := admin.Options{Local: true}, admin.Options{}
	shows := func() *admin.Token { return token }
	shut, both := admin.Options{Token: shows}, admin.Options{Local: true, Token: shows}
	asks, all := admin.Options{Authorize: who, Local: true}, admin.Options{Authorize: who, Token: shows}
	bearer := []string{"Authorization", "Bearer " + secret}
	verb := []string{"X-Mcpool-Admin", "1"}
	for name, test := range map[string]struct {
		options  admin.Options
		headers  []string
		get, act int // status of a GET, and of a POST
	}{
		"this machine":                     {open, nil, 200, 403},
		"with the header":                  {open, verb, 200, 200},
		"another value":                    {open, []string{"X-Mcpool-Admin", "0"}, 200, 403},
		"by IPv6":                          {open, append(verb, "Peer", "[::1]:4000", "Host", "[::1]:7432"), 200, 200},
		"by name":                          {open, append(verb, "Host", "localhost"), 200, 200},
		"mapped":                           {open, append(verb, "Peer", "[::ffff:127.0.0.1]:4000"), 200, 200},
		"another machine":                  {open, append(verb, "Peer", "192.0.2.1:4000"), 403, 403},
		"nobody knows where":               {open, append(verb, "Peer", ""), 403, 403},
		"a name that resolves here":        {open, append(verb, "Host", "evil.example"), 403, 403},
		"a proxy":                          {open, append(verb, "X-Forwarded-For", "192.0.2.1"), 403, 403},
		"a newer proxy":                    {open, append(verb, "Forwarded", "for=192.0.2.1"), 403, 403},
		"any proxy":                        {open, append(verb, "Via", "1.1 x"), 403, 403},
		"its own page":                     {open, append(verb, "Origin", "http://127.0.0.1:7432", "Sec-Fetch-Site", "same-origin"), 200, 200},
		"a page of another port":           {open, append(verb, "Origin", "http://127.0.0.1:3000"), 403, 403},
		"a page of another name":           {open, append(verb, "Origin", "http://localhost:7432"), 403, 403},
		"a foreign page":                   {open, append(verb, "Origin", "https://evil.example"), 403, 403},
		"a page of nowhere":                {open, append(verb, "Origin", "null"), 403, 403},
		"two origins":                      {open, append(verb, "Origin", "http://127.0.0.1:7432", "Origin", "https://evil.example"), 403, 403},
		"a foreign link":                   {open, append(verb, "Sec-Fetch-Site", "cross-site"), 403, 403},
		"a form":                           {open, []string{"Origin", "http://127.0.0.1:7432", "Content-Type", "application/x-www-form-urlencoded"}, 200, 403},
		"nothing is configured":            {closed, verb, 401, 401},
		"a token is wanted":                {shut, verb, 401, 401},
		"the token":                        {shut, bearer, 200, 200},
		"the token from anywhere":          {shut, append(bearer, "Peer", "192.0.2.1:4000", "Host", "mcp.example", "X-Forwarded-For", "192.0.2.1"), 200, 200},
		"the token in a foreign page":      {shut, append(bearer, "Origin", "https://evil.example"), 403, 403},
		"in capitals":                      {shut, []string{"Authorization", "BEARER " + secret}, 200, 200},
		"another token":                    {shut, []string{"Authorization", "Bearer " + secret + "x"}, 401, 401},
		"a part of it":                     {shut, []string{"Authorization", "Bearer " + secret[:20]}, 401, 401},
		"its hash":                         {shut, []string{"Authorization", fmt.Sprintf("Bearer %x", sha256.Sum256([]byte(secret)))}, 401, 401},
		"an empty one":                     {shut, []string{"Authorization", "Bearer "}, 401, 401},
		"another scheme":                   {shut, []string{"Authorization", "Basic " + secret}, 401, 401},
		"a token that is none, here":       {both, append(verb, "Authorization", "Bearer x"), 401, 401},
		"a token where none is":            {open, append(verb, "Authorization", "Bearer x"), 401, 401},
		"none, here":                       {both, verb, 200, 200},
		"who is known":                     {asks, []string{"Authorization", "Bearer alice"}, 200, 200},
		"who is not known":                 {asks, verb, 401, 401},
		"who is not known, with the token": {all, bearer, 200, 200},
		"who is known, without the token":  {all, []string{"Authorization", "Bearer alice"}, 200, 200},
		"neither":                          {all, append(verb, "Authorization", "Bearer bob"), 401, 401},
	} {
		options := test.options
		a := admin.New(options)
		if w := access(a, "GET", "/admin/v1/pools", test.headers...); w.Code != test.get {
			t.Errorf("%s: GET is %d, want %d: %s", name, w.Code, test.get, w.Body)
		}
		w := access(a, "POST", "/admin/v1/pools/*/resume", test.headers...)
		if w.Code != test.act {
			t.Errorf("%s: POST is %d, want %d: %s", name, w.Code, test.act, w.Body)
		}
		if challenged := w.Header().Get("WWW-Authenticate") != ""; challenged != (w.Code == 401) {
			t.Errorf("%s: status %d, challenged: %v", name, w.Code, challenged)
		}
		if strings.Contains(w.Body.String(), secret) {
			t.Errorf("%s: %s", name, w.Body)
		}
		if w := access(a, "GET", "/admin/v1/nonsense", test.headers...); w.Code == 404 && test.get != 200 {
			t.Errorf("%s: who may not look is told what there is", name)
		}
	}
}

// TestRefusalsSayWhatIsWrong has who may use the API said by what says who may
// call: its refusals keep their status and their header.
func TestRefusalsSayWhatIsWrong(t *testing.T) {
	key, ann, err := auth.NewKey("ann")
	if err != nil {
		t.Fatal(err)
	}
	who, err := auth.New(auth.Options{Keys: []auth.Key{ann}})
	if err != nil {
		t.Fatal(err)
	}
	keys := func(r *http.Request) (string, error) {
		principal, err := who.Admin(r)
		return principal.Name, err
	}
	away := func(*http.Request) (string, error) {
		return "", fmt.Errorf("looking: %w", &auth.Error{Status: 503, Header: http.Header{"Retry-After": {"5"}}})
	}
	for name, test := range map[string]struct {
		authorize func(*http.Request) (string, error)
		headers   []string
		status    int
		header    string
		says      string // in it
	}{
		"nobody":             {keys, nil, 401, "WWW-Authenticate", `realm="mcpool"`},
		"who is not known":   {keys, []string{"Authorization", "Bearer x"}, 401, "WWW-Authenticate", `error="invalid_token"`},
		"who is no admin":    {keys, []string{"Authorization", "Bearer " + key}, 403, "WWW-Authenticate", `error="insufficient_scope"`},
		"two at once":        {keys, []string{"Authorization", "Bearer " + key, "Authorization", "Bearer x"}, 400, "WWW-Authenticate", `error="invalid_request"`},
		"too large":          {keys, []string{"Authorization", "Bearer " + strings.Repeat("x", 20<<10)}, 431, "WWW-Authenticate", "Bearer"},
		"the issuer is away": {away, nil, 503, "Retry-After", "5"},
	} {
		w := access(admin.New(admin.Options{Authorize: test.authorize}), "GET", "/admin/v1/pools", test.headers...)
		if w.Code != test.status || !strings.Contains(w.Header().Get(test.header), test.says) || len(w.Header().Values(test.header)) != 1 {
			t.Errorf("%s: status %d, %v; want %d, and %s in %s", name, w.Code, w.Header(), test.status, test.says, test.header)
		}
		if !strings.Contains(w.Body.String(), `"hint":"show`) || strings.Contains(w.Body.String(), key) {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
}

func TestParseToken(t *testing.T) {
	sum := sha256.Sum256([]byte("a token of some length"))
	clear, err := admin.ParseToken([]byte("  a-token-of-some-length\n"))
	if err != nil || *clear != sha256.Sum256([]byte("a-token-of-some-length")) {
		t.Errorf("got %v, %v", clear, err)
	}
	if hash, err := admin.ParseToken(fmt.Appendf(nil, "sha256:%x\n", sum)); err != nil || *hash != sum {
		t.Errorf("got %v, %v", hash, err)
	}
	for _, bad := range []string{"", "short", "two\nlines-of-a-token", "sha256:12", "sha256:" + strings.Repeat("x", 64), strings.Repeat("é", 20)} {
		if _, err := admin.ParseToken([]byte(bad)); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
