// Package gateway serves MCP servers to many clients, legacy and modern, over
// streamable HTTP, over HTTP+SSE, over stdio, and in this process, at one
// endpoint.
//
// A client's era is read from each request. A modern one (MCP 2026-07-28) says
// everything in the request itself and nothing is remembered of it. A legacy
// one (MCP 2024-11-05 to 2025-11-25) begins with initialize and then names its
// session; the session's id is sealed and carries what the client agreed on, so
// nothing is kept for a session that is idle. What an era wants around a call
// is taken off before an [rpc.Handler] sees it and put on when the answer
// comes back: behind the gateway there are no eras, and what is asked of a
// handler has the form of the modern one.
//
// All methods are served. Names and URIs are spliced in the bytes where several
// servers share an endpoint, and their lists have one page; arguments and
// results are never decoded, and arrive as they were sent.
package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mirror"
	"github.com/mcpool-dev/mcpool/internal/repeats"
	"github.com/mcpool-dev/mcpool/internal/seal"
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
	// progress notification of the call starts it anew, and so does an answer of
	// the client to what the server asks. 0 means no bound.
	CallTimeout time.Duration
	// MaxCalls bounds the calls to the server that are under way, those that
	// wait for a connection included; 0 for [DefaultMaxCalls]. More are not made:
	// modern clients over HTTP are told so with status 503, others with an error
	// of the protocol, as some wait for ever after such a status.
	MaxCalls int
	// Allow and Deny are patterns of the names of tools, as of [path.Match], in
	// which * stands for any text, "/" also. What Deny matches is neither listed nor called, and where Allow has any, only
	// what one of them matches is.
	Allow, Deny []string
	// EndSession is told once that a client's session has ended: by DELETE,
	// with the stream of HTTP+SSE, with ServeStdio or a Client, or because the one
	// server of the endpoint lost its state (mcpool.ErrSessionLost). Sessions
	// whose clients just stay away are not reported. It may be called while calls
	// of the session still run. Nil if nobody cares.
	EndSession func(who rpc.Caller)
}

// A backend is a Server as the gateway has it.
type backend struct {
	Server
	modern  atomic.Bool               // it has said so
	silent  atomic.Pointer[time.Time] // when a client waited for it in vain; nil if it has answered since
	headers paramHeaders
	counts  counts

	unheard  repeats.Failure        // what it can
	unlisted [kinds]repeats.Failure // to list
}

func newBackend(s *Server) *backend {
	b := &backend{Server: *s, headers: paramHeaders{of: make(map[string][]mirror.Header)}}
	if b.MaxCalls == 0 {
		b.MaxCalls = DefaultMaxCalls
	}
	return b
}

// do makes a call. A handler that panics fails that call alone.
func (b *backend) do(ctx context.Context, log func() *slog.Logger, call rpc.Call) (answer rpc.Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			log().Error("the handler of a server panicked", logServer, b.Name, "method", call.Method, logError, p, "stack", string(debug.Stack()))
			err = errPanicked
		}
	}()
	answer, err = b.Handler.Do(ctx, call)
	if err == nil && b.silent.Load() != nil {
		b.silent.Store(nil)
	}
	return answer, err
}

var errPanicked = errors.New("this gateway failed; its log says how. The call may have run")

// A Prefix says how tools and prompts are named where all servers share an
// endpoint, /mcp and stdio.
type Prefix string

const (
	// PrefixAuto leaves names as they are with one server, and puts the name of
	// the server before them with several: SERVER__NAME.
	PrefixAuto Prefix = "auto"
	// PrefixAlways puts the server's name before them.
	PrefixAlways Prefix = "always"
	// PrefixNever leaves them as they are. A name that two servers have is that
	// of the first, and the other's is not listed.
	PrefixNever Prefix = "never"
)

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
	// Prefix says how tools and prompts are named at /mcp and over stdio; "" for
	// [PrefixAuto]. Where they are prefixed, resources are named SERVER+URI.
	Prefix Prefix
	// Key is the key, of [KeySize] bytes, with which what clients keep for the
	// gateway is sealed: session ids, and the states of calls that wait for
	// their client. Gateways that share it go on with each other's sessions.
	// Nil for one that lives as long as this Gateway: after a restart clients
	// begin anew.
	Key []byte
	// Name tells this gateway from others with the same key; "" for one that is
	// made up. It stands in what clients keep, and has 1 to 64 letters, digits,
	// '-' and '_'.
	Name string
	// Principal says on whose behalf a request over HTTP is made; "" is the
	// principal of the pools. What it cannot say it refuses with an error, which
	// the client is told with HTTP status 401, or as a [PrincipalError] says. It
	// is asked for each request, of several at once; and of a stream that is open
	// every 2 s again, with the request that has opened it: what is refused then,
	// but with a status of 500 or more, ends. Nil for "" always.
	Principal func(*http.Request) (string, error)
	// Rights says what a principal may do, over whatever transport. It is asked
	// for each request, of several at once. Nil for everything.
	Rights func(principal string) Rights
	// MaxCallsPerPrincipal bounds the calls of one principal that are under
	// way; 0 for [DefaultMaxCallsPerPrincipal]. More are not made, as with
	// Server.MaxCalls, but the status is 429. It also bounds the requests of each
	// client over HTTP+SSE or stdio, or in this process, that are not answered.
	MaxCallsPerPrincipal int
	// JoinHeader is what programs that join the gateway ([Join]) are told, such
	// as which configuration it serves.
	JoinHeader http.Header
	// Hooks are told of requests.
	Hooks Hooks
	// Access is told of each request over HTTP when it has been answered, by
	// several at once; nil if nobody cares.
	Access func(Access)
	// Log receives what no client is told; nil for nothing. Lines that come of
	// one request over HTTP name it, as request_id.
	Log *slog.Logger
}

