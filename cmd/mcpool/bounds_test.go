package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// A oneConn is a listener with one connection.
type oneConn struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error   { close(l.done); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// exchange writes a part of a request to a server of ours, and returns what it
// answered until it closed the connection, and when that was. It does not read
// before it has waited.
func exchange(t *testing.T, handler http.Handler, part string, wait time.Duration) (answer string, after time.Duration) {
	t.Helper()
	l := &oneConn{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	ours, its := net.Pipe()
	l.conns <- its
	server := &http.Server{Handler: boundBodies(handler)}
	served := make(chan error)
	go func() { served <- server.Serve(boundWrites{l}) }()
	began := time.Now()
	if _, err := io.WriteString(ours, part); err != nil {
		t.Fatal(err)
	}
	time.Sleep(wait)
	text, _ := io.ReadAll(ours)
	after = time.Since(began)
	ours.Close()
	server.Close()
	<-served
	return string(text), after
}

func TestABodyThatDoesNotComeEndsTheConnection(t *testing.T) {
	const part = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab"
	for name, handler := range map[string]http.HandlerFunc{
		"read":     func(w http.ResponseWriter, r *http.Request) { _, _ = io.ReadAll(r.Body) },
		"not read": func(w http.ResponseWriter, r *http.Request) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if _, after := exchange(t, handler, part, 0); after != bodyTime {
					t.Errorf("after %v, want %v", after, bodyTime)
				}
			})
		})
	}
}

func TestAnAnswerThatIsNotReadEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") })
		answer, _ := exchange(t, handler, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", writeTime+time.Second)
		if strings.Contains(answer, "hello") {
			t.Errorf("it was written after %v: %q", writeTime+time.Second, answer)
		}
	})
}

func TestACallMayTakeLongerThanEachPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // as the gateway does
			select {
			case <-time.After(time.Hour):
				w.Header().Set("Connection", "close")
				_, _ = io.WriteString(w, "at last")
			case <-r.Context().Done():
			}
		})
		answer, after := exchange(t, handler, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab", 0)
		if !strings.HasSuffix(answer, "at last") || after != time.Hour {
			t.Errorf("after %v: %q", after, answer)
		}
	})
}

func TestAWriteThatNobodyReadsFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, its := net.Pipe()
		defer ours.Close()
		conn := boundConn{its}
		began := time.Now()
		if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != writeTime {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestHeadersAreBounded(t *testing.T) {
	p := serve(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 2*maxHeader)+"\r\n\r\n")
	}()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%v, %v", response, err)
	}
}

// TestDrainDelayTakesCallsWhileABalancerLooks: as long as it lasts new clients
// are told to go elsewhere, and those that come all the same are served.
func TestDrainDelayTakesCallsWhileABalancerLooks(t *testing.T) {
	p := serveChild(t, "--drain-delay", "1h", "--drain-timeout", "2h", "--config", behind(t, upstream(t, &mcptest.Server{})))
	p.stop()
	p.unready(t)
	if _, err := connect(t, web(t), p.url+"/mcp").call(context.WithoutCancel(t.Context()), "echo", "late"); err != nil {
		t.Error(err)
	}
	p.stop() // the second signal
	p.end(t)
}
