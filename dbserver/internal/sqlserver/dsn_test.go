package sqlserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func TestDSN(t *testing.T) {
	config, err := configure("sqlserver://sa:p%40ss@db.example.com:1444/inst?database=shop&Encrypt=true&TrustServerCertificate=false", engine.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "db.example.com" || config.Port != 1444 || config.Instance != "inst" || config.Database != "shop" || config.User != "sa" ||
		config.Password != "p@ss" || config.Encryption != msdsn.EncryptionRequired || config.TLSConfig.InsecureSkipVerify ||
		config.AppName != "mcpool" || !config.DisableRetry || config.DialTimeout >= 0 || config.LogFlags != 0 {
		t.Errorf("got %+v", config)
	}
	for _, dsn := range []string{
		"", "db.example.com", "server=db;password=s3cret", "odbc:server=db;pwd=s3cret", "postgres://u:s3cret@h/d", "sqlserver:s3cret", "sqlserver://u:s3cret@/x",
		"sqlserver://u:s3cret@h:p", "sqlserver://u:s3cret%zz@h", "sqlserver://u:s3cret@h#x",
		"sqlserver://u@h?log=63", "sqlserver://u@h?password=s3cret", "sqlserver://u@h?user+id=s3cret", "sqlserver://u@h?Change+Password=s3cret",
		"sqlserver://u@h?authenticator=krb5", "sqlserver://u@h?guid+conversion=true", "sqlserver://u@h?timezone=UTC", "sqlserver://u@h?protocol=np",
		"sqlserver://u@h?applicationintent=ReadWrite", "sqlserver://u@h?certificate=/etc/passwd", "sqlserver://u@h?columnencryption=true",
		"sqlserver://u@h?encrypt=s3cret", "sqlserver://u@h?packet+size=s3cret", "sqlserver://u@h?database=a&Database=s3cret",
	} {
		if _, err := configure(dsn, engine.TLS{}); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v", dsn, err)
		}
		o := options()
		o.DSN = dsn
		if _, err := New(o); err == nil {
			t.Errorf("New took %s", dsn)
		}
	}
}

// certificate makes a certificate that signs itself, for a name.
func certificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestTLSModes shakes hands with servers that are and are not whom they should
// be.
func TestTLSModes(t *testing.T) {
	right, wrongName, unsigned := certificate(t, "db.example.com"), certificate(t, "other.example.com"), certificate(t, "db.example.com")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	var bundle []byte
	for _, c := range []tls.Certificate{right, wrongName} {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})...)
	}
	if err := os.WriteFile(ca, bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode                       string
		right, wrongName, unsigned bool
	}{
		{"require", true, true, true}, {"verify-ca", true, true, false}, {"verify-full", true, false, false},
	} {
		for server, want := range map[*tls.Certificate]bool{&right: c.right, &wrongName: c.wrongName, &unsigned: c.unsigned} {
			config, err := configure("sqlserver://u@db.example.com", engine.TLS{Mode: c.mode, CAFile: ca})
			if err != nil {
				t.Fatal(err)
			}
			if config.Encryption != msdsn.EncryptionRequired {
				t.Errorf("%s: encryption %d", c.mode, config.Encryption)
			}
			listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*server}})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if conn, err := listener.Accept(); err == nil {
					_ = conn.(*tls.Conn).HandshakeContext(t.Context())
					_ = conn.Close()
				}
			}()
			conn, err := tls.Dial("tcp", listener.Addr().String(), config.TLSConfig)
			if err == nil {
				_ = conn.Close()
			}
			<-done
			_ = listener.Close()
			if (err == nil) != want {
				t.Errorf("%s: got %v, want %t", c.mode, err, want)
			}
		}
	}
	config, err := configure("sqlserver://u@h?encrypt=true", engine.TLS{Mode: "disable"})
	if err != nil || config.Encryption != msdsn.EncryptionDisabled {
		t.Errorf("got %+v, %v", config.Encryption, err)
	}
	if _, err := configure("sqlserver://u@h", engine.TLS{Mode: "sometimes"}); err == nil {
		t.Error("a mode that is none was taken")
	}
	if _, err := configure("sqlserver://u@h", engine.TLS{CAFile: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a file that is none was taken")
	}
	o := options()
	o.TLS.CertFile = "x"
	if _, err := New(o); err == nil {
		t.Error("a client certificate was taken")
	}
}
