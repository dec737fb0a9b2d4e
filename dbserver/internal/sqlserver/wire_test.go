package sqlserver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// Types of packets, and bits of their status
// (https://learn.microsoft.com/openspecs/windows_protocols/ms-tds).
const (
	packetBatch     = 1
	packetRPC       = 3
	packetReply     = 4
	packetAttention = 6
	packetLogin     = 16
	packetPrelogin  = 18

	statusEnd   = 1
	statusReset = 8
)

// A wire is so much of a server as the real driver needs to be heard: it
// records requests as they come over the network and answers a few of them.
type wire struct {
	net.Listener
	deaf bool // does not confirm attentions; set before the first call

	mu       sync.Mutex
	requests []request
	conns    []net.Conn
	work     sync.WaitGroup
}

// A request is what came in one message.
type request struct {
	kind  byte
	reset bool
	text  string // of a batch; of a call what of it is text
	raw   string
}

func newWire(t *testing.T) *wire {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: listener}
	w.work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.conns = append(w.conns, conn)
			w.mu.Unlock()
			w.work.Go(func() { w.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		w.mu.Lock()
		for _, c := range w.conns {
			_ = c.Close()
		}
		w.mu.Unlock()
		w.work.Wait()
	})
	return w
}

// texts returns the batches and calls that came.
func (w *wire) texts(kind byte) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if r.kind == kind {
			list = append(list, r.text)
		}
	}
	return list
}

func (w *wire) serve(conn net.Conn) {
	showplan := false
	for {
		kind, status, body, err := readMessage(conn)
		if err != nil {
			return
		}
		r := request{kind: kind, reset: status&statusReset != 0, raw: string(body)}
		if kind == packetBatch || kind == packetRPC {
			r.text = text16(body[binary.LittleEndian.Uint32(body):]) // behind ALL_HEADERS
		}
		w.mu.Lock()
		w.requests = append(w.requests, r)
		w.mu.Unlock()
		var answer []byte
		switch {
		case kind == packetPrelogin: // a version, and no encryption
			answer = []byte{0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 16, 0, 0, 0, 0, 0, 2}
		case kind == packetLogin:
			ack := append([]byte{1, 0x74, 0, 0, 4, 3}, ucs2("SQL")...)
			ack = append(ack, 16, 0, 0, 0)
			answer = done(append([]byte{0xad, byte(len(ack)), 0}, ack...), 0)
		case kind == packetAttention:
			if w.deaf {
				continue
			}
			answer = done(nil, 0x20)
		case r.text == "SET SHOWPLAN_XML ON":
			showplan, answer = true, done(nil, 0)
		case r.text == "SET SHOWPLAN_XML OFF":
			showplan, answer = false, done(nil, 0)
		case showplan:
			answer = done(plan16(document("select")), 0)
		case strings.Contains(r.text, "SERVERPROPERTY"):
			answer = done(facts16(), 0)
		case strings.Contains(r.text, "SELECT hang"):
			continue
		default:
			answer = done(nil, 0)
		}
		if err := writeMessage(conn, answer); err != nil {
			return
		}
	}
}

func readMessage(conn io.Reader) (kind, status byte, body []byte, err error) {
	first := true
	for {
		header := make([]byte, 8)
		if _, err := io.ReadFull(conn, header); err != nil {
			return 0, 0, nil, err
		}
		part := make([]byte, binary.BigEndian.Uint16(header[2:])-8)
		if _, err := io.ReadFull(conn, part); err != nil {
			return 0, 0, nil, err
		}
		if kind = header[0]; first {
			status, first = header[1], false
		}
		body = append(body, part...)
		if header[1]&statusEnd != 0 {
			return kind, status, body, nil
		}
	}
}

func writeMessage(conn io.Writer, body []byte) error {
	for id := byte(1); ; id++ {
		const most = 4096 - 8
		part := body[:min(len(body), most)]
		body = body[len(part):]
		header := []byte{packetReply, 0, 0, 0, 0, 0, id, 0}
		if len(body) == 0 {
			header[1] = statusEnd
		}
		binary.BigEndian.PutUint16(header[2:], uint16(len(part)+8))
		if _, err := conn.Write(append(header, part...)); err != nil || len(body) == 0 {
			return err
		}
	}
}

// text16 is what of a body reads as UTF-16.
func text16(body []byte) string {
	units := make([]uint16, len(body)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(body[2*i:])
	}
	return string(utf16.Decode(units))
}

