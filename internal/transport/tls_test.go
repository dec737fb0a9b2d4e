package transport

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// serveTLS serves over TLS, with HTTP/2 if it is to.
func serveTLS(t testing.TB, handler http.Handler, http2 bool, config *tls.Config) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of each handshake that fails
	server.EnableHTTP2 = http2
	server.TLS = config
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// A certificate of one's own authority is trusted beside those of the system,
// and a client certificate that is replaced is shown from the next handshake
// on.
func TestCertificates(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			authority := mcptest.NewAuthority(t)
			var shown atomic.Value
			handler := &mcptest.Server{Fault: func(r *http.Request, _ string, w http.ResponseWriter) bool {
				if (r.ProtoMajor == 2) != http2 {
					t.Errorf("came over %s", r.Proto)
				}
				shown.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
				w.Header().Set("Connection", "close") // the next request needs another handshake
				return false
			}}
			server := serveTLS(t, handler, http2, &tls.Config{
				Certificates: []tls.Certificate{*authority.Issue(t, "server", nil)},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    authority.Pool,
			})
			certFile, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
			mcptest.WritePair(t, authority.Issue(t, "first", nil), certFile, keyFile)
			var book logbook
			conn := open(t, newHTTP(t, server.URL, HTTPOptions{
				CAFile: authority.CAFile(t), CertFile: certFile, KeyFile: keyFile, Log: book.logger(),
			}), Legacy)
			mustEcho(t, conn, "first")
			if got := shown.Load(); got != "first" {
				t.Errorf("the server was shown %v", got)
			}

			// Over HTTP/2 the end of the TCP connection may be heard of late.
			until := func(what string, reached func() bool) {
				t.Helper()
				for range 1000 {
					mustEcho(t, conn, what)
					if reached() {
						return
					}
				}
				t.Errorf("never: %s", what)
			}
			mcptest.WritePair(t, authority.Issue(t, "second", nil), certFile, keyFile)
			until("the second is shown", func() bool { return shown.Load() == "second" })

			// As between the two steps of a rotation.
			mcptest.WritePair(t, authority.Issue(t, "third", nil), filepath.Join(t.TempDir(), "unused"), keyFile)
			until("the files do not match", func() bool { return book.has("the last client certificate is used") })
			if got := shown.Load(); got != "second" {
				t.Errorf("the server was shown %v", got)
			}
		})
	}
}

// A handshake that will fail again is told as such, with what to do about it;
// one that was cut off is not.
func TestTLSFailures(t *testing.T) {
	authority, stranger := mcptest.NewAuthority(t), mcptest.NewAuthority(t)
	trusting := HTTPOptions{CAFile: authority.CAFile(t)}
	strange := trusting
	strange.CertFile, strange.KeyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	mcptest.WritePair(t, stranger.Issue(t, "client", nil), strange.CertFile, strange.KeyFile)
	shows := func(change func(*x509.Certificate)) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{*authority.Issue(t, "server", change)}}
	}
	asks := func(version uint16) *tls.Config {
		config := shows(nil)
		config.MinVersion, config.MaxVersion = version, version
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, authority.Pool
		return config
	}
	old := shows(nil)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11

	for name, test := range map[string]struct {
		server  *tls.Config
		options HTTPOptions
		want    []string
	}{
		"unknown authority": {shows(nil), HTTPOptions{}, []string{"unknown authority", "ca_file (CAFile)"}},
		"other authority":   {shows(nil), HTTPOptions{CAFile: stranger.CAFile(t)}, []string{"unknown authority", "ca_file (CAFile)"}},
		"other host": {shows(func(c *x509.Certificate) { c.IPAddresses = nil }), trusting,
			[]string{"127.0.0.1", "a host that the certificate is for"}},
		"expired": {shows(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), trusting,
			[]string{"expired", "needs another certificate"}},
		"not for servers": {shows(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), trusting,
			[]string{"needs another certificate"}},
		"no client certificate, TLS 1.2":     {asks(tls.VersionTLS12), trusting, []string{"handshake failure", "cert_file and key_file (CertFile, KeyFile)"}},
		"client certificate refused TLS 1.2": {asks(tls.VersionTLS12), strange, []string{"certificate", "cert_file and key_file (CertFile, KeyFile)"}},
		"no client certificate, TLS 1.3":     {asks(tls.VersionTLS13), trusting, []string{"certificate", "cert_file and key_file (CertFile, KeyFile)"}},
		"client certificate refused TLS 1.3": {asks(tls.VersionTLS13), strange, []string{"certificate", "cert_file and key_file (CertFile, KeyFile)"}},
		"TLS 1.1":                            {old, trusting, []string{"protocol version", "neither TLS 1.2 nor 1.3"}},
	} {
		for proto, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
			t.Run(name+" "+proto, func(t *testing.T) {
				handler := &mcptest.Server{}
				server := serveTLS(t, handler, http2, test.server)
				endpoint := newHTTP(t, server.URL, test.options)
				conn, err := endpoint.Open(t.Context(), Known{}, rpc.Capabilities{}, nil)
				// With TLS 1.3 we may be writing already when the server goes
				// away, and then not hear why. The next opening does.
				for range 20 {
					if err == nil || !strings.Contains(err.Error(), ": write tcp ") || test.server.MinVersion != tls.VersionTLS13 {
						break
					}
					conn, err = endpoint.Open(t.Context(), Known{}, rpc.Capabilities{}, nil)
				}
				wantOpenError(t, conn, err, true, false, append(test.want, server.URL)...)
				if n := handler.Requests("server/discover"); n != 0 {
					t.Errorf("%d requests reached the server", n)
				}
			})
		}
	}

	t.Run("no TLS", func(t *testing.T) {
		server := httptest.NewServer(&mcptest.Server{})
		t.Cleanup(server.Close)
		endpoint := newHTTP(t, strings.Replace(server.URL, "http:", "https:", 1), trusting)
		conn, err := endpoint.Open(t.Context(), Known{}, rpc.Capabilities{}, nil)
		wantOpenError(t, conn, err, true, false, "speaks HTTP without TLS")
	})
	t.Run("cut off", func(t *testing.T) {
		listener := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, _ = c.Read(make([]byte, 100))
			_ = c.Close()
		})
		conn, err := newHTTP(t, "https://"+listener, trusting).Open(t.Context(), Known{}, rpc.Capabilities{}, nil)
		wantOpenError(t, conn, err, false, false)
	})
}

