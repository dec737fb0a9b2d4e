package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// answerLife is how long a call waits for its client to answer what its server
	// asks. Then the server is told that it is over.
	answerLife = 5 * time.Minute
	// maxParked bounds the calls that wait so, and maxParkedEach those of one
	// principal: each keeps a slot at its server. Beyond it the server is told
	// that the client does not answer.
	maxParked     = 1000
	maxParkedEach = 100
	// maxInput bounds what a server may ask of one call at once.
	maxInput = 16
	// gatherTime is how long further questions are awaited after the first: a
	// server that has several asks them one right after the other.
	gatherTime = 5 * time.Millisecond
	// statePrefix is what the requestState of a parked call begins with, before
	// the name of the gateway, so that it is told from that of a server.
	statePrefix = "mcpool."
)

// mayPark reports whether a call of the request may be answered with
// input_required before its server has answered it (MCP 2026-07-28,
// basic/patterns/mrtr): then it runs on, and waits for the next request of its
// client.
func (q *request) mayPark(method string) bool {
	if q.era != modern || q.caller.Capabilities == (rpc.Capabilities{}) {
		return false
	}
	switch method {
	case methodCallTool, methodGetPrompt, methodRead:
		return true
	}
	return false
}

// A conversation is a call of a modern client that says it can be asked
// something. A legacy server does that while the call runs: then the client is
// answered with the question, the call is parked, and goes on with the request
// in which the client answers.
type conversation struct {
	id      string
	gateway *Gateway
	bound   string // for whom and where it is: the seal of its states
	what    string // is called
	owner   string // the principal
	session string // that of the client; "" over HTTP, where it has none
	caps    rpc.Capabilities
	token   json.RawMessage
	clock   *clock
	cancel  context.CancelCauseFunc

	done   chan struct{} // closed when there is an answer
	answer rpc.Answer
	err    error // both set before done is closed

	asked chan struct{} // holds a token while questions may have come

	mu        sync.Mutex // guards what follows
	ended     bool       // there is an answer
	now       *request   // the client's; nil while it is parked
	out       outlet     // that of now
	next      int
	round     int // of questions
	questions map[string]*question
	forgotten *time.Timer // ends it if the client does not come back
}

// A question is one that a server waits for an answer to.
type question struct {
	method string
	params json.RawMessage
	answer chan json.RawMessage
}

// converse makes a call that may be parked. leave is called when it is over.
func (q *request) converse(ctx context.Context, s *backend, call rpc.Call, leave func()) (rpc.Answer, error) {
	g := q.gateway
	c := &conversation{
		id: rand.Text(), gateway: g, what: q.what(), owner: q.caller.Principal, session: q.caller.Session, bound: q.stateBound(),
		caps: q.caller.Capabilities, token: q.token,
		done: make(chan struct{}), asked: make(chan struct{}, 1),
		now: q, out: q.out, questions: make(map[string]*question),
	}
	running, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	c.cancel = cancel
	running, c.clock = startClock(running, s, nil)
	call.Events = c
	q.routes.stay() // it may outlast the request, which has not left them yet
	parked := leave
	leave = func() {
		parked()
		q.routes.leave()
	}
	if !g.parked.goes(func() {
		answer, err := s.do(running, q.logger, call)
		c.answer, c.err = answer, c.clock.verdict(running, err)
		s.ended(running, q.era, answer, c.err)
		c.clock.stop()
		cancel(nil)
		leave() // before the client has the answer, and makes the next call
		c.end()
	}) {
		leave()
		c.clock.stop()
		cancel(nil)
		return rpc.Answer{}, errClosed
	}
	return c.wait(ctx)
}

// end has the answer taken by the request that waits for it. Where none does, it
// is lost: what the server asked for was not needed after all, or is too late.
func (c *conversation) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.forgotten != nil {
		c.forgotten.Stop()
	}
	c.gateway.parked.leave(c)
	close(c.done)
}

// what is called: a client goes on with the same.
func (q *request) what() string {
	if q.method == methodRead {
		return q.method + " " + jsonrpc.GetString(q.params, "uri")
	}
	return q.method + " " + jsonrpc.GetString(q.params, "name")
}

