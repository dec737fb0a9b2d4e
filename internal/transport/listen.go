package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A Filter says which changes of a server somebody wants to hear of.
type Filter struct {
	Tools, Prompts, Resources bool     // of the lists of that name
	URIs                      []string // of these resources
}

// pendingMost bounds how many changes wait to be taken in. One that waits
// already is not put in again, so that only somebody who subscribes to more
// resources than that, and is slow, misses any.
const pendingMost = 4096

// Pending are changes that wait to be taken in. The zero Pending has none. It is
// safe for concurrent use.
type Pending struct {
	mu      sync.Mutex // guards what follows
	waiting []Change
	arrived chan struct{}
}

// A Change is a notification that something of a server is another now, an
// acknowledgement that changes will be told, or a log message outside of calls.
type Change struct {
	Method string
	Params json.RawMessage
	Asked  Filter // the whole of what an acknowledgement answers
}

// Put adds a change, unless the same one waits already. It never blocks.
func (p *Pending) Put(c Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) >= pendingMost || c.Method == methodMessage && len(p.waiting) >= maxAside || slices.ContainsFunc(p.waiting, func(w Change) bool {
		return w.Method == c.Method && bytes.Equal(w.Params, c.Params) && c.Method != MethodAcknowledged && c.Method != methodMessage
	}) {
		return
	}
	p.waiting = append(p.waiting, c)
	select {
	case p.channelLocked() <- struct{}{}:
	default:
	}
}

// Take returns all that waits, in order.
func (p *Pending) Take() []Change {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.waiting
	p.waiting = nil
	return all
}

// Arrived holds a token when something may wait.
func (p *Pending) Arrived() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.channelLocked()
}

func (p *Pending) channelLocked() chan struct{} {
	if p.arrived == nil {
		p.arrived = make(chan struct{}, 1)
	}
	return p.arrived
}

// isChange reports whether a notification says that something of the server is
// another now.
func isChange(method string) bool {
	return strings.HasSuffix(method, "/list_changed") || method == methodUpdated
}

// changes are told on a connection to whoever listens.
type changes struct {
	all func(Change) // told of each; nil for nobody

	mu        sync.Mutex // guards listeners
	listeners map[*Pending]struct{}
}

// changed implements link.
func (l *life) changed(method string, params json.RawMessage) {
	if !isChange(method) {
		return
	}
	c, change := &l.changes, Change{Method: method, Params: withoutSubscription(params)}
	if c.all != nil {
		c.all(change)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for heard := range c.listeners {
		heard.Put(change)
	}
}

// maxAside bounds the log messages outside of calls that wait to be taken in, and
// asideLength the bytes of one: they are nobody's answer, and may be lost.
const (
	maxAside    = 256
	asideLength = 64 << 10
)

// aside tells those who listen a log message that is for no call.
func (l *life) aside(params json.RawMessage) {
	if len(params) > asideLength {
		return
	}
	c := &l.changes
	c.mu.Lock()
	defer c.mu.Unlock()
	for heard := range c.listeners {
		heard.Put(Change{Method: methodMessage, Params: params})
	}
}

// listening runs listen, while the changes on the connection are put into
// heard. Its ctx ends with the connection, too.
func (l *life) listening(ctx context.Context, heard *Pending, listen func(ctx context.Context) error) error {
	if !l.enter() {
		return &Failure{Fate: NotSent, Dead: true, Err: errClosed}
	}
	defer l.leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(l.ctx, func() { cancel(errClosed) })
	defer stop()

	c := &l.changes
	c.mu.Lock()
	if c.listeners == nil {
		c.listeners = make(map[*Pending]struct{})
	}
	c.listeners[heard] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.listeners, heard)
	}()

	err := listen(ctx)
	cause := context.Cause(ctx)
	if cause == nil && l.ctx.Err() != nil { // what ends with the connection may be over before ctx is
		cause = errClosed
	}
	if cause != nil {
		return &Failure{Fate: MayHaveRun, Dead: errors.Is(cause, errClosed), Err: cause}
	}
	return err
}

