package postgres

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"io"
)

// Of a value at most valueMost bytes are read into memory, and of a row rowMost
// with some for each column: a row of PostgreSQL can have a gigabyte. A value
// that is longer than what is left for it keeps leastKept bytes.
const (
	valueMost = 1 << 20
	rowMost   = 4 << 20
	leastKept = 1 << 10
)

// A cutter reads what a server sends and cuts long values out of its rows
// before they are in memory. What is cut ends with a mark and the length that
// the value had, which [whole] takes off again; the frames around it are made
// to fit (https://www.postgresql.org/docs/current/protocol-message-formats.html).
type cutter struct {
	in   *bufio.Reader
	pass int    // bytes that go through as they are
	out  []byte // a row made anew, what is left of it
}

func newCutter(r io.Reader) *cutter { return &cutter{in: bufio.NewReaderSize(r, 32<<10)} }

// header is that of a message: its kind, and its length without the kind.
const header = 5

func (c *cutter) Read(p []byte) (int, error) {
	switch {
	case len(c.out) > 0:
		n := copy(p, c.out)
		if c.out = c.out[n:]; len(c.out) == 0 {
			c.out = nil
		}
		return n, nil
	case c.pass == 0:
		if err := c.next(); err != nil {
			return 0, err
		}
		if len(c.out) > 0 {
			return c.Read(p)
		}
	}
	// As many messages as there are go through at once.
	n := 0
	for n < len(p) {
		if c.pass == 0 {
			if c.in.Buffered() < header {
				break
			}
			if err := c.next(); err != nil || len(c.out) > 0 {
				break
			}
		}
		if n > 0 && c.in.Buffered() == 0 {
			break
		}
		got, err := c.in.Read(p[n:min(len(p), n+c.pass)])
		n += got
		c.pass -= got
		if err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
	}
	return n, nil
}

// next looks at the message that comes.
func (c *cutter) next() error {
	h, err := c.in.Peek(header)
	if err != nil {
		if err == io.EOF && len(h) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	length := int(binary.BigEndian.Uint32(h[1:]))
	if h[0] != 'D' || length <= leastKept {
		c.pass = 1 + max(length, 4)
		return nil
	}
	if length > valueMost {
		return c.cut()
	}
	c.pass = 1 + length
	return nil
}

// cut makes a row anew.
func (c *cutter) cut() error {
	var head [header + 2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return err
	}
	row := append(make([]byte, 0, valueMost), head[:]...)
	left := rowMost
	for range binary.BigEndian.Uint16(head[header:]) {
		var size [4]byte
		if _, err := io.ReadFull(c.in, size[:]); err != nil {
			return err
		}
		row = append(row, size[:]...)
		n := int(int32(binary.BigEndian.Uint32(size[:]))) // #nosec G115 -- signed on the wire: -1 is NULL
		if n < 0 {
			continue // NULL
		}
		keep := min(n, max(leastKept, min(left, valueMost)))
		left -= keep
		start := len(row)
		row = append(row, make([]byte, keep)...)
		if _, err := io.ReadFull(c.in, row[start:]); err != nil {
			return err
		}
		if keep < n {
			if _, err := io.CopyN(io.Discard, c.in, int64(n-keep)); err != nil {
				return err
			}
			row = binary.BigEndian.AppendUint64(append(row, mark...), uint64(n))
			binary.BigEndian.PutUint32(row[start-4:], uint32(len(row)-start)) // #nosec G115 -- a value has valueMost at most
		}
	}
	binary.BigEndian.PutUint32(row[1:], uint32(len(row)-1)) // #nosec G115 -- rowMost, and leastKept of 65,535 columns
	c.out = row
	return nil
}

// mark tells that a value was cut. Nobody outside of the process knows it, so no
// value ends with it by intent.
var mark = []byte(rand.Text())

// whole returns a value, or what is kept of it, and the length that it has in
// the database.
func whole(v []byte) (kept []byte, length int) {
	at := len(v) - 8
	if at < len(mark) || !bytes.Equal(v[at-len(mark):at], mark) {
		return v, len(v)
	}
	return v[:at-len(mark)], int(binary.BigEndian.Uint64(v[at:])) // #nosec G115 -- written above, of an int32
}
