package mcpool_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"

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
