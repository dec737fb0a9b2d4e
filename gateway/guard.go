package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Guard lets only those requests through to next that a local program or a
// page of ours can have made. It keeps web pages away from a server on
// loopback, which a browser can be tricked into reaching under a foreign name
// (MCP 2026-07-28, basic/transports/streamable-http "Security & Endpoint").
//
// The Host must be loopback (localhost, 127.0.0.0/8, ::1, any port) or one of
// hosts: a name or address, which then goes with any port, or with the port
// it has in the list. The Origin, if the request has one, must be http or
// https of loopback, or one of origins, such as https://app.example.com. "*"
// in a list allows any. Everything else is answered with status 403, and so
// is the origin "null", which sandboxed pages have.
//
// Answers to an allowed origin carry the CORS headers that let its pages read
// them, and a preflight request is answered here.
func Guard(next http.Handler, hosts, origins []string) http.Handler {
	allowedHosts, allowedOrigins := newSet(hosts), newSet(origins)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hostAllowed(r.Host, allowedHosts) {
			http.Error(w, fmt.Sprintf("host %q is not allowed here: list it with --allowed-hosts", r.Host), http.StatusForbidden)
			return
		}
		// Also without an Origin: a cache must not give this answer to a page.
		w.Header().Add("Vary", "Origin")
		if origins := r.Header.Values("Origin"); len(origins) > 0 {
			if len(origins) > 1 || !originAllowed(origins[0], allowedOrigins) {
				http.Error(w, fmt.Sprintf("origin %q is not allowed here: list it with --allowed-origins", strings.Join(origins, ", ")), http.StatusForbidden)
				return
			}
			w.Header().Set("Access-Control-Allow-Origin", origins[0])
			w.Header().Set("Access-Control-Expose-Headers", headerSession+", WWW-Authenticate")
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				preflight(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// preflight allows what MCP clients send, and any tool parameter mirrored in a
// header, as their names are the tools' own (MCP 2026-07-28,
// basic/transports/streamable-http "Custom Headers from Tool Parameters").
func preflight(w http.ResponseWriter, r *http.Request) {
	allowed := []string{
		"Content-Type", "Authorization", "Accept", "Last-Event-ID",
		headerSession, headerVersion, headerMethod, headerName,
	}
	for _, line := range r.Header.Values("Access-Control-Request-Headers") {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); isParamHeader(name) {
				allowed = append(allowed, name)
			}
		}
	}
	w.Header().Add("Vary", "Access-Control-Request-Headers")
	w.Header().Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	w.Header().Set("Access-Control-Allow-Headers", strings.Join(allowed, ", "))
	w.WriteHeader(http.StatusNoContent)
}

func isParamHeader(name string) bool {
	const prefix = "mcp-param-"
	if len(name) <= len(prefix) || !strings.EqualFold(name[:len(prefix)], prefix) {
		return false
	}
	for _, c := range []byte(name) { // a token, RFC 9110 section 5.6.2
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return true
}

// newSet makes a set of hosts or origins, none of which depends on case.
func newSet(list []string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, s := range list {
		set[canonical(s)] = true
	}
	return set
}

// canonical lowers the case and takes the brackets off an IPv6 address that
// stands alone.
func canonical(s string) string {
	s = strings.ToLower(s)
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	return s
}

func hostAllowed(hostport string, allowed map[string]bool) bool {
	if allowed["*"] {
		return true
	}
	// As nearly all have it: to parse it takes longer than all else here.
	if host, port, _ := strings.Cut(hostport, ":"); (host == "localhost" || host == "127.0.0.1") && !strings.Contains(port, ":") {
		return true
	}
	host, ok := hostname(hostport)
	return ok && (isLoopback(host) || allowed[host] || allowed[canonical(hostport)])
}

func originAllowed(origin string, allowed map[string]bool) bool {
	if allowed["*"] || allowed[canonical(origin)] {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	return origin == u.Scheme+"://"+u.Host && isLoopback(canonical(u.Hostname()))
}

// hostname returns the host of host or host:port, in lower case and without
// brackets.
func hostname(hostport string) (string, bool) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
		// A bare IPv6 address has colons and no port.
		if _, err := netip.ParseAddr(canonical(hostport)); err != nil && strings.Contains(hostport, ":") {
			return "", false
		}
	}
	host = canonical(host)
	return host, host != ""
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// checkHost reports what keeps an entry of AllowedHosts from ever matching.
func checkHost(host string) error {
	if host == "*" {
		return nil
	}
	if _, ok := hostname(host); !ok || strings.ContainsAny(host, "/*@ ") {
		return errors.New(`want a name or an address, with or without a port, or "*"`)
	}
	return nil
}

// checkOrigin reports what keeps an entry of AllowedOrigins from ever
// matching.
func checkOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || !strings.EqualFold(origin, u.Scheme+"://"+u.Host) || strings.Contains(origin, "*") {
		return errors.New(`want scheme://host or scheme://host:port, or "*"`)
	}
	return nil
}
