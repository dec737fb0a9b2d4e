package main

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/auth"
	"github.com/mcpool-dev/mcpool/gateway"
)

// authenticator makes what says who calls; nil where anybody may.
func authenticator(o *auth.Options, log *slog.Logger) (*auth.Authenticator, error) {
	if o == nil {
		return nil, nil
	}
	options := *o
	options.Log = log
	return auth.New(options)
}

// authenticate has a gateway ask who calls, of what asks returns then, and begin
// with what they may do by what it returns now.
func authenticate(o *gateway.Options, asks func() *auth.Authenticator) {
	o.Principal = func(r *http.Request) (string, error) {
		principal, err := asks().Authenticate(r)
		if refused := (*auth.Error)(nil); errors.As(err, &refused) {
			return "", &gateway.PrincipalError{Status: refused.Status, Header: refused.Header, Err: refused}
		}
		return principal.Name, err
	}
	o.Rights = rightsOf(asks())
}

// rightsOf returns what principals may do.
func rightsOf(who *auth.Authenticator) func(principal string) gateway.Rights {
	return func(principal string) gateway.Rights {
		rights := who.Rights(principal)
		if rights == nil {
			return gateway.Rights{}
		}
		return gateway.Rights{Serves: rights.Serves, Offers: rights.Offers, MaxCalls: rights.MaxCalls(), Wait: rights.Wait}
	}
}

// servesBeside reports whether a path is one of those beside.
func servesBeside(path string) bool { return admin.Serves(path) || auth.ServesMetadata(path) }

// isProbe reports whether a path is one that balancers and supervisors look at.
func isProbe(path string) bool { return path == "/healthz" || path == "/readyz" }

// beside serves what is beside the gateway. Where it is asked who calls, of what
// asks returns then, all of it is for admins, but for what says how to log in, and what balancers and
// supervisors look at.
func beside(status http.Handler, asks func() *auth.Authenticator) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := asks()
		if who == nil {
			status.ServeHTTP(w, r)
			return
		}
		switch {
		case auth.ServesMetadata(r.URL.Path):
			who.Metadata(w, r)
			return
		case isProbe(r.URL.Path), admin.IsPage(r.URL.Path):
		default:
			principal, err := who.Admin(r)
			gateway.NotePrincipal(w, principal.Name)
			if err != nil {
				auth.Refuse(w, err)
				return
			}
		}
		status.ServeHTTP(w, r)
	})
}
