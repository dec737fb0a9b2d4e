package transport

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"testing"

	"github.com/mcpool-dev/mcpool/rpc"
)

// aLink is the connection of flights that nobody reads or writes.
type aLink struct{ changes, asides []string }

func (*aLink) spawn(f func())                 { f() }
func (*aLink) reply([]byte, Authorize)        {}
func (l *aLink) aside(params json.RawMessage) { l.asides = append(l.asides, string(params)) }
func (l *aLink) changed(method string, params json.RawMessage) {
	if isChange(method) {
		l.changes = append(l.changes, method+" "+string(params))
	}
}

// A log message is for the call that is alone, and otherwise for those who listen.
func TestLogMessagesOutsideOfCalls(t *testing.T) {
	var l aLink
	s := &flights{link: &l, quote: excerpt, log: slog.New(slog.DiscardHandler)}
	say := func(text string) {
		s.route([]byte(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"` + text + `"}}`))
	}
	board := func(id int64) *flight {
		return s.board(newExchange(id, Legacy, rpc.Call{Method: "tools/call"}, &l, s.log), nil, false)
	}
	say("before")
	one := board(1)
	say("alone")
	two := board(2)
	say("beside another")
	_, _, _ = one.deliver(context.Background())
	s.land(one)
	s.land(two)
	say("behind")
	if want := []string{`{"data":"before"}`, `{"data":"beside another"}`, `{"data":"behind"}`}; !slices.Equal(l.asides, want) {
		t.Errorf("told %q, want %q", l.asides, want)
	}
}

// A server that changes because of a call says so behind its answer as a rule,
// when the call is not known to be over yet; or while a call is slow to take in
// what comes for it. The change is told all the same, and once.
func TestChangeBehindAnAnswer(t *testing.T) {
	for name, before := range map[string][]string{
		"behind the answer":  {`{"jsonrpc":"2.0","id":1,"result":{}}`},
		"before it":          nil,
		"behind much else":   slices.Repeat([]string{`{"jsonrpc":"2.0","method":"notifications/message","params":{}}`}, maxMail+1),
		"of no call":         {`{"jsonrpc":"2.0","id":1,"result":{}}`, "land"},
		"of several at once": {"board"},
	} {
		t.Run(name, func(t *testing.T) {
			var l aLink
			s := &flights{link: &l, quote: excerpt, log: slog.New(slog.DiscardHandler)}
			board := func(id int64) *flight {
				return s.board(newExchange(id, Legacy, rpc.Call{Method: "tools/call"}, &l, s.log), nil, false)
			}
			f := board(1)
			for _, said := range before {
				switch said {
				case "land":
					s.land(f)
				case "board":
					board(2)
				default:
					s.route([]byte(said))
				}
			}
			s.route([]byte(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`))
			_, _, _ = f.deliver(context.Background())
			if want := []string{"notifications/tools/list_changed "}; !slices.Equal(l.changes, want) {
				t.Errorf("told %q, want %q", l.changes, want)
			}
		})
	}
}
