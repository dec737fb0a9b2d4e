package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
)

// newTLS returns how our own transport speaks TLS. The files have to be good
// now, so that a mistake is told at the start.
func newTLS(caFile, certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		var err error
		if config.RootCAs, err = Authorities(caFile); err != nil {
			return nil, err
		}
	}
	if (certFile == "") != (keyFile == "") {
		return nil, errors.New("a client certificate needs a file of its own and one of its key")
	}
	if certFile != "" {
		p := &keyPair{certFile: certFile, keyFile: keyFile, log: log}
		if err := p.load(); err != nil {
			return nil, err
		}
		config.GetClientCertificate = p.get
	}
	return config, nil
}

// Authorities returns those of the system and those whose certificates are in a
// file, in PEM.
func Authorities(caFile string) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the authorities of the system: %w", err)
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("the authorities to trust: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the authorities to trust: no certificate in PEM is in %s", caFile)
	}
	return roots, nil
}

// A keyPair is a client certificate and its key in two files.
type keyPair struct {
	certFile, keyFile string
	log               *slog.Logger
	last              atomic.Pointer[tls.Certificate] // the last that was good
}

func (p *keyPair) load() error {
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return fmt.Errorf("the client certificate %s with the key %s: %w", p.certFile, p.keyFile, err)
	}
	p.last.Store(&pair)
	return nil
}

// get returns the certificate for a handshake. The files are read for each:
// they are replaced before the certificate expires, and handshakes are few.
func (p *keyPair) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if err := p.load(); err != nil {
		// One file is replaced before the other, and then they do not match.
		p.log.Warn("the last client certificate is used", "error", err)
	}
	return p.last.Load(), nil
}

// A lastingError is a failure to reach the server that waiting does not cure,
// with what does.
type lastingError struct {
	error
	cure string
}

func (e *lastingError) Error() string { return e.error.Error() + ": " + e.cure }
func (e *lastingError) Unwrap() error { return e.error }

// diagnose makes a [lastingError] of an error if it is one. Every one of them
// comes before the server has taken in a request.
func diagnose(err error) error {
	var lasting *lastingError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var certificate x509.CertificateInvalidError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &lasting):
	case errors.As(err, &authority):
		return &lastingError{err, "ca_file (CAFile) adds an authority to those of the system"}
	case errors.As(err, &host):
		return &lastingError{err, "the URL needs a host that the certificate is for"}
	case errors.As(err, &certificate):
		return &lastingError{err, "the server needs another certificate, unless the clock of this machine is wrong"}
	case errors.As(err, &noTLS) && string(noTLS.RecordHeader[:]) == "HTTP/":
		return &lastingError{err, "the server speaks HTTP without TLS, so its URL is an http one"}
	case alerted(err, certificateAlerts):
		return &lastingError{err, "the server wants a client certificate that it trusts: cert_file and key_file (CertFile, KeyFile)"}
	case alerted(err, handshakeFailure):
		return &lastingError{err, "the server may want a client certificate: cert_file and key_file (CertFile, KeyFile)"}
	case alerted(err, protocolVersion):
		return &lastingError{err, "the server speaks neither TLS 1.2 nor 1.3"}
	}
	return err
}

// Alerts by which a server says that it will not have us (RFC 8446, 6.2).
var (
	// bad_certificate, unsupported_, _revoked, _expired, _unknown, unknown_ca,
	// access_denied, certificate_required
	certificateAlerts = []tls.AlertError{42, 43, 44, 45, 46, 48, 49, 116}
	// No common way to encrypt, and with TLS 1.2 also no client certificate
	// (RFC 5246, 7.4.6).
	handshakeFailure = []tls.AlertError{40}
	protocolVersion  = []tls.AlertError{70}
)

// alerted reports whether the server ended the handshake by one of the alerts.
// Over TCP, crypto/tls gives an alert a type that it keeps to itself, with the
// text of the public one.
func alerted(err error, alerts []tls.AlertError) bool {
	return slices.ContainsFunc(alerts, func(alert tls.AlertError) bool {
		return strings.Contains(err.Error(), "remote error: "+alert.Error())
	})
}
