// Package admin shows how the pools of one process stand, and steers them: to
// people and scripts as JSON, to Prometheus as metrics, and to whoever restarts
// or balances processes as two yes-or-no answers.
//
//	/            the pools as a page for browsers, live, by means of the API
//	/healthz     200 "ok": the process answers
//	/readyz      200 "ready", or 503 "draining": send clients elsewhere
//	/status      the gateway, the pools and each of their connections, as JSON
//	/metrics     gateway, pools, databases and requests as metrics of Prometheus,
//	             without single connections
//	/admin/v1/   the API, which /admin/v1/openapi.yaml describes
//
// All but the API answer whoever reaches them and ask for no credentials: let
// them listen where only those who may know can reach them. Who may use the API
// is said by [Options]; the page has nothing that the API does not give it. Nothing here shows a secret, nor what a caller said, but
// for the name that a client gives itself.
package admin

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/gateway"
)

// Options is what there is to show, and to whom.
type Options struct {
	// Version is this program's, for /status.
	Version string
	// Pools returns those that are shown, in this order. Their names differ. It is
	// asked each time, by several at once. Nil for none.
	Pools func() []*mcpool.Pool
	// Gateway is shown, too, in /status and as clients. Nil if there is none.
	Gateway *gateway.Gateway
	// Databases returns those that are shown in /metrics, as Pools does. The names
	// of all of theirs differ.
	Databases func() []*dbserver.Server
	// Requests are those over HTTP, for /metrics. Nil if nobody counts them.
	Requests *Requests
	// Ready says whether new clients should come here. It is false from the
	// moment that the process has been asked to end. Nil is always.
	Ready func() bool
	// Settings are those in force, without what is secret. Nil for none.
	Settings func() []Setting
	// Reload has the configuration read again. An error says that nothing has
	// changed, and why. Nil where that is not possible.
	Reload func(ctx context.Context) error

	// Local lets programs on this machine use the API without credentials. It is
	// for a gateway that asks nobody for any and listens on loopback alone. A
	// request that came through a proxy, by its headers, or whose Host is no name
	// of loopback, is not from this machine.
	Local bool
	// Token returns what lets whoever shows it, as a bearer token, use the API; nil
	// for none. It is asked each time, by several at once. Nil for none always.
	Token func() *Token
	// Authorize says who makes a request, for logs, and why they may not use the API; nil means that
	// they may. It is asked where Token is not shown, and in place of Local. Nil
	// to ask nobody. The error is told to the caller, with status 401, or with the
	// status and the header that an [github.com/mcpool-dev/mcpool/auth.Error] has.
	Authorize func(*http.Request) (principal string, err error)

	// Log receives what is done by the API; nil for nothing.
	Log *slog.Logger
}

// Admin is the handler of the paths above. It is safe for concurrent use.
type Admin struct {
	Options
	started time.Time
	mux     *http.ServeMux
	history *history
	streams atomic.Int64  // of events
	ended   chan struct{} // closed when Run returns
}

// New returns the handler of the paths above. Uptime is counted from here. The
// history is empty until [Admin.Run] runs.
func New(options Options) *Admin {
	a := &Admin{Options: options, started: time.Now(), mux: http.NewServeMux(), history: newHistory(), ended: make(chan struct{})}
	if a.Pools == nil {
		a.Pools = func() []*mcpool.Pool { return nil }
	}
	if a.Databases == nil {
		a.Databases = func() []*dbserver.Server { return nil }
	}
	if a.Token == nil {
		a.Token = func() *Token { return nil }
	}
	if a.Ready == nil {
		a.Ready = func() bool { return true }
	}
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	paths := []string{"/"}
	for _, page := range []struct {
		path    string
		handler http.Handler
	}{
		{"/healthz", http.HandlerFunc(a.healthz)},
		{"/readyz", http.HandlerFunc(a.readyz)},
		{"/status", http.HandlerFunc(a.status)},
		{"/metrics", metricsHandler(a.Options)},
	} {
		a.mux.Handle(page.path, readOnly(page.handler))
		paths = append(paths, page.path)
	}
	a.mux.Handle(apiPath, a.api())
	paths = append(paths, apiPath)
	for _, page := range pageFiles {
		a.mux.Handle(page.path, readOnly(pageHandler(page.file, page.kind)))
	}
	a.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		say(w, http.StatusNotFound, "not found; there are "+strings.Join(paths, ", "))
	})
	return a
}

// Serves reports whether a path is one of those of the package, or below that of the API.
func Serves(path string) bool {
	switch path {
	case "/healthz", "/readyz", "/status", "/metrics":
		return true
	}
	return IsPage(path)
}

// ServeHTTP answers a request.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

func (a *Admin) healthz(w http.ResponseWriter, r *http.Request) {
	say(w, http.StatusOK, "ok")
}

func (a *Admin) readyz(w http.ResponseWriter, r *http.Request) {
	if !a.Ready() {
		say(w, http.StatusServiceUnavailable, "draining")
		return
	}
	say(w, http.StatusOK, "ready")
}

// readOnly answers GET and HEAD, and nothing from a cache: what is shown is
// true for a moment.
func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			say(w, http.StatusMethodNotAllowed, "method not allowed; there are GET and HEAD")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// say answers with one line.
func say(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, line+"\n") // to a client that may be gone
}