// acknowledgement says how much of a filter is heeded.
func acknowledgement(f Filter) json.RawMessage {
	raw, _ := json.Marshal(struct { // strings always marshal
		Tools     bool     `json:"toolsListChanged,omitempty"`
		Prompts   bool     `json:"promptsListChanged,omitempty"`
		Resources bool     `json:"resourcesListChanged,omitempty"`
		URIs      []string `json:"resourceSubscriptions,omitempty"`
	}{f.Tools, f.Prompts, f.Resources, f.URIs})
	return append(append([]byte(`{"notifications":`), raw...), '}')
}

// awaitingAck is an Events that is told when a subscription is acknowledged.
// Changes it leaves to those who listen on the connection.
type awaitingAck func(params json.RawMessage)

func (a awaitingAck) Notify(method string, params json.RawMessage) {
	if method == MethodAcknowledged {
		a(withoutSubscription(params))
	}
}

func (awaitingAck) Ask(_ context.Context, method string, _ json.RawMessage) (json.RawMessage, error) {
	return nil, nobodyAnswers(method)
}

// metaSubscription has the id of the request whose subscription a notification
// is of, in its _meta.
const metaSubscription = metaPrefix + "subscriptionId"

// subscriptionOf returns the id of the request that a notification of a modern
// server answers, nil if it is of no subscription.
func subscriptionOf(m *jsonrpc.Message) json.RawMessage {
	id, _ := jsonrpc.Get(m.Params, "_meta", metaSubscription)
	return id
}

// withoutSubscription leaves out the id, which means nothing to anybody else.
func withoutSubscription(params json.RawMessage) json.RawMessage {
	if _, there := jsonrpc.Get(params, "_meta", metaSubscription); !there {
		return params
	}
	params = jsonrpc.Delete(params, "_meta", metaSubscription)
	if meta, _ := jsonrpc.Get(params, "_meta"); string(meta) == "{}" {
		params = jsonrpc.Delete(params, "_meta")
	}
	return params
}

// Changes are the notifications that all of it has changed.
func (f Filter) Changes() []Change {
	var all []Change
	for _, list := range []struct {
		wanted bool
		method string
	}{{f.Tools, methodToolsChanged}, {f.Prompts, methodPromptsChanged}, {f.Resources, methodResourcesChanged}} {
		if list.wanted {
			all = append(all, Change{Method: list.method})
		}
	}
	for _, uri := range f.URIs {
		raw, _ := json.Marshal(uri) // strings always marshal
		params, _ := jsonrpc.Set(nil, raw, "uri")
		all = append(all, Change{Method: methodUpdated, Params: params})
	}
	return all
}

// overlap is how long a subscription goes on beside the one that takes its
// place: what the server told on it before may still be on its way.
const overlap = 250 * time.Millisecond

