package transport

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
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
	"unicode"

	"github.com/mcpool-dev/mcpool/internal/mirror"
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
	// DialContext opens the TCP connections of our own transport, or those to
	// a socket, whose network is "unix". Nil means a net.Dialer with a timeout
	// of 30 s.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// ParamHeaders returns the arguments of a tool that its calls repeat in
	// headers, as far as known, if the server is modern; nil for none. It must
	// be quick and safe for concurrent use.
	ParamHeaders func(tool string) []mirror.Header
	// Changed is told of changes, whatever they come in; nil for nobody. It
	// must be quick and safe for concurrent use.
	Changed func(Change)
	// Protocol is the one MCP version to speak; "" for the best that the
	// server speaks.
	Protocol string
	// CAFile names a file of PEM certificates of authorities, which our own
	// transport trusts beside those of the system. It is read by HTTP.
	CAFile string
	// CertFile and KeyFile name the files of a client certificate, with the
	// intermediate ones behind it, and of its key, both PEM, which our own
	// transport shows to a server that asks. HTTP reads them, and each TLS
	// handshake anew: one that begins after they were replaced has the new
	// certificate. Until both match, the last that did is used.
	CertFile, KeyFile string
	// MaxMessageBytes bounds one message of the server: a JSON body or an event
	// of a stream, unpacked. A larger one fails its call alone. Zero means
	// [DefaultMaxMessageBytes].
	MaxMessageBytes int
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
// A server at a Unix socket has a URL such as
// http+unix://%2Frun%2Fmcp.sock/mcp, whose host is the absolute path of the
// socket, percent-encoded. The Host of its requests is localhost, and no proxy
// is used.
//
// A stream for what a legacy server says outside of calls is opened by Listen,
// and with connections for callers who can be asked something; over HTTP+SSE
// everything comes by one.
func HTTP(rawURL string, options HTTPOptions) (*Endpoint, error) {
	u, socket, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	version, err := parseProtocol(options.Protocol)
	if err != nil {
		return nil, err
	}
	if options.SSE && version == modernVersion {
		return nil, fmt.Errorf("the HTTP+SSE transport carries no MCP %s", modernVersion)
	}
	e := &httpEndpoint{
		protocol:     version,
		sse:          options.SSE,
		paramHeaders: options.ParamHeaders,
		changed:      options.Changed,
		where:        u.Scheme + "://" + u.Host,
		header:       options.Header.Clone(),
		tripper:      options.RoundTripper,
		log:          options.Log,
	}
	if socket != "" {
		e.where = "unix:" + socket
	}
	if e.limit, err = messageLimit(options.MaxMessageBytes); err != nil {
		return nil, err
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
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
	certified := options.CAFile != "" || options.CertFile != "" || options.KeyFile != ""
	switch {
	case certified && u.Scheme != "https":
		return nil, errors.New("certificates go with an https URL: over any other nothing is encrypted")
	case e.tripper != nil && (certified || socket != "" || options.DialContext != nil):
		return nil, errors.New("a RoundTripper makes its own connections: it goes with no certificates, no DialContext and no http+unix URL")
	case e.tripper == nil:
		if e.own, err = newHTTPTransport(socket, options, e.log); err != nil {
			return nil, err
		}
		e.tripper = e.own
		if options.DialContext == nil {
			e.wires = newWires(u, e.header, func(ctx context.Context) (net.Conn, error) {
				return e.own.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")))
			})
		}
	}
	return &Endpoint{opener: e}, nil
}

// parseURL reads the URL of a server. For one at a Unix socket it returns the
// path of the socket as well, and the URL has the host localhost.
func parseURL(raw string) (u *url.URL, socket string, err error) {
	if rest, unix := strings.CutPrefix(raw, "http+unix://"); unix {
		// url.Parse allows no slash in a host, also none that is encoded.
		end := strings.IndexAny(rest+"/", "/?#")
		socket, err = url.PathUnescape(rest[:end])
		if err != nil || !strings.HasPrefix(socket, "/") || strings.ContainsFunc(socket, unicode.IsControl) {
			return nil, "", errors.New("the URL of the server has no socket: want http+unix://%2Fpath%2Fof%2Fsocket/path")
		}
		raw = "http://localhost" + rest[end:]
	}
	if u, err = url.Parse(raw); err != nil {
		// The error of url.Parse quotes the URL, and secrets with it.
		return nil, "", errors.New("the URL of the server cannot be parsed")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, "", errors.New("the URL of the server is not absolute: want http://host/path or https://host/path, or for a socket http+unix://%2Fpath%2Fof%2Fsocket/path")
	}
	return u, socket, nil
}

// newHTTPTransport returns our own transport, to a socket or for "" to the
// host of the URL.
func newHTTPTransport(socket string, options HTTPOptions, log *slog.Logger) (*http.Transport, error) {
	secure, err := newTLS(options.CAFile, options.CertFile, options.KeyFile, log)
	if err != nil {
		return nil, err
	}
	dial := options.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	if socket != "" {
		over := dial
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return over(ctx, "unix", socket) }
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment, // none for localhost, so none for sockets
		OnProxyConnectResponse: proxyRefusal,
		DialContext:            dial,
		TLSClientConfig:        secure,
		ForceAttemptHTTP2:      true, // a DialContext of one's own turns it off
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTime,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}, nil
}

