package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// An aside is a legacy server whose tool "ask" makes its request on the GET
// stream of the session, and returns the response.
type aside struct {
	mcptest.Server
	get func(http.ResponseWriter, *http.Request) bool // answers a GET itself if it returns true

	mu      sync.Mutex
	n       int
	stream  chan string
	replies map[string]chan json.RawMessage
}

func newAside() *aside {
	s := &aside{stream: make(chan string, 10), replies: map[string]chan json.RawMessage{}}
	s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
		m, _ := jsonrpc.Parse(peek(r))
		switch {
		case r.Method == http.MethodGet && s.get != nil && s.get(w, r):
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			for {
				select {
				case message := <-s.stream:
					if message == "end" {
						return true
					}
					_, _ = io.WriteString(w, "data: "+message+"\n\n")
					_ = http.NewResponseController(w).Flush()
				case <-r.Context().Done():
					return true
				}
			}
		case method == "tools/call" && jsonrpc.GetString(m.Params, "name") == "ask":
			s.mu.Lock()
			s.n++
			id := fmt.Sprintf(`"aside-%d"`, s.n)
			reply := make(chan json.RawMessage, 1)
			s.replies[id] = reply
			s.mu.Unlock()
			s.stream <- `{"jsonrpc":"2.0","id":` + id + `,"method":"elicitation/create","params":{"message":"well?"}}`
			select {
			case result := <-reply:
				writeResult(w, m.ID, `{"reply":`+string(result)+`}`)
			case <-r.Context().Done():
			}
		case m.IsResponse() && s.reply(&m):
			w.WriteHeader(http.StatusAccepted)
		default:
			return false
		}
		return true
	}
	return s
}

func (s *aside) reply(m *jsonrpc.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := s.replies[string(m.ID)]
	if reply == nil {
		return false
	}
	if m.Error != nil {
		reply <- m.Error
	} else {
		reply <- m.Result
	}
	return true
}

func writeResult(w http.ResponseWriter, id json.RawMessage, result string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(jsonrpc.AppendResult(nil, id, json.RawMessage(result)))
}

func accepts(context.Context, string) (json.RawMessage, error) {
	return json.RawMessage(`{"action":"accept"}`), nil
}

func TestRequestsOutsideOfCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAside()
		endpoint := inBubble(t, &s.Server)
		conn := openWith(t, endpoint, Legacy, rpc.Capabilities{Elicitation: true})
		if n := s.Gets(); n != 1 {
			t.Errorf("%d GETs after an opening for callers who can be asked", n)
		}
		got := events{ask: accepts}
		answer, err := conn.Call(t.Context(), askFor(&got, elicits), nil)
		got.returned()
		if err != nil || string(answer.Bytes()) != `{"reply":{"action":"accept"}}` {
			t.Errorf("got %s, %v", answer.Bytes(), err)
		}
		if len(got.asked) != 1 || got.asked[0] != `elicitation/create {"message":"well?"}` {
			t.Errorf("asked %q", got.asked)
		}
		got.check(t)

		// Without a call, or beside another, nobody can say whose it is.
		answer, err = conn.Call(t.Context(), askFor(nil, rpc.Caller{}), nil)
		if err != nil || !strings.Contains(string(answer.Bytes()), "nobody here answers") {
			t.Errorf("a caller who cannot be asked: %s, %v", answer.Bytes(), err)
		}
		other := events{ask: accepts}
		done := make(chan error)
		go func() {
			call := mcptest.CallTool("sleep", args{"ms": 1000})
			call.Events = &other
			_, err := conn.Call(t.Context(), call, nil)
			done <- err
		}()
		synctest.Wait()
		answer, err = conn.Call(t.Context(), askFor(&got, elicits), nil)
		if err != nil || !strings.Contains(string(answer.Bytes()), "nobody here answers") || len(other.asked)+len(got.asked) != 1 {
			t.Errorf("beside another call: %s, %v", answer.Bytes(), err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		conn.Close(context.Background())
	})
}

