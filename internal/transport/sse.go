package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

var errTooLarge = fmt.Errorf("a message is larger than %d MiB", maxMessage>>20)

// messageEvent is the type of the events that carry the messages of MCP, and of
// those that do not say their type.
const messageEvent = "message"

// An eventReader reads a stream of server-sent events (WHATWG HTML, 9.2.6) as
// far as MCP uses them: their types and their data.
type eventReader struct {
	in    *bufio.Reader
	limit int    // of an event, in bytes
	line  []byte // the line being read
	begun bool   // the byte order mark is behind us
	wasCR bool   // the last line ended with CR: an LF that follows belongs to it
	skips bool   // of a line that is too large the end is kept
}

func newEventReader(stream io.Reader, limit int) *eventReader {
	return &eventReader{in: bufio.NewReader(stream), limit: limit}
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
// can be skipped.
func (r *eventReader) event() (kind string, data []byte, err error) {
	kind = messageEvent
	lines := 0 // of data
	for {
		line, err := r.readLine(len(data))
		if errors.Is(err, errTooLarge) {
			if lines == 0 {
				data = bytes.TrimPrefix(bytes.TrimPrefix(r.line, []byte("data:")), []byte(" "))
			}
			return kind, bytes.Clone(data[:min(len(data), shownLength)]), err
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return "", nil, err
		}
		// The standard drops an event that the stream's end cuts short. A JSON
		// message that is whole needs no blank line to prove it.
		if len(line) == 0 {
			if len(data) > 0 {
				return kind, data, nil
			}
			if err != nil {
				return "", nil, err
			}
			kind, lines = messageEvent, 0
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if lines++; lines == 1 {
				// The line becomes the data: nearly every event has one line,
				// and it may be large.
				data, r.line = value, nil
			} else {
				data = append(append(data, '\n'), value...)
			}
		case "event":
			if kind = messageEvent; len(value) > 0 && string(value) != messageEvent {
				kind = string(value)
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
// far. At the end of the stream the last line may come without an end, and
// io.EOF after it.
func (r *eventReader) readLine(used int) ([]byte, error) {
	r.line = r.line[:0]
	for {
		if _, err := r.in.Peek(1); err != nil {
			if len(r.line) > 0 && errors.Is(err, io.EOF) {
				return r.line, nil
			}
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
		r.line = append(r.line, chunk[:min(end, len(chunk))]...)
		switch {
		case r.skips:
			r.line = append(r.line[:0], r.line[max(0, len(r.line)-shownLength):]...)
		case used+len(r.line) > r.limit:
			return nil, errTooLarge
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
