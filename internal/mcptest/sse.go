package mcptest

import (
	"context"
	"net/http"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// ssePath is where a Server that is OverSSE takes messages: its endpoint. A GET
// of any other path opens a stream.
const ssePath = "/messages"

// An sseStream is the stream that carries all that a server says in a session.
type sseStream struct {
	events
	ctx     context.Context // ends with the stream
	end     context.CancelFunc
	cut     bool           // it is reset, and not ended
	running sync.WaitGroup // requests, whose Add comes with the lock of the Server
}

// serveStream answers a GET: the stream, and its session, last as long as that.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request) {
	stream := &sseStream{events: events{w: w}}
	stream.ctx, stream.end = context.WithCancel(r.Context())
	in := s.begin(stream)
	stream.send("endpoint", []byte(ssePath+"?session="+in.id))
	<-stream.ctx.Done()
	stream.end()
	s.forget(in.id)
	stream.close()
	stream.running.Wait()
	if stream.cut {
		reset()
	}
}

// serveSSE accepts a message; what answers it comes by the stream.
func (s *Server) serveSSE(w http.ResponseWriter, r *http.Request, m *jsonrpc.Message) {
	s.mu.Lock()
	in := s.open[r.URL.Query().Get("session")]
	if in != nil && m.IsRequest() {
		in.sse.running.Add(1)
	}
	s.mu.Unlock()
	switch {
	case in == nil:
		http.Error(w, "Could not find session", http.StatusNotFound)
		return
	case m.IsRequest():
		go func() {
			defer in.sse.running.Done()
			in.sse.send("message", s.respondOver(m, in))
		}()
	default:
		s.accept(m, in)
	}
	http.Error(w, "Accepted", http.StatusAccepted)
}

func (s *Server) respondOver(m *jsonrpc.Message, in *session) []byte {
	if m.Method == "initialize" {
		_ = wait(in.sse.ctx, s.OpenDelay)
		return jsonrpc.AppendResult(nil, m.ID, s.engine.initialize())
	}
	frame, _ := s.respond(in.sse.ctx, m, in, &in.sse.events)
	return frame
}

// Say writes a text to all open streams of HTTP+SSE, be it events or not.
func (s *Server) Say(text string) {
	for _, stream := range s.streams() {
		stream.write(text)
	}
}

// EndStreams ends all streams of HTTP+SSE, and their sessions, as a restart
// does: calls in flight are not answered. cut has the TCP connections reset.
func (s *Server) EndStreams(cut bool) {
	for _, stream := range s.streams() {
		stream.cut = cut
		stream.close()
		stream.end()
	}
}

func (s *Server) streams() (all []*sseStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.open {
		if in.sse != nil {
			all = append(all, in.sse)
		}
	}
	return all
}
