package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestHeadersAreBounded(t *testing.T) {
	p := serve(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 128<<10)+"\r\n\r\n")
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
