package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// maxMail bounds how many messages wait for one call. All but the answer are
// dropped beyond it, so that a caller who is slow to take them in holds up neither
// the server nor the other calls.
const maxMail = 1024

// shownLength is how much is looked at, in bytes, of the beginning and of the
// end of a message that is too large.
const shownLength = 4 << 10

// A flight is an exchange on a connection that others share. The reader of the
// connection puts messages in, the goroutine of the call takes them out.
type flight struct {
	outgoing
	x       *exchange
	own     bool          // not a caller's: nothing unasked for is meant for it
	arrived chan struct{} // holds one token while there is mail

	mu     sync.Mutex // guards what follows
	mail   []mail
	landed bool // nothing more is taken in
}

// A mail is a message for a call, or what was wrong with one.
type mail struct {
	message jsonrpc.Message
	err     error
}

// put reports whether the message was taken in.
func (f *flight) put(m mail) bool {
	f.mu.Lock()
	takes := !f.landed && (len(f.mail) < maxMail || m.message.IsResponse())
	if takes {
		f.mail = append(f.mail, m)
	}
	f.mu.Unlock()
	select {
	case f.arrived <- struct{}{}:
	default:
	}
	return takes
}

// next returns the first message that waits.
func (f *flight) next() (m mail, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.mail) == 0 {
		f.mail = nil
		return mail{}, false
	}
	m, f.mail[0] = f.mail[0], mail{}
	f.mail = f.mail[1:]
	return m, true
}

// close returns what still waits. Nothing is taken in any more.
func (f *flight) close() []mail {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.landed = true
	return f.mail
}

// deliver takes in what has arrived up to the answer, and returns that if it
// was there.
func (f *flight) deliver(ctx context.Context) (result json.RawMessage, answered bool, err error) {
	for {
		m, ok := f.next()
		switch {
		case !ok:
			return nil, false, nil
		case m.err != nil:
			return nil, true, &Failure{Fate: MayHaveRun, Err: m.err}
		case f.x.isAnswer(&m.message):
			result, err := verdict(&m.message)
			return result, true, err
		}
		f.x.receive(ctx, &m.message)
	}
}

// flights are the exchanges under way on a connection where everything that
// the server says comes the same way.
type flights struct {
	link      link
	authorize Authorize // of replies to what is for no call
	quote     func(said []byte) string
	log       *slog.Logger

	mu   sync.Mutex // guards byID
	byID map[int64]*flight
}

// board begins an exchange: what comes for it from now on is kept. own tells
// that it is none of a caller's. land must follow.
func (s *flights) board(x *exchange, frame []byte, own bool) *flight {
	f := &flight{x: x, own: own, arrived: make(chan struct{}, 1)}
	f.frame = frame
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = make(map[int64]*flight)
	}
	s.byID[x.id] = f
	return f
}

// land ends an exchange: what comes for it from now on, or was not taken in, is
// for no call.
func (s *flights) land(f *flight) {
	s.mu.Lock()
	delete(s.byID, f.x.id)
	s.mu.Unlock()
	for _, m := range f.close() {
		s.astray(&m.message)
	}
	f.x.end()
}

// route gives a message of the server to the call it is for. A response has the
// id of its call and progress the token; for whom anything else is nobody
// says, so it goes to a call that is alone and otherwise to none.
func (s *flights) route(said []byte) {
	m, err := jsonrpc.Parse(said)
	var to *flight
	switch {
	case err != nil && m.Result == nil && m.Error == nil:
		s.log.Warn("the server has sent what is no message", "text", s.quote(said), "error", err)
		return
	case err != nil:
		err = fmt.Errorf("the answer is no message: %w: %s", err, s.quote(said))
		to = s.flight(m.ID)
	case m.IsResponse():
		to = s.flight(m.ID)
	case m.IsRequest() && m.Method == methodPing:
		s.link.reply(pong(m.ID), s.authorize)
		return
	case m.Method == methodProgress:
		to = s.flight(progressToken(&m))
	case subscriptionOf(&m) != nil:
		to = s.flight(subscriptionOf(&m))
	default:
		to = s.onlyCall()
	}
	if err == nil && m.IsNotification() { // also where a call is over before it takes it in
		s.link.changed(m.Method, m.Params)
	}
	if to == nil || !to.put(mail{m, err}) {
		s.astray(&m)
	}
}

// astray takes in a message that is for no call.
func (s *flights) astray(m *jsonrpc.Message) {
	if m.IsRequest() {
		s.link.reply(declined(m), s.authorize)
		return
	}
	if m.Method == methodMessage {
		s.link.aside(m.Params)
		return
	}
	s.log.Debug("a message for no call was dropped", "method", m.Method)
}

// routeAll routes a message, or those of a batch, as servers of MCP 2025-03-26
// may send it. Of nothing it makes nothing.
func (s *flights) routeAll(said []byte) {
	said = bytes.TrimSpace(said)
	if len(said) == 0 {
		return
	}
	if said[0] == '[' {
		if batch, err := jsonrpc.Elements(said); err == nil && len(batch) > 0 {
			for _, message := range batch {
				s.route(message)
			}
			return
		}
	}
	s.route(said)
}

// routeCut has the call fail whose answer is too large to be taken in, by its
// beginning and its end. The error is that it cannot be known whose it is.
func (s *flights) routeCut(head, tail []byte, err error) error {
	id, kind := jsonrpc.Outline(head, tail)
	switch {
	case kind == jsonrpc.Response && id != nil:
		if to := s.flight(id); to != nil {
			to.put(mail{jsonrpc.Message{ID: id}, err})
		}
		return nil
	case kind == jsonrpc.Request && id != nil:
		s.link.reply(jsonrpc.AppendError(nil, id, rpc.Errorf(rpc.CodeInvalidRequest, "%v", err)), s.authorize)
		fallthrough
	case kind == jsonrpc.Request:
		s.log.Warn("a message of the server was dropped", "error", err)
		return nil
	}
	return fmt.Errorf("whose answer it is does not show: %w", err)
}

func (s *flights) flight(id json.RawMessage) *flight {
	n, ok := readID(id)
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[n]
}

// onlyCall returns the call in flight if there is exactly one.
func (s *flights) onlyCall() *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	var only *flight
	for _, f := range s.byID {
		switch {
		case f.own:
		case only != nil:
			return nil
		default:
			only = f
		}
	}
	return only
}
