package transport

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// maxMail bounds how many messages wait for one call. All but the answer are
// dropped beyond it, so that a caller who is slow to take them in holds up neither
// the child nor the other calls.
const maxMail = 1024

// A flight is an exchange on a connection that others share. The reader of the
// connection puts messages in, the goroutine of the call takes them out.
type flight struct {
	outgoing
	x       *exchange
	own     bool          // not a caller's: nothing unasked for is meant for it
	arrived chan struct{} // holds one token while there is mail

	mu   sync.Mutex // guards mail
	mail []mail
}

// A mail is a message for a call, or what was wrong with one.
type mail struct {
	message jsonrpc.Message
	err     error
}

func (f *flight) put(m mail) {
	f.mu.Lock()
	if len(f.mail) < maxMail || m.message.IsResponse() {
		f.mail = append(f.mail, m)
	}
	f.mu.Unlock()
	select {
	case f.arrived <- struct{}{}:
	default:
	}
}

func (f *flight) take() []mail {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.mail
	f.mail = nil
	return all
}

// deliver takes in what has arrived, and returns the answer if that was there.
func (f *flight) deliver(ctx context.Context) (result json.RawMessage, answered bool, err error) {
	for _, m := range f.take() {
		switch {
		case m.err != nil:
			return nil, true, &Failure{Fate: MayHaveRun, Err: m.err}
		case f.x.isAnswer(&m.message):
			result, err := verdict(&m.message)
			return result, true, err
		}
		f.x.receive(ctx, &m.message)
	}
	return nil, false, nil
}
