package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// An sseConn is a connection over the HTTP+SSE transport (MCP 2024-11-05,
// transports, "HTTP with SSE"). All that the server says comes over one event
// stream, which is the session: there is no other once it has ended. What we
// say is posted to the endpoint that the stream begins with, as an httpConn
// posts it.
type sseConn struct {
	*httpConn
	flights
	met    Peer
	stream *http.Response
	events *eventReader

	died chan struct{} // closed when the stream has ended by itself
	why  error         // it has; set before died is closed
}

func (c *sseConn) Peer() Peer            { return c.met }
func (c *sseConn) Done() <-chan struct{} { return c.died }

func (c *sseConn) Call(ctx context.Context, call rpc.Call, authorize Authorize) (rpc.Answer, error) {
	result, err := c.exchange(ctx, call, false, authorize)
	if err != nil {
		return rpc.Answer{}, settled(err)
	}
	return rpc.LegacyResult(result), nil
}

func (c *sseConn) Check(ctx context.Context) error {
	_, err := c.exchange(ctx, checkCall(Legacy), true, c.httpConn.authorize)
	return checked(err)
}

// Close ends the stream, which tells the server that the session is over.
func (c *sseConn) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	c.close(ctx, func() {})
}

// read takes in what comes over the stream until its end.
func (c *sseConn) read() {
	defer c.stream.Body.Close()
	defer c.events.release()
	var err error
	for err == nil {
		err = c.takeEvent()
	}
	switch {
	case c.ctx.Err() != nil:
		return // by Close
	case errors.Is(err, io.EOF):
		c.why = c.server.errorf("the server has ended the event stream")
	default:
		c.why = c.server.errorf("the event stream: %w", err)
	}
	c.server.log.Debug("the session is over", "error", c.why)
	close(c.died)
}

// takeEvent takes in one event. After an error there are no more.
func (c *sseConn) takeEvent() error {
	kind, data, err := c.events.event()
	switch {
	case errors.Is(err, errTooLarge):
		tail, skipped := c.events.skip()
		if skipped != nil || kind != messageEvent {
			return skipped
		}
		return c.routeCut(data, tail, err)
	case err != nil:
		return err
	case kind == messageEvent:
		c.routeAll(data)
	default:
		c.server.log.Debug("an event of another type was dropped", "type", c.flights.quote([]byte(kind)))
	}
	return nil
}

// exchange makes one request and takes in what comes for it until the answer.
// own tells that it is none of a caller's.
func (c *sseConn) exchange(ctx context.Context, call rpc.Call, own bool, authorize Authorize) (json.RawMessage, error) {
	if !c.enter() {
		return nil, &Failure{Fate: NotSent, Dead: true, Err: c.server.errorf("%w", errClosed)}
	}
	defer c.leave()
	x := newExchange(c.ids.Add(1), Legacy, call, c, c.server.log)
	x.authorize = authorize
	frame, err := x.frame(call)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.died:
		return nil, &Failure{Fate: NotSent, Dead: true, Err: c.why}
	default:
	}
	if x.leveled() {
		if err := c.raise(ctx, x, c.met.Hello, func(ctx context.Context, call rpc.Call) error {
			_, err := c.exchange(ctx, call, true, c.httpConn.authorize)
			return err
		}); err != nil {
			return nil, err
		}
	}
	f := c.board(x, frame, own)
	defer c.land(f)
	s := c.begin(ctx)
	if ctx.Err() != nil {
		s.finish()
		return nil, &Failure{Fate: NotSent, Err: context.Cause(ctx)}
	}
	p := &posting{over: make(chan struct{})}
	c.spawn(func() {
		defer close(p.over)
		p.err = c.submit(s, f)
	})
	result, err := c.await(ctx, s, f, p)
	select {
	case <-p.over:
		s.finish()
	default:
		s.outlive()
		c.spawn(func() {
			defer s.finish()
			timer := time.AfterFunc(drainTime, func() { s.cancel(nil) })
			defer timer.Stop()
			<-p.over
		})
	}
	return result, err
}

// A posting is the HTTP request that carries one of ours. It may be over before
// the answer comes or after that: some servers accept what they have done.
type posting struct {
	over chan struct{} // closed when it is
	err  error         // nil if the server has accepted the request; set before over is closed
}

// failure is that of a call whose request is over; err is the cause if it was
// accepted. A refusal may also be an answer: then it is no failure.
func (p *posting) failure(err error) (*Failure, error) {
	if p.err == nil {
		return &Failure{Fate: MayHaveRun, Err: err}, nil
	}
	var failure *Failure
	if errors.As(p.err, &failure) {
		return failure, nil
	}
	return nil, p.err
}

// submit sends a request and waits until the server has accepted it.
func (c *sseConn) submit(ctx context.Context, f *flight) error {
	response, failure := c.server.do(ctx, http.MethodPost, traceHeader(c.header, f.x.trace), f.frame, f.x.authorize)
	if failure != nil {
		return failure
	}
	if response.StatusCode/100 != 2 {
		defer response.Body.Close()
		return c.refusal(response, f.x)
	}
	// What it says is of no interest, unless it is the page of somebody who
	// stands before the server: then nothing will come over the stream.
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind == "text/html" {
		page := make([]byte, 8*excerptLength)
		n, _ := response.Body.Read(page)
		if page = bytes.TrimSpace(page[:n]); bytes.HasPrefix(page, []byte("<")) {
			defer response.Body.Close()
			return c.server.stray("the request was answered with a page: %s", c.httpConn.quote(response, page))
		}
	}
	release(response)
	return nil
}

// await takes in what comes for a call until the answer.
func (c *sseConn) await(ctx context.Context, s *span, f *flight, p *posting) (json.RawMessage, error) {
	over := p.over
	var failed error
	for {
		// An answer that is there counts, whatever else has happened.
		if result, answered, err := f.deliver(ctx); answered {
			return result, err
		}
		if failed != nil {
			return nil, failed
		}
		select {
		case <-f.arrived:
		case <-over:
			if over = nil; p.err != nil {
				failed = c.unanswered(s, f, p)
			}
		case <-s.Done():
			failed = c.unanswered(s, f, p)
		case <-c.died:
			// Its request may be about to be refused, and then it has not run.
			timer := time.AfterFunc(drainTime, func() { s.cancel(c.why) })
			<-p.over
			timer.Stop()
			failure, err := p.failure(c.why)
			if failed = err; failure != nil {
				failure.Dead = true
				failed = failure
			}
		}
	}
}

// unanswered says what became of a call whose request was refused, or that was
// ended by its caller or by Close.
func (c *sseConn) unanswered(s *span, f *flight, p *posting) error {
	<-p.over // soon, since the context has ended
	failure, err := p.failure(context.Cause(s))
	if failure == nil {
		return err
	}
	return c.cutShort(s, failure, f.x)
}
