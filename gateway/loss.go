package gateway

import (
	"fmt"
	"sync"

	"github.com/mcpool-dev/mcpool"
)

// maxLosses bounds the losses that are to be told. Beyond it any is forgotten,
// and its client finds a fresh state unawares.
const maxLosses = 1 << 12

// A loss is that of the state that a server kept for a client, where the client
// does not know: what it asked for was a list.
type loss struct{ server, principal, session string }

func (q *request) loss(s *backend) loss {
	return loss{s.Name, q.caller.Principal, q.caller.Session}
}

// losses are those that the next call is told of. A pool tells each once.
type losses struct {
	mu sync.Mutex // guards of
	of map[loss]struct{}
}

func (l *losses) owe(this loss) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for other := range l.of {
		if len(l.of) < maxLosses {
			break
		}
		delete(l.of, other)
	}
	l.of[this] = struct{}{}
}

// tell returns the error that tells of a loss; nil where there is none to be
// told.
func (l *losses) tell(this loss) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, owed := l.of[this]; !owed {
		return nil
	}
	delete(l.of, this)
	return fmt.Errorf("%s: %w; the call was not made", this.server, mcpool.ErrSessionLost)
}
