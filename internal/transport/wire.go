package transport

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// mostWired bounds, in bytes, the message of a request over a wire. A larger
	// one might not fit into the buffers of a socket, and a server may answer, and
	// want to be heard, before it has read all of it.
	mostWired = 16 << 10
	// mostHeader bounds, in bytes, the header of a response, as net/http does.
	mostHeader = 10 << 20
	// maxIdle and idleTime bound the idle TCP connections to one server. One
	// server, many callers: with the 2 of net/http, 64 callers open some 500
	// connections a second. The time is shorter than the idle timeout of common
	// load balancers (60 s), so that we close first and no call is written to a
	// closed connection.
	maxIdle  = 256
	idleTime = 45 * time.Second
)

// wires makes requests to one server over HTTP/1.1 without TLS, each on the
// goroutine of its caller. The transport of net/http has two goroutines for each
// TCP connection and passes a request through both, which is a quarter of what a
// call costs a gateway (bench/README.md, "Gateway"). So nearly all requests come
// here, those that post a message of at most mostWired bytes. All others are
// for net/http, and responses are parsed by it in any case.
type wires struct {
	url   *url.URL // of all requests
	dial  func(ctx context.Context) (net.Conn, error)
	start string // of each request: its first line, and what header lacks

	mu     sync.Mutex  // guards what follows
	idle   []*wire     // the one used last comes last
	expiry *time.Timer // nil while none is idle
	closed bool
}

// A wire is one TCP connection to the server. Between take and put, or close, it
// is one request's alone.
type wire struct {
	net.Conn
	raw   syscall.RawConn
	bound *io.LimitedReader // what may still be read of Conn
	in    *bufio.Reader     // of bound
	out   []byte            // memory for requests
	since time.Time         // when it fell idle
}

// newWires returns nil where the requests to a server, which have that header,
// are for net/http alone. dial opens TCP connections, and nothing around them.
func newWires(u *url.URL, header http.Header, dial func(ctx context.Context) (net.Conn, error)) *wires {
	if u.Scheme != "http" || !canPeek || strings.Trim(strings.ToLower(u.Host), "abcdefghijklmnopqrstuvwxyz0123456789-.:[]") != "" {
		return nil
	}
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u}); proxy != nil || err != nil {
		return nil
	}
	start := "POST " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nAccept-Encoding: gzip\r\n"
	if _, there := header["User-Agent"]; !there {
		start += "User-Agent: Go-http-client/1.1\r\n"
	}
	for name := range header {
		if strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return nil // net/http knows which are refused
		}
		switch name {
		case "Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
			return nil // net/http knows what to make of them
		}
	}
	return &wires{url: u, dial: dial, start: start}
}

// post makes a request, and notes in s how far it came. ctx ends it, also while the
// body of the response is being read; that has to be read to its end or closed.
// done is false if the request is for net/http, and nothing has happened.
func (ws *wires) post(ctx context.Context, request *http.Request, frame []byte, s *sent) (response *http.Response, done bool, err error) {
	if ws == nil || request.URL != ws.url || len(frame) > mostWired || !isPlain(request.Header) {
		return nil, false, nil
	}
	s.asked.Store(true)
	for {
		w := ws.take()
		used := w != nil
		if !used {
			if w, err = ws.open(ctx); err != nil {
				return nil, true, err
			}
		}
		s.linked.Store(true)
		stop := context.AfterFunc(ctx, func() { _ = w.SetDeadline(time.Unix(1, 0)) })
		w.out = ws.append(w.out[:0], request.Header, frame)
		n, err := w.Write(w.out)
		if err == nil {
			s.wrote.Store(true)
			if response, err = w.read(request); err == nil {
				ws.follow(response, w, stop)
				return response, true, nil
			}
		}
		s.wrote.Store(n > 0)
		stop()
		_ = w.Close()
		// The server may close a connection after we have looked at it.
		if n > 0 || !used || ctx.Err() != nil {
			return nil, true, err
		}
	}
}

// isPlain reports whether the values of a header are written as they are.
func isPlain(header http.Header) bool {
	for _, values := range header {
		for _, value := range values {
			for i := range len(value) {
				if c := value[i]; c < ' ' || c > '~' {
					return false
				}
			}
		}
	}
	return true
}

func (ws *wires) append(to []byte, header http.Header, frame []byte) []byte {
	to = append(to, ws.start...)
	for name, values := range header {
		for _, value := range values {
			to = append(append(to, name...), ": "...)
			to = append(append(to, value...), "\r\n"...)
		}
	}
	to = strconv.AppendInt(append(to, "Content-Length: "...), int64(len(frame)), 10)
	return append(append(to, "\r\n\r\n"...), frame...)
}

