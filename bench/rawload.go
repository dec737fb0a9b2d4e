package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"reflect"
	"strconv"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// A dbQuery is a statement and the rows that it has.
type dbQuery struct {
	name, text string
	rows       int
	row        func(i int) []any // row i, as JSON has it
}

// selectOne has next to nothing to do but the protocol.
func selectOne() dbQuery {
	return dbQuery{"`select 1`", "select 1", 1, func(int) []any { return []any{1.0} }}
}

// A rawCaller makes one request again and again on a TCP connection of its own.
// It is as cheap as can be, so that the server has the processors: net/http
// would need as much as some servers do. Of an answer it looks at whether the
// rows are there.
type rawCaller struct {
	host    string
	conn    net.Conn
	in      *bufio.Reader
	last    time.Time // of the last call
	request []byte
	body    []byte // of the last answer
	rows    []byte // the bytes that have the rows
	at      int    // where they were in the first answer
}

// newRawCaller makes the first call, of which it holds that the rows are right.
func newRawCaller(s *dbServer, q dbQuery, id int) (*rawCaller, error) {
	arguments, err := json.Marshal(s.arguments(q))
	must(err)
	body := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":{"name":%q,"arguments":%s}}`,
		id, callMethod, s.reads, arguments)
	var head bytes.Buffer
	fmt.Fprintf(&head, "POST /mcp HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", s.host(), len(body))
	must(s.header.Write(&head))
	c := &rawCaller{host: s.host(), request: append(append(head.Bytes(), "\r\n"...), body...)}
	if err := c.connect(); err != nil {
		return nil, err
	}
	if err := c.first(s, q); err != nil {
		_ = c.conn.Close()
		return nil, err
	}
	return c, nil
}

// keptOpen is how long a connection may rest between calls: less than the 5 s
// after which Node closes it (server.keepAliveTimeout).
const keptOpen = 2 * time.Second

func (c *rawCaller) connect() (err error) {
	if c.conn, err = net.Dial("tcp", c.host); err == nil {
		c.in = bufio.NewReaderSize(c.conn, 64<<10)
	}
	return err
}

func (c *rawCaller) first(s *dbServer, q dbQuery) error {
	if err := c.exchange(); err != nil {
		return err
	}
	m, err := parseAnswer(c.body)
	if err != nil {
		return err
	}
	if failed, _ := jsonrpc.Get(m.Result, "isError"); string(failed) == "true" {
		return fmt.Errorf("%s: %s", q.text, m.Result)
	}
	raw, rows, err := s.dbProgram.rows(m.Result)
	if err != nil {
		return fmt.Errorf("%s: %.300s: %w", q.text, c.body, err)
	}
	if err := q.check(rows); err != nil {
		return err
	}
	c.rows, c.at = bytes.Clone(raw), bytes.Index(c.body, raw)
	return nil
}

// check reports whether these are the rows of the query.
func (q dbQuery) check(rows [][]any) error {
	if len(rows) != q.rows {
		return fmt.Errorf("%s: %d rows, not %d", q.text, len(rows), q.rows)
	}
	for i, row := range rows {
		if want := q.row(i); !reflect.DeepEqual(row, want) {
			return fmt.Errorf("%s: row %d is %v, not %v", q.text, i, row, want)
		}
	}
	return nil
}

func (c *rawCaller) call() {
	if time.Since(c.last) > keptOpen { // others have had their turn
		must(c.conn.Close())
		must(c.connect())
	}
	must(c.exchange())
	c.last = time.Now()
	if bytes.HasPrefix(c.body[min(c.at, len(c.body)):], c.rows) {
		return
	}
	if !bytes.Contains(c.body, c.rows) { // what is before them may be longer or shorter
		must(fmt.Errorf("a later answer has other rows: %.500s", c.body))
	}
}

// exchange sends the request and reads the body of the response.
func (c *rawCaller) exchange() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	status, err := c.line()
	if err != nil {
		return err
	}
	refused := !bytes.HasPrefix(status, []byte("HTTP/1.1 200 "))
	length, chunked := 0, false
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
	}
	c.body = c.body[:0]
	if chunked {
		err = c.readChunks()
	} else {
		err = c.read(length)
	}
	if err == nil && refused {
		err = fmt.Errorf("the server refuses: %.300s", c.body)
	}
	return err
}

// readChunks reads a body in chunks (RFC 9112, section 7.1), without trailers.
func (c *rawCaller) readChunks() error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return err
		}
		if err := c.read(int(size)); err != nil {
			return err
		}
		if line, err = c.line(); err != nil || len(line) > 0 {
			return fmt.Errorf("a chunk goes on after its end: %q, %w", line, err)
		}
		if size == 0 {
			return nil
		}
	}
}

func (c *rawCaller) read(n int) error {
	old := len(c.body)
	if cap(c.body)-old < n {
		c.body = append(make([]byte, 0, 2*(old+n)), c.body...)
	}
	c.body = c.body[:old+n]
	_, err := io.ReadFull(c.in, c.body[old:])
	return err
}

// line reads a line, which is there until the next read.
func (c *rawCaller) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

// rawTrial is callers that each wait for their answer, all in the one session of
// the server.
func rawTrial(s *dbServer, q dbQuery, callers int) trial {
	all := make([]*rawCaller, callers)
	calls := make([]func(), callers)
	for i := range all {
		c, err := newRawCaller(s, q, 1000+i)
		must(err)
		all[i], calls[i] = c, c.call
	}
	return sharedTrial(s.name, calls, s.usage, func() {
		for _, c := range all {
			must(c.conn.Close())
		}
	})
}

// sharedTrial has callers share what is to be done; of one alone each call is
// timed.
func sharedTrial(subject string, callers []func(), usage func() usage, stop func()) trial {
	t := trial{subject: subject, unit: 1, usage: usage, stop: stop}
	var took []float64
	if len(callers) == 1 {
		t.took = &took
	}
	t.run = func(times int) { took = share(times, callers) }
	return t
}
