package gateway

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// flushTime is how long answers that are ready may take to be written when
// ServeStdio has been told to end.
const flushTime = time.Second

// ServeStdio serves all servers to one client that writes frames to in and
// reads them from out, one per line, with tools named as at /mcp. Calls run
// concurrently. Whatever the client's era, its calls have one session, which
// ends with ServeStdio.
//
// It returns nil at the end of in, when all calls have been answered. When ctx
// ends, calls are cancelled and the cause of ctx is returned; when out fails,
// they are cancelled and its error is returned. In these two cases a Read of
// in or a Write to out may be left behind, blocked, as nothing but their owner
// can end it: close both.
func (g *Gateway) ServeStdio(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &stdio{
		gateway: g,
		session: rand.Text(),
		out:     make(chan []byte, maxQueued),
		last:    make(chan struct{}),
		ended:   ctx.Done(),
	}
	defer g.all.endSession(c.session)

	written := make(chan struct{})
	go func() {
		defer close(written)
		if err := c.write(out); err != nil {
			cancel(fmt.Errorf("write to the client: %w", err))
		}
	}()
	lines := make(chan line)
	go func() {
		defer close(lines)
		readLines(bufio.NewReader(in), g.maxBody, func(l line) bool {
			select {
			case lines <- l:
				return true
			case <-c.ended:
				return false
			}
		})
	}()

	err := c.serve(ctx, lines)
	c.calls.Wait()
	close(c.last)
	select {
	case <-written:
		return cmp.Or(err, context.Cause(ctx))
	case <-c.ended:
	}
	select {
	case <-written:
	case <-time.After(flushTime):
	}
	return cmp.Or(err, context.Cause(ctx))
}

// stdio is one client over stdio.
type stdio struct {
	gateway     *Gateway
	session     string
	initialized bool           // the client has sent initialize: it is legacy, or both
	calls       sync.WaitGroup // requests that are being answered
	out         chan []byte    // lines for the client
	last        chan struct{}  // closed when all answers are in out
	ended       <-chan struct{}
}

// write writes what is in out, until it fails or all answers are written.
func (c *stdio) write(w io.Writer) error {
	for {
		select {
		case frame := <-c.out:
			if _, err := w.Write(frame); err != nil {
				return err
			}
		case <-c.last:
			if len(c.out) == 0 {
				return nil
			}
		}
	}
}

// serve takes lines until there are no more, then returns nil, or until ctx
// ends, then returns its cause.
func (c *stdio) serve(ctx context.Context, lines <-chan line) error {
	for {
		select {
		case l, ok := <-lines:
			if !ok {
				return context.Cause(ctx)
			}
			if l.err != nil {
				if errors.Is(l.err, errTooLong) {
					c.send(jsonrpc.AppendError(nil, nil, rpc.Errorf(rpc.CodeInvalidRequest, "%v of %d bytes", l.err, c.gateway.maxBody)))
					continue
				}
				return fmt.Errorf("read from the client: %w", l.err)
			}
			c.receive(ctx, l.frame)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// receive takes one frame of the client.
func (c *stdio) receive(ctx context.Context, frame []byte) {
	msg, err := parse(frame)
	switch {
	case err != nil:
		c.send(jsonrpc.AppendError(nil, msg.ID, frameError(err)))
	case msg.IsResponse():
		// It answers nothing and cannot be answered.
	case msg.IsNotification():
		if msg.Method == notifyCancelled {
			c.gateway.cancelled(c.session, msg.Params)
		}
	default:
		c.request(ctx, msg)
	}
}

// request starts to answer a request.
func (c *stdio) request(ctx context.Context, msg *message) {
	era := legacy
	begins := msg.Method == methodInitialize || msg.Method == methodPing
	if msg.isModern("") || !c.initialized && !begins {
		// Who has not begun as legacy clients do is held to what modern ones say.
		era = modern
		if err := msg.checkModern(nil); err != nil {
			c.send(jsonrpc.AppendError(nil, msg.ID, err))
			return
		}
	}
	if era == legacy && msg.Method == methodInitialize {
		c.initialized = true
	}
	q := newRequest(c.gateway.all, era, c.session, msg)
	q.emit = c.event
	// Counted in before the next line is read, which may cancel it.
	ctx, this, err := c.gateway.calls.begin(ctx, keyOf(q.session, q.id))
	if err != nil {
		c.send(jsonrpc.AppendError(nil, q.id, wireError(err, era)))
		return
	}
	c.calls.Go(func() {
		result, err := c.gateway.run(ctx, q)
		// Before the answer, with which the client may use the id again.
		c.gateway.calls.end(this)
		switch {
		case err == nil:
			c.send(jsonrpc.AppendResult(nil, q.id, result))
		case errors.Is(err, errCancelled):
			// Nothing is sent for it (MCP 2025-11-25, basic/utilities/cancellation;
			// 2026-07-28, basic/transports/stdio "Cancellation").
		default:
			c.send(jsonrpc.AppendError(nil, q.id, wireError(err, era)))
		}
	})
}

// send sends a frame, unless the client is gone first.
func (c *stdio) send(frame []byte) {
	select {
	case c.out <- append(oneLine(frame), '\n'):
	case <-c.ended:
	}
}

// event sends a frame if there is room, without blocking.
func (c *stdio) event(frame []byte) {
	select {
	case c.out <- append(frame, '\n'):
	default:
	}
}

// errTooLong is a line that is longer than it may be. The lines after it are
// read as if it had not been.
var errTooLong = errors.New("a line is longer than the bound")

// A line is a line of the client that is not blank, or why there is none.
type line struct {
	frame []byte
	err   error
}

// readLines calls yield with each line, until yield returns false or there are
// no more: at the end of r, or after an error other than errTooLong.
func readLines(r *bufio.Reader, most int64, yield func(line) bool) {
	for {
		var frame []byte
		tooLong := false
		var err error
		for more := true; more; {
			var part []byte
			part, err = r.ReadSlice('\n')
			more = errors.Is(err, bufio.ErrBufferFull)
			if int64(len(frame)+len(part))-1 > most { // without the line break
				frame, tooLong = nil, true
			}
			if !tooLong {
				frame = append(frame, part...)
			}
		}
		switch {
		case tooLong && !yield(line{err: errTooLong}):
			return
		case !tooLong && len(bytes.TrimSpace(frame)) > 0 && !yield(line{frame: frame}):
			return
		}
		if err != nil {
			if err != io.EOF {
				yield(line{err: err})
			}
			return
		}
	}
}
