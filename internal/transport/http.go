package transport

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// HTTPOptions are how a server is reached over HTTP. The zero value is a
// sound choice.
type HTTPOptions struct {
	// Header is sent with every request. Its values never appear in errors or
	// logs.
	Header http.Header
	// RoundTripper makes the requests. Nil means a transport of our own, made
	// for many calls to one server: HTTP/2 where the server has it, up to 256
	// idle TCP connections for 45 s, the proxy of the environment, and no
	// limit on how long an answer may take, which is for the ctx of the call.
	RoundTripper http.RoundTripper
	// DialContext opens the TCP connections of our own transport. Nil means a
	// net.Dialer with a timeout of 30 s.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Protocol is the one MCP version to speak; "" for the best that the
	// server speaks.
	Protocol string
	// SSE says that the server speaks the HTTP+SSE transport of MCP 2024-11-05,
	// and is opened by that alone. Otherwise a server that takes in no request
	// at its URL is tried with it.
	SSE bool
	// Log gets what no caller is told. Nil means none.
	Log *slog.Logger
}

// HTTP returns the endpoint of a server at an absolute http or https URL.
// Credentials in the URL are sent as basic authentication unless Header has an
// Authorization. Redirects are not followed: headers carry secrets that are
// for this server alone.
//
// Nothing listens for what the server sends outside of calls: no GET stream is
// opened, but over HTTP+SSE, where everything comes by one.
func HTTP(rawURL string, options HTTPOptions) (*Endpoint, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The error of url.Parse quotes the URL, and secrets with it.
		return nil, errors.New("the URL of the server cannot be parsed")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("the URL of the server is not absolute: want http://host/path or https://host/path")
	}
	version, err := parseProtocol(options.Protocol)
	if err != nil {
		return nil, err
	}
	if options.SSE && version == modernVersion {
		return nil, fmt.Errorf("the HTTP+SSE transport carries no MCP %s", modernVersion)
	}
	e := &httpEndpoint{
		protocol: version,
		sse:      options.SSE,
		where:    u.Scheme + "://" + u.Host,
		header:   options.Header.Clone(),
		tripper:  options.RoundTripper,
		limit:    maxMessage,
		log:      options.Log,
	}
	if e.header == nil {
		e.header = make(http.Header)
	}
	if u.User != nil && e.header.Get(headerAuthorization) == "" {
		password, _ := u.User.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
		e.header.Set(headerAuthorization, "Basic "+credentials)
	}
	given := *u
	e.given = &given
	e.secrets = secrets(e.header, e.given)
	u.User, u.Fragment = nil, ""
	e.url = u
	e.header.Set("Content-Type", "application/json")
	e.header.Set("Accept", "application/json, text/event-stream")
	if e.tripper == nil {
		e.own = newHTTPTransport(options.DialContext)
		e.tripper = e.own
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	return &Endpoint{opener: e}, nil
}

func newHTTPTransport(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dial,
		ForceAttemptHTTP2:   true, // a DialContext of one's own turns it off
		TLSHandshakeTimeout: 10 * time.Second,
		// One server, many callers: with the default of 2 idle connections,
		// 64 callers open some 500 connections a second.
		MaxIdleConnsPerHost: 256,
		// Shorter than the idle timeout of common load balancers (60 s), so
		// that we close first and no call is written to a closed connection.
		IdleConnTimeout: 45 * time.Second,
		HTTP2:           &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// An httpEndpoint makes the requests of all connections to one server.
type httpEndpoint struct {
	protocol protocol
	sse      bool     // HTTPOptions.SSE
	url      *url.URL // without credentials
	given    *url.URL // with them, to blot them out
	where    string   // scheme and host: a path or query may well be a secret
	header   http.Header
	secrets  *strings.Replacer // of header and URL; see blot
	tripper  http.RoundTripper
	own      *http.Transport // nil if the RoundTripper was given
	limit    int             // maxMessage, but for tests
	log      *slog.Logger
}

func (e *httpEndpoint) close() {
	if e.own != nil {
		e.own.CloseIdleConnections()
	}
}

// sent is how far a request has come, as far as its RoundTripper tells.
type sent struct {
	asked  atomic.Bool // it has asked for a network connection, so it does tell
	linked atomic.Bool // it has one
	wrote  atomic.Bool // the headers have been written, or are about to be
}

func (s *sent) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn:      func(string) { s.asked.Store(true) },
		GotConn:      func(httptrace.GotConnInfo) { s.linked.Store(true) },
		WroteHeaders: func() { s.wrote.Store(true) },
	}
}

// send makes one request. The failure, if any, knows nothing of sessions: Dead
// says that the server cannot be reached. The response has the request as we
// made it.
func (e *httpEndpoint) send(ctx context.Context, method string, header http.Header, frame []byte, authorization *Authorization) (*http.Response, *Failure) {
	if ctx.Err() != nil {
		return nil, &Failure{Fate: NotSent, Err: context.Cause(ctx)}
	}
	var s sent
	request := (&http.Request{
		Method:        method,
		URL:           e.url,
		Header:        header.Clone(), // some RoundTrippers write to it
		ContentLength: int64(len(frame)),
	}).WithContext(httptrace.WithClientTrace(ctx, s.trace()))
	if authorization != nil {
		request.Header.Set(headerAuthorization, authorization.Value)
	}
	if frame != nil {
		// With GetBody a request can be made again on another TCP connection
		// if nothing of it was written to the first.
		request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(frame)), nil }
		request.Body, _ = request.GetBody()
	}
	response, err := e.tripper.RoundTrip(request)
	if err == nil {
		response.Request = request // not every RoundTripper sets it
		return response, nil
	}
	return nil, e.failure(ctx, err, &s, authorizationOf(request))
}

func authorizationOf(request *http.Request) string { return request.Header.Get(headerAuthorization) }

// failure says what became of a request that got no response.
func (e *httpEndpoint) failure(ctx context.Context, err error, s *sent, authorization string) *Failure {
	var op *net.OpError
	unreachable := errors.As(err, &op) && op.Op == "dial" || s.asked.Load() && !s.linked.Load()
	fate := MayHaveRun
	if unreachable || s.asked.Load() && !s.wrote.Load() {
		fate = NotSent
	}
	if ctx.Err() != nil {
		return &Failure{Fate: fate, Err: context.Cause(ctx)}
	}
	return &Failure{Fate: fate, Dead: unreachable, Err: e.wrap(err, authorization)}
}

// errorf makes an error about the server, which is named by its host.
func (e *httpEndpoint) errorf(format string, args ...any) error {
	return e.wrap(fmt.Errorf(format, args...), "")
}

func (e *httpEndpoint) wrap(err error, authorization string) error {
	return &hostError{e.where + ": " + e.blot(err.Error(), authorization), err}
}

// A hostError is an error about the server at a host, with secrets blotted out
// of its text.
type hostError struct {
	text string
	err  error
}

func (e *hostError) Error() string { return e.text }
func (e *hostError) Unwrap() error { return e.err }
