package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// joinProtocol is what a program asks for by the Upgrade header (RFC 9110
	// section 7.8) to have a client of its own served: over the connection go
	// lines, as with ServeStdio.
	joinProtocol = joinFamily + "1"
	joinFamily   = "mcpool-stdio/" // whatever version
	// notifyLeft is the last line of a gateway. What it has not answered before
	// has not run, and will not.
	notifyLeft = "notifications/mcpool/left"
	// maxJoined bounds the clients that are served so.
	maxJoined = 1 << 12
	// lingerTime is how long the other side of a connection may take to read
	// the last line. A connection that is closed before can lose it.
	lingerTime = time.Second
)

var leftLine = append(jsonrpc.AppendRequest(nil, nil, notifyLeft, nil), '\n')

// wantsToJoin reports whether a request asks for some version of joinProtocol.
// Other protocols are none of ours, and may be ignored. A request whose
// Connection has no upgrade has come through something that does not know of it,
// and would take what follows for HTTP (RFC 9110 section 7.8).
func wantsToJoin(r *http.Request) bool {
	if !strings.HasPrefix(strings.ToLower(r.Header.Get("Upgrade")), joinFamily) {
		return false
	}
	for _, line := range r.Header.Values("Connection") {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "upgrade") {
				return true
			}
		}
	}
	return false
}

// join serves the client of a program that asks for joinProtocol, until that
// has no more to say, or the gateway closes.
func (g *Gateway) join(v *visit) {
	if !strings.EqualFold(v.r.Header.Get("Upgrade"), joinProtocol) {
		v.w.Header().Set("Upgrade", joinProtocol)
		refuse(v.w, http.StatusUpgradeRequired, rpc.Errorf(rpc.CodeInvalidRequest, "a gateway of this version is joined by %s", joinProtocol))
		return
	}
	if !g.joiners.enter() {
		v.w.Header().Set("Retry-After", retryAfter)
		refuse(v.w, http.StatusServiceUnavailable, rpc.Errorf(rpc.CodeInternal,
			"no more clients may join: %d have, or the gateway is shutting down", g.joiners.count()))
		return
	}
	defer g.joiners.leave()
	conn, buffered, err := http.NewResponseController(v.w).Hijack()
	if err != nil {
		refuse(v.w, http.StatusInternalServerError, rpc.Errorf(rpc.CodeInternal, "the connection cannot be upgraded: %v", err))
		return
	}
	defer conn.Close()
	v.record.Status = http.StatusSwitchingProtocols
	_ = conn.SetDeadline(time.Time{}) // that of the server was for a request
	out := deadlineWriter{conn}
	header := maps.Clone(*g.joinHeader.Load())
	if header == nil {
		header = http.Header{}
	}
	header.Set("Connection", "Upgrade")
	header.Set("Upgrade", joinProtocol)
	var head strings.Builder
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = header.Write(&head) // a Builder does not fail
	head.WriteString("\r\n")
	if _, err := io.WriteString(out, head.String()); err != nil {
		return
	}
	// net/http ends the request's context when nothing more comes of the client;
	// what it has asked before is still answered.
	ctx, release := g.admitted.hold(context.WithoutCancel(v.r.Context()), v)
	defer release()
	if err := g.serveLines(ctx, v.endpoint, v.principal, buffered.Reader, out, g.draining.Done()); err != nil {
		g.log.Debug("a client that joined is gone", logError, err)
		return
	}
	if _, err := out.Write(leftLine); err != nil {
		return
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = conn.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, conn)
	}
}

// SetJoinHeader replaces Options.JoinHeader.
func (g *Gateway) SetJoinHeader(header http.Header) {
	header = header.Clone()
	g.joinHeader.Store(&header)
}

// A deadlineWriter cuts off who does not read.
type deadlineWriter struct{ net.Conn }

func (w deadlineWriter) Write(data []byte) (int, error) {
	written := 0
	for written < len(data) {
		if err := w.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return written, err
		}
		n, err := w.Conn.Write(data[written:min(len(data), written+maxPiece)])
		if written += n; err != nil {
			return written, err
		}
	}
	return written, nil
}

