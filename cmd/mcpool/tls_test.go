package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// A secured gateway speaks TLS.
type secured struct {
	*program
	ca             *mcptest.Authority
	cert, key, ids string // files; ids has the authorities of client certificates
}

// serveTLS starts one with the sample database, and auth as the file has it, in
// which CA stands for the file of clients' authorities.
func serveTLS(t testing.TB, auth string) *secured {
	t.Helper()
	dir := t.TempDir()
	s := &secured{ca: mcptest.NewAuthority(t), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), ids: filepath.Join(dir, "clients.pem")}
	mcptest.WritePair(t, s.ca.Issue(t, "first", nil), s.cert, s.key)
	copyFile(t, s.ca.CAFile(t), s.ids)
	s.program = start(t, "serve", "--listen", somewhere, "--tls-cert-file", s.cert, "--tls-key-file", s.key, "--config", configure(t, "mcp.json",
		`{"databases": {"sales": {"dsn": "sample"}}, "auth": %s}`, strings.ReplaceAll(auth, "CA", fmt.Sprintf("%q", s.ids))))
	s.url = s.await(t, &s.out, `(?s)MCP +(https://\S+)/mcp\n.*  try .*\n`)
	return s
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// begin sends initialize on a connection of its own, with a client certificate,
// nil for none, and returns the status and the certificate of the gateway.
func (s *secured) begin(t testing.TB, config *tls.Config, headers http.Header) (int, *tls.ConnectionState, error) {
	t.Helper()
	if config.RootCAs == nil {
		config.RootCAs = s.ca.Pool
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}, Timeout: patience}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/mcp", strings.NewReader(initializeBody))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range headers {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := h.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.TLS, nil
}

