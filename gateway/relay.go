package gateway

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// relayWait is how long a client's requests wait for a gateway: as long as
	// callers of a pool do for a connection.
	relayWait = 35 * time.Second
	// maxAnswer bounds a line of a gateway.
	maxAnswer = 1 << 30
)

// Relay serves one client over lines, as [Gateway.ServeStdio] does, by a
// gateway that may go and be replaced by another, which the client does not
// notice. connect finds a gateway, or makes one; it is called when the relay
// begins and each time a gateway has gone, one call after the other. It has to
// return when its ctx ends, after 35 s at the latest.
//
// To the next gateway the relay says what the client has said of itself:
// initialize, and what it subscribed to. Requests that come while there is no
// gateway wait for one. Those that a gateway has not answered when it goes are
// made again if they certainly did not run or only read; the others are
// answered with an error that says that they may have run.
//
// It returns nil at the end of in, when all requests have been answered. When
// ctx ends nothing more is taken from in, and it returns nil when what is under
// way has been answered, which may take grace. It fails when connect has failed
// or no gateway has taken the client on within 35 s, which the client is told,
// and when in or out fails. Lines of more than [DefaultMaxBody] bytes are
// refused. A Read of in, or a Write to out, may be left behind.
func Relay(ctx context.Context, in io.Reader, out io.Writer, grace time.Duration, connect func(context.Context) (*Joined, error)) error {
	r := &relay{
		connect: connect, unanswered: make(map[string]*asked), subscribed: make(map[string]*asked),
		found: make(chan found, 1),
	}
	stopped, stop := context.WithCancel(context.Background())
	defer stop()
	lines := make(chan line)
	go func() {
		defer close(lines)
		readLines(bufio.NewReader(in), DefaultMaxBody, func(l line) bool {
			select {
			case lines <- l:
				return true
			case <-stopped.Done():
				return false
			}
		})
	}()
	client := make(chan []byte)
	written := make(chan error, 1)
	go func() {
		var err error
		for frame := range client {
			if err == nil {
				if _, err = out.Write(frame); err != nil {
					written <- fmt.Errorf("write to the client: %w", err)
				}
			}
		}
		close(written)
	}()
	err := r.run(ctx, grace, lines, client, written)
	r.disconnect()
	// What is left for the client, as far as it reads.
	late := time.After(flushTime)
	for _, frame := range r.toClient {
		select {
		case client <- frame:
			continue
		case <-late:
		}
		break
	}
	close(client)
	select {
	case failed := <-written:
		return cmp.Or(err, failed)
	case <-late:
		return err
	}
}

// A relay is one client and the gateway that serves it at present. All of it
// is of one goroutine.
type relay struct {
	connect func(context.Context) (*Joined, error)
	found   chan found              // what connect has returned
	giveUp  context.CancelCauseFunc // nil while it does not run

	link   *link // nil while there is no gateway
	ready  bool  // the gateway knows what the client has said of itself
	left   bool  // the gateway has said that it runs nothing more
	ending bool  // nothing more comes of the client
	ended  bool  // the gateway was told so

	toClient  [][]byte
	first     []*asked // to the gateway, before it is ready
	toGateway []*asked

	unanswered map[string]*asked // requests, by id
	sequence   int

	// What another gateway has to be told.
	initialize  *asked
	initialized []byte
	level       *asked
	subscribed  map[string]*asked // by URI
}

// An asked is a frame for the gateway.
type asked struct {
	frame    []byte
	key      string // of a request: its id
	id       json.RawMessage
	method   string
	params   json.RawMessage
	sequence int
	sent     bool
	then     func() // of a request of the relay: it was answered
}

type found struct {
	joined *Joined
	err    error
}

// A link is the connection to a gateway.
type link struct {
	joined *Joined
	out    chan []byte // closed to say that nothing more comes
	in     chan line   // closed when nothing more comes
	ended  chan struct{}
	work   sync.WaitGroup
}

func newLink(j *Joined) *link {
	l := &link{joined: j, out: make(chan []byte), in: make(chan line), ended: make(chan struct{})}
	l.work.Go(func() {
		var err error
		for frame := range l.out {
			if err == nil {
				// One who does not read any more is seen by the reader, too.
				_, err = deadlineWriter{j.conn}.Write(frame)
			}
		}
		if half, ok := j.conn.(interface{ CloseWrite() error }); ok && err == nil {
			_ = half.CloseWrite()
		} else {
			_ = j.conn.Close()
		}
	})
	l.work.Go(func() {
		defer close(l.in)
		readLines(j.in, maxAnswer, func(got line) bool {
			select {
			case l.in <- got:
				return got.err == nil
			case <-l.ended:
				return false
			}
		})
	})
	return l
}

