package transport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"
)

// maxEventID bounds, in bytes, the id of an event: it goes into a header. An
// event with a longer one counts as one without.
const maxEventID = 1 << 10

// messageEvent is the type of the events that carry the messages of MCP, and of
// those that do not say their type.
const messageEvent = "message"

// An eventReader reads a stream of server-sent events (WHATWG HTML, 9.2.6) as
// far as MCP uses them: their types and their data, and where to go on when the
// stream breaks off.
type eventReader struct {
	in    *bufio.Reader
	limit int    // of an event, in bytes
	line  []byte // the line being read
	// memory is that of the last event, if it can be used again, see newMemory.
	memory []byte
	begun  bool // the byte order mark is behind us
	wasCR  bool // the last line ended with CR: an LF that follows belongs to it
	skips  bool // of a line that is too large the end is kept

	id    string        // of the last event that came whole; "" for none
	retry time.Duration // how long the server wants to be left alone after the stream; -1 if it does not say
}

// buffers are those of streams that were read: a stream has one event as a
// rule, which is small beside a buffer. A large event is read in pieces of that
// size: with half of it, one of 1 MiB costs a tenth more.
var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 32<<10) }}

// newEventReader reads a stream until release.
func newEventReader(stream io.Reader, limit int) *eventReader {
	in := buffers.Get().(*bufio.Reader)
	in.Reset(stream)
	return &eventReader{in: in, limit: limit, retry: -1}
}

// release gives the buffer to another stream, and with it what was read ahead.
// The reader is of no more use.
func (r *eventReader) release() {
	r.in.Reset(nil)
	buffers.Put(r.in)
	r.in = nil
}

// on returns a reader that goes on with another stream, which takes up this
// one.
func (r *eventReader) on(stream io.Reader) *eventReader {
	next := newEventReader(stream, r.limit)
	next.id, next.retry = r.id, r.retry
	r.release()
	return next
}

// next returns the data of the next message event, as event does.
func (r *eventReader) next() ([]byte, error) {
	for {
		kind, data, err := r.event()
		if err != nil || kind == messageEvent {
			return data, err
		}
	}
}

// event returns the type and the data of the next event that has any; the
// caller may keep them. The error is io.EOF at the end of the stream, and
// errTooLarge with the beginning of the data of an event that is too large: it
// can be skipped. An event that the end cuts short is dropped, as the standard
// has it, also if all that is missing is the blank line: its type might have
// come behind its data.
func (r *eventReader) event() (kind string, data []byte, err error) {
	kind = messageEvent
	lines := 0 // of data
	id := r.id
	for {
		line, err := r.readLine(len(data))
		if errors.Is(err, errTooLarge) {
			if lines == 0 {
				data = bytes.TrimPrefix(bytes.TrimPrefix(r.line, []byte("data:")), []byte(" "))
			}
			return kind, bytes.Clone(data[:min(len(data), shownLength)]), err
		}
		if err != nil {
			return "", nil, err
		}
		if len(line) == 0 {
			r.id = id
			if len(data) > 0 {
				return kind, data, nil
			}
			kind, data, lines = messageEvent, nil, 0
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if lines++; lines == 1 {
				// The line becomes the data: nearly every event has one line,
				// and it may be large.
				data, r.memory, r.line = value, r.line, nil
			} else {
				data = append(append(data, '\n'), value...)
			}
		case "event":
			if kind = messageEvent; len(value) > 0 && string(value) != messageEvent {
				kind = string(value)
			}
		case "id":
			if len(value) <= maxEventID && bytes.IndexByte(value, 0) < 0 {
				id = string(value)
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				r.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

// skip reads on to the end of an event that is too large, and returns the end
// of its last line.
func (r *eventReader) skip() (tail []byte, err error) {
	r.skips = true
	defer func() { r.skips = false }()
	for {
		line, err := r.readLine(0)
		if err != nil || len(line) == 0 {
			return tail, err
		}
		tail = bytes.Clone(line[max(0, len(line)-shownLength):])
	}
}

// readLine returns the next line without its end, which is CR, LF or CRLF. It
// is valid until the next call. used is what the event has of the limit so
// far. A last line without an end is dropped.
func (r *eventReader) readLine(used int) ([]byte, error) {
	r.line = r.line[:0]
	for {
		if _, err := r.in.Peek(1); err != nil {
			return nil, err
		}
		chunk, _ := r.in.Peek(r.in.Buffered())
		if !r.begun {
			if r.begun = true; r.skipMark() {
				continue
			}
		}
		if r.wasCR {
			if r.wasCR = false; chunk[0] == '\n' {
				_, _ = r.in.Discard(1)
				continue
			}
		}
		end := lineEnd(chunk)
		part := chunk[:min(end, len(chunk))]
		if need := len(r.line) + len(part); need >= leastMemory && need > cap(r.line) {
			r.line = growMemory(r.line, max(need, 2*cap(r.line)))
		}
		r.line = append(r.line, part...)
		switch {
		case r.skips:
			r.line = append(r.line[:0], r.line[max(0, len(r.line)-shownLength):]...)
		case used+len(r.line) > r.limit:
			return nil, tooLarge(r.limit)
		}
		if end < len(chunk) {
			r.wasCR = chunk[end] == '\r'
			_, _ = r.in.Discard(end + 1)
			return r.line, nil
		}
		_, _ = r.in.Discard(len(chunk))
	}
}

// skipMark skips a byte order mark at the beginning of the stream.
func (r *eventReader) skipMark() bool {
	const mark = "\uFEFF"
	// Peeking three bytes may wait for more than the first line has, which is
	// why it needs the first byte to look like a mark.
	if first, _ := r.in.Peek(1); first[0] != mark[0] {
		return false
	}
	if start, _ := r.in.Peek(len(mark)); string(start) != mark {
		return false
	}
	_, _ = r.in.Discard(len(mark))
	return true
}

// lineEnd returns the offset of the first CR or LF, or len(chunk).
func lineEnd(chunk []byte) int {
	end := bytes.IndexByte(chunk, '\n')
	if end < 0 {
		end = len(chunk)
	}
	if cr := bytes.IndexByte(chunk[:end], '\r'); cr >= 0 {
		end = cr
	}
	return end
}
