package mcpool

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// OAuth is a login with an OAuth 2.1 authorization server that takes no person:
// by refresh token where there is one, otherwise by client credentials (RFC
// 6749, 6 and 4.4). Which authorization server it is, the MCP server says when
// it refuses the first request (RFC 9728), and that server's metadata says the
// rest (RFC 8414, OpenID Connect Discovery). Only https is spoken, and http on
// this machine; redirects are not followed.
//
// It is the [Auth] of a [Server] whose callers are one account there. Where
// each has its own, give each its source in Server.Tokens; give all requests
// with one refresh token the same source.
type OAuth struct {
	// ClientID is the client's, as registered.
	ClientID string
	// ClientSecret is the client's secret, or ClientSecretFile has it, which is
	// read whenever it is sent; neither for a public client. It is sent as
	// client_secret_basic, or as client_secret_post where that is all the
	// authorization server takes.
	ClientSecret     string
	ClientSecretFile string

	// RefreshToken is a refresh token as the last login gave it; "" for client
	// credentials. A server that gives another one in its place (OAuth 2.1,
	// 4.3.1) takes the old one no more: Rotated is told of the new one, and has
	// to keep it, before a request is made with what came with it. If it fails,
	// so do the requests, and it is called again. A nil Rotated keeps the new
	// one only as long as the source lives; one that is not nil makes each
	// Server another one for Reload.
	RefreshToken string
	Rotated      func(refreshToken string) error
	// RefreshTokenFile is in place of both: a file with the refresh token. It
	// is read at each refresh and is replaced as a whole, with mode 0600; its
	// folder must be writable, which is seen to before the old token is used.
	// No other program may use the same login.
	RefreshTokenFile string

	// Scopes are asked for, with those that the server wants for what it has
	// refused. If neither names any, those are that the server says it has, or
	// with a refresh token those of the login.
	Scopes []string
	// Issuer is the authorization server that the credentials are of, as its
	// metadata has it: they are sent to no other. "" is the first that the
	// server names, for as long as the source lives.
	Issuer string
	// Resource is what tokens are asked for (RFC 8707); "" is the URL of the
	// MCP server, without its query.
	Resource string
	// CAFile names a file of certificates in PEM: authorities that the
	// authorization server may have its certificate from, beside those of the
	// system. It is read by TokenSource, and goes with a nil RoundTripper only.
	CAFile string
	// RoundTripper makes the requests; nil for a transport that uses the
	// proxies of the environment.
	RoundTripper http.RoundTripper
}

const (
	// grantTimeout bounds all it takes to get one token, discovery included.
	// Nobody waits longer for one.
	grantTimeout = tokenTimeout
	// grantPause is how soon after a failure the next token is asked for; who
	// comes sooner gets the same error.
	grantPause = time.Second
	// grantFresh is how old a token must be for another to be asked for when
	// the server has refused it with 401: another would be refused as well.
	grantFresh = 10 * time.Second
	// maxScopes bounds what servers can have us ask for.
	maxScopes = 100
)

// TokenSource implements [Auth]. The source is a [rpc.ChallengeSource]; it asks
// for one token at a time, whoever wants it, and a token that is being asked
// for when its callers have gone is kept for the next ones.
func (o OAuth) TokenSource(serverURL string) (rpc.TokenSource, error) {
	resource, err := url.Parse(cmp.Or(o.Resource, serverURL))
	switch {
	case err != nil || resource.Host == "":
		return nil, errors.New("OAuth: the Resource, or else the URL of the server, is not absolute")
	case o.ClientID == "":
		return nil, errors.New("OAuth: want a ClientID")
	case o.CAFile != "" && o.RoundTripper != nil:
		return nil, errors.New("OAuth: a CAFile has no use beside a RoundTripper: trust in that")
	case o.ClientSecret != "" && o.ClientSecretFile != "":
		return nil, errors.New("OAuth: give either ClientSecret or ClientSecretFile")
	case o.RefreshTokenFile != "" && (o.RefreshToken != "" || o.Rotated != nil):
		return nil, errors.New("OAuth: give either RefreshToken or RefreshTokenFile, which needs no Rotated")
	case !o.refreshes() && o.ClientSecret == "" && o.ClientSecretFile == "":
		return nil, errors.New("OAuth: want a refresh token or the client's secret")
	}
	if o.Issuer != "" {
		if _, err := secureURL(o.Issuer); err != nil {
			return nil, fmt.Errorf("OAuth: Issuer: %w", err)
		}
	}
	tripper := o.RoundTripper
	if tripper == nil {
		// Tokens are asked for so seldom that nothing is kept open in between.
		own := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: 10 * time.Second}
		if o.CAFile != "" {
			roots, err := transport.Authorities(o.CAFile)
			if err != nil {
				return nil, fmt.Errorf("OAuth: %w", err)
			}
			own.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
		}
		tripper = own
	}
	client := &http.Client{Transport: tripper, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // it would be led on with secrets
	}}
	resource.User, resource.RawQuery, resource.Fragment = nil, "", "" // may be secrets
	return &oauthSource{
		OAuth:     o,
		discovery: discovery{client: client, resource: resource, issuer: o.Issuer},
		turn:      make(chan struct{}, 1),
		refresh:   o.RefreshToken,
	}, nil
}

