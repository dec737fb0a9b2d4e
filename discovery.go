package mcpool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// maxMetadata bounds, in bytes, a metadata document. Those of large providers
// have some 3 KiB.
const maxMetadata = 256 << 10

// resourceMetadata is what a server says about who gives tokens for it (RFC
// 9728, 2).
type resourceMetadata struct {
	Resource string   `json:"resource"`
	Issuers  []string `json:"authorization_servers"`
	Scopes   []string `json:"scopes_supported"`
}

// issuerMetadata is what an authorization server says about itself (RFC 8414,
// 2).
type issuerMetadata struct {
	Issuer        string   `json:"issuer"`
	TokenEndpoint string   `json:"token_endpoint"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
}

// A tokenServer is where tokens for a server come from.
type tokenServer struct {
	issuerMetadata
	resource string   // what they are for (RFC 8707)
	scopes   []string // that it takes at least, as far as the server says
}

// A discovery finds the authorization server of an MCP server (MCP 2026-07-28,
// authorization server discovery).
type discovery struct {
	client   *http.Client
	resource *url.URL // of the MCP server: no user, query or fragment
	issuer   string   // the only one to be used; "" for the first that the server names
}

// find asks the MCP server for its authorization server, and that for its
// metadata. metadataURL is where the server said that its own is, "" if it did
// not.
func (d *discovery) find(ctx context.Context, metadataURL string) (*tokenServer, error) {
	about, err := d.ofResource(ctx, metadataURL)
	if err != nil {
		return nil, err
	}
	found := &tokenServer{resource: d.resource.String()}
	own := origin(d.resource).String()
	issuer := d.issuer
	switch {
	case about == nil && issuer == "":
		issuer = own // as MCP 2025-03-26 has it
	case about == nil:
	case len(about.Issuers) == 0:
		return nil, fmt.Errorf("the metadata of %s names no authorization server", d.resource.Host)
	case issuer == "":
		issuer = about.Issuers[0]
	case !slices.ContainsFunc(about.Issuers, func(named string) bool { return sameURL(named, issuer) }):
		return nil, fmt.Errorf("the credentials are those of %s, which is not among the authorization servers of %s", issuer, d.resource.Host)
	}
	if about != nil {
		found.resource, found.scopes = about.Resource, about.Scopes
	}
	of, err := d.ofIssuer(ctx, issuer)
	switch {
	case err != nil:
		return nil, err
	case of != nil:
		found.issuerMetadata = *of
	case about == nil && sameURL(issuer, own):
		// MCP 2025-03-26, authorization, "Fallbacks for Servers without
		// Metadata Discovery".
		found.issuerMetadata = issuerMetadata{Issuer: issuer, TokenEndpoint: own + "/token"}
	default:
		return nil, fmt.Errorf("authorization server %.200q has no metadata", issuer)
	}
	if _, err := secureURL(found.TokenEndpoint); err != nil {
		return nil, fmt.Errorf("the token endpoint of %.200q: %w", issuer, err)
	}
	return found, nil
}

// ofResource returns the metadata of the MCP server, nil if it has none: from
// where it said that it is, at its path under the well-known one, or at the
// root. It has to be about that server (RFC 9728, 3.3), lest tokens for it be
// given to another.
func (d *discovery) ofResource(ctx context.Context, metadataURL string) (*resourceMetadata, error) {
	root := origin(d.resource)
	type place struct{ url, resource string }
	places := []place{{metadataURL, d.resource.String()}, {wellKnown(d.resource, "oauth-protected-resource"), d.resource.String()}}
	if d.resource.Path != root.Path {
		places = append(places, place{wellKnown(root, "oauth-protected-resource"), root.String()})
	}
	if metadataURL == "" {
		places = places[1:]
	}
	for _, place := range places {
		var about resourceMetadata
		switch there, err := d.get(ctx, place.url, &about); {
		case err != nil:
			return nil, err
		case !there:
		case !sameURL(about.Resource, place.resource) && !sameURL(about.Resource, d.resource.String()):
			return nil, fmt.Errorf("metadata of %s is about %.200q, not %s", d.resource.Host, about.Resource, place.resource)
		default:
			return &about, nil
		}
	}
	return nil, nil
}

// ofIssuer returns the metadata of an authorization server, nil if it has none
// in any of the places where that may be. It has to be that server's own (RFC
// 8414, 3.3).
func (d *discovery) ofIssuer(ctx context.Context, issuer string) (*issuerMetadata, error) {
	u, err := secureURL(issuer)
	if err != nil {
		return nil, fmt.Errorf("authorization server %.200q: %w", issuer, err)
	}
	places := []string{wellKnown(u, "oauth-authorization-server"), wellKnown(u, "openid-configuration")}
	if strings.Trim(u.Path, "/") != "" {
		places = append(places, u.JoinPath(".well-known/openid-configuration").String())
	}
	for _, place := range places {
		var of issuerMetadata
		switch there, err := d.get(ctx, place, &of); {
		case err != nil:
			return nil, err
		case there && !sameURL(of.Issuer, issuer):
			return nil, fmt.Errorf("metadata of authorization server %.200q is that of %.200q", issuer, of.Issuer)
		case there:
			return &of, nil
		}
	}
	return nil, nil
}

// get reads a document into a value. It reports false if there is none.
func (d *discovery) get(ctx context.Context, where string, into any) (bool, error) {
	u, err := secureURL(where)
	if err != nil {
		return false, fmt.Errorf("metadata at %.200q: %w", where, err)
	}
	request := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{"Accept": {"application/json"}}}).WithContext(ctx)
	response, err := d.client.Do(request)
	if err != nil {
		return false, fmt.Errorf("metadata at %.200s: %w", where, withoutURL(err))
	}
	defer response.Body.Close()
	switch status := response.StatusCode; {
	case 400 <= status && status < 500:
		return false, nil
	case status != http.StatusOK:
		return false, fmt.Errorf("metadata at %.200s: HTTP %d", where, status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxMetadata+1))
	switch {
	case err != nil:
		return false, fmt.Errorf("metadata at %.200s: %w", where, err)
	case len(body) > maxMetadata:
		return false, fmt.Errorf("metadata at %.200s is larger than %d KiB", where, maxMetadata>>10)
	case json.Unmarshal(body, into) != nil: // the error would quote it
		return false, fmt.Errorf("metadata at %.200s is not what it should be", where)
	}
	return true, nil
}

// withoutURL returns what a request failed with: the error of an http.Client
// quotes the URL, which is as long as a server likes.
func withoutURL(err error) error {
	if quoting := (*url.Error)(nil); errors.As(err, &quoting) {
		return quoting.Err
	}
	return err
}

var errInsecure = errors.New("want an https URL, or http on this machine")

// secureURL parses a URL that secrets may be sent to, or decide where they are
// sent (RFC 9728, 7.3; RFC 8414, 6.1).
func secureURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, errInsecure
	}
	switch u.Scheme {
	case "https":
		return u, nil
	case "http":
		ip, err := netip.ParseAddr(u.Hostname())
		if u.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
			return u, nil
		}
	}
	return nil, errInsecure
}

// sameURL compares identifiers character by character, as RFC 9728 and 8414
// have it; only an empty path and "/" are one (RFC 3986, 6.2.3).
func sameURL(a, b string) bool {
	return a == b || rooted(a) == rooted(b)
}

func rooted(text string) string {
	if u, err := url.Parse(text); err == nil && u.Path == "" && u.RawQuery == "" && u.Host != "" {
		return text + "/"
	}
	return text
}

// wellKnown puts the suffix between host and path (RFC 8414, 3.1; RFC 9728,
// 3.1).
func wellKnown(u *url.URL, suffix string) string {
	return origin(u).String() + "/.well-known/" + suffix + strings.TrimSuffix(u.EscapedPath(), "/")
}

func origin(u *url.URL) *url.URL { return &url.URL{Scheme: u.Scheme, Host: u.Host} }
