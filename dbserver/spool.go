package dbserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// tailBytes is how many bytes of rows are in memory before they go to the file.
// A result that has fewer is in no file.
const tailBytes = 32 << 10

// Reasons for which kept rows are not all there were, besides those of a page.
const (
	byTime  = "time"
	byError = "error"
)

// A spool keeps the rows of one result that come behind its first page, while
// the statement still yields them and after. One goroutine adds rows; any may
// read them.
type spool struct {
	id       uint64
	spools   *spools
	database *database
	log      *slog.Logger
	who      string          // the principal whose rows they are
	columns  []result.Column // as the first page has them
	first    int             // rows of the first page

	mu      sync.Mutex // guards what follows; no I/O under it
	file    *os.File   // nil until there are more rows than tail has
	flushed int64      // bytes in the file
	tail    []byte     // the rows behind those
	rows    int
	ended   bool   // there will be no more rows
	gone    bool   // nor those that there were
	cut     string // why rows are missing at the end: byRows, byBytes, byTime or byError; byNone
	err     error  // that of byError
	changed chan struct{}
}

// A position is a place between two rows of a spool.
type position struct {
	row    int   // how many are before it
	offset int64 // in bytes
}

// errGone is the error of reading a spool that is not there any more.
var errGone = errors.New("the rows are not kept any more")

// headerBytes stand before a row: how long it is, how long its text, how many
// values of it were cut, and how many were not UTF-8.
const headerBytes = 4 * 4

// add adds a row and reports whether another one is wanted.
func (s *spool) add(row, text []byte, cut, invalid int) bool {
	size := headerBytes + len(row) + len(text)
	s.mu.Lock()
	switch {
	case s.gone:
	case s.rows >= s.database.SpoolRows:
		s.cut = result.ByRows
	case s.flushed+int64(len(s.tail)+size) > int64(s.database.SpoolBytes):
		s.cut = result.ByBytes
	}
	if s.gone || s.cut != result.ByNone {
		s.mu.Unlock()
		return false
	}
	for _, n := range [...]int{len(row), len(text), cut, invalid} {
		s.tail = binary.BigEndian.AppendUint32(s.tail, uint32(n)) // #nosec G115 -- a row fits the spool, which has less than 1 GiB
	}
	s.tail = append(append(s.tail, row...), text...)
	s.rows++
	s.database.spooled.Add(1)
	s.tellLocked()
	full := len(s.tail) >= tailBytes
	s.mu.Unlock()
	return !full || s.flush()
}

