package gateway

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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
	return g.serveLines(ctx, g.now().all, "", in, out, nil)
}

// serveLines serves a client as ServeStdio does. When leave is closed requests
// are left unanswered that are not made, and it returns nil when the others have
// been answered: the client goes on elsewhere.
func (g *Gateway) serveLines(ctx context.Context, e *endpoint, principal string, in io.Reader, out io.Writer, leave <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &lineWriter{lines: make(chan []byte, maxQueued), last: make(chan struct{}), ended: ctx.Done()}
	transport := "stdio"
	if leave != nil {
		transport = "joined"
	}
	talk := g.newTalk(e, principal, transport, w)
	talk.leave = leave
	defer talk.end()

	written := make(chan struct{})
	go func() {
		defer close(written)
		if err := w.write(out); err != nil {
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
			case <-w.ended:
				return false
			}
		})
	}()

	err := talk.lines(ctx, lines)
	close(talk.hungUp)
	talk.calls.Wait()
	close(w.last)
	select {
	case <-written:
		return cmp.Or(err, context.Cause(ctx))
	case <-w.ended:
	}
	select {
	case <-written:
	case <-time.After(flushTime):
	}
	return cmp.Or(err, context.Cause(ctx))
}

// lines takes lines until there are no more, or nothing is left to answer after
// leave, then returns nil, or until ctx ends, then returns its cause.
func (t *talk) lines(ctx context.Context, lines <-chan line) error {
	leave := t.leave
	var answered chan struct{}
	for {
		select {
		case <-leave:
			leave, answered = nil, make(chan struct{})
			// No more calls begin, so that their number only falls.
			go func() {
				defer close(answered)
				t.calls.Wait()
			}()
		case <-answered:
			return nil
		case l, ok := <-lines:
			if !ok {
				return context.Cause(ctx)
			}
			if l.err != nil {
				if errors.Is(l.err, errTooLong) {
					t.send(jsonrpc.AppendError(nil, nil, rpc.Errorf(rpc.CodeInvalidRequest, "%v of %d bytes", l.err, t.gateway.maxBody)))
					continue
				}
				return fmt.Errorf("read from the client: %w", l.err)
			}
			t.receive(ctx, l.frame)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A lineWriter writes frames on lines. It implements outlet.
type lineWriter struct {
	lines chan []byte
	last  chan struct{}   // closed when all answers are in lines
	ended <-chan struct{} // the client is gone
}

// write writes what is in lines, until it fails or all answers are written.
func (o *lineWriter) write(w io.Writer) error {
	for {
		select {
		case frame := <-o.lines:
			if _, err := w.Write(frame); err != nil {
				return err
			}
		case <-o.last:
			if len(o.lines) == 0 {
				return nil
			}
		}
	}
}

// send sends a frame, unless the client is gone first.
func (o *lineWriter) send(frame []byte) {
	select {
	case o.lines <- append(frame, '\n'):
	case <-o.ended:
	}
}

// event sends a frame if there is room, without blocking.
func (o *lineWriter) event(frame []byte) {
	select {
	case o.lines <- append(frame, '\n'):
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
