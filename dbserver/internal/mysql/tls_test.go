//go:build unix

package mysql

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

// certificate returns one for a name, and its key, as PEM. With no issuer it is
// an authority.
func certificate(t *testing.T, name string, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (cert *x509.Certificate, key *ecdsa.PrivateKey, certPEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: issuer == nil, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if issuer == nil {
		issuer, issuerKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func TestTLS(t *testing.T) {
	ca, caKey, caPEM, _ := certificate(t, "authority", nil, nil)
	_, _, otherPEM, _ := certificate(t, "other authority", nil, nil)
	_, _, serverPEM, serverKey := certificate(t, "localhost", ca, caKey)
	_, _, clientPEM, clientKey := certificate(t, "ada", ca, caKey)
	own := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(own, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	authority, other := file("ca.pem", caPEM), file("other.pem", otherPEM)
	s := dbtest.OwnMariaDB(t)
	s.Stop()
	s.Args("--ssl-ca="+s.WriteFile(t, "ca.pem", caPEM), "--ssl-cert="+s.WriteFile(t, "cert.pem", serverPEM), "--ssl-key="+s.WriteFile(t, "key.pem", serverKey))
	s.Start(t)
	reader, _ := sample(t, s, "protected")
	named := strings.Replace(reader, "127.0.0.1", "localhost", 1)
	s.Exec(t, "", "CREATE USER certified IDENTIFIED BY 'pw1' REQUIRE X509;\nGRANT SELECT ON protected.* TO certified")
	certified := strings.Replace(s.DSN("certified", "pw1", "protected"), "127.0.0.1", "localhost", 1)
	for _, test := range []struct {
		name, dsn string
		tls       engine.TLS
		want      string // code
		protected bool
	}{
		{"nothing said", reader, engine.TLS{}, "", true},
		{"disable", reader, engine.TLS{Mode: "disable"}, "", false},
		{"disable in the DSN", reader + "?tls=false", engine.TLS{}, "", false},
		{"require", reader, engine.TLS{Mode: "require"}, "", true},
		{"require in the DSN", reader + "?ssl-mode=REQUIRED", engine.TLS{}, "", true},
		{"verify-ca", reader, engine.TLS{Mode: "verify-ca", CAFile: authority}, "", true},
		{"verify-ca of another", reader, engine.TLS{Mode: "verify-ca", CAFile: other}, engine.TLSFailed, false},
		{"verify-ca of the system", reader + "?tls=verify-ca", engine.TLS{}, engine.TLSFailed, false},
		{"verify-full", named, engine.TLS{Mode: "verify-full", CAFile: authority}, "", true},
		{"verify-full of another name", reader, engine.TLS{Mode: "verify-full", CAFile: authority}, engine.TLSFailed, false},
		{"verify-full of another", named, engine.TLS{Mode: "verify-full", CAFile: other}, engine.TLSFailed, false},
		{"the mode over the DSN", named + "?tls=false", engine.TLS{Mode: "verify-full", CAFile: authority}, "", true},
		{"no certificate", certified, engine.TLS{Mode: "verify-full", CAFile: authority}, engine.AuthFailed, false},
		{"a certificate", certified, engine.TLS{Mode: "verify-full", CAFile: authority, CertFile: file("c.pem", clientPEM), KeyFile: file("k.pem", clientKey)}, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := options(test.dsn)
			o.TLS = test.tls
			o.Pool.MaxOpen = 1
			d := open(t, o)
			rows, err := read(t, d, "SELECT variable_value <> '' FROM information_schema.session_status WHERE variable_name = 'SSL_CIPHER'")
			if codeOf(err) != test.want {
				t.Fatalf("got %v", err)
			}
			if want := map[bool]string{true: "[[1]]", false: "[[0]]"}[test.protected]; err == nil && rows != want {
				t.Errorf("protected: %s, want %s", rows, want)
			}
			if err == nil { // the reset goes through TLS, too
				mustRead(t, d, "SELECT 1")
				if got := d.reads.stats()["open"]; got != 1 {
					t.Errorf("%d connections", got)
				}
			}
		})
	}
	plain := dbtest.MariaDB(t)
	unprotected, _ := sample(t, plain, "unprotected")
	o := options(unprotected)
	mustRead(t, open(t, o), "SELECT 1")
	o.TLS.Mode = "require"
	if _, err := read(t, open(t, o), "SELECT 1"); codeOf(err) != engine.TLSFailed {
		t.Errorf("TLS of a server without: %v", err)
	}
}
