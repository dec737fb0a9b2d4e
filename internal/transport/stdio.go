package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// DefaultCloseGrace is the CloseGrace of a [Command] that has none. Servers
// that obey are gone within a few milliseconds, and those that do not, do not
// obey later either.
const DefaultCloseGrace = 300 * time.Millisecond

// probeSilence is how long a child may leave server/discover unanswered before
// it is sent initialize as well: some legacy servers ignore what they do not
// know (MCP 2026-07-28, stdio, "Backward Compatibility").
const probeSilence = 2 * time.Second

// A Command is a server that runs as a child process and speaks over its
// standard input and output. Each connection is a child of its own.
type Command struct {
	Path string   // the program; looked up in our PATH if it has no slash
	Args []string // its arguments, without its name
	// Inherited and Env are its whole environment, as "KEY=value"; of two values
	// the last counts. Those of Env are its own: they are kept out of what is
	// logged, and of errors, as are arguments that look like secrets (see
	// blotter).
	Inherited, Env []string
	Dir            string // where it runs; empty means where we do
	// CloseGrace is how long the child has to exit when its input is closed,
	// and again when its process group has been sent SIGTERM; then the group is
	// killed. Zero means DefaultCloseGrace.
	CloseGrace time.Duration
	// Changed is told of changes, whatever they come in; nil for nobody. It
	// must be quick and safe for concurrent use.
	Changed func(Change)
	// Protocol is the one MCP version to speak; "" for the best that the
	// server speaks.
	Protocol string
	// MaxMessageBytes bounds one message of the child. A larger one fails its
	// call alone, or ends the connection if it does not say whose answer it is.
	// Zero means [DefaultMaxMessageBytes].
	MaxMessageBytes int
	// Log gets what the child writes to stderr, at level Debug; what it writes
	// to stdout that is no message; and its last words when it ends by itself,
	// both at level Warn. Nil means none.
	Log *slog.Logger
}

// Stdio returns the endpoint of a server that is a child process. A command
// that does not exist is an error of Open.
func Stdio(command Command) (*Endpoint, error) {
	if command.Path == "" {
		return nil, errors.New("the command of the server is empty")
	}
	if command.CloseGrace < 0 {
		return nil, fmt.Errorf("the close grace of the server is negative: %v", command.CloseGrace)
	}
	var err error
	if command.MaxMessageBytes, err = messageLimit(command.MaxMessageBytes); err != nil {
		return nil, err
	}
	if command.CloseGrace == 0 {
		command.CloseGrace = DefaultCloseGrace
	}
	if command.Log == nil {
		command.Log = slog.New(slog.DiscardHandler)
	}
	version, err := parseProtocol(command.Protocol)
	if err != nil {
		return nil, err
	}
	command.Args = slices.Clone(command.Args)
	command.Inherited, command.Env = slices.Clone(command.Inherited), slices.Clone(command.Env)
	blot := newBlotter(command.Env, command.Args)
	command.Log = blot.logger(command.Log)
	return &Endpoint{opener: &stdioEndpoint{command, version, blot, probeSilence}}, nil
}

type stdioEndpoint struct {
	command  Command
	protocol protocol
	blot     *blotter
	silence  time.Duration // probeSilence, but for tests
}

func (e *stdioEndpoint) close() {}

func (e *stdioEndpoint) open(ctx context.Context, known Known, caps rpc.Capabilities, _ Authorize) (Conn, error) {
	c, err := e.start()
	if err != nil {
		return nil, err
	}
	switch era, given := e.protocol.era(known); era {
	case Modern:
		// It is asked though it is known: a child that does not start is to
		// fail its opening, and not a call.
		err = c.openModern(ctx, given)
	case Legacy:
		err = c.openLegacy(ctx, caps, given)
	default:
		var ended bool
		if ended, err = c.openUnknown(ctx, caps, e.silence); ended && ctx.Err() == nil {
			// Some legacy servers exit when anything but initialize comes first.
			c.Close(ctx)
			if c, err = e.start(); err != nil {
				return nil, err
			}
			err = c.openLegacy(ctx, caps, false)
		}
	}
	if err != nil {
		return c, c.openError(ctx, err)
	}
	c.opened.Store(true)
	return c, nil
}

func (e *stdioEndpoint) start() (*stdioConn, error) {
	c, err := e.startConn()
	if err != nil {
		// Limits of the system pass; a command that is not there does not come.
		permanent := errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) ||
			errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC)
		return nil, &OpenError{Permanent: permanent, Err: fmt.Errorf("starting the server: %w", err)}
	}
	return c, nil
}

