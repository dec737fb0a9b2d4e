package auth_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/auth"
)

// FuzzAuthorization holds that a header lets in who has the key and nobody else,
// and that no refusal tells what was sent.
func FuzzAuthorization(f *testing.F) {
	key, kept, err := auth.NewKey("ci")
	if err != nil {
		f.Fatal(err)
	}
	a, err := auth.New(auth.Options{URL: here, Keys: []auth.Key{kept}, JWT: &auth.JWT{
		Issuer: "http://127.0.0.1:1", Audience: []string{"a"}, // nobody is there
	}})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", "Bearer", "Bearer KEY", "bearer  KEY ", "Basic KEY", "Bearer KEY KEY", "Bearer a.b.c",
		"Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.e30.AAAA", "Bearer " + strings.Repeat("=", 9), "Bearer\tKEY"} {
		f.Add(seed, "")
	}
	f.Add("Bearer KEY", "access_token=KEY")
	f.Add("Bearer KEY", "a=b&access_token=KEY")
	f.Add("Bearer KEY", "access_token=%")
	f.Add("Bearer KEY", "my_access_token=KEY") // another's name
	f.Fuzz(func(t *testing.T, header, query string) {
		header, query = strings.ReplaceAll(header, "KEY", key), strings.ReplaceAll(query, "KEY", key)
		r := httptest.NewRequest(http.MethodPost, here+"/mcp", nil)
		r.URL.RawQuery = query
		r.Header.Set("Authorization", header)
		who, err := a.Authenticate(r)
		if err == nil {
			scheme, rest, _ := strings.Cut(header, " ")
			if who.Name != "ci" || !strings.EqualFold(scheme, "bearer") || strings.Trim(rest, " ") != key || slices.ContainsFunc(strings.Split(query, "&"), func(pair string) bool { return strings.HasPrefix(pair, "access_token=") }) {
				t.Fatalf("%q, %q is %+v", header, query, who)
			}
			return
		}
		e := err.(*auth.Error)
		if e.Status < 400 || who.Name != "" || strings.Contains(err.Error()+e.Header.Get("WWW-Authenticate"), key) {
			t.Fatalf("%q: %+v, %v, %v", header, who, e, e.Header)
		}
	})
}

// FuzzKeyFile holds that what a file is read as is written as the same keys, and
// that errors do not quote it.
func FuzzKeyFile(f *testing.F) {
	_, kept, err := auth.NewKey("ci")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(kept.String()))
	f.Add([]byte("# a\n\n" + kept.String() + " admin\r\n"))
	f.Add([]byte("a: sha256:00\nb"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := auth.ParseKeys(text)
		if err != nil {
			for _, word := range strings.Fields(string(text)) {
				if len(word) > 20 && strings.Contains(err.Error(), word) {
					t.Fatalf("%v quotes %q", err, text)
				}
			}
			return
		}
		var again bytes.Buffer
		for _, key := range keys {
			again.WriteString(key.String() + "\n")
		}
		twice, err := auth.ParseKeys(again.Bytes())
		if err != nil || len(twice) != len(keys) {
			t.Fatalf("%q: %v, then %v, %v", text, keys, twice, err)
		}
		for i := range keys {
			if keys[i] != twice[i] {
				t.Fatalf("%q: %v, then %v", text, keys, twice)
			}
		}
	})
}