// DefaultMaxBody is the bound on a request where Options set none: 4 MiB.
const DefaultMaxBody = 4 << 20

// Keys of log records.
const (
	logServer = "server"
	logError  = "error"
)

// A Gateway serves clients. It is an [http.Handler]; [Gateway.ServeStdio] serves
// one client over stdio, and [Gateway.NewClient] one in this process. It is safe
// for concurrent use.
type Gateway struct {
	name       string
	serverInfo json.RawMessage
	maxBody    int64
	principal  func(*http.Request) (string, error)
	hooks      Hooks
	access     func(Access)
	log        *slog.Logger
	handler    http.Handler
	joinHeader atomic.Pointer[http.Header]

	changing sync.Mutex // held by Change
	routing  sync.Mutex // guards routes, and that nobody enters those that were replaced
	routes   *routes

	sealer    seal.Sealer
	sessions  *sessions
	levels    levels
	standings standings
	listens   tally // subscriptions/listen of modern clients, by principal
	visitors  visitors
	talks     talks
	joiners   joiners
	admitted  admissions
	streams   streams
	questions questions
	calls     *calls
	parked    *parked
	limits    *limits
	lists     *lists
	losses    losses

	leaving  context.Context // ended by Leave, which wants streams to end
	leave    context.CancelCauseFunc
	draining context.Context // ended by Close
	drain    context.CancelCauseFunc
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
	if o.Access == nil {
		o.Access = func(Access) {}
	}
	if o.Name == "" {
		o.Name = strings.ToLower(rand.Text()[:8])
	}
	asks := o.Principal != nil
	if !asks {
		o.Principal = func(*http.Request) (string, error) { return "", nil }
	}
	if o.Rights == nil {
		o.Rights = func(string) Rights { return Rights{} }
	}
	if o.MaxCallsPerPrincipal == 0 {
		o.MaxCallsPerPrincipal = DefaultMaxCallsPerPrincipal
	}
	info, err := json.Marshal(map[string]string{"name": "mcpool", "version": o.Version})
	if err != nil {
		return nil, fmt.Errorf("gateway: version: %w", err)
	}
	prefixed := o.Prefix == PrefixAlways || o.Prefix != PrefixNever && len(servers) > 1
	sealer := seal.New(o.Key)
	g := &Gateway{
		name:       o.Name,
		serverInfo: info,
		maxBody:    o.MaxBody,
		principal:  o.Principal,
		hooks:      o.Hooks,
		access:     o.Access,
		log:        o.Log,
		sealer:     sealer,
		sessions:   newSessions(sealer),
		levels:     levels{of: newRecent[int](maxLevels)},
		listens:    newTally(),
		visitors:   visitors{by: make(map[string]*visitor)},
		talks:      talks{of: make(map[*talk]struct{})},
		streams:    streams{by: make(map[string]*kept)},
		questions:  questions{gateway: o.Name, waiting: make(map[string]map[string]chan jsonrpc.Message)},
		calls:      newCalls(),
		parked:     newParked(),
		limits:     newLimits(o.MaxCallsPerPrincipal),
		lists:      newLists(),
		losses:     losses{of: make(map[loss]struct{})},
	}
	g.admitted = admissions{gateway: g, asks: asks, of: make(map[*admission]struct{})}
	g.standings = standings{gateway: g, of: make(map[string]*standing), updates: newTally()}
	g.leaving, g.leave = context.WithCancelCause(context.Background())
	g.draining, g.drain = context.WithCancelCause(context.Background())
	g.SetJoinHeader(o.JoinHeader)
	if g.routes, err = newRoutes(servers, prefixed, nil); err != nil {
		return nil, err
	}
	g.routes.gateway, g.routes.rights = g, o.Rights
	g.handler = Guard(http.HandlerFunc(g.route), o.AllowedHosts, o.AllowedOrigins)
	return g, nil
}

