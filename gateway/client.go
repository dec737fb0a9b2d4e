package gateway

import (
	"context"
	"io"
	"sync"
)

// A Client is the end of a client in this process: what it sends is written,
// and what it is sent is read, frame by frame. Whatever its era, its calls have
// one session, which ends with it.
type Client struct {
	talk  *talk
	inbox *inbox
	ctx   context.Context // of its calls
	hang  context.CancelCauseFunc
	close sync.Once

	mu sync.Mutex // held while a frame is taken in: one after the other
}

// NewClient returns the end of one more client, which is served all servers,
// with tools named as at /mcp; its calls are made on behalf of principal, ""
// for that of the pools. ctx is that of its calls, which end with it. The
// client has to be closed.
//
// What it is sent waits until it is read, and where 64 notifications of servers
// wait, the servers that send more do, with whoever shares their connections. So
// Read has to be called all the time, and to call it is to be of this process:
// clients that may be slow are for [Gateway.ServeStdio] and ServeHTTP.
func (g *Gateway) NewClient(ctx context.Context, principal string) *Client {
	ctx, hang := context.WithCancelCause(ctx)
	in := &inbox{room: make(chan struct{}, maxQueued), arrived: make(chan struct{}, 1), ended: ctx.Done()}
	return &Client{talk: g.newTalk(g.now().all, principal, "in process", in), inbox: in, ctx: ctx, hang: hang}
}

// Write takes in one frame of the client, a JSON-RPC message, which must not be
// modified afterwards. It does not wait for an answer: that, and what is wrong
// with the frame, is read. It fails with [io.ErrClosedPipe] after Close, and
// with the cause of the end of the client's ctx. It may be called concurrently.
func (c *Client) Write(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch err := context.Cause(c.ctx); err {
	case nil:
		c.talk.receive(c.ctx, frame)
		return nil
	case io.EOF: // of Close
		return io.ErrClosedPipe
	default:
		return err
	}
}

// Read waits for the next frame for the client and returns it. It fails with
// [io.EOF] after Close, with the cause of the end of the client's ctx, and with
// that of its own. It must not be called concurrently.
func (c *Client) Read(ctx context.Context) ([]byte, error) {
	for {
		if err := context.Cause(c.ctx); err != nil {
			return nil, err
		}
		if frame, ok := c.inbox.next(); ok {
			return frame, nil
		}
		select {
		case <-c.inbox.arrived:
		case <-c.ctx.Done():
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Close cancels the client's calls, ends its session, and waits until nothing
// runs on its behalf. It may be called more than once, and concurrently.
func (c *Client) Close() {
	c.close.Do(func() {
		c.mu.Lock()
		c.hang(io.EOF)
		c.mu.Unlock()
		close(c.talk.hungUp)
		c.talk.end()
	})
}

// An inbox is what a client in this process has not read yet. It implements
// outlet.
type inbox struct {
	room    chan struct{} // holds a token for each event in frames
	arrived chan struct{} // holds a token where there may be a frame
	ended   <-chan struct{}

	mu     sync.Mutex // guards frames
	frames []arrival
}

type arrival struct {
	frame []byte
	event bool
}

// send puts an answer or a question in: there are no more of them than the
// client makes calls.
func (in *inbox) send(frame []byte) { in.put(arrival{frame: frame}) }

// event waits for room, so that nothing is lost, unless the client is gone.
func (in *inbox) event(frame []byte) {
	select {
	case in.room <- struct{}{}:
		in.put(arrival{frame: frame, event: true})
	case <-in.ended:
	}
}

func (in *inbox) put(a arrival) {
	in.mu.Lock()
	in.frames = append(in.frames, a)
	in.mu.Unlock()
	select {
	case in.arrived <- struct{}{}:
	default:
	}
}

func (in *inbox) next() (frame []byte, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.frames) == 0 {
		return nil, false
	}
	first := in.frames[0]
	in.frames[0] = arrival{}
	in.frames = in.frames[1:]
	if first.event {
		<-in.room
	}
	return first.frame, true
}