// joiners are the clients of programs that have joined.
type joiners struct {
	work sync.WaitGroup // what serves them

	mu     sync.Mutex // guards what follows
	closed bool
	number int
}

func (j *joiners) enter() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed || j.number >= maxJoined {
		return false
	}
	j.number++
	j.work.Add(1)
	return true
}

func (j *joiners) leave() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.number--
	j.work.Done()
}

func (j *joiners) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
}

// ErrNotJoinable is what listens at an address and is no gateway that can be
// joined. To try again does not help.
var ErrNotJoinable = errors.New("what listens there is no gateway of mcpool, or one of a version that cannot be joined")

// ErrNotAdmitted is a gateway that asks who calls, and does not take what it was
// told. To try again does not help.
var ErrNotAdmitted = errors.New("the gateway asks who calls: its key is missing, or is not taken")

const (
	// joinTime is how long a gateway may take to say whether it can be joined, and
	// maxJoinHead bounds what it says, in bytes.
	joinTime    = 10 * time.Second
	maxJoinHead = 64 << 10
)

// A Joined is a way to a gateway that another program is, or this one: a
// connection, which [Relay] closes.
type Joined struct {
	// Header is what the gateway says of itself: its Options.JoinHeader.
	Header http.Header

	conn net.Conn
	in   *bufio.Reader
}

// Join asks the gateway that listens at a TCP address to serve a client of this
// program, as it would at /mcp; token is who calls, as a Bearer token, "" where
// that is not asked. It waits until it is told, ctx ends, or 10 s are
// over. The error wraps [ErrNotJoinable], [ErrNotAdmitted], the cause of ctx, or what the network
// has against it.
func Join(ctx context.Context, address, token string) (*Joined, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, joinTime, fmt.Errorf("no answer within %v", joinTime))
	defer cancel()
	if strings.ContainsAny(token, "\r\n") {
		return nil, fmt.Errorf("join %s: %w", address, ErrNotAdmitted)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	response, in, err := askToJoin(conn, token)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err == nil && response.StatusCode == http.StatusSwitchingProtocols {
		return &Joined{response.Header, conn, in}, nil
	}
	_ = conn.Close() // and not the body, which might have no end
	switch {
	case err != nil:
		return nil, fmt.Errorf("join %s: %w", address, err)
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("join %s: %w: status %d", address, ErrNotAdmitted, response.StatusCode)
	case response.StatusCode == http.StatusServiceUnavailable:
		return nil, fmt.Errorf("join %s: it takes no more clients now", address)
	}
	return nil, fmt.Errorf("join %s: %w: it answers with status %d", address, ErrNotJoinable, response.StatusCode)
}

// askToJoin sends the request and reads the head of the response, behind which
// the reader goes on.
func askToJoin(conn net.Conn, token string) (*http.Response, *bufio.Reader, error) {
	// Whatever the address is, it is a gateway of this machine that is meant.
	head := "GET /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: " + joinProtocol + "\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	_, err := io.WriteString(conn, head+"\r\n")
	if err != nil {
		return nil, nil, err
	}
	bounded := &io.LimitedReader{R: conn, N: maxJoinHead}
	in := bufio.NewReader(bounded)
	// Nothing before it was HTTP: that is no network that fails.
	if begin, err := in.Peek(len("HTTP/1.")); err != nil {
		return nil, nil, err
	} else if string(begin) != "HTTP/1." {
		return nil, nil, fmt.Errorf("%w: it does not speak HTTP", ErrNotJoinable)
	}
	response, err := http.ReadResponse(in, &http.Request{Method: http.MethodGet})
	if err != nil && bounded.N <= 0 {
		err = fmt.Errorf("%w: the head of its answer has more than %d bytes", ErrNotJoinable, maxJoinHead)
	}
	bounded.N = math.MaxInt64
	return response, in, err
}
