// Package gateway serves MCP servers to many clients, legacy and modern, over
// streamable HTTP and over stdio, at one endpoint.
//
// A client's era is read from each request. A modern one (MCP 2026-07-28) says
// everything in the request itself and nothing is remembered of it. A legacy
// one (MCP 2024-11-05 to 2025-11-25) begins with initialize and then names its
// session; the session's id is sealed and carries all there is to know, so
// nothing is kept for a session that is idle. What an era wants around a call
// is taken off before an [rpc.Handler] sees it and put on when the answer
// comes back: behind the gateway there are no eras.
//
// The methods are tools/list and tools/call, besides what each era needs to
// begin: initialize, notifications/initialized and ping, or server/discover.
// Tools, arguments and results are never decoded: names are spliced in the
// bytes, and everything else arrives as it was sent.
package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// A Server is one MCP server behind the gateway.
type Server struct {
	// Name is the server's place in paths (/mcp/NAME) and, where several
	// servers share an endpoint, the prefix of its tools (NAME__TOOL). It has
	// 1 to 64 letters, digits, '-' and '_'.
	Name string
	// Handler answers the server's calls, such as a pool. It must return soon
	// after its context ends.
	Handler rpc.Handler
	// CallTimeout bounds one call, waiting for a connection included. Each
	// progress notification of the call starts it anew. 0 means no bound.
	CallTimeout time.Duration
	// EndSession is told once that a client's session has ended: by DELETE,
	// with ServeStdio, or because a server of the endpoint lost its state
	// (mcpool.ErrSessionLost). Sessions whose clients just stay away are not
	// reported. It may be called while calls of the session still run. Nil if
	// nobody cares.
	EndSession func(session string)
}

// Options are the settings of a [Gateway]. The zero value is ready to use.
type Options struct {
	// Version is what clients are told as ours, beside the name mcpool; ""
	// for "devel".
	Version string
	// AllowedHosts and AllowedOrigins are for [Guard].
	AllowedHosts, AllowedOrigins []string
	// MaxBody is the most bytes of one request's body, or of one line over
	// stdio; 0 for [DefaultMaxBody].
	MaxBody int64
	// Log receives what no client is told; nil for nothing.
	Log *slog.Logger
}

// DefaultMaxBody is the bound on a request where Options set none: 4 MiB.
const DefaultMaxBody = 4 << 20

// Keys of log records.
const (
	logServer = "server"
	logError  = "error"
)

// A Gateway serves clients. It is an [http.Handler], and [Gateway.ServeStdio]
// serves one client over stdio. It is safe for concurrent use.
type Gateway struct {
	all        *endpoint // what /mcp and stdio serve
	byName     map[string]*endpoint
	serverInfo json.RawMessage
	maxBody    int64
	log        *slog.Logger
	handler    http.Handler
	sessions   *sessions
	calls      *calls
}

var serverName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// New makes the gateway of these servers; a nil options is the zero Options.
// It fails where a server or an option makes no sense, or where two names
// would make tool names that could mean either.
func New(servers []Server, options *Options) (*Gateway, error) {
	var o Options
	if options != nil {
		o = *options
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if o.Version == "" {
		o.Version = "devel"
	}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	info, err := json.Marshal(map[string]string{"name": "mcpool", "version": o.Version})
	if err != nil {
		return nil, fmt.Errorf("gateway: version: %w", err)
	}
	g := &Gateway{
		all:        &endpoint{prefixed: len(servers) > 1},
		byName:     make(map[string]*endpoint, len(servers)),
		serverInfo: info,
		maxBody:    o.MaxBody,
		log:        o.Log,
		sessions:   newSessions(),
		calls:      newCalls(),
	}
	for _, s := range servers {
		if err := s.check(g.all.servers); err != nil {
			return nil, fmt.Errorf("gateway: server %q: %w", s.Name, err)
		}
		g.all.servers = append(g.all.servers, &s)
		g.byName[s.Name] = &endpoint{name: s.Name, servers: []*Server{&s}}
	}
	if len(servers) == 0 {
		return nil, errors.New("gateway: there is no server to serve")
	}
	g.handler = Guard(http.HandlerFunc(g.route), o.AllowedHosts, o.AllowedOrigins)
	return g, nil
}

func (o *Options) check() error {
	if o.MaxBody < 0 {
		return fmt.Errorf("MaxBody is %d: want a positive number of bytes, or 0 for %d", o.MaxBody, DefaultMaxBody)
	}
	for _, host := range o.AllowedHosts {
		if err := checkHost(host); err != nil {
			return fmt.Errorf("allowed host %q: %w", host, err)
		}
	}
	for _, origin := range o.AllowedOrigins {
		if err := checkOrigin(origin); err != nil {
			return fmt.Errorf("allowed origin %q: %w", origin, err)
		}
	}
	return nil
}

// check checks s against the servers before it.
func (s *Server) check(before []*Server) error {
	switch {
	case !serverName.MatchString(s.Name):
		return errors.New("want a name of 1 to 64 letters, digits, '-' and '_'")
	case s.Handler == nil:
		return errors.New("it has no handler")
	case s.CallTimeout < 0:
		return fmt.Errorf("CallTimeout is %s: want a positive duration, or 0 for none", s.CallTimeout)
	}
	for _, other := range before {
		mine, its := s.Name+separator, other.Name+separator
		if s.Name == other.Name {
			return errors.New("the name is taken")
		}
		if strings.HasPrefix(mine, its) || strings.HasPrefix(its, mine) {
			return fmt.Errorf("its tool names could be those of server %q: rename one", other.Name)
		}
	}
	return nil
}

// ServeHTTP serves all servers at /mcp and each at /mcp/NAME. A modern
// client's call ends when the client goes away; a legacy client's call goes
// on, until it is cancelled in words or answered to nobody (MCP 2025-11-25,
// basic/transports "Sending Messages to the Server"). Hosts and origins are
// checked as by [Guard].
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.handler.ServeHTTP(w, r)
}

// Close refuses new calls, over HTTP with status 503, and waits for the calls
// in flight. When ctx ends first it cancels them and returns an error that
// says how many they were and wraps the cause of ctx. Close does not wait for
// answers to be written: shut the HTTP server down after it.
func (g *Gateway) Close(ctx context.Context) error {
	idle := g.calls.close()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	if n := g.calls.cancelAll(); n > 0 {
		return fmt.Errorf("gateway: closed with %d calls in flight: %w", n, context.Cause(ctx))
	}
	return nil
}
