package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxQueued bounds the events that wait for a client to read them, and
	// maxQueuedBytes their bytes. Beyond that those that may be lost are: a client
	// that does not read must not hold up the server. As many are kept for a client
	// that comes back.
	maxQueued      = 64
	maxQueuedBytes = 1 << 20
	// writeTime is how long a client may take to read one piece of an answer of
	// maxPiece bytes, or an event. After that it is cut off: it holds memory.
	writeTime = 30 * time.Second
	maxPiece  = 64 << 10
	// slowest is how many bytes of a large answer a client has to read each
	// second, writeTime besides: it is in memory until all of it is read.
	slowest = 16 << 10
	// comeBack is after how many milliseconds a client may come back to a stream
	// that broke off.
	comeBack = "1000"
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
	unsent  int        // bytes of the frames from there on
	sent    int        // bytes of those before
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
	if s.ended || mayBeLost && (s.first+len(s.frames)-s.written >= maxQueued || s.unsent >= maxQueuedBytes) {
		return
	}
	s.frames = append(s.frames, frame)
	s.unsent += len(frame)
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
	n = min(max(n, s.first), s.first+len(s.frames)) // a client may say anything
	if i := n - s.first; i < len(s.frames) {
		frames = s.frames[i:]
	}
	return frames, n, s.ended, s.arrived
}

// next is the number of the first frame that nobody was sent.
func (s *stream) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// waiting returns the bytes that wait for the client to read them.
func (s *stream) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsent
}

// complete reports whether there is nothing from frame n on and nothing to come.
func (s *stream) complete(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended && n >= s.first+len(s.frames)
}

// wrote notes that the frames before number n were written. Where a client can
// ask for them again the last ones are kept.
func (s *stream) wrote(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; s.written < n; s.written++ {
		size := len(s.frames[s.written-s.first])
		s.unsent -= size
		s.sent += size
	}
	drop := 0
	for kept := s.written - s.first; kept > 0; kept-- {
		if s.id != "" && kept <= maxQueued && (s.sent <= maxQueuedBytes || kept == 1) {
			break
		}
		s.sent -= len(s.frames[drop])
		drop++
	}
	if drop > 0 {
		s.frames = append([][]byte(nil), s.frames[drop:]...)
		s.first += drop
	}
}

// serve writes the frames from number n on, and those that come, as the body of
// a response that startEvents has begun. It returns nil when the stream has
// ended and all is written, or another response serves it, and otherwise why the
// client is not there.
func (s *stream) serve(ctx context.Context, w http.ResponseWriter, n int) error {
	stop := s.take()
	var beat *time.Timer
	for {
		frames, first, ended, arrived := s.from(n)
		for i, frame := range frames {
			if err := s.write(w, first+i, frame); err != nil {
				return err
			}
		}
		n = first + len(frames)
		s.wrote(n)
		if ended {
			setPatience(w) // net/http writes the rest
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
	if s.id != "" && n == 0 {
		head = "retry: " + comeBack + "\n" + head
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

// setPatience gives the client writeTime to read what is written from now on. It
// holds beyond the handler: net/http writes what it has buffered after it, and
// then takes the bound away.
func setPatience(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime)) // not every writer has one
}

// writePieces writes data in pieces, each of which the client has writeTime to
// read, and all of them together no longer than at the slowest it may read.
func writePieces(w http.ResponseWriter, data []byte) error {
	late := time.Now().Add(writeTime + time.Duration(len(data)/slowest)*time.Second)
	for len(data) > 0 {
		if len(data) > maxPiece && time.Now().After(late) {
			return errSlow
		}
		piece := data[:min(len(data), maxPiece)]
		data = data[len(piece):]
		setPatience(w)
		if _, err := w.Write(piece); err != nil { // #nosec G705 -- JSON and its events, which are sent as such
			return err
		}
	}
	return nil
}

var errSlow = errors.New("the client reads too slowly")

// flush sends what is written. Until the next write the client may take its
// time.
func flush(w http.ResponseWriter) error {
	setPatience(w)
	control := http.NewResponseController(w)
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// streams are those of calls that a legacy client can come back to.
type streams struct {
	mu    sync.Mutex // guards what follows
	by    map[string]*kept
	over  []*kept // those that have ended, the oldest first
	bytes int     // of those
	timed bool    // expire will be called
}

const (
	// keptStreams and keptAnswers bound the streams that have ended and can be
	// come back to, and their bytes; keepFor is how long.
	keptStreams = 4096
	keptAnswers = 32 << 20
	keepFor     = 2 * time.Minute
)

type kept struct {
	*stream
	session string
	size    int       // once it has ended
	until   time.Time // it is kept
}

// callMark is in the ids of the streams of calls, and in those of no others.
const callMark = ".call."

// begin makes the stream of a call of a session.
func (ss *streams) begin(gateway, session string) *stream {
	s := newStream(gateway + callMark + rand.Text())
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.by[s.id] = &kept{stream: s, session: session}
	return s
}

// find returns the stream of a call of a session in which an event has an id,
// and the number of the event.
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
	if err != nil || n < 0 || n == math.MaxInt {
		return "", 0
	}
	return event[:i], n
}

// end has a stream that has ended found for a while yet.
func (ss *streams) end(s *stream) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	k := ss.by[s.id]
	if k == nil {
		return
	}
	s.mu.Lock()
	k.size = s.sent + s.unsent
	s.mu.Unlock()
	k.until = time.Now().Add(keepFor)
	ss.over = append(ss.over, k)
	if !ss.timed {
		ss.timed = true
		time.AfterFunc(keepFor, ss.expire)
	}
	ss.bytes += k.size
	for ss.bytes > keptAnswers || len(ss.over) > keptStreams {
		ss.dropLocked()
	}
}

func (ss *streams) dropLocked() {
	k := ss.over[0]
	ss.over[0] = nil
	if ss.over = ss.over[1:]; len(ss.over) == 0 {
		ss.over = nil
	}
	ss.bytes -= k.size
	delete(ss.by, k.id)
}

func (ss *streams) expire() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for len(ss.over) > 0 {
		if left := time.Until(ss.over[0].until); left > 0 {
			time.AfterFunc(left, ss.expire)
			return
		}
		ss.dropLocked()
	}
	ss.timed = false
}
