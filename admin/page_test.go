package admin_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/admin"
)

// TestPageKeepsToItself holds what keeps others' texts from becoming scripts, and
// others' pages from using this one.
func TestPageKeepsToItself(t *testing.T) {
	h := admin.New(admin.Options{})
	for path, kind := range map[string]string{
		"/":         "text/html; charset=utf-8",
		"/page.css": "text/css; charset=utf-8",
		"/page.js":  "text/javascript; charset=utf-8",
	} {
		w := request(h, "GET", path)
		for name, want := range map[string]string{
			"Content-Type": kind,
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
				"frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
			"X-Content-Type-Options":     "nosniff",
			"Referrer-Policy":            "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		text := strings.ReplaceAll(w.Body.String(), "http://www.w3.org/2000/svg", "") // a name, which nobody asks for
		if found := regexp.MustCompile(`https?:|[("']//|(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|javascript:|srcdoc|\son[a-z]+="|\sstyle="`).FindString(text); found != "" {
			t.Errorf("%s has %q", path, found)
		}
		if len(text) > 40<<10 {
			t.Errorf("%s has %d bytes: keep it small", path, len(text))
		}
	}
}
