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

// authenticate has a gateway ask who calls, and what they may do.
func authenticate(o *gateway.Options, who *auth.Authenticator) {
	if who == nil {
		return
	}
	o.Principal = func(r *http.Request) (string, error) {
		principal, err := who.Authenticate(r)
		if refused := (*auth.Error)(nil); errors.As(err, &refused) {
			return "", &gateway.PrincipalError{Status: refused.Status, Header: refused.Header, Err: refused}
		}
		return principal.Name, err
	}
	o.Rights = func(principal string) gateway.Rights {
		rights := who.Rights(principal)
		if rights == nil {
			return gateway.Rights{}
		}
		return gateway.Rights{Serves: rights.Serves, Offers: rights.Offers, MaxCalls: rights.MaxCalls(), Wait: rights.Wait}
	}
}

// beside serves what is beside the gateway. Where it is asked who calls, all of
// it is for admins, but for what says how to log in, and what balancers and
// supervisors look at.
func beside(status http.Handler, who *auth.Authenticator) http.Handler {
	if who == nil {
		return status
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case auth.ServesMetadata(r.URL.Path):
			who.Metadata(w, r)
			return
		case r.URL.Path == "/healthz", r.URL.Path == "/readyz", admin.IsPage(r.URL.Path):
		default:
			if _, err := who.Admin(r); err != nil {
				auth.Refuse(w, err)
				return
			}
		}
		status.ServeHTTP(w, r)
	})
}
