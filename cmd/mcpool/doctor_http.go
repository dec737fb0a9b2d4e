package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool"
)

// An httpTrace sees what goes over HTTP to one server.
type httpTrace struct {
	next *http.Transport

	mu            sync.Mutex // guards what follows, of the first connection
	dns, tcp, tls time.Duration
	connected     bool
	sessionID     bool
	certificate   time.Time // when the first of the chain to end does
	refused       int       // the status of the last request that was
	limits        []string
}

// traceHTTP puts a trace in the place of the server's own transport. One at a
// Unix socket is left alone, and nil is returned: there is nothing to see but the
// socket.
func traceHTTP(s *mcpool.Server) (*httpTrace, error) {
	if strings.HasPrefix(s.URL, "http+unix:") {
		return nil, nil
	}
	t := &httpTrace{next: http.DefaultTransport.(*http.Transport).Clone()}
	t.next.TLSClientConfig = &tls.Config{}
	if s.CAFile != "" {
		text, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, err
		}
		authorities, err := x509.SystemCertPool()
		if err != nil {
			authorities = x509.NewCertPool()
		}
		if !authorities.AppendCertsFromPEM(text) {
			return nil, errors.New(s.CAFile + " has no certificate in PEM")
		}
		t.next.TLSClientConfig.RootCAs = authorities
	}
	if s.CertFile != "" {
		own, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, err
		}
		t.next.TLSClientConfig.Certificates = []tls.Certificate{own}
	}
	s.RoundTripper = t
	s.CAFile, s.CertFile, s.KeyFile = "", "", ""
	return t, nil
}

func (t *httpTrace) RoundTrip(r *http.Request) (*http.Response, error) {
	var dns, tcp, secured time.Time
	took := func(part *time.Duration, since *time.Time) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.connected && !since.IsZero() {
			*part += time.Since(*since)
		}
	}
	var mu sync.Mutex // addresses of both families are tried at once
	begin := func(at *time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if at.IsZero() {
			*at = time.Now()
		}
	}
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		DNSStart:     func(httptrace.DNSStartInfo) { begin(&dns) },
		DNSDone:      func(httptrace.DNSDoneInfo) { took(&t.dns, &dns) },
		ConnectStart: func(string, string) { begin(&tcp) },
		ConnectDone: func(_, _ string, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				took(&t.tcp, &tcp)
			}
		},
		TLSHandshakeStart: func() { begin(&secured) },
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			took(&t.tls, &secured)
			t.mu.Lock()
			defer t.mu.Unlock()
			for _, c := range state.PeerCertificates {
				if t.certificate.IsZero() || c.NotAfter.Before(t.certificate) {
					t.certificate = c.NotAfter
				}
			}
		},
		GotConn: func(httptrace.GotConnInfo) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.connected = true
		},
	})
	response, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sessionID = t.sessionID || response.Header.Get("Mcp-Session-Id") != ""
	if response.StatusCode >= 400 && r.Method == http.MethodPost { // not what ends a session
		t.refused = response.StatusCode
	}
	// draft-ietf-httpapi-ratelimit-headers, and what came before it.
	for _, name := range []string{"RateLimit-Policy", "RateLimit", "RateLimit-Limit", "X-RateLimit-Limit", "Retry-After"} {
		if value := response.Header.Get(name); value != "" && len(t.limits) == 0 {
			t.limits = append(t.limits, fmt.Sprintf("%s: %.80s", name, value))
		}
	}
	return response, nil
}

// The pool closes what is idle by this.
func (t *httpTrace) CloseIdleConnections() { t.next.CloseIdleConnections() }

func (t *httpTrace) close() {
	if t != nil {
		t.next.CloseIdleConnections()
	}
}

// parts are how long the parts of the first connection took, in seconds.
func (t *httpTrace) parts() (dns, tcp, secured float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dns.Seconds(), t.tcp.Seconds(), t.tls.Seconds()
}

func (t *httpTrace) session() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sessionID
}

func (t *httpTrace) expires() *time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.certificate.IsZero() {
		return nil
	}
	at := t.certificate.UTC()
	return &at
}

// refusal is the status of the last request that was refused; 0 for none.
func (t *httpTrace) refusal() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}

func (t *httpTrace) limit() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.limits, ", ")
}