// A call whose caller goes while it is asked ends at once.
func TestCallerGoesWhileAskedOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAside()
		conn := openWith(t, inBubble(t, &s.Server), Legacy, rpc.Capabilities{Elicitation: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got := events{ask: func(ctx context.Context, _ string) (json.RawMessage, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		began := time.Now()
		_, err := conn.Call(ctx, askFor(&got, elicits), nil)
		got.returned()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		got.check(t)
		conn.Close(context.Background())
	})
}

func TestStandingStreamIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newAside()
		conn := openWith(t, inBubble(t, &s.Server), Legacy, rpc.Capabilities{Elicitation: true})
		for range 3 {
			s.stream <- "end"
			time.Sleep(2 * time.Second)
		}
		got := events{ask: accepts}
		if _, err := conn.Call(t.Context(), askFor(&got, elicits), nil); err != nil || s.Gets() != 4 {
			t.Errorf("%v, after %d GETs", err, s.Gets())
		}
		// Whoever listens shares the stream, and is told when it has ended.
		var heard Pending
		filters := make(chan Filter, 1)
		filters <- Filter{Tools: true}
		ended := make(chan error)
		go func() { ended <- conn.Listen(t.Context(), filters, nil, &heard) }()
		synctest.Wait()
		s.stream <- `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
		synctest.Wait()
		if all := heard.Take(); len(all) != 2 || all[1].Method != "notifications/tools/list_changed" || s.Gets() != 4 {
			t.Errorf("heard %v, after %d GETs", all, s.Gets())
		}
		s.stream <- "end"
		fails(MayHaveRun, false, "ended")(t, <-ended)
		conn.Close(context.Background())
	})
}

// Servers that do not let themselves be heard are opened all the same, and the
// wait for one that sends no headers is short. What is known before the server
// has taken in that the opening is over is not waited for after that.
func TestServersWithoutAStandingStream(t *testing.T) {
	for name, test := range map[string]struct {
		get  func(http.ResponseWriter, *http.Request)
		gets int
		took time.Duration
	}{
		"405":    {reply(405, "", ""), 1, 0},
		"404":    {reply(404, "", ""), 1, 0},
		"503":    {reply(503, "", ""), 12, 0}, // after 0, 1, 3, 7, 15 and 31 s, and then each half minute
		"page":   {reply(200, "text/html", "<html>"), 1, 0},
		"silent": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 1, streamSilence},
	} {
		for _, late := range []time.Duration{0, time.Second / 2} {
			t.Run(fmt.Sprint(name, ", initialized after ", late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newAside()
					s.get = func(w http.ResponseWriter, r *http.Request) bool { test.get(w, r); return true }
					fault := s.Fault
					s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
						if method == "notifications/initialized" {
							time.Sleep(late)
						}
						return fault(r, method, w)
					}
					began := time.Now()
					conn := openWith(t, inBubble(t, &s.Server), Legacy, rpc.Capabilities{Elicitation: true})
					if took := time.Since(began); took != late+test.took {
						t.Errorf("the opening took %v, want %v", took, late+test.took)
					}
					mustEcho(t, conn, "a")
					time.Sleep(4 * time.Minute)
					if n := s.Gets(); n != test.gets {
						t.Errorf("%d GETs, want %d", n, test.gets)
					}
					mustEcho(t, conn, "b")
					conn.Close(context.Background())
					if s.Open() != 0 {
						t.Error("the session was not deleted")
					}
				})
			})
		}
	}
}

// Who cannot be asked has no stream opened.
func TestNoStandingStreamWithoutCapabilities(t *testing.T) {
	s := newAside()
	mustEcho(t, open(t, inBubble(t, &s.Server), Legacy), "a")
	if s.Gets() != 0 {
		t.Errorf("%d GETs", s.Gets())
	}
}
