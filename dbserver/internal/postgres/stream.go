package postgres

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// Of a value at most valueMost bytes are read into memory, and of a row rowMost
// with some for each column: a row of PostgreSQL can have a gigabyte. A value
// that is longer than what is left for it keeps leastKept bytes.
const (
	valueMost = 1 << 20
	rowMost   = 4 << 20
	leastKept = 1 << 10
)

// A stream is what a server sends. Rows are taken from it as they lie in its
// buffer; pgconn reads the other messages, by Read, which never yields more than
// the message that was begun
// (https://www.postgresql.org/docs/current/protocol-message-formats.html).
type stream struct {
	in     *bufio.Reader
	left   int    // of the message that Read has begun
	long   []byte // a row that does not fit into the buffer
	broken error  // what came is no message
}

func newStream(r io.Reader) *stream { return &stream{in: bufio.NewReaderSize(r, 32<<10)} }

// header is that of a message: its kind, and its length without the kind.
const header = 5

var errMessage = errors.New("the database has sent what is no message of its protocol")

func (s *stream) Read(p []byte) (int, error) {
	if s.broken != nil {
		return 0, s.broken
	}
	if s.left == 0 {
		h, err := s.in.Peek(header)
		if err != nil {
			if err == io.EOF && len(h) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		s.left = 1 + max(int(binary.BigEndian.Uint32(h[1:])), header-1)
	}
	n, err := s.in.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// A row is one of a result. It holds until the stream is read again.
type row struct {
	values  [][]byte // as much of each as is kept, nil for NULL
	lengths []int    // that the values have in the database
}

// next reads the next message if it is a row, and reports whether it was.
// Errors of the connection are left for Read.
func (s *stream) next(r *row) bool {
	h, err := s.in.Peek(header)
	if err != nil || h[0] != 'D' || s.left > 0 || s.broken != nil {
		return false
	}
	length := 1 + int(binary.BigEndian.Uint32(h[1:]))
	switch {
	case length > valueMost:
		err = s.cut(r)
	case length > s.in.Size():
		s.long = slices.Grow(s.long[:0], length)[:length]
		if _, err = io.ReadFull(s.in, s.long); err == nil {
			err = r.split(s.long)
		}
	default:
		var message []byte
		if message, err = s.in.Peek(length); err == nil {
			err = r.split(message)
			_, _ = s.in.Discard(length)
		}
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	s.broken = err
	return err == nil
}

// size makes room for so many values.
func (r *row) size(columns int) {
	r.values = slices.Grow(r.values[:0], columns)[:columns]
	r.lengths = slices.Grow(r.lengths[:0], columns)[:columns]
}

// split takes a row apart.
func (r *row) split(message []byte) error {
	if len(message) < header+2 {
		return errMessage
	}
	r.size(int(binary.BigEndian.Uint16(message[header:])))
	rest := message[header+2:]
	for i := range r.values {
		if len(rest) < 4 {
			return errMessage
		}
		n := int(int32(binary.BigEndian.Uint32(rest))) // #nosec G115 -- signed on the wire: -1 is NULL
		if rest = rest[4:]; n > len(rest) {
			return errMessage
		}
		r.values[i], r.lengths[i] = nil, 0
		if n >= 0 {
			r.values[i], r.lengths[i] = rest[:n:n], n
			rest = rest[n:]
		}
	}
	if len(rest) > 0 {
		return errMessage
	}
	return nil
}

// cut reads a row of which not all may be kept.
func (s *stream) cut(r *row) error {
	var head [header + 2]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return err
	}
	rest := int(binary.BigEndian.Uint32(head[1:])) - len(head[1:])
	r.size(int(binary.BigEndian.Uint16(head[header:])))
	left := rowMost
	for i := range r.values {
		var size [4]byte
		if rest -= len(size); rest < 0 {
			return errMessage
		}
		if _, err := io.ReadFull(s.in, size[:]); err != nil {
			return err
		}
		n := int(int32(binary.BigEndian.Uint32(size[:]))) // #nosec G115 -- signed on the wire: -1 is NULL
		if rest -= max(n, 0); rest < 0 {
			return errMessage
		}
		r.values[i], r.lengths[i] = nil, 0
		if n < 0 {
			continue // NULL
		}
		keep := min(n, max(leastKept, min(left, valueMost)))
		left -= keep
		value := make([]byte, keep)
		if _, err := io.ReadFull(s.in, value); err != nil {
			return err
		}
		if _, err := s.in.Discard(n - keep); err != nil {
			return err
		}
		r.values[i], r.lengths[i] = value, n
	}
	if rest > 0 {
		return errMessage
	}
	return nil
}
