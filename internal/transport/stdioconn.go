package transport

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// maxReplies bounds how many responses of ours wait for a child to read them.
// Beyond it they are dropped: a child that does not read gets no answers.
const maxReplies = 16

// A stdioConn is a connection over the standard input and output of a child,
// one JSON-RPC message on a line (MCP 2025-11-25, transports, "stdio").
//
// Three goroutines own it: one reads, one writes, one waits for the end,
// whether it comes from Close or from the child.
type stdioConn struct {
	*life
	flights
	child    *child
	protocol protocol
	peer     Peer
	grace    time.Duration
	limit    int // of a message, in bytes
	log      *slog.Logger
	ids      atomic.Int64
	blot     *blotter
	opened   atomic.Bool

	queue   chan *outgoing // unbuffered: what is taken is being written
	replies chan []byte

	died      chan struct{} // closed when the child died by itself
	ending    chan struct{} // closed when nothing more is to be written
	readDone  chan struct{}
	writeDone chan struct{}
	ended     chan struct{} // closed when all of it is over

	lost error // why the reader has given up; set before readDone is closed
}

// An outgoing is a frame to be written.
type outgoing struct {
	frame []byte
	begun bool // some of it was written; set by the writer, read after ended
}

func (e *stdioEndpoint) startConn() (*stdioConn, error) {
	c := &stdioConn{
		life:      newLife(e.command.Changed),
		protocol:  e.protocol,
		grace:     e.command.CloseGrace,
		limit:     e.command.MaxMessageBytes,
		log:       e.command.Log,
		blot:      e.blot,
		queue:     make(chan *outgoing),
		replies:   make(chan []byte, maxReplies),
		died:      make(chan struct{}),
		ending:    make(chan struct{}),
		readDone:  make(chan struct{}),
		writeDone: make(chan struct{}),
		ended:     make(chan struct{}),
	}
	c.flights.link, c.flights.quote, c.flights.log = c, excerpt, c.log
	var err error
	if c.child, err = startChild(e.command, e.blot, c.spawn); err != nil {
		return nil, err
	}
	c.spawn(c.read)
	c.spawn(c.write)
	c.spawn(c.attend)
	return c, nil
}

func (c *stdioConn) Peer() Peer                { return c.peer }
func (c *stdioConn) Done() <-chan struct{}     { return c.died }
func (c *stdioConn) Close(ctx context.Context) { c.close(ctx, func() {}) }

func (c *stdioConn) Call(ctx context.Context, call rpc.Call, _ Authorize) (rpc.Answer, error) {
	result, err := withInput(ctx, call, func(call rpc.Call) (json.RawMessage, error) {
		return c.exchange(ctx, c.peer.Era, call, false)
	})
	if err != nil {
		return rpc.Answer{}, err
	}
	if c.peer.Era == Modern {
		return rpc.ModernResult(result), nil
	}
	return rpc.LegacyResult(result), nil
}

func (c *stdioConn) Check(ctx context.Context) error {
	_, err := c.exchange(ctx, c.peer.Era, checkCall(c.peer.Era), true)
	return checked(err)
}

// exchange makes one request and takes in what comes for it until the answer.
// own tells that it is none of a caller's.
func (c *stdioConn) exchange(ctx context.Context, era Era, call rpc.Call, own bool) (json.RawMessage, error) {
	if !c.enter() {
		return nil, &Failure{Fate: NotSent, Dead: true, Err: errClosed}
	}
	defer c.leave()
	f, err := c.depart(ctx, era, call, own)
	if err != nil {
		return nil, err
	}
	defer c.land(f)
	answered, result, err := c.await(ctx, f, nil)
	if failure := (*Failure)(nil); errors.As(err, &failure) {
		switch {
		case answered != nil: // it is about what the child said
			failure.Err = c.blot.error(failure.Err)
		case ctx.Err() != nil && call.Method != methodInitialize:
			failure.Settled = c.withdraw(cancelled(f.x.id, context.Cause(ctx)))
		}
	}
	return result, err
}

// withdraw tells the child in the background that a call is over. The channel
// is closed when the child has answered what was sent after that, so has heard
// it, or will not answer.
func (c *stdioConn) withdraw(frame []byte) <-chan struct{} {
	done := make(chan struct{})
	c.spawn(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(c.last, withdrawTime)
		defer cancel()
		err := c.send(ctx, frame)
		if err == nil {
			err = c.Check(ctx)
		}
		if err != nil {
			c.log.Debug("a cancelled call was not withdrawn", "error", err)
		}
	})
	return done
}