// listenModern keeps one subscription at a modern server. For another filter
// another one is begun, and the old one ended soon after that is acknowledged,
// so that nothing is missed; some of it may be told twice. send makes a request
// that ends with its ctx.
func listenModern(ctx context.Context, filters <-chan Filter, heard *Pending, send func(context.Context, rpc.Call) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	type ending struct {
		of  int
		err error
	}
	last, cancels := 0, map[int]context.CancelFunc{} // the newest subscription, and those under way
	acked, ended := make(chan int), make(chan ending)
	var mu sync.Mutex // guards newest
	newest := 0       // that is acknowledged
	begin := func(f Filter) {
		last++
		n := last
		ctx, cancel := context.WithCancel(ctx)
		cancels[n] = cancel
		call := rpc.Call{Method: methodListen, Params: acknowledgement(f)} // it looks the same
		call.Events = awaitingAck(func(params json.RawMessage) {
			mu.Lock()
			if n > newest { // otherwise it comes too late
				newest = n
				heard.Put(Change{MethodAcknowledged, params, f})
			}
			mu.Unlock()
			select {
			case acked <- n:
			case <-ctx.Done():
			}
		})
		running.Go(func() {
			defer cancel()
			err := send(ctx, call)
			select {
			case ended <- ending{n, err}:
			case <-ctx.Done():
			}
		})
	}
	for {
		select {
		case f := <-filters:
			begin(f)
		case n := <-acked:
			for of, cancel := range cancels {
				if of < n {
					time.AfterFunc(overlap, cancel)
					delete(cancels, of)
				}
			}
		case end := <-ended:
			if end.of == last {
				return end.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// listenAlone does what listenModern does, with one subscription at a time. A
// server that is reached by one channel may keep but one for all of it: with
// the official Go SDK 1.8.0 the end of an old subscription takes its lists and
// resources out of the new one, too. So the old one is ended first, and missed
// is told of what may have changed until the new one is acknowledged.
func listenAlone(ctx context.Context, filters <-chan Filter, heard *Pending, missed func(Change), send func(context.Context, rpc.Call) error) error {
	var f Filter
	select {
	case f = <-filters:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var unheard []Change // since a subscription was ended
	for {
		heeded, asked := false, f
		call := rpc.Call{Method: methodListen, Params: acknowledgement(f)} // it looks the same
		call.Events = awaitingAck(func(params json.RawMessage) {
			heeded = true
			heard.Put(Change{MethodAcknowledged, params, asked})
			for _, c := range unheard {
				missed(c)
			}
			unheard = nil
		})
		sub, end := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- send(sub, call) }()
		select {
		case err := <-ended:
			end()
			return err
		case next := <-filters:
			end()
			err := <-ended // promptly
			if heeded {
				unheard = append(unheard, f.Changes()...)
			}
			f = next
			if failure := (*Failure)(nil); errors.As(err, &failure) && failure.Settled != nil {
				select {
				case <-failure.Settled:
				case <-ctx.Done():
				}
			}
		}
	}
}

// streamSilence is how long the stream of a legacy session may take to begin
// before it is taken to have: some servers send nothing, not even headers,
// before the first event.
const streamSilence = 2 * time.Second

// listenLegacy hears what a legacy server, which introduced itself by hello,
// says outside of calls. stream takes that in until it ends, and says when it
// has begun to.
func listenLegacy(ctx context.Context, hello json.RawMessage, filters <-chan Filter, heard *Pending,
	call func(context.Context, rpc.Call) error, stream func(ctx context.Context, begun func()) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	running.Go(func() { ended <- stream(ctx, func() { begun <- struct{}{} }) })
	silence := time.NewTimer(streamSilence)
	defer silence.Stop()
	subscribed := subscriptions{call: call}
	var wanted *Filter // not heeded yet
	for streaming := false; ; {
		select {
		case f := <-filters:
			wanted = &f
		case <-begun:
			streaming = true
		case <-silence.C:
			streaming = true
		case err := <-ended:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !streaming || wanted == nil {
			continue
		}
		asked := *wanted
		heeded := offered(hello, asked)
		wanted = nil
		var err error
		if heeded.URIs, err = subscribed.set(ctx, heeded.URIs); err != nil {
			return err
		}
		heard.Put(Change{MethodAcknowledged, acknowledgement(heeded), asked})
	}
}

// offered is how much of a filter a legacy server says that it heeds, in its
// capabilities.
func offered(hello json.RawMessage, f Filter) Filter {
	has := func(kind, what string) bool {
		value, _ := jsonrpc.Get(hello, "capabilities", kind, what)
		return string(value) == "true"
	}
	f.Tools = f.Tools && has("tools", "listChanged")
	f.Prompts = f.Prompts && has("prompts", "listChanged")
	f.Resources = f.Resources && has("resources", "listChanged")
	if !has("resources", "subscribe") {
		f.URIs = nil
	}
	return f
}

// subscriptions are the resources whose changes a legacy session tells.
type subscriptions struct {
	call func(context.Context, rpc.Call) error
	uris []string
}

// set subscribes to those of uris that are not subscribed to, ends the rest,
// and returns those that the server agrees to.
func (s *subscriptions) set(ctx context.Context, uris []string) ([]string, error) {
	var kept []string
	for _, uri := range s.uris {
		if slices.Contains(uris, uri) {
			kept = append(kept, uri)
		} else if err := s.ask(ctx, methodUnsubscribe, uri); noAnswer(err) {
			return nil, err
		}
	}
	for _, uri := range uris {
		if slices.Contains(kept, uri) {
			continue
		}
		err := s.ask(ctx, methodSubscribe, uri)
		if noAnswer(err) {
			return nil, err
		}
		if err == nil {
			kept = append(kept, uri)
		}
	}
	s.uris = kept
	return kept, nil
}

func (s *subscriptions) ask(ctx context.Context, method, uri string) error {
	raw, _ := json.Marshal(uri) // strings always marshal
	params, _ := jsonrpc.Set(nil, raw, "uri")
	return s.call(ctx, rpc.Call{Method: method, Params: params})
}

// Listen implements Conn.
func (c *httpConn) Listen(ctx context.Context, filters <-chan Filter, authorize Authorize, heard *Pending) error {
	send := func(ctx context.Context, call rpc.Call) error {
		_, err := c.exchange(ctx, call, authorize)
		return err
	}
	return c.listening(ctx, heard, func(ctx context.Context) error {
		if c.peer.Era == Modern {
			return listenModern(ctx, filters, heard, send)
		}
		return listenLegacy(ctx, c.peer.Hello, filters, heard, send, func(ctx context.Context, begun func()) error {
			if c.standing != nil { // a session has room for one stream
				return c.standing.hear(ctx, begun)
			}
			return c.watch(ctx, authorize, begun)
		})
	})
}

// watch takes in the stream of what a legacy server says outside of calls
// (MCP 2025-11-25, transports, "Listening for Messages from the Server").
func (c *httpConn) watch(ctx context.Context, authorize Authorize, begun func()) error {
	response, err := c.listen(ctx, "", authorize)
	if err != nil {
		return err
	}
	begun()
	stream := c.newEventStream(response, authorize)
	defer func() {
		stream.events.release()
		stream.close()
	}()
	for {
		data, err := stream.next(ctx)
		if err != nil {
			return err
		}
		m, err := jsonrpc.Parse(data)
		switch {
		case err != nil:
			c.server.log.Debug("an event outside of calls is no message", "error", err)
		case m.IsRequest():
			c.asked(&m, authorize)
		case m.Method == methodCancelled:
			c.standing.withdrawn(&m)
		case m.Method == methodMessage:
			c.aside(m.Params)
		case m.IsNotification():
			c.changed(m.Method, m.Params)
		}
	}
}

// Listen implements Conn.
func (c *stdioConn) Listen(ctx context.Context, filters <-chan Filter, _ Authorize, heard *Pending) error {
	send := func(ctx context.Context, call rpc.Call) error {
		_, err := c.exchange(ctx, c.peer.Era, call, true)
		return err
	}
	return c.listening(ctx, heard, func(ctx context.Context) error {
		if c.peer.Era == Modern {
			return listenAlone(ctx, filters, heard, func(missed Change) { c.changed(missed.Method, missed.Params) }, send)
		}
		return listenLegacy(ctx, c.peer.Hello, filters, heard, send, func(ctx context.Context, begun func()) error {
			begun() // it is taken in anyway
			select {
			case <-ctx.Done():
				return nil
			case <-c.ended:
				return &Failure{Fate: NotSent, Dead: true, Err: c.child.gone()}
			}
		})
	})
}

// Listen implements Conn.
func (c *sseConn) Listen(ctx context.Context, filters <-chan Filter, authorize Authorize, heard *Pending) error {
	send := func(ctx context.Context, call rpc.Call) error {
		_, err := c.exchange(ctx, call, true, authorize)
		return err
	}
	return c.listening(ctx, heard, func(ctx context.Context) error {
		return listenLegacy(ctx, c.met.Hello, filters, heard, send, func(ctx context.Context, begun func()) error {
			begun() // it is taken in anyway
			select {
			case <-ctx.Done():
				return nil
			case <-c.died:
				return &Failure{Fate: NotSent, Dead: true, Err: c.why}
			}
		})
	})
}

// Listen implements Conn: the handler is asked as a modern server is. One that
// does not know the method heeds nothing.
func (c *handlerConn) Listen(ctx context.Context, filters <-chan Filter, _ Authorize, heard *Pending) error {
	send := func(ctx context.Context, call rpc.Call) error {
		acknowledged := call.Events
		call.Events = listener{acknowledged, c.life}
		_, err := c.endpoint.handler.Do(ctx, call)
		if unknown := (*rpc.Error)(nil); errors.As(err, &unknown) && unknown.Code == rpc.CodeMethodNotFound {
			acknowledged.Notify(MethodAcknowledged, acknowledgement(Filter{}))
			<-ctx.Done()
		}
		return err
	}
	return c.listening(ctx, heard, func(ctx context.Context) error {
		return listenModern(ctx, filters, heard, send)
	})
}

// A listener is the Events of a subscription in process.
type listener struct {
	rpc.Events
	life *life
}

func (l listener) Notify(method string, params json.RawMessage) {
	l.life.changed(method, params)
	l.Events.Notify(method, params)
}