func (ws *wires) open(ctx context.Context) (*wire, error) {
	conn, err := ws.dial(ctx)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, bound: &io.LimitedReader{R: conn}}
	w.in = bufio.NewReader(w.bound)
	if sys, ok := conn.(syscall.Conn); ok {
		w.raw, err = sys.SyscallConn()
	}
	if w.raw == nil { // which no dialer of net does
		_ = conn.Close()
		return nil, fmt.Errorf("the network connection is no socket: %w", err)
	}
	return w, nil
}

// read reads the header of the response to a request.
func (w *wire) read(request *http.Request) (*http.Response, error) {
	w.bound.N = mostHeader
	response, err := http.ReadResponse(w.in, request)
	for err == nil && response.StatusCode/100 == 1 && response.StatusCode != http.StatusSwitchingProtocols {
		response, err = http.ReadResponse(w.in, request) // what came was no more than a sign of life
	}
	if err != nil && w.bound.N == 0 {
		err = fmt.Errorf("the header of the response has more than %d bytes", mostHeader)
	}
	w.bound.N = math.MaxInt64
	return response, err
}

// follow has a wire used again when the body of its response has been read.
// stop says whether its ctx has not ended before.
func (ws *wires) follow(response *http.Response, w *wire, stop func() bool) {
	over := func(whole bool) {
		// More than the answer is the beginning of no other.
		if stop() && whole && !response.Close && response.StatusCode != http.StatusSwitchingProtocols && w.in.Buffered() == 0 {
			ws.put(w)
		} else {
			_ = w.Close()
		}
	}
	if response.Body == http.NoBody {
		over(true)
		return
	}
	body := &wireBody{Reader: response.Body, over: over}
	response.Body = body
	if strings.EqualFold(response.Header.Get("Content-Encoding"), "gzip") {
		response.Header.Del("Content-Encoding")
		response.Header.Del("Content-Length")
		response.ContentLength, response.Uncompressed = -1, true
		response.Body = &unpacked{wireBody: body}
	}
}

// A wireBody is the body of a response over a wire.
type wireBody struct {
	io.Reader
	ended atomic.Bool
	over  func(whole bool) // called once
}

func (b *wireBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		b.end(err == io.EOF)
	}
	return n, err
}

// Close implements io.Closer. What has not been read never is.
func (b *wireBody) Close() error {
	b.end(false)
	return nil
}

func (b *wireBody) end(whole bool) {
	if !b.ended.Swap(true) {
		b.over(whole)
	}
}

// unpacked is a body that comes compressed, as net/http has it.
type unpacked struct {
	*wireBody
	zip *gzip.Reader // nil before the first Read
}

func (u *unpacked) Read(p []byte) (n int, err error) {
	if u.zip == nil {
		if u.zip, err = gzip.NewReader(u.wireBody); err != nil {
			return 0, err
		}
	}
	return u.zip.Read(p)
}

// take returns the wire that was used last, unless the server has closed it; nil
// if there is none.
func (ws *wires) take() *wire {
	for {
		ws.mu.Lock()
		n := len(ws.idle) - 1
		if n < 0 {
			ws.mu.Unlock()
			return nil
		}
		w := ws.idle[n]
		ws.idle[n], ws.idle = nil, ws.idle[:n]
		ws.mu.Unlock()
		if stillOpen(w.raw) {
			return w
		}
		_ = w.Close()
	}
}

// put gives a wire back.
func (ws *wires) put(w *wire) {
	if cap(w.out) > 4<<10 {
		w.out = nil
	}
	w.since = time.Now()
	if !ws.keep(w) {
		_ = w.Close()
	}
}

func (ws *wires) keep(w *wire) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closed || len(ws.idle) >= maxIdle {
		return false
	}
	ws.idle = append(ws.idle, w)
	if ws.expiry == nil {
		ws.expiry = time.AfterFunc(idleTime, ws.expire)
	}
	return true
}

// expire closes the wires that have been idle for too long.
func (ws *wires) expire() {
	ws.mu.Lock()
	n := 0
	for n < len(ws.idle) && time.Since(ws.idle[n].since) >= idleTime {
		n++
	}
	old := slices.Clone(ws.idle[:n])
	ws.idle = slices.Delete(ws.idle, 0, n)
	if ws.expiry = nil; len(ws.idle) > 0 {
		ws.expiry = time.AfterFunc(idleTime-time.Since(ws.idle[0].since), ws.expire)
	}
	ws.mu.Unlock()
	closeAll(old)
}

// close closes the idle wires now, and the others when they would fall idle.
func (ws *wires) close() {
	if ws == nil {
		return
	}
	ws.mu.Lock()
	idle := ws.idle
	ws.idle, ws.closed = nil, true
	if ws.expiry != nil {
		ws.expiry.Stop()
	}
	ws.mu.Unlock()
	closeAll(idle)
}

func closeAll(list []*wire) {
	for _, w := range list {
		_ = w.Close()
	}
}