// stateBound is what the states that a client is given are good for.
func (q *request) stateBound() string {
	return "state\x00" + q.endpoint.name + "\x00" + strconv.Quote(q.caller.Principal) + "\x00" + q.what()
}

// wait waits for the answer, or for questions, which it returns as the answer
// to the client's request.
func (c *conversation) wait(ctx context.Context) (rpc.Answer, error) {
	for {
		select {
		case <-c.done:
			return c.answer, c.err
		case <-c.asked:
			time.Sleep(gatherTime)
			if ctx.Err() != nil {
				continue // nobody would come back to it
			}
			if result, ok := c.park(); ok {
				return rpc.Result(result), nil
			}
		case <-ctx.Done():
			c.cancel(context.Cause(ctx))
			<-c.done
			return c.answer, c.err
		}
	}
}

// A foreignState is one that another gateway gave, which may be behind this one,
// and have the same key: then it is one of the server, which is modern. Its error
// is what the client is told otherwise.
type foreignState struct{ error }

// errForgotten is why a server gets no answer of a client that stays away.
var errForgotten = errors.New("the client did not answer what the server asked")

// park returns the questions that there are for the client, and has the call
// wait for its next request. It reports false if there is none.
func (c *conversation) park() (json.RawMessage, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.questions) == 0 || c.ended {
		return nil, false
	}
	type request struct {
		Method string          `json:"method"`
		Params json.RawMessage `json:"params,omitempty"`
	}
	requests := make(map[string]request, len(c.questions))
	for key, q := range c.questions {
		requests[key] = request{q.method, q.params}
	}
	result, err := json.Marshal(map[string]any{
		"resultType":    "input_required",
		"inputRequests": requests,
		"requestState": statePrefix + c.gateway.name + "." + c.gateway.sealer.Seal(time.Now().Add(answerLife), c.bound,
			c.gateway.name, c.id, strconv.Itoa(c.round+1)),
	})
	if err != nil { // they nest too deeply, say
		c.cancel(fmt.Errorf("the client cannot be told what the server asks: %w", err))
		return nil, false
	}
	if !c.gateway.parked.enter(c) {
		for key, q := range c.questions {
			close(q.answer) // nobody is asked
			delete(c.questions, key)
		}
		return nil, false
	}
	c.clock.pause()
	c.round++
	c.now, c.out = nil, nil
	c.forgotten = time.AfterFunc(answerLife, func() { c.cancel(errForgotten) })
	return result, true
}

// resume goes on with the parked call that a state is of. It fails with
// a foreignState where that is not of this gateway.
func (q *request) resume(ctx context.Context, state string) (rpc.Answer, error) {
	g := q.gateway
	name, sealed, _ := strings.Cut(strings.TrimPrefix(state, statePrefix), ".")
	said, _, ok := g.sealer.Open(sealed, q.stateBound(), 3)
	bad := gone("its requestState is not one of this call, or it has expired")
	switch {
	case !ok && name != g.name:
		return rpc.Answer{}, foreignState{bad}
	case !ok:
		return rpc.Answer{}, bad
	case said[0] != g.name:
		return rpc.Answer{}, foreignState{gone("it is at gateway %s, and this is %s", said[0], g.name)}
	}
	c := g.parked.find(said[1])
	switch {
	case c == nil:
		return rpc.Answer{}, gone("it has ended, and may have run")
	case c.session != q.caller.Session:
		return rpc.Answer{}, bad
	}
	if err := c.goOn(q, said[2]); err != nil {
		return rpc.Answer{}, err
	}
	return c.wait(ctx)
}

