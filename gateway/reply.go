package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// A reply is the HTTP response to one request: one JSON object or, as soon as
// an event precedes the answer, a stream of server-sent events.
type reply struct {
	gateway *Gateway
	w       http.ResponseWriter
	ctx     context.Context // ends when the client is gone
	accepts accepts
	session string // of a legacy client, which can come back to a stream; "" for none

	mu     sync.Mutex // guards what follows; nothing blocks under it
	stream *stream    // nil before the first event
	ended  bool       // no more events
	writer sync.WaitGroup
	err    error // of writing; read when the writer has ended
}

func (p *reply) event(frame []byte) { p.put(frame, true) }
func (p *reply) send(frame []byte)  { p.put(frame, false) }

// put sends a frame ahead of the answer. It does not block.
func (p *reply) put(frame []byte, mayBeLost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.beginLocked()
	p.stream.put(frame, mayBeLost)
}

// beginLocked makes the response a stream.
func (p *reply) beginLocked() {
	if p.stream != nil {
		return
	}
	if p.session != "" {
		p.stream = p.gateway.streams.begin(p.gateway.name, p.session)
	} else {
		p.stream = newStream("")
	}
	p.writer.Go(func() {
		startEvents(p.w)
		p.err = p.stream.serve(p.ctx, p.w, 0)
	})
}

// stop lets no more events in and waits until those before are written, or the
// client is gone. It reports whether there were any, so that the response has
// begun.
func (p *reply) stop() (streaming bool) {
	p.mu.Lock()
	p.ended = true
	s := p.stream
	p.mu.Unlock()
	if s == nil {
		return false
	}
	s.end()
	p.writer.Wait()
	return true
}

// streaming reports whether an event came, so that the response has begun.
func (p *reply) streaming() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stream != nil
}

// answer ends the response with the frame that answers the request. The status
// is lost where events came first, and no event comes behind it.
func (p *reply) answer(status int, frame []byte) {
	p.mu.Lock()
	p.ended = true
	if p.stream == nil && (p.accepts.takesJSON() || status != http.StatusOK) {
		p.mu.Unlock()
		busy := status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
		if busy && p.w.Header().Get("Retry-After") == "" {
			p.w.Header().Set("Retry-After", retryAfter)
		}
		_ = writeJSON(p.w, status, frame) // the client is gone
		return
	}
	p.beginLocked()
	p.mu.Unlock()
	p.stream.send(oneLine(frame))
	if p.stop(); p.err != nil {
		// Returning would end the stream as if it were whole.
		panic(http.ErrAbortHandler)
	}
}

// result is answer with the response that carries a result, which is not copied
// where it may be large. It reports whether nobody uses the result any more: of
// a write over HTTP/2 that has failed the end may be still to come
// (golang/go#20704).
func (p *reply) result(id, result json.RawMessage) (unused bool) {
	p.mu.Lock()
	plain := p.stream == nil && p.accepts.takesJSON()
	p.ended = p.ended || plain
	p.mu.Unlock()
	if !plain {
		p.answer(http.StatusOK, jsonrpc.AppendResult(nil, id, result))
		return true
	}
	if len(result) < jsonrpc.Large {
		return writeJSON(p.w, http.StatusOK, jsonrpc.AppendResult(nil, id, result)) == nil
	}
	before, after := jsonrpc.AroundResult(id, len(result))
	return writeJSON(p.w, http.StatusOK, before, result, after) == nil
}

// finish ends the response, if that was not done.
func (p *reply) finish() {
	if p.stop() && p.session != "" {
		p.gateway.streams.end(p.stream)
	}
}

var typeJSON = []string{"application/json"} // of any number of responses

// writeJSON writes a response that is one frame, in parts. Its length goes before
// it, so that no reader can take a part of it for the whole: net/http ends the
// connection of a write that failed.
func writeJSON(w http.ResponseWriter, status int, frame ...[]byte) error {
	length := 0
	for _, part := range frame {
		length += len(part)
	}
	w.Header()["Content-Type"] = typeJSON
	w.Header().Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(status)
	for _, part := range frame {
		if err := writePieces(w, part); err != nil {
			return err
		}
	}
	return nil
}
