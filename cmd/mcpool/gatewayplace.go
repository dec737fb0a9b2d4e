package main

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/mcpool-dev/mcpool/config"
)

// unixScheme begins the URL of a gateway at a Unix socket: its path follows, as one
// part of the URL, as in http+unix://%2Frun%2Fmcpool.sock.
const unixScheme = "http+unix://"

// A gatewayPlace is where a gateway is.
type gatewayPlace struct {
	*url.URL
	socket string // with the host localhost; "" for none
}

// gateway adds the flag that says where the gateway is, and returns a func that
// reads it.
func (f *flags) gateway() func() (gatewayPlace, error) {
	base := f.String("url", gatewayURL(), "`URL` of the gateway, where "+config.Variable("listen")+" has it listen if not given")
	return func() (gatewayPlace, error) { return parsePlace(*base) }
}

func parsePlace(text string) (gatewayPlace, error) {
	var p gatewayPlace
	raw := text
	if rest, is := strings.CutPrefix(text, unixScheme); is {
		escaped, path, _ := strings.Cut(rest, "/") // url.Parse allows no slash in a host
		socket, err := url.PathUnescape(escaped)
		if err != nil || !strings.HasPrefix(socket, "/") {
			return p, usagef("--url %q: want a socket such as %s%%2Frun%%2Fmcpool.sock", text, unixScheme)
		}
		p.socket, raw = socket, "http://localhost/"+path
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return p, usagef("--url %q: want a URL such as http://%s", text, defaultListen)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return p, usagef("--url: want http://host or https://host, or for a socket %s%%2Frun%%2Fmcpool.sock, not %s", unixScheme, u.Scheme)
	}
	p.URL = u
	return p, nil
}

// String is the URL, as people wrote it, but for passwords.
func (p gatewayPlace) String() string {
	if p.socket == "" {
		return p.Redacted()
	}
	return socketURL(p.socket) + strings.TrimSuffix(p.EscapedPath(), "/")
}

// whole is the URL, as a server of a pool has it.
func (p gatewayPlace) whole() string {
	if p.socket == "" {
		return p.URL.String()
	}
	return socketURL(p.socket) + p.EscapedPath()
}

// transport is nil for the usual one.
func (p gatewayPlace) transport() http.RoundTripper {
	if p.socket == "" {
		return nil
	}
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", p.socket)
	}}
}

func socketURL(socket string) string { return unixScheme + url.PathEscape(socket) }

// gatewayURL is where commands look for the gateway if they are not told: where
// MCP_POOL_LISTEN has it listen, and if that is everywhere, on loopback.
func gatewayURL() string {
	host, port, err := net.SplitHostPort(os.Getenv(config.Variable("listen")))
	if err != nil || port == "0" {
		return "http://" + defaultListen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
