package transport

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// levelTime bounds how long a call waits for a server to take in which log
// messages it is to send.
const levelTime = 5 * time.Second

// A logLevel ranks log messages by how severe they are (MCP 2025-11-25,
// logging, "Log Levels"). Zero is none, or one that is not known.
type logLevel int

var logLevels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

func readLogLevel(name string) logLevel { return logLevel(slices.Index(logLevels, name) + 1) }

// wants reports whether a caller who has asked for messages of a level gets
// this one. Whoever has asked for none gets all; a message without a level that
// is known ranks with the most severe.
func (l logLevel) wants(message json.RawMessage) bool {
	level := readLogLevel(jsonrpc.GetString(message, "level"))
	return level == 0 || level >= l
}

// A logging is which log messages a legacy session sends. There is one level
// for all who share it, so it is the most verbose that anybody has asked for,
// and each call is told what it has asked for itself.
type logging struct {
	mu     sync.Mutex    // guards what follows
	asked  logLevel      // the most verbose so far, whatever the server made of it; 0 for none
	asking chan struct{} // closed when the request under way is over; nil for none
}

// leveled reports whether the session has to be asked for the log messages that
// the exchange wants; nearly always not.
func (x *exchange) leveled() bool { return x.era == Legacy && x.level != 0 }

// raise has a legacy session, which began with hello, send the log messages
// that an exchange wants. That is asked once for all who want them. What the
// server makes of it is no matter of the call: the error is that the call, or
// the connection, is over.
func (l *life) raise(ctx context.Context, x *exchange, hello json.RawMessage, send func(context.Context, rpc.Call) error) error {
	if _, can := jsonrpc.Get(hello, "capabilities", "logging"); !can {
		return nil
	}
	g := &l.logging
	for {
		g.mu.Lock()
		over := g.asking
		if over == nil {
			if g.asked != 0 && g.asked <= x.level {
				g.mu.Unlock()
				return nil
			}
			over = make(chan struct{})
			g.asked, g.asking = x.level, over
			l.spawn(func() { // its caller may go, and others wait for it
				defer close(over)
				l.ask(x, send)
			})
		}
		g.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return &Failure{Fate: NotSent, Err: context.Cause(ctx)}
		}
		if l.ctx.Err() != nil {
			return &Failure{Fate: NotSent, Dead: true, Err: errClosed}
		}
	}
}

// ask asks for the level that an exchange wants.
func (l *life) ask(x *exchange, send func(context.Context, rpc.Call) error) {
	ctx, cancel := context.WithTimeout(l.ctx, levelTime)
	defer cancel()
	params, _ := jsonrpc.Set(nil, []byte(`"`+logLevels[x.level-1]+`"`), "level")
	if err := send(ctx, rpc.Call{Method: methodSetLevel, Params: params}); err != nil {
		x.log.Debug("the level of log messages was not set", "error", err)
	}
	l.logging.mu.Lock()
	l.logging.asking = nil
	l.logging.mu.Unlock()
}
