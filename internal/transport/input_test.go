package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// modernBoth runs a test on a connection to a modern server over HTTP and over
// stdio.
func modernBoth(t *testing.T, test func(t *testing.T, conn Conn)) {
	t.Run("HTTP", func(t *testing.T) { test(t, open(t, inBubble(t, &mcptest.Server{Modern: true}), Modern)) })
	t.Run("stdio", func(t *testing.T) { test(t, open(t, stdioWith(t, func(*Command) {}, mcptest.Modern), Modern)) })
}

var elicits = rpc.Caller{Capabilities: rpc.Capabilities{Elicitation: true}}

func askFor(events rpc.Events, who rpc.Caller) rpc.Call {
	call := mcptest.CallTool("ask", args{"id": "a", "method": "elicitation/create", "params": map[string]string{"message": "well?"}})
	call.Events, call.Caller = events, who
	return call
}

func TestInputIsAskedOfTheCaller(t *testing.T) {
	modernBoth(t, func(t *testing.T, conn Conn) {
		got := events{ask: func(context.Context, string) (json.RawMessage, error) {
			return json.RawMessage(`{"action":"accept","content":{"n":9007199254740993}}`), nil
		}}
		answer, err := conn.Call(t.Context(), askFor(&got, elicits), nil)
		got.returned()
		if err != nil {
			t.Fatal(err)
		}
		reply, _ := jsonrpc.Get(answer.Bytes(), "structuredContent", "reply")
		state := jsonrpc.GetString(answer.Bytes(), "structuredContent", "state")
		if string(reply) != `{"action":"accept","content":{"n":9007199254740993}}` || !strings.HasPrefix(state, "state of ") {
			t.Errorf("the server got %s and the state %q", reply, state)
		}
		if len(got.asked) != 1 || got.asked[0] != `elicitation/create {"message":"well?"}` {
			t.Errorf("asked %q", got.asked)
		}
		got.check(t)
	})
}

// A caller that cannot answer gets what the server said.
func TestInputThatNobodyIsAsked(t *testing.T) {
	modernBoth(t, func(t *testing.T, conn Conn) {
		var got events
		for _, who := range []rpc.Caller{{}, elicits} {
			listener := rpc.Events(&got)
			if who == elicits {
				listener = nil
			}
			_, err := conn.Call(t.Context(), askFor(listener, who), nil)
			wantError(t, err, rpc.CodeMissingCapability)
		}
	})
	question := `{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}},"requestState":"s"}`
	server := stream(`{"jsonrpc":"2.0","id":ID,"result":` + question + `}`)
	server.Modern = true
	answer, err := open(t, inBubble(t, server), Modern).Call(t.Context(), mcptest.CallTool("echo", args{}), nil)
	if err != nil || string(answer.Bytes()) != question {
		t.Errorf("got %s, %v", answer.Bytes(), err)
	}
}

