package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

const legacyCall = `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x"}}`

// openLegacy makes a call in a session.
func openLegacy(t testing.TB, g *Gateway, session []string, frame string) *wire {
	return open(t, g, "POST", "/mcp", frame, session...)
}

func TestLegacyClientsAreAskedOnTheStreamOfTheirCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, &Options{Name: "here"}, one(inquirer(2)))
		mine := initializeWith(t, g, "/mcp", `{"elicitation":{}}`)
		other := initializeWith(t, g, "/mcp", `{"elicitation":{}}`)
		w, theirs := openLegacy(t, g, mine, legacyCall), openLegacy(t, g, other, legacyCall)
		for i := range 2 {
			asked := w.message()
			if asked.Method != "elicitation/create" || !strings.HasPrefix(string(asked.ID), `"here-`) || string(asked.Params) != fmt.Sprintf(`{"message":"x %d"}`, i) {
				t.Fatalf("asked %s %s %s", asked.ID, asked.Method, asked.Params)
			}
			answer := `{"jsonrpc":"2.0","id":` + string(asked.ID) + `,"result":{"content":{"asked":"mine"}}}`
			for name, frame := range map[string]string{
				"in another session": answer,
				"with another id":    strings.Replace(answer, `"here-`, `"here-9`, 1),
				"without an id":      `{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}`,
			} {
				in := mine
				if name == "in another session" {
					in = other
				}
				if r := do(g, "POST", "/mcp", frame, in...); r.status != 202 && name != "without an id" || r.status >= 500 {
					t.Errorf("%s: got %s", name, r)
				}
			}
			// It would wait for its answer in vain.
			r := do(g, "POST", "/mcp", strings.Replace(answer, `"here-`, `"there-`, 1), mine...)
			if r.status != 400 || r.code(t) != -32600 || !strings.Contains(r.body, "is of gateway there, and this is here") {
				t.Errorf("to what another gateway has asked: got %s", r)
			}
			synctest.Wait()
			if len(w.events) > 0 {
				t.Fatal("an answer that was not meant went to the server")
			}
			for range 2 { // the second is ignored
				if r := do(g, "POST", "/mcp", answer, mine...); r.status != 202 || r.body != "" {
					t.Errorf("the answer: got %s", r)
				}
			}
		}
		w.want(`"id":5`, `"said":"mine mine"`)
		if rest := w.rest(); len(rest) != 0 || !w.whole {
			t.Errorf("behind the answer: %v", rest)
		}
		// The other client's is not answered yet, and an error is an answer.
		asked := theirs.message()
		do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":`+string(asked.ID)+`,"error":{"code":-1,"message":"will not"}}`, other...)
		theirs.want(`"id":5`, `"error"`, "will not", "-1")
		theirs.rest()
		closed(t, g)
	})
}

func TestAClientThatDoesNotAnswerIsNotWaitedForForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked error
		g := newGateway(t, nil, Server{Name: "one", CallTimeout: time.Minute, Handler: handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			time.AfterFunc(time.Second, func() { call.Events.Notify("notifications/progress", nil) })
			_, asked = elicits(ctx, call, "x")
			return text("without"), ctx.Err()
		})})
		session := initializeWith(t, g, "/mcp", `{"elicitation":{}}`)
		for _, gone := range []bool{false, true} {
			w := openLegacy(t, g, session, legacyCall)
			began := time.Now()
			question := w.message()
			if gone {
				w.leave()
			} else {
				w.want("notifications/cancelled", `{"requestId":`+string(question.ID)+`}`)
				w.want(`"said":"without"`)
			}
			w.rest()
			time.Sleep(answerLife - time.Since(began))
			synctest.Wait()
			if took := time.Since(began); asked != errForgotten || took != answerLife {
				t.Errorf("after %v the server was answered %v", took, asked)
			}
			if len(g.questions.waiting)+len(g.calls.running) != 0 {
				t.Error("the call is still there")
			}
		}
		closed(t, g)
	})
}

func TestAQuestionThatIsWithdrawnIsCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			asking, cancel := context.WithTimeoutCause(ctx, time.Second, errors.New("never mind"))
			defer cancel()
			_, err := elicits(asking, call, "x")
			return text(err.Error()), nil
		})))
		w := openLegacy(t, g, initializeWith(t, g, "/mcp", `{"elicitation":{}}`), legacyCall)
		question := w.message()
		w.want("notifications/cancelled", `{"requestId":`+string(question.ID)+`}`)
		w.want("never mind")
		w.rest()
		closed(t, g)
	})
}

func TestLegacyClientsThatCannotBeAskedAreNot(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		if has := call.Caller.Capabilities != (rpc.Capabilities{}); has != (jsonrpc.GetString(call.Params, "name") == "can") {
			t.Errorf("%s: the server was told %+v", call.Params, call.Caller.Capabilities)
		}
		_, err := elicits(ctx, call, "x")
		return rpc.Answer{}, err
	})))
	for name, test := range map[string]struct{ capabilities, tool, accept string }{
		"says nothing":         {`{}`, "cannot", "application/json, text/event-stream"},
		"says something else":  {`{"sampling":{}}`, "can", "application/json, text/event-stream"},
		"says unknown things":  {`{"extensions":{"a":{}}}`, "cannot", "application/json, text/event-stream"},
		"takes no events":      {`{"elicitation":{}}`, "cannot", "application/json"},
		"capabilities no more": {`[]`, "cannot", "application/json, text/event-stream"},
	} {
		session := initializeWith(t, g, "/mcp", test.capabilities)
		r := do(g, "POST", "/mcp", strings.Replace(legacyCall, `"x"`, `"`+test.tool+`"`, 1), append(session, "Accept", test.accept)...)
		if r.status != 200 || r.code(t) != -32601 {
			t.Errorf("a client that %s: got %s", name, r)
		}
	}
	closed(t, g)
}

func TestQuestionsToOneSessionAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(inquirer(1)))
		session := initializeWith(t, g, "/mcp", `{"elicitation":{}}`)
		var all []*wire
		for i := range maxQuestions {
			all = append(all, openLegacy(t, g, session, strings.Replace(legacyCall, "5", fmt.Sprint(100+i), 1)))
			all[i].message()
		}
		if r := do(g, "POST", "/mcp", legacyCall, session...); r.code(t) != -32603 || !strings.Contains(r.body, "wait for the client already") {
			t.Errorf("got %s", r)
		}
		for _, w := range all {
			w.rest() // until the client has not answered for too long
		}
		closed(t, g)
	})
}
