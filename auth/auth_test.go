package auth_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/auth"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

const here = "https://mcp.example.com"

// request is one with these values of Authorization.
func request(authorization ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, here+"/mcp/sales", nil)
	r.Header["Authorization"] = authorization
	return r
}

func newAuth(t testing.TB, o auth.Options) *auth.Authenticator {
	t.Helper()
	a, err := auth.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// status is that of a refusal, 200 of none.
func status(t testing.TB, err error) int {
	t.Helper()
	if err == nil {
		return http.StatusOK
	}
	var e *auth.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *auth.Error", err)
	}
	return e.Status
}

func TestKeys(t *testing.T) {
	key, kept, err := auth.NewKey("ci")
	if err != nil {
		t.Fatal(err)
	}
	_, other, _ := auth.NewKey("other")
	other.Admin = true
	keys, err := auth.ParseKeys([]byte("# keys\n\n" + kept.String() + "\n  " + other.String() + "  \n"))
	if err != nil || len(keys) != 2 || keys[0] != kept || keys[1] != other {
		t.Fatalf("read %v, %v", keys, err)
	}
	a := newAuth(t, auth.Options{Keys: keys})
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} { // RFC 9110, 11.1
		if who, err := a.Authenticate(request(scheme + key)); err != nil || who.Name != "ci" || who.Admin {
			t.Errorf("%q: %+v, %v", scheme, who, err)
		}
	}
	if _, err := a.Admin(request("Bearer " + key)); status(t, err) != http.StatusForbidden {
		t.Errorf("no admin: %v", err)
	}
	for _, wrong := range []string{key + "x", key[:len(key)-1], strings.ToUpper(key), "ci", kept.String()[4:], strings.TrimPrefix(kept.String()[4:], "sha256:")} {
		if who, err := a.Authenticate(request("Bearer " + wrong)); status(t, err) < 400 {
			t.Errorf("%q is %+v", wrong, who)
		}
	}
	if again, _, _ := auth.NewKey("ci"); again == key || len(key) < 43 {
		t.Errorf("keys are %s and %s", key, again)
	}
}

func TestKeysOfAFileThatMakeNoSenseAreRefused(t *testing.T) {
	const secret = "mcpool_hunter2"
	_, a, _ := auth.NewKey("a")
	_, b, _ := auth.NewKey("b")
	alias := a
	alias.Name = "c"
	for text, says := range map[string]string{
		secret:                                   "line 1: want NAME: sha256:HEX",
		"a: " + secret:                           "line 1: want NAME: sha256:HEX",
		"a: sha256:" + secret:                    "line 1: want sha256: and 64 hex digits",
		"a|b: sha256:" + strings.Repeat("0", 64): "line 1: the name of a key",
		a.String() + "\n" + a.String():           "two keys have the name a",
		a.String() + "\n" + alias.String():       "is that of another name",
		b.String() + " " + secret:                "line 1: want nothing behind the hash",
		a.String() + " admin " + secret:          "line 1: want nothing behind the hash",
		strings.Repeat("x", 1<<17):               "a line is too long",
	} {
		_, err := auth.ParseKeys([]byte(text))
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), secret) {
			t.Errorf("%.60s: %v, want %s", text, err, says)
		}
	}
}

func TestAKeyFileIsReadAgain(t *testing.T) {
	first, one, _ := auth.NewKey("one")
	second, two, _ := auth.NewKey("two")
	path := filepath.Join(t.TempDir(), "keys")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write(one.String(), 0o600)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := newAuth(t, auth.Options{KeyFile: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
		is := func(when string, ones, twos int) {
			t.Helper()
			time.Sleep(time.Second)
			_, err1 := a.Authenticate(request("Bearer " + first))
			_, err2 := a.Authenticate(request("Bearer " + second))
			if status(t, err1) != ones || status(t, err2) != twos {
				t.Errorf("%s: %v, %v", when, err1, err2)
			}
		}
		is("at first", 200, 401)
		write(two.String(), 0o600)
		is("replaced: a key that is out is out", 401, 200)
		write("one: "+first, 0o600)
		is("wrong: nothing changes", 401, 200)
		if !strings.Contains(log.String(), "the keys of before hold") || strings.Contains(log.String(), first) {
			t.Errorf("logged %s", &log)
		}
		write(one.String(), 0o666)
		is("anybody's: nothing changes", 401, 200)
		write(one.String(), 0o600)
		is("right again", 200, 401)
	})
	write(one.String(), 0o602)
	if _, err := auth.New(auth.Options{KeyFile: path}); err == nil || !strings.Contains(err.Error(), "anybody can write keys into it") {
		t.Errorf("a file that anybody can write to: %v", err)
	}
}

