package config

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool/auth"
)

// A TLS is how a gateway speaks TLS to its clients.
type TLS struct {
	// CertFile and KeyFile are PEM files of its certificate and the key of that;
	// both "" for no TLS.
	CertFile, KeyFile string
	// ClientCAFile has the authorities whose client certificates are taken; ""
	// for none. In a file it is auth.client_certificates.ca_file.
	ClientCAFile string
}

var (
	accessKeys       = keys{read: []string{"url", "keys", "key_file", "jwt", "client_certificates", "principals"}, ignored: []string{"_comment", "//"}}
	accessKeyKeys    = keys{read: []string{"name", "sha256", "admin"}}
	jwtKeys          = keys{read: []string{"issuer", "audience", "jwks_url", "scopes", "admin_scope", "algorithms", "principal_claim"}}
	certificatesKeys = keys{read: []string{"ca_file", "principal"}}
	ruleKeys         = keys{read: []string{"allow", "deny", "allow_tools", "deny_tools", "rate", "burst", "max_calls"}, ignored: []string{"_comment", "//"}}
	tlsKeys          = keys{
		read:    []string{"cert_file", "key_file"},
		ignored: []string{"_comment", "//"},
		refused: map[string]string{"client_ca_file": "write it as auth.client_certificates.ca_file, with what in a certificate names its principal"},
	}
)

// access reads who may call and how TLS is spoken; the nodes are nil where nothing
// says so.
func (r *reader) access(authNode, tlsNode *node) (*auth.Options, TLS) {
	var options auth.Options
	var tls TLS
	before := len(r.errs)
	said := authNode != nil && authNode.kind != null
	if authNode != nil && !said { // somebody meant to say something, and all could call
		r.refuse(authNode, "it is empty: want keys, a key file, jwt or client certificates, or no auth")
	}
	if said {
		r.authOf(authNode, &options, &tls)
	}
	if tlsNode != nil {
		for _, child := range r.mapping(tlsNode, tlsKeys) {
			switch child.key {
			case "cert_file":
				tls.CertFile = r.path(child)
			case "key_file":
				tls.KeyFile = r.path(child)
			}
		}
	}
	if (tls.CertFile == "") != (tls.KeyFile == "") {
		r.errs = append(r.errs, errors.New("tls: want cert_file and key_file, or neither"))
	}
	if tls.ClientCAFile != "" && tls.CertFile == "" {
		r.errs = append(r.errs, errors.New("auth.client_certificates: clients show certificates over TLS alone: want tls with cert_file and key_file"))
	}
	if !said {
		return nil, tls
	}
	if len(r.errs) == before {
		if err := options.Check(); err != nil && authNode.outside != "" {
			r.refuse(authNode, "%w", err)
		} else if err != nil {
			r.errs = append(r.errs, err)
		}
	}
	return &options, tls
}

// authOf reads an auth mapping of the file.
func (r *reader) authOf(n *node, o *auth.Options, tls *TLS) {
	for _, child := range r.mapping(n, accessKeys) {
		if child.key == "keys" || child.key == "principals" { // which files alone have
			r.from("", "auth_"+child.key, r.at(child))
		}
		switch child.key {
		case "url":
			o.URL = strings.TrimSuffix(r.text(child), "/")
		case "keys":
			for _, one := range r.elements(child) {
				o.Keys = append(o.Keys, r.key(one))
			}
		case "key_file":
			o.KeyFile = r.path(child)
		case "jwt":
			o.JWT = r.jwt(child)
		case "client_certificates":
			o.Certificates, tls.ClientCAFile = r.certificates(child)
		case "principals":
			for _, one := range r.members(child) {
				o.Rules = append(o.Rules, r.rule(one))
			}
		}
	}
}

func (r *reader) key(n *node) (key auth.Key) {
	hashed := false
	for _, child := range r.mapping(n, accessKeyKeys) {
		switch child.key {
		case "name":
			key.Name = r.text(child)
		case "sha256":
			var err error
			// The text is not told: it may be the key itself.
			if key.Hash, err = auth.ParseHash(r.text(child)); err != nil {
				r.refuse(child, "%w", err)
			}
			hashed = true
		case "admin":
			key.Admin = r.truth(child)
		}
	}
	if key.Name == "" || !hashed {
		r.refuse(n, "want a name, and the sha256 of the key, as mcpool key new prints them")
	}
	return key
}

func (r *reader) jwt(n *node) *auth.JWT {
	j := new(auth.JWT)
	for _, child := range r.mapping(n, jwtKeys) {
		switch child.key {
		case "issuer":
			j.Issuer = r.text(child)
		case "audience":
			j.Audience = r.oneOrMore(child)
		case "jwks_url":
			j.JWKSURL = r.text(child)
		case "scopes":
			j.Scopes = r.oneOrMore(child)
		case "admin_scope":
			j.AdminScope = r.text(child)
		case "algorithms":
			j.Algorithms = r.oneOrMore(child)
		case "principal_claim":
			j.PrincipalClaim = r.text(child)
		}
	}
	if j.Issuer == "" {
		r.refuse(n, "want an issuer")
	}
	return j
}

// oneOrMore returns a list of scalars, or the one that is there.
func (r *reader) oneOrMore(n *node) []string {
	if n.kind == scalar {
		return []string{r.text(n)}
	}
	return r.texts(n)
}

func (r *reader) certificates(n *node) (auth.CertificateName, string) {
	name, file := auth.CertificateURI, ""
	for _, child := range r.mapping(n, certificatesKeys) {
		switch child.key {
		case "ca_file":
			file = r.path(child)
		case "principal":
			name = auth.CertificateName(r.text(child))
			if name != auth.CertificateURI && name != auth.CertificateCommonName {
				r.refuse(child, "want %s or %s", auth.CertificateURI, auth.CertificateCommonName)
			}
		}
	}
	if file == "" {
		r.refuse(n, "want a ca_file: the authorities whose client certificates are taken")
	}
	return name, file
}

func (r *reader) rule(n *node) auth.Rule {
	rule := auth.Rule{Principals: n.key}
	for _, child := range r.mapping(n, ruleKeys) {
		switch child.key {
		case "allow":
			rule.Allow = r.patterns(child)
		case "deny":
			rule.Deny = r.patterns(child)
		case "allow_tools":
			rule.AllowTools = r.patterns(child)
		case "deny_tools":
			rule.DenyTools = r.patterns(child)
		case "rate":
			rule.Rate = r.rate(child)
		case "burst":
			rule.Burst = r.count(child, maxLimit, "the requests of one second")
		case "max_calls":
			rule.MaxCalls = r.count(child, maxLimit, "that of the gateway")
		}
	}
	return rule
}

// rate returns a number of requests per second.
func (r *reader) rate(n *node) float64 {
	before := len(r.errs)
	text := r.text(n)
	value, err := strconv.ParseFloat(text, 64)
	if len(r.errs) == before && (err != nil || value < 0 || value > maxLimit || math.IsNaN(value)) {
		r.refuse(n, "want requests per second from 0, which is any number, to %d", maxLimit)
	}
	return value
}
