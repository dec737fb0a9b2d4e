package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// pipes is a listener whose connections are in this process, so that time can
// be made up: what is written waits until the other end reads it.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A site serves a gateway over pipes.
type site struct {
	listener pipes
	server   *http.Server
	closed   chan time.Time // when the server closed each connection
}

func newSite(t *testing.T, h http.Handler) *site {
	s := &site{make(pipes), &http.Server{Handler: h}, make(chan time.Time, 100)}
	s.server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			s.closed <- time.Now()
		}
	}
	served := make(chan error)
	go func() { served <- s.server.Serve(s.listener) }()
	t.Cleanup(func() {
		close(s.listener)
		_ = s.server.Close()
		<-served
	})
	return s
}

// dial opens a connection.
func (s *site) dial(t *testing.T) net.Conn {
	client, server := net.Pipe()
	s.listener <- server
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// head is the beginning of a request with a body of so many bytes.
func head(method, path string, length int, headers ...string) string {
	h := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n", method, path)
	if length > 0 {
		h += fmt.Sprintf("Content-Length: %d\r\n", length)
	}
	for ; len(headers) > 0; headers = headers[2:] {
		h += headers[0] + ": " + headers[1] + "\r\n"
	}
	return h + "\r\n"
}

func post(body string, headers ...string) string {
	return head("POST", "/mcp", len(body), append(headers, "Content-Type", "application/json")...) + body
}

func TestAClientThatDoesNotSendIsCutOff(t *testing.T) {
	t.Parallel()
	const asJSON = "Content-Type"
	for name, test := range map[string]struct {
		head   string
		drip   bool // a byte each second
		status int
	}{
		"half a body":               {head("POST", "/mcp", 1000, asJSON, "application/json"), false, 408},
		"a body by drops":           {head("POST", "/mcp", 1000, asJSON, "application/json"), true, 408},
		"a chunked body":            {head("POST", "/mcp", 0, asJSON, "application/json", "Transfer-Encoding", "chunked"), false, 408},
		"of another kind":           {head("POST", "/mcp", 1000, asJSON, "text/plain"), false, 415},
		"to nowhere":                {head("POST", "/nowhere", 1000, asJSON, "application/json"), true, 404},
		"from elsewhere":            {head("POST", "/mcp", 1000, "Origin", "http://evil.example"), false, 403},
		"with another method":       {head("PUT", "/mcp", 1000, asJSON, "application/json"), false, 405},
		"that nobody knows":         {head("POST", "/mcp", 1000, "X-Principal", "nobody"), false, 401},
		"with a stream":             {head("GET", "/mcp", 1000, "Mcp-Session-Id", "SESSION"), false, 0},
		"as a client over HTTP+SSE": {head("GET", "/mcp", 1000), false, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newGateway(t, &Options{Principal: byHeader}, one(handler(demo)))
			s := newSite(t, g)
			conn := s.dial(t)
			began := time.Now()
			if _, err := io.WriteString(conn, strings.Replace(test.head, "SESSION", initialize(t, g, "/mcp"), 1)); err != nil {
				t.Fatal(err)
			}
			dripped := make(chan struct{})
			go func() {
				defer close(dripped)
				for test.drip {
					if _, err := io.WriteString(conn, "1"); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if test.status != 0 && (err != nil || resp.StatusCode != test.status) {
				t.Errorf("%s: got %v, %v", name, resp, err)
			}
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
			}
			_, _ = io.Copy(io.Discard, conn)
			if took := (<-s.closed).Sub(began); took > readTime+time.Second { // net/http lingers
				t.Errorf("%s: cut off after %v", name, took)
			}
			_ = conn.Close()
			<-dripped
			closed(t, g)
		})
	}
}

func TestACallMayTakeLongerThanItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			select {
			case <-time.After(10 * max(readTime, writeTime)):
				return text("done"), nil
			case <-ctx.Done():
				return rpc.Answer{}, ctx.Err()
			}
		})))
		s := newSite(t, g)
		conn := s.dial(t)
		in := bufio.NewReader(conn)
		for range 2 { // on one connection
			for _, request := range []string{
				post(legacyCall, "Mcp-Session-Id", initialize(t, g, "/mcp")),
				post(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x",`+meta+`}}`, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "x"),
			} {
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil || !strings.Contains(string(body), "done") {
					t.Errorf("got %s, %v", body, err)
				}
			}
		}
		closed(t, g)
	})
}

