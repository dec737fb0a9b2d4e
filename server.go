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
	"time"

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
	// HTTP+SSE, the transport of MCP 2024-11-05. One at a Unix socket is
	// written with the percent-encoded path of the socket as host:
	// http+unix://%2Frun%2Fmcp.sock/mcp.
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
	// Auth is in place of Tokens where all principals are one account at the
	// server: a [BearerEnv], a [BearerFile] or an [OAuth]. Reload with the same
	// Auth keeps connections and tokens; with Tokens it cannot tell.
	Auth Auth
	// RoundTripper makes the requests; nil for a transport of ours, tuned for
	// many calls to one host.
	RoundTripper http.RoundTripper
	// DialContext opens our transport's TCP connections, and those to a Unix
	// socket; nil for a net.Dialer. It goes with a nil RoundTripper only.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// CAFile names a file of certificates in PEM: authorities that a server
	// over https may have its certificate from, beside those of the system. It
	// is read when the pool is made, and by [Pool.Reload] if the server has
	// changed. It goes with a nil RoundTripper only.
	CAFile string
	// CertFile and KeyFile name the files of a client certificate, with the
	// intermediate ones behind it, and of its key, both in PEM, for a server
	// over https that asks for one. They are read when the pool is made, and
	// again for each TLS handshake: put new files in their place before the
	// certificate expires. Until both match, the last that did is used. They
	// go with a nil RoundTripper only.
	CertFile, KeyFile string

	// Command is the program to start, for a server over stdio; Args are its
	// arguments. A value in Args that looks like a secret (--name=value, the
	// argument after --token and the like, the password of a URL) is kept out
	// of logs and errors if it has 8 bytes or more.
	Command string
	Args    []string
	// Env is added to this process's environment, as NAME=value. Its values of
	// 8 bytes or more are kept out of logs and errors, where the server writes
	// them as they are.
	Env []string
	// Dir is where the program runs; "" for this process's folder.
	Dir string
	// CloseGrace is how long the program has to exit when its input is closed,
	// and again when it and all it has started have been sent SIGTERM; then
	// they are killed. No call waits for that. Default 0: 300 ms.
	CloseGrace time.Duration

	// MaxMessageBytes bounds one message of a server with a URL or a Command,
	// decompressed: a call in flight may take twice that much memory. A larger
	// one fails its call alone. 0 for
	// [DefaultMaxMessageBytes]; at most 1 GiB.
	MaxMessageBytes int

	// Handler is a server in this process. It is called as a modern server is:
	// it answers server/discover, and may answer subscriptions/listen, which
	// tells Events of an acknowledgement and of changes until ctx ends.
	Handler rpc.Handler
}

// Protocols returns the versions of MCP that [Server.Protocol] may be, the
// newest first.
func Protocols() []string { return transport.Protocols() }

// DefaultMaxMessageBytes is the MaxMessageBytes of a [Server] that has none:
// 64 MiB.
const DefaultMaxMessageBytes = transport.DefaultMaxMessageBytes

// An Auth makes the source of the tokens that all requests to one server carry.
type Auth interface {
	// TokenSource returns the source for the server at a URL. It asks nobody;
	// the error says what makes no sense.
	TokenSource(serverURL string) (rpc.TokenSource, error)
}

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

// endpoint checks s and returns how to reach it, with what is known of it. It
// does no I/O but reading the files of certificates.
func (s *Server) endpoint(config *Config, known *known) (*transport.Endpoint, error) {
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
	case s.URL == "" && (s.SSE || s.Header != nil || s.Tokens != nil || s.Auth != nil || s.RoundTripper != nil || s.DialContext != nil ||
		s.CAFile != "" || s.CertFile != "" || s.KeyFile != ""):
		err = errors.New("fields SSE, Header, Tokens, Auth, RoundTripper, DialContext, CAFile, CertFile and KeyFile go with a URL")
	case s.Tokens != nil && s.Auth != nil, (s.Tokens != nil || s.Auth != nil) && s.authorized():
		err = errors.New("give one of Tokens, Auth and an Authorization in Header or URL: a request has room for one")
	case s.Handler != nil && s.Protocol != "":
		err = errors.New("a Protocol has no use beside a Handler: it is called without one")
	case s.Command == "" && (s.Args != nil || s.Env != nil || s.Dir != "" || s.CloseGrace != 0):
		err = errors.New("fields Args, Env, Dir and CloseGrace go with a Command")
	case s.Handler != nil && s.MaxMessageBytes != 0:
		err = errors.New("a MaxMessageBytes goes with a URL or a Command")
	case s.URL != "":
		endpoint, err = transport.HTTP(s.URL, transport.HTTPOptions{
			Protocol: s.Protocol, SSE: s.SSE, Header: s.Header, RoundTripper: s.RoundTripper, DialContext: s.DialContext,
			ParamHeaders: known.hints.paramHeaders, Changed: known.cache.changed,
			CAFile: s.CAFile, CertFile: s.CertFile, KeyFile: s.KeyFile,
			MaxMessageBytes: s.MaxMessageBytes, Log: log,
		})
	case s.Command != "":
		endpoint, err = transport.Stdio(transport.Command{
			Path: s.Command, Args: s.Args, Inherited: os.Environ(), Env: s.Env, Dir: s.Dir, CloseGrace: s.CloseGrace,
			Protocol: s.Protocol, Changed: known.cache.changed, MaxMessageBytes: s.MaxMessageBytes, Log: log,
		})
	default:
		endpoint = transport.InProcess(s.Name, s.Handler)
	}
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", s.Name, err)
	}
	return endpoint, nil
}

// tokens returns what gives each principal its source, nil for nothing.
func (s *Server) tokens() (func(principal string) rpc.TokenSource, error) {
	if s.Auth == nil {
		return s.Tokens, nil
	}
	source, err := s.Auth.TokenSource(s.URL)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", s.Name, err)
	}
	return func(string) rpc.TokenSource { return source }, nil
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
