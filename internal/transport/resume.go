package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

const (
	// resumeTries is how often in a row a stream is taken up without another
	// event from it.
	resumeTries = 5
	// resumeDelay lies before taking up a stream whose server does not say how
	// long to wait, and twice as long before each further try: what has broken
	// one stream is often about to break the next.
	resumeDelay = 500 * time.Millisecond
)

// An eventStream is one of a server. One that breaks off is taken up
// behind its last event, if the server has given its events ids: that is how
// long answers survive proxies, and servers that would rather be asked now
// and then than hold a connection (MCP 2025-11-25, transports, "Resumability
// and Redelivery").
type eventStream struct {
	conn      *httpConn
	events    *eventReader
	body      io.ReadCloser
	authorize Authorize

	last  string // the event that it was taken up behind
	tries int    // since then
}

func (c *httpConn) newEventStream(response *http.Response, authorize Authorize) *eventStream {
	return &eventStream{
		conn: c, body: response.Body, authorize: authorize,
		events: newEventReader(hearing{response.Body, c.life}, c.server.limit),
	}
}

func (s *eventStream) close() { _ = s.body.Close() }

var errStreamEnded = errors.New("the stream ended before it")

// next returns the data of the next event; the caller may keep it. The error
// may be a *Failure of taking up the stream, which says whether the session is
// lost.
func (s *eventStream) next(ctx context.Context) ([]byte, error) {
	for {
		data, err := s.events.next()
		if errors.Is(err, io.EOF) {
			err = errStreamEnded
		}
		switch {
		case err == nil:
			return data, nil
		case ctx.Err() != nil || errors.Is(err, errTooLarge) || !s.resumable():
			return nil, err
		}
		if err := s.resume(ctx, err); err != nil {
			return nil, err
		}
	}
}

// resumable reports whether the rest of a broken stream may be had: modern
// servers know no such thing.
func (s *eventStream) resumable() bool {
	return s.conn.peer.Era == Legacy && s.conn.session != "" && s.events.id != ""
}

// resume takes up the stream that has ended with broken.
func (s *eventStream) resume(ctx context.Context, broken error) error {
	s.close()
	if s.events.id != s.last {
		s.last, s.tries = s.events.id, 0
	}
	for ; s.tries < resumeTries; s.tries++ {
		delay := resumeDelay << s.tries
		if s.events.retry >= 0 {
			delay = s.events.retry
		}
		if !pause(ctx, delay) {
			return broken
		}
		response, err := s.conn.listen(ctx, s.last, s.authorize)
		if err == nil {
			s.tries++
			s.body = response.Body
			s.events = s.events.on(hearing{response.Body, s.conn.life})
			return nil
		}
		if !passes(err) {
			return fmt.Errorf("%w, and the rest is not to be had: %w", broken, err)
		}
	}
	return fmt.Errorf("%w, and taking it up has failed %d times", broken, resumeTries)
}

// passes reports whether a request that failed may well succeed a little
// later.
func passes(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Status >= 500 || status.Status == http.StatusTooManyRequests
	}
	var failure *Failure
	lost := errors.As(err, &failure) && failure.Fate == Refused && failure.Dead
	var stray *strayError
	return !lost && !errors.As(err, &stray)
}

// pause waits for d, or reports false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// listen asks for an event stream of the session: what the server sends
// outside of calls, or the rest of the stream whose event has that id.
func (c *httpConn) listen(ctx context.Context, id string, authorize Authorize) (*http.Response, error) {
	header := c.header.Clone()
	header.Del("Content-Type")
	header.Set("Accept", "text/event-stream")
	if id != "" {
		header.Set(headerLastEvent, id)
	}
	response, failure := c.server.do(ctx, http.MethodGet, header, nil, authorize)
	if failure != nil {
		return nil, failure
	}
	c.hear()
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode >= 300:
		defer response.Body.Close()
		lost := c.lost.Load()
		err := c.refusal(response, nil)
		if id == "" { // that there is no such stream is no word about the session
			c.lost.Store(lost)
		}
		return nil, err
	case response.StatusCode != http.StatusOK || kind != "text/event-stream":
		release(response)
		return nil, c.server.stray("answered with HTTP %d and %q where an event stream is expected", response.StatusCode, excerpt([]byte(kind)))
	}
	return response, nil
}