// openModern opens a connection to a server that is taken to be modern. given
// tells that it was found to be so before.
func (c *stdioConn) openModern(ctx context.Context, given bool) error {
	result, err := c.exchange(ctx, Modern, rpc.Call{Method: methodDiscover}, true)
	if !c.settleModern(result, err) {
		if noAnswer(err) {
			return err
		}
		return c.protocol.wrong(given, fmt.Errorf("%s does not speak MCP %s", c.child.name, modernVersion))
	}
	return nil
}

// openLegacy opens a connection to a legacy server. given tells that the era
// was not asked for just now.
func (c *stdioConn) openLegacy(ctx context.Context, caps rpc.Capabilities, given bool) error {
	result, err := c.exchange(ctx, Legacy, initializeCall(caps, c.protocol.legacy()), true)
	return c.settleLegacy(ctx, result, err, given)
}

// openUnknown opens a connection to a server of either era: it asks for the
// modern one, and for the legacy one as well if the server is silent or says
// no. ended reports that the child has ended, perhaps on the first question.
func (c *stdioConn) openUnknown(ctx context.Context, caps rpc.Capabilities, silence time.Duration) (ended bool, err error) {
	if !c.enter() {
		return false, errClosed
	}
	defer c.leave()
	discover, err := c.depart(ctx, Modern, rpc.Call{Method: methodDiscover}, true)
	if err != nil {
		return isDead(err), err
	}
	defer c.land(discover)
	quiet, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	first, result, err := c.await(quiet, discover, nil)
	switch {
	case first != nil && c.settleModern(result, err):
		return false, nil
	case first != nil:
		return false, c.openLegacy(ctx, caps, false)
	case isDead(err) || ctx.Err() != nil:
		return isDead(err), err
	}

	initialize, err := c.depart(ctx, Legacy, initializeCall(caps, c.protocol.legacy()), true)
	if err != nil {
		return isDead(err), err
	}
	defer c.land(initialize)
	first, result, err = c.await(ctx, discover, initialize)
	if first == discover {
		if c.settleModern(result, err) {
			return false, nil
		}
		_, result, err = c.await(ctx, initialize, nil)
	}
	if isDead(err) { // it was slow to read the first, and has exited on that
		return true, err
	}
	if refused := (*rpc.Error)(nil); errors.As(err, &refused) && first == initialize && knowsNoInitialize(refused) {
		// It may be modern and slow, and the answer to the first still to come.
		if first, result, late := c.await(ctx, discover, nil); first != nil && c.settleModern(result, late) {
			return false, nil
		}
	}
	return false, c.settleLegacy(ctx, result, err, false)
}

// settleModern makes the connection a modern one if the answer to
// server/discover says so.
func (c *stdioConn) settleModern(result json.RawMessage, err error) bool {
	var refused *rpc.Error
	switch {
	case errors.As(err, &refused) && modernAfterAll(refused):
		c.peer = Peer{Protocol: modernVersion, Era: Modern}
	case err != nil:
		return false
	default:
		peer, modern := readDiscover(result)
		if !modern {
			return false
		}
		c.peer = peer
	}
	c.peer.Stdio = true
	return true
}

// settleLegacy makes the connection a legacy one if initialize was accepted.
func (c *stdioConn) settleLegacy(ctx context.Context, result json.RawMessage, err error, given bool) error {
	if refused := (*rpc.Error)(nil); errors.As(err, &refused) {
		return initializeRefused(refused, excerpt([]byte(refused.Error())), given)
	}
	if err != nil {
		return err
	}
	if c.peer, err = readInitialize(result, excerpt(result)); err != nil {
		return err
	}
	c.peer.Stdio = true
	return c.send(ctx, initializedFrame())
}

// openError says what a failed opening means, with the last words of the child.
func (c *stdioConn) openError(ctx context.Context, err error) *OpenError {
	open := &OpenError{Err: err}
	if already := (*OpenError)(nil); errors.As(err, &already) {
		*open = *already
	} else if failure := (*Failure)(nil); errors.As(err, &failure) {
		open.Err = failure.Err // the fate of the request is of no interest
	}
	if ctx.Err() != nil {
		open.Err = fmt.Errorf("opening: %w", context.Cause(ctx))
	}
	open.Err = fmt.Errorf("%s: %w", c.child.name, c.blot.error(open.Err))
	if said := c.child.lastWords(); said != "" {
		open.Err = fmt.Errorf("%w; its last words:\n%s", open.Err, said)
	}
	return open
}

// noAnswer reports whether an exchange ended without any answer.
func noAnswer(err error) bool {
	failure := (*Failure)(nil)
	return errors.As(err, &failure)
}

func isDead(err error) bool {
	failure := (*Failure)(nil)
	return errors.As(err, &failure) && failure.Dead
}