func (o *OAuth) refreshes() bool { return o.RefreshToken != "" || o.RefreshTokenFile != "" }

// An oauthSource is what comes of an [OAuth].
type oauthSource struct {
	OAuth
	discovery discovery

	turn    chan struct{} // holds one thing while what follows is used, requests included
	server  *tokenServer  // nil until a refusal has led to it
	token   *oauth2.Token // the last one; nil before it and after a refusal
	since   time.Time     // when it came
	scopes  []string      // that it was asked for with
	tried   []string      // those, and others that were asked for in vain
	refresh string        // the last refresh token; "" until the file is read
	unkept  bool          // it is nowhere but here
	spent   string        // a refresh token that is not taken any more
	why     error         // what was said of it
	failed  error         // what the last try came to, nil if to a token
	retry   time.Time     // when it may be tried again
}

// take waits for its turn.
func (s *oauthSource) take() (ctx context.Context, give func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), grantTimeout)
	select {
	case s.turn <- struct{}{}:
		return ctx, func() { cancel(); <-s.turn }, nil
	case <-ctx.Done():
		cancel()
		return nil, nil, errSlowSource
	}
}

// Token implements [rpc.TokenSource].
func (s *oauthSource) Token() (*oauth2.Token, error) {
	ctx, give, err := s.take()
	if err != nil {
		return nil, err
	}
	defer give()
	switch {
	case s.server == nil && (s.failed == nil || !time.Now().Before(s.retry)):
		return nil, nil // the server will say where to ask
	case s.here():
		return s.token, nil
	}
	return s.again(func() error { return s.renew(ctx, s.scopes) })
}

// TokenFor implements [rpc.ChallengeSource].
func (s *oauthSource) TokenFor(c rpc.Challenge) (*oauth2.Token, error) {
	ctx, give, err := s.take()
	if err != nil {
		return nil, err
	}
	defer give()
	wanted := strings.Fields(c.Param("scope"))
	if c.Status == http.StatusForbidden && s.here() {
		return s.stepUp(ctx, wanted, c.Token)
	}
	if s.here() && (s.token.AccessToken != c.Token || time.Since(s.since) < grantFresh) {
		return s.token, nil
	}
	s.token = nil
	scopes := union(s.scopes, s.Scopes)
	if !s.refreshes() { // it can have no more than the login had (RFC 6749, 6)
		scopes = union(scopes, wanted)
	}
	return s.again(func() error {
		// The server may have changed its mind about where tokens come from.
		server, err := s.discovery.find(ctx, c.Param("resource_metadata"))
		if err != nil {
			return err
		}
		s.server, s.discovery.issuer = server, server.Issuer
		if len(scopes) == 0 && !s.refreshes() {
			scopes = union(server.scopes)
		}
		return s.renew(ctx, scopes)
	})
}

// here reports whether there is a token that can be given.
func (s *oauthSource) here() bool { return s.token.Valid() && !s.unkept }

// stepUp gets a token with more scope than the one that was refused. There is
// none if all that is wanted was asked for before, or if the old scope is not
// known: a token without it would be refused elsewhere.
func (s *oauthSource) stepUp(ctx context.Context, wanted []string, refused string) (*oauth2.Token, error) {
	switch {
	case s.token.AccessToken != refused && holds(s.scopes, wanted):
		return s.token, nil // somebody was here before
	case holds(s.tried, wanted), s.refreshes() && len(s.scopes) == 0:
		return s.token, nil
	}
	err := s.renew(ctx, union(s.scopes, wanted))
	if err != nil {
		if errors.As(err, new(*grantError)) {
			s.tried = union(s.tried, wanted)
		}
		return nil, err
	}
	return s.token, nil
}

// again tries to get a token, unless that has failed just now.
func (s *oauthSource) again(try func() error) (*oauth2.Token, error) {
	if s.failed != nil && time.Now().Before(s.retry) {
		return nil, s.failed
	}
	s.failed = try()
	if s.failed != nil {
		s.retry = time.Now().Add(grantPause)
		return nil, s.failed
	}
	return s.token, nil
}

