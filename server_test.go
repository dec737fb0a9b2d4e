package mcpool_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestServerTakesADialer(t *testing.T) {
	web := httptest.NewServer(&mcptest.Server{})
	defer web.Close()
	var dials atomic.Int32
	p, err := mcpool.New(mcpool.Server{
		Name: "test", URL: "http://somewhere.test/mcp",
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			if addr != "somewhere.test:80" {
				t.Errorf("asked to dial %s", addr)
			}
			return dial(ctx, network, web.Listener.Addr().String())
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closePool(t, p)
	if _, err := call(t.Context(), p, nobody, "echo", "1"); err != nil || dials.Load() == 0 {
		t.Errorf("%d dials, %v", dials.Load(), err)
	}
}

// TestServerWithCertificates has a pool make calls over TLS, with a client
// certificate, and keep its connections when the same files are named again.
func TestServerWithCertificates(t *testing.T) {
	authority := mcptest.NewAuthority(t)
	handler := &mcptest.Server{}
	web := httptest.NewUnstartedServer(handler)
	web.TLS = &tls.Config{
		Certificates: []tls.Certificate{*authority.Issue(t, "server", nil)},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    authority.Pool,
	}
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	defer web.Close()
	server := mcpool.Server{
		Name: "test", URL: web.URL, CAFile: authority.CAFile(t),
		CertFile: filepath.Join(t.TempDir(), "cert.pem"), KeyFile: filepath.Join(t.TempDir(), "key.pem"),
	}
	mcptest.WritePair(t, authority.Issue(t, "client", nil), server.CertFile, server.KeyFile)
	p, err := mcpool.New(server, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := call(t.Context(), p, nobody, "echo", "1"); err != nil {
			t.Fatal(err)
		}
		if err := p.Reload(server, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := handler.Sessions(); n != 1 {
		t.Errorf("%d sessions, want the first to be kept", n)
	}

	// What waiting does not cure is told at once, with what does.
	server.CAFile = ""
	if err := p.Reload(server, nil); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = call(t.Context(), p, nobody, "echo", "1")
	if !errors.Is(err, mcpool.ErrUnavailable) || !strings.Contains(err.Error(), "ca_file (CAFile)") || time.Since(began) > 30*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	closePool(t, p)
}

func TestServerAtASocketWithABound(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(&mcptest.Server{})
	_ = web.Listener.Close()
	web.Listener = listener
	web.Start()
	defer web.Close()
	p, err := mcpool.New(mcpool.Server{Name: "test", URL: "http+unix://" + url.PathEscape(socket) + "/mcp", MaxMessageBytes: 1000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(t.Context(), p, nobody, "echo", "1"); err != nil {
		t.Error(err)
	}
	if _, err := call(t.Context(), p, nobody, "echo", strings.Repeat("x", 1000)); err == nil || !strings.Contains(err.Error(), "max_message_bytes") {
		t.Errorf("got %v", err)
	}
	closePool(t, p)
}

// headerTripper is a RoundTripper of a user's own.
type headerTripper struct{ next http.RoundTripper }

func (h headerTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Tenant", "blue")
	return h.next.RoundTrip(r)
}

func TestServerTakesARoundTripperAndHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			if r.Header.Get("X-Tenant") != "blue" || r.Header.Get("Authorization") != "Bearer secret" {
				t.Errorf("%s came with X-Tenant %q and Authorization %q", method, r.Header.Get("X-Tenant"), r.Header.Get("Authorization"))
			}
			return false
		}
		p, err := mcpool.New(mcpool.Server{
			Name: "test", URL: "http://server.test/mcp",
			Header:       http.Header{"Authorization": {"Bearer secret"}},
			RoundTripper: headerTripper{mcptest.RoundTripper(&s.Server)},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := call(t.Context(), p, nobody, "echo", "1"); err != nil {
			t.Error(err)
		}
		closePool(t, p)
	})
}

// TestServersEraIsRemembered counts round trips: a legacy server is probed
// once and then costs two to open, a modern one is asked once.
func TestServersEraIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { c.CallsPerConnection = 1 })
		storm(t, p, 1)
		storm(t, p, 6)
		if s.Sessions() != 6 || s.Requests("server/discover") != 1 || s.Requests("initialize") != 6 ||
			s.Requests("notifications/initialized") != 6 || s.Gets() != 0 {
			t.Errorf("legacy: %d sessions cost %d probes, %d + %d to open, %d GETs; want 6: 1, 6 + 6, 0", s.Sessions(),
				s.Requests("server/discover"), s.Requests("initialize"), s.Requests("notifications/initialized"), s.Gets())
		}
		closePool(t, p)

		s = &server{Server: mcptest.Server{Modern: true}}
		p = s.pool(t, nil)
		storm(t, p, 1)
		storm(t, p, 6)
		if s.Requests("server/discover") != 1 || s.Requests("initialize") != 0 {
			t.Errorf("modern: asked %d times, initialized %d times; want 1 and 0",
				s.Requests("server/discover"), s.Requests("initialize"))
		}
		closePool(t, p)
	})
}
