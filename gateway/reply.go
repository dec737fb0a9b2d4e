package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// maxQueued bounds the events that wait for a client to read them. Beyond it
// they are dropped: a client that does not read must not hold up the server.
const maxQueued = 64

// A reply is the HTTP response to one request: one JSON object or, as soon as
// an event precedes the answer, a stream of server-sent events.
type reply struct {
	w       http.ResponseWriter
	accepts accepts

	mu     sync.Mutex  // guards what follows; nothing blocks under it
	queue  chan []byte // frames to be sent as events; nil before the first
	ended  bool        // no more events
	writer sync.WaitGroup
	broken bool // the client is gone; read when the writer has ended
}

// event sends a frame ahead of the answer. It does not block.
func (p *reply) event(frame []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	if p.queue == nil {
		p.queue = make(chan []byte, maxQueued)
		queue := p.queue
		p.writer.Go(func() { p.stream(queue) })
	}
	select {
	case p.queue <- frame:
	default:
	}
}

// stream writes the events.
func (p *reply) stream(queue <-chan []byte) {
	p.startStream()
	for frame := range queue {
		if !p.broken {
			p.broken = p.writeEvent(frame) != nil
		}
	}
}

// stop lets no more events in and waits until those before are written. It
// reports whether there were any, so that the response has begun.
func (p *reply) stop() (streaming bool) {
	p.mu.Lock()
	streaming = p.queue != nil
	if streaming && !p.ended {
		close(p.queue)
	}
	p.ended = true
	p.mu.Unlock()
	p.writer.Wait()
	return streaming
}

// answer ends the response with the frame that answers the request. The status
// is lost where events came first.
func (p *reply) answer(status int, frame []byte) {
	streaming := p.stop()
	if !streaming && (p.accepts.json || status != http.StatusOK) {
		writeJSON(p.w, status, frame)
		return
	}
	if !streaming {
		p.startStream()
	}
	if p.broken || p.writeEvent(oneLine(frame)) != nil {
		// Returning would end the stream as if it were whole.
		panic(http.ErrAbortHandler)
	}
}

// result is answer with the response that carries a result, which is not copied
// where it may be large.
func (p *reply) result(id, result json.RawMessage) {
	streaming := p.stop()
	if streaming || !p.accepts.json {
		p.answer(http.StatusOK, jsonrpc.AppendResult(nil, id, result))
		return
	}
	before, after := jsonrpc.AroundResult(id, len(result))
	writeJSON(p.w, http.StatusOK, before, result, after)
}

func (p *reply) startStream() {
	h := p.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	// MCP 2026-07-28, basic/transports/streamable-http "Receiving Messages".
	h.Set("X-Accel-Buffering", "no")
	p.w.WriteHeader(http.StatusOK)
}

func (p *reply) writeEvent(frame []byte) error {
	event := make([]byte, 0, len(frame)+32)
	event = append(event, "event: message\ndata: "...)
	event = append(append(event, frame...), "\n\n"...)
	if _, err := p.w.Write(event); err != nil {
		return err
	}
	if err := http.NewResponseController(p.w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

var typeJSON = []string{"application/json"} // of any number of responses

// writeJSON writes a response that is one frame, in parts. Its length goes before
// it, so that no reader can take a part of it for the whole.
func writeJSON(w http.ResponseWriter, status int, frame ...[]byte) {
	length := 0
	for _, part := range frame {
		length += len(part)
	}
	w.Header()["Content-Type"] = typeJSON
	w.Header().Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(status)
	for _, part := range frame {
		_, _ = w.Write(part) // net/http ends the connection of a write that failed
	}
}
