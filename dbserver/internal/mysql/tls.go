package mysql

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/go-sql-driver/mysql"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// protect sets how a connection is protected: as o says, or else the DSN. The
// files are read again for each connection.
func protect(config *mysql.Config, a *address, o engine.TLS) error {
	mode := o.Mode
	if mode == "" {
		mode = a.tls
	}
	switch mode {
	case "disable":
		return nil
	case "", "prefer":
		config.AllowFallbackToPlaintext = true
		config.TLS = &tls.Config{InsecureSkipVerify: true} // #nosec G402 -- prefer protects from those who only listen
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("no certificate in %s", o.CAFile)
		}
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	switch mode {
	case "require":
		c.InsecureSkipVerify = true // #nosec G402 -- require is encryption, from whomever
	case "verify-ca":
		c.InsecureSkipVerify = true // #nosec G402 -- verify-ca is not about the name; the rest is checked here
		c.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, c.RootCAs) }
	case "verify-full":
		if a.network != "tcp" {
			return errors.New("TLS mode verify-full needs a host name, and the database is on a socket")
		}
		c.ServerName, _, _ = net.SplitHostPort(a.addr)
	default:
		return fmt.Errorf("TLS mode %q is none of disable, require, verify-ca and verify-full", mode)
	}
	config.TLS = c
	return nil
}

// verifyChain checks that a server's certificate is of one of the authorities,
// whatever its name.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	others := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		others.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: others})
	return err
}
