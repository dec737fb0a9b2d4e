package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// canElicit is what a modern client carries that can be asked, with a progress
// token.
func canElicit(token string) string {
	return strings.Replace(meta, `"io.modelcontextprotocol/clientCapabilities":{}}`,
		`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},"progressToken":`+token+`}`, 1)
}

// callParked calls a tool as a client that can be asked, with more params.
func callParked(g *Gateway, path, tool, more string, headers ...string) response {
	return callWith(g, path, "tools/call", tool, `"t"`, more, headers...)
}

func callWith(g *Gateway, path, method, name, token, more string, headers ...string) response {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{"name":%q%s,%s}}`, method, name, more, canElicit(token))
	return do(g, "POST", path, body, append(modernHeaders(method, name), headers...)...)
}

// An inquiry is what input_required says.
type inquiry struct {
	ResultType    string
	RequestState  string
	InputRequests map[string]struct {
		Method string
		Params json.RawMessage
	}
}

// inquiry reads an answer that asks the client something.
func (r response) inquiry(t testing.TB) inquiry {
	t.Helper()
	var in inquiry
	if err := json.Unmarshal(r.answer(t).result(t), &in); err != nil {
		t.Fatal(err)
	}
	if in.ResultType != "input_required" || r.status != 200 || in.RequestState == "" || len(in.InputRequests) == 0 {
		t.Fatalf("want input_required, got %s", r)
	}
	return in
}

// retry is the params of the request that goes on with an inquiry: each key is
// answered with its name, or with what is given for it.
func (in inquiry) retry(keys ...string) string {
	if len(keys) == 0 {
		for key := range in.InputRequests {
			keys = append(keys, key)
		}
	}
	answers := make(map[string]any)
	for _, key := range keys {
		answers[key] = map[string]any{"action": "accept", "content": map[string]string{"asked": string(in.InputRequests[key].Params)}}
	}
	said, err := json.Marshal(answers)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`,"requestState":%q,"inputResponses":%s`, in.RequestState, said)
}

// elicits asks the caller something and returns what was answered.
func elicits(ctx context.Context, call rpc.Call, what string) (string, error) {
	answer, err := call.Events.Ask(ctx, "elicitation/create", json.RawMessage(`{"message":"`+what+`"}`))
	if err != nil {
		return "", err
	}
	return jsonrpc.GetString(answer, "content", "asked"), nil
}

// text is a result that says something.
func text(said string) rpc.Answer {
	quoted, err := json.Marshal(said)
	if err != nil {
		panic(err)
	}
	return rpc.Result(json.RawMessage(`{"said":` + string(quoted) + `}`))
}

func (r response) said(t testing.TB) string {
	t.Helper()
	return jsonrpc.GetString(r.answer(t).result(t), "said")
}

// inquirer asks so many things one after the other, with progress around each.
func inquirer(rounds int) handler {
	return func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		token, _ := jsonrpc.Get(call.Params, "_meta", "progressToken")
		progress := func(n int) {
			call.Events.Notify("notifications/progress", json.RawMessage(fmt.Sprintf(`{"progressToken":%s,"progress":%d}`, token, n)))
		}
		var all []string
		for i := range rounds {
			progress(2 * i)
			said, err := elicits(ctx, call, fmt.Sprintf("%s %d", jsonrpc.GetString(call.Params, "name"), i))
			if err != nil {
				return rpc.Answer{}, err
			}
			all = append(all, said)
			progress(2*i + 1)
		}
		return text(strings.Join(all, " ")), nil
	}
}

func TestAParkedCallGoesOnWithTheRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(inquirer(2)))
		r := callWith(g, "/mcp", "tools/call", "x", `"first"`, "")
		in := r.inquiry(t)
		if list := frames(t, r.body); len(list) != 2 || !strings.Contains(list[0], `"progressToken":"first","progress":0`) {
			t.Errorf("got %v", list)
		}
		if g.parked.count() != 1 {
			t.Errorf("%d calls are parked", g.parked.count())
		}
		time.Sleep(answerLife - time.Second)
		r = callWith(g, "/mcp", "tools/call", "x", `2`, in.retry())
		in = r.inquiry(t)
		if list := frames(t, r.body); len(list) != 3 || !strings.Contains(list[0], `"progressToken":2,"progress":1`) || !strings.Contains(list[1], `"progressToken":2,"progress":2`) {
			t.Errorf("got %v", list)
		}
		time.Sleep(answerLife - time.Second)
		r = callWith(g, "/mcp", "tools/call", "x", `"first"`, in.retry())
		if list := frames(t, r.body); len(list) != 2 || !strings.Contains(list[0], `"progressToken":"first","progress":3`) {
			t.Errorf("got %v", list)
		}
		if got := r.said(t); got != `{"message":"x 0"} {"message":"x 1"}` {
			t.Errorf("the server was answered %s", got)
		}
		if g.parked.count() != 0 {
			t.Errorf("%d calls are parked", g.parked.count())
		}
		closed(t, g)
	})
}

func TestSeveralQuestionsAreAskedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			var asking sync.WaitGroup
			said := make([]string, 3)
			for i := range said {
				asking.Go(func() { said[i], _ = elicits(ctx, call, fmt.Sprint(i)) })
			}
			asking.Wait()
			return text(strings.Join(said, " ")), nil
		})))
		in := callParked(g, "/mcp", "x", "").inquiry(t)
		if len(in.InputRequests) != 3 {
			t.Fatalf("asked %+v", in)
		}
		keys := make([]string, 0, 3)
		for key, q := range in.InputRequests {
			if q.Method != "elicitation/create" {
				t.Errorf("asked for %s", q.Method)
			}
			keys = append(keys, key)
		}
		// What is left out is asked for again, under a new state.
		again := callParked(g, "/mcp", "x", in.retry(keys[:2]...)).inquiry(t)
		if _, same := again.InputRequests[keys[2]]; len(again.InputRequests) != 1 || !same || again.RequestState == in.RequestState {
			t.Fatalf("asked again %+v", again)
		}
		if r := callParked(g, "/mcp", "x", in.retry(keys[2])); r.status != 400 || !strings.Contains(r.body, "used before") {
			t.Errorf("the first state again: %s", r)
		}
		for _, none := range []string{`,"inputResponses":null`, ``, `,"inputResponses":{"other":{}}`} {
			again = callParked(g, "/mcp", "x", fmt.Sprintf(`,"requestState":%q%s`, again.RequestState, none)).inquiry(t)
		}
		for _, bad := range []string{`[]`, `{"1":7}`, `"x"`} {
			if r := callParked(g, "/mcp", "x", fmt.Sprintf(`,"requestState":%q,"inputResponses":%s`, again.RequestState, bad)); r.status != 400 || r.code(t) != -32602 {
				t.Errorf("answers %s: got %s", bad, r)
			}
		}
		if got := callParked(g, "/mcp", "x", again.retry()).said(t); got != `{"message":"0"} {"message":"1"} {"message":"2"}` {
			t.Errorf("the server was answered %s", got)
		}
		closed(t, g)
	})
}

func TestAStateIsGoodForItsCallAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := []byte(strings.Repeat("k", KeySize))
		options := &Options{Key: key, Name: "here", Principal: byHeader}
		servers := func() []Server {
			return []Server{{Name: "one", Handler: inquirer(1)}, {Name: "two", Handler: inquirer(1)}}
		}
		g := newGateway(t, options, servers()...)
		sibling := newGateway(t, &Options{Key: key, Name: "there", Principal: byHeader}, servers()...)
		stranger := newGateway(t, &Options{Principal: byHeader}, servers()...)
		in := callParked(g, "/mcp", "one__x", "", "X-Principal", "a").inquiry(t)
		other := callParked(g, "/mcp", "one__x", "", "X-Principal", "a").inquiry(t)
		tampered := in
		tampered.RequestState = in.RequestState[:len(in.RequestState)-1] + map[bool]string{true: "A", false: "B"}[strings.HasSuffix(in.RequestState, "B")]
		longer, shorter, empty := in, in, in
		longer.RequestState += "-TAMPERED"
		shorter.RequestState = in.RequestState[:20]
		empty.RequestState = statePrefix
		for name, r := range map[string]response{
			"another principal":  callParked(g, "/mcp", "one__x", in.retry(), "X-Principal", "b"),
			"no principal":       callParked(g, "/mcp", "one__x", in.retry()),
			"another endpoint":   callParked(g, "/mcp/one", "one__x", in.retry(), "X-Principal", "a"),
			"another tool":       callParked(g, "/mcp", "one__y", in.retry(), "X-Principal", "a"),
			"another server":     callParked(g, "/mcp", "two__x", in.retry(), "X-Principal", "a"),
			"a prompt":           callWith(g, "/mcp", "prompts/get", "one__x", "1", in.retry(), "X-Principal", "a"),
			"another gateway":    callParked(stranger, "/mcp", "one__x", in.retry(), "X-Principal", "a"),
			"one of the same":    callParked(sibling, "/mcp", "one__x", in.retry(), "X-Principal", "a"),
			"a changed one":      callParked(g, "/mcp", "one__x", tampered.retry(), "X-Principal", "a"),
			"a longer one":       callParked(g, "/mcp", "one__x", longer.retry(), "X-Principal", "a"),
			"a part of it":       callParked(g, "/mcp", "one__x", shorter.retry(), "X-Principal", "a"),
			"nothing but prefix": callParked(g, "/mcp", "one__x", empty.retry(), "X-Principal", "a"),
		} {
			if r.status != 400 || r.code(t) != -32602 || !strings.Contains(r.body, "make the call again") {
				t.Errorf("%s: got %s", name, r)
			}
			if name == "one of the same" && !strings.Contains(r.body, "gateway here") {
				t.Errorf("%s: got %s", name, r)
			}
		}
		// A client that has a session is another.
		c := g.NewClient(t.Context(), "a")
		if err := c.Write([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__x"` + in.retry() + `,` + canElicit("1") + `}}`)); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read(t.Context()); err != nil || !strings.Contains(string(got), "is not one of this call") {
			t.Errorf("a client in this process: %s, %v", got, err)
		}
		c.Close()
		// Each answers its own, and once.
		in.InputRequests["1"] = other.InputRequests["1"]
		for _, one := range []inquiry{in, other} {
			if got := callParked(g, "/mcp", "one__x", one.retry(), "X-Principal", "a"); got.status != 200 || got.said(t) != `{"message":"x 0"}` {
				t.Errorf("the right one: %s", got)
			}
			if r := callParked(g, "/mcp", "one__x", one.retry(), "X-Principal", "a"); r.status != 400 || r.code(t) != -32602 {
				t.Errorf("a second time: %s", r)
			}
		}
		for _, g := range []*Gateway{g, sibling, stranger} {
			closed(t, g)
		}
	})
}

func TestAnswersReachTheQuestionTheyAreTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			said, err := elicits(ctx, call, jsonrpc.GetString(call.Params, "arguments", "who"))
			return text(said), err
		})))
		var clients sync.WaitGroup
		for i := range 50 {
			clients.Go(func() {
				who := fmt.Sprintf(`,"arguments":{"who":"%d"}`, i)
				in := callParked(g, "/mcp", "x", who).inquiry(t)
				time.Sleep(time.Duration(50-i) * time.Millisecond)
				if got, want := callParked(g, "/mcp", "x", who+in.retry()).said(t), fmt.Sprintf(`{"message":"%d"}`, i); got != want {
					t.Errorf("client %d: the server was answered %s", i, got)
				}
			})
		}
		clients.Wait()
		closed(t, g)
	})
}

// A patient is a handler whose calls ask, and say how their contexts ended.
type patient struct {
	ended chan error
	asked chan error
}

func (p patient) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	_, err := elicits(ctx, call, "x")
	p.asked <- err
	<-ctx.Done()
	p.ended <- context.Cause(ctx)
	return rpc.Answer{}, ctx.Err()
}

func newPatient() patient { return patient{make(chan error, 2000), make(chan error, 2000)} }

func TestAParkedCallEndsWhereItsClientStaysAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newPatient()
		g := newGateway(t, nil, Server{Name: "one", Handler: h, CallTimeout: time.Minute})
		in := callParked(g, "/mcp", "x", "").inquiry(t)
		began := time.Now()
		if err := <-h.ended; err != errForgotten || time.Since(began) != answerLife {
			t.Errorf("its context ended after %v with %v", time.Since(began), err)
		}
		synctest.Wait()
		if g.parked.count() != 0 {
			t.Error("it is still parked")
		}
		if r := callParked(g, "/mcp", "x", in.retry()); r.status != 400 || !strings.Contains(r.body, "make the call again") {
			t.Errorf("too late: %s", r)
		}
		closed(t, g)
	})
}

func TestAParkedCallTakesNoTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newPatient()
		g := newGateway(t, nil, Server{Name: "one", Handler: h, CallTimeout: time.Minute})
		in := callParked(g, "/mcp", "x", "").inquiry(t)
		time.Sleep(3 * time.Minute)
		began := time.Now()
		if r := callParked(g, "/mcp", "x", in.retry()); r.code(t) != -32001 || time.Since(began) != time.Minute {
			t.Errorf("after %v got %s", time.Since(began), r)
		}
		closed(t, g)
	})
}

func TestParkedCallsAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newPatient()
		g := newGateway(t, &Options{Principal: byHeader, MaxCallsPerPrincipal: maxParked * 2}, one(h))
		park := func(who string, parked bool) {
			t.Helper()
			w := open(t, g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x",`+canElicit("1")+`}}`,
				append(modernHeaders("tools/call", "x"), "X-Principal", who)...)
			if parked {
				w.body().inquiry(t)
				return
			}
			if err := <-h.asked; err == nil || !strings.Contains(err.Error(), "too many calls wait") {
				t.Errorf("%s: the server was answered %v", who, err)
			}
			w.leave()
			if err := <-h.ended; err == nil {
				t.Error("the call goes on without its client")
			}
			<-w.events
		}
		for i := range maxParked {
			who := fmt.Sprint(i / maxParkedEach)
			park(who, true)
			if i == maxParkedEach-1 {
				park(who, false)
			}
		}
		park("one more", false)
		if g.parked.count() != maxParked {
			t.Errorf("%d are parked", g.parked.count())
		}
		// With Close they all end at once, as nobody can come back to them.
		began := time.Now()
		closed(t, g)
		for range maxParked {
			if err := <-h.ended; err != errAborted || !time.Now().Equal(began) {
				t.Errorf("after %v ended with %v", time.Since(began), err)
			}
		}
		if len(g.parked.by)+len(g.parked.each) != 0 {
			t.Error("some are still parked")
		}
	})
}

func TestACallThatMayParkEndsWithItsClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, wait := range map[string]time.Duration{"before it asks": 0, "as it asks": 12 * time.Millisecond} {
			ended := make(chan error, 1)
			g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
				defer func() { ended <- context.Cause(ctx) }()
				select {
				case <-time.After(10 * time.Millisecond):
				case <-ctx.Done():
					return rpc.Answer{}, ctx.Err()
				}
				_, err := elicits(ctx, call, "x")
				return rpc.Answer{}, err
			})))
			w := open(t, g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x",`+canElicit("1")+`}}`, modernHeaders("tools/call", "x")...)
			time.Sleep(wait)
			w.leave()
			began := time.Now()
			if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(began) > gatherTime {
				t.Errorf("%s: after %v ended with %v", name, time.Since(began), err)
			}
			synctest.Wait()
			if g.parked.count() != 0 {
				t.Errorf("%s: it is parked", name)
			}
			closed(t, g)
		}
	})
}

func TestACallThatHasAnAnswerIsNotParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for wait := range 3 { // 5 ms is how long questions are gathered
			asking, stop := context.WithCancel(t.Context())
			var done sync.WaitGroup
			g := newGateway(t, nil, one(handler(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
				done.Go(func() { _, _ = elicits(asking, call, "x") }) // which it does not wait for
				time.Sleep(time.Duration(wait) * gatherTime * 4 / 5)
				return text("done"), nil
			})))
			r := callParked(g, "/mcp", "x", "")
			if wait < 2 {
				if got := r.said(t); got != "done" {
					t.Errorf("got %s", r)
				}
			} else {
				in := r.inquiry(t)
				synctest.Wait()
				time.Sleep(gatherTime)
				synctest.Wait()
				// Nobody waited for its answer.
				if r := callParked(g, "/mcp", "x", in.retry()); r.status != 400 || !strings.Contains(r.body, "may have run") {
					t.Errorf("got %s", r)
				}
			}
			synctest.Wait()
			if g.parked.count() != 0 {
				t.Errorf("waiting %d: it is parked", wait)
			}
			stop()
			done.Wait()
			closed(t, g)
		}
	})
}

func TestQuestionsThatAreWithdrawnAreNotAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			soon, cancel := context.WithTimeout(ctx, gatherTime/2)
			defer cancel()
			_, err := elicits(soon, call, "never mind")
			said, _ := elicits(ctx, call, "this")
			return text(said + " " + err.Error()), nil
		})))
		in := callParked(g, "/mcp", "x", "").inquiry(t)
		if len(in.InputRequests) != 1 {
			t.Errorf("asked %v", in)
		}
		if got := callParked(g, "/mcp", "x", in.retry()).said(t); got != `{"message":"this"} context deadline exceeded` {
			t.Errorf("got %s", got)
		}
		closed(t, g)
	})
}