// renew asks the authorization server for a token.
func (s *oauthSource) renew(ctx context.Context, scopes []string) error {
	if s.unkept {
		replace, err := s.replacement()
		if err == nil {
			err = s.keep(replace)
		}
		if err != nil || s.token.Valid() {
			return err
		}
	}
	config := clientcredentials.Config{
		ClientID: s.ClientID, TokenURL: s.server.TokenEndpoint, Scopes: scopes,
		EndpointParams: url.Values{"resource": {s.server.resource}},
	}
	var err error
	if config.ClientSecret, config.AuthStyle, err = s.secret(); err != nil {
		return err
	}
	var replace *replacement
	if s.refreshes() {
		if s.RefreshTokenFile != "" {
			if s.refresh, err = readSecret(s.RefreshTokenFile); err != nil {
				return err
			}
		}
		if s.refresh == s.spent {
			return s.why
		}
		if replace, err = s.replacement(); err != nil {
			return err
		}
		defer replace.discard()
		config.EndpointParams.Set("grant_type", "refresh_token")
		config.EndpointParams.Set("refresh_token", s.refresh)
	}
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, s.discovery.client))
	switch {
	case err != nil:
		return s.failure(err, config.ClientSecret)
	case !strings.EqualFold(token.Type(), "Bearer"):
		return fmt.Errorf("authorization server %.200q gave a token of type %.20q, want Bearer", s.server.Issuer, token.Type())
	}
	said, _ := token.Extra("scope").(string)
	s.scopes = union(scopes, strings.Fields(said))
	s.tried = s.scopes
	s.since = time.Now()
	s.token = &oauth2.Token{AccessToken: token.AccessToken, TokenType: token.TokenType, Expiry: token.Expiry}
	if s.refreshes() && token.RefreshToken != s.refresh {
		s.refresh, s.unkept = token.RefreshToken, true
		return s.keep(replace)
	}
	return nil
}

// replacement returns what may take the place of RefreshTokenFile; nil where
// there is none.
func (s *oauthSource) replacement() (*replacement, error) {
	if s.RefreshTokenFile == "" {
		return nil, nil
	}
	return newReplacement(s.RefreshTokenFile)
}

// keep keeps the refresh token where it outlives the source.
func (s *oauthSource) keep(replace *replacement) error {
	var err error
	switch {
	case replace != nil:
		defer replace.discard()
		err = replace.commit(s.refresh)
	case s.Rotated != nil:
		err = s.Rotated(s.refresh)
	}
	if err != nil {
		return fmt.Errorf("the new refresh token could not be kept, and the old one is not taken any more: %w", err)
	}
	s.unkept = false
	return nil
}

// secret returns the client's secret and how it is sent. What is sent is
// decided, never tried: a refresh token that is sent twice may end the login.
func (s *oauthSource) secret() (string, oauth2.AuthStyle, error) {
	secret := s.ClientSecret
	if s.ClientSecretFile != "" {
		var err error
		if secret, err = readSecret(s.ClientSecretFile); err != nil {
			return "", 0, err
		}
	}
	methods := s.server.AuthMethods
	switch {
	case secret == "":
		return "", oauth2.AuthStyleInParams, nil
	case len(methods) == 0, slices.Contains(methods, "client_secret_basic"): // the default (RFC 8414, 2)
		return secret, oauth2.AuthStyleInHeader, nil
	case slices.Contains(methods, "client_secret_post"):
		return secret, oauth2.AuthStyleInParams, nil
	}
	return "", 0, fmt.Errorf("authorization server %.200q takes no client secret", s.server.Issuer)
}

// A grantError is what an authorization server answered instead of a token.
type grantError struct {
	text string
	said *oauth2.RetrieveError // without what was not meant for us
}

func (e *grantError) Error() string { return e.text }
func (e *grantError) Unwrap() error { return e.said }

// failure is what a request for a token came to, without secrets: a server may
// well repeat what it was sent.
func (s *oauthSource) failure(err error, secret string) error {
	var said *oauth2.RetrieveError
	if !errors.As(err, &said) {
		return fmt.Errorf("authorization server %.200q: %w", s.server.Issuer, withoutURL(err))
	}
	blot := strings.NewReplacer(cmp.Or(secret, "***"), "***", cmp.Or(s.refresh, "***"), "***")
	e := &grantError{said: &oauth2.RetrieveError{
		Response:         &http.Response{Status: said.Response.Status, StatusCode: said.Response.StatusCode},
		ErrorCode:        blot.Replace(said.ErrorCode),
		ErrorDescription: blot.Replace(said.ErrorDescription),
	}}
	e.text = fmt.Sprintf("authorization server %.200q answered HTTP %.50s", s.server.Issuer, said.Response.Status)
	if said.ErrorCode != "" {
		e.text = fmt.Sprintf("authorization server %.200q said %.50q, %.200q", s.server.Issuer, e.said.ErrorCode, e.said.ErrorDescription)
	}
	if said.ErrorCode == "invalid_grant" && s.refreshes() {
		e.text += ": the refresh token is not taken any more, log in again"
		s.spent, s.why = s.refresh, e
	}
	return e
}

// union returns the scopes of all, in order and once each.
func union(all ...[]string) []string {
	var scopes []string
	for _, some := range all {
		for _, scope := range some {
			if len(scopes) < maxScopes && !slices.Contains(scopes, scope) {
				scopes = append(scopes, scope)
			}
		}
	}
	return scopes
}

// holds reports whether all of some are among the scopes.
func holds(scopes, some []string) bool {
	return !slices.ContainsFunc(some, func(scope string) bool { return !slices.Contains(scopes, scope) })
}
