// Package auth says who calls: it makes the principal of an HTTP request from
// a static key, an access token of an OAuth or OpenID Connect issuer, or a
// client certificate, and says what a principal may do.
//
// A request has one way to say who makes it: the header Authorization with a
// Bearer token, which is a key or an access token (RFC 6750, 2.1), or else the
// client certificate of its connection. A token in the URL is refused (MCP
// 2025-11-25 and 2026-07-28, authorization "Token Requirements").
//
// The name of a principal stays the same when its credentials are replaced: a
// key's is its name, a token's is ISSUER|SUBJECT, a certificate's is
// "certificate|" and the URI or common name in it. None can have that of
// another kind: names of keys have no "|", and issuers are URLs.
package auth

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
)

// Options are who may call. At least one of Keys, KeyFile, JWT and
// Certificates is set.
type Options struct {
	// URL is the origin at which clients reach the gateway, such as
	// https://mcp.example.com. With JWT it is where clients are told which
	// issuer to log in at (RFC 9728). "" tells them nothing.
	URL string
	// Keys are static keys.
	Keys []Key
	// KeyFile has more of them, see [ParseKeys]. It is read again within a second
	// of its replacement; one that is wrong changes nothing. "" for none.
	KeyFile string
	// JWT is whose access tokens are taken; nil for nobody's.
	JWT *JWT
	// Certificates is how client certificates are taken; "" for not at all.
	// Whether one is good is the matter of the TLS listener.
	Certificates CertificateName
	// Rules say what principals may do: of each the first whose pattern matches
	// its name. Who matches none may do everything.
	Rules []Rule
	// Log receives what operators have to act on, and no secrets; nil for
	// nothing.
	Log *slog.Logger
}

// A Principal is who makes a request.
type Principal struct {
	// Name is stable, see the package comment. It is no secret.
	Name string
	// Scopes are those of an access token.
	Scopes []string
	// Admin says that it may use the admin API.
	Admin bool
}

// An Authenticator says who makes requests. It is safe for concurrent use.
type Authenticator struct {
	url          string
	keys         *keyring
	tokens       *tokens // nil for none
	certificates CertificateName
	accounts     *accounts
}

// New makes an Authenticator. It fails where an option makes no sense, and
// where the key file cannot be read; an issuer is asked nothing before its first
// token comes.
func New(o Options) (*Authenticator, error) {
	a, err := o.make()
	if err == nil {
		err = a.keys.open()
	}
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return a, nil
}

// Check returns what [New] would fail with, but for what is in the key file,
// which it does not open.
func (o Options) Check() error {
	if _, err := o.make(); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	return nil
}

func (o *Options) make() (*Authenticator, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &Authenticator{url: o.URL, certificates: o.Certificates}
	if err := o.check(); err != nil {
		return nil, err
	}
	var err error
	if a.keys, err = newKeyring(o.Keys, o.KeyFile, o.Log); err != nil {
		return nil, err
	}
	if o.JWT != nil {
		if a.tokens, err = newTokens(*o.JWT, o.URL, o.Log); err != nil {
			return nil, fmt.Errorf("jwt: %w", err)
		}
	}
	a.accounts, err = newAccounts(o.Rules)
	return a, err
}

func (o *Options) check() error {
	if len(o.Keys) == 0 && o.KeyFile == "" && o.JWT == nil && o.Certificates == "" {
		return errors.New("nobody could call: want keys, a key file, jwt or client certificates")
	}
	if o.URL != "" {
		u, err := secureURL(o.URL)
		if err != nil {
			return fmt.Errorf("url: %w", err)
		}
		if o.URL != u.Scheme+"://"+u.Host {
			return errors.New("url: want scheme://host or scheme://host:port, and nothing behind it")
		}
	}
	switch o.Certificates {
	case "", CertificateURI, CertificateCommonName:
		return nil
	}
	return fmt.Errorf("the name of a client certificate: want %s or %s", CertificateURI, CertificateCommonName)
}