func (r *relay) run(ctx context.Context, grace time.Duration, lines <-chan line, client chan<- []byte, written <-chan error) error {
	r.seek()
	wait := time.NewTimer(relayWait)
	defer wait.Stop()
	done := ctx.Done()
	var late <-chan time.Time
	for {
		if r.ending && len(r.unanswered) == 0 && len(r.toClient) == 0 {
			return nil
		}
		if r.ending && r.link != nil && r.ready && len(r.first)+len(r.toGateway) == 0 && !r.ended {
			r.ended = true
			close(r.link.out)
		}
		if r.ready {
			wait.Stop()
		}
		// Who does not read is not read from.
		fromClient := lines
		if r.ending || len(r.toGateway) >= maxQueued {
			fromClient = nil
		}
		var fromGateway <-chan line
		var gateway chan<- []byte
		var next *asked
		var frame []byte
		if r.link != nil {
			if len(r.toClient) < maxQueued {
				fromGateway = r.link.in
			}
			if next = r.next(); next != nil && !r.ended {
				gateway, frame = r.link.out, next.frame
			}
		}
		var toClient chan<- []byte
		var answer []byte
		if len(r.toClient) > 0 {
			toClient, answer = client, r.toClient[0]
		}
		select {
		case l, ok := <-fromClient:
			switch {
			case !ok:
				r.ending = true
			case errors.Is(l.err, errTooLong):
				r.answer(jsonrpc.AppendError(nil, nil, rpc.Errorf(rpc.CodeInvalidRequest, "%v of %d bytes", l.err, DefaultMaxBody)))
			case l.err != nil:
				r.fail(l.err)
				return fmt.Errorf("read from the client: %w", l.err)
			default:
				r.fromClient(l.frame)
			}
		case l, ok := <-fromGateway:
			if ok && l.err == nil {
				r.fromGateway(l.frame)
				continue
			}
			r.lost()
			switch {
			case ctx.Err() != nil:
				r.fail(errClosed)
			case !r.ending || len(r.unanswered) > 0:
				wait.Reset(relayWait)
				r.seek()
			}
		case gateway <- frame:
			next.sent = true
			r.shift()
		case toClient <- answer:
			r.toClient = r.toClient[1:]
		case got := <-r.found:
			r.giveUp(nil)
			r.giveUp = nil
			if got.err != nil {
				r.fail(got.err)
				return got.err
			}
			r.begin(got.joined)
		case <-wait.C:
			if r.ready {
				continue // it came at last
			}
			err := errNoGateway
			if r.giveUp != nil {
				err = r.stopSeeking(err)
			}
			r.fail(err)
			return err
		case err := <-written:
			return err
		case <-done:
			done = nil
			r.ending = true
			late = time.After(grace)
			if !r.ready {
				r.fail(errClosed)
			}
		case <-late:
			n := len(r.unanswered)
			r.fail(errAborted)
			return fmt.Errorf("closed with %d requests of the client not answered within %v", n, grace)
		}
	}
}

var errNoGateway = fmt.Errorf("no gateway within %v", relayWait)

// seek has a gateway found.
func (r *relay) seek() {
	ctx, cancel := context.WithCancelCause(context.Background())
	r.giveUp = cancel
	go func() {
		joined, err := r.connect(ctx)
		r.found <- found{joined, err}
	}()
}

// disconnect lets go of the gateway, or stops looking for one.
func (r *relay) disconnect() {
	if r.link != nil {
		r.unlink()
	}
	if r.giveUp != nil {
		_ = r.stopSeeking(nil)
	}
}

// stopSeeking ends the search for a gateway, and returns why there is none.
func (r *relay) stopSeeking(why error) error {
	r.giveUp(why)
	r.giveUp = nil
	got := <-r.found
	if got.joined != nil { // too late
		_ = got.joined.conn.Close()
	}
	return cmp.Or(got.err, why)
}

func (r *relay) unlink() {
	if !r.ended {
		close(r.link.out)
	}
	close(r.link.ended)
	_ = r.link.joined.conn.Close()
	r.link.work.Wait()
	r.link = nil
}

// next is what is to be sent, nil for nothing.
func (r *relay) next() *asked {
	switch {
	case len(r.first) > 0:
		return r.first[0]
	case r.ready && len(r.toGateway) > 0:
		return r.toGateway[0]
	}
	return nil
}

// shift takes out what next has returned.
func (r *relay) shift() {
	if len(r.first) > 0 {
		r.first = r.first[1:]
	} else {
		r.toGateway = r.toGateway[1:]
	}
}

func (r *relay) answer(frame []byte) { r.toClient = append(r.toClient, append(oneLine(frame), '\n')) }

// fromClient takes a frame of the client.
func (r *relay) fromClient(frame []byte) {
	msg, err := parse(frame)
	if err != nil {
		r.answer(jsonrpc.AppendError(nil, msg.ID, frameError(err)))
		return
	}
	a := &asked{frame: withBreak(frame), method: msg.Method}
	switch {
	case msg.IsRequest():
		a.key, a.id, a.params = relayKey(msg.ID), msg.ID, msg.Params
		if r.unanswered[a.key] != nil {
			r.answer(jsonrpc.AppendError(nil, a.id, rpc.Errorf(rpc.CodeInvalidRequest, "%v", errDuplicate)))
			return
		}
		if len(r.unanswered) >= maxUnanswered {
			r.answer(jsonrpc.AppendError(nil, a.id, tooManyUnanswered()))
			return
		}
		r.wait(a)
	case msg.Method == notifyInitialized:
		r.initialized = a.frame
	case msg.Method == notifyCancelled:
		// It is not answered any more.
		id, _ := jsonrpc.Get(msg.Params, "requestId")
		if !jsonrpc.IsID(id) {
			return
		}
		cancelled := r.unanswered[relayKey(id)]
		if cancelled == nil || cancelled.then != nil {
			return
		}
		delete(r.unanswered, cancelled.key)
		if !cancelled.sent {
			r.toGateway = slices.DeleteFunc(r.toGateway, func(other *asked) bool { return other == cancelled })
			return
		}
	}
	if msg.IsRequest() || r.ready || msg.Method == notifyInitialized {
		r.toGateway = append(r.toGateway, a)
	}
	// Else it is about something that no other gateway knows.
}

