package serving

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A oneConn is a listener with one connection.
type oneConn struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
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

// TestLeaveFailsNoRequest has clients with connections in each state: one that
// asks again soon, one that does not, one that has not asked yet, and one whose
// answer takes its time.
func TestLeaveFailsNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &oneConn{conns: make(chan net.Conn, 4), done: make(chan struct{})}
		server := New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				time.Sleep(20 * time.Second)
			}
			_, _ = io.WriteString(w, "hello")
		}), slog.New(slog.DiscardHandler))
		served := make(chan error)
		go func() { served <- server.Serve(l) }()
		dial := func() net.Conn {
			ours, its := net.Pipe()
			l.conns <- its
			return ours
		}
		ask := func(c net.Conn, path string) *http.Response {
			t.Helper()
			if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(r.Body); string(body) != "hello" || err != nil {
				t.Errorf("%s: got %q, %v", path, body, err)
			}
			return r
		}
		soon, never, silent, slow := dial(), dial(), dial(), dial()
		if ask(soon, "/").Close || ask(never, "/").Close {
			t.Error("connections are closed before it is to leave")
		}
		answered := make(chan bool)
		go func() { answered <- ask(slow, "/slow").Close }()
		synctest.Wait()
		began := time.Now()
		left := make(chan struct{})
		go func() {
			defer close(left)
			server.Leave(t.Context())
		}()
		<-l.done // nobody new comes here
		<-served
		time.Sleep(unusedTime - time.Second)
		if !ask(soon, "/").Close || !ask(silent, "/").Close {
			t.Error("a client is not told to leave")
		}
		if n, err := never.Read(make([]byte, 1)); n != 0 || err != io.EOF || time.Since(began) != unusedTime {
			t.Errorf("after %v: %d, %v", time.Since(began), n, err)
		}
		if <-answered {
			t.Error("an answer that had begun says that it is the last") // its headers were not written, but made
		}
		if !ask(slow, "/").Close {
			t.Error("the next one does not")
		}
		<-left
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("it took %v", took)
		}
		// Nothing is waited for beyond the end of ctx.
		for _, c := range []net.Conn{soon, never, silent, slow} {
			c.Close()
		}
	})
}

func TestLeaveEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &oneConn{conns: make(chan net.Conn, 1), done: make(chan struct{})}
		ours, its := net.Pipe()
		defer ours.Close()
		l.conns <- its
		server := New(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
		served := make(chan error)
		go func() { served <- server.Serve(l) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		server.Leave(ctx)
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
		<-served
		server.http.Close()
	})
}