// Authenticate returns who makes a request. The error is an [*Error]. For a
// token whose signing key is not known it may wait until its issuer has been
// asked, 10 s at most.
func (a *Authenticator) Authenticate(r *http.Request) (Principal, error) {
	token, e := bearer(r)
	switch {
	case e != nil:
		return Principal{}, a.refuse(r, e)
	case token == "":
		who, e := a.ofCertificate(r.TLS)
		if e != nil {
			return Principal{}, a.refuse(r, e)
		}
		return who, nil
	}
	if who, ok := a.keys.find(token); ok {
		return who, nil
	}
	if a.tokens == nil {
		return Principal{}, a.refuse(r, invalid("the key is not known"))
	}
	who, e := a.tokens.verify(r.Context(), token, resourceOf(r.URL.Path))
	if e != nil {
		return Principal{}, a.refuse(r, e)
	}
	return who, nil
}

// Admin is Authenticate for the admin API: others than its admins are refused
// with status 403, and returned all the same.
func (a *Authenticator) Admin(r *http.Request) (Principal, error) {
	who, err := a.Authenticate(r)
	if err != nil || who.Admin {
		return who, err
	}
	e := &Error{Status: http.StatusForbidden, text: "this is for admins", code: "insufficient_scope"}
	if a.tokens != nil {
		e.scope = a.tokens.AdminScope
	}
	return who, a.refuse(r, e)
}

// An Error is why a request is refused. Its text has nothing that the request
// said.
type Error struct {
	// Status is that of HTTP: 400, 401, 403, 431 or 503.
	Status int
	// Header goes with the response: WWW-Authenticate (RFC 6750, 3; RFC 9728,
	// 5.1), Retry-After.
	Header http.Header

	text  string
	code  string // of RFC 6750, 3.1
	scope string // that is needed
}

func (e *Error) Error() string { return e.text }

// Refuse answers a request with an error of [Authenticator.Authenticate], as one
// line of text.
func Refuse(w http.ResponseWriter, err error) {
	status := http.StatusUnauthorized
	if e := (*Error)(nil); errors.As(err, &e) {
		status = e.Status
		for name, values := range e.Header {
			w.Header()[name] = values
		}
	}
	http.Error(w, err.Error(), status)
}

// invalid is a token that is not taken.
func invalid(text string) *Error {
	return &Error{Status: http.StatusUnauthorized, text: text, code: "invalid_token"}
}

// refuse completes an error with what the client needs to do better.
func (a *Authenticator) refuse(r *http.Request, e *Error) *Error {
	e.Header = http.Header{}
	if e.Status == http.StatusServiceUnavailable {
		e.Header.Set("Retry-After", "5")
		return e
	}
	challenge := `Bearer realm="mcpool"`
	if e.code != "" {
		challenge += fmt.Sprintf(`, error=%q, error_description=%q`, e.code, e.text)
	}
	if a.tokens != nil {
		if scope := cmp.Or(e.scope, strings.Join(a.tokens.Scopes, " ")); scope != "" && e.code != "invalid_request" {
			challenge += fmt.Sprintf(`, scope=%q`, scope)
		}
		if a.url != "" {
			challenge += fmt.Sprintf(`, resource_metadata=%q`, a.url+metadataPath+resourceOf(r.URL.Path))
		}
	}
	e.Header.Set("WWW-Authenticate", challenge)
	return e
}

var endpointPath = regexp.MustCompile(`^/(?:mcp|sse)(?:/[A-Za-z0-9_-]{1,64})?$`)

// resourceOf returns the path of the resource that a request is for (RFC 8707):
// that of its endpoint, and of all that is no endpoint the first one.
func resourceOf(path string) string {
	if path = strings.TrimSuffix(path, "/"); endpointPath.MatchString(path) {
		return path
	}
	return "/mcp"
}
