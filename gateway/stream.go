package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxQueued bounds the events that wait for a client to read them. Beyond it
	// those that may be lost are: a client that does not read must not hold up
	// the server.
	maxQueued = 64
	// writeTime is how long a client may take to read one piece of an answer of
	// maxPiece bytes, or an event. After that it is cut off: it holds memory.
	writeTime = 30 * time.Second
	maxPiece  = 64 << 10
	// smallest is the least that is written with a deadline.
	smallest = 2 << 10
	// heartbeat is how often something is sent on a stream that is silent, so
	// that those in between do not take it for dead, and we see whether the
	// client is gone.
	heartbeat = 30 * time.Second
)

// A stream is server-sent events for one client. Frames are put in by anybody
// and written by whoever serves it: one HTTP response after the other, as a
// legacy client may come back for the rest (MCP 2025-11-25, basic/transports
// "Resumability and Redelivery").
type stream struct {
	id string // "" if nobody can come back

	mu      sync.Mutex // guards what follows
	frames  [][]byte   // what a client may still want, in order
	first   int        // the number of frames[0]
	written int        // the number of the first frame that nobody was sent
	ended   bool
	arrived chan struct{} // closed, and replaced, when there is something new
	taken   chan struct{} // closed when another response serves the stream
}

func newStream(id string) *stream {
	return &stream{id: id, arrived: make(chan struct{})}
}

// put puts a frame in. One that may be lost is where too many wait.
func (s *stream) put(frame []byte, mayBeLost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || mayBeLost && s.first+len(s.frames)-s.written >= maxQueued {
		return
	}
	s.frames = append(s.frames, frame)
	s.wakeLocked()
}

// end lets no more frames in.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.wakeLocked()
}

func (s *stream) wakeLocked() {
	close(s.arrived)
	s.arrived = make(chan struct{})
}

// event and send implement outlet.
func (s *stream) event(frame []byte) { s.put(frame, true) }
func (s *stream) send(frame []byte)  { s.put(frame, false) }

// take makes the caller the one who serves the stream; whoever did is told to
// stop.
func (s *stream) take() (stop <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken != nil {
		close(s.taken)
	}
	s.taken = make(chan struct{})
	return s.taken
}

// from returns the frames from number n on, the number of the first of them,
// and whether there will be more.
func (s *stream) from(n int) (frames [][]byte, first int, ended bool, arrived <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = max(n, s.first)
	if i := n - s.first; i < len(s.frames) {
		frames = s.frames[i:]
	}
	return frames, n, s.ended, s.arrived
}

// unsent is the number of the first frame that nobody was sent.
func (s *stream) unsent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// sent notes that the frames before number n were written. Those that can be
// asked for again are kept, but no more than maxQueued.
func (s *stream) sent(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = max(s.written, n)
	drop := s.written - s.first
	if s.id != "" {
		drop -= maxQueued
	}
	if drop > 0 {
		s.frames = append([][]byte(nil), s.frames[drop:]...)
		s.first += drop
	}
}

// serve writes the frames from number n on, and those that come, as the body of
// a response. It returns nil when the stream has ended and all is written, or
// another response serves it, and otherwise why the client is not there.
func (s *stream) serve(ctx context.Context, w http.ResponseWriter, n int) error {
	stop := s.take()
	startEvents(w)
	var beat *time.Timer
	for {
		frames, first, ended, arrived := s.from(n)
		for i, frame := range frames {
			if err := s.write(w, first+i, frame); err != nil {
				return err
			}
		}
		n = first + len(frames)
		s.sent(n)
		if ended {
			return nil
		}
		if err := flush(w); err != nil {
			return err
		}
		if beat == nil {
			beat = time.NewTimer(heartbeat)
			defer beat.Stop()
		} else {
			beat.Reset(heartbeat)
		}
		select {
		case <-arrived:
		case <-beat.C:
			if _, err := io.WriteString(w, ":\n\n"); err != nil {
				return err
			}
		case <-stop:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// write writes one event.
func (s *stream) write(w http.ResponseWriter, n int, frame []byte) error {
	head := "event: message\ndata: "
	if s.id != "" {
		head = "id: " + s.id + "-" + strconv.Itoa(n) + "\n" + head
	}
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	if err := writePieces(w, frame); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n\n")
	return err
}

// startEvents begins a response that is a stream of events.
func startEvents(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	// MCP 2026-07-28, basic/transports/streamable-http "Receiving Messages".
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
}

// writePieces writes data in pieces, each of which the client has writeTime to
// read. What fits into the buffer of net/http needs no such care.
func writePieces(w http.ResponseWriter, data []byte) error {
	if len(data) < smallest {
		_, err := w.Write(data)
		return err
	}
	control := http.NewResponseController(w)
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	for len(data) > 0 {
		piece := data[:min(len(data), maxPiece)]
		data = data[len(piece):]
		_ = control.SetWriteDeadline(time.Now().Add(writeTime)) // not every writer has one
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// flush sends what is written.
func flush(w http.ResponseWriter) error {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTime))
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// streams are those that a legacy client can come back to.
type streams struct {
	mu   sync.Mutex // guards by
	by   map[string]*kept
	held int // bytes of the streams that have ended
}

const (
	// keptStreams and keptAnswers bound the streams that can be come back to,
	// and the bytes of those that have ended; keepFor is how long.
	keptStreams = 4096
	keptAnswers = 32 << 20
	keepFor     = 2 * time.Minute
)

type kept struct {
	*stream
	session string
}

// keep has a session's stream found, unless there are too many.
func (ss *streams) keep(s *stream, session string) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if len(ss.by) >= keptStreams {
		return false
	}
	ss.by[s.id] = &kept{s, session}
	return true
}

// find returns the stream of a session in which an event has an id, and the
// number of the event.
func (ss *streams) find(event, session string) (s *stream, n int, ok bool) {
	id, n := readEventID(event)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	found := ss.by[id]
	if found == nil || found.session != session {
		return nil, 0, false
	}
	return found.stream, n, true
}

// readEventID takes the id of an event of ours apart: that of its stream and
// its number. Of what is none it makes nothing.
func readEventID(event string) (stream string, n int) {
	i := strings.LastIndexByte(event, '-')
	if i < 0 {
		return "", 0
	}
	n, err := strconv.Atoi(event[i+1:])
	if err != nil || n < 0 {
		return "", 0
	}
	return event[:i], n
}

// over has a stream that has ended found for a while yet.
func (ss *streams) over(s *stream) {
	s.mu.Lock()
	size := 0
	for _, frame := range s.frames {
		size += len(frame)
	}
	s.mu.Unlock()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.held+size > keptAnswers {
		delete(ss.by, s.id)
		return
	}
	ss.held += size
	time.AfterFunc(keepFor, func() {
		ss.mu.Lock()
		defer ss.mu.Unlock()
		ss.held -= size
		delete(ss.by, s.id)
	})
}

func (ss *streams) forget(s *stream) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.by, s.id)
}
