//go:build unix

package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// wiredTo returns wires to a server that counts its TCP connections.
func wiredTo(t *testing.T, handler http.HandlerFunc) (*wires, *httptest.Server, *atomic.Int32) {
	t.Helper()
	opened := new(atomic.Int32)
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ws := newWires(u, nil, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	})
	t.Cleanup(ws.close)
	return ws, server, opened
}

// post makes a request over a wire.
func post(t *testing.T, ctx context.Context, ws *wires, header http.Header, body string) (*http.Response, *sent, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second) // a response that never comes is no timeout of the test
	t.Cleanup(cancel)
	s := new(sent)
	response, done, err := ws.post(ctx, &http.Request{Method: "POST", URL: ws.url, Header: header}, []byte(body), s)
	if !done {
		t.Fatal("the request was not for a wire")
	}
	return response, s, err
}

// mustPost makes a request and returns the body of the response.
func mustPost(t *testing.T, ws *wires, body string) string {
	t.Helper()
	response, _, err := post(t, t.Context(), ws, nil, body)
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = w.Write(body)
}

func TestWireIsUsedAgain(t *testing.T) {
	ws, _, opened := wiredTo(t, echo)
	for i := range 10 {
		if got := mustPost(t, ws, fmt.Sprint(i)); got != fmt.Sprint(i) {
			t.Fatalf("%d was answered with %q", i, got)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d TCP connections for calls one after the other", n)
	}
}

// A server that closes idle connections has not run what was never sent to it.
func TestWireThatTheServerClosed(t *testing.T) {
	ws, server, opened := wiredTo(t, echo)
	for i := range 10 {
		mustPost(t, ws, "x")
		server.CloseClientConnections() // returns when they are closed
		if n := int(opened.Load()); n != i+1 {
			t.Fatalf("%d TCP connections, want %d", n, i+1)
		}
	}
}

// What must not be read into the next response, or never ends, takes its wire
// with it.
func TestWireThatIsNotUsedAgain(t *testing.T) {
	raw := func(said string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			conn, buffer, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = buffer.WriteString(said)
			_ = buffer.Flush()
			_, _ = io.Copy(io.Discard, conn) // until the client closes it
			_ = conn.Close()
		}
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		unread  bool
	}{
		"body is not read":      {handler: echo, unread: true},
		"body has not come":     {handler: raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"), unread: true},
		"it says so":            {handler: raw("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")},
		"HTTP/1.0":              {handler: raw("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx")},
		"another protocol":      {handler: raw("HTTP/1.1 101 Switching Protocols\r\n\r\n")},
		"more than the answer":  {handler: raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
		"more without a body":   {handler: raw("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
		"chunks that are wrong": {handler: raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz")},
	} {
		t.Run(name, func(t *testing.T) {
			ws, _, opened := wiredTo(t, test.handler)
			for range 2 {
				response, _, err := post(t, t.Context(), ws, nil, "x")
				if err != nil {
					t.Fatal(err)
				}
				if !test.unread {
					_, _ = io.ReadAll(response.Body)
				}
				_ = response.Body.Close()
			}
			if n := opened.Load(); n != 2 {
				t.Errorf("%d TCP connections for 2 calls", n)
			}
		})
	}
}

func TestWireOfACallThatEnds(t *testing.T) {
	arrived := make(chan context.CancelCauseFunc, 1)
	ws, _, opened := wiredTo(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if cancel := <-arrived; cancel != nil {
			cancel(errors.New("before the header"))
		} else {
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done() // a client that is gone ends its connection
	})
	for i, begins := range []bool{false, true} {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		if begins {
			arrived <- nil
		} else {
			arrived <- cancel
		}
		response, s, err := post(t, ctx, ws, nil, "x")
		if begins && err == nil {
			cancel(errors.New("before the body"))
			_, err = io.ReadAll(response.Body)
		}
		if err == nil || ctx.Err() == nil || !s.wrote.Load() {
			t.Errorf("response begins %v: error %v, end %v, written %v", begins, err, ctx.Err(), s.wrote.Load())
		}
		if n := int(opened.Load()); n != i+1 {
			t.Errorf("response begins %v: %d TCP connections, want %d", begins, n, i+1)
		}
	}
}

func TestWireHeaders(t *testing.T) {
	ws, _, _ := wiredTo(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints) // is not the answer
		_ = r.Header.Write(w)
		fmt.Fprintf(w, "Host: %s", r.Host)
	})
	response, _, err := post(t, t.Context(), ws, http.Header{"Mcp-Name": {"a b"}, "X": {"1", "2"}}, "x")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(response.Body)
	want := "Accept-Encoding: gzip\r\nContent-Length: 1\r\nMcp-Name: a b\r\nUser-Agent: Go-http-client/1.1\r\nX: 1\r\nX: 2\r\nHost: " + ws.url.Host
	if string(got) != want || err != nil {
		t.Errorf("the server got %q, %v, want %q", got, err, want)
	}
}

func TestWireHeaderOfAResponseIsBounded(t *testing.T) {
	ws, _, _ := wiredTo(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		for err == nil {
			_, err = io.WriteString(conn, "X: "+strings.Repeat("x", 1<<16)+"\r\n")
		}
		_ = conn.Close()
	})
	if _, _, err := post(t, t.Context(), ws, nil, "x"); err == nil || !strings.Contains(err.Error(), "header of the response has more than") {
		t.Errorf("got %v", err)
	}
}

func TestWireRequestsThatAreNotMade(t *testing.T) {
	ws, _, opened := wiredTo(t, echo)
	for name, test := range map[string]struct {
		url    *url.URL
		header http.Header
		size   int
	}{
		"another URL":      {url: &url.URL{Scheme: "http", Host: ws.url.Host}, size: 1},
		"a large message":  {url: ws.url, size: mostWired + 1},
		"a line in a line": {url: ws.url, header: http.Header{"X": {"a\r\nb: c"}}, size: 1},
	} {
		_, done, err := ws.post(t.Context(), &http.Request{Method: "POST", URL: test.url, Header: test.header}, make([]byte, test.size), new(sent))
		if done || err != nil {
			t.Errorf("%s: done %v, error %v", name, done, err)
		}
	}
	for rawURL, header := range map[string]http.Header{
		"https://localhost/mcp":     nil,
		"http://exämple.test/mcp":   nil,
		"http://[fe80::1%25lo]/mcp": nil,
		"http://localhost/mcp":      {"Connection": {"close"}},
	} {
		u, err := url.Parse(rawURL)
		if err != nil {
			t.Fatal(err)
		}
		if newWires(u, header, nil) != nil {
			t.Errorf("there are wires to %s with header %v", rawURL, header)
		}
	}
	if n := opened.Load(); n != 0 {
		t.Errorf("%d TCP connections", n)
	}
}

func TestIdleWires(t *testing.T) {
	ws, _, opened := wiredTo(t, echo)
	mustPost(t, ws, "x")
	ws.expire()
	mustPost(t, ws, "x")
	if n := opened.Load(); n != 1 {
		t.Fatalf("%d TCP connections, want 1: it was not idle for long", n)
	}
	ws.idle[0].since = time.Now().Add(-idleTime)
	ws.expire()
	if len(ws.idle) != 0 || ws.expiry != nil {
		t.Errorf("%d wires are idle, with timer %v", len(ws.idle), ws.expiry)
	}
	mustPost(t, ws, "x")
	if n := opened.Load(); n != 2 {
		t.Errorf("%d TCP connections, want 2", n)
	}
	response, _, err := post(t, t.Context(), ws, nil, "x")
	if err != nil {
		t.Fatal(err)
	}
	ws.close()
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Errorf("close has cut off an answer: %v", err)
	}
	if len(ws.idle) != 0 {
		t.Error("a wire is idle after close")
	}
}