// depart begins an exchange: its frame is on its way when depart returns.
func (c *stdioConn) depart(ctx context.Context, era Era, call rpc.Call, own bool) (*flight, error) {
	x := newExchange(c.ids.Add(1), era, call, c, c.log)
	frame, err := x.frame(call)
	if err != nil {
		return nil, err
	}
	if x.leveled() {
		if err := c.raise(ctx, x, c.peer.Hello, func(ctx context.Context, call rpc.Call) error {
			_, err := c.exchange(ctx, Legacy, call, true)
			return err
		}); err != nil {
			return nil, err
		}
	}
	f := c.board(x, oneLine(frame), own)
	if failure := c.hand(ctx, &f.outgoing); failure != nil {
		c.land(f)
		return nil, failure
	}
	return f, nil
}

// hand gives a frame to the writer. A frame that it has not taken, because the
// child does not read or is gone, is not sent.
func (c *stdioConn) hand(ctx context.Context, out *outgoing) *Failure {
	if ctx.Err() != nil {
		return &Failure{Fate: NotSent, Err: context.Cause(ctx)}
	}
	select {
	case c.queue <- out:
		return nil
	case <-ctx.Done():
		return &Failure{Fate: NotSent, Err: context.Cause(ctx)}
	case <-c.ctx.Done():
		return &Failure{Fate: NotSent, Dead: true, Err: errClosed}
	case <-c.writeDone:
		return &Failure{Fate: NotSent, Dead: true, Err: c.gone()}
	}
}

// send writes a notification.
func (c *stdioConn) send(ctx context.Context, frame []byte) error {
	if failure := c.hand(ctx, &outgoing{frame: oneLine(frame)}); failure != nil {
		return failure
	}
	return nil
}

// reply implements link.
func (c *stdioConn) reply(frame []byte, _ Authorize) {
	select {
	case c.replies <- oneLine(frame):
	default:
		c.log.Debug("a response was dropped: the child does not read")
	}
}

// await takes in what comes for one flight or two, b may be nil, and returns
// the first that is answered. If none is, the error is a *Failure.
func (c *stdioConn) await(ctx context.Context, a, b *flight) (*flight, json.RawMessage, error) {
	flights := []*flight{a}
	var second chan struct{}
	if b != nil {
		flights, second = append(flights, b), b.arrived
	}
	var failure *Failure
	for {
		// An answer that is there counts, whatever else has happened. It may be
		// there without its token: await returns one answer at a time.
		for _, f := range flights {
			if result, answered, err := f.deliver(ctx); answered {
				return f, result, err
			}
		}
		if failure != nil {
			return nil, nil, failure
		}
		select {
		case <-a.arrived:
		case <-second:
		case <-ctx.Done():
			failure = &Failure{Fate: MayHaveRun, Err: context.Cause(ctx)}
		case <-c.ctx.Done():
			failure = &Failure{Fate: MayHaveRun, Dead: true, Err: errClosed}
		case <-c.ended:
			failure = &Failure{Fate: NotSent, Dead: true, Err: c.gone()}
			if a.begun {
				failure.Fate = MayHaveRun
			}
		}
	}
}

// gone says why no more calls can be made.
func (c *stdioConn) gone() error {
	select {
	case <-c.readDone:
		if c.lost != nil {
			return c.lost
		}
	default:
	}
	return c.child.gone()
}

// attend waits for the end of the connection, by Close or by itself, and sees
// to it that nothing is left.
func (c *stdioConn) attend() {
	died := true
	select {
	case <-c.ctx.Done():
		died = false
	case <-c.readDone:
	case <-c.writeDone:
	case <-c.child.exited:
	}
	if died {
		close(c.died)
	}
	close(c.ending)
	c.child.end(c.readDone, c.last.Done(), c.grace)
	<-c.writeDone
	if died && c.opened.Load() { // otherwise Open says it
		c.log.Warn("the child has ended by itself", "error", c.gone(), "last words", c.child.lastWords())
	}
	close(c.ended)
}

func (c *stdioConn) write() {
	defer close(c.writeDone)
	for {
		var err error
		select {
		case out := <-c.queue:
			var n int
			n, err = c.child.stdin.Write(out.frame)
			out.begun = n > 0
		case frame := <-c.replies:
			_, err = c.child.stdin.Write(frame)
		case <-c.ending:
			return
		}
		if err != nil {
			return
		}
	}
}

func (c *stdioConn) read() {
	defer close(c.readDone)
	in := bufio.NewReaderSize(hearing{c.child.stdout, c.life}, 64<<10)
	for {
		line, err := readLine(in, c.limit)
		if line.cut {
			if c.lost = c.routeCut(line.text, line.tail, tooLarge(c.limit)); c.lost != nil {
				return
			}
		} else {
			c.routeAll(line.text)
		}
		if err != nil {
			return
		}
	}
}

// oneLine ends a frame with the newline that delimits it, and makes sure that
// it has no other: in JSON one can only be space between tokens.
func oneLine(frame []byte) []byte {
	for i, b := range frame {
		if b == '\n' || b == '\r' {
			frame[i] = ' '
		}
	}
	return append(frame, '\n')
}
