package gateway

import (
	"context"
	"encoding/json"
	"sync"
)

// calls is every request that is being answered, so that clients can cancel
// theirs and Close can wait for all.
type calls struct {
	mu      sync.Mutex // guards what follows
	closed  bool
	running map[*call]struct{}
	byID    map[callKey]*call
	idle    chan struct{} // closed when closed is set and nothing runs
}

// A call is one request that is being answered.
type call struct {
	key    callKey
	by     author
	cancel context.CancelCauseFunc
}

// A callKey is what a notifications/cancelled refers to: an id means something
// in its session alone. Requests without a session have the zero key.
type callKey struct{ session, id string }

func keyOf(session string, id json.RawMessage) callKey {
	if session == "" {
		return callKey{}
	}
	if id[0] == '"' {
		// A string may be written in more than one way.
		var s string
		if json.Unmarshal(id, &s) == nil {
			return callKey{session, `"` + s}
		}
	}
	return callKey{session, string(id)}
}

func newCalls() *calls {
	return &calls{
		running: make(map[*call]struct{}),
		byID:    make(map[callKey]*call),
		idle:    make(chan struct{}),
	}
}

// begin counts a call in and returns the context that it has until end counts
// it out. It fails with errClosed, or with errDuplicate while a call with that
// key runs.
func (c *calls) begin(ctx context.Context, key callKey, by author) (context.Context, *call, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	this := &call{key, by, cancel}
	if err := c.add(this); err != nil {
		cancel(err)
		return nil, nil, err
	}
	return ctx, this, nil
}

func (c *calls) add(this *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	if c.byID[this.key] != nil {
		return errDuplicate
	}
	c.running[this] = struct{}{}
	if this.key != (callKey{}) {
		c.byID[this.key] = this
	}
	return nil
}

func (c *calls) end(this *call) {
	this.cancel(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, this)
	if this.key != (callKey{}) {
		delete(c.byID, this.key)
	}
	if c.closed && len(c.running) == 0 {
		close(c.idle)
	}
}

// cancel cancels the call with that key, if it still runs.
func (c *calls) cancel(key callKey) {
	c.mu.Lock()
	this := c.byID[key]
	c.mu.Unlock()
	if this != nil {
		this.cancel(errCancelled)
	}
}

// close makes begin fail, and returns a channel that is closed once no call
// runs.
func (c *calls) close() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && len(c.running) == 0 {
		close(c.idle)
	}
	c.closed = true
	return c.idle
}

// cancelAll cancels every call and returns how many they were.
func (c *calls) cancelAll() int {
	c.mu.Lock()
	all := make([]*call, 0, len(c.running))
	for this := range c.running {
		all = append(all, this)
	}
	c.mu.Unlock()
	for _, this := range all {
		this.cancel(errAborted)
	}
	return len(all)
}