// inputServer is a modern server that answers the rounds of a call with these
// results, the last one again and again, and keeps what it was sent.
func inputServer(sent *[]string, results ...string) *mcptest.Server {
	return &mcptest.Server{Modern: true, Fault: onMethod("tools/call", func(w http.ResponseWriter, r *http.Request) {
		params, _ := jsonrpc.Get(peek(r), "params")
		*sent = append(*sent, string(jsonrpc.Delete(params, "_meta")))
		result := results[min(len(*sent), len(results))-1]
		reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"result":`+result+`}`)(w, r)
	})}
}

func TestInputRounds(t *testing.T) {
	var sent []string
	server := inputServer(&sent,
		`{"resultType":"input_required","requestState":"one"}`,
		`{"resultType":"input_required","inputRequests":{"b":{"method":"roots/list"},"a":{"method":"elicitation/create","params":{"x":1}}}}`,
		`{"resultType":"input_required","inputRequests":{"c":{"method":"roots/list","params":{}}},"requestState":"three"}`,
		`{"resultType":"complete"}`)
	got := events{ask: func(_ context.Context, method string) (json.RawMessage, error) {
		return json.RawMessage(fmt.Sprintf(`{"to":%q}`, method)), nil
	}}
	if _, err := open(t, inBubble(t, server), Modern).Call(t.Context(), rpc.Call{
		Method: "tools/call", Params: json.RawMessage(`{"name":"n","inputResponses":{"old":{}}}`), Events: &got, Caller: able,
	}, nil); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"name":"n","inputResponses":{"old":{}}}`,
		`{"name":"n","requestState":"one"}`,
		`{"name":"n","inputResponses":{"a":{"to":"elicitation/create"},"b":{"to":"roots/list"}}}`,
		`{"name":"n","inputResponses":{"c":{"to":"roots/list"}},"requestState":"three"}`,
	}
	if strings.Join(sent, "\n") != strings.Join(want, "\n") {
		t.Errorf("sent\n%s\nwant\n%s", strings.Join(sent, "\n"), strings.Join(want, "\n"))
	}
	if strings.Join(got.asked, "; ") != `elicitation/create {"x":1}; roots/list ; roots/list {}` {
		t.Errorf("asked %q", got.asked)
	}
}

// A caller that makes the rounds itself gets each result, and is not asked.
func TestInputRoundsOfTheCaller(t *testing.T) {
	question := `{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}},"requestState":"s"}`
	answered := `{"name":"n","inputResponses":{"k":{"roots":[]}},"requestState":"s"}`
	var sent []string
	conn := open(t, inBubble(t, inputServer(&sent, question, `{"resultType":"complete"}`)), Modern)
	var got events
	round := rpc.Call{Method: "tools/call", Params: json.RawMessage(`{"name":"n"}`), Events: &got, Caller: able, MultiRound: true}
	answer, err := conn.Call(t.Context(), round, nil)
	if err != nil || string(answer.Bytes()) != question {
		t.Errorf("the first round: %s, %v", answer.Bytes(), err)
	}
	round.Params = json.RawMessage(answered)
	answer, err = conn.Call(t.Context(), round, nil)
	if err != nil || string(answer.Bytes()) != `{"resultType":"complete"}` {
		t.Errorf("the second round: %s, %v", answer.Bytes(), err)
	}
	if len(got.asked) != 0 || len(sent) != 2 || sent[1] != answered {
		t.Errorf("asked %q, sent %q", got.asked, sent)
	}
	// What it can answer is declared, whether or not somebody listens.
	modernBoth(t, func(t *testing.T, conn Conn) {
		call := askFor(nil, able)
		call.MultiRound = true
		answer, err := conn.Call(t.Context(), call, nil)
		if err != nil || jsonrpc.GetString(answer.Bytes(), "resultType") != "input_required" {
			t.Errorf("got %s, %v", answer.Bytes(), err)
		}
	})
}

func TestInputThatDoesNotCome(t *testing.T) {
	question := `{"resultType":"input_required","inputRequests":{"k":{"method":"roots/list"}}}`
	accept := func(context.Context, string) (json.RawMessage, error) { return json.RawMessage(`{}`), nil }
	for name, test := range map[string]struct {
		result string
		ask    func(context.Context, string) (json.RawMessage, error)
		want   string
	}{
		"never enough": {question, accept, "has asked for input 16 times"},
		"no question":  {`{"resultType":"input_required"}`, accept, "does not say which"},
		"unreadable":   {`{"resultType":"input_required","inputRequests":[]}`, accept, "cannot be read"},
		"no answer": {question, func(context.Context, string) (json.RawMessage, error) {
			return nil, rpc.Errorf(rpc.CodeMethodNotFound, "no roots")
		}, "there is no answer: no roots"},
		"no object": {question, func(context.Context, string) (json.RawMessage, error) {
			return json.RawMessage(`7`), nil
		}, "no object"},
	} {
		t.Run(name, func(t *testing.T) {
			var sent []string
			conn := open(t, inBubble(t, inputServer(&sent, test.result)), Modern)
			_, err := conn.Call(t.Context(), askFor(&events{ask: test.ask}, able), nil)
			fails(MayHaveRun, false, test.want)(t, err)
		})
	}
	t.Run("not declared", func(t *testing.T) {
		var sent []string
		got := events{ask: accept}
		_, err := open(t, inBubble(t, inputServer(&sent, question)), Modern).Call(t.Context(), askFor(&got, elicits), nil)
		if fails(MayHaveRun, false, "not declared")(t, err); len(got.asked) != 0 {
			t.Errorf("asked %q", got.asked)
		}
	})
	t.Run("the caller goes", func(t *testing.T) {
		var sent []string
		conn := open(t, inBubble(t, inputServer(&sent, question)), Modern)
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		got := events{ask: func(ctx context.Context, _ string) (json.RawMessage, error) {
			cancel(gone)
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		_, err := conn.Call(ctx, askFor(&got, able), nil)
		if fails(MayHaveRun, false)(t, err); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("then unreachable", func(t *testing.T) {
		var sent []string
		server := inputServer(&sent, question)
		network := &mcptest.Network{Handler: server}
		conn := open(t, newHTTP(t, "http://server.test/mcp", HTTPOptions{RoundTripper: network}), Modern)
		got := events{ask: func(context.Context, string) (json.RawMessage, error) {
			network.SetDown(true)
			return json.RawMessage(`{}`), nil
		}}
		_, err := conn.Call(t.Context(), askFor(&got, able), nil)
		fails(MayHaveRun, true)(t, err)
	})
}

// What a round before has run is not undone by a later one that is turned away.
func TestInputIsRefused(t *testing.T) {
	refuse := func(status, code int) string {
		return fmt.Sprintf(`%d {"jsonrpc":"2.0","id":ID,"error":{"code":%d,"message":"no"}}`, status, code)
	}
	for name, test := range map[string]struct {
		second string // a status, and the body
		check  func(*testing.T, error)
	}{
		"for its version": {refuse(400, rpc.CodeUnsupportedVersion), fails(MayHaveRun, true, "version")},
		"for its headers": {refuse(400, rpc.CodeHeaderMismatch), fails(MayHaveRun, false, "refused the answer")},
		"by a guard":      {"403 no", fails(MayHaveRun, false, "403")},
		"as an answer":    {refuse(200, rpc.CodeInvalidParams), answers(rpc.CodeInvalidParams)},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			server := &mcptest.Server{Modern: true, Fault: onMethod("tools/call", func(w http.ResponseWriter, r *http.Request) {
				if n++; n == 1 {
					reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"result":{"resultType":"input_required","requestState":"s"}}`)(w, r)
					return
				}
				status, body, _ := strings.Cut(test.second, " ")
				code, _ := strconv.Atoi(status)
				reply(code, jsonType, body)(w, r)
			})}
			_, err := open(t, inBubble(t, server), Modern).Call(t.Context(), askFor(&events{}, elicits), nil)
			test.check(t, err)
		})
	}
}
