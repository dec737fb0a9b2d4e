package sqlserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// allowed are the parameters that a DSN may have. Those that are missing would
// log statements, change passwords, name files or protocols, or alter what
// values are.
var allowed = map[string]bool{
	msdsn.Database:               true,
	msdsn.Encrypt:                true,
	msdsn.TrustServerCertificate: true,
	msdsn.HostNameInCertificate:  true,
	msdsn.TLSMin:                 true,
	msdsn.FailoverPartner:        true,
	msdsn.FailOverPort:           true,
	msdsn.AppName:                true,
	msdsn.WorkstationID:          true,
	msdsn.PacketSize:             true,
}

// configure makes the driver's settings of a DSN:
// sqlserver://user:password@host:port/instance?database=name.
func configure(dsn string, protection engine.TLS) (msdsn.Config, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "sqlserver" || u.Host == "" || u.Opaque != "" || u.Fragment != "" {
		// What url.Parse says holds the DSN, and that the password.
		return msdsn.Config{}, errors.New("DSN: want sqlserver://user:password@host:port/instance?database=name")
	}
	for key := range u.Query() {
		if !allowed[strings.ToLower(key)] {
			return msdsn.Config{}, fmt.Errorf("DSN: parameter %q is not one of those that a DSN may have", key)
		}
	}
	config, err := msdsn.Parse(dsn)
	if err != nil {
		return msdsn.Config{}, errors.New("DSN: a parameter has a value that cannot be")
	}
	if config.Parameters[msdsn.AppName] == "" {
		config.AppName = "mcpool"
	}
	config.DialTimeout = -1 // ctx has the time
	config.DisableRetry = true
	config.EpaEnabled = false
	if err := protect(&config, protection); err != nil {
		return msdsn.Config{}, err
	}
	return config, nil
}

// protect sets how the connection is encrypted and whom it trusts.
func protect(config *msdsn.Config, protection engine.TLS) error {
	if protection.Mode == "" && protection.CAFile == "" {
		return nil
	}
	var roots *x509.CertPool
	if protection.CAFile != "" {
		pem, err := os.ReadFile(protection.CAFile)
		if err != nil {
			return err
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s has no certificate", protection.CAFile)
		}
	}
	if config.TLSConfig == nil {
		settings, err := msdsn.SetupTLS("", "", false, config.Host, "")
		if err != nil {
			return err
		}
		config.TLSConfig = settings
	}
	settings := config.TLSConfig
	settings.RootCAs = roots
	switch protection.Mode {
	case "":
		return nil // a CA for what the DSN says
	case "disable":
		config.Encryption, config.TLSConfig = msdsn.EncryptionDisabled, nil
		return nil
	case "require":
		settings.InsecureSkipVerify = true // #nosec G402 -- require is encryption, from whomever
	case "verify-ca":
		settings.InsecureSkipVerify = true // #nosec G402 -- which leaves all to what follows
		settings.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, roots) }
	case "verify-full":
		settings.InsecureSkipVerify = false
	default:
		return fmt.Errorf("TLS mode %q: want disable, require, verify-ca or verify-full", protection.Mode)
	}
	if config.Encryption != msdsn.EncryptionStrict {
		config.Encryption = msdsn.EncryptionRequired
	}
	config.TrustServerCertificate = settings.InsecureSkipVerify
	return nil
}

// verifyChain checks who signed a certificate, and not whose it is.
func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server has shown no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}