func ucs2(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// done ends an answer with a DONE token.
func done(answer []byte, status byte) []byte {
	return append(append(answer, 0xfd, status, 0), make([]byte, 10)...)
}

var collation = []byte{9, 4, 0xd0, 0, 0x34}

// columns16 describes columns of nvarchar of a size, 0xffff for max.
func columns16(size uint16, names ...string) []byte {
	b := []byte{0x81, byte(len(names)), 0}
	for _, name := range names {
		b = append(b, 0, 0, 0, 0, 1, 0, 0xe7)
		b = append(binary.LittleEndian.AppendUint16(b, size), collation...)
		b = append(append(b, byte(len(name))), ucs2(name)...)
	}
	return b
}

func facts16() []byte {
	b := columns16(8000, "kind", "fact")
	for _, fact := range safe {
		b = append(b, 0xd1)
		for _, v := range fact {
			text := ucs2(v.(string))
			b = append(binary.LittleEndian.AppendUint16(b, uint16(len(text))), text...)
		}
	}
	return b
}

func plan16(document string) []byte {
	text := ucs2(document)
	b := append(columns16(0xffff, "plan"), 0xd1)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(text)))
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(text))), text...)
	return append(b, 0, 0, 0, 0)
}

func (w *wire) start(t *testing.T, o engine.Options) *Database {
	t.Helper()
	o.DSN = "sqlserver://mcp_ro:s3cret%21@" + w.Addr().String() + "?database=shop"
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestTheDriverSendsWhatItShould: a statement of a caller comes in a batch only
// while plans are shown, and is run by sp_executesql.
func TestTheDriverSendsWhatItShould(t *testing.T) {
	w := newWire(t)
	d := w.start(t, options())
	for _, sql := range []string{"SELECT id FROM users", "SELECT.wipe", "SELECT"} {
		if err := d.Read(t.Context(), who, engine.Statement{SQL: sql}, newWriter()); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		batches := w.texts(packetBatch)
		same(t, sql, batches[len(batches)-7:], []string{settings, "SET SHOWPLAN_XML ON", " " + sql, "SET SHOWPLAN_XML OFF",
			"SET TEXTSIZE 1000000 SET ROWCOUNT 0", "BEGIN TRANSACTION", "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION"})
		calls := w.texts(packetRPC)
		if last := w.raw(packetRPC, len(calls)-1); !strings.Contains(last, string(ucs2("sp_executesql"))) || !strings.Contains(last, string(ucs2(sql))) {
			t.Errorf("%s: called %q", sql, last)
		}
	}
	resets := 0
	for _, r := range w.requests {
		if r.reset {
			resets++
		}
		if strings.Contains(r.raw, "s3cret") || strings.Contains(r.raw, string(ucs2("s3cret"))) {
			t.Errorf("the password is on the wire")
		}
	}
	if resets != 3 { // once as the connection is opened, and each time that it is lent again
		t.Errorf("%d resets", resets)
	}
	if n := len(w.texts(packetLogin)); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func (w *wire) raw(kind byte, n int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if r.kind == kind {
			if n == 0 {
				return r.raw
			}
			n--
		}
	}
	return ""
}

func TestParamsOnTheWire(t *testing.T) {
	w := newWire(t)
	d := w.start(t, options())
	if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT @p1, @p2", Params: []any{"ä'", nil}}, newWriter()); err != nil {
		t.Fatal(err)
	}
	last := w.raw(packetRPC, len(w.texts(packetRPC))-1)
	for _, want := range []string{"sp_executesql", "SELECT @p1, @p2", "@p1 nvarchar(4000), @p2 nvarchar(4000)", "@p1", "ä'", "@p2"} {
		if !strings.Contains(last, string(ucs2(want))) {
			t.Errorf("no %s in %q", want, last)
		}
	}
}

// TestAnAttentionEndsTheStatement: and the connection is kept.
func TestAnAttentionEndsTheStatement(t *testing.T) {
	w := newWire(t)
	d := w.start(t, options())
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(gone) })
	end := mcptest.Within(t, time.Second)
	if err := d.Read(ctx, who, engine.Statement{SQL: "SELECT hang"}, newWriter()); err != gone {
		t.Errorf("got %v", err)
	}
	end()
	if n := len(w.texts(packetAttention)); n != 1 {
		t.Errorf("%d attentions", n)
	}
	batches := w.texts(packetBatch)
	if last := batches[len(batches)-1]; last != "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION" {
		t.Errorf("the last was %s", last)
	}
	if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil {
		t.Error(err)
	}
	if n := len(w.texts(packetLogin)); n != 1 {
		t.Errorf("%d logins", n)
	}
}

// TestADeafServerIsCutOff: the driver would wait ten seconds.
func TestADeafServerIsCutOff(t *testing.T) {
	w := newWire(t)
	w.deaf = true
	d := w.start(t, options())
	start := time.Now()
	err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT hang", Timeout: 50 * time.Millisecond}, newWriter())
	if took := time.Since(start); err != engine.ErrTimeout || took < confirmation || took > 5*time.Second {
		t.Errorf("got %v after %v", err, took)
	}
	if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil {
		t.Error(err)
	}
	if n := len(w.texts(packetLogin)); n != 2 {
		t.Errorf("%d logins", n)
	}
}

// TestAServerThatWentAwayIsReachedAnew: its connections died in the pool.
func TestAServerThatWentAwayIsReachedAnew(t *testing.T) {
	w := newWire(t)
	d := w.start(t, options())
	for range 2 {
		if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, newWriter()); err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		for _, c := range w.conns {
			_ = c.Close()
		}
		w.mu.Unlock()
	}
}