// A client certificate that is refused in the middle of a connection's life,
// fails its calls, which have not run.
func TestClientCertificateRefusedLater(t *testing.T) {
	authority := mcptest.NewAuthority(t)
	var refuse atomic.Bool
	handler := &mcptest.Server{Fault: func(_ *http.Request, _ string, w http.ResponseWriter) bool {
		w.Header().Set("Connection", "close")
		return false
	}}
	server := serveTLS(t, handler, false, &tls.Config{
		Certificates: []tls.Certificate{*authority.Issue(t, "server", nil)},
		ClientAuth:   tls.RequireAnyClientCert,
		VerifyConnection: func(tls.ConnectionState) error {
			if refuse.Load() {
				return x509.CertificateInvalidError{Reason: x509.Expired}
			}
			return nil
		},
	})
	options := HTTPOptions{CAFile: authority.CAFile(t)}
	options.CertFile, options.KeyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	mcptest.WritePair(t, authority.Issue(t, "client", nil), options.CertFile, options.KeyFile)
	conn := open(t, newHTTP(t, server.URL, options), Legacy)
	refuse.Store(true)
	_, err := call(t.Context(), conn, "echo", args{"id": "refused", "text": "x"})
	for range 20 { // as in TestTLSFailures
		if err == nil || !strings.Contains(err.Error(), ": write tcp ") {
			break
		}
		_, err = call(t.Context(), conn, "echo", args{"id": "refused", "text": "x"})
	}
	var failure *Failure
	if !errors.As(err, &failure) || failure.Fate == MayHaveRun || failure.Dead || !strings.Contains(err.Error(), "cert_file") {
		t.Errorf("got %v", err) // the alert may come before the request is sent, or after
	}
	refuse.Store(false)
	mustEcho(t, conn, "next")
	if n := handler.Executions()["refused"]; n != 0 {
		t.Errorf("it ran %d times", n)
	}
}

