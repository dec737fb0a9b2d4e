package dbserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/seal"
	"github.com/mcpool-dev/mcpool/rpc"
)

// ErrClosed is the error of a call on a server that has been closed.
var ErrClosed = errors.New("the database server is closed")

// Keys of log attributes.
const (
	keyDatabase = "database"
	keyTool     = "tool"
	keyCode     = "code"
	keyElapsed  = "elapsed"
	keyError    = "error"
)

// A Server is the database server. It is an [rpc.Handler].
type Server struct {
	databases []*database
	tools     *toolset
	spools    *spools      // with those of other servers, see Next
	spent     *spentTokens // so, too
	readers   *readers
	sealer    seal.Sealer
	handleTTL time.Duration
	log       *slog.Logger
	audit     *auditLog // nil for none

	life context.Context // ends with Close, with the cause ErrClosed
	end  context.CancelCauseFunc
	work sync.WaitGroup // calls under way

	mu     sync.Mutex // guards closed, and work from growing after it
	closed bool

	closing  sync.Once
	closeErr error
}

// A database is one that is served, and its engine.
type database struct {
	Database
	engine  engine.Database
	turns   *turns // of engine
	opens   int    // connections that it and the databases of the same server may have
	ended   results
	spooled atomic.Uint64               // rows that were kept behind pages
	known   atomic.Pointer[engine.Info] // of when it was ready last; nil for never

	life    context.Context // of what is read behind answers
	end     context.CancelCauseFunc
	serving atomic.Int32 // servers that have it and do not close
	users   atomic.Int32 // servers that have it and are not closed
}

var _ rpc.Handler = (*Server)(nil)

// New returns a server. It does no I/O but that it opens the audit's file: a
// database is opened by the first call that needs it. The error says which
// option makes no sense.
func New(options Options) (*Server, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	s := &Server{sealer: seal.New(options.Key), spent: new(spentTokens)}
	s.spools = newSpools(s.sealer)
	return s.begun(options, nil)
}

// begun has a server begin to serve what options say, and what it shares with
// another. With an error it is closed.
func (s *Server) begun(options Options, shared []*database) (*Server, error) {
	s.handleTTL = options.HandleTTL
	if s.log = options.Log; s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.life, s.end = context.WithCancelCause(context.Background())
	for _, d := range options.Databases {
		if err := s.add(d, options.MaxCallsPerPrincipal, shared); err != nil {
			return nil, errors.Join(fmt.Errorf("dbserver: database %s: %w", d.Name, err), s.Close())
		}
	}
	connections := 0
	for _, d := range s.databases {
		connections += d.MaxConnections
		for _, other := range s.databases {
			if d == other || d.server() != "" && d.server() == other.server() {
				d.opens += other.mayOpen()
			}
		}
	}
	s.readers = newReaders(connections, s.life.Done(), &s.work)
	s.tools = newToolset(s.databases)
	for _, c := range options.Tools {
		if err := s.addCustom(c); err != nil {
			return nil, errors.Join(fmt.Errorf("dbserver: tool %s: %w", c.Name, err), s.Close())
		}
	}
	s.tools.seal()
	if options.Audit != nil {
		var err error
		if s.audit, err = openAudit(*options.Audit); err != nil {
			return nil, errors.Join(fmt.Errorf("dbserver: %w", err), s.Close())
		}
	}
	return s, nil
}

func (s *Server) add(options Database, each int, shared []*database) error {
	d, err := options.withDefaults()
	if err != nil {
		return err
	}
	if named(s.databases, d.Name) != nil {
		return errors.New("there is another of its name")
	}
	if db := named(shared, d.Name); db != nil {
		db.use()
		s.databases = append(s.databases, db)
		return nil
	}
	db := &database{Database: d}
	opened, err := db.newEngine(s.log)
	if err != nil {
		return err
	}
	db.turns = newTurns(d.MaxConnections, each, d.AcquireTimeout)
	db.engine = inTurns{opened, db.turns, &db.ended}
	db.life, db.end = context.WithCancelCause(context.Background())
	db.use()
	s.databases = append(s.databases, db)
	return nil
}

// named returns the database of a name, nil for none.
func named(databases []*database, name string) *database {
	for _, d := range databases {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// use counts in a server that has the database.
func (d *database) use() {
	d.serving.Add(1)
	d.users.Add(1)
}

// leave counts out a server that begins to close. Without another one reading
// behind answers ends.
func (d *database) leave() {
	if d.serving.Add(-1) == 0 {
		d.end(ErrClosed)
	}
}

// close counts out a server that is closed. It closes the engine if there is no
// other one.
func (d *database) close(kept *spools) error {
	if d.users.Add(-1) > 0 {
		return nil
	}
	kept.dropOf(d)
	return d.engine.Close()
}

// Do serves server/discover, tools/list, tools/call, and the methods of
// resources; any other method, and a tool that does not exist, is an [*rpc.Error]. ctx ends a running statement:
// the error is then its cause. After Close the error is [ErrClosed].
func (s *Server) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	if err := s.begin(); err != nil {
		return rpc.Answer{}, err
	}
	defer s.work.Done()
	switch call.Method {
	case "server/discover":
		return rpc.Result(introduction), nil
	case "tools/list":
		return rpc.Result(s.tools.list), nil
	case "tools/call":
		return s.callTool(ctx, call)
	case "resources/list":
		return rpc.Result(s.resources()), nil
	case "resources/templates/list":
		return rpc.Result(s.resourceTemplates()), nil
	case "resources/read":
		return s.readResource(ctx, call)
	}
	return rpc.Answer{}, rpc.Errorf(rpc.CodeMethodNotFound,
		"method %q is unknown: a database server has server/discover, tools and resources", call.Method)
}

// introduction is what the server says that it can do. It speaks no version of
// the protocol itself: whoever serves it does.
var introduction = json.RawMessage(`{"supportedVersions":[],"capabilities":{"tools":{},"resources":{}}}`)

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
// for them, and closes the databases. What is shared with another server, see
// [Server.Next], stays open: for rows of such databases that are read behind
// answers Close waits, 5 s at most. Later calls of Close return what the first
// did.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.end(ErrClosed)
		for _, d := range s.databases {
			d.leave()
		}
		s.work.Wait()
		var errs []error
		for _, d := range s.databases {
			errs = append(errs, d.close(s.spools))
		}
		errs = append(errs, s.spools.close())
		if s.audit != nil {
			errs = append(errs, s.audit.close())
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}