func TestTLSIsSpokenByANewCertificateOnceItIsThere(t *testing.T) {
	key, line := issueKey(t, "ann")
	name, hash, _ := strings.Cut(line, ": ")
	s := serveTLS(t, fmt.Sprintf(`{"keys": [{"name": %q, "sha256": %q}]}`, name, hash))
	headers := http.Header{"Authorization": {"Bearer " + key}}
	shown := func() string {
		status, state, err := s.begin(t, &tls.Config{}, headers)
		if err != nil || status != 200 {
			t.Fatalf("status %d, %v", status, err)
		}
		if state.Version < tls.VersionTLS12 || state.NegotiatedProtocol != "h2" {
			t.Errorf("agreed on %s, %q", tls.VersionName(state.Version), state.NegotiatedProtocol)
		}
		return state.PeerCertificates[0].Subject.CommonName
	}
	if got := shown(); got != "first" {
		t.Errorf("showed %s", got)
	}
	if status, _, err := s.begin(t, &tls.Config{}, nil); status != 401 || err != nil {
		t.Errorf("nobody: status %d, %v", status, err)
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{RootCAs: s.ca.Pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	if err == nil {
		conn.Close()
		t.Errorf("spoke %s", tls.VersionName(conn.ConnectionState().Version))
	}
	if resp, err := once.Get(strings.Replace(s.url, "https", "http", 1) + "/healthz"); err == nil {
		if resp.Body.Close(); resp.StatusCode != 400 {
			t.Errorf("without TLS: status %d", resp.StatusCode)
		}
	}
	// One of the files is replaced, and nothing is lost meanwhile.
	second := s.ca.Issue(t, "second", nil)
	dir := t.TempDir()
	mcptest.WritePair(t, second, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	copyFile(t, filepath.Join(dir, "cert.pem"), s.cert)
	awaitTrue(t, "it does not say that the files do not match", func() bool {
		return shown() == "first" && strings.Contains(s.err.String(), "those of before are used")
	})
	copyFile(t, filepath.Join(dir, "key.pem"), s.key)
	awaitTrue(t, "it does not show the new certificate", func() bool { return shown() == "second" })
}

func TestClientCertificatesSayWhoCalls(t *testing.T) {
	key, line := issueKey(t, "ann")
	name, hash, _ := strings.Cut(line, ": ")
	s := serveTLS(t, fmt.Sprintf(`{"keys": [{"name": %q, "sha256": %q}], "client_certificates": {"ca_file": CA, "principal": "uri"},
		"principals": {"certificate|spiffe://prod/*": {}, "ann": {}, "*": {"deny": ["*"]}}}`, name, hash))
	workload := func(ca *mcptest.Authority, id string, change func(*x509.Certificate)) *tls.Config {
		cert := ca.Issue(t, "workload", func(c *x509.Certificate) {
			if id != "" {
				u, err := url.Parse(id)
				if err != nil {
					t.Fatal(err)
				}
				c.URIs = append(c.URIs, u)
			}
			if change != nil {
				change(c)
			}
		})
		// Sent whether the gateway knows its authority or not.
		return &tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }}
	}
	other := mcptest.NewAuthority(t)
	for name, test := range map[string]struct {
		config  *tls.Config
		headers http.Header
		status  int // 0 for a handshake that fails
	}{
		"a certificate":              {workload(s.ca, "spiffe://prod/a", nil), nil, 200},
		"that may do nothing":        {workload(s.ca, "spiffe://test/a", nil), nil, 403},
		"that names nobody":          {workload(s.ca, "", nil), nil, 401},
		"of another authority":       {workload(other, "spiffe://prod/a", nil), nil, 0},
		"that has expired":           {workload(s.ca, "spiffe://prod/a", func(c *x509.Certificate) { c.NotAfter = c.NotBefore }), nil, 0},
		"of a server":                {workload(s.ca, "spiffe://prod/a", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), nil, 0},
		"none":                       {&tls.Config{}, nil, 401},
		"none, and a key":            {&tls.Config{}, http.Header{"Authorization": {"Bearer " + key}}, 200},
		"a key that is none as well": {workload(s.ca, "spiffe://prod/a", nil), http.Header{"Authorization": {"Bearer x"}}, 401},
	} {
		status, _, err := s.begin(t, test.config, test.headers)
		if status != test.status || (err == nil) != (test.status != 0) {
			t.Errorf("%s: status %d, %v, want %d", name, status, err, test.status)
		}
	}
	// An authority that is taken out is out, for connections to come.
	copyFile(t, other.CAFile(t), s.ids)
	awaitTrue(t, "the authority is still trusted", func() bool {
		status, _, _ := s.begin(t, workload(s.ca, "spiffe://prod/a", nil), nil)
		return status == 0
	})
	if status, _, err := s.begin(t, workload(other, "spiffe://prod/a", nil), nil); status != 200 {
		t.Errorf("the new authority: status %d, %v", status, err)
	}
}

func TestServeListensBeyondLoopbackWithAuthentication(t *testing.T) {
	key, line := issueKey(t, "ann")
	file := configure(t, "keys", "%s", line)
	p := serve(t, "--listen", "0.0.0.0:0", "--auth-key-file", file)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]int{"": 401, key: 200} {
		headers := []string{"Content-Type", "application/json"}
		if token != "" {
			headers = append(headers, "Authorization", "Bearer "+token)
		}
		if resp := send(t, http.MethodPost, "http://127.0.0.1:"+port+"/mcp", initializeBody, headers...); resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
	if !strings.Contains(p.err.String(), "keys and tokens cross the network in the clear") {
		t.Errorf("it does not warn: %s", &p.err)
	}
	d := start(t, "db", "--listen", somewhere, "--config", configure(t, "mcp.json", `{"databases": {"sales": {"dsn": "sample"}}, "auth": {"key_file": %q}}`, file))
	d.url = d.await(t, &d.err, `mcp=(http://\S+)/mcp`)
	if resp := send(t, http.MethodPost, d.url+"/mcp", initializeBody, "Content-Type", "application/json"); resp.StatusCode != 401 {
		t.Errorf("mcpool db: status %d", resp.StatusCode)
	}
}

// TestLoopbackNeedsNoAuthentication holds what was so before there was any.
func TestLoopbackNeedsNoAuthentication(t *testing.T) {
	p := serve(t)
	if resp := send(t, http.MethodPost, p.url+"/mcp", initializeBody, "Content-Type", "application/json", "Authorization", "Bearer whatever"); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	for _, page := range []string{"/status", "/metrics"} {
		if status, _ := get(t, p.url+page); status != 200 {
			t.Errorf("%s: status %d", page, status)
		}
	}
}

// TestACertificateThatIsOverIsToldOf holds that serve says so, when it checks
// also, and that commands do not look for the mistake in the name.
func TestACertificateThatIsOverIsToldOf(t *testing.T) {
	dir := t.TempDir()
	ca, cert, key := mcptest.NewAuthority(t), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	mcptest.WritePair(t, ca.Issue(t, "old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), cert, key)
	args := []string{"serve", "--tls-cert-file", cert, "--tls-key-file", key}
	if status, _, stderr := finish(t, append(args, "--check")...); status != 0 || !strings.Contains(stderr, "level=WARN") || !strings.Contains(stderr, "the certificate is not valid now") {
		t.Errorf("status %d, %s", status, stderr)
	}
	p := start(t, append(args, "--listen", somewhere)...)
	p.url = p.await(t, &p.out, `(?s)MCP +(https://\S+)/mcp\n.*  try .*\n`)
	if runtime.GOOS != "linux" {
		return // SSL_CERT_FILE is heeded on Unix, but for macOS
	}
	cmd := commandLine(t, "health", "--url", p.url)
	cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+ca.CAFile(t), "SSL_CERT_DIR="+dir)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "\nhint: renew the certificate") {
		t.Errorf("%v, %s", err, out)
	}
}