// goOn takes in the answers of a client, whose request the call has from now
// on.
func (c *conversation) goOn(q *request, round string) error {
	var answers map[string]json.RawMessage
	if raw, there := jsonrpc.Get(q.params, "inputResponses"); there {
		if err := json.Unmarshal(raw, &answers); err != nil {
			return rpc.Errorf(rpc.CodeInvalidParams, "params.inputResponses: %v", err)
		}
	}
	for key, answer := range answers {
		if !isObject(answer) {
			return rpc.Errorf(rpc.CodeInvalidParams, "params.inputResponses[%q] is not an object", key)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.now != nil || round != strconv.Itoa(c.round):
		return gone("its requestState was used before")
	case c.ended:
		return gone("it has ended, and may have run")
	case !c.forgotten.Stop():
		return gone("it has waited too long")
	}
	c.gateway.parked.leave(c)
	c.now, c.out = q, q.out
	c.clock.resume()
	for key, answer := range answers {
		if asked := c.questions[key]; asked != nil {
			asked.answer <- answer
			delete(c.questions, key)
		}
	}
	if len(c.questions) > 0 { // those without an answer are asked again
		c.signal()
	}
	return nil
}

func (c *conversation) signal() {
	select {
	case c.asked <- struct{}{}:
	default:
	}
}

// Notify implements rpc.Events. The progress token is that of the client's
// newest request, and while there is none nothing is passed on: an event is not
// to come behind an answer.
func (c *conversation) Notify(method string, params json.RawMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.now
	if q == nil {
		return
	}
	if method == notifyProgress {
		c.clock.extend()
		if q.token != nil && string(q.token) != string(c.token) {
			params, _ = jsonrpc.Set(params, q.token, "progressToken")
		}
	}
	q.notify(c.out, method, params) // waits for none but a client in this process
}

// Ask implements rpc.Events: it has a question asked, and waits for the answer.
func (c *conversation) Ask(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	asked := &question{method, params, make(chan json.RawMessage, 1)}
	c.mu.Lock()
	if !canAnswer(c.caps, method) || len(c.questions) >= maxInput {
		c.mu.Unlock()
		return nil, rpc.Errorf(rpc.CodeMethodNotFound, "the client does not answer %s", method)
	}
	c.next++
	key := strconv.Itoa(c.next)
	c.questions[key] = asked
	c.signal()
	c.mu.Unlock()
	select {
	case answer, ok := <-asked.answer:
		if !ok {
			return nil, rpc.Errorf(rpc.CodeInternal, "too many calls wait for their clients, or the gateway is shutting down: %s is not asked", method)
		}
		return answer, nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.questions, key)
		c.mu.Unlock()
		return nil, context.Cause(ctx)
	}
}

// parked are the calls that wait for their clients.
type parked struct {
	work sync.WaitGroup // those that run, parked or not

	mu     sync.Mutex // guards what follows
	closed bool
	by     map[string]*conversation // by id
	each   map[string]int           // by principal
}

func newParked() *parked {
	return &parked{by: make(map[string]*conversation), each: make(map[string]int)}
}

// goes runs a call that may be parked, or reports false after close.
func (p *parked) goes(call func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.work.Go(call)
	return true
}

func (p *parked) enter(c *conversation) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.by) >= maxParked || p.each[c.owner] >= maxParkedEach {
		return false
	}
	p.by[c.id] = c
	p.each[c.owner]++
	return true
}

// leave takes a call out that does not wait any more.
func (p *parked) leave(c *conversation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by[c.id] == nil {
		return
	}
	delete(p.by, c.id)
	if p.each[c.owner]--; p.each[c.owner] == 0 {
		delete(p.each, c.owner)
	}
}

func (p *parked) find(id string) *conversation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.by[id]
}

func (p *parked) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.by)
}

// end ends the calls of a session that are parked, since their client is gone,
// and waits for that.
func (p *parked) end(session string) {
	p.mu.Lock()
	var all []*conversation
	for _, c := range p.by {
		if c.session == session {
			all = append(all, c)
		}
	}
	p.mu.Unlock()
	for _, c := range all {
		c.cancel(errForgotten)
		<-c.done
	}
}

// close ends the calls that are parked, since no client can come back to them,
// and lets no more in.
func (p *parked) close() {
	p.mu.Lock()
	p.closed = true
	all := slices.Collect(maps.Values(p.by))
	p.mu.Unlock()
	for _, c := range all {
		c.cancel(errAborted)
	}
}