// flush moves the tail into the file.
func (s *spool) flush() bool {
	s.mu.Lock()
	file, tail, offset := s.file, s.tail, s.flushed
	s.mu.Unlock()
	if file == nil {
		var err error
		if file, err = s.spools.create(); err != nil {
			return s.fail(err)
		}
		s.mu.Lock()
		gone := s.gone
		s.file = file
		s.mu.Unlock()
		if gone { // so drop has not seen it
			removeFile(file)
			return false
		}
	}
	if _, err := file.WriteAt(tail, offset); err != nil { // both are only read meanwhile
		return s.fail(err)
	}
	s.spools.grow(s, int64(len(tail)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushed += int64(len(tail))
	s.tail = tail[:0]
	return !s.gone
}

// fail notes that no more rows can be kept.
func (s *spool) fail(err error) bool {
	s.log.Warn("rows not kept", slog.String(keyDatabase, s.database.Name), slog.Any(keyError, err))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut, s.err = byError, expired("the server could not keep more rows")
	return false
}

// finish says that there are no more rows, and why, unless that is known.
func (s *spool) finish(cut string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut == result.ByNone {
		s.cut, s.err = cut, err
	}
	s.ended = true
	s.tellLocked()
}

// drop lets go of the rows.
func (s *spool) drop() {
	s.mu.Lock()
	file := s.file
	s.gone, s.ended, s.tail = true, true, nil
	s.tellLocked()
	s.mu.Unlock()
	if file != nil {
		removeFile(file)
	}
}

func removeFile(file *os.File) {
	_ = file.Close()           // nobody reads it again
	_ = os.Remove(file.Name()) // if it still has its name
}

func (s *spool) tellLocked() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// await waits for rows behind a position, and returns how many there are and
// what to read them from; none if there will be none.
func (s *spool) await(ctx context.Context, at position) (n int, from io.Reader, err error) {
	for {
		s.mu.Lock()
		if s.gone {
			s.mu.Unlock()
			return 0, nil, errGone
		}
		if n = s.rows - at.row; n > 0 {
			from = s.readerLocked(at.offset)
		}
		if n > 0 || s.ended {
			s.mu.Unlock()
			return n, from, nil
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, nil, context.Cause(ctx)
		}
	}
}

func (s *spool) readerLocked(offset int64) io.Reader {
	if offset >= s.flushed {
		return bytes.NewReader(bytes.Clone(s.tail[offset-s.flushed:]))
	}
	return io.MultiReader(io.NewSectionReader(s.file, offset, s.flushed-offset), bytes.NewReader(bytes.Clone(s.tail)))
}

// A keptPage is a page of a spool.
type keptPage struct {
	result.Page
	next     position
	more     bool // there are rows behind it that are kept
	large    int  // rows that were left out: each was larger than a page
	complete *bool
	kept     int   // rows of the spool so far
	err      error // with byError
}

// page returns the rows behind a position for which there is room, waiting for
// them while the statement yields them.
func (s *spool) page(ctx context.Context, at position, limits result.Limits) (*keptPage, error) {
	p := &keptPage{Page: result.Page{Columns: s.columns}, next: at}
	for !p.more {
		n, from, err := s.await(ctx, p.next)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if err := p.read(bufio.NewReader(from), n, limits); errors.Is(err, os.ErrClosed) {
			return nil, errGone
		} else if err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.kept = s.rows
	if s.ended {
		complete := s.cut == result.ByNone
		p.complete = &complete
	}
	switch {
	case p.more:
	case s.cut != result.ByNone:
		p.TruncatedBy, p.err = s.cut, s.err
	case p.large > 0:
		p.TruncatedBy = result.ByBytes
	case p.Cut > 0:
		p.TruncatedBy = result.ByCell
	default:
		p.TruncatedBy = result.ByNone
	}
	return p, nil
}

// read reads up to n rows into the page.
func (p *keptPage) read(from *bufio.Reader, n int, limits result.Limits) error {
	for ; n > 0; n-- {
		if p.Count == limits.Rows {
			p.TruncatedBy, p.more = result.ByRows, true
			return nil
		}
		var header [headerBytes]byte
		if _, err := io.ReadFull(from, header[:]); err != nil {
			return err
		}
		number := func(i int) int { return int(binary.BigEndian.Uint32(header[4*i:])) }
		row, text, cut, invalid := number(0), number(1), number(2), number(3)
		switch {
		case row+len("[]") > limits.Bytes:
			if _, err := from.Discard(row + text); err != nil {
				return err
			}
			p.large++
		case len(p.Rows)+row+len(",[]") > limits.Bytes && p.Count > 0:
			p.TruncatedBy, p.more = result.ByBytes, true
			return nil
		default:
			var err error
			if p.Count > 0 {
				p.Rows = append(p.Rows, ',')
			}
			if p.Rows, err = appendFrom(p.Rows, from, row); err != nil {
				return err
			}
			if p.Text, err = appendFrom(p.Text, from, text); err != nil {
				return err
			}
			p.Count++
			p.Cut += cut
			p.Invalid += invalid
		}
		p.next.row++
		p.next.offset += int64(headerBytes + row + text)
	}
	return nil
}

// appendFrom appends n bytes that are read.
func appendFrom(dst []byte, from io.Reader, n int) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, n)...)
	_, err := io.ReadFull(from, dst[start:])
	return dst, err
}
