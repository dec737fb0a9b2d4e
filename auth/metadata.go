package auth

import (
	"encoding/json"
	"net/http"
	"strings"
)

// metadataPath is where a resource says who gives tokens for it: before its own
// path (RFC 9728, 3.1).
const metadataPath = "/.well-known/oauth-protected-resource"

// ServesMetadata reports whether a path is for [Authenticator.Metadata].
func ServesMetadata(path string) bool {
	rest, ok := strings.CutPrefix(path, metadataPath)
	return ok && (rest == "" || rest[0] == '/')
}

// metadata is the document of a resource (RFC 9728, 2).
type metadata struct {
	Resource string   `json:"resource"`
	Issuers  []string `json:"authorization_servers"`
	Scopes   []string `json:"scopes_supported,omitempty"`
	Methods  []string `json:"bearer_methods_supported"`
	Name     string   `json:"resource_name"`
}

// Metadata answers who may be asked for tokens for the gateway, or for one of
// its endpoints, which is public. Without an issuer, or an URL of the gateway,
// there is nothing to tell: status 404.
func (a *Authenticator) Metadata(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, metadataPath), "/")
	if a.tokens == nil || a.url == "" || path != "" && !endpointPath.MatchString(path) {
		http.Error(w, "nothing is told of this", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "there are GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "max-age=300")
	_ = json.NewEncoder(w).Encode(metadata{ // or the client is gone
		Resource: a.url + path, Issuers: []string{a.tokens.Issuer}, Scopes: a.tokens.Scopes, Methods: []string{"header"}, Name: "mcpool",
	})
}