func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		big := strings.Repeat("x", 1<<20)
		tells := newTeller(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
			if strings.Contains(string(call.Params), "progressToken") {
				for range 3 * maxQueued {
					call.Events.Notify("notifications/progress", json.RawMessage(`{"progressToken":0,"message":"`+big[:1000]+`"}`))
				}
			}
			if strings.Contains(string(call.Params), `"big"`) {
				return text(big), nil
			}
			return text("small"), nil
		})
		g := newPlain(t, nil, one(tells))
		s := newSite(t, g)
		session := initialize(t, g, "/mcp")
		call := func(tool, more string) string {
			return post(`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"`+tool+`"`+more+`}}`, "Mcp-Session-Id", session)
		}
		const token = `,"_meta":{"progressToken":0}`
		for name, request := range map[string]string{
			"a small answer":                 call("small", ""),
			"a large one":                    call("big", ""),
			"small events":                   call("small", token),
			"events, and a large answer":     call("big", token),
			"the stream of a session":        head("GET", "/mcp", 0, "Mcp-Session-Id", session, "Accept", "text/event-stream"),
			"the stream of an older client":  head("GET", "/sse", 0, "Accept", "text/event-stream"),
			"an error":                       head("GET", "/nowhere", 0),
			"requests, one behind the other": strings.Repeat(call("small", ""), 3),
		} {
			conn := s.dial(t)
			began := time.Now()
			go func() { _, _ = io.WriteString(conn, request) }()
			if took := (<-s.closed).Sub(began); took > writeTime {
				t.Errorf("%s: cut off after %v", name, took)
			}
			_ = conn.Close()
			synctest.Wait()
			if n := len(g.calls.running); n != 0 {
				t.Errorf("%s: %d calls run", name, n)
			}
		}
		closed(t, g)
	})
}

func TestTheEndOfAStreamIsNotWaitedForEither(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(handler(demo)))
		s := newSite(t, g)
		session := initialize(t, g, "/mcp")
		conn := s.dial(t)
		if _, err := io.WriteString(conn, head("GET", "/mcp", 0, "Mcp-Session-Id", session)); err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil { // and nothing more
			t.Fatal(err)
		}
		time.Sleep(heartbeat / 2)
		began := time.Now()
		do(g, "DELETE", "/mcp", "", "Mcp-Session-Id", session)
		if took := (<-s.closed).Sub(began); took > writeTime {
			t.Errorf("cut off after %v", took)
		}
		closed(t, g)
	})
}

// patience is a client whose response has deadlines.
type patience struct {
	*wire
	until time.Time
}

func (p *patience) SetWriteDeadline(until time.Time) error {
	p.until = until
	return nil
}

// TestAStreamThatIsSilentHasNoDeadline looks at what HTTP/2 would end a stream
// by, also when nothing is written.
func TestAStreamThatIsSilentHasNoDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStream("")
		w := &patience{wire: &wire{t: t, begun: make(chan struct{}), events: make(chan string, 10), header: make(http.Header)}}
		var served sync.WaitGroup
		served.Go(func() { _ = s.serve(t.Context(), w, 0) })
		for range 2 {
			synctest.Wait()
			if !w.until.IsZero() {
				t.Errorf("it is to end at %v", w.until)
			}
			s.send([]byte("{}"))
		}
		s.end()
		served.Wait()
		if w.until.IsZero() {
			t.Error("its end has no deadline")
		}
	})
}

func TestAClientMayReadSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 64 * maxPiece
		for pause, whole := range map[time.Duration]bool{
			time.Second * (1 << 10) / slowest: true,  // 1 KiB at a time
			writeTime / 70:                    false, // 64 KiB take less than writeTime
		} {
			for _, accept := range []string{"application/json", "text/event-stream"} {
				g := newGateway(t, nil, one(handler(func(context.Context, rpc.Call) (rpc.Answer, error) { return text(strings.Repeat("x", size)), nil })))
				conn := newSite(t, g).dial(t)
				began := time.Now()
				if _, err := io.WriteString(conn, post(strings.Replace(legacyCall, `"x"`, `"big"`, 1), "Mcp-Session-Id", initialize(t, g, "/mcp"), "Accept", accept)); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil)
				if err != nil {
					t.Fatal(err)
				}
				read := 0
				for err == nil {
					time.Sleep(pause)
					var n int
					n, err = resp.Body.Read(make([]byte, 1<<10))
					read += n
				}
				took := time.Since(began)
				if whole && (err != io.EOF || read < size || took < 5*writeTime) {
					t.Errorf("after %v read %d bytes, and then %v", took, read, err)
				}
				if most := 2*writeTime + time.Second*size/slowest; !whole && (err == io.EOF || took > most) {
					t.Errorf("after %v, of %v at most, read %d bytes, and then %v", took, most, read, err)
				}
				_ = conn.Close()
				synctest.Wait()
				closed(t, g)
			}
		}
	})
}
