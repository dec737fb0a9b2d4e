package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path"
	"strings"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// separator stands between a server's name and a tool's, or a prompt's, where
// one endpoint serves several servers.
const separator = "__"

// maxName is the most bytes of a name that we make: clients refuse longer ones.
const maxName = 64

// An endpoint is what one path serves. All of it is set at the start.
type endpoint struct {
	name     string // of the one server; "" where it is all of them
	servers  []*backend
	prefixed bool // tools and prompts are named SERVER__NAME, resources SERVER+URI
}

// only returns the server of an endpoint that has but one.
func (e *endpoint) only() *backend {
	if len(e.servers) == 1 {
		return e.servers[0]
	}
	return nil
}

// named returns the server that has a name.
func (e *endpoint) named(name string) *backend {
	for _, s := range e.servers {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// outward is what clients of the endpoint call a tool or a prompt of a server.
// A name that would be too long is cut, and told apart by a digest.
func (e *endpoint) outward(s *backend, name string) string {
	if !e.prefixed {
		return name
	}
	full := s.Name + separator + name
	if len(full) <= maxName {
		return full
	}
	digest := sha256.Sum256([]byte(full))
	tail := "_" + hex.EncodeToString(digest[:4])
	keep := max(maxName-len(tail), len(s.Name)+len(separator))
	return strings.ToValidUTF8(full[:keep], "") + tail
}

// inward returns the server that a client's name of a tool or a prompt is for,
// and what it is called there. Server names that make this ambiguous are
// refused at the start. cut says that the name was too long, so that what it
// is called there has to be looked up.
func (e *endpoint) inward(name string) (s *backend, inner string, cut, ok bool) {
	if !e.prefixed {
		return e.only(), name, false, true
	}
	for i := 1; i+len(separator) < len(name); i++ {
		if !strings.HasPrefix(name[i:], separator) {
			continue
		}
		if s := e.named(name[:i]); s != nil {
			inner = name[i+len(separator):]
			return s, inner, len(name) >= maxName && e.outward(s, inner) != name || isCut(name), true
		}
	}
	return nil, "", false, false
}

// isCut reports whether a name may be one that outward has cut.
func isCut(name string) bool {
	if len(name) < maxName-3 || len(name) < 9 { // the cut may have gone through a character
		return false
	}
	tail := name[len(name)-9:]
	_, err := hex.DecodeString(tail[1:])
	return tail[0] == '_' && err == nil
}

// scheme is what stands before the URIs of a server's resources where they are
// told apart: a scheme of its own (RFC 3986, 3.1), in which a server's name is
// not known by its case.
func (s *backend) scheme() string {
	name := strings.ToLower(strings.ReplaceAll(s.Name, "_", "."))
	if name[0] < 'a' || name[0] > 'z' {
		name = "x+" + name
	}
	return name + "+"
}

// outwardURI is what clients of the endpoint call a resource of a server, or a
// template of its URIs.
func (e *endpoint) outwardURI(s *backend, uri string) string {
	if !e.prefixed {
		return uri
	}
	return s.scheme() + uri
}

// inwardURI returns the server that a client's URI is for, and what it is
// there. It is nil where the URI does not say: it may be one that the client
// has from a result, which we do not read.
func (e *endpoint) inwardURI(uri string) (s *backend, inner string) {
	if !e.prefixed {
		return e.only(), uri
	}
	inner = uri
	for _, one := range e.servers {
		scheme := one.scheme()
		// The longest: "x+" is that of a server x, and "x+1+" that of a server 1.
		if rest := len(uri) - len(scheme); rest > 0 && strings.EqualFold(uri[:len(scheme)], scheme) && (s == nil || rest < len(inner)) {
			s, inner = one, uri[len(scheme):]
		}
	}
	return s, inner
}

// offers reports whether a client may see and call a tool: what Deny matches is
// never offered, where Allow has patterns only what they match is, and none that
// its principal has no right to.
func (q *request) offers(s *backend, tool string) bool {
	return !matches(s.Deny, tool) && (len(s.Allow) == 0 || matches(s.Allow, tool)) &&
		(q.rights.Offers == nil || q.rights.Offers(s.Name, tool))
}

func (q *request) filters(s *backend) bool {
	return len(s.Allow)+len(s.Deny) > 0 || q.rights.Offers != nil
}

// noSlash takes the meaning from "/", which path.Match has no * match: names of
// tools may have some.
var noSlash = strings.NewReplacer("/", "\x00")

func matches(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if ok, _ := path.Match(noSlash.Replace(pattern), noSlash.Replace(name)); ok { // the patterns were checked
			return true
		}
	}
	return false
}

// setString returns a copy of an object whose member is a string.
func setString(object json.RawMessage, value string, path ...string) (json.RawMessage, error) {
	quoted, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return jsonrpc.Set(object, quoted, path...)
}
