package admin

import (
	"embed"
	"net/http"
	"strings"
)

// files are the page: what a browser is given, as it is written.
//
//go:embed page
var files embed.FS

// pagePolicy lets the page have what is of its own origin and nothing else: no
// script or style but its files, no request elsewhere, no frame around it (W3C,
// Content Security Policy Level 3). The icon is in the page, as data.
var pagePolicy = strings.Join([]string{
	"default-src 'none'",
	"script-src 'self'",
	"style-src 'self'",
	"connect-src 'self'",
	"img-src 'self' data:",
	"frame-ancestors 'none'",
	"base-uri 'none'",
	"form-action 'none'",
}, "; ")

// pageFiles are the paths of the page and what is there. They tell nothing of the
// pools and need no credentials: what is shown the page asks of the API, as any
// program does.
var pageFiles = []struct{ path, file, kind string }{
	{"/{$}", "page/index.html", "text/html; charset=utf-8"},
	{"/page.css", "page/page.css", "text/css; charset=utf-8"},
	{"/page.js", "page/page.js", "text/javascript; charset=utf-8"},
}

// IsPage reports whether a path is that of the page, which is the same for
// everybody, or of the API, which asks by itself who may use it: what stands in
// front of the handler need not.
func IsPage(path string) bool {
	return path == "/" || path == "/page.css" || path == "/page.js" || strings.HasPrefix(path, apiPath)
}

// pageHandler answers with one file of the page.
func pageHandler(file, kind string) http.Handler {
	content, err := files.ReadFile(file)
	if err != nil {
		panic(err) // it is in the program
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		_, _ = w.Write(content) // it cannot fail but for the client having left
	})
}
