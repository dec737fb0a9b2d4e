package admin

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/gateway"
)

//go:embed openapi.yaml
var openAPI []byte

// apiPath is what the paths of the API begin with.
const apiPath = "/admin/v1/"

// A route is one path of the API, which has one method.
type route struct {
	method, path string // the path as http.ServeMux has it, below apiPath
	answer       func(a *Admin, r *http.Request) (any, error)
	serve        func(a *Admin, w http.ResponseWriter, r *http.Request) // in place of answer
}

var routes = []route{
	{method: "GET", path: "pools", answer: (*Admin).getPools},
	{method: "GET", path: "connections", answer: (*Admin).getConnections},
	{method: "GET", path: "connections/{id}", answer: (*Admin).getConnection},
	{method: "GET", path: "clients", answer: (*Admin).getClients},
	{method: "GET", path: "servers", answer: (*Admin).getServers},
	{method: "GET", path: "stats", answer: (*Admin).getStats},
	{method: "GET", path: "config", answer: (*Admin).getConfig},
	{method: "GET", path: "waits", answer: (*Admin).getWaits},
	{method: "GET", path: "history", answer: (*Admin).getHistory},
	{method: "GET", path: "events", serve: (*Admin).serveEvents},
	{method: "GET", path: "openapi.yaml", serve: (*Admin).serveOpenAPI},
	{method: "POST", path: "pools/{server}/pause", answer: (*Admin).pause},
	{method: "POST", path: "pools/{server}/resume", answer: (*Admin).resume},
	{method: "POST", path: "pools/{server}/drain", answer: (*Admin).drain},
	{method: "POST", path: "pools/{server}/reset", answer: (*Admin).reset},
	{method: "POST", path: "connections/{id}/kill", answer: (*Admin).kill},
	{method: "POST", path: "reload", answer: (*Admin).reload},
}

// api is the handler of all routes, for those who may use them.
func (a *Admin) api() http.Handler {
	mux := http.NewServeMux()
	for _, route := range routes {
		mux.HandleFunc(apiPath+route.path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != route.method && !(r.Method == http.MethodHead && route.method == http.MethodGet) {
				w.Header().Set("Allow", route.method)
				fail(w, &apiError{http.StatusMethodNotAllowed, fmt.Sprintf("%s is not served at %s", r.Method, r.URL.Path), "use " + route.method})
				return
			}
			if route.serve != nil {
				route.serve(a, w, r)
				return
			}
			answer, err := route.answer(a, r)
			if route.method == http.MethodPost {
				a.steered(r, err)
			}
			if err != nil {
				fail(w, err)
				return
			}
			writeJSON(w, http.StatusOK, answer)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, &apiError{http.StatusNotFound, "there is nothing at " + r.URL.Path, apiPath + "openapi.yaml says what there is"})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		principal, err := a.admit(w, r)
		gateway.NotePrincipal(w, principal)
		if err != nil {
			if err.status == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") == "" {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			fail(w, err)
			return
		}
		mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, principal)))
	})
}

// principalKey is that of who makes a request, in its context.
type principalKey struct{}

// steered logs what an operator has done.
func (a *Admin) steered(r *http.Request, err error) {
	log := a.Log.With("path", r.URL.Path, "principal", r.Context().Value(principalKey{}), "from", r.RemoteAddr)
	if err != nil {
		log.Warn("the admin API did not do what it was told", "error", err)
		return
	}
	log.Info("steered by the admin API")
}

// An apiError is what a caller of the API is told, and what to do about it.
type apiError struct {
	status        int
	message, hint string
}

func (e *apiError) Error() string { return e.message }

func fail(w http.ResponseWriter, err error) {
	e := (*apiError)(nil)
	if !errors.As(err, &e) {
		e = &apiError{status: http.StatusInternalServerError, message: err.Error()}
	}
	writeJSON(w, e.status, map[string]any{"error": map[string]string{"message": e.message, "hint": e.hint}})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// It cannot fail but for the client having left, who need not be told.
	_ = json.NewEncoder(w).Encode(value)
}

func (a *Admin) serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openAPI) // likewise
}

// everyServer is the name that stands for all.
const everyServer = "*"

// named returns the pool of a server, or all for "*".
func (a *Admin) named(server string) ([]*mcpool.Pool, error) {
	if server == everyServer {
		return a.Pools(), nil
	}
	var names []string
	for _, p := range a.Pools() {
		if p.Name() == server {
			return []*mcpool.Pool{p}, nil
		}
		names = append(names, p.Name())
	}
	return nil, &apiError{http.StatusNotFound, fmt.Sprintf("there is no server %q", server), "there are " + strings.Join(append(names, "* for all"), ", ")}
}

// seconds reads a parameter that is a number of seconds.
func seconds(r *http.Request, name string, preset, most time.Duration) (time.Duration, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return preset, nil
	}
	d, err := mcpool.ParseDuration(text)
	if err != nil || d <= 0 || d > most {
		return 0, &apiError{http.StatusBadRequest, fmt.Sprintf("%s is %.40q", name, text), fmt.Sprintf("want seconds, more than 0 and at most %.0f", most.Seconds())}
	}
	return d, nil
}
