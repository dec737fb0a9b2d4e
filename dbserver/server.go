package dbserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// What Options leave at zero.
const (
	DefaultDatabase    = "main"
	DefaultMaxRows     = 1000
	DefaultMaxBytes    = 64 << 10
	DefaultTimeout     = 30 * time.Second
	DefaultConnections = 8
)

// DefaultLimit is the limit of a read_data call that names none, in rows.
const DefaultLimit = 100

// ErrClosed is the error of a call on a server that has been closed.
var ErrClosed = errors.New("the database server is closed")

// Options say what a server serves. One of DSN and Prepare is needed.
type Options struct {
	// Database is the name that answers call the database by; empty means
	// DefaultDatabase.
	Database string
	// DSN is the database: the path of a SQLite file, sqlite://path, or a
	// file: URL with no other parameters than mode=ro and immutable=1. The
	// file is never created.
	DSN string
	// Prepare, if set, makes the database and returns its DSN. It is called
	// in place of DSN before the first call, and again after a failure, never
	// twice at a time. ctx ends with Close, and after 30 s.
	Prepare func(ctx context.Context) (dsn string, err error)
	// MaxRows is the most rows of an answer, whatever limit a call names; zero
	// means DefaultMaxRows.
	MaxRows int
	// MaxBytes is the most bytes of JSON that the rows of an answer take up;
	// zero means DefaultMaxBytes.
	MaxBytes int
	// Timeout is how long a statement may run; zero means DefaultTimeout.
	Timeout time.Duration
	// Connections is the most connections to the database, which is how many
	// calls run at a time; zero means DefaultConnections.
	Connections int
	// Log receives what happens to the database, never SQL or data; nil means
	// no log.
	Log *slog.Logger
}

// A Server is the database server. It is an [rpc.Handler].
type Server struct {
	options Options
	log     *slog.Logger

	life context.Context // ends with Close, with the cause ErrClosed
	end  context.CancelCauseFunc

	work sync.WaitGroup // calls and the opening under way

	mu      sync.Mutex // guards what follows; nothing waits under it
	closed  bool
	open    *database // nil until opened
	opening *opening  // nil while nobody opens

	closing  sync.Once
	closeErr error
}

var _ rpc.Handler = (*Server)(nil)

// New returns a server. It does no I/O: the database is opened by the first
// call that needs it, once for all that wait, and again by the next call if
// that failed. The error says which option makes no sense.
func New(options Options) (*Server, error) {
	o := options
	if (o.DSN == "") == (o.Prepare == nil) {
		return nil, errors.New("dbserver: one of DSN and Prepare is needed")
	}
	if o.Prepare == nil {
		if _, err := parseDSN(o.DSN); err != nil {
			return nil, fmt.Errorf("dbserver: %w", err)
		}
	}
	if o.MaxRows < 0 || o.MaxBytes < 0 || o.Timeout < 0 || o.Connections < 0 {
		return nil, errors.New("dbserver: MaxRows, MaxBytes, Timeout and Connections cannot be negative")
	}
	if o.Database == "" {
		o.Database = DefaultDatabase
	}
	if o.MaxRows == 0 {
		o.MaxRows = DefaultMaxRows
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Connections == 0 {
		o.Connections = DefaultConnections
	}
	s := &Server{options: o, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.life, s.end = context.WithCancelCause(context.Background())
	return s, nil
}

// Connections returns how many calls run at a time. More wait, up to 5 s.
func (s *Server) Connections() int { return s.options.Connections }

// Do serves server/discover, tools/list and tools/call; any other method, and a
// tool that does not exist, is an [*rpc.Error]. ctx ends a running statement: the error is
// then its cause. After Close the error is [ErrClosed].
func (s *Server) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	if err := s.begin(); err != nil {
		return rpc.Answer{}, err
	}
	defer s.work.Done()
	switch call.Method {
	case "server/discover":
		return rpc.Result(introduction), nil
	case "tools/list":
		return rpc.Result(toolset().list), nil
	case "tools/call":
		return s.callTool(ctx, call.Params)
	}
	return rpc.Answer{}, rpc.Errorf(rpc.CodeMethodNotFound,
		"method %q is unknown: a database server has server/discover, tools/list and tools/call", call.Method)
}

// introduction is what the server says that it can do. It speaks no version of
// the protocol itself: whoever serves it does.
var introduction = json.RawMessage(`{"supportedVersions":[],"capabilities":{"tools":{}}}`)

// begin counts one more piece of work, unless the server is closed.
func (s *Server) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.work.Add(1)
	return nil
}

// Close ends the calls under way, which answer with the error CANCELLED, waits
// for them, and closes the database. Later calls of Close return what the first
// did.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.end(ErrClosed)
		s.work.Wait()
		if s.open != nil {
			s.closeErr = s.open.Close()
		}
	})
	return s.closeErr
}
