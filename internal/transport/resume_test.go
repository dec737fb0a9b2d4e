package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

const (
	primer  = "id: 1\nretry: 2000\ndata:\n\n"
	stepped = "id: 2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n"
	done    = "id: 3\ndata: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"structuredContent\":{}}}\n\n"
)

// A resuming server answers a call by a stream that ends early, and the GETs
// after it by these, one after the other.
type resuming struct {
	mcptest.Server
	call string
	gets []func(w http.ResponseWriter, r *http.Request)

	id   string   // of the call
	from []string // the Last-Event-ID of each GET
	at   []time.Time
}

func (s *resuming) fault(r *http.Request, method string, w http.ResponseWriter) bool {
	switch {
	case method == "tools/call" && s.id == "":
		s.id = string(mcptest.ID(r))
		s.at = append(s.at, time.Now())
		s.send(s.call)(w, r)
	case r.Method == http.MethodGet:
		s.from = append(s.from, r.Header.Get("Last-Event-Id"))
		s.at = append(s.at, time.Now())
		if r.Header.Get("Mcp-Session-Id") == "" || r.Header.Get("Mcp-Protocol-Version") == "" || r.Header.Get("Accept") != "text/event-stream" {
			panic(fmt.Sprint("headers: ", r.Header))
		}
		s.gets[min(len(s.from), len(s.gets))-1](w, r)
	default:
		return false
	}
	return true
}

func (s *resuming) send(events string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, strings.ReplaceAll(events, "ID", s.id))
	}
}

func (s *resuming) reset(events string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		s.send(events)(w, r)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestAnswerSurvivesItsStream(t *testing.T) {
	for name, test := range map[string]struct {
		call  string
		gets  func(s *resuming) []func(http.ResponseWriter, *http.Request)
		from  string          // of the GETs
		waits []time.Duration // before them
		check func(*testing.T, error)
	}{
		"taken up": {primer, func(s *resuming) []func(http.ResponseWriter, *http.Request) {
			return []func(http.ResponseWriter, *http.Request){s.send(done)}
		}, "1", []time.Duration{2 * time.Second}, nil},
		"again and again": {primer, func(s *resuming) []func(http.ResponseWriter, *http.Request) {
			return []func(http.ResponseWriter, *http.Request){s.reset(stepped), s.send(""), s.reset(""), reply(503, "", ""), s.send(done)}
		}, "1 2 2 2 2", []time.Duration{2 * time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second}, nil},
		"no word on when": {"id: 1\ndata:\n\n", func(s *resuming) []func(http.ResponseWriter, *http.Request) {
			return []func(http.ResponseWriter, *http.Request){s.send(""), s.send(""), s.send(stepped), s.send(done)}
		}, "1 1 1 2", []time.Duration{time.Second / 2, time.Second, 2 * time.Second, time.Second / 2}, nil},
		"at once": {"retry: 0\nid: 1\ndata:\n\n", func(s *resuming) []func(http.ResponseWriter, *http.Request) {
			return []func(http.ResponseWriter, *http.Request){s.send(done)}
		}, "1", []time.Duration{0}, nil},
		"an event cut short does not count": {primer + "id: 2\ndata: {\"jsonrpc\":", func(s *resuming) []func(http.ResponseWriter, *http.Request) {
			return []func(http.ResponseWriter, *http.Request){s.send(done)}
		}, "1", []time.Duration{2 * time.Second}, nil},
		"nothing comes": {primer, func(s *resuming) []func(http.ResponseWriter, *http.Request) {
			return []func(http.ResponseWriter, *http.Request){s.send("")}
		}, "1 1 1 1 1", nil, fails(MayHaveRun, false, "taking it up has failed 5 times")},
		"session gone": {primer, func(s *resuming) []func(http.ResponseWriter, *http.Request) {
			return []func(http.ResponseWriter, *http.Request){reply(404, "", "")}
		}, "1", nil, fails(MayHaveRun, true, "no longer knows the session")},
		"not allowed": {primer, func(s *resuming) []func(http.ResponseWriter, *http.Request) {
			return []func(http.ResponseWriter, *http.Request){reply(405, "", "")}
		}, "1", nil, fails(MayHaveRun, false, "HTTP 405")},
		"no stream": {primer, func(s *resuming) []func(http.ResponseWriter, *http.Request) {
			return []func(http.ResponseWriter, *http.Request){reply(200, "text/html", "<html>")}
		}, "1", nil, fails(MayHaveRun, false, "text/html")},
		"no ids": {"data:\n\n", func(s *resuming) []func(http.ResponseWriter, *http.Request) { return nil }, "", nil,
			fails(MayHaveRun, false, "the stream ended before it")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &resuming{call: test.call}
				server.Fault, server.gets = server.fault, test.gets(server)
				conn := open(t, inBubble(t, &server.Server), Legacy)
				_, err := call(t.Context(), conn, "write", args{})
				switch {
				case test.check != nil:
					test.check(t, err)
				case err != nil:
					t.Error(err)
				}
				if got := strings.Join(server.from, " "); got != test.from {
					t.Fatalf("GETs from %q, want %q", got, test.from)
				}
				for i, want := range test.waits {
					if got := server.at[i+1].Sub(server.at[i]); got != want {
						t.Errorf("GET %d after %v, want %v", i+1, got, want)
					}
				}
				if !isDead(err) {
					mustEcho(t, conn, "next")
				}
				conn.Close(t.Context())
			})
		})
	}
}

// A caller that goes while the stream is down goes at once, and the server is
// told.
func TestCallEndedWhileItsStreamIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &resuming{call: "retry: 3600000\nid: 1\ndata:\n\n"}
		server.Fault = server.fault
		conn := open(t, inBubble(t, &server.Server), Legacy)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := call(ctx, conn, "write", args{})
		failure := wantFailure(t, err, MayHaveRun, false)
		if !errors.Is(err, context.DeadlineExceeded) || failure.Settled == nil {
			t.Errorf("got %v", err)
		}
		<-failure.Settled
		if n := server.Requests("notifications/cancelled"); n != 1 {
			t.Errorf("%d cancellations", n)
		}
		mustEcho(t, conn, "next")
		conn.Close(t.Context())
	})
}

// Modern servers know no resumption.
func TestModernStreamIsNotTakenUp(t *testing.T) {
	server := &resuming{call: primer}
	server.Modern, server.Fault = true, server.fault
	_, err := call(t.Context(), open(t, inBubble(t, &server.Server), Modern), "write", args{})
	fails(MayHaveRun, false, "the stream ended")(t, err)
	if len(server.from) != 0 {
		t.Errorf("%d GETs", len(server.from))
	}
}