func TestHTTPRefusesOptions(t *testing.T) {
	authority := mcptest.NewAuthority(t)
	ca, dir := authority.CAFile(t), t.TempDir()
	certFile, keyFile, empty := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "empty")
	mcptest.WritePair(t, authority.Issue(t, "client", nil), certFile, keyFile)
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tripper := roundTripper(nil)
	dial := new(net.Dialer).DialContext
	for name, test := range map[string]struct {
		url     string
		options HTTPOptions
		want    string
	}{
		"no authority":        {"https://a", HTTPOptions{CAFile: empty}, "no certificate in PEM is in " + empty},
		"authority not there": {"https://a", HTTPOptions{CAFile: empty + "x"}, "no such file"},
		"no key":              {"https://a", HTTPOptions{CertFile: certFile}, "needs a file of its own and one of its key"},
		"no certificate":      {"https://a", HTTPOptions{KeyFile: keyFile}, "needs a file of its own and one of its key"},
		"other key":           {"https://a", HTTPOptions{CertFile: certFile, KeyFile: empty}, "the client certificate " + certFile},
		"over http":           {"http://a", HTTPOptions{CAFile: ca}, "go with an https URL"},
		"over a socket":       {"http+unix://%2Fa/", HTTPOptions{CAFile: ca}, "go with an https URL"},
		"tripper, authority":  {"https://a", HTTPOptions{RoundTripper: tripper, CAFile: ca}, "a RoundTripper makes its own connections"},
		"tripper, dialer":     {"https://a", HTTPOptions{RoundTripper: tripper, DialContext: dial}, "a RoundTripper makes its own connections"},
		"tripper, socket":     {"http+unix://%2Fa/", HTTPOptions{RoundTripper: tripper}, "a RoundTripper makes its own connections"},
		"negative message":    {"http://a", HTTPOptions{MaxMessageBytes: -1}, "want 1 to 1073741824, or 0 for 67108864"},
		"huge message":        {"http://a", HTTPOptions{MaxMessageBytes: 1<<30 + 1}, "want 1 to 1073741824, or 0 for 67108864"},
	} {
		endpoint, err := HTTP(test.url, test.options)
		if err == nil || endpoint != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
}

// A message is bounded, unpacked, whatever it comes in; a larger one fails its
// call alone, and the failure says what bounds it.
func TestMaxMessageBytes(t *testing.T) {
	const limit = 4096
	frame := func(size int) string {
		return `{"jsonrpc":"2.0","id":ID,"result":{"text":"` + strings.Repeat("x", size) + `"}}`
	}
	for name, answer := range map[string]func(size int) func(http.ResponseWriter, *http.Request){
		"announced": func(size int) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, r *http.Request) {
				body := strings.ReplaceAll(frame(size), "ID", string(mcptest.ID(r)))
				w.Header().Set("Content-Length", strconv.Itoa(len(body)))
				w.Header().Set("Content-Type", jsonType)
				_, _ = io.WriteString(w, body)
			}
		},
		"chunked": func(size int) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", jsonType)
				_ = http.NewResponseController(w).Flush()
				_, _ = io.WriteString(w, strings.ReplaceAll(frame(size), "ID", string(mcptest.ID(r))))
			}
		},
		"compressed": func(size int) func(http.ResponseWriter, *http.Request) {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", jsonType)
				w.Header().Set("Content-Encoding", "gzip")
				packed := gzip.NewWriter(w)
				_, _ = io.WriteString(packed, strings.ReplaceAll(frame(size), "ID", string(mcptest.ID(r))))
				_ = packed.Close()
			}
		},
		"event": func(size int) func(http.ResponseWriter, *http.Request) {
			return reply(200, "text/event-stream", "data: "+frame(size)+"\n\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			size := limit / 2
			handler := &mcptest.Server{Fault: onMethod("tools/list", func(w http.ResponseWriter, r *http.Request) { answer(size)(w, r) })}
			server := httptest.NewServer(handler)
			t.Cleanup(server.Close)
			conn := open(t, newHTTP(t, server.URL, HTTPOptions{MaxMessageBytes: limit}), Legacy)
			list := rpc.Call{Method: "tools/list"}
			if _, err := conn.Call(t.Context(), list, nil); err != nil {
				t.Error(err)
			}
			size = limit
			_, err := conn.Call(t.Context(), list, nil)
			if failure := wantFailure(t, err, MayHaveRun, false); !strings.Contains(failure.Error(), "max_message_bytes (MaxMessageBytes) allows 4096 bytes") {
				t.Errorf("got %v", err)
			}
			mustEcho(t, conn, "next")
		})
	}
	t.Run("child", func(t *testing.T) {
		conn := open(t, stdioWith(t, func(c *Command) { c.MaxMessageBytes = limit }, mcptest.Normal), Legacy)
		mustEcho(t, conn, strings.Repeat("x", 1000))
		_, err := call(t.Context(), conn, "echo", args{"id": "a", "text": strings.Repeat("x", limit)})
		fails(MayHaveRun, false, "max_message_bytes (MaxMessageBytes) allows 4096 bytes")(t, err)
		mustEcho(t, conn, "next")
	})
}

// listen has serve, in goroutines that the test waits for, handle what
// connects to an address, which it returns.
func listen(t testing.TB, network, address string, serve func(net.Conn)) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serve(c)
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return listener.Addr().String()
}