func TestRequestsThatCouldBeReadInTwoWaysAreRefused(t *testing.T) {
	key, kept, _ := auth.NewKey("ci")
	a := newAuth(t, auth.Options{Keys: []auth.Key{kept}})
	inURL := request()
	inURL.URL.RawQuery = "access_token=" + key
	inBoth := request("Bearer " + key)
	inBoth.URL.RawQuery = "x=%zz&access_token=" + key
	for name, test := range map[string]struct {
		r      *http.Request
		status int
	}{
		"none":        {request(), 401},
		"two headers": {request("Bearer "+key, "Bearer "+key), 400},
		"in the URL":  {inURL, 400},
		"in the URL, which is no query, and the header": {inBoth, 400},
		"another scheme":         {request("Basic " + key), 401},
		"no token":               {request("Bearer "), 400},
		"two tokens":             {request("Bearer " + key + " " + key), 400},
		"two tokens, by a comma": {request("Bearer " + key + ", Bearer " + key), 400},
		"a line break":           {request("Bearer " + key + "\n"), 400},
		"oversized":              {request("Bearer " + strings.Repeat("a", 16<<10+1)), 431},
		"as long as may be":      {request("Bearer " + strings.Repeat("a", 16<<10)), 401},
		"good":                   {request("Bearer " + key), 200},
	} {
		_, err := a.Authenticate(test.r)
		if got := status(t, err); got != test.status {
			t.Errorf("%s: status %d, want %d", name, got, test.status)
		}
		if err != nil && strings.Contains(err.Error()+err.(*auth.Error).Header.Get("WWW-Authenticate"), key) {
			t.Errorf("%s: it tells the key: %v", name, err)
		}
	}
}

func TestPrincipalsOfCertificates(t *testing.T) {
	ca := mcptest.NewAuthority(t)
	uris := func(texts ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			for _, text := range texts {
				u, err := url.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				c.URIs = append(c.URIs, u)
			}
		}
	}
	_, kept, _ := auth.NewKey("ci")
	for name, test := range map[string]struct {
		by     auth.CertificateName
		cert   *tls.Certificate
		forged bool
		want   string
	}{
		"uri":             {by: auth.CertificateURI, cert: ca.Issue(t, "x", uris("spiffe://a/b")), want: "certificate|spiffe://a/b"},
		"no uri":          {by: auth.CertificateURI, cert: ca.Issue(t, "x", nil)},
		"two uris":        {by: auth.CertificateURI, cert: ca.Issue(t, "x", uris("spiffe://a/b", "spiffe://a/c"))},
		"common name":     {by: auth.CertificateCommonName, cert: ca.Issue(t, "ci", nil), want: "certificate|ci"},
		"a name of lines": {by: auth.CertificateCommonName, cert: ca.Issue(t, "a\nb", nil)},
		"no name":         {by: auth.CertificateCommonName, cert: ca.Issue(t, "", nil)},
		"not verified":    {by: auth.CertificateCommonName, cert: ca.Issue(t, "ci", nil), forged: true},
		"not to be used":  {cert: ca.Issue(t, "ci", nil)},
	} {
		r := request()
		delete(r.Header, "Authorization")
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{test.cert.Leaf}}
		if !test.forged {
			r.TLS.VerifiedChains = [][]*x509.Certificate{{test.cert.Leaf}}
		}
		who, err := newAuth(t, auth.Options{Keys: []auth.Key{kept}, Certificates: test.by}).Authenticate(r)
		if who.Name != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: got %+v, %v", name, who, err)
		}
	}
}

