package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// socketURL is the URL of a server at a Unix socket.
func socketURL(socket string) string { return "http+unix://" + url.PathEscape(socket) + "/mcp" }

func TestUnixSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "a b%.sock")
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(&mcptest.Server{Fault: func(r *http.Request, _ string, _ http.ResponseWriter) bool {
		if r.Host != "localhost" || r.URL.Path != "/mcp" {
			t.Errorf("asked %s for %s", r.Host, r.URL.Path)
		}
		return false
	}})
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	_ = server.Listener.Close()
	var err error
	if server.Listener, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	server.Start()
	defer server.Close()
	conn := open(t, newHTTP(t, socketURL(socket), HTTPOptions{}), Unknown)
	for range 10 {
		mustEcho(t, conn, "over a socket")
	}
	if n := opened.Load(); n > 5 { // where we are slow to hear that a request is written, its connection is not kept
		t.Errorf("%d connections for calls one after the other", n)
	}
}

func TestUnixSocketThatIsNotThere(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "none.sock")
	conn, err := newHTTP(t, socketURL(socket), HTTPOptions{}).Open(t.Context(), Known{}, rpc.Capabilities{}, nil)
	wantOpenError(t, conn, err, false, false, "unix:"+socket, "no such file") // it may come
}

func TestParseURL(t *testing.T) {
	for raw, want := range map[string][2]string{
		"http+unix://%2Frun%2Fa.sock":       {"http://localhost", "/run/a.sock"},
		"http+unix://%2frun%2fa.sock/":      {"http://localhost/", "/run/a.sock"},
		"http+unix://%2Fa%20b/mcp?x=%2F#no": {"http://localhost/mcp?x=%2F#no", "/a b"},
		"http+unix://%2Fa%3Ab/x":            {"http://localhost/x", "/a:b"},
		"https://host/mcp":                  {"https://host/mcp", ""},
	} {
		u, socket, err := parseURL(raw)
		if err != nil || u.String() != want[0] || socket != want[1] {
			t.Errorf("%s: got %v, %s, %v", raw, u, socket, err)
		}
	}
	for _, raw := range []string{"http+unix://", "http+unix:///run/a.sock", "http+unix://a.sock/mcp", "http+unix://%2", "http+unix://%2Fa%00/",
		"http+unix://user:secret@%2Fa/", "unix:///a.sock"} {
		if u, socket, err := parseURL(raw); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, %s, %v", raw, u, socket, err)
		}
	}
}

// proxy is an HTTP proxy to one server, whatever host it is asked for.
type proxy struct {
	to map[string]string // addresses, by scheme

	mu    sync.Mutex
	asked []string
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	switch {
	case r.Header.Get("Proxy-Authorization") != "Basic YW5uOnBhc3N3b3Jk": // ann:password
		w.WriteHeader(http.StatusProxyAuthRequired)
	case r.Method == http.MethodConnect:
		p.tunnel(w, r)
	default:
		r.URL.Host, r.RequestURI = p.to["http"], ""
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		for name, values := range response.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(response.StatusCode)
		_, _ = io.Copy(w, response.Body)
	}
}

func (p *proxy) tunnel(w http.ResponseWriter, r *http.Request) {
	server, err := net.Dial("tcp", p.to["https"])
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer server.Close()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
	_ = client.Close()
	<-done
}

// net/http reads the environment once, so what has to find a proxy there is a
// process of its own. No host of the test exists: only a proxy can lead there.
func TestProxiesOfTheEnvironment(t *testing.T) {
	if os.Getenv("TRANSPORT_PROXY_CHILD") != "" {
		proxied(t)
		return
	}
	authority := mcptest.NewAuthority(t)
	plain := httptest.NewServer(&mcptest.Server{})
	defer plain.Close()
	secure := serveTLS(t, &mcptest.Server{}, true, &tls.Config{Certificates: []tls.Certificate{*authority.Issue(t, "server", nil)}})
	p := &proxy{to: map[string]string{"http": plain.Listener.Addr().String(), "https": secure.Listener.Addr().String()}}
	web := httptest.NewServer(p)
	defer web.Close()

	run := func(credentials string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxiesOfTheEnvironment$", "-test.v")
		address := "http://" + credentials + web.Listener.Addr().String()
		command.Env = append(os.Environ(), "TRANSPORT_PROXY_CHILD="+credentials, "TRANSPORT_PROXY_CA="+authority.CAFile(t),
			"TRANSPORT_PROXY_PLAIN="+plain.Listener.Addr().String(),
			"HTTP_PROXY="+address, "HTTPS_PROXY="+address, "NO_PROXY=direct.test", "GORACE=atexit_sleep_ms=0")
		out, err := command.CombinedOutput()
		if err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		slices.Sort(p.asked)
		asked := strings.Join(slices.Compact(p.asked), ", ")
		p.asked = nil
		return asked
	}
	if got := run("ann:password@"); got != "CONNECT server.test:443, DELETE server.test, POST server.test" {
		t.Errorf("the proxy was asked %s", got)
	}
	if got := run("ann:wrongpass@"); got != "CONNECT server.test:443, POST server.test" {
		t.Errorf("the proxy was asked %s", got)
	}
}

// proxied reaches servers as the environment says.
func proxied(t *testing.T) {
	known := strings.Contains(os.Getenv("TRANSPORT_PROXY_CHILD"), ":password")
	for _, url := range []string{"http://server.test/mcp", "https://server.test/mcp"} {
		options := HTTPOptions{}
		if strings.HasPrefix(url, "https") {
			options.CAFile = os.Getenv("TRANSPORT_PROXY_CA")
		}
		endpoint := newHTTP(t, url, options)
		if known {
			mustEcho(t, open(t, endpoint, Legacy), "through the proxy")
			continue
		}
		conn, err := endpoint.Open(t.Context(), Known{}, rpc.Capabilities{}, nil)
		wantOpenError(t, conn, err, true, false, "407 Proxy Authentication Required")
		if strings.Contains(err.Error(), "wrongpass") {
			t.Errorf("%v tells secrets", err)
		}
	}
	direct := HTTPOptions{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, os.Getenv("TRANSPORT_PROXY_PLAIN"))
	}}
	mustEcho(t, open(t, newHTTP(t, "http://direct.test/mcp", direct), Legacy), "directly")

	socket := filepath.Join(t.TempDir(), "s")
	listen(t, "unix", socket, func(c net.Conn) {
		defer c.Close()
		if r, err := http.ReadRequest(bufio.NewReader(c)); err != nil || r.Host != "localhost" {
			t.Errorf("got %v, %v", r, err)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
	})
	conn, err := newHTTP(t, socketURL(socket), HTTPOptions{}).Open(t.Context(), knownAs(Legacy), rpc.Capabilities{}, nil)
	wantOpenError(t, conn, err, true, false, "403")
}