func TestModernClientsAreAskedWhatTheyCanAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			if _, err := elicits(ctx, call, "x"); err != nil {
				return rpc.Answer{}, err
			}
			_, err := call.Events.Ask(ctx, "sampling/createMessage", nil)
			return text(fmt.Sprint(err)), nil
		})))
		if r := callModern(g, "/mcp", "x", ""); r.code(t) != -32601 {
			t.Errorf("a client that answers nothing: %s", r)
		}
		// That it reads no events is no reason: it is not asked by one.
		r := callParked(g, "/mcp", "x", "", "Accept", "application/json")
		if got := callParked(g, "/mcp", "x", r.inquiry(t).retry(), "Accept", "application/json").said(t); !strings.Contains(got, "does not answer sampling/createMessage") {
			t.Errorf("asked for a sample: %s", got)
		}
		closed(t, g)
	})
}

func TestWhatAServerAskedForIsPassedOn(t *testing.T) {
	t.Parallel()
	for _, more := range []string{`,"inputResponses":{"user":{"a":1}}`, `,"inputResponses":{"user":12345},"requestState":"its own"`, `,"requestState":7`} {
		var got json.RawMessage
		g := newGateway(t, nil, one(handler(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
			got = call.Params
			return text(""), nil
		})))
		if r := callParked(g, "/mcp", "x", more); r.status != 200 || !strings.Contains(string(got), more) {
			t.Errorf("%s: got %s; the server was sent %s", more, r, got)
		}
	}
}

// TestNoEventComesBehindTheQuestion has a server that makes progress all the
// time.
func TestNoEventComesBehindTheQuestion(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		var busy sync.WaitGroup
		stop := make(chan struct{})
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					call.Events.Notify("notifications/progress", json.RawMessage(`{"progressToken":"t"}`))
				}
			}
		})
		said, err := elicits(ctx, call, "x")
		close(stop)
		busy.Wait()
		return text(said), err
	})))
	for range 10 {
		r := callParked(g, "/mcp", "x", "")
		list := r.frames(t)
		if i := slices.IndexFunc(list, func(f string) bool { return strings.Contains(f, "input_required") }); i != len(list)-1 {
			t.Fatalf("the question is frame %d of %d", i, len(list))
		}
		if got := callParked(g, "/mcp", "x", r.inquiry(t).retry()).said(t); got != `{"message":"x"}` {
			t.Errorf("got %s", got)
		}
	}
	closed(t, g)
}

// TestGatewaysBehindOneAnother has a call parked at the one behind.
func TestGatewaysBehindOneAnother(t *testing.T) {
	t.Parallel()
	key := make([]byte, KeySize)
	for name, options := range map[string]*Options{"keys of their own": nil, "one key, as on one machine": {Key: key}} {
		t.Run(name, func(t *testing.T) { chain(t, options) })
	}
}

func chain(t *testing.T, options *Options) {
	synctest.Test(t, func(t *testing.T) {
		behind := newGateway(t, options, one(inquirer(1)))
		front := newPlain(t, options, one(handler(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
			if call.Method == "server/discover" {
				return rpc.Result(json.RawMessage(`{"supportedVersions":["2026-07-28"],"capabilities":{}}`)), nil
			}
			if !call.MultiRound {
				t.Error("the rounds are not the client's")
			}
			r := do(behind, "POST", "/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, call.Method, call.Params),
				modernHeaders(call.Method, jsonrpc.GetString(call.Params, "name"))...)
			m, err := jsonrpc.Parse([]byte(r.answer(t).body))
			if err != nil {
				return rpc.Answer{}, err
			}
			if m.Error != nil {
				return rpc.Answer{}, m.Failure()
			}
			return rpc.Result(m.Result), nil
		})))
		in := callParked(front, "/mcp", "x", "").inquiry(t)
		if got := callParked(front, "/mcp", "x", in.retry()).said(t); got != `{"message":"x 0"}` {
			t.Errorf("the server was answered %s", got)
		}
		if r := callParked(front, "/mcp", "x", in.retry()); r.status != 400 || r.code(t) != -32602 || !strings.Contains(r.body, "make the call again") {
			t.Errorf("a second time: %s", r)
		}
		closed(t, front)
		closed(t, behind)
	})
}
