//go:build !race

package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/rpc"
)

// inUse returns the bytes of heap and stacks that are in use.
func inUse() int64 {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestIdleSessionsCostLittle begins 5,000 legacy sessions, which cost next to
// nothing, and then opens a stream for each, over loopback. Both ends of the
// connections are in this process. Under the race detector all of it is larger.
//
//	go test -run TestIdleSessionsCostLittle -v ./gateway
func TestIdleSessionsCostLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens 10,000 sockets")
	}
	const sessions = 5000
	g := newPlain(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		if call.Method == "subscriptions/listen" {
			call.Events.Notify(notifyAcknowledged, json.RawMessage(`{"notifications":{"toolsListChanged":true}}`))
			<-ctx.Done()
			return rpc.Answer{}, ctx.Err()
		}
		return demo(ctx, call)
	})))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: g}
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	ids := make([]string, sessions)
	conns := make([]net.Conn, 0, sessions)
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
		_ = server.Close()
		<-served
	}()
	before := inUse()
	for i := range ids {
		ids[i] = initialize(t, g, "/mcp")
		for _, frame := range []string{legacyList, `{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"info"}}`} {
			if r := legacyPost(g, "/mcp", ids[i], frame); r.code(t) != 0 {
				t.Fatalf("got %s", r)
			}
		}
	}
	idle := inUse() - before
	buffer := make([]byte, 4096)
	for _, id := range ids {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		if _, err := fmt.Fprintf(conn, "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: %s\r\n\r\n", id); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(buffer); err != nil || !strings.HasPrefix(string(buffer[:n]), "HTTP/1.1 200 OK\r\n") {
			t.Fatalf("got %s, %v", buffer[:n], err)
		}
	}
	open := inUse() - before
	t.Logf("%d sessions: %.1f MB without streams, %.1f MB with one each", sessions, float64(idle)/1e6, float64(open)/1e6)
	if idle > 20e6 || open > 200e6 {
		t.Error("want less than 20 MB and 200 MB")
	}
	if n := len(g.standings.of); n != sessions {
		t.Errorf("%d standings", n)
	}
	runtime.KeepAlive(ids)
	closed(t, g)
}