// wait has a request waited for.
func (r *relay) wait(a *asked) {
	r.sequence++
	a.sequence = r.sequence
	r.unanswered[a.key] = a
}

// fromGateway takes a frame of the gateway.
func (r *relay) fromGateway(frame []byte) {
	msg, err := parse(frame)
	switch {
	case err != nil:
		return // nothing that a gateway says
	case msg.Method == notifyLeft:
		r.left = true
		return
	case msg.IsResponse() && msg.ID != nil:
		a := r.unanswered[relayKey(msg.ID)]
		if a == nil {
			break
		}
		delete(r.unanswered, a.key)
		if a.then != nil {
			a.then()
			return
		}
		if msg.Error == nil {
			r.learn(a)
		}
	}
	r.toClient = append(r.toClient, withBreak(frame))
}

// learn keeps what a client has agreed on with its gateway.
func (r *relay) learn(a *asked) {
	switch a.method {
	case methodInitialize:
		r.initialize = a
	case methodSetLevel:
		r.level = a
	case methodSubscribe:
		if uri := jsonrpc.GetString(a.params, "uri"); len(r.subscribed) < maxURIs {
			r.subscribed[uri] = a
		}
	case methodUnsubscribe:
		delete(r.subscribed, jsonrpc.GetString(a.params, "uri"))
	}
}

// begin begins with a gateway, which has to know of the client before anything
// else what others before it knew.
func (r *relay) begin(j *Joined) {
	r.link, r.left = newLink(j), false
	if r.initialize == nil {
		r.ready = true
		return
	}
	r.again(r.initialize, func() {
		if r.initialized != nil {
			r.first = append(r.first, &asked{frame: r.initialized})
		}
		if r.level == nil {
			r.resume()
			return
		}
		r.again(r.level, r.resume)
	})
}

func (r *relay) resume() {
	for _, a := range r.subscribed {
		r.again(a, func() {})
	}
	r.ready = true
}

// again makes a request of the client once more. The answer is not for it.
func (r *relay) again(a *asked, then func()) {
	r.sequence++
	id, _ := json.Marshal("mcpool-" + strconv.Itoa(r.sequence)) // a string always marshals
	again := &asked{frame: withBreak(jsonrpc.AppendRequest(nil, id, a.method, a.params)), key: relayKey(id), then: then}
	r.wait(again)
	r.first = append(r.first, again)
}

// lost sees to what the gateway that has gone has left.
func (r *relay) lost() {
	r.unlink()
	var repeat []*asked
	for key, a := range r.unanswered {
		switch {
		case a.then != nil:
			delete(r.unanswered, key)
		case !a.sent || r.left || onlyReads(a.method):
			a.sent = false
			repeat = append(repeat, a)
		default:
			r.answerLost(a, errors.New("the gateway was lost before the answer came; the call may have run"))
		}
	}
	slices.SortFunc(repeat, func(a, b *asked) int { return cmp.Compare(a.sequence, b.sequence) })
	r.first, r.toGateway, r.ready, r.ended = nil, repeat, false, false
}

// onlyReads reports whether a request may be made twice whatever it is about.
func onlyReads(method string) bool {
	switch method {
	case methodInitialize, methodPing, methodSetLevel, methodSubscribe, methodUnsubscribe,
		methodDiscover, methodListen, methodRead, methodGetPrompt, methodComplete:
		return true
	}
	return listKinds[method] != nil
}

// fail answers all requests with an error. Those that were sent may have run.
func (r *relay) fail(err error) {
	for _, a := range r.unanswered {
		switch {
		case a.then != nil:
			delete(r.unanswered, a.key)
		case a.sent && !onlyReads(a.method):
			r.answerLost(a, errAborted)
		default:
			r.answerLost(a, err)
		}
	}
	r.toGateway = nil
}

func (r *relay) answerLost(a *asked, err error) {
	delete(r.unanswered, a.key)
	r.answer(jsonrpc.AppendError(nil, a.id, rpc.Errorf(rpc.CodeInternal, "%v", err)))
}

// relayKey is what an id is the same as, however it is written.
func relayKey(id json.RawMessage) string { return keyOf("-", id).id }

func withBreak(frame []byte) []byte {
	if len(frame) == 0 || frame[len(frame)-1] != '\n' {
		frame = append(frame, '\n')
	}
	return frame
}
