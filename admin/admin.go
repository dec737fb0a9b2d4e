// Package admin shows how the pools of one process stand: to people and
// scripts as JSON, to Prometheus as metrics, and to whoever restarts or
// balances processes as two yes-or-no answers.
//
//	/healthz   200 "ok": the process answers
//	/readyz    200 "ready", or 503 "draining": send clients elsewhere
//	/status    the gateway, the pools and each of their connections, as JSON
//	/metrics   the pools as metrics of Prometheus, without single connections
//
// It answers whoever reaches it and asks for no credentials: let it listen
// where only those who may know can reach it. It shows no secrets, and nothing that a
// caller said.
package admin

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/gateway"
)

// Options is what there is to show.
type Options struct {
	// Version is this program's, for /status.
	Version string
	// Pools returns those that are shown, in this order. Their names differ. It is
	// asked each time, by several at once. Nil for none.
	Pools func() []*mcpool.Pool
	// Gateway is shown, too, in /status. Nil if there is none.
	Gateway *gateway.Gateway
	// Ready says whether new clients should come here. It is false from the
	// moment that the process has been asked to end. Nil is always.
	Ready func() bool
}

// New returns the handler of the paths above. Uptime is counted from here.
func New(options Options) http.Handler {
	a := &admin{Options: options, started: time.Now()}
	if a.Pools == nil {
		a.Pools = func() []*mcpool.Pool { return nil }
	}
	if a.Ready == nil {
		a.Ready = func() bool { return true }
	}
	mux := http.NewServeMux()
	var paths []string
	for _, page := range []struct {
		path    string
		handler http.Handler
	}{
		{"/healthz", http.HandlerFunc(a.healthz)},
		{"/readyz", http.HandlerFunc(a.readyz)},
		{"/status", http.HandlerFunc(a.status)},
		{"/metrics", metricsHandler(a.Pools)},
	} {
		mux.Handle(page.path, readOnly(page.handler))
		paths = append(paths, page.path)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		say(w, http.StatusNotFound, "not found; there are "+strings.Join(paths, ", "))
	})
	return mux
}

type admin struct {
	Options
	started time.Time
}

func (a *admin) healthz(w http.ResponseWriter, r *http.Request) {
	say(w, http.StatusOK, "ok")
}

func (a *admin) readyz(w http.ResponseWriter, r *http.Request) {
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
	io.WriteString(w, line+"\n")
}
