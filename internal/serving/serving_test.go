package serving

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
	server := New(handler, slog.New(slog.DiscardHandler))
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	began := time.Now()
	if _, err := io.WriteString(ours, part); err != nil {
		t.Fatal(err)
	}
	time.Sleep(wait)
	text, _ := io.ReadAll(ours)
	after = time.Since(began)
	ours.Close()
	server.http.Close()
	<-served
	return string(text), after
}

func TestHeadersThatDoNotComeEndTheConnection(t *testing.T) {
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was taken for whole") })
	for name, part := range map[string]string{
		"a line":         "POST /mcp HT",
		"a header":       "POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-",
		"all but a line": "POST /mcp HTTP/1.1\r\nHost: localhost\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if _, after := exchange(t, handler, part, 0); after != headerTime {
					t.Errorf("after %v, want %v", after, headerTime)
				}
			})
		})
	}
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
