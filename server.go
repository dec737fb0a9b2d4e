package mcpool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A Server says which MCP server a pool connects to, and how: exactly one of
// URL, Command and Handler.
type Server struct {
	// Name stands for the server in errors, logs and metrics. It has 1 to 64
	// letters, digits, '-', '_' and '.'.
	Name string

	// Protocol is the one version of MCP to speak with the server, such as
	// "2025-06-18". Default "": the newest that both sides speak. What a server
	// speaks is asked once, and again when it says otherwise.
	Protocol string

	// URL of the MCP endpoint, http or https, for streamable HTTP or for
	// HTTP+SSE, the transport of MCP 2024-11-05.
	URL string
	// SSE says that the server speaks HTTP+SSE alone, which saves asking. A
	// server that is not set to it is tried with it all the same, if it is
	// legacy and turns initialize away with HTTP 400, 404 or 405, and has 2 s
	// to say that it speaks it. It goes with a URL only.
	SSE bool
	// Header is sent with every request, for instance a token that never
	// changes.
	Header http.Header
	// Tokens returns the source of the tokens with which connections for a
	// principal are opened, and with which its calls are made unless
	// [rpc.Caller] has a source; nil for none. It is asked once for each
	// principal and revision of its credentials and the source is kept while
	// in use, so a principal that gets another source needs another revision.
	// Under [ShareAll] all calls are those of the pool's own principal. It
	// must not block; it does not go with an Authorization in Header or URL.
	Tokens func(principal string) rpc.TokenSource
	// RoundTripper makes the requests; nil for a transport of ours, tuned for
	// many calls to one host.
	RoundTripper http.RoundTripper
	// DialContext opens our transport's TCP connections; nil for a
	// net.Dialer. It goes with a nil RoundTripper only.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	// Command is the program to start, for a server over stdio; Args are its
	// arguments.
	Command string
	Args    []string
	// Env is added to this process's environment, as NAME=value.
	Env []string
	// Dir is where the program runs; "" for this process's folder.
	Dir string

	// Handler is a server in this process.
	Handler rpc.Handler
}

// Protocols returns the versions of MCP that [Server.Protocol] may be, the
// newest first.
func Protocols() []string { return transport.Protocols() }

// kind is the one of URL, Command and Handler that is given.
func (s *Server) kind() string {
	switch {
	case s.Handler != nil:
		return "Handler"
	case s.Command != "":
		return "Command"
	}
	return "URL"
}

var serverName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// endpoint checks s and returns how to reach it. It does no I/O.
func (s *Server) endpoint(config *Config) (*transport.Endpoint, error) {
	if !serverName.MatchString(s.Name) {
		return nil, fmt.Errorf("server name %q: want 1 to 64 letters, digits, '-', '_' and '.'", s.Name)
	}
	ways := 0
	for _, there := range []bool{s.URL != "", s.Command != "", s.Handler != nil} {
		if there {
			ways++
		}
	}
	var endpoint *transport.Endpoint
	var err error
	log := config.Logger.With("server", s.Name)
	switch {
	case ways != 1:
		err = errors.New("give exactly one of URL, Command and Handler")
	case s.RoundTripper != nil && s.DialContext != nil:
		err = errors.New("a DialContext has no use beside a RoundTripper: dial in that")
	case s.URL == "" && (s.SSE || s.Header != nil || s.Tokens != nil || s.RoundTripper != nil || s.DialContext != nil):
		err = errors.New("fields SSE, Header, Tokens, RoundTripper and DialContext go with a URL")
	case s.Tokens != nil && s.authorized():
		err = errors.New("give either Tokens or an Authorization in Header or URL: a request has room for one")
	case s.Handler != nil && s.Protocol != "":
		err = errors.New("a Protocol has no use beside a Handler: it is called without one")
	case s.Command == "" && (s.Args != nil || s.Env != nil || s.Dir != ""):
		err = errors.New("fields Args, Env and Dir go with a Command")
	case s.URL != "":
		endpoint, err = transport.HTTP(s.URL, transport.HTTPOptions{
			Protocol: s.Protocol, SSE: s.SSE, Header: s.Header, RoundTripper: s.RoundTripper, DialContext: s.DialContext, Log: log,
		})
	case s.Command != "":
		endpoint, err = transport.Stdio(transport.Command{
			Path: s.Command, Args: s.Args, Env: append(os.Environ(), s.Env...), Dir: s.Dir,
			Protocol: s.Protocol, Log: log,
		})
	default:
		endpoint = transport.InProcess(s.Name, s.Handler)
	}
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", s.Name, err)
	}
	return endpoint, nil
}

// authorized reports whether requests carry an Authorization that never
// changes.
func (s *Server) authorized() bool {
	for name := range s.Header {
		if strings.EqualFold(name, "Authorization") {
			return true
		}
	}
	u, err := url.Parse(s.URL)
	return err == nil && u.User != nil
}
