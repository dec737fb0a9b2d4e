package transport

import (
	"encoding/json"
	"log/slog"
	"slices"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// noted is a link that notes what it is told.
type noted struct {
	replies int
	changes []string
}

func (n *noted) spawn(f func())                                { f() }
func (n *noted) reply([]byte, Authorize)                       { n.replies++ }
func (n *noted) changed(method string, params json.RawMessage) { n.changes = append(n.changes, method) }

// What nobody says whose it is goes to the call in flight. It may come behind
// the answer of that call, or be more than waits for it: then it is told all
// the same that something is another now, and a request is declined.
func TestNothingIsLostWithItsCall(t *testing.T) {
	const (
		answer  = `{"jsonrpc":"2.0","id":1,"result":{}}`
		change  = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
		request = `{"jsonrpc":"2.0","id":"s","method":"elicitation/create"}`
	)
	link := &noted{}
	s := &flights{link: link, log: slog.New(slog.DiscardHandler), quote: func([]byte) string { return "" }}
	f := s.board(newExchange(1, Legacy, rpc.Call{}, link, s.log), nil, false)
	for range maxMail {
		s.route([]byte(`{"jsonrpc":"2.0","method":"notifications/message"}`))
	}
	expect := func(where string, changes, replies int) {
		t.Helper()
		told := len(slices.DeleteFunc(slices.Clone(link.changes), func(m string) bool { return !isChange(m) }))
		if told != changes || link.replies != replies {
			t.Errorf("%s: told of %d changes and declined %d requests, want %d and %d", where, told, link.replies, changes, replies)
		}
	}
	s.route([]byte(change))
	s.route([]byte(request))
	expect("beyond what waits", 1, 1)
	s.route([]byte(answer))
	if _, answered, err := f.deliver(t.Context()); !answered || err != nil {
		t.Fatalf("got %v, %v", answered, err)
	}
	s.route([]byte(change))
	s.route([]byte(request))
	expect("before the end of the call", 1, 1)
	s.land(f)
	expect("behind the answer", 2, 2)
	if f.put(mail{message: jsonrpc.Message{Method: "notifications/message"}}) {
		t.Error("a call that is over has taken a message")
	}
}
