package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/rpc"
)

// address is where a test server listens.
func address(s *httptest.Server) string { return s.Listener.Addr().String() }

func TestWhoMayJoin(t *testing.T) {
	t.Parallel()
	g := newGateway(t, &Options{Principal: func(r *http.Request) (string, error) {
		if r.Header.Get("X-Who") == "nobody" {
			return "", errors.New("nobody")
		}
		return "", nil
	}}, one(handler(demo)))
	server := httptest.NewServer(g)
	defer server.Close()
	ask := func(headers ...string) *http.Response {
		t.Helper()
		conn, err := net.Dial("tcp", address(server))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		text := "GET /mcp HTTP/1.1\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	const host, upgrade = "Host: localhost", "Connection: keep-alive, upgrade\r\nUpgrade: mcpool-stdio/1"
	for name, test := range map[string]struct {
		headers []string
		status  int
	}{
		"a program":        {[]string{host, upgrade}, 101},
		"a rebound name":   {[]string{"Host: evil.example.com", upgrade}, 403},
		"a foreign page":   {[]string{host, "Origin: https://evil.example.com", upgrade}, 403},
		"another version":  {[]string{host, upgrade[:len(upgrade)-1] + "2"}, 426},
		"another protocol": {[]string{host, "Connection: Upgrade\r\nUpgrade: websocket"}, 405},
		"a proxy between":  {[]string{host, "Connection: close\r\nUpgrade: mcpool-stdio/1"}, 405},
		"nobody":           {[]string{host, "X-Who: nobody", upgrade}, 401},
	} {
		response := ask(test.headers...)
		if response.StatusCode != test.status || test.status == 426 && response.Header.Get("Upgrade") != joinProtocol {
			t.Errorf("%s: %d %v", name, response.StatusCode, response.Header)
		}
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if response := ask(host, upgrade); response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
		t.Errorf("after Close: %d %v", response.StatusCode, response.Header)
	}
	if _, err := Join(t.Context(), address(server), ""); err == nil || errors.Is(err, ErrNotJoinable) {
		t.Errorf("Join after Close: %v", err)
	}
}

func TestWhatCannotBeJoined(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	if _, err := Join(t.Context(), address(other), ""); !errors.Is(err, ErrNotJoinable) || !strings.Contains(err.Error(), "404") {
		t.Errorf("another server: %v", err)
	}
	for name, answer := range map[string]string{
		"a body without end": "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
		"a head without end": "HTTP/1.1 101 Switching Protocols\r\nA: " + strings.Repeat("a", maxJoinHead),
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		refused := make(chan struct{})
		go func() {
			defer close(refused)
			conn, err := listener.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, answer)
			_, _ = io.Copy(io.Discard, conn) // until the other side gives up
		}()
		if _, err := Join(t.Context(), listener.Addr().String(), ""); !errors.Is(err, ErrNotJoinable) {
			t.Errorf("%s: %v", name, err)
		}
		<-refused
		listener.Close()
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := Join(ctx, address(other), ""); err == nil {
		t.Error("it joined after its ctx had ended")
	}
}

// TestCloseHandsJoinedClientsOn: the calls that the gateway has begun are
// answered, subscriptions and what comes after that are left to another, and
// the last line says so.
func TestCloseHandsJoinedClientsOn(t *testing.T) {
	t.Parallel()
	h := newWaiter()
	ended := make(chan rpc.Caller, 1)
	s := one(h)
	s.EndSession = func(who rpc.Caller) { ended <- who }
	g := newGateway(t, &Options{
		JoinHeader: http.Header{"X-Serves": {"this"}},
		Principal:  func(*http.Request) (string, error) { return "me", nil },
	}, s)
	server := httptest.NewServer(g)
	defer server.Close()
	j, err := Join(t.Context(), address(server), "")
	if err != nil {
		t.Fatal(err)
	}
	defer j.conn.Close()
	if got := j.Header.Get("X-Serves"); got != "this" {
		t.Errorf("it was told %v", j.Header)
	}
	if got := g.Status().Joined; got != 1 {
		t.Errorf("%d have joined", got)
	}
	write := func(frame string) {
		t.Helper()
		if _, err := io.WriteString(j.conn, frame+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	read := func() string {
		t.Helper()
		line, err := j.in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	write(stdioInitialize)
	read()
	write(`{"jsonrpc":"2.0","id":"s","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},` + meta + `}}`)
	read()
	write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`)
	<-h.began
	closed := make(chan error)
	go func() { closed <- g.Close(t.Context()) }()
	<-g.draining.Done()
	write(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"x"}}`)
	write(`[]`) // the answer to it shows that what came before was seen
	if got := read(); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":null,"error":`) {
		t.Errorf("got %s", got)
	}
	select {
	case err := <-closed:
		t.Fatalf("Close has not waited: %v", err)
	default:
	}
	close(h.free)
	if got := read(); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":1,"result":`) {
		t.Errorf("got %s", got)
	}
	if got := read(); got != string(leftLine) {
		t.Errorf("got %s", got)
	}
	if _, err := j.in.ReadByte(); err != io.EOF {
		t.Errorf("after the last line: %v", err)
	}
	j.conn.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if who := <-ended; who.Principal != "me" {
		t.Errorf("the session of %+v has ended", who)
	}
	if n := len(h.began); n != 0 || g.Status().Joined != 0 {
		t.Errorf("%d more calls were made, %d are joined", n, g.Status().Joined)
	}
}