func (o *Options) check() error {
	if o.MaxBody < 0 {
		return fmt.Errorf("MaxBody is %d: want a positive number of bytes, or 0 for %d", o.MaxBody, DefaultMaxBody)
	}
	if o.Key != nil && len(o.Key) != KeySize {
		return fmt.Errorf("the Key has %d bytes: want %d", len(o.Key), KeySize)
	}
	if o.Name != "" && !serverName.MatchString(o.Name) {
		return fmt.Errorf("the Name is %q: want 1 to 64 letters, digits, '-' and '_'", o.Name)
	}
	if o.MaxCallsPerPrincipal < 0 {
		return fmt.Errorf("MaxCallsPerPrincipal is %d: want a positive number, or 0 for %d", o.MaxCallsPerPrincipal, DefaultMaxCallsPerPrincipal)
	}
	switch o.Prefix {
	case "", PrefixAuto, PrefixAlways, PrefixNever:
	default:
		return fmt.Errorf("Prefix is %q: want %s, %s or %s", o.Prefix, PrefixAuto, PrefixAlways, PrefixNever)
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
func (s *Server) check(before []*backend) error {
	switch {
	case !serverName.MatchString(s.Name):
		return errors.New("want a name of 1 to 64 letters, digits, '-' and '_'")
	case s.Handler == nil:
		return errors.New("it has no handler")
	case s.CallTimeout < 0:
		return fmt.Errorf("CallTimeout is %s: want a positive duration, or 0 for none", s.CallTimeout)
	case s.MaxCalls < 0:
		return fmt.Errorf("MaxCalls is %d: want a positive number, or 0 for %d", s.MaxCalls, DefaultMaxCalls)
	}
	for _, patterns := range [][]string{s.Allow, s.Deny} {
		for _, pattern := range patterns {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				return fmt.Errorf("the pattern %q of Allow or Deny: want the name of a tool, in which * stands for any text", pattern)
			}
		}
	}
	for _, other := range before {
		mine, its := s.Name+separator, other.Name+separator
		if s.Name == other.Name {
			return errors.New("the name is taken")
		}
		if strings.HasPrefix(mine, its) || strings.HasPrefix(its, mine) {
			return fmt.Errorf("its tool names could be those of server %q: rename one", other.Name)
		}
		if strings.EqualFold(s.Name, other.Name) {
			return fmt.Errorf("only its case tells it from server %q, and URIs are read without: rename one", other.Name)
		}
	}
	return nil
}

// ServeHTTP serves all servers at /mcp and each at /mcp/NAME; and the older
// HTTP+SSE at the same paths, to clients that begin with GET, and at /sse and
// /sse/NAME; and programs that [Join]. A modern client's call ends when the
// client goes away; a legacy client's call goes on, until it is cancelled in
// words or answered to nobody (MCP 2025-11-25, basic/transports "Sending
// Messages to the Server"). Hosts and origins are checked as by [Guard]. It
// waits for the client to send and to read what it bounds by deadlines, and
// panics with [http.ErrAbortHandler] where the response cannot be ended as if
// it were whole. Each answer names its request in the header X-Request-Id, see
// [Access].
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		// It holds for a request that is refused too: net/http reads what is left
		// of its body, for the sake of the next one.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime)) // not every writer has one
	}
	rec := newRecord(w, r)
	defer rec.end(g.access)
	g.handler.ServeHTTP(rec, r)
}

// Leave ends the streams on which nothing is awaited, and those of clients over
// HTTP+SSE when their calls are answered, so that clients come back to the
// gateway that takes the place of this one. Those that are opened after it end
// at once. Calls are taken as before; Close ends that.
func (g *Gateway) Leave() {
	g.leave(errClosed)
	g.standings.leave()
}

// Close refuses new calls, over HTTP with status 503, ends streams on which
// nothing is awaited, and waits for the calls in flight. When ctx ends first it
// cancels them and returns an error that says how many they were and wraps the
// cause of ctx, after a second at the most: a handler that does not return when
// its context ends is left behind, and that is an error, too. Calls that are
// parked until their client answers are cancelled at once: it cannot come back.
// Close does not wait for answers over HTTP to be written: shut the HTTP server
// down after it. To those that have joined they are written.
func (g *Gateway) Close(ctx context.Context) error {
	idle := g.calls.close()
	g.joiners.close()
	g.drain(errClosed)
	g.leave(errClosed)
	g.parked.close()
	g.standings.close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-idle
		g.parked.work.Wait()
		g.standings.work.Wait()
		g.joiners.work.Wait()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	var err error
	if n := g.calls.cancelAll(); n > 0 {
		err = fmt.Errorf("gateway: closed with %d calls in flight: %w", n, context.Cause(ctx))
	}
	select {
	case <-ended:
		return err
	case <-time.After(flushTime):
	}
	return cmp.Or(err, fmt.Errorf("gateway: closed while a handler had not returned, or a client that joined had not read: %w", context.Cause(ctx)))
}

// until returns a context that ends with another as well, leaving or draining,
// with errClosed.
func until(ctx, end context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(end, func() { cancel(errClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
