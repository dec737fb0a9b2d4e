package serving

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certFresh is how long what was read of the files of a certificate is used: to
// read and parse them takes longer than the handshake.
const certFresh = time.Second

// TLS returns how a [Server] speaks TLS, 1.2 or newer: with the certificate of a
// PEM file and its key. Clients may show a certificate of the authorities in
// clientCAFile, "" for none; a certificate of others ends the handshake. The
// files are read again within a second of their replacement, and a certificate
// that is not valid then is warned of; while they are wrong, or do not match, what was read before holds. It fails where they are
// wrong at the start.
func TLS(certFile, keyFile, clientCAFile string, log *slog.Logger) (*tls.Config, error) {
	f := &tlsFiles{cert: certFile, key: keyFile, authorities: clientCAFile, log: log}
	if err := f.load(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.config(), nil },
	}, nil
}

// tlsFiles are the files that TLS is spoken with.
type tlsFiles struct {
	cert, key, authorities string
	log                    *slog.Logger

	mu     sync.Mutex  // guards what follows
	last   *tls.Config // the last that was good; not to be modified
	read   [3][]byte   // what it was made of
	looked time.Time
}

// config returns how a handshake is made.
func (f *tlsFiles) config() *tls.Config {
	f.mu.Lock()
	look := time.Since(f.looked) >= certFresh
	if look {
		f.looked = time.Now()
	}
	f.mu.Unlock()
	if look {
		if err := f.load(); err != nil {
			// One file is replaced before the other, and then they do not match.
			f.log.Error("the files of TLS are wrong: those of before are used", "error", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// load reads the files, and makes a config of them if they have changed.
func (f *tlsFiles) load() error {
	var read [3][]byte
	for i, path := range [...]string{f.cert, f.key, f.authorities} {
		if path == "" {
			continue
		}
		var err error
		if read[i], err = os.ReadFile(path); err != nil {
			return err
		}
	}
	f.mu.Lock()
	same := f.last != nil && bytes.Equal(read[0], f.read[0]) && bytes.Equal(read[1], f.read[1]) && bytes.Equal(read[2], f.read[2])
	f.mu.Unlock()
	if same {
		return nil
	}
	pair, err := tls.X509KeyPair(read[0], read[1])
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", f.cert, f.key, err)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		f.log.Warn("the certificate is not valid now: clients will refuse it", "file", f.cert, "from", pair.Leaf.NotBefore, "until", pair.Leaf.NotAfter)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if f.authorities != "" {
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(read[2]) {
			return fmt.Errorf("%s: %w", f.authorities, errNoCertificate)
		}
		config.ClientAuth = tls.VerifyClientCertIfGiven
		// A session that is resumed was verified against the authorities of its
		// beginning.
		config.SessionTicketsDisabled = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.read, f.looked = config, read, time.Now()
	return nil
}

var errNoCertificate = errors.New("no certificate in PEM is in it")