func TestRules(t *testing.T) {
	_, kept, _ := auth.NewKey("ci")
	a := newAuth(t, auth.Options{Keys: []auth.Key{kept}, Rules: []auth.Rule{
		{Principals: "ci", Allow: []string{"sales", "hr*"}, Deny: []string{"hr-secret"}, DenyTools: []string{"*__write_*", "sales__drop"}, MaxCalls: 3},
		{Principals: "https://login.example.com|*", AllowTools: []string{"sales__read_*"}},
		{Principals: "*", Deny: []string{"*"}},
	}})
	for _, test := range []struct {
		principal, server, tool string
		want                    bool
	}{
		{"ci", "sales", "read", true}, {"ci", "sales", "write_data", false}, {"ci", "sales", "drop", false}, {"ci", "hr", "drop", true},
		{"ci", "hr-secret", "read", false}, {"ci", "other", "read", false},
		{"ci", "sales", "a/write_data", true}, {"ci", "sales", "b__write_/data", false}, // * stands for a slash, too
		{"https://login.example.com|al/ice", "sales", "read_data", true}, {"https://login.example.com|alice", "sales", "list", false},
		{"https://login.example.com|alice", "hr", "read_data", false},
		{"certificate|ci", "sales", "read", false},
	} {
		if got := a.Rights(test.principal).Offers(test.server, test.tool); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
	if r := a.Rights("ci"); r.MaxCalls() != 3 || !r.Serves("sales") || r.Serves("other") || r.Wait() != 0 {
		t.Errorf("ci has %+v", r)
	}
	if newAuth(t, auth.Options{Keys: []auth.Key{kept}}).Rights("ci") != nil {
		t.Error("without rules there are some")
	}
	for says, rule := range map[string]auth.Rule{
		"name of a principal is empty": {},
		"matches none":                 {Principals: "a", DenyTools: []string{"write_data"}},
		"want a name, in which *":      {Principals: "[", Deny: []string{"a"}},
		"rate: want":                   {Principals: "a", Rate: -1},
		"burst: want":                  {Principals: "a", Burst: 1},
		"max_calls: want":              {Principals: "a", MaxCalls: -1},
	} {
		if _, err := auth.New(auth.Options{Keys: []auth.Key{kept}, Rules: []auth.Rule{rule}}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v", rule, err)
		}
	}
}

func TestRatesAreOfEachPrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, kept, _ := auth.NewKey("ci")
		a := newAuth(t, auth.Options{Keys: []auth.Key{kept}, Rules: []auth.Rule{{Principals: "*", Rate: 2, Burst: 3}}})
		for i := range 3 {
			if wait := a.Rights("a").Wait(); wait != 0 {
				t.Errorf("request %d waits %v", i, wait)
			}
		}
		for range 2 { // what was refused is not counted
			if wait := a.Rights("a").Wait(); wait != time.Second/2 {
				t.Errorf("the fourth waits %v", wait)
			}
		}
		if wait := a.Rights("b").Wait(); wait != 0 {
			t.Errorf("another waits %v", wait)
		}
		time.Sleep(time.Second / 2)
		if wait := a.Rights("a").Wait(); wait != 0 {
			t.Errorf("half a second later it waits %v", wait)
		}
		// Who comes and goes is forgotten, and nobody gains by it.
		for i := range 20_000 {
			a.Rights("p" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + time.Duration(i).String()).Wait()
			time.Sleep(time.Millisecond)
		}
		if wait := a.Rights("b").Wait(); wait != 0 {
			t.Errorf("b waits %v", wait)
		}
	})
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	_, kept, _ := auth.NewKey("ci")
	good := auth.JWT{Issuer: "https://a.example", Audience: []string{"x"}}
	with := func(change func(*auth.JWT)) auth.Options {
		j := good
		change(&j)
		return auth.Options{JWT: &j}
	}
	for says, o := range map[string]auth.Options{
		"nobody could call":                     {},
		"url: want an https URL":                {Keys: []auth.Key{kept}, URL: "http://mcp.example.com"},
		"nothing behind it":                     {Keys: []auth.Key{kept}, URL: "https://mcp.example.com/mcp"},
		"want uri or common":                    {Certificates: "serial"},
		"no such file":                          {KeyFile: filepath.Join(t.TempDir(), "none")},
		"two keys have the name":                {Keys: []auth.Key{kept, kept}},
		"issuer: want an https":                 with(func(j *auth.JWT) { j.Issuer = "http://a.example" }),
		"jwks_url: want":                        with(func(j *auth.JWT) { j.JWKSURL = "file:///etc/passwd" }),
		"audience: want":                        with(func(j *auth.JWT) { j.Audience = nil }),
		"scopes: one is empty":                  with(func(j *auth.JWT) { j.Scopes = []string{""} }),
		"without spaces":                        with(func(j *auth.JWT) { j.Scopes = []string{`a", b`} }),
		"algorithms: want some of RS256, RS384": with(func(j *auth.JWT) { j.Algorithms = []string{"HS256"} }),
		"want some of RS256":                    with(func(j *auth.JWT) { j.Algorithms = []string{"none"} }),
	} {
		if _, err := auth.New(o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %s, got %v", says, err)
		}
	}
}

func TestManyTokensCostOneLook(t *testing.T) {
	issuer := mcptest.NewIssuer(t)
	a := newAuth(t, auth.Options{URL: here, JWT: &auth.JWT{Issuer: issuer.URL}})
	token := issuer.Token(t, here+"/mcp", nil)
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if who, err := a.Authenticate(request("Bearer " + token)); err != nil || who.Name != issuer.URL+"|alice" {
				t.Errorf("got %+v, %v", who, err)
			}
		})
	}
	wait.Wait()
	if issuer.Looks() != 1 {
		t.Errorf("%d looks at the keys", issuer.Looks())
	}
}
