package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// ask makes the call of a request, which is for one server, and returns its
// answer; when the call has no more time the request has none. What the client
// asked for meanwhile goes to q.out. The error is an [*rpc.Error], a
// [*timeoutError], a [*limitError], or the handler's.
func (q *request) ask(ctx context.Context, s *backend, params json.RawMessage) (rpc.Answer, error) {
	q.asked = s
	return q.call(ctx, s, q.method, params, q.out, q.cancel)
}

// askFor makes one of several calls that a request needs, of whatever method.
// Its time is its own, and nothing but its answer goes to the client.
func (q *request) askFor(ctx context.Context, s *backend, method string, params json.RawMessage) (rpc.Answer, error) {
	return q.call(ctx, s, method, params, nil, nil)
}

// call is ask and askFor; out and cancel are nil for none, see [startClock].
func (q *request) call(ctx context.Context, s *backend, method string, params json.RawMessage, out outlet, cancel context.CancelCauseFunc) (rpc.Answer, error) {
	if q.foreign != nil && method != methodDiscover {
		// A legacy server has no states: it would do it all over again.
		if q.helloOf(ctx, s); !s.modern.Load() {
			return rpc.Answer{}, q.foreign
		}
	}
	if listKinds[method] == nil && method != methodDiscover {
		if err := q.gateway.losses.tell(q.loss(s)); err != nil {
			return rpc.Answer{}, err
		}
	}
	leave := func() {}
	if method != methodDiscover { // what a server can is told once, to a client that begins
		var err error
		if leave, err = q.gateway.limits.enter(s, q.caller.Principal, q.rights.MaxCalls); err != nil {
			s.count(q.era, Refused)
			return rpc.Answer{}, err
		}
	}
	call := rpc.Call{Method: method, Params: params, Caller: q.caller, MultiRound: q.era == modern, Trace: q.trace}
	if q.era == legacy {
		var err error
		if call.Params, err = q.withSession(s, params); err != nil {
			leave()
			return rpc.Answer{}, badParams(method, err)
		}
	}
	if q.mayPark(method) {
		return q.converse(ctx, s, call, leave)
	}
	defer leave()
	on := &events{request: q, out: out}
	ctx, on.clock = startClock(ctx, s, cancel)
	defer on.clock.stop()
	call.Events = on
	answer, err := s.do(ctx, q.logger, call)
	if err != nil {
		err = on.clock.verdict(ctx, err)
	}
	if method != methodDiscover { // which no client waits for
		s.ended(ctx, q.era, answer, err)
	}
	if err != nil {
		return rpc.Answer{}, err
	}
	if method == tools.method {
		s.headers.learn(answer.Bytes())
	}
	return answer, nil
}

// withSession puts into the params of a legacy client what it agreed on when it
// began, or set since, and modern servers are told with each request.
func (q *request) withSession(s *backend, params json.RawMessage) (json.RawMessage, error) {
	var err error
	if q.levelSet && q.method != methodInitialize {
		if params, err = setString(params, logLevels[q.logLevel], "_meta", metaLogLevel); err != nil {
			return nil, err
		}
	}
	if q.session != nil && q.session.info != "" && s.modern.Load() {
		return jsonrpc.Set(params, []byte(q.session.info), "_meta", metaClientInfo)
	}
	return params, nil
}

// A clock ends a call that has taken too long; a nil one never does.
type clock struct {
	timeout *timeoutError
	cancel  context.CancelCauseFunc // nil if the context is another's, too

	mu     sync.Mutex // guards what follows
	timer  *time.Timer
	paused int // how many times
	over   bool
}

// startClock bounds one call of a server. cancel ends ctx, if that is for
// nothing but this call; nil if it is not. The clock has to be stopped.
func startClock(ctx context.Context, s *backend, cancel context.CancelCauseFunc) (context.Context, *clock) {
	if s.CallTimeout == 0 {
		return ctx, nil
	}
	timeout := &timeoutError{server: s.Name, timeout: s.CallTimeout, ran: true}
	c := &clock{timeout: timeout}
	if cancel == nil {
		ctx, cancel = context.WithCancelCause(ctx)
		c.cancel = cancel
	}
	c.timer = time.AfterFunc(s.CallTimeout, func() { cancel(timeout) })
	return ctx, c
}

// extend gives the call its whole time again.
func (c *clock) extend() { c.change(0) }

// pause lets no time pass for the call, until resume gives it its whole time
// again.
func (c *clock) pause()  { c.change(1) }
func (c *clock) resume() { c.change(-1) }

func (c *clock) change(pauses int) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused += pauses; c.paused > 0 {
		c.timer.Stop()
	} else if !c.over {
		c.timer.Reset(c.timeout.timeout)
	}
}

func (c *clock) stop() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.timer.Stop()
	if c.cancel != nil {
		c.cancel(nil)
	}
}

// verdict is the error of a call whose time may have been up.
func (c *clock) verdict(ctx context.Context, err error) error {
	if c != nil && context.Cause(ctx) == error(c.timeout) && !isAnswer(err) {
		return &timeoutError{server: c.timeout.server, timeout: c.timeout.timeout, ran: !mcpool.SafeToRetry(err)}
	}
	return err
}