// proxyRefusal says that a proxy does not connect us to the server: net/http
// has the text of the status alone, which reads as if the server had sent it.
func proxyRefusal(_ context.Context, proxy *url.URL, _ *http.Request, response *http.Response) error {
	err := fmt.Errorf("the proxy %s does not connect: HTTP %d %s", proxy.Host, response.StatusCode, http.StatusText(response.StatusCode))
	switch response.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return &lastingError{err, "HTTPS_PROXY and NO_PROXY of the environment say which proxy is used, with which credentials"}
	}
	return err
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
	wires    *wires          // nil where all requests are for tripper
	limit    int             // of a message, in bytes
	log      *slog.Logger

	paramHeaders func(tool string) []mirror.Header
	changed      func(Change)
}

func (e *httpEndpoint) close() {
	if e.own != nil {
		e.own.CloseIdleConnections()
	}
	e.wires.close()
}

// sent is how far a request has come, as far as its RoundTripper tells.
type sent struct {
	asked  atomic.Bool // it has asked for a network connection, so it does tell
	linked atomic.Bool // it has one
	wrote  atomic.Bool // the headers have been written, or are about to be
	secure atomic.Pointer[tls.Conn]
}

func (s *sent) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { s.asked.Store(true) },
		GotConn: func(info httptrace.GotConnInfo) {
			s.linked.Store(true)
			secure, _ := info.Conn.(*tls.Conn)
			s.secure.Store(secure)
		},
		WroteHeaders: func() { s.wrote.Store(true) },
	}
}

// cause returns the error of a request with why its TLS connection was lost.
// With TLS 1.3 a server refuses a client certificate when we have taken the
// handshake for done. If HTTP/2 hears of that before its first request,
// net/http does not say why; the connection still does, to whoever reads on.
func (s *sent) cause(err error) error {
	secure := s.secure.Load()
	if secure == nil || err.Error() != "http2: client conn could not be established" {
		return err
	}
	if _, why := secure.Read(make([]byte, 1)); why != nil {
		return fmt.Errorf("%w: %w", err, why)
	}
	return err
}

// send makes one request. The failure, if any, knows nothing of sessions: Dead
// says that the server cannot be reached. The response has the request as we
// made it.
func (e *httpEndpoint) send(ctx context.Context, method string, header http.Header, frame []byte, authorization *Authorization) (*http.Response, *Failure) {
	if ctx.Err() != nil {
		return nil, &Failure{Fate: NotSent, Err: context.Cause(ctx)}
	}
	var s sent
	request := &http.Request{Method: method, URL: e.url, Header: header, ContentLength: int64(len(frame))}
	if e.own == nil || authorization != nil {
		request.Header = header.Clone() // some RoundTrippers write to it
	}
	if authorization != nil {
		request.Header.Set(headerAuthorization, authorization.Value)
	}
	if method == http.MethodPost {
		if response, done, err := e.wires.post(ctx, request, frame, &s); err != nil {
			return nil, e.failure(ctx, err, &s, authorizationOf(request))
		} else if done {
			return response, nil
		}
	}
	request = request.WithContext(httptrace.WithClientTrace(ctx, s.trace()))
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
	err = diagnose(s.cause(err))
	var op *net.OpError
	var lasting *lastingError
	unreachable := errors.As(err, &op) && op.Op == "dial" || s.asked.Load() && !s.linked.Load()
	fate := MayHaveRun
	if unreachable || s.asked.Load() && !s.wrote.Load() {
		fate = NotSent
	} else if errors.As(err, &lasting) {
		fate = Refused // in the handshake, though the request was on its way
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
