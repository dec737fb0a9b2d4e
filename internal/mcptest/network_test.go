package mcptest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func get(t *testing.T, ctx context.Context, over http.RoundTripper) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://server.test/x?y", nil)
	if err != nil {
		t.Fatal(err)
	}
	return over.RoundTrip(request)
}

func TestRoundTripperStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Seen", r.Host+r.RequestURI)
			_, _ = io.WriteString(w, "one\n")
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "two\n")
		})
		before := time.Now()
		response, err := get(t, t.Context(), RoundTripper(handler))
		if err != nil || response.StatusCode != 200 || response.Header.Get("X-Seen") != "server.test/x?y" {
			t.Fatalf("got %+v, %v", response, err)
		}
		in := bufio.NewReader(response.Body)
		for i, want := range []string{"one\n", "two\n", ""} {
			line, _ := in.ReadString('\n')
			if line != want {
				t.Errorf("got %q, want %q", line, want)
			}
			if after := time.Since(before); after != time.Duration(min(i, 1))*time.Second {
				t.Errorf("line %d came after %v", i, after)
			}
		}
	})
}

func TestRoundTripperEndsTheHandler(t *testing.T) {
	for name, end := range map[string]func(*http.Response, context.CancelFunc){
		"cancel": func(_ *http.Response, cancel context.CancelFunc) { cancel() },
		"close":  func(response *http.Response, _ context.CancelFunc) { _ = response.Body.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.WriteHeader(http.StatusTeapot)
					<-r.Context().Done()
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				response, err := get(t, ctx, RoundTripper(handler))
				if err != nil || response.StatusCode != http.StatusTeapot {
					t.Fatalf("got %+v, %v", response, err)
				}
				end(response, cancel)
				if _, err := response.Body.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
					t.Errorf("reading on: %v", err)
				}
			})
		})
	}
}

func TestRoundTripperFaults(t *testing.T) {
	abort := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	if _, err := get(t, t.Context(), RoundTripper(http.HandlerFunc(abort))); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("aborted: got %v", err)
	}
	for name, handler := range map[string]http.HandlerFunc{
		"aborted": func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "abc"); abort(w, r) },
		"short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "7")
			_, _ = io.WriteString(w, "abc")
		},
	} {
		response, err := get(t, t.Context(), RoundTripper(handler))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(response.Body); string(body) != "abc" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: got %q, %v", name, body, err)
		}
	}
}

func TestNetworkDown(t *testing.T) {
	network := &Network{Handler: http.NotFoundHandler()}
	network.SetDown(true)
	_, err := get(t, t.Context(), network)
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("down: got %v", err)
	}
	network.SetDown(false)
	if response, err := get(t, t.Context(), network); err != nil || response.StatusCode != 404 {
		t.Errorf("up: got %v, %v", response, err)
	}
}

func post(t *testing.T, server *Server, session, body string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://server.test", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if session != "" {
		request.Header.Set("Mcp-Session-Id", session)
	}
	response, err := RoundTripper(server).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func TestServerKeepsBooks(t *testing.T) {
	var server Server
	const (
		initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`
		write      = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"write","arguments":{"id":"w","text":"x"}}}`
	)
	session := post(t, &server, "", initialize).Header.Get("Mcp-Session-Id")
	for range 2 {
		body, err := io.ReadAll(post(t, &server, session, write).Body)
		if err != nil || !strings.Contains(string(body), `"structuredContent":{"id":"w","session":"`+session+`","text":"x"}`) {
			t.Errorf("got %s, %v", body, err)
		}
	}
	if n := server.Executions()["w"]; n != 2 || server.Requests("tools/call") != 2 || server.MaxConcurrent() != 1 || server.InFlight() != 0 {
		t.Errorf("ran %d times, at most %d at once", n, server.MaxConcurrent())
	}
	if server.Sessions() != 1 || server.Open() != 1 {
		t.Errorf("%d sessions, %d open", server.Sessions(), server.Open())
	}
	server.Expire()
	if status := post(t, &server, session, write).StatusCode; status != 404 || server.Open() != 0 {
		t.Errorf("after a restart: HTTP %d, %d open", status, server.Open())
	}
	if status := post(t, &server, "", write).StatusCode; status != 400 {
		t.Errorf("without a session: HTTP %d", status)
	}
}