// events is what a server sends during one call.
type events struct {
	request *request
	out     outlet // nil: the client wants none
	clock   *clock
}

// Notify passes on the progress and the log messages that the client asked
// for.
func (on *events) Notify(method string, params json.RawMessage) {
	if method == notifyProgress {
		on.clock.extend()
	}
	on.request.notify(on.out, method, params)
}

// notify passes on what the client of a request asked for.
func (q *request) notify(out outlet, method string, params json.RawMessage) {
	wanted := false
	switch method {
	case notifyProgress:
		wanted = q.token != nil
	case notifyMessage:
		// A message without a level that is known ranks with the most severe.
		level := logLevel(jsonrpc.GetString(params, "level"))
		wanted = q.logLevel != noLog && level >= q.logLevel
	}
	if wanted && out != nil {
		out.event(oneLine(jsonrpc.AppendRequest(nil, nil, method, params)))
	}
}

// Ask has a legacy client answer a request of the server, on the stream of the
// call that it belongs to.
func (on *events) Ask(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	q := on.request
	if on.out == nil || q.era == modern || !canAnswer(q.caller.Capabilities, method) {
		return nil, rpc.Errorf(rpc.CodeMethodNotFound, "the client did not say that it answers %s", method)
	}
	on.clock.pause()
	defer on.clock.resume()
	return q.gateway.questions.ask(ctx, q, method, params, on.out)
}

// canAnswer reports whether a client has said that it answers a method.
func canAnswer(c rpc.Capabilities, method string) bool {
	switch method {
	case "elicitation/create":
		return c.Elicitation || c.ElicitationURL
	case "sampling/createMessage":
		return c.Sampling
	case "roots/list":
		return c.Roots
	}
	return false
}

// maxQuestions bounds the requests that wait for one legacy session to answer.
const maxQuestions = 64

// questions are the requests of servers that legacy clients have been sent.
type questions struct {
	gateway string

	mu      sync.Mutex // guards what follows
	next    int64
	waiting map[string]map[string]chan jsonrpc.Message // by session, and by id
}

// ask sends a request to a client and returns its answer. The id says which
// gateway waits for it.
func (qs *questions) ask(ctx context.Context, of *request, method string, params json.RawMessage, out outlet) (json.RawMessage, error) {
	answer := make(chan jsonrpc.Message, 1)
	qs.mu.Lock()
	qs.next++
	key := qs.gateway + "-" + strconv.FormatInt(qs.next, 10)
	session := of.caller.Session
	waiting := qs.waiting[session]
	if len(waiting) >= maxQuestions {
		qs.mu.Unlock()
		return nil, rpc.Errorf(rpc.CodeInternal, "%d requests wait for the client already", maxQuestions)
	}
	if waiting == nil {
		waiting = make(map[string]chan jsonrpc.Message)
		qs.waiting[session] = waiting
	}
	waiting[key] = answer
	qs.mu.Unlock()
	defer qs.forget(session, key)

	id, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	out.send(oneLine(jsonrpc.AppendRequest(nil, id, method, params)))
	withdraw := func() {
		params, _ := jsonrpc.Set(nil, id, "requestId")
		out.event(jsonrpc.AppendRequest(nil, nil, notifyCancelled, params))
	}
	late := time.NewTimer(answerLife)
	defer late.Stop()
	select {
	case m := <-answer:
		if m.Error != nil {
			return nil, m.Failure()
		}
		return m.Result, nil
	case <-of.hungUp:
		return nil, errors.New("the client is gone")
	case <-late.C:
		withdraw()
		return nil, errForgotten
	case <-ctx.Done():
		withdraw()
		return nil, context.Cause(ctx)
	}
}

func (qs *questions) forget(session, key string) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	of := qs.waiting[session]
	if delete(of, key); len(of) == 0 {
		delete(qs.waiting, session)
	}
}

// answered takes in a client's answer. One to nothing that was asked in its
// session, or that was answered before, is ignored; one to what another gateway
// has asked is an error.
func (qs *questions) answered(session string, m jsonrpc.Message) error {
	var key string
	if json.Unmarshal(m.ID, &key) != nil {
		return nil
	}
	if i := strings.LastIndexByte(key, '-'); i >= 0 && key[:i] != qs.gateway {
		return fmt.Errorf("the request %q is of gateway %s, and this is %s: it has to be answered there", key, key[:i], qs.gateway)
	}
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if answer := qs.waiting[session][key]; answer != nil {
		select {
		case answer <- m:
		default:
		}
	}
	return nil
}

// oneLine makes a frame of ours fit where a line break ends it. JSON has them
// between its tokens only, so a space does as well.
func oneLine(frame []byte) []byte {
	for i, c := range frame {
		if c == '\n' || c == '\r' {
			frame[i] = ' '
		}
	}
	return frame
}

var errGone = errors.New("the call that this goes on with is gone")

func gone(format string, args ...any) error {
	return rpc.Errorf(rpc.CodeInvalidParams, "%v: %s; make the call again", errGone, fmt.Sprintf(format, args...))
}
