package auth

import (
	"crypto/tls"
	"net/http"
	"strings"
	"unicode"
)

// A CertificateName says what in a client certificate names its principal.
type CertificateName string

const (
	// CertificateURI is the one URI among the alternative names, such as the
	// SPIFFE ID of a workload.
	CertificateURI CertificateName = "uri"
	// CertificateCommonName is the common name of the subject.
	CertificateCommonName CertificateName = "common_name"
)

// ofCertificate returns who a connection is of. Its certificate was verified in
// the handshake, against the authorities that the listener has for clients.
func (a *Authenticator) ofCertificate(state *tls.ConnectionState) (Principal, *Error) {
	if a.certificates == "" || state == nil || len(state.VerifiedChains) == 0 {
		return Principal{}, &Error{Status: http.StatusUnauthorized, text: "there are no credentials"}
	}
	leaf, name := state.VerifiedChains[0][0], ""
	switch a.certificates {
	case CertificateURI:
		if len(leaf.URIs) == 1 {
			name = leaf.URIs[0].String()
		}
	case CertificateCommonName:
		name = leaf.Subject.CommonName
	}
	if !isName(name) {
		return Principal{}, &Error{Status: http.StatusUnauthorized, text: "the client certificate does not name a principal"}
	}
	return Principal{Name: "certificate|" + name}, nil
}

// maxPrincipal bounds a name that others gave, in bytes.
const maxPrincipal = 256

// isName reports whether a text can be shown, and kept, as a name.
func isName(text string) bool {
	return text != "" && len(text) <= maxPrincipal && !strings.ContainsFunc(text, func(c rune) bool {
		return c == unicode.ReplacementChar || !unicode.IsPrint(c)
	})
}
